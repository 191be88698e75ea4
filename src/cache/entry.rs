//! An entry: the answers that one key holds, each under its version.

use super::answer::{Answer, Term};
use crate::time::Millis;

/// The most versions an entry can be made to hold.
pub const MAX_VERSIONS: usize = 16;

/// The state of one key. The default holds no answers.
///
/// Most entries hold one answer: that one stands here, the others in a block of
/// their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The answer written last.
    newest: Option<Answer>,
    /// The others, the one written last first; each version once.
    others: Box<[Answer]>,
}

impl Entry {
    /// An entry of these answers, the one written last first; `None` when a
    /// version comes twice, or when there are too many.
    pub fn of(answers: Vec<Answer>) -> Option<Self> {
        let mut versions: Vec<_> = answers.iter().map(Answer::version).collect();
        versions.sort_unstable();
        let distinct = versions.is_sorted_by(|one, next| one != next);
        (distinct && answers.len() <= MAX_VERSIONS).then(|| Self::from(answers))
    }

    fn from(answers: Vec<Answer>) -> Self {
        let mut answers = answers.into_iter();
        Self { newest: answers.next(), others: answers.collect() }
    }

    /// The answers, the one written last first.
    pub fn answers(&self) -> impl Iterator<Item = &Answer> {
        self.newest.iter().chain(&self.others)
    }

    /// The block of the answers beyond the newest.
    #[allow(clippy::borrowed_box)] // For its size on the heap.
    pub fn others(&self) -> &Box<[Answer]> {
        &self.others
    }

    /// The answer of a version, fresh or not.
    pub fn answer(&self, version: &[u8]) -> Option<&Answer> {
        self.answers().find(|answer| answer.version() == version)
    }

    /// The answer of a version, unless it has expired.
    pub fn get(&self, version: &[u8], now_ms: Millis) -> Option<&Answer> {
        self.answer(version).filter(|answer| answer.term().is_fresh(now_ms))
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

    /// Removes the versions in `drop`, then puts an answer in, in place of its
    /// version's last one. `None`, and nothing done, when [`MAX_VERSIONS`]
    /// others stay.
    pub fn put(&mut self, answer: Answer, drop: &[&[u8]]) -> Option<()> {
        let stays =
            |held: &Answer| held.version() != answer.version() && !drop.contains(&held.version());
        match self.answers().filter(|held| stays(held)).count() {
            MAX_VERSIONS.. => return None,
            // The common case: the one answer of a key takes its last one's place.
            0 => *self = Self { newest: Some(answer), others: Box::default() },
            _ => {
                let others = self.take().into_iter().filter(stays).collect();
                *self = Self { newest: Some(answer), others };
            }
        }
        Some(())
    }

    /// Removes the versions in `drop`.
    pub fn remove(&mut self, drop: &[&[u8]]) {
        let mut answers = self.take();
        answers.retain(|answer| !drop.contains(&answer.version()));
        *self = Self::from(answers);
    }

    /// Gives the answer of a version another term; `None` if it holds none.
    pub fn set_term(&mut self, version: &[u8], term: Term) -> Option<()> {
        let mut answers = self.newest.iter_mut().chain(&mut self.others);
        answers.find(|answer| answer.version() == version)?.set_term(term);
        Some(())
    }

    fn take(&mut self) -> Vec<Answer> {
        let Self { newest, others } = std::mem::take(self);
        newest.into_iter().chain(others).collect()
    }

    /// Whether it holds no answers.
    pub fn is_empty(&self) -> bool {
        self.newest.is_none()
    }

    /// When the last of the answers can be served no more.
    pub fn expires_at_ms(&self) -> Millis {
        self.answers().map(|answer| answer.term().stale_until_ms).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn until(expires_at_ms: Millis) -> Term {
        Term { expires_at_ms, stale_until_ms: expires_at_ms, ..Term::default() }
    }

    fn put(entry: &mut Entry, version: &[u8], value: &[u8], term: Term, now: Millis) {
        let drop = entry.outlived(version, 2, now);
        let drop: Vec<_> = drop.iter().map(AsRef::as_ref).collect();
        entry.put(Answer::new(version, value, term).unwrap(), &drop).unwrap();
    }

    fn value<'e>(entry: &'e Entry, version: &[u8], now: Millis) -> Option<&'e [u8]> {
        entry.get(version, now).map(Answer::value)
    }

    #[test]
    fn an_entry_is_a_block_of_64_bytes() {
        assert_eq!(size_of::<Entry>(), 64);
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
        let mut entry = Entry::default();
        put(&mut entry, b"v", b"", Term { stale_until_ms: 150, ..until(100) }, 0);
        assert_eq!(value(&entry, b"v", 99), Some(b"".as_slice()));
        assert_eq!(value(&entry, b"v", 100), None);
        assert_eq!(entry.expires_at_ms(), 150);
        assert!(entry.outlived(b"w", 2, 149).is_empty());
        assert_eq!(entry.outlived(b"w", 2, 150).len(), 1);
    }

    #[test]
    fn versions_are_removed_and_given_other_terms() {
        let mut entry = Entry::default();
        for version in [b"a", b"b", b"c"] {
            entry.put(Answer::new(version, b"x", until(100)).unwrap(), &[]).unwrap();
        }
        assert_eq!(entry.set_term(b"a", until(7)), Some(()));
        assert_eq!(entry.set_term(b"z", until(7)), None);
        assert_eq!(entry.answer(b"a").unwrap().term(), until(7));
        entry.remove(&[b"c", b"z"]);
        let versions: Vec<_> = entry.answers().map(Answer::version).collect();
        assert_eq!(versions, [b"b", b"a"]);
        entry.remove(&[b"a", b"b"]);
        assert!(entry.is_empty());
        assert_eq!(entry, Entry::default());
    }

    #[test]
    fn an_entry_is_never_made_to_hold_more_than_it_may() {
        let mut entry = Entry::default();
        for version in 0..MAX_VERSIONS as u8 {
            entry.put(Answer::new(&[version], b"x", until(9)).unwrap(), &[]).unwrap();
        }
        assert!(entry.put(Answer::new(b"more", b"x", until(9)).unwrap(), &[]).is_none());
        assert!(entry.put(Answer::new(&[3], b"y", until(9)).unwrap(), &[]).is_some());
        assert!(entry.put(Answer::new(b"more", b"x", until(9)).unwrap(), &[&[0]]).is_some());
        assert_eq!(entry.answers().count(), MAX_VERSIONS);
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
