//! An entry: the answers that one key holds, each under its version.
//!
//! An answer is one block: its term, its version, its value. The entry is the
//! answer written last, which leads to the one before it, and so on. Most keys
//! hold one answer: one block, one step from the key.

use super::term::Term;
use crate::block::Block;
use crate::time::Millis;
use std::iter::successors;

/// The most versions an entry can be made to hold.
pub const MAX_VERSIONS: usize = 16;

/// The longest version, in bytes.
pub const MAX_VERSION_BYTES: usize = 255;

/// The state of one key, and each of the answers in it.
pub type Entry = Block<Head>;

/// What an answer begins with.
#[derive(Debug, Default)]
pub struct Head {
    expires_at_ms: Millis,
    stale_until_ms: Millis,
    written_at_ms: Millis,
    older: Option<Entry>,
    cost_ms: u32,
    /// 0 in an entry that holds no answers: no version is empty.
    version_length: u8,
}

impl Head {
    /// Gives the answer another term.
    pub fn set_term(&mut self, term: Term) {
        self.expires_at_ms = term.expires_at_ms;
        self.stale_until_ms = term.stale_until_ms;
        self.written_at_ms = term.written_at_ms;
        self.cost_ms = term.cost_ms;
    }

    /// Has older answers follow this one, in place of those that do.
    pub fn set_older(&mut self, older: Option<Entry>) {
        self.older = older;
    }

    /// The answer before this one.
    pub fn older_mut(&mut self) -> Option<&mut Entry> {
        self.older.as_mut()
    }

    /// Gives the answer of a version, among those that follow this one, another
    /// term.
    pub fn retime_older(&mut self, version: &[u8], term: Term) {
        let mut next = self.older.as_mut();
        while let Some(answer) = next {
            if answer.version() == version {
                answer.head_mut().set_term(term);
                return;
            }
            next = answer.head_mut().older.as_mut();
        }
    }
}

impl Entry {
    /// An entry of one answer; `None` when the version is empty or too long, or
    /// when there is no memory for the value.
    pub fn of(version: &[u8], value: &[u8], term: Term) -> Option<Self> {
        let version_length = u8::try_from(version.len()).ok().filter(|length| *length > 0)?;
        let mut head = Head { version_length, ..Head::default() };
        head.set_term(term);
        Self::new(head, &[version, value])
    }

    /// An entry of answers, the one written last first; `None` when there are
    /// none or too many, or when a version comes twice.
    pub fn of_all(answers: Vec<Self>) -> Option<Self> {
        let mut versions: Vec<_> = answers.iter().map(Self::version).collect();
        versions.sort_unstable();
        let distinct = versions.is_sorted_by(|one, next| one != next);
        let sound = distinct && answers.len() <= MAX_VERSIONS;
        sound.then(|| chain(answers)).flatten()
    }

    /// A copy; `None` when there is no memory for it.
    pub fn duplicate(&self) -> Option<Self> {
        if self.is_empty() {
            return Some(Self::default());
        }
        let one = |answer: &Self| Self::of(answer.version(), answer.value(), answer.term());
        chain(self.answers().map(one).collect::<Option<_>>()?)
    }

    /// The version that the answer was written under.
    pub fn version(&self) -> &[u8] {
        self.parts().0
    }

    /// The bytes of the answer.
    pub fn value(&self) -> &[u8] {
        self.parts().1
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        self.bytes().split_at_checked(self.head().version_length.into()).unwrap_or_default()
    }

    /// How long the answer holds.
    pub fn term(&self) -> Term {
        let Head { expires_at_ms, stale_until_ms, written_at_ms, cost_ms, .. } = *self.head();
        Term { expires_at_ms, stale_until_ms, written_at_ms, cost_ms }
    }

    /// Whether it holds no answers.
    pub fn is_empty(&self) -> bool {
        self.head().version_length == 0
    }

    /// The answers, the one written last first.
    pub fn answers(&self) -> impl Iterator<Item = &Self> + Clone {
        let first = (!self.is_empty()).then_some(self);
        successors(first, |answer| answer.head().older.as_ref())
    }

