//! Fixed windows: a counter that starts over.
//!
//! The window opens with the first charge and closes `window_us` later. Up to
//! twice the limit can pass around a boundary; that is what a fixed window is.

use super::policy::{Cost, Policy, Reading};
use crate::time::Micros;

/// The counter of one window. The default is one that has closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fixed {
    /// When the first charge came.
    pub opened_us: Micros,
    /// What has been charged since.
    pub used: u64,
}

impl Fixed {
    /// The window as it stands at `now_us`: one that has closed is empty. A
    /// clock that stepped back counts as no time passed, so that nothing is
    /// granted again and no wait exceeds one window.
    fn at(self, policy: &Policy, now_us: Micros) -> Self {
        let opened_us = self.opened_us.min(now_us);
        if self.used == 0 || now_us - opened_us >= policy.window_us {
            Self { opened_us: now_us, used: 0 }
        } else {
            Self { opened_us, used: self.used }
        }
    }

    /// After the clock stepped back: counts the window as opened now, and says
    /// whether it had to. Left ahead of the clock, it would stay shut until the
    /// clock had caught up, and a window more.
    pub fn follow_clock_back(&mut self, now_us: Micros) -> bool {
        let ahead = self.opened_us > now_us;
        if ahead {
            self.opened_us = now_us;
        }
        ahead
    }

    /// What the window says to a call of `cost`.
    pub fn read(self, policy: &Policy, cost: Cost, now_us: Micros) -> Reading {
        let window = self.at(policy, now_us);
        let remaining = policy.limit.saturating_sub(window.used);
        let closes_after_us = match window.used {
            0 => 0,
            _ => policy.window_us - (now_us - window.opened_us),
        };
        let retry_after_us = match cost {
            _ if cost <= remaining => Some(0),
            _ if cost <= policy.limit => Some(closes_after_us),
            _ => None,
        };
        Reading { remaining, retry_after_us, reset_after_us: closes_after_us }
    }

    /// Charges `cost`, whether or not it fits.
    pub fn charge(&mut self, policy: &Policy, cost: Cost, now_us: Micros) {
        *self = self.at(policy, now_us);
        self.used = self.used.saturating_add(cost);
    }

    /// When the window is back at full.
    pub fn full_at(self, policy: &Policy) -> Micros {
        self.opened_us.saturating_add(policy.window_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Micros = 1_000_000;
    const POLICY: Policy = Policy { limit: 10, window_us: 60 * SECOND };

    /// The oracle: every charge is kept with its time; the window is the run
    /// of charges from the first one that found no window open.
    #[derive(Default)]
    struct Oracle {
        charges: Vec<(i128, u64)>,
    }

    impl Oracle {
        fn step_back_to(&mut self, now: i128) {
            for (at, _) in &mut self.charges {
                *at = (*at).min(now);
            }
        }

        fn call(&mut self, policy: &Policy, cost: u64, now: i128) -> bool {
            self.step_back_to(now);
            let window = i128::from(policy.window_us);
            let open = self.charges.first().is_some_and(|(opened, _)| now < opened + window);
            let used: u128 = self.charges.iter().map(|(_, cost)| u128::from(*cost)).sum();
            let granted = u128::from(cost) + if open { used } else { 0 } <= policy.limit.into();
            if granted {
                if !open {
                    self.charges.clear();
                }
                self.charges.push((now, cost));
            }
            granted
        }
    }

    #[test]
    fn the_window_opens_with_the_first_charge() {
        let mut window = Fixed::default();
        let idle = window.read(&POLICY, 1, 5 * SECOND);
        assert_eq!(idle, Reading { remaining: 10, retry_after_us: Some(0), reset_after_us: 0 });
        window.charge(&POLICY, 4, 5 * SECOND);
        let open = window.read(&POLICY, 7, 20 * SECOND);
        assert_eq!(
            open,
            Reading {
                remaining: 6,
                retry_after_us: Some(45 * SECOND),
                reset_after_us: 45 * SECOND
            }
        );
        assert_eq!(window.full_at(&POLICY), 65 * SECOND);
        assert_eq!(window.read(&POLICY, 10, 65 * SECOND).retry_after_us, Some(0));
        assert_ne!(window.read(&POLICY, 10, 65 * SECOND - 1).retry_after_us, Some(0));
    }

    #[test]
    fn a_cost_above_the_limit_never_fits() {
        assert_eq!(Fixed::default().read(&POLICY, 11, 0).retry_after_us, None);
        let nothing = Policy { limit: 0, ..POLICY };
        assert_eq!(Fixed::default().read(&nothing, 1, 0).retry_after_us, None);
    }

    #[test]
    fn a_clock_that_steps_back_grants_nothing_again_and_waits_one_window_at_most() {
        let mut window = Fixed::default();
        window.charge(&POLICY, 10, 10_000 * SECOND);
        let back = window.read(&POLICY, 1, 10 * SECOND);
        assert_eq!(back.remaining, 0);
        assert_eq!(back.retry_after_us, Some(POLICY.window_us));
        assert!(window.follow_clock_back(10 * SECOND));
        assert_eq!(window.read(&POLICY, 1, 70 * SECOND).retry_after_us, Some(0));
    }

    #[test]
    fn usage_saturates() {
        let mut window = Fixed::default();
        window.charge(&POLICY, u64::MAX, 0);
        window.charge(&POLICY, u64::MAX, 0);
        assert_eq!(window.used, u64::MAX);
        assert_eq!(window.read(&POLICY, 1, 0).remaining, 0);
    }

    proptest! {
        #[test]
        fn decides_as_a_list_of_every_charge_does(
            limit in prop_oneof![0u64..20, Just(1 << 53), 0u64..=1 << 53],
            window_us in prop_oneof![1_000u64..100_000, Just(31_622_400_000_000)],
            calls in prop::collection::vec(
                (-60_000i64..90_000, prop_oneof![1u64..5, 1u64..=1 << 53], 0u64..30),
                1..80,
            ),
        ) {
            let mut window = Fixed::default();
            let mut oracle = Oracle::default();
            let mut now: u64 = 1_800_000_000_000_000;
            let mut policy = Policy { limit, window_us };
            for (step_us, cost, relimit) in calls {
                now = now.checked_add_signed(step_us).unwrap();
                if relimit < 2 {
                    policy.limit = relimit * limit / 2;
                }
                let peeked = window.read(&policy, cost, now);
                window.follow_clock_back(now);
                let reading = window.read(&policy, cost, now);
                prop_assert_eq!(peeked, reading);
                // The wait is exact: granted after it, denied a microsecond before.
                if let Some(wait) = reading.retry_after_us.filter(|wait| *wait > 0) {
                    prop_assert!(wait <= policy.window_us);
                    let sooner = window.read(&policy, cost, now + wait - 1);
                    prop_assert_ne!(sooner.retry_after_us, Some(0));
                    let then = window.read(&policy, cost, now + wait);
                    prop_assert_eq!(then.retry_after_us, Some(0));
                }
                let full = window.read(&policy, 1, now + reading.reset_after_us);
                prop_assert_eq!(full.remaining, policy.limit);
                let granted = reading.retry_after_us == Some(0);
                prop_assert_eq!(granted, oracle.call(&policy, cost, i128::from(now)));
                if granted {
                    window.charge(&policy, cost, now);
                }
            }
        }
    }
}
