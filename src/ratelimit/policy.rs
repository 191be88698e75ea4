//! What a limit is.

use crate::time::MICROS_PER_SECOND;

/// The shortest window: a millisecond.
pub const MIN_WINDOW_US: u64 = 1_000;

/// The longest window: 366 days.
pub const MAX_WINDOW_US: u64 = 366 * 86_400 * MICROS_PER_SECOND;

/// The most windows of one key.
pub const MAX_WINDOWS: usize = 8;

/// The longest wait: 100 years. What would take longer takes as long.
pub const MAX_WAIT_US: u64 = 36_525 * 86_400 * MICROS_PER_SECOND;

/// The latest moment a stored state may name, so that no sum with a window or a
/// wait wraps: some 146,000 years from now.
pub const MAX_TIME_US: u64 = 1 << 62;

/// How much a call takes from a limit, 1 for a plain request.
pub type Cost = u64;

/// A limit: at most `limit` in `window_us`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// What may be taken in a window; 0 denies always.
    pub limit: u64,
    /// How long a window lasts, in microseconds; never 0.
    pub window_us: u64,
    /// What a full token bucket holds. The other algorithms have no use for it.
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
    pub const fn new(limit: u64, window_us: u64) -> Self {
        Self { limit, window_us, burst: limit }
    }
}
