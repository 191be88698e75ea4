//! Changes of a limiter: what a write does, as it is replicated.

use super::policy::{Algorithm, Cost, Policy};
use crate::id::Id;
use crate::time::{Micros, Millis};

/// A change: what a write does, and the moment of it, up to which holds that
/// have ended go as well and by which a state ahead of the clock is
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
        /// The hold that the charge opens, if it does.
        hold: Option<Opened>,
    },
    /// A hold is settled by the actual cost.
    Settle {
        /// Which one.
        id: Id,
        /// What it really cost; as estimated, if nothing else is said.
        actual: Option<Cost>,
    },
    /// The time of a hold starts anew.
    Renew {
        /// Which one.
        id: Id,
        /// How long it lasts from now on.
        ttl_ms: Millis,
    },
}

/// A hold that a charge opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    /// What it is settled by.
    pub id: Id,
    /// How long it lasts.
    pub ttl_ms: Millis,
    /// What was asked for: all of the cost, or more than could be charged.
    pub asked: Cost,
}
