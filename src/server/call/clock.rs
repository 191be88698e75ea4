//! The one clock. A command reads it once and passes the reading on.

use crate::bug;
use crate::time::{Micros, Monotonic};
use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The time of the running command.
///
/// Where the server offers it (Redis 7.2, Valkey), this is the server's own
/// reading at the start of the command, which MULTI and scripts freeze for all
/// that they call; otherwise (Redis 7.0) the wall clock.
pub fn now() -> Micros {
    #[cfg(debug_assertions)]
    if let Some(now) = crate::server::border::faults::frozen_clock() {
        return now;
    }
    if offers!(RedisModule_CachedMicroseconds) {
        // SAFETY: takes no arguments and reads a number.
        let now = unsafe { api!(RedisModule_CachedMicroseconds()) };
        // A clock before 1970 reads as 1970.
        return Micros::try_from(now).unwrap_or(0);
    }
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| Micros::try_from(since.as_micros()).ok())
        .unwrap_or(0)
}

/// The time of the clock that never steps.
pub fn monotonic() -> Monotonic {
    static START: OnceLock<Instant> = OnceLock::new();
    let passed = START.get_or_init(Instant::now).elapsed();
    Monotonic::try_from(passed.as_micros()).unwrap_or_else(|_| bug("a process of 584,000 years"))
}