    /// The answer of a version, fresh or not.
    pub fn answer(&self, version: &[u8]) -> Option<&Self> {
        self.answers().find(|answer| answer.version() == version)
    }

    /// The answer of a version, unless it has expired.
    pub fn get(&self, version: &[u8], now_ms: Millis) -> Option<&Self> {
        self.answer(version).filter(|answer| now_ms < answer.head().expires_at_ms)
    }

    /// When the last of the answers can be served no more.
    pub fn expires_at_ms(&self) -> Millis {
        self.answers().map(|answer| answer.head().stale_until_ms).max().unwrap_or(0)
    }

    /// The versions that must go before an answer of `version` is put in: what
    /// can be served no more, and what was written longest ago while there are
    /// more than `keep` with the new one.
    pub fn outlived(&self, version: &[u8], keep: usize, now_ms: Millis) -> Vec<Box<[u8]>> {
        let others = self.answers().filter(|answer| answer.version() != version);
        let (alive, dead): (Vec<_>, Vec<_>) =
            others.partition(|answer| answer.term().is_alive(now_ms));
        let pushed_out = alive.into_iter().skip(keep.saturating_sub(1));
        pushed_out.chain(dead).map(|answer| answer.version().into()).collect()
    }

    /// The answers without these versions; `None` when none is left.
    pub fn without(self, versions: &[&[u8]]) -> Option<Self> {
        let mut kept = Vec::new();
        let mut next = Some(self).filter(|first| !first.is_empty());
        while let Some(mut answer) = next {
            next = answer.head_mut().older.take();
            if !versions.contains(&answer.version()) {
                kept.push(answer);
            }
        }
        chain(kept)
    }
}

/// One answer that leads to the next, and so on.
fn chain(answers: Vec<Entry>) -> Option<Entry> {
    answers.into_iter().rev().fold(None, |older, mut answer| {
        answer.head_mut().older = older;
        Some(answer)
    })
}

/// Holds no answers.
impl Default for Entry {
    fn default() -> Self {
        Self::bare(Head::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn until(expires_at_ms: Millis) -> Term {
        Term { expires_at_ms, stale_until_ms: expires_at_ms, ..Term::default() }
    }

    /// Puts an answer in, as a write does.
    fn put(entry: &mut Entry, version: &[u8], value: &[u8], term: Term, now: Millis) {
        let outlived = entry.outlived(version, 2, now);
        let mut gone: Vec<_> = outlived.iter().map(AsRef::as_ref).collect();
        gone.push(version);
        let old = std::mem::replace(entry, Entry::of(version, value, term).unwrap());
        entry.head_mut().set_older(old.without(&gone));
    }

    fn value<'e>(entry: &'e Entry, version: &[u8], now: Millis) -> Option<&'e [u8]> {
        entry.get(version, now).map(Entry::value)
    }

    #[test]
    fn a_version_is_1_to_255_bytes() {
        assert!(Entry::of(b"", b"x", Term::default()).is_none());
        assert!(Entry::of(&[b'v'; 255], b"x", Term::default()).is_some());
        assert!(Entry::of(&[b'v'; 256], b"x", Term::default()).is_none());
    }

    #[test]
    fn what_is_known_of_an_answer_takes_40_bytes() {
        assert_eq!(size_of::<Head>(), 40);
    }

    #[test]
    fn a_further_version_pushes_out_the_one_written_longest_ago() {
        let mut entry = Entry::default();
        put(&mut entry, b"v1", b"a", until(100), 0);
        put(&mut entry, b"v2", b"b", until(100), 1);
        put(&mut entry, b"v1", b"c", until(100), 2);
        put(&mut entry, b"v3", b"d", until(100), 3);
        assert_eq!(value(&entry, b"v1", 4), Some(b"c".as_slice()));
        assert_eq!(value(&entry, b"v2", 4), None);
        assert_eq!(value(&entry, b"v3", 4), Some(b"d".as_slice()));
    }

