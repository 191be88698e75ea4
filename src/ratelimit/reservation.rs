//! Reservations: charges of estimates, to be settled by what it really cost.

use super::meter::Position;
use super::policy::{Cost, MAX_WINDOWS};
use crate::id::Id;
use crate::metrics::Gauge;
use crate::time::{Micros, Millis};
use arrayvec::ArrayVec;

/// The most reservations that a key can have open, whatever is configured.
pub const MAX_RESERVATIONS: usize = 65_536;

/// The open reservations of all keys.
pub static OPEN: Gauge = Gauge::new();

/// The positions of a charge in the windows it was charged to, by their length.
pub type Positions = ArrayVec<(Micros, Position), MAX_WINDOWS>;

/// A reservation: a charge that is yet to be settled.
#[derive(Debug)]
pub struct Reservation {
    /// What the caller settles it by.
    pub id: Id,
    /// What was charged.
    pub estimate: Cost,
    /// How long it could be settled.
    pub ttl_ms: Millis,
    /// When it can be settled no more; it then stays charged.
    pub expires_at_ms: Millis,
    /// Where the charge sits; in a window that is gone since it has no position.
    pub positions: Box<[(Micros, Position)]>,
}

impl Reservation {
    /// A reservation, counted among the open ones while it lives.
    pub fn new(
        id: Id,
        estimate: Cost,
        ttl_ms: Millis,
        expires_at_ms: Millis,
        positions: &[(Micros, Position)],
    ) -> Self {
        OPEN.add(1);
        Self { id, estimate, ttl_ms, expires_at_ms, positions: positions.into() }
    }

    /// Whether it can still be settled.
    pub fn is_open(&self, now_ms: Millis) -> bool {
        now_ms < self.expires_at_ms
    }

    /// When it ends at the latest, as seen at `now_ms`.
    fn longest_until(&self, now_ms: Millis) -> Millis {
        now_ms.saturating_add(self.ttl_ms)
    }

    /// Whether its end lies further ahead than it was to be open for: the clock
    /// stepped back.
    pub fn is_ahead(&self, now_ms: Millis) -> bool {
        self.expires_at_ms > self.longest_until(now_ms)
    }

    /// Rewinds to a clock that stepped back: it counts as opened now at the
    /// latest.
    pub fn rewind_to(&mut self, now_ms: Millis) {
        self.expires_at_ms = self.expires_at_ms.min(self.longest_until(now_ms));
    }

    /// The position in the window of this length.
    pub fn position_mut(&mut self, window_us: Micros) -> Option<&mut Position> {
        let mut positions = self.positions.iter_mut();
        positions.find(|(length_us, _)| *length_us == window_us).map(|(_, position)| position)
    }

    /// Forgets where the charge sits in all windows but these.
    pub fn keep_positions(&mut self, stays: impl Fn(Micros) -> bool) {
        if !self.positions.iter().all(|(window_us, _)| stays(*window_us)) {
            let positions = self.positions.iter().copied();
            self.positions = positions.filter(|(window_us, _)| stays(*window_us)).collect();
        }
    }
}

impl Clone for Reservation {
    fn clone(&self) -> Self {
        OPEN.add(1);
        Self { positions: self.positions.clone(), ..*self }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        OPEN.add(-1);
    }
}

impl PartialEq for Reservation {
    fn eq(&self, other: &Self) -> bool {
        let parts = |of: &Self| (of.id, of.estimate, of.ttl_ms, of.expires_at_ms);
        parts(self) == parts(other) && self.positions == other.positions
    }
}

impl Eq for Reservation {}
