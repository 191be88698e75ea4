//! What is counted: each call that is answered, by how it ended.

use crate::cache::Fetched;
use crate::metrics::Counter;
use crate::server::Section;

/// How a call ended.
#[derive(Clone, Copy)]
pub enum Ending {
    /// With its answer, fresh or stale, from the cache.
    Answered,
    /// The caller is to compute it.
    ToCompute,
    /// Another computes it, or its version is not in force.
    Unanswered,
    /// It was not let in, and there was no answer.
    Denied,
}

impl From<&Fetched<'_>> for Ending {
    fn from(fetched: &Fetched) -> Self {
        match fetched {
            Fetched::Hit(..) | Fetched::Stale(..) => Self::Answered,
            Fetched::Lease(..) => Self::ToCompute,
            Fetched::Busy(_) | Fetched::Retired => Self::Unanswered,
        }
    }
}

static ANSWERED: Counter = Counter::new();
static TO_COMPUTE: Counter = Counter::new();
static UNANSWERED: Counter = Counter::new();
static DENIED: Counter = Counter::new();

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

/// Counts a call.
pub fn count(ending: Ending) {
    let counter = match ending {
        Ending::Answered => &ANSWERED,
        Ending::ToCompute => &TO_COMPUTE,
        Ending::Unanswered => &UNANSWERED,
        Ending::Denied => &DENIED,
    };
    counter.increment();
}
