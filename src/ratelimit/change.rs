//! Changes of a limiter: what a write does, as it is replicated.

use super::policy::{Algorithm, Cost, Policy};
use crate::id::Id;
use crate::time::{Micros, Millis};

/// A change: what a write does, and the moment of it, up to which reservations
/// that have expired go as well and by which a state ahead of the clock is
/// rewound. Applied to equal states, wherever and whenever, it leaves equal
/// states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'p> {
    /// The moment of the call.
    pub now_us: Micros,
    /// What it does.
    pub step: Step<'p>,
}

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step<'p> {
    /// A denied call does no more than to follow a clock that stepped back.
    Rewind,
    /// A charge to some windows, one at least.
    Charge {
        /// What all windows are kept by from then on.
        algorithm: Algorithm,
        /// The limits that are charged, each of another length.
        policies: &'p [Policy],
        /// What is charged.
        cost: Cost,
        /// Where the cost is an estimate, by what and for how long it can be
        /// settled.
        reservation: Option<(Id, Millis)>,
    },
    /// A reservation is settled by the actual cost.
    Settle {
        /// Which one.
        id: Id,
        /// What it really cost.
        actual: Cost,
    },
}
