//! An entry: the answers that one key holds, each under its version.

use crate::time::Millis;

/// The most versions an entry can be made to hold.
pub const MAX_VERSIONS: usize = 16;

/// The longest version, in bytes.
pub const MAX_VERSION_BYTES: usize = 255;

/// An answer: what one version of the model said.
///
/// Version and value share one block, the version first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When it stops being true. Kept here as well as on the key, so that
    /// PERSIST, RENAME or RESTORE cannot bring an expired answer back.
    pub expires_at_ms: Millis,
    version_length: u8,
    block: Box<[u8]>,
}

impl Answer {
    /// An answer; `None` when the version is empty or too long, or when there
    /// is no memory for the value.
    pub fn new(version: &[u8], value: &[u8], expires_at_ms: Millis) -> Option<Self> {
        let version_length = u8::try_from(version.len()).ok().filter(|length| *length > 0)?;
        let mut block = Vec::new();
        block.try_reserve_exact(version.len().checked_add(value.len())?).ok()?;
        block.extend_from_slice(version);
        block.extend_from_slice(value);
        Some(Self { expires_at_ms, version_length, block: block.into_boxed_slice() })
    }

    /// The version it was written under.
    pub fn version(&self) -> &[u8] {
        self.parts().0
    }

    /// The bytes of the answer.
    pub fn value(&self) -> &[u8] {
        self.parts().1
    }

    /// The block that holds both.
    #[allow(clippy::borrowed_box)] // For its size on the heap.
    pub fn block(&self) -> &Box<[u8]> {
        &self.block
    }

    fn parts(&self) -> (&[u8], &[u8]) {
        self.block.split_at_checked(usize::from(self.version_length)).unwrap_or_default()
    }

    fn is_fresh(&self, now_ms: Millis) -> bool {
        now_ms < self.expires_at_ms
    }
}

/// The state of one key. The default holds no answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The answers, the one written last first; each version once.
    answers: Vec<Answer>,
}

impl Entry {
    /// An entry of these answers, the one written last first; `None` when a
    /// version comes twice.
    pub fn of(answers: Vec<Answer>) -> Option<Self> {
        let mut versions: Vec<_> = answers.iter().map(Answer::version).collect();
        versions.sort_unstable();
        let distinct = versions.is_sorted_by(|one, next| one != next);
        distinct.then_some(Self { answers })
    }

    /// The answer of a version, unless it has expired.
    pub fn get(&self, version: &[u8], now_ms: Millis) -> Option<&[u8]> {
        let answer = self.answers.iter().find(|answer| answer.version() == version)?;
        answer.is_fresh(now_ms).then(|| answer.value())
    }

    /// The answers, the one written last first.
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    /// The versions that must go before an answer of `version` is put in: what
    /// has expired, and what was written longest ago while there are more than
    /// `keep` with the new one.
    pub fn outlived(&self, version: &[u8], keep: usize, now_ms: Millis) -> Vec<Box<[u8]>> {
        let others = self.answers.iter().filter(|answer| answer.version() != version);
        let (fresh, expired): (Vec<_>, Vec<_>) = others.partition(|answer| answer.is_fresh(now_ms));
        let pushed_out = fresh.into_iter().skip(keep.saturating_sub(1));
        pushed_out.chain(expired).map(|answer| answer.version().into()).collect()
    }

    /// Removes the versions in `drop`, then puts an answer in, in place of its
    /// version's last one. `None`, and nothing done, when [`MAX_VERSIONS`]
    /// others stay.
    pub fn put(&mut self, answer: Answer, drop: &[&[u8]]) -> Option<()> {
        let stays =
            |held: &Answer| held.version() != answer.version() && !drop.contains(&held.version());
        if self.answers.iter().filter(|held| stays(held)).count() >= MAX_VERSIONS {
            return None;
        }
        self.answers.retain(stays);
        // Most entries hold one answer: room for no more than there are.
        self.answers.reserve_exact(1);
        self.answers.insert(0, answer);
        Some(())
    }

