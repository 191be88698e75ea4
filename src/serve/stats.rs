//! What is counted: each call that is answered, by how it ended.

use crate::cache::Fetched;
use crate::metrics::Counter;
use crate::server::Section;

/// Calls that had their answer, fresh or stale, from the cache.
static ANSWERED: Counter = Counter::new();

/// Calls that are to compute it.
pub static TO_COMPUTE: Counter = Counter::new();

/// Calls that another computes for, or whose version is not in force.
static UNANSWERED: Counter = Counter::new();

/// Calls that were not let in, and had no answer.
pub static DENIED: Counter = Counter::new();

/// The section of INFO.
pub static INFO: Section = Section {
    name: c"serve",
    fields: &[
        (c"serve_answered", &ANSWERED),
        (c"serve_to_compute", &TO_COMPUTE),
        (c"serve_unanswered", &UNANSWERED),
        (c"serve_denied", &DENIED),
    ],
};

/// Counts a call by what the cache said.
pub fn count(fetched: &Fetched) {
    let counter = match fetched {
        Fetched::Hit(..) | Fetched::Stale(..) => &ANSWERED,
        Fetched::Lease(..) => &TO_COMPUTE,
        Fetched::Busy(_) | Fetched::Retired => &UNANSWERED,
    };
    counter.increment();
}
