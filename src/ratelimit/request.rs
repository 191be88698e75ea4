//! A call, checked, and what it is answered.

use super::policy::{Cost, MAX_WINDOWS, Policy};
use super::slot::Algorithm;
use super::window::Reading;
use crate::time::{Micros, Millis};
use arrayvec::ArrayVec;

/// The limits of a call, each of another length.
pub type Policies = ArrayVec<Policy, MAX_WINDOWS>;

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
    /// The limits to hold it to, all of them.
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

/// What the windows of a key say together: the one that binds says it. Of those
/// that deny, the one with the longest wait; else the one with the least
/// remaining.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The limit that binds.
    pub limit: u64,
    /// What it says.
    pub reading: Reading,
}

impl Standing {
    /// The one that binds of all, to a call that was granted or that may be
    /// denied; `None` of none.
    pub fn of(standings: impl Iterator<Item = Self>, granted: bool) -> Option<Self> {
        standings.max_by_key(|Self { reading, .. }| {
            // Never is the longest wait.
            let wait_us = reading.retry_after_us.unwrap_or(Micros::MAX);
            let wait_us = if granted { 0 } else { wait_us };
            (wait_us, !reading.remaining, reading.reset_after_us)
        })
    }
}

/// A call that makes no sense on its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// BURST without a token bucket.
    BurstWithoutBucket,
    /// As many reservations as there can be are open.
    TooManyReservations,
}

/// A decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The algorithm in force.
    pub algorithm: Algorithm,
    /// The cost to charge; 0 when denied. With PEEK, what would be charged.
    pub granted: Cost,
    /// What the windows say before the charge.
    pub before: Standing,
    /// Whether something lies ahead of a clock that stepped back.
    pub ahead: bool,
    /// Whether the state is to change.
    pub writes: bool,
}

impl Decision {
    /// Denies what another key denies. A denied call writes only what would
    /// else stay ahead of the clock.
    pub fn deny(&mut self) {
        self.granted = 0;
        self.writes &= self.ahead;
    }
}
