//! GCRA: a token bucket that refills all the time.
//!
//! The generic cell rate algorithm of ITU-T I.371, in its form as a leaky
//! bucket: what is kept is the debt, the tokens that the bucket lacks, which
//! drains at `limit` tokens in `window_us`.
//!
//! The debt is exact. A token has `window_us` parts, of which every microsecond
//! refills `limit`: whole numbers both, so nothing is ever rounded, whatever
//! the rate and however many calls there were. A debt of 2^64 tokens has fewer
//! than 2^109 parts, and no refill has more than 2^115.

use super::policy::{Cost, MAX_WAIT_US, Policy};
use super::window::{Mark, Reading, Settlement, Window};
use crate::time::Micros;

/// A token bucket. The default is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gcra {
    /// The tokens that the bucket lacked at `updated_us`,
    pub debt_tokens: u64,
    /// and the rest of that debt, in parts of which a token has `window_us`.
    pub debt_parts: u64,
    /// When the debt was this much.
    pub updated_us: Micros,
    /// The tokens ever charged, which wrap: by their difference a charge knows
    /// how many were charged after it.
    pub charged: u64,
}

/// The parts of `tokens`.
fn parts(policy: &Policy, tokens: u64) -> u128 {
    u128::from(tokens) * u128::from(policy.window_us)
}

/// The longest that a debt is kept. A limit of 0 refills nothing: there, debt
/// goes with the window, as it does in the other algorithms, or the key would
/// never go.
fn longest_debt_us(policy: &Policy) -> Micros {
    if policy.limit == 0 { policy.window_us } else { MAX_WAIT_US }
}

/// Quotient and remainder; `None` for a divisor of 0. Nearly every debt fits
/// into a word, for which there is an instruction.
fn quotient(dividend: u128, divisor: u64) -> Option<(u128, u64)> {
    match u64::try_from(dividend) {
        Ok(dividend) => {
            Some((dividend.checked_div(divisor)?.into(), dividend.checked_rem(divisor)?))
        }
        Err(_) => {
            let wide = u128::from(divisor);
            let remainder = dividend.checked_rem(wide)?;
            Some((dividend.checked_div(wide)?, u64::try_from(remainder).unwrap_or_default()))
        }
    }
}

/// How long the refill of so many parts takes.
fn refill_us(policy: &Policy, parts: u128) -> Micros {
    if parts == 0 {
        return 0;
    }
    let longest_us = longest_debt_us(policy);
    let exact_us = quotient(parts - 1, policy.limit).map(|(us, _)| us + 1);
    exact_us.and_then(|us| us.try_into().ok()).map_or(longest_us, |us: u64| us.min(longest_us))
}

impl Gcra {
    /// The debt at `now_us`, in parts.
    fn debt(&self, policy: &Policy, now_us: Micros) -> u128 {
        let elapsed_us = now_us.saturating_sub(self.updated_us);
        if elapsed_us >= longest_debt_us(policy) {
            return 0;
        }
        let refilled = u128::from(elapsed_us) * u128::from(policy.limit);
        let debt = parts(policy, self.debt_tokens).saturating_add(self.debt_parts.into());
        debt.saturating_sub(refilled)
    }

    /// Notes the debt as it is at `now_us`.
    fn owe(&mut self, policy: &Policy, debt: u128, now_us: Micros) {
        let (tokens, parts) = quotient(debt, policy.window_us).unwrap_or_default();
        self.debt_tokens = u64::try_from(tokens).unwrap_or(u64::MAX);
        self.debt_parts = parts;
        self.updated_us = now_us;
    }
}

impl Window for Gcra {
    fn capacity(policy: &Policy) -> u64 {
        if policy.limit == 0 { 0 } else { policy.burst }
    }

    fn advance(&mut self, policy: &Policy, now_us: Micros) {
        if self.updated_us != now_us {
            self.owe(policy, self.debt(policy, now_us), now_us);
        }
    }

    fn is_ahead(&self, now_us: Micros) -> bool {
        self.updated_us > now_us
    }