    #[test]
    fn a_version_past_its_time_goes_before_a_fresh_one() {
        let mut entry = Entry::default();
        put(&mut entry, b"old", b"a", until(100), 0);
        put(&mut entry, b"brief", b"b", until(10), 1);
        put(&mut entry, b"new", b"c", until(100), 10);
        assert_eq!(value(&entry, b"old", 10), Some(b"a".as_slice()));
        assert_eq!(entry.answers().count(), 2);
    }

    #[test]
    fn an_answer_is_fresh_until_it_expires_and_alive_until_it_is_too_stale() {
        let entry = Entry::of(b"v", b"", Term { stale_until_ms: 150, ..until(100) }).unwrap();
        assert_eq!(value(&entry, b"v", 99), Some(b"".as_slice()));
        assert_eq!(value(&entry, b"v", 100), None);
        assert_eq!(entry.expires_at_ms(), 150);
        assert!(entry.outlived(b"w", 2, 149).is_empty());
        assert_eq!(entry.outlived(b"w", 2, 150).len(), 1);
    }

    #[test]
    fn versions_are_removed_copied_and_given_other_terms() {
        let versions = [b"c", b"b", b"a"];
        let answers = versions.map(|version| Entry::of(version, b"x", until(100)).unwrap());
        let mut entry = Entry::of_all(answers.into()).unwrap();
        entry.head_mut().retime_older(b"a", until(7));
        entry.head_mut().retime_older(b"z", until(7));
        let copy = entry.duplicate().unwrap();
        assert_eq!(copy.answer(b"a").unwrap().term(), until(7));
        let left = entry.without(&[b"c", b"z"]).unwrap();
        assert_eq!(left.answers().map(Entry::version).collect::<Vec<_>>(), [b"b", b"a"]);
        assert!(left.without(&[b"a", b"b"]).is_none());
        assert_eq!(copy.answers().count(), 3);
        let empty = Entry::default().duplicate().unwrap();
        assert!(empty.is_empty() && empty.answers().next().is_none());
        assert!(empty.without(&[]).is_none());
    }

    #[test]
    fn an_entry_is_of_different_versions_and_not_of_more_than_it_may() {
        let all = |count: u8| (0..count).map(|one| Entry::of(&[one], b"x", until(9)).unwrap());
        assert!(Entry::of_all(all(MAX_VERSIONS as u8).collect()).is_some());
        assert!(Entry::of_all(all(MAX_VERSIONS as u8 + 1).collect()).is_none());
        assert!(Entry::of_all(all(1).chain(all(1)).collect()).is_none());
        assert!(Entry::of_all(Vec::new()).is_none());
    }

    proptest! {
        /// The oracle: a list of every write, the last ones of the last two
        /// versions that were alive when something was written.
        #[test]
        fn never_answers_what_another_version_wrote(
            writes in prop::collection::vec(
                (0u8..5, any::<u8>(), 1u64..50, 0u64..20, 0u64..20), 1..60),
        ) {
            let mut entry = Entry::default();
            let mut oracle: Vec<(u8, u8, Term)> = Vec::new();
            let mut now = 1_000;
            for (version, value, ttl, stale, step) in writes {
                now += step;
                let term = Term { stale_until_ms: now + ttl + stale, ..until(now + ttl) };
                put(&mut entry, &[version], &[value], term, now);
                oracle.retain(|(held, _, term)| *held != version && term.stale_until_ms > now);
                oracle.insert(0, (version, value, term));
                oracle.truncate(2);
                for at in [now, now + 5] {
                    for version in 0..5 {
                        let expected = oracle
                            .iter()
                            .find(|(held, _, term)| *held == version && term.expires_at_ms > at)
                            .map(|(_, value, _)| vec![*value]);
                        let found = entry.get(&[version], at).map(|answer| answer.value().to_vec());
                        prop_assert_eq!(found, expected);
                    }
                }
            }
        }
    }
}
