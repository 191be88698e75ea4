//! What limits say to a call.

use super::policy::Cost;
use crate::time::Micros;

/// A quota: what one limit says to a call, before or after it is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// What could be taken if nothing were used.
    pub limit: u64,
    /// What is used. More than the limit where it was forced, or the limit
    /// lowered.
    pub used: u64,
    /// The wait after which the asked cost fits: 0 when it fits now, `None`
    /// when it never can.
    pub retry_after_us: Option<Micros>,
    /// Until nothing is used any more if nothing more comes.
    pub reset_after_us: Micros,
}

impl Quota {
    /// That of a limit of which nothing is used.
    pub fn unused(limit: u64, cost: Cost) -> Self {
        let retry_after_us = (cost <= limit).then_some(0);
        Self { limit, used: 0, retry_after_us, reset_after_us: 0 }
    }

    /// That of a counter that starts over when so much time has passed.
    pub fn counted(limit: u64, used: u64, cost: Cost, closes_after_us: Micros) -> Self {
        let retry_after_us = match cost {
            _ if cost <= limit.saturating_sub(used) => Some(0),
            _ if cost <= limit => Some(closes_after_us),
            _ => None,
        };
        Self { limit, used, retry_after_us, reset_after_us: closes_after_us }
    }

    /// After a charge that fits.
    pub fn charged(self, cost: Cost) -> Self {
        Self { used: self.used + cost, ..self }
    }

    /// What could be taken right now.
    pub fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// What is left of the limit, below nothing where more than it is used. Ends
    /// where an integer does.
    pub fn balance(&self) -> i64 {
        let balance = i128::from(self.limit) - i128::from(self.used);
        i64::try_from(balance).unwrap_or(if balance < 0 { i64::MIN } else { i64::MAX })
    }

    /// Whether this one binds, and not the other: of limits that deny, the one
    /// with the longest wait, and never is the longest; of those that `granted`,
    /// the one with the least left.
    fn binds_before(&self, other: &Self, granted: bool) -> bool {
        let rank = |quota: &Self| {
            let wait_us = if granted { Some(0) } else { quota.retry_after_us };
            (wait_us.unwrap_or(Micros::MAX), !quota.balance(), quota.reset_after_us)
        };
        rank(self) > rank(other)
    }

    /// The one of the two that binds.
    pub fn binding(self, other: Self, granted: bool) -> Self {
        if self.binds_before(&other, granted) { self } else { other }
    }
}