    /// The queue of charges does not know the time: all marks stay.
    fn follow_clock_back<'m>(
        &mut self,
        _: &Policy,
        _: impl Iterator<Item = &'m mut Mark>,
        now_us: Micros,
    ) -> bool {
        let ahead = self.is_ahead(now_us);
        self.updated_us = self.updated_us.min(now_us);
        ahead
    }

    /// The tokens lacking, one that is lacking in part too.
    fn used(&self, policy: &Policy, now_us: Micros) -> u64 {
        let (tokens, parts) =
            quotient(self.debt(policy, now_us), policy.window_us).unwrap_or_default();
        u64::try_from(tokens).map_or(u64::MAX, |tokens| tokens.saturating_add((parts > 0).into()))
    }

    fn read(&self, policy: &Policy, cost: Cost, now_us: Micros) -> Reading {
        let bucket = Self { updated_us: self.updated_us.min(now_us), ..*self };
        let capacity = Self::capacity(policy);
        let wanted = bucket.debt(policy, now_us).saturating_add(parts(policy, cost));
        let lacking = wanted.saturating_sub(parts(policy, capacity));
        let reset_after_us = bucket.full_at(policy).saturating_sub(now_us);
        let retry_after_us = refill_us(policy, lacking).min(reset_after_us);
        Reading {
            remaining: capacity.saturating_sub(bucket.used(policy, now_us)),
            retry_after_us: (cost <= capacity).then_some(retry_after_us),
            reset_after_us,
        }
    }

    fn charge(&mut self, policy: &Policy, cost: Cost, now_us: Micros) -> Mark {
        self.advance(policy, now_us);
        self.debt_tokens = self.debt_tokens.saturating_add(cost);
        self.charged = self.charged.wrapping_add(cost);
        Mark(self.charged)
    }

    /// Refills pay off the oldest charges first: what is given back is at most
    /// the part of this charge that they have not reached. What it cost beyond
    /// the estimate is charged now. A refund leaves a gap in the queue, which
    /// the charges before it move up to close. If they are paid, that changes
    /// nothing, and where this one is paid in part they are.
    fn settle<'m>(
        &mut self,
        policy: &Policy,
        settlement: &Settlement,
        others: impl Iterator<Item = &'m mut Mark>,
        now_us: Micros,
    ) {
        let Settlement { mark, estimate, actual } = *settlement;
        if actual >= estimate {
            self.charge(policy, actual - estimate, now_us);
            return;
        }
        let behind = self.charged.wrapping_sub(mark.0);
        let debt = self.debt(policy, now_us);
        let unpaid = debt.saturating_sub(parts(policy, behind)).min(parts(policy, estimate));
        let refund = unpaid.min(parts(policy, estimate - actual));
        self.owe(policy, debt - refund, now_us);
        for other in others.filter(|other| self.charged.wrapping_sub(other.0) > behind) {
            other.0 = other.0.wrapping_add(estimate - actual);
        }
    }

    fn full_at(&self, policy: &Policy) -> Micros {
        let debt = self.debt(policy, self.updated_us);
        self.updated_us.saturating_add(refill_us(policy, debt))
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::{MAX_TIME_US, MAX_WINDOW_US};
    use super::super::testing::{Oracle, check, endure, follow, no_marks, ordeal, traffic};
    use super::*;
    use crate::bounds::MAX_AMOUNT;
    use proptest::prelude::*;

    const SECOND: Micros = 1_000_000;

    /// The oracle: the parts of each charge that no refill has paid yet.
    #[derive(Clone, Default)]
    struct Queue {
        unpaid: Vec<(usize, u128)>,
        paid_at_us: Micros,
    }

    impl Oracle for Queue {
        fn used(&self, policy: &Policy, now_us: Micros) -> (u128, u128) {
            let mut queue = self.clone();
            queue.advance(policy, now_us);
            let unpaid: u128 = queue.unpaid.iter().map(|(_, parts)| parts).sum();
            let tokens = unpaid.div_ceil(policy.window_us.into());
            (tokens, tokens)
        }

        fn advance(&mut self, policy: &Policy, now_us: Micros) {
            let elapsed_us = now_us - self.paid_at_us;
            self.paid_at_us = now_us;
            let mut refill = u128::from(elapsed_us) * u128::from(policy.limit);
            for (_, unpaid) in &mut self.unpaid {
                let paid = refill.min(*unpaid);
                *unpaid -= paid;
                refill -= paid;
            }
            if elapsed_us >= longest_debt_us(policy) {
                self.unpaid.clear();
            }
            self.unpaid.retain(|(_, parts)| *parts > 0);
        }

        fn step_back(&mut self, now_us: Micros) {
            self.paid_at_us = self.paid_at_us.min(now_us);
        }

        fn charge(&mut self, policy: &Policy, id: usize, cost: Cost, now_us: Micros) {
            self.advance(policy, now_us);
            self.unpaid.push((id, u128::from(cost) * u128::from(policy.window_us)));
        }

        fn settle(&mut self, policy: &Policy, id: usize, settlement: &Settlement, now_us: Micros) {
            self.advance(policy, now_us);
            let Settlement { estimate, actual, .. } = *settlement;
            if let Some(extra @ 1..) = actual.checked_sub(estimate) {
                return self.charge(policy, usize::MAX, extra, now_us);
            }
            let refund = u128::from(estimate - actual) * u128::from(policy.window_us);
            for (_, unpaid) in self.unpaid.iter_mut().filter(|(charge, _)| *charge == id) {
                *unpaid = unpaid.saturating_sub(refund);
            }
        }
    }

    /// A full bucket of 10 that refills one a second.
    const TEN: Policy = Policy::new(10, 10 * SECOND);

    fn charged(policy: &Policy, cost: Cost, now_us: Micros) -> Gcra {
        let mut bucket = Gcra::default();
        bucket.charge(policy, cost, now_us);
        bucket
    }

    /// Each token is taken in the very microsecond in which it is there.
    #[test]
    fn does_not_drift_in_a_hundred_million_admissions() {
        const ADMISSIONS: u64 = 100_000_000;
        let policy = Policy { limit: 999_983, window_us: 3_000_017, burst: 1_009 };
        let mut bucket = Gcra::default();
        let mut now_us = 0;
        for _ in 0..ADMISSIONS {
            now_us += bucket.read(&policy, 1, now_us).retry_after_us.unwrap();
            bucket.charge(&policy, 1, now_us);
        }
        let waited_for = (ADMISSIONS - policy.burst) * policy.window_us;
        assert_eq!(now_us, waited_for.div_ceil(policy.limit));
        let debt = u128::from(ADMISSIONS * policy.window_us - now_us * policy.limit);
        assert_eq!(bucket.debt(&policy, now_us), debt);
    }

    #[test]
    fn no_rounding_admits_early() {
        let thirds = Policy { limit: 3, window_us: SECOND, burst: 1 };
        let bucket = charged(&thirds, 1, 0);
        assert_eq!(check(&bucket, &thirds, 1, 0).retry_after_us, Some(333_334));
        assert_eq!(bucket.read(&thirds, 1, 333_333).retry_after_us, Some(1));
    }

    #[test]
    fn ten_million_a_second_come_through_to_the_last() {
        let policy = Policy::new(10_000_000, SECOND);
        let mut bucket = charged(&policy, policy.limit, 0);
        for now_us in 1..=SECOND {
            assert_eq!(bucket.read(&policy, 10, now_us).remaining, 10);
            assert_eq!(bucket.read(&policy, 11, now_us).retry_after_us, Some(1));
            bucket.charge(&policy, 10, now_us);
        }
    }

    #[test]
    fn a_cost_above_the_capacity_never_fits_and_the_rest_stays_true() {
        let daily = Policy::new(1, 86_400 * SECOND);
        let denied = check(&Gcra::default(), &daily, 213_504, 5);
        assert_eq!(denied, Reading { remaining: 1, retry_after_us: None, reset_after_us: 0 });
        let denied = check(&charged(&TEN, 4, 0), &TEN, 11, SECOND);
        let expected = Reading { remaining: 7, retry_after_us: None, reset_after_us: 3 * SECOND };
        assert_eq!(denied, expected);
    }

    #[test]
    fn the_largest_amounts_do_not_wrap() {
        let slow = Policy { limit: 1, window_us: MAX_WINDOW_US, burst: MAX_AMOUNT };
        let mut bucket = charged(&slow, MAX_AMOUNT, MAX_TIME_US);
        let exhausted = Reading {
            remaining: 0,
            retry_after_us: Some(MAX_WINDOW_US),
            reset_after_us: MAX_WAIT_US,
        };
        assert_eq!(check(&bucket, &slow, 1, MAX_TIME_US), exhausted);
        for _ in 0..3_000 {
            bucket.charge(&slow, MAX_AMOUNT, MAX_TIME_US);
        }
        assert_eq!(bucket.used(&slow, MAX_TIME_US), u64::MAX);
        let forced = check(&bucket, &slow, 1, MAX_TIME_US);
        assert_eq!((forced.remaining, forced.retry_after_us), (0, Some(MAX_WAIT_US)));
    }

    #[test]
    fn new_figures_apply_at_once_to_the_debt_there_is() {
        let daily = Policy::new(1, 86_400 * SECOND);
        let mut bucket = charged(&daily, 1, 0);
        bucket.advance(&daily, 3_600 * SECOND);
        let relaxed = Policy::new(10, 86_400 * SECOND);
        assert_eq!(check(&bucket, &relaxed, 1, 3_600 * SECOND).remaining, 9);
        // What went by before went by at the old rate: full again, and stays so.
        let mut bucket = charged(&TEN, 10, 0);
        bucket.advance(&TEN, 10 * SECOND);
        let slow = Policy { limit: 1, ..TEN };
        assert_eq!(check(&bucket, &slow, 1, 10 * SECOND).remaining, 10);
        // A burst lowered below the debt.
        let bucket = charged(&TEN, 8, 0);
        let lowered = check(&bucket, &Policy { burst: 5, ..TEN }, 1, 0);
        assert_eq!((lowered.remaining, lowered.retry_after_us), (0, Some(4 * SECOND)));
    }

    #[test]
    fn a_limit_of_0_denies_always_and_keeps_no_debt_for_longer_than_a_window() {
        let nothing = Policy { limit: 0, ..TEN };
        let denied = check(&charged(&TEN, 4, 0), &nothing, 1, 0);
        let expected =
            Reading { remaining: 0, retry_after_us: None, reset_after_us: TEN.window_us };
        assert_eq!(denied, expected);
    }

    #[test]
    fn a_clock_that_steps_back_grants_nothing_again_and_lengthens_no_wait() {
        let mut bucket = charged(&TEN, 10, 10_000 * SECOND);
        let ahead = bucket.read(&TEN, 3, 10 * SECOND);
        assert!(bucket.follow_clock_back(&TEN, no_marks(), 10 * SECOND));
        assert_eq!(check(&bucket, &TEN, 3, 10 * SECOND), ahead);
        assert_eq!((ahead.remaining, ahead.retry_after_us), (0, Some(3 * SECOND)));
    }

    #[test]
    fn a_refund_gives_back_what_no_refill_has_paid() {
        let mut bucket = Gcra::default();
        let mark = bucket.charge(&TEN, 10, 0);
        bucket.charge(&TEN, 9, 9 * SECOND);
        let settlement = Settlement { mark, estimate: 10, actual: 0 };
        bucket.settle(&TEN, &settlement, no_marks(), 9 * SECOND);
        assert_eq!(bucket.used(&TEN, 9 * SECOND), 9);
        // Twice, or past full: nothing more to give back.
        bucket.settle(&TEN, &settlement, no_marks(), 9 * SECOND);
        assert_eq!(bucket.used(&TEN, 9 * SECOND), 9);
        bucket.settle(&TEN, &settlement, no_marks(), 60 * SECOND);
        assert_eq!(bucket.used(&TEN, 60 * SECOND), 0);
    }

    #[test]
    fn what_costs_more_than_estimated_is_charged_into_debt() {
        let mut bucket = Gcra::default();
        let mark = bucket.charge(&TEN, 10, 0);
        bucket.settle(&TEN, &Settlement { mark, estimate: 10, actual: 15 }, no_marks(), 0);
        assert_eq!(check(&bucket, &TEN, 1, 0).retry_after_us, Some(6 * SECOND));
    }

    #[test]
    fn charges_settled_in_any_order_give_back_all_they_did_not_cost() {
        let mut bucket = Gcra::default();
        let mut marks: Vec<Mark> = (0..5).map(|_| bucket.charge(&TEN, 2, 0)).collect();
        for last in [3, 3, 0, 1, 0] {
            let settlement = Settlement { mark: marks.remove(last), estimate: 2, actual: 1 };
            bucket.settle(&TEN, &settlement, marks.iter_mut(), 0);
        }
        assert_eq!(bucket.used(&TEN, 0), 5);
    }

    proptest! {
        #[test]
        fn decides_as_a_queue_of_every_charge_does(traffic in traffic(80)) {
            follow::<Gcra, Queue>(traffic);
        }

        #[test]
        fn no_state_makes_anything_wrap(
            debt_tokens: u64,
            debt_parts: u64,
            updated_us in 0..=MAX_TIME_US,
            charged: u64,
            ordeal in ordeal(),
        ) {
            endure(Gcra { debt_tokens, debt_parts, updated_us, charged }, &ordeal);
            let updated_us = ordeal.now_us;
            let debt_tokens = debt_tokens >> 10;
            endure(Gcra { debt_tokens, debt_parts, updated_us, charged }, &ordeal);
        }
    }
}