    /// When the last of the answers expires.
    pub fn expires_at_ms(&self) -> Millis {
        self.answers.iter().map(|answer| answer.expires_at_ms).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(entry: &mut Entry, version: &[u8], value: &[u8], expires: Millis, now: Millis) {
        let drop = entry.outlived(version, 2, now);
        let drop: Vec<_> = drop.iter().map(AsRef::as_ref).collect();
        entry.put(Answer::new(version, value, expires).unwrap(), &drop).unwrap();
    }

    #[test]
    fn a_further_version_pushes_out_the_one_written_longest_ago() {
        let mut entry = Entry::default();
        put(&mut entry, b"v1", b"a", 100, 0);
        put(&mut entry, b"v2", b"b", 100, 1);
        put(&mut entry, b"v1", b"c", 100, 2);
        put(&mut entry, b"v3", b"d", 100, 3);
        assert_eq!(entry.get(b"v1", 4), Some(b"c".as_slice()));
        assert_eq!(entry.get(b"v2", 4), None);
        assert_eq!(entry.get(b"v3", 4), Some(b"d".as_slice()));
    }

    #[test]
    fn an_expired_version_goes_before_a_fresh_one() {
        let mut entry = Entry::default();
        put(&mut entry, b"old", b"a", 100, 0);
        put(&mut entry, b"brief", b"b", 10, 1);
        put(&mut entry, b"new", b"c", 100, 10);
        assert_eq!(entry.get(b"old", 10), Some(b"a".as_slice()));
        assert_eq!(entry.answers().len(), 2);
    }

    #[test]
    fn an_answer_is_fresh_until_it_expires() {
        let mut entry = Entry::default();
        put(&mut entry, b"v", b"", 100, 0);
        assert_eq!(entry.get(b"v", 99), Some(b"".as_slice()));
        assert_eq!(entry.get(b"v", 100), None);
        assert_eq!(entry.expires_at_ms(), 100);
    }

    #[test]
    fn a_version_is_1_to_255_bytes() {
        assert!(Answer::new(b"", b"x", 0).is_none());
        assert!(Answer::new(&[b'v'; 255], b"x", 0).is_some());
        assert!(Answer::new(&[b'v'; 256], b"x", 0).is_none());
    }

    #[test]
    fn an_entry_is_never_made_to_hold_more_than_it_may() {
        let mut entry = Entry::default();
        for version in 0..MAX_VERSIONS as u8 {
            entry.put(Answer::new(&[version], b"x", 9).unwrap(), &[]).unwrap();
        }
        assert!(entry.put(Answer::new(b"more", b"x", 9).unwrap(), &[]).is_none());
        assert!(entry.put(Answer::new(&[3], b"y", 9).unwrap(), &[]).is_some());
        assert!(entry.put(Answer::new(b"more", b"x", 9).unwrap(), &[&[0]]).is_some());
        assert_eq!(entry.answers().len(), MAX_VERSIONS);
    }

    proptest! {
        /// The oracle: a list of every write, the last ones of the last two
        /// versions that were fresh when something was written.
        #[test]
        fn never_answers_what_another_version_wrote(
            writes in prop::collection::vec((0u8..5, any::<u8>(), 1u64..50, 0u64..20), 1..60),
        ) {
            let mut entry = Entry::default();
            let mut oracle: Vec<(u8, u8, Millis)> = Vec::new();
            let mut now = 1_000;
            for (version, value, ttl, step) in writes {
                now += step;
                put(&mut entry, &[version], &[value], now + ttl, now);
                oracle.retain(|(held, _, expires)| *held != version && *expires > now);
                oracle.insert(0, (version, value, now + ttl));
                oracle.truncate(2);
                for at in [now, now + 5] {
                    for version in 0..5 {
                        let expected = oracle
                            .iter()
                            .find(|(held, _, expires)| *held == version && *expires > at)
                            .map(|(_, value, _)| vec![*value]);
                        prop_assert_eq!(entry.get(&[version], at).map(<[u8]>::to_vec), expected);
                    }
                }
            }
        }
    }
}
