//! An answer: what one version of the model said.

use crate::time::Millis;

/// The longest version, in bytes.
pub const MAX_VERSION_BYTES: usize = 255;

/// When an answer was written, what it cost, and how long it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Term {
    /// When it stops being true. Kept here as well as on the key, so that
    /// PERSIST, RENAME or RESTORE cannot bring an expired answer back.
    pub expires_at_ms: Millis,
    /// Until when it may be served in place of an answer that is yet to come:
    /// never before `expires_at_ms`.
    pub stale_until_ms: Millis,
    /// When it was written.
    pub written_at_ms: Millis,
    /// What it took to compute, from the lease to the set; 0 where nobody held
    /// a lease for it.
    pub cost_ms: u32,
}

impl Term {
    /// Whether it is true.
    pub fn is_fresh(&self, now_ms: Millis) -> bool {
        now_ms < self.expires_at_ms
    }

    /// Whether it may be served at all, true or stale.
    pub fn is_alive(&self, now_ms: Millis) -> bool {
        now_ms < self.stale_until_ms
    }

    /// The term of an answer made stale now: how long it may be served stale
    /// counts from now.
    pub fn made_stale(&self, now_ms: Millis) -> Self {
        let stale_ms = self.stale_until_ms.saturating_sub(self.expires_at_ms);
        Self { expires_at_ms: now_ms, stale_until_ms: now_ms.saturating_add(stale_ms), ..*self }
    }
}

/// An answer. Version and value share one block, the version first. Its term
/// stands here part by part, which is a word shorter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    expires_at_ms: Millis,
    stale_until_ms: Millis,
    written_at_ms: Millis,
    cost_ms: u32,
    version_length: u8,
    block: Box<[u8]>,
}

impl Answer {
    /// An answer; `None` when the version is empty or too long, or when there
    /// is no memory for the value.
    pub fn new(version: &[u8], value: &[u8], term: Term) -> Option<Self> {
        let version_length = u8::try_from(version.len()).ok().filter(|length| *length > 0)?;
        let mut block = Vec::new();
        block.try_reserve_exact(version.len().checked_add(value.len())?).ok()?;
        block.extend_from_slice(version);
        block.extend_from_slice(value);
        let Term { expires_at_ms, stale_until_ms, written_at_ms, cost_ms } = term;
        let block = block.into_boxed_slice();
        Some(Self { expires_at_ms, stale_until_ms, written_at_ms, cost_ms, version_length, block })
    }

    /// How long it holds.
    pub fn term(&self) -> Term {
        let Self { expires_at_ms, stale_until_ms, written_at_ms, cost_ms, .. } = *self;
        Term { expires_at_ms, stale_until_ms, written_at_ms, cost_ms }
    }

    /// Gives it another term.
    pub fn set_term(&mut self, term: Term) {
        let Term { expires_at_ms, stale_until_ms, written_at_ms, cost_ms } = term;
        let (version_length, block) = (self.version_length, std::mem::take(&mut self.block));
        *self =
            Self { expires_at_ms, stale_until_ms, written_at_ms, cost_ms, version_length, block };
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_1_to_255_bytes() {
        assert!(Answer::new(b"", b"x", Term::default()).is_none());
        assert!(Answer::new(&[b'v'; 255], b"x", Term::default()).is_some());
        assert!(Answer::new(&[b'v'; 256], b"x", Term::default()).is_none());
    }

    #[test]
    fn made_stale_it_is_served_as_long_as_it_would_have_been_after_its_time() {
        let term = Term { expires_at_ms: 100, stale_until_ms: 130, ..Term::default() };
        let stale = term.made_stale(40);
        assert!(!stale.is_fresh(40) && stale.is_alive(69) && !stale.is_alive(70));
        let term = Term { expires_at_ms: 100, stale_until_ms: 100, ..Term::default() };
        assert!(!term.made_stale(40).is_alive(40));
    }
}
