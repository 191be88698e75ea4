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
    /// How long the charge can be settled, if it is an estimate.
    pub reserve_ms: Option<Millis>,
    /// How many reservations a key can have open.
    pub max_reservations: usize,
}

/// A call that makes no sense on its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// BURST without a token bucket.
    BurstWithoutBucket,
    /// As many reservations as there can be are open.
    TooManyReservations,
}

/// A decision on one key. It has changed nothing: of several keys all are asked
/// before any is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision<'r> {
    /// The algorithm that the call is judged by.
    pub algorithm: Algorithm,
    /// The cost to charge; 0 when denied. With PEEK, what would be charged.
    pub granted: Cost,
    /// What the limits say before the charge, the one that binds.
    pub quota: Quota,
    /// What the state is to be changed by, if anything.
    pub change: Option<Change<'r>>,
    /// Whether something lies ahead of a clock that stepped back.
    pub ahead: bool,
    /// Whether as many reservations are open as there can be.
    pub full: bool,
}

impl Decision<'_> {
    /// Denies what another key denies. A denied call writes only what would
    /// else stay ahead of the clock.
    pub fn deny(&mut self) {
        self.granted = 0;
        self.change = self
            .change
            .filter(|_| self.ahead)
            .map(|change| Change { step: Step::Rewind, ..change });
    }

    /// Whether it is the key's own limits that grant nothing, and not another
    /// key's.
    pub fn denies(&self) -> bool {
        self.granted == 0 && self.quota.retry_after_us != Some(0)
    }

    /// Whether there is room for the reservation that the charge is to open, if
    /// any. To be asked when all keys have agreed: whoever is denied is to wait,
    /// and no room would help.
    pub fn check_room(&self) -> Result<(), Refusal> {
        match self.reservation() {
            Some(_) if self.full => Err(Refusal::TooManyReservations),
            _ => Ok(()),
        }
    }

    /// The reservation that the charge is to open, if any.
    pub fn reservation(&self) -> Option<Id> {
        match self.change?.step {
            Step::Charge { reservation, .. } => reservation.map(|(id, _)| id),
            _ => None,
        }
    }
}
