//! Reservations: charges of estimates, to be settled by what it really cost.

use super::policy::{Cost, MAX_WINDOWS};
use super::window::Mark;
use crate::id::Id;
use crate::metrics::Gauge;
use crate::time::{Micros, Millis};
use arrayvec::ArrayVec;

/// The open reservations of all keys.
pub static OPEN: Gauge = Gauge::new();

/// Where a charge sits in each of the windows it was charged to, by their
/// length.
pub type Marks = ArrayVec<(Micros, Mark), MAX_WINDOWS>;

/// A charge that is yet to be settled.
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
    /// Where the charge sits; a window that is gone since has none.
    pub marks: Box<[(Micros, Mark)]>,
}

impl Reservation {
    /// A reservation, counted among the open ones while it lives.
    pub fn new(
        id: Id,
        estimate: Cost,
        ttl_ms: Millis,
        expires_at_ms: Millis,
        marks: &Marks,
    ) -> Self {
        OPEN.add(1);
        Self { id, estimate, ttl_ms, expires_at_ms, marks: marks.as_slice().into() }
    }

    /// Whether it can still be settled.
    pub fn is_open(&self, now_ms: Millis) -> bool {
        now_ms < self.expires_at_ms
    }

    /// When it ends at the latest, if its end lies further ahead than it was to
    /// be open for: the clock stepped back.
    pub fn longest_until(&self, now_ms: Millis) -> Option<Millis> {
        let longest_ms = now_ms.saturating_add(self.ttl_ms);
        (self.expires_at_ms > longest_ms).then_some(longest_ms)
    }

    /// The mark in the window of this length.
    pub fn mark_mut(&mut self, window_us: Micros) -> Option<&mut Mark> {
        self.marks.iter_mut().find(|(length_us, _)| *length_us == window_us).map(|(_, mark)| mark)
    }

    /// Forgets where the charge sits in all windows but these, and says whether
    /// it sat in another.
    pub fn keep_marks(&mut self, stays: impl Fn(Micros) -> bool) -> bool {
        let lost = !self.marks.iter().all(|(window_us, _)| stays(*window_us));
        if lost {
            self.marks = self.marks.iter().copied().filter(|mark| stays(mark.0)).collect();
        }
        lost
    }
}

impl Clone for Reservation {
    fn clone(&self) -> Self {
        OPEN.add(1);
        Self { marks: self.marks.clone(), ..*self }
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
        parts(self) == parts(other) && self.marks == other.marks
    }
}

impl Eq for Reservation {}
