//! Bounds that several commands share.

use crate::time::{MILLIS_PER_SECOND, Micros, Millis};

/// The largest limit, maximum and cost: 2^53, the largest integer that every
/// client, JavaScript's included, holds exactly.
pub const MAX_AMOUNT: u64 = 1 << 53;

/// The longest time to live of a reservation or a permit: 366 days, as the
/// longest window.
pub const MAX_TTL_MS: Millis = 366 * 86_400 * MILLIS_PER_SECOND;

/// The latest moment of a clock: what the server's can show. No sum with a window,
/// a wait or a time to live wraps.
pub const MAX_TIME_US: Micros = i64::MAX as u64;
