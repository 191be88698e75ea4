//! What the three algorithms have in common: what a window says to a call, and
//! how a charge is found again to be settled.

use super::policy::{Cost, Policy};
use crate::time::Micros;

/// What one window says to a call, before anything is charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// What could be taken right now.
    pub remaining: u64,
    /// The wait after which the asked cost fits: 0 when it fits now, `None`
    /// when it never can.
    pub retry_after_us: Option<Micros>,
    /// Until the window is back at full if nothing more comes.
    pub reset_after_us: Micros,
}

/// Where in its window a charge sits: kept for a charge that is settled later.
/// What it counts is the algorithm's own. None does harm: one that finds
/// nothing leaves what is charged as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(pub u64);

impl Mark {
    /// The mark of a charge that weighs on nothing any more.
    pub const GONE: Self = Self(u64::MAX);
}

/// The actual cost of a charge that was an estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// Where the charge sits.
    pub mark: Mark,
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

/// What has been used of a limit, by one of the algorithms. The default is a
/// window of which nothing is used.
///
/// The window's length never changes; the limit and the burst may from one call
/// to the next, and apply at once. A clock that stepped back counts as no time
/// passed, so that nothing is granted again and no wait grows.
pub trait Window: Default {
    /// The window of a key that comes from another algorithm, where it had
    /// `used` used. Marks do not come along.
    fn carried(policy: &Policy, used: u64, now_us: Micros) -> Self {
        let mut window = Self::default();
        window.charge(policy, used, now_us);
        window
    }

    /// What could be taken if nothing were used.
    fn capacity(policy: &Policy) -> u64 {
        policy.limit
    }

    /// Brings the window to `now_us`: to be called with the old policy before
    /// another takes its place, for what went by until now went by under it.
    fn advance(&mut self, policy: &Policy, now_us: Micros);

    /// Whether anything of it lies ahead of a clock that stepped back.
    fn is_ahead(&self, now_us: Micros) -> bool;

    /// After the clock stepped back: counts as of now what lies ahead of it,
    /// and says whether anything did. Left there, it would weigh until the
    /// clock had caught up, and a window more. `marks` are those of all charges
    /// yet to be settled, which go along.
    fn follow_clock_back<'m>(
        &mut self,
        policy: &Policy,
        marks: impl Iterator<Item = &'m mut Mark>,
        now_us: Micros,
    ) -> bool;

    /// How much is used.
    fn used(&self, policy: &Policy, now_us: Micros) -> u64;

    /// What the window says to a call of `cost`.
    fn read(&self, policy: &Policy, cost: Cost, now_us: Micros) -> Reading;

    /// Charges `cost`, whether or not it fits.
    fn charge(&mut self, policy: &Policy, cost: Cost, now_us: Micros) -> Mark;

    /// Replaces an estimate by the actual cost, as far as the charge still
    /// weighs. `others` are the marks of the other charges yet to be settled.
    fn settle<'m>(
        &mut self,
        policy: &Policy,
        settlement: &Settlement,
        others: impl Iterator<Item = &'m mut Mark>,
        now_us: Micros,
    );

    /// When the window is back at full, or some time before now if it is.
    fn full_at(&self, policy: &Policy) -> Micros;
}

#[cfg(test)]
mod tests {
    use super::super::{fixed::Fixed, gcra::Gcra, sliding::Sliding};
    use super::*;

    #[test]
    fn a_limit_of_any_algorithm_takes_64_bytes() {
        #[allow(dead_code)]
        enum AnyWindow {
            Fixed(Fixed),
            Sliding(Sliding),
            Gcra(Gcra),
        }
        assert!(size_of::<(Policy, AnyWindow)>() <= 64);
        assert_eq!(size_of::<Mark>(), 8);
    }

    #[test]
    fn what_is_used_is_carried_from_one_algorithm_to_another() {
        fn carry<From: Window, To: Window>() {
            let policy = Policy::new(10, 60_000_000);
            let mut from = From::default();
            from.charge(&policy, 7, 5_000_000);
            let used = from.used(&policy, 5_000_000);
            let to = To::carried(&policy, used, 6_000_000);
            assert_eq!(to.read(&policy, 1, 6_000_000).remaining, 3);
            let nothing = To::carried(&policy, 0, 6_000_000).read(&policy, 1, 6_000_000);
            assert_eq!((nothing.remaining, nothing.reset_after_us), (10, 0));
        }
        carry::<Fixed, Sliding>();
        carry::<Sliding, Gcra>();
        carry::<Gcra, Fixed>();
    }
}
