//! Changes of permits: what a write does, as it is replicated.

use crate::id::Id;
use crate::time::{Micros, Millis};

/// A change: what a write does, and the moment of it, up to which permits that
/// have expired go as well. Applied to equal states, wherever and whenever, it
/// leaves equal states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The moment of the call.
    pub now_us: Micros,
    /// What it does.
    pub step: Step,
}

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // The fields are those of a permit.
pub enum Step {
    /// A denied call does no more than to follow a clock that stepped back.
    Rewind,
    /// A new permit.
    Acquire { id: Id, cost: u64, ttl_ms: Millis },
    /// A permit's time starts anew.
    Renew { id: Id, ttl_ms: Millis },
    /// A permit is given back.
    Release { id: Id },
}
