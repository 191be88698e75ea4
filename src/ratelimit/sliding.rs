//! Sliding windows: never more than the limit in any trailing window.
//!
//! A charge at `t` weighs until `t + window_us`, and a call is let in if with
//! it no more than `limit` weighs. Up to 65 charges are exact, and so is every
//! limit up to 65. Of more, a charge may weigh longer by less than 1/64 of the
//! window, never shorter: [`sliding_log`](super::sliding_log) says how, and in
//! how little memory.

use super::meter::{Meter, Position, Settlement};
use super::policy::{Cost, Policy};
use super::quota::Quota;
use super::sliding_log::{SlidingLog, weighs};
use crate::time::Micros;
use std::iter;

/// What was charged in a trailing window. The position of a charge is its time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sliding(pub SlidingLog);

impl Meter for Sliding {
    fn is_ahead(&self, _: &Policy, now_us: Micros) -> bool {
        self.0.newest_us().is_some_and(|newest_us| newest_us > now_us)
    }

    /// The positions of what counts as charged now become now.
    fn rewind_to<'p>(
        &mut self,
        policy: &Policy,
        positions: impl Iterator<Item = &'p mut Position>,
        now_us: Micros,
    ) {
        let Some(newest_us) = self.0.newest_us().filter(|at_us| *at_us > now_us) else { return };
        for position in positions {
            let weighed = weighs(policy, position.0, newest_us);
            *position = match self.0.counts_at(policy, position.0).filter(|_| weighed) {
                Some(at_us) if at_us >= now_us => Position(now_us),
                Some(_) => *position,
                None => Position::GONE,
            };
        }
        let mut ahead = 0;
        while self.0.newest_us().is_some_and(|newest_us| newest_us >= now_us) {
            ahead += self.0.pop(policy);
        }
        self.0.push(policy, ahead, now_us);
    }

    fn used(&self, policy: &Policy, now_us: Micros) -> u64 {
        self.0.sum(policy, now_us)
    }

    fn quota(&self, policy: &Policy, capacity: u64, cost: Cost, now_us: Micros) -> Quota {
        let used = self.used(policy, now_us);
        let excess = used.saturating_add(cost).saturating_sub(capacity);
        let leaves_after_us = |at_us: Micros| at_us.min(now_us) + policy.window_us - now_us;
        let retry_after_us = match excess {
            _ if cost > capacity => None,
            0 => Some(0),
            _ => {
                let mut freed = 0;
                let mut enough = self.0.live(policy, now_us).skip_while(|charge| {
                    freed += charge.cost;
                    freed < excess
                });
                enough.next().map(|charge| leaves_after_us(charge.at_us))
            }
        };
        let newest_us = self.0.newest_us().filter(|at_us| weighs(policy, *at_us, now_us));
        let reset_after_us = newest_us.map_or(0, leaves_after_us);
        Quota { limit: capacity, used, retry_after_us, reset_after_us }
    }

    fn charge(&mut self, policy: &Policy, cost: Cost, now_us: Micros) -> Position {
        self.rewind_to(policy, iter::empty(), now_us);
        self.0.forget(policy, now_us);
        self.0.push(policy, cost, now_us);
        Position(now_us)
    }

    /// A charge that has left the window is left alone.
    fn settle(&mut self, policy: &Policy, settlement: &Settlement, now_us: Micros) -> Cost {
        if weighs(policy, settlement.position.0, now_us) {
            self.0.correct(policy, settlement);
        }
        0
    }

    fn reset_at(&self, policy: &Policy) -> Micros {
        self.0.newest_us().map_or(0, |newest_us| newest_us.saturating_add(policy.window_us))
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::{Algorithm, MAX_WINDOW_US};
    use super::super::sliding_log::Charge;
    use super::super::testing::{Oracle, check, endure, follow, ordeal, traffic};
    use super::*;
    use crate::bounds::{MAX_AMOUNT, MAX_TIME_US};
    use proptest::prelude::*;

    const SECOND: Micros = 1_000_000;

    /// 100 in 64 s: a sub-window is a second.
    const HUNDRED: Policy = Policy::new(100, 64 * SECOND);

    /// The oracle: every charge.
    #[derive(Default)]
    struct Log(Vec<Logged>);

    struct Logged {
        id: usize,
        at_us: Micros,
        cost: Cost,
        /// It had left the window once. After a clock that stepped back it may
        /// weigh again, but need not.
        left: bool,
    }

    impl Oracle for Log {
        /// The least is exact; the most is what a window longer by 1/64 holds.
        fn used(&self, policy: &Policy, now_us: Micros) -> (u128, u128) {
            let sum = |weighs: &dyn Fn(&Logged) -> bool| {
                self.0
                    .iter()
                    .filter(|entry| weighs(entry))
                    .map(|entry| u128::from(entry.cost))
                    .sum()
            };
            let age_us = |entry: &Logged| now_us - entry.at_us;
            let least = sum(&|entry| !entry.left && age_us(entry) < policy.window_us);
            let most = sum(&|entry| 64 * age_us(entry) < 65 * policy.window_us);
            (least, most)
        }

        fn step_back(&mut self, now_us: Micros) {
            for entry in &mut self.0 {
                entry.at_us = now_us.min(entry.at_us);
            }
        }

        fn charge(&mut self, policy: &Policy, id: usize, cost: Cost, now_us: Micros) {
            for entry in &mut self.0 {
                entry.left |= now_us - entry.at_us >= policy.window_us;
            }
            self.0.push(Logged { id, at_us: now_us, cost, left: false });
        }

        fn settle(&mut self, policy: &Policy, id: usize, settlement: &Settlement, now_us: Micros) {
            let entry = self.0.iter_mut().find(|entry| entry.id == id).unwrap();
            if entry.left {
                entry.cost = entry.cost.max(settlement.actual);
            } else if now_us - entry.at_us < policy.window_us {
                entry.cost = settlement.actual;
            }
        }
    }

    fn granted(window: &mut Sliding, policy: &Policy, cost: Cost, now_us: Micros) -> bool {
        let fits = window.quota(policy, policy.limit, cost, now_us).retry_after_us == Some(0);
        if fits {
            window.charge(policy, cost, now_us);
        }
        fits
    }

    #[test]
    fn no_second_burst_comes_through_at_a_boundary() {
        let mut window = Sliding::default();
        let calls = (0..300).map(|call| 63 * SECOND + call * 10_000);
        let granted = calls.filter(|now_us| granted(&mut window, &HUNDRED, 1, *now_us));
        assert_eq!(granted.count(), 100);
        assert_eq!(window.quota(&HUNDRED, 100, 1, 126 * SECOND).remaining(), 0);
    }

    #[test]
    fn a_call_is_denied_less_than_a_64th_of_the_window_too_long() {
        let mut window = Sliding::default();
        for call in 0..99 {
            window.charge(&HUNDRED, 1, 10 * SECOND + call);
        }
        window.charge(&HUNDRED, 1, 20 * SECOND);
        // The first charge leaves at 74 s; all that came in its second do in the
        // last microsecond before 75 s.
        let denied = check(&window, &HUNDRED, 100, 1, 20 * SECOND);
        assert_eq!(denied.retry_after_us, Some(55 * SECOND - 1));
    }

    #[test]
    fn charges_of_the_same_microsecond_are_one() {
        let mut window = Sliding::default();
        for _ in 0..99 {
            window.charge(&HUNDRED, 1, 5);
        }
        let charges: Vec<_> = window.0.charges(&HUNDRED).collect();
        assert_eq!(charges, [Charge { at_us: 5, cost: 99 }]);
        assert_eq!(check(&window, &HUNDRED, 100, 2, 6).retry_after_us, Some(64 * SECOND - 1));
    }

    #[test]
    fn the_largest_amounts_do_not_wrap() {
        let largest = Policy::new(MAX_AMOUNT, MAX_WINDOW_US);
        let mut window = Sliding::default();
        window.charge(&largest, MAX_AMOUNT, MAX_TIME_US);
        let full = check(&window, &largest, MAX_AMOUNT, MAX_AMOUNT, MAX_TIME_US);
        assert_eq!((full.remaining(), full.retry_after_us), (0, Some(MAX_WINDOW_US)));
        for call in 0..100 {
            window.charge(&largest, u64::MAX, MAX_TIME_US + call * MAX_WINDOW_US / 64);
        }
        let last_us = MAX_TIME_US + 99 * MAX_WINDOW_US / 64;
        assert_eq!(
            check(&window, &largest, MAX_AMOUNT, MAX_AMOUNT + 1, last_us).retry_after_us,
            None
        );
    }

    #[test]
    fn limits_of_1_and_0() {
        let one = Policy { limit: 1, ..HUNDRED };
        let mut window = Sliding::default();
        assert!(granted(&mut window, &one, 1, 7));
        assert!(!granted(&mut window, &one, 1, HUNDRED.window_us + 6));
        assert!(granted(&mut window, &one, 1, HUNDRED.window_us + 7));
        assert_eq!(check(&window, &one, 0, 1, HUNDRED.window_us + 8).retry_after_us, None);
        // More again: what was used is used.
        let relaxed = check(&window, &HUNDRED, 100, 1, HUNDRED.window_us + 8);
        assert_eq!((relaxed.remaining(), relaxed.retry_after_us), (99, Some(0)));
    }

    #[test]
    fn a_charge_is_settled_where_it_sits_until_it_has_left() {
        let mut window = Sliding::default();
        let position = window.charge(&HUNDRED, 40, 10 * SECOND);
        for call in 1..90 {
            window.charge(&HUNDRED, 1, 10 * SECOND + call * SECOND / 2);
        }
        assert!(!window.0.exact());
        let last_us = 55 * SECOND;
        let mut settle = |actual, now_us| {
            let settlement = Settlement { position, estimate: 40, actual };
            window.settle(&HUNDRED, &settlement, now_us);
            window.used(&HUNDRED, last_us)
        };
        assert_eq!(settle(10, 74 * SECOND), 129);
        assert_eq!(settle(10, last_us), 99);
        assert_eq!(settle(70, last_us), 129);
    }

    #[test]
    fn a_clock_that_steps_back_grants_nothing_again_and_waits_one_window_at_most() {
        let mut window = Sliding::default();
        let mut position = window.charge(&HUNDRED, 100, 10_000 * SECOND);
        let ahead = window.quota(&HUNDRED, 100, 1, 10 * SECOND);
        assert_eq!((ahead.remaining(), ahead.retry_after_us), (0, Some(HUNDRED.window_us)));
        window.rewind_to(&HUNDRED, iter::once(&mut position), 10 * SECOND);
        assert_eq!(check(&window, &HUNDRED, 100, 1, 10 * SECOND), ahead);
        let settlement = Settlement { position, estimate: 100, actual: 0 };
        window.settle(&HUNDRED, &settlement, 11 * SECOND);
        assert_eq!(window, Sliding::default());
    }

    #[test]
    fn a_charge_that_had_left_when_the_clock_stepped_back_is_not_settled() {
        let mut window = Sliding::default();
        let mut position = window.charge(&HUNDRED, 5, 0);
        window.charge(&HUNDRED, 9, SECOND / 2);
        for call in 0..80 {
            window.charge(&HUNDRED, 1, HUNDRED.window_us + call * 5_000);
        }
        assert!(!window.0.exact());
        window.rewind_to(&HUNDRED, iter::once(&mut position), 60 * SECOND);
        assert_eq!(position, Position::GONE);
    }

    proptest! {
        #[test]
        fn decides_as_a_list_of_every_charge_does(traffic in traffic(300)) {
            follow::<Sliding, Log>(Algorithm::Sliding, traffic);
        }

        #[test]
        fn no_trailing_window_has_more_than_the_limit(
            limit in 1u64..300,
            window_us in 1_000u64..10_000,
            calls in prop::collection::vec((0u64..60, 1u64..6), 1..600),
        ) {
            let policy = Policy::new(limit, window_us);
            let mut window = Sliding::default();
            let mut now_us = 0;
            let mut taken: Vec<(Micros, Cost)> = Vec::new();
            for (step_us, cost) in calls {
                now_us += step_us;
                if granted(&mut window, &policy, cost, now_us) {
                    taken.push((now_us, cost));
                }
            }
            for (end, (end_us, _)) in taken.iter().enumerate() {
                let trailing = taken[..=end].iter().filter(|(at_us, _)| end_us - at_us < window_us);
                prop_assert!(trailing.map(|(_, cost)| cost).sum::<u64>() <= limit);
            }
        }

        #[test]
        fn limits_up_to_65_are_exact(
            limit in 1u64..=65,
            window_us in 1_000u64..10_000,
            calls in prop::collection::vec((0u64..100, 1u64..4), 1..600),
        ) {
            let policy = Policy::new(limit, window_us);
            let mut window = Sliding::default();
            let mut now_us = 0;
            let mut taken: Vec<(Micros, Cost)> = Vec::new();
            for (step_us, cost) in calls {
                now_us += step_us;
                taken.retain(|(at_us, _)| now_us - at_us < window_us);
                let used: u64 = taken.iter().map(|(_, cost)| cost).sum();
                let newest_us = taken.last().map_or(0, |(at_us, _)| at_us + window_us - now_us);
                let quota = check(&window, &policy, limit, cost, now_us);
                prop_assert_eq!((quota.remaining(), quota.reset_after_us), (limit - used, newest_us));
                if granted(&mut window, &policy, cost, now_us) {
                    taken.push((now_us, cost));
                }
            }
        }

        #[test]
        fn no_state_makes_anything_wrap(
            exact: bool,
            steps in prop::collection::vec((0..=MAX_TIME_US, any::<u64>()), 0..70),
            ordeal in ordeal(),
        ) {
            let mut at_us = ordeal.now_us;
            let mut charges: Vec<_> = steps.iter().map(|(step_us, cost)| {
                at_us = at_us.saturating_sub(step_us % ordeal.policy.window_us / 32);
                Charge { at_us, cost: cost >> 30 }
            }).collect();
            charges.reverse();
            if let Some(log) = SlidingLog::from_charges(&ordeal.policy, exact, &charges) {
                endure(Sliding(log), &ordeal);
            }
        }
    }
}
