//! Units of time.

/// A moment, microseconds since the Unix epoch, or a span of microseconds.
pub type Micros = u64;

/// A moment, milliseconds since the Unix epoch, or a span of milliseconds: the
/// unit of the server's expiries.
pub type Millis = u64;

/// A moment of a clock that never steps, in microseconds since some moment of
/// this process.
pub type Monotonic = u64;

/// Microseconds in a millisecond.
pub const MICROS_PER_MILLI: u64 = 1_000;

/// Microseconds in a second.
pub const MICROS_PER_SECOND: u64 = 1_000_000;

/// Milliseconds in a second.
pub const MILLIS_PER_SECOND: u64 = 1_000;

/// A wait in whole milliseconds, rounded up, as replies tell it.
pub const fn whole_millis(wait_us: Micros) -> i64 {
    wait_us.div_ceil(MICROS_PER_MILLI).cast_signed()
}

/// Milliseconds, rounded up.
pub fn millis(span_us: Monotonic) -> Millis {
    span_us.div_ceil(MICROS_PER_MILLI)
}
