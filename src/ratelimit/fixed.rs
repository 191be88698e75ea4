//! Fixed windows: a counter that starts over.
//!
//! The window opens with the first charge and closes `window_us` later. Up to
//! twice the limit can pass around a boundary; that is what a fixed window is.

use super::meter::{Meter, Position, Settlement};
use super::policy::{Cost, Policy};
use super::quota::Quota;
use crate::time::Micros;

/// The counter of one window. The default is one that has closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fixed {
    /// When the first charge came. It is the position of all charges since.
    pub opened_us: Micros,
    /// What has been charged since.
    pub used: u64,
}

impl Fixed {
    /// The window as it stands at `now_us`: one that has closed is empty.
    fn at(self, policy: &Policy, now_us: Micros) -> Self {
        let opened_us = self.opened_us.min(now_us);
        if self.used == 0 || now_us - opened_us >= policy.window_us {
            Self { opened_us: now_us, used: 0 }
        } else {
            Self { opened_us, used: self.used }
        }
    }
}

impl Meter for Fixed {
    fn is_ahead(&self, _: &Policy, now_us: Micros) -> bool {
        self.opened_us > now_us
    }

    /// The positions in the window follow it; those in windows before it must not
    /// come to look like them.
    fn rewind_to<'p>(
        &mut self,
        policy: &Policy,
        positions: impl Iterator<Item = &'p mut Position>,
        now_us: Micros,
    ) {
        if !self.is_ahead(policy, now_us) {
            return;
        }
        for position in positions.filter(|position| position.0 >= now_us) {
            let here = position.0 == self.opened_us;
            *position = if here { Position(now_us) } else { Position::GONE };
        }
        self.opened_us = now_us;
    }

    fn used(&self, policy: &Policy, now_us: Micros) -> u64 {
        self.at(policy, now_us).used
    }

    fn quota(&self, policy: &Policy, capacity: u64, cost: Cost, now_us: Micros) -> Quota {
        let window = self.at(policy, now_us);
        Quota::counted(capacity, window.used, cost, window.reset_at(policy) - now_us)
    }

    fn charge(&mut self, policy: &Policy, cost: Cost, now_us: Micros) -> Position {
        *self = self.at(policy, now_us);
        self.used = self.used.saturating_add(cost);
        Position(self.opened_us)
    }

    /// A window that has closed since is left alone.
    fn settle(&mut self, policy: &Policy, settlement: &Settlement, now_us: Micros) -> Cost {
        if settlement.position == Position(self.opened_us) && self.used(policy, now_us) > 0 {
            self.used = settlement.correct(self.used);
        }
        0
    }

    fn reset_at(&self, policy: &Policy) -> Micros {
        match self.used {
            0 => self.opened_us,
            _ => self.opened_us.saturating_add(policy.window_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::Algorithm;
    use super::super::testing::{Oracle, check, endure, follow, no_positions, ordeal, traffic};
    use super::*;
    use crate::bounds::MAX_TIME_US;
    use proptest::prelude::*;

    const SECOND: Micros = 1_000_000;
    const POLICY: Policy = Policy::new(10, 60 * SECOND);

    /// The oracle: every charge is kept with its time; the window is the run
    /// of charges from the first one that found no window open.
    #[derive(Default)]
    struct Run {
        charges: Vec<(usize, Micros, Cost)>,
    }

    impl Oracle for Run {
        fn used(&self, policy: &Policy, now_us: Micros) -> (u128, u128) {
            let used: u128 = self.charges.iter().map(|(_, _, cost)| u128::from(*cost)).sum();
            match self.charges.first() {
                Some((_, opened_us, _)) if now_us < opened_us + policy.window_us => (used, used),
                _ => (0, 0),
            }
        }

        fn step_back(&mut self, now_us: Micros) {
            for (_, at_us, _) in &mut self.charges {
                *at_us = now_us.min(*at_us);
            }
        }

        fn charge(&mut self, policy: &Policy, id: usize, cost: Cost, now_us: Micros) {
            if self.used(policy, now_us).0 == 0 {
                self.charges.clear();
            }
            self.charges.push((id, now_us, cost));
        }

        fn settle(&mut self, policy: &Policy, id: usize, settlement: &Settlement, now_us: Micros) {
            if self.used(policy, now_us).0 > 0 {
                for (_, _, cost) in self.charges.iter_mut().filter(|(charge, ..)| *charge == id) {
                    *cost = settlement.actual;
                }
            }
        }
    }

    #[test]
    fn the_window_opens_with_the_first_charge() {
        let mut window = Fixed::default();
        let idle = window.quota(&POLICY, 10, 1, 5 * SECOND);
        assert_eq!(idle, Quota::unused(10, 1));
        window.charge(&POLICY, 4, 5 * SECOND);
        let open = check(&window, &POLICY, 10, 7, 20 * SECOND);
        assert_eq!((open.remaining(), open.retry_after_us), (6, Some(45 * SECOND)));
        assert_eq!((open.reset_after_us, window.reset_at(&POLICY)), (45 * SECOND, 65 * SECOND));
    }

    #[test]
    fn a_cost_above_the_limit_never_fits() {
        assert_eq!(check(&Fixed::default(), &POLICY, 10, 11, 0).retry_after_us, None);
        assert_eq!(check(&Fixed::default(), &POLICY, 0, 1, 0).retry_after_us, None);
    }

    #[test]
    fn a_clock_that_steps_back_grants_nothing_again_and_waits_one_window_at_most() {
        let mut window = Fixed::default();
        window.charge(&POLICY, 10, 10_000 * SECOND);
        let back = window.quota(&POLICY, 10, 1, 10 * SECOND);
        assert_eq!((back.remaining(), back.retry_after_us), (0, Some(POLICY.window_us)));
        window.rewind_to(&POLICY, no_positions(), 10 * SECOND);
        assert_eq!(window.quota(&POLICY, 10, 1, 70 * SECOND).retry_after_us, Some(0));
    }

    #[test]
    fn positions_follow_a_clock_that_steps_back_with_their_window() {
        let mut window = Fixed::default();
        let mut positions = [100, 170].map(|at_s| window.charge(&POLICY, 1, at_s * SECOND));
        window.rewind_to(&POLICY, positions.iter_mut(), 50 * SECOND);
        assert_eq!(positions, [Position::GONE, Position(50 * SECOND)]);
    }

    #[test]
    fn usage_saturates() {
        let mut window = Fixed::default();
        window.charge(&POLICY, u64::MAX, 0);
        window.charge(&POLICY, u64::MAX, 0);
        assert_eq!(window.used, u64::MAX);
        assert_eq!(window.quota(&POLICY, 10, 1, 0).remaining(), 0);
    }

    #[test]
    fn a_settlement_leaves_a_window_alone_that_opened_later() {
        let mut window = Fixed::default();
        let position = window.charge(&POLICY, 8, 0);
        let settlement = Settlement { position, estimate: 8, actual: 3 };
        window.settle(&POLICY, &settlement, 60 * SECOND - 1);
        assert_eq!(window.used(&POLICY, 60 * SECOND - 1), 3);
        window.charge(&POLICY, 9, 60 * SECOND);
        for actual in [3, 10] {
            window.settle(&POLICY, &Settlement { actual, ..settlement }, 61 * SECOND);
            assert_eq!(window.used(&POLICY, 61 * SECOND), 9);
        }
    }

    proptest! {
        #[test]
        fn decides_as_a_list_of_every_charge_does(traffic in traffic(80)) {
            follow::<Fixed, Run>(Algorithm::Fixed, traffic);
        }

        #[test]
        fn no_state_makes_anything_wrap(
            opened_us in 0..=MAX_TIME_US,
            used: u64,
            ordeal in ordeal(),
        ) {
            endure(Fixed { opened_us, used }, &ordeal);
            endure(Fixed { opened_us: ordeal.now_us, used }, &ordeal);
        }
    }
}
