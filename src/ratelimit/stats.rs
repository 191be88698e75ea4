//! What is counted.

use super::policy::Algorithm;
use crate::metrics::{Counter, Gauge};
use crate::server::Section;

/// What came of the calls that one algorithm decided.
pub struct Tally {
    /// Calls allowed.
    pub allowed: Counter,
    /// Calls denied.
    pub denied: Counter,
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
pub static PEEKED: Counter = Counter::new();

/// Holds open on all keys.
pub static OPEN: Gauge = Gauge::new();

/// Holds settled.
pub static SETTLED: Counter = Counter::new();

/// Holds whose time started anew.
pub static RENEWED: Counter = Counter::new();

/// The section of INFO.
pub static INFO: Section = Section {
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

/// The tally of an algorithm.
pub fn tally(algorithm: Algorithm) -> &'static Tally {
    match algorithm {
        Algorithm::Fixed => &FIXED,
        Algorithm::Sliding => &SLIDING,
        Algorithm::Gcra => &GCRA,
    }
}
