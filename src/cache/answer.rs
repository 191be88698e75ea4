//! An answer of a model, under the version that gave it.
//!
//! An answer is one block: its lifetime, its version, its value. A key holds the
//! answer written last, which leads to the one before it, and so on. Most keys
//! hold one answer: one block, one step from the key.

use crate::block::Block;
use crate::bug;
use crate::lifetime::Lifetime;
use crate::time::Millis;
use std::iter::successors;

/// The most versions a key can be made to hold.
pub const MAX_VERSIONS: usize = 16;

/// The longest version, in bytes.
pub const MAX_VERSION_BYTES: usize = 255;

/// An answer, and those before it in its key.
pub type Answer = Block<Head>;

/// What an answer begins with.
#[derive(Debug, Default)]
pub struct Head {
    expires_at_ms: Millis,
    stale_until_ms: Millis,
    written_at_ms: Millis,
    older: Option<Answer>,
    cost_ms: u32,
    /// 0 where there is no answer, for a key that holds none: no version is empty.
    version_length: u8,
}

impl Head {
    /// Gives the answer another lifetime.
    pub fn set_lifetime(&mut self, lifetime: Lifetime) {
        self.expires_at_ms = lifetime.expires_at_ms;
        self.stale_until_ms = lifetime.stale_until_ms;
        self.written_at_ms = lifetime.written_at_ms;
        self.cost_ms = lifetime.cost_ms;
    }

    /// Writes another answer over this one, if that is of the same version and as long, and
    /// no older answers follow; whether it is. `bytes` are those of its block.
    pub fn overwrite(
        &mut self,
        bytes: &mut [u8],
        (version, value): (&[u8], &[u8]),
        lifetime: Lifetime,
    ) -> bool {
        let own = bytes.split_at_mut_checked(self.version_length.into());
        let (own_version, own) = own.unwrap_or_else(|| shorter_than_its_version());
        if self.older.is_some() || own_version != version || own.len() != value.len() {
            return false;
        }
        self.set_lifetime(lifetime);
        own.copy_from_slice(value);
        true
    }

    /// Has older answers follow this one, in place of those that do.
    pub fn set_older(&mut self, older: Option<Answer>) {
        self.older = older;
    }

    /// The answer before this one.
    pub fn older_mut(&mut self) -> Option<&mut Answer> {
        self.older.as_mut()
    }
}

impl Answer {
    /// One answer; `None` when the version is empty or too long, or
    /// when there is no memory for the value.
    pub fn of(version: &[u8], value: &[u8], lifetime: Lifetime) -> Option<Self> {
        let version_length = u8::try_from(version.len()).ok().filter(|length| *length > 0)?;
        let mut head = Head { version_length, ..Head::default() };
        head.set_lifetime(lifetime);
        Self::new(head, &[version, value])
    }

    /// The answers of a key, the one written last first; `None` when there are
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
        let one = |answer: &Self| Self::of(answer.version(), answer.value(), answer.lifetime());
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
        let parts = self.bytes().split_at_checked(self.head().version_length.into());
        parts.unwrap_or_else(|| shorter_than_its_version())
    }

    /// How long the answer holds.
    pub fn lifetime(&self) -> Lifetime {
        let Head { expires_at_ms, stale_until_ms, written_at_ms, cost_ms, .. } = *self.head();
        Lifetime { expires_at_ms, stale_until_ms, written_at_ms, cost_ms }
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

    /// Gives the answer of a version another lifetime, if it is there.
    pub fn retime(&mut self, version: &[u8], lifetime: Lifetime) {
        let mut next = Some(self).filter(|first| !first.is_empty());
        while let Some(answer) = next {
            if answer.version() == version {
                answer.head_mut().set_lifetime(lifetime);
                return;
            }
            next = answer.head_mut().older.as_mut();
        }
    }

    /// The answers without those of some versions; `None` when none is left.
    pub fn without(self, goes: impl Fn(&[u8]) -> bool) -> Option<Self> {
        let mut kept = Vec::new();
        let mut next = Some(self).filter(|first| !first.is_empty());
        while let Some(mut answer) = next {
            next = answer.head_mut().older.take();
            if !goes(answer.version()) {
                kept.push(answer);
            }
        }
        chain(kept)
    }
}

/// One answer that leads to the next, and so on.
fn chain(answers: Vec<Answer>) -> Option<Answer> {
    answers.into_iter().rev().fold(None, |older, mut answer| {
        answer.head_mut().older = older;
        Some(answer)
    })
}

#[cold]
fn shorter_than_its_version() -> ! {
    bug("an answer is shorter than its version")
}

/// Holds no answers.
impl Default for Answer {
    fn default() -> Self {
        Self::bare(Head::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn until(expires_at_ms: Millis) -> Lifetime {
        Lifetime { expires_at_ms, stale_until_ms: expires_at_ms, ..Lifetime::default() }
    }

    fn versions(answers: &Answer) -> Vec<&[u8]> {
        answers.answers().map(Answer::version).collect()
    }

    #[test]
    fn a_version_is_1_to_255_bytes() {
        assert!(Answer::of(b"", b"x", Lifetime::default()).is_none());
        assert!(Answer::of(&[b'v'; 255], b"x", Lifetime::default()).is_some());
        assert!(Answer::of(&[b'v'; 256], b"x", Lifetime::default()).is_none());
    }

    #[test]
    fn what_is_known_of_an_answer_takes_40_bytes() {
        assert_eq!(size_of::<Head>(), 40);
    }

    #[test]
    fn an_answer_is_fresh_until_it_expires() {
        let lifetime = Lifetime { stale_until_ms: 150, ..until(100) };
        let answer = Answer::of(b"v", b"", lifetime).unwrap();
        assert_eq!(answer.get(b"v", 99).map(Answer::value), Some(b"".as_slice()));
        assert!(answer.get(b"v", 100).is_none());
        assert_eq!(answer.expires_at_ms(), 150);
    }

    #[test]
    fn versions_are_removed_copied_and_given_other_lifetimes() {
        let all = [b"c", b"b", b"a"];
        let answers = all.map(|version| Answer::of(version, b"x", until(100)).unwrap());
        let mut all = Answer::of_all(answers.into()).unwrap();
        all.retime(b"a", until(7));
        all.retime(b"c", until(8));
        all.retime(b"z", until(9));
        let copy = all.duplicate().unwrap();
        assert_eq!(copy.answer(b"a").unwrap().lifetime(), until(7));
        assert_eq!(copy.answer(b"c").unwrap().lifetime(), until(8));
        let left = all.without(|version| version == b"c" || version == b"z").unwrap();
        assert_eq!(versions(&left), [b"b", b"a"]);
        assert!(left.without(|_| true).is_none());
        assert_eq!(copy.answers().count(), 3);
        let empty = Answer::default().duplicate().unwrap();
        assert!(empty.is_empty() && empty.answers().next().is_none());
        assert!(empty.without(|_| false).is_none());
    }

    #[test]
    fn a_key_holds_different_versions_and_not_more_than_it_may() {
        let all = |count: u8| (0..count).map(|one| Answer::of(&[one], b"x", until(9)).unwrap());
        assert!(Answer::of_all(all(MAX_VERSIONS as u8).collect()).is_some());
        assert!(Answer::of_all(all(MAX_VERSIONS as u8 + 1).collect()).is_none());
        assert!(Answer::of_all(all(1).chain(all(1)).collect()).is_none());
        assert!(Answer::of_all(Vec::new()).is_none());
    }
}
