//! What is counted.

use super::policy::Algorithm;
use super::request::Mode;
use crate::metrics::{Counter, Gauge};
use crate::server::Section;

/// What came of the calls that one algorithm decided.
struct Tally {
    allowed: Counter,
    denied: Counter,
}

impl Tally {
    const fn new() -> Self {
        Self { allowed: Counter::new(), denied: Counter::new() }
    }
}

static FIXED: Tally = Tally::new();
static SLIDING: Tally = Tally::new();
static GCRA: Tally = Tally::new();

/// Calls that only looked.
static PEEKED: Counter = Counter::new();

/// Holds open on all keys.
pub static OPEN: Gauge = Gauge::new();

/// Holds settled.
pub static SETTLED: Counter = Counter::new();

/// Holds whose time started anew.
pub static RENEWED: Counter = Counter::new();

/// The section of INFO.
pub const INFO: Section = Section {
    name: c"ratelimit",
    fields: &[
        (c"ratelimit_fixed_allowed", &FIXED.allowed),
        (c"ratelimit_fixed_denied", &FIXED.denied),
        (c"ratelimit_sliding_allowed", &SLIDING.allowed),
        (c"ratelimit_sliding_denied", &SLIDING.denied),
        (c"ratelimit_gcra_allowed", &GCRA.allowed),
        (c"ratelimit_gcra_denied", &GCRA.denied),
        (c"ratelimit_peeked", &PEEKED),
        (c"ratelimit_settled", &SETTLED),
        (c"ratelimit_renewed", &RENEWED),
        (c"ratelimit_open_holds", &OPEN),
    ],
};

/// Counts what came of a call on one key: whether it was, or with PEEK would
/// have been, allowed.
pub fn count(algorithm: Algorithm, mode: Mode, allowed: bool) {
    if mode == Mode::Peek {
        return PEEKED.increment();
    }
    let tally = match algorithm {
        Algorithm::Fixed => &FIXED,
        Algorithm::Sliding => &SLIDING,
        Algorithm::Gcra => &GCRA,
    };
    if allowed { tally.allowed.increment() } else { tally.denied.increment() }
}
