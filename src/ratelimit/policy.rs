//! What a limit is, and what a window says to a call.

use crate::time::{MICROS_PER_SECOND, Micros};

/// The largest limit and cost: 2^53, the largest integer that every client,
/// JavaScript's included, holds exactly.
pub const MAX_AMOUNT: u64 = 1 << 53;

/// The shortest window: a millisecond.
pub const MIN_WINDOW_US: u64 = 1_000;

/// The longest window: 366 days.
pub const MAX_WINDOW_US: u64 = 366 * 86_400 * MICROS_PER_SECOND;

/// How much a call takes from a limit, 1 for a plain request.
pub type Cost = u64;

/// A limit: at most `limit` in `window_us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What may be taken in a window; 0 denies always.
    pub limit: u64,
    /// How long a window lasts, in microseconds.
    pub window_us: u64,
}

/// Nothing, in the shortest window: the policy of a limiter that nobody has
/// charged yet. A legal one, so that such a limiter can be saved and loaded.
impl Default for Policy {
    fn default() -> Self {
        Self { limit: 0, window_us: MIN_WINDOW_US }
    }
}

/// What one window says to a call, before anything is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What could be taken right now.
    pub remaining: u64,
    /// The wait after which the asked cost fits: 0 when it fits now, `None`
    /// when it never can.
    pub retry_after_us: Option<Micros>,
    /// Until the window is back at full if nothing more comes.
    pub reset_after_us: Micros,
}
