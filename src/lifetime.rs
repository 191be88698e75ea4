//! How long an answer holds.

use crate::time::Millis;
use crate::wire::Reader;

/// The latest moment that there is: what the server can count.
pub const MAX_TIME_MS: Millis = i64::MAX as u64;

/// When an answer was written, what it cost, and how long it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetime {
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

impl Lifetime {
    /// Whether it is true.
    pub fn is_fresh(&self, now_ms: Millis) -> bool {
        now_ms < self.expires_at_ms
    }

    /// Whether it may be served at all, true or stale.
    pub fn is_alive(&self, now_ms: Millis) -> bool {
        now_ms < self.stale_until_ms
    }

    /// The lifetime of an answer made stale now: how long it may be served stale
    /// counts from now.
    pub fn made_stale(&self, now_ms: Millis) -> Self {
        let stale_ms = self.stale_until_ms.saturating_sub(self.expires_at_ms);
        Self { expires_at_ms: now_ms, stale_until_ms: now_ms.saturating_add(stale_ms), ..*self }
    }

    /// Appends the payload: expires_at_ms u64 · stale_until_ms u64 · written_at_ms u64 ·
    /// cost_ms u64.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let Self { expires_at_ms, stale_until_ms, written_at_ms, cost_ms } = *self;
        for number in [expires_at_ms, stale_until_ms, written_at_ms, cost_ms.into()] {
            out.extend(number.to_le_bytes());
        }
    }

    /// Reads a payload; `None` unless it is of a lifetime that can be.
    pub fn decode(reader: &mut Reader) -> Option<Self> {
        let mut moment = || reader.u64().filter(|at| *at <= MAX_TIME_MS);
        let (expires_at_ms, stale_until_ms, written_at_ms) = (moment()?, moment()?, moment()?);
        let cost_ms = u32::try_from(reader.u64()?).ok()?;
        let sound = expires_at_ms <= stale_until_ms;
        sound.then_some(Self { expires_at_ms, stale_until_ms, written_at_ms, cost_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_stale_it_is_served_as_long_as_it_would_have_been_after_its_time() {
        let lifetime = Lifetime { expires_at_ms: 100, stale_until_ms: 130, ..Lifetime::default() };
        let stale = lifetime.made_stale(40);
        assert!(!stale.is_fresh(40) && stale.is_alive(69) && !stale.is_alive(70));
        let lifetime = Lifetime { expires_at_ms: 100, stale_until_ms: 100, ..Lifetime::default() };
        assert!(!lifetime.made_stale(40).is_alive(40));
    }
}
