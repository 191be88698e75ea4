//! What is counted.

use crate::metrics::{Counter, Gauge};
use crate::ratelimit::Mode;
use crate::server::Section;

/// Calls let in.
static ADMITTED: Counter = Counter::new();

/// Calls denied.
static DENIED: Counter = Counter::new();

/// Calls that only looked.
static PEEKED: Counter = Counter::new();

/// Calls that had to wait.
pub static WAITED: Counter = Counter::new();

/// Callers that wait.
pub static WAITERS: Gauge = Gauge::new();

/// The section of INFO.
pub const INFO: Section = Section {
    name: c"admission",
    fields: &[
        (c"admission_admitted", &ADMITTED),
        (c"admission_denied", &DENIED),
        (c"admission_peeked", &PEEKED),
        (c"admission_waited", &WAITED),
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
