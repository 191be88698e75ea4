//! What is counted.

use crate::metrics::{Counter, Gauge};
use crate::ratelimit::{Mode, by_namespace};
use crate::server::{Lock, Section};
use crate::time::{MICROS_PER_MILLI, Micros};

/// Calls let in.
static ADMITTED: Counter = Counter::new();

/// Calls denied.
static DENIED: Counter = Counter::new();

/// Calls that only looked.
static PEEKED: Counter = Counter::new();

/// Calls that had to wait.
static WAITED: Counter = Counter::new();

/// How long those had to wait whose wait is over, in milliseconds.
static WAITED_MS: Counter = Counter::new();

/// Callers that wait.
pub static WAITERS: Gauge = Gauge::new();

/// The section of INFO.
pub static INFO: Section = Section {
    name: c"admission",
    fields: &[
        (c"admission_admitted", &ADMITTED),
        (c"admission_denied", &DENIED),
        (c"admission_peeked", &PEEKED),
        (c"admission_waited", &WAITED),
        (c"admission_waited_ms", &WAITED_MS),
        (c"admission_waiters", &WAITERS),
    ],
};

/// Counts what came of a call: whether it was, or with PEEK would have been, let in.
pub fn count(mode: Mode, is_admitted: bool) {
    let counter = match is_admitted {
        _ if mode == Mode::Peek => &PEEKED,
        true => &ADMITTED,
        false => &DENIED,
    };
    counter.increment();
}

/// Counts a call that has to wait, held up at this key.
pub fn waits(lock: &Lock, key: &[u8]) {
    WAITED.increment();
    by_namespace::count_wait(lock, key);
}

/// Counts how long a call has waited that was held up at this key first: to the nearest
/// millisecond, so that many waits come to the right sum.
pub fn waited(lock: &Lock, key: &[u8], waited_us: Micros) {
    let waited_ms = (waited_us + MICROS_PER_MILLI / 2) / MICROS_PER_MILLI;
    WAITED_MS.add(waited_ms);
    by_namespace::count_waited(lock, key, waited_ms);
}
