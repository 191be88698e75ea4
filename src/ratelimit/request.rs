//! A call, checked, and what is decided on it.

use super::change::{Change, Step};
use super::policy::{Algorithm, Cost, Policies};
use super::quota::Quota;
use crate::id::Id;
use crate::time::Millis;

/// What a call is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Charge all of the cost, or nothing.
    #[default]
    Whole,
    /// Charge as much of the cost as fits.
    Partial,
    /// Charge all of the cost, fit or not.
    Force,
    /// Charge nothing: what would the call answer?
    Peek,
}

/// A call on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The limits to hold it to, all of them; one at least.
    pub policies: Policies,
    /// The algorithm asked for, if any was.
    pub algorithm: Option<Algorithm>,
    /// The algorithm of a key that has none yet and was asked for none.
    pub default_algorithm: Algorithm,
    /// Whether a burst was asked for, which only a token bucket has.
    pub has_burst: bool,
    /// What the call takes.
    pub cost: Cost,
    /// What to do.
    pub mode: Mode,
    /// The hold to open, if the cost is an estimate.
    pub hold: Option<HoldRequest>,
    /// How many holds a key can have open.
    pub max_holds: usize,
}

/// The hold that a call is to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldRequest {
    /// What it is to be settled by: the caller's own, or one drawn for it.
    pub id: Id,
    /// How long it is to last.
    pub ttl_ms: Millis,
}

/// A call that makes no sense on its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// BURST without a token bucket.
    BurstWithoutBucket,
    /// The hold of that id was asked for with another cost.
    AskedFor(Cost),
    /// As many holds as there can be are open.
    TooManyHolds,
}

/// A decision on one key. It has changed nothing: of several keys all are asked
/// before any is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'r> {
    /// The algorithm that the call is judged by.
    pub algorithm: Algorithm,
    /// Whether the call is let in. With PEEK, whether it would be.
    pub allowed: bool,
    /// The cost to charge; 0 when denied. With PEEK, what would be charged.
    pub granted: Cost,
    /// What the limits say before the charge, the one that binds.
    pub quota: Quota,
    /// What they say after it, where that is known beforehand.
    pub after: Option<Quota>,
    /// What the state is to be changed by, if anything.
    pub change: Option<Change<'r>>,
    /// Whether something lies ahead of a clock that stepped back.
    pub ahead: bool,
    /// Whether as many holds are open as there can be.
    pub full: bool,
    /// The hold that is open for the caller when it is let in, by its id.
    pub hold: Option<Id>,
}

impl Decision<'_> {
    /// Whether all that was asked for is granted.
    pub fn is_in_full(&self, cost: Cost) -> bool {
        self.allowed && self.granted == cost
    }

    /// Whether it takes something that the caller has not yet.
    pub fn takes(&self) -> bool {
        match self.change.map(|change| change.step) {
            Some(Step::Charge { cost, .. }) => cost > 0,
            Some(Step::Rewind | Step::Settle { .. } | Step::Renew { .. }) => false,
            // It only looks, or it has it.
            None => self.granted > 0 && self.hold.is_none(),
        }
    }

    /// Denies what another key denies. A denied call writes only what would
    /// else stay ahead of the clock.
    pub fn deny(&mut self) {
        if self.allowed {
            // It is another key that is waited for: here there may be a hold already,
            // or nothing that is asked for.
            self.quota.retry_after_us = Some(0);
        }
        self.allowed = false;
        self.granted = 0;
        self.after = None;
        self.hold = None;
        self.change = self
            .change
            .filter(|_| self.ahead)
            .map(|change| Change { step: Step::Rewind, ..change });
    }

    /// Whether there is room for the hold that the charge is to open, if any. To be
    /// asked when all keys have agreed: whoever is denied is to wait, and no room
    /// would help.
    pub fn check_room(&self) -> Result<(), Refusal> {
        match self.change.map(|change| change.step) {
            Some(Step::Charge { hold: Some(_), .. }) if self.full => Err(Refusal::TooManyHolds),
            _ => Ok(()),
        }
    }
}
