//! What the algorithms have in common: a meter of what is used, and how a
//! charge is found again to be settled.

use super::policy::{Cost, Policy};
use super::quota::Quota;
use crate::time::Micros;

/// The position of a charge in its window: kept for a charge that is settled
/// later. What it counts is the algorithm's own. None does harm: one that finds
/// nothing leaves what is charged as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position(pub u64);

impl Position {
    /// That of a charge that weighs on nothing any more.
    pub const GONE: Self = Self(u64::MAX);
}

/// The actual cost of a charge that was an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Where the charge sits.
    pub position: Position,
    /// What was charged.
    pub estimate: Cost,
    /// What should have been.
    pub actual: Cost,
}

impl Settlement {
    /// What a sum with the estimate in it comes to with the actual cost.
    pub fn correct(&self, sum: u64) -> u64 {
        sum.saturating_add(self.actual).saturating_sub(self.estimate)
    }
}

/// A meter: what has been used of a limit, by one of the algorithms. The default
/// is one of which nothing is used.
///
/// The window's length never changes. The other figures of the policy that a
/// meter is given say how fast time gives back, which only a token bucket asks;
/// what there is to take is the caller's, and said apart. A clock that stepped
/// back counts as no time passed, so that nothing is granted again and no wait
/// grows.
pub trait Meter: Default {
    /// Whether anything of it lies ahead of a clock that stepped back.
    fn is_ahead(&self, policy: &Policy, now_us: Micros) -> bool;

    /// Rewinds to a clock that stepped back: what lies ahead of it counts as of
    /// now. Left there, it would weigh until the clock had caught up, and a
    /// window more. `positions` are those of all charges yet to be settled, which
    /// go along.
    fn rewind_to<'p>(
        &mut self,
        policy: &Policy,
        positions: impl Iterator<Item = &'p mut Position>,
        now_us: Micros,
    );

    /// How much is used.
    fn used(&self, policy: &Policy, now_us: Micros) -> u64;

    /// What a limit of `capacity` says to a call of `cost`.
    fn quota(&self, policy: &Policy, capacity: u64, cost: Cost, now_us: Micros) -> Quota;

    /// Charges `cost`, whether or not it fits.
    fn charge(&mut self, policy: &Policy, cost: Cost, now_us: Micros) -> Position;

    /// Replaces an estimate by the actual cost, as far as the charge still weighs.
    /// The answer is the gap that it leaves, in what [`Position`] counts, which those
    /// charged before it and not settled move up by.
    fn settle(&mut self, policy: &Policy, settlement: &Settlement, now_us: Micros) -> Cost;

    /// When nothing is used any more, or some time before now if nothing is.
    fn reset_at(&self, policy: &Policy) -> Micros;
}

#[cfg(test)]
mod tests {
    use super::super::{closing::Closing, fixed::Fixed, gcra::Gcra, sliding::Sliding};
    use super::*;

    #[test]
    fn a_limit_of_any_algorithm_takes_64_bytes() {
        #[allow(dead_code)]
        enum AnyMeter {
            Fixed(Fixed),
            Sliding(Sliding),
            Gcra(Gcra),
            Closing(Closing),
        }
        assert!(size_of::<(Policy, AnyMeter)>() <= 64);
        assert_eq!(size_of::<Position>(), 8);
    }
}
