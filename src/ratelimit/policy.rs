//! What a limit is.

use super::closing::Close;
use crate::time::{MICROS_PER_SECOND, Micros};
use arrayvec::ArrayVec;

/// The shortest window: a millisecond.
pub const MIN_WINDOW_US: Micros = 1_000;

/// The longest window: 366 days.
pub const MAX_WINDOW_US: Micros = 366 * 86_400 * MICROS_PER_SECOND;

/// The most windows of one key.
pub const MAX_WINDOWS: usize = 8;

/// The longest wait: 100 years. What would take longer takes as long.
pub const MAX_WAIT_US: Micros = 36_525 * 86_400 * MICROS_PER_SECOND;

/// How much a call takes from a limit, 1 for a plain request.
pub type Cost = u64;

/// The limits of a call, each of another length.
pub type Policies = ArrayVec<Policy, MAX_WINDOWS>;

/// How a limit is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// Fixed windows, opened by the first charge.
    #[default]
    Fixed,
    /// Sliding windows: never more than the limit in any trailing window.
    Sliding,
    /// A token bucket, by the generic cell rate algorithm.
    Gcra,
}

impl Algorithm {
    /// All of them; the index of each is its number in payloads and configs.
    pub const ALL: [Self; 3] = [Self::Fixed, Self::Sliding, Self::Gcra];

    /// The keyword that names it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fixed => "FIXED",
            Self::Sliding => "SLIDING",
            Self::Gcra => "GCRA",
        }
    }
}

/// A limit: at most `limit` in `window_us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What may be taken in a window; 0 denies always.
    pub limit: u64,
    /// How long a window lasts, in microseconds; never 0. It is what the window is
    /// known by: one that [closes at a moment](Self::close) has a mark of its own
    /// there, beyond all lengths.
    pub window_us: Micros,
    /// What a full token bucket holds. The other algorithms have no use for it; of a
    /// window that closes at a moment it is [that moment](Self::closes_us).
    pub burst: u64,
}

/// Nothing, in the shortest window: the policy of a limiter that nobody has
/// charged yet. A legal one, so that such a limiter can be saved and loaded.
impl Default for Policy {
    fn default() -> Self {
        Self::new(0, MIN_WINDOW_US)
    }
}

impl Policy {
    /// At most `limit` in `window_us`, all of it at once if it comes to that.
    pub const fn new(limit: u64, window_us: Micros) -> Self {
        Self { limit, window_us, burst: limit }
    }

    /// At most `limit` until a moment.
    pub const fn until(limit: u64, close: Close, closes_us: Micros) -> Self {
        Self { limit, window_us: MAX_WINDOW_US + 1 + close as u64, burst: closes_us }
    }

    /// When it closes, if that is at a moment.
    pub fn close(&self) -> Option<Close> {
        closing(self.window_us)
    }

    /// The moment at which it closes, of one that does.
    pub fn closes_us(&self) -> Option<Micros> {
        self.close().map(|_| self.burst)
    }

    /// What could be taken if nothing were used.
    pub fn capacity(&self, algorithm: Algorithm) -> u64 {
        match algorithm {
            Algorithm::Gcra if self.limit > 0 && self.close().is_none() => self.burst,
            _ => self.limit,
        }
    }

    /// This policy, at the rate of the other one, of the same length, where that
    /// is faster.
    pub fn faster(&self, other: &Self) -> Self {
        Self { limit: self.limit.max(other.limit), ..*self }
    }
}

/// When a window closes that is known by so many microseconds, if that is at a moment.
pub fn closing(window_us: Micros) -> Option<Close> {
    let number = window_us.checked_sub(MAX_WINDOW_US + 1)?;
    usize::try_from(number).ok().and_then(|number| Close::ALL.get(number).copied())
}
