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
//!
//! The debt is kept as the last charge left it, with the time of that: what the
//! time since pays is for whoever asks to say, by the rate that it brings. So a
//! refund lowers the debt and leaves that time as it is.

use super::meter::{Meter, Position, Settlement};
use super::policy::{Cost, MAX_WAIT_US, Policy};
use super::quota::Quota;
use crate::bug;
use crate::time::Micros;

/// A token bucket. The default is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gcra {
    /// The tokens that the bucket lacked at `charged_us`,
    pub debt_tokens: u64,
    /// and the rest of that debt, in parts of which a token has `window_us`.
    pub debt_parts: u64,
    /// When the last charge came.
    pub charged_us: Micros,
    /// The tokens ever charged, which wrap: by their difference a charge knows
    /// how many were charged after it.
    pub charged: u64,
}

/// The parts of `tokens`.
fn parts(policy: &Policy, tokens: u64) -> u128 {
    u128::from(tokens) * u128::from(policy.window_us)
}

/// The tokens in so many parts, one that is there in part too.
fn tokens(policy: &Policy, parts: u128) -> u64 {
    let tokens =
        quotient(parts, policy.window_us).map(|(whole, rest)| whole + u128::from(rest > 0));
    tokens.and_then(|tokens| u64::try_from(tokens).ok()).unwrap_or(u64::MAX)
}

/// The longest that a debt is kept. A limit of 0 refills nothing: there, debt
/// goes with the window, as it does in the other algorithms, or the key would
/// never go.
fn longest_debt_us(policy: &Policy) -> Micros {
    if policy.limit == 0 { policy.window_us } else { MAX_WAIT_US }
}

/// Quotient and remainder; `None` for a divisor of 0. Nearly every debt fits
/// into a word, for which there is an instruction.
fn quotient(dividend: u128, divisor: u64) -> Option<(u128, u128)> {
    match u64::try_from(dividend) {
        Ok(dividend) => {
            let (quotient, remainder) =
                (dividend.checked_div(divisor)?, dividend.checked_rem(divisor)?);
            Some((quotient.into(), remainder.into()))
        }
        Err(_) => {
            let divisor = u128::from(divisor);
            Some((dividend.checked_div(divisor)?, dividend.checked_rem(divisor)?))
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
    /// The debt as the last charge left it, in parts.
    fn debt_then(&self, policy: &Policy) -> u128 {
        parts(policy, self.debt_tokens).saturating_add(self.debt_parts.into())
    }

    /// The debt at `now_us`, in parts.
    fn debt(&self, policy: &Policy, now_us: Micros) -> u128 {
        let elapsed_us = now_us.saturating_sub(self.charged_us);
        if elapsed_us >= longest_debt_us(policy) {
            return 0;
        }
        let refilled = u128::from(elapsed_us) * u128::from(policy.limit);
        self.debt_then(policy).saturating_sub(refilled)
    }

    /// Takes note of the debt at the time of the last charge. What is more than
    /// can be counted stays as much as can be.
    fn owe(&mut self, policy: &Policy, debt: u128) {
        let noted = quotient(debt, policy.window_us).and_then(|(tokens, parts)| {
            Some((u64::try_from(tokens).ok()?, u64::try_from(parts).ok()?))
        });
        (self.debt_tokens, self.debt_parts) = noted.unwrap_or((u64::MAX, 0));
    }
}

impl Meter for Gcra {
    fn is_ahead(&self, _: &Policy, now_us: Micros) -> bool {
        self.charged_us > now_us
    }

    /// The queue of charges does not know the time: all positions stay.
    fn rewind_to<'p>(
        &mut self,
        _: &Policy,
        _: impl Iterator<Item = &'p mut Position>,
        now_us: Micros,
    ) {
        self.charged_us = self.charged_us.min(now_us);
    }

    fn used(&self, policy: &Policy, now_us: Micros) -> u64 {
        tokens(policy, self.debt(policy, now_us))
    }

    fn quota(&self, policy: &Policy, capacity: u64, cost: Cost, now_us: Micros) -> Quota {
        let bucket = Self { charged_us: self.charged_us.min(now_us), ..*self };
        let debt = bucket.debt(policy, now_us);
        let lacking = debt.saturating_add(parts(policy, cost));
        let lacking = lacking.saturating_sub(parts(policy, capacity));
        // No debt is kept for longer than that.
        let forgotten_us = bucket.charged_us.saturating_add(longest_debt_us(policy));
        let paid_after_us =
            |parts| refill_us(policy, parts).min(forgotten_us.saturating_sub(now_us));
        Quota {
            limit: capacity,
            used: tokens(policy, debt),
            retry_after_us: (cost <= capacity).then(|| paid_after_us(lacking)),
            reset_after_us: paid_after_us(debt),
        }
    }

    fn charge(&mut self, policy: &Policy, cost: Cost, now_us: Micros) -> Position {
        if self.charged_us != now_us {
            self.owe(policy, self.debt(policy, now_us));
            self.charged_us = now_us;
        }
        self.debt_tokens = self.debt_tokens.saturating_add(cost);
        self.charged = self.charged.wrapping_add(cost);
        Position(self.charged)
    }

    /// Refills pay off the oldest charges first: what is given back is at most
    /// the part of this charge that they have not reached. What it cost beyond
    /// the estimate is charged now. A refund leaves a gap in the queue, of whole
    /// tokens: where this charge was paid in part, those before it are paid, unless
    /// the clock steps back.
    fn settle(&mut self, policy: &Policy, settlement: &Settlement, now_us: Micros) -> Cost {
        let Settlement { position, estimate, actual } = *settlement;
        if actual > estimate {
            self.charge(policy, actual - estimate, now_us);
        }
        if actual >= estimate {
            return 0;
        }
        let behind = self.charged.wrapping_sub(position.0);
        let debt = self.debt(policy, now_us);
        let unpaid = debt.saturating_sub(parts(policy, behind)).min(parts(policy, estimate));
        let refund = unpaid.min(parts(policy, estimate - actual));
        self.owe(policy, self.debt_then(policy).saturating_sub(refund));
        let gap = quotient(refund, policy.window_us).map(|(tokens, _)| tokens);
        match gap.map(u64::try_from) {
            Some(Ok(gap)) => gap,
            _ => bug("a refund of more than was charged"),
        }
    }

    fn reset_at(&self, policy: &Policy) -> Micros {
        self.charged_us.saturating_add(refill_us(policy, self.debt_then(policy)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::{Algorithm, MAX_WINDOW_US};
    use super::super::testing::{self, Oracle, endure, follow, no_positions, ordeal, traffic};
    use super::*;
    use crate::bounds::{MAX_AMOUNT, MAX_TIME_US};
    use proptest::prelude::*;

    const SECOND: Micros = 1_000_000;

    /// The oracle: the parts of each charge that no refill had paid at the last
    /// charge.
    #[derive(Clone, Default)]
    struct Queue {
        unpaid: Vec<(usize, u128)>,
        charged_us: Micros,
        /// How many charges were given back in part: of each less than a token
        /// may be missing where the clock steps back later.
        parted: u128,
    }

    impl Queue {
        /// What no refill has paid at `now_us`.
        fn unpaid(&self, policy: &Policy, now_us: Micros) -> Vec<(usize, u128)> {
            let elapsed_us = now_us - self.charged_us;
            if elapsed_us >= longest_debt_us(policy) {
                return Vec::new();
            }
            let mut refill = u128::from(elapsed_us) * u128::from(policy.limit);
            let mut unpaid = self.unpaid.clone();
            for (_, parts) in &mut unpaid {
                let paid = refill.min(*parts);
                *parts -= paid;
                refill -= paid;
            }
            unpaid
        }
    }

    impl Oracle for Queue {
        fn used(&self, policy: &Policy, now_us: Micros) -> (u128, u128) {
            let unpaid: u128 = self.unpaid(policy, now_us).iter().map(|(_, parts)| parts).sum();
            let tokens = unpaid.div_ceil(policy.window_us.into());
            (tokens, tokens + self.parted)
        }

        fn step_back(&mut self, now_us: Micros) {
            self.charged_us = self.charged_us.min(now_us);
        }

        fn charge(&mut self, policy: &Policy, id: usize, cost: Cost, now_us: Micros) {
            self.unpaid = self.unpaid(policy, now_us);
            self.unpaid.push((id, u128::from(cost) * u128::from(policy.window_us)));
            self.charged_us = now_us;
        }

        fn settle(&mut self, policy: &Policy, id: usize, settlement: &Settlement, now_us: Micros) {
            let Settlement { estimate, actual, .. } = *settlement;
            if let Some(extra @ 1..) = actual.checked_sub(estimate) {
                return self.charge(policy, usize::MAX, extra, now_us);
            }
            let refund = u128::from(estimate - actual) * u128::from(policy.window_us);
            let unpaid = self.unpaid(policy, now_us);
            let left =
                unpaid.iter().filter(|(charge, _)| *charge == id).map(|(_, parts)| parts).sum();
            self.parted += u128::from(left < refund);
            for (_, parts) in self.unpaid.iter_mut().filter(|(charge, _)| *charge == id) {
                *parts -= refund.min(left);
            }
        }
    }

    fn quota(bucket: &Gcra, policy: &Policy, cost: Cost, now_us: Micros) -> Quota {
        bucket.quota(policy, policy.capacity(Algorithm::Gcra), cost, now_us)
    }

    fn check(bucket: &Gcra, policy: &Policy, cost: Cost, now_us: Micros) -> Quota {
        testing::check(bucket, policy, policy.capacity(Algorithm::Gcra), cost, now_us)
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
            now_us += quota(&bucket, &policy, 1, now_us).retry_after_us.unwrap();
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
        assert_eq!(quota(&bucket, &thirds, 1, 333_333).retry_after_us, Some(1));
    }

    #[test]
    fn ten_million_a_second_come_through_to_the_last() {
        let policy = Policy::new(10_000_000, SECOND);
        let mut bucket = charged(&policy, policy.limit, 0);
        for now_us in 1..=SECOND {
            assert_eq!(quota(&bucket, &policy, 10, now_us).remaining(), 10);
            assert_eq!(quota(&bucket, &policy, 11, now_us).retry_after_us, Some(1));
            bucket.charge(&policy, 10, now_us);
        }
    }

    #[test]
    fn a_cost_above_the_capacity_never_fits_and_the_rest_stays_true() {
        let daily = Policy::new(1, 86_400 * SECOND);
        let denied = check(&Gcra::default(), &daily, 213_504, 5);
        assert_eq!(denied, Quota::unused(1, 213_504));
        let denied = check(&charged(&TEN, 4, 0), &TEN, 11, SECOND);
        let expected =
            Quota { limit: 10, used: 3, retry_after_us: None, reset_after_us: 3 * SECOND };
        assert_eq!(denied, expected);
    }

    #[test]
    fn the_largest_amounts_do_not_wrap() {
        let slow = Policy { limit: 1, window_us: MAX_WINDOW_US, burst: MAX_AMOUNT };
        let mut bucket = charged(&slow, MAX_AMOUNT, MAX_TIME_US);
        let exhausted = Quota {
            limit: MAX_AMOUNT,
            used: MAX_AMOUNT,
            retry_after_us: Some(MAX_WINDOW_US),
            reset_after_us: MAX_WAIT_US,
        };
        assert_eq!(check(&bucket, &slow, 1, MAX_TIME_US), exhausted);
        for _ in 0..3_000 {
            bucket.charge(&slow, MAX_AMOUNT, MAX_TIME_US);
        }
        assert_eq!(bucket.used(&slow, MAX_TIME_US), u64::MAX);
        let forced = check(&bucket, &slow, 1, MAX_TIME_US);
        assert_eq!((forced.remaining(), forced.retry_after_us), (0, Some(MAX_WAIT_US)));
    }

    #[test]
    fn a_limit_of_0_denies_always_and_keeps_no_debt_for_longer_than_a_window() {
        let nothing = Policy { limit: 0, ..TEN };
        let denied = check(&charged(&TEN, 4, 0), &nothing, 1, 0);
        let expected =
            Quota { limit: 0, used: 4, retry_after_us: None, reset_after_us: TEN.window_us };
        assert_eq!(denied, expected);
    }

    #[test]
    fn a_clock_that_steps_back_grants_nothing_again_and_lengthens_no_wait() {
        let mut bucket = charged(&TEN, 10, 10_000 * SECOND);
        let ahead = quota(&bucket, &TEN, 3, 10 * SECOND);
        bucket.rewind_to(&TEN, no_positions(), 10 * SECOND);
        assert_eq!(check(&bucket, &TEN, 3, 10 * SECOND), ahead);
        assert_eq!((ahead.remaining(), ahead.retry_after_us), (0, Some(3 * SECOND)));
    }

    #[test]
    fn a_refund_gives_back_what_no_refill_has_paid() {
        let mut bucket = Gcra::default();
        let position = bucket.charge(&TEN, 10, 0);
        bucket.charge(&TEN, 9, 9 * SECOND);
        let settlement = Settlement { position, estimate: 10, actual: 0 };
        bucket.settle(&TEN, &settlement, 9 * SECOND);
        assert_eq!(bucket.used(&TEN, 9 * SECOND), 9);
        // Twice, or past full: nothing more to give back.
        bucket.settle(&TEN, &settlement, 9 * SECOND);
        assert_eq!(bucket.used(&TEN, 9 * SECOND), 9);
        bucket.settle(&TEN, &settlement, 60 * SECOND);
        assert_eq!(bucket.used(&TEN, 60 * SECOND), 0);
    }

    #[test]
    fn what_costs_more_than_estimated_is_charged_into_debt() {
        let mut bucket = Gcra::default();
        let position = bucket.charge(&TEN, 10, 0);
        bucket.settle(&TEN, &Settlement { position, estimate: 10, actual: 15 }, 0);
        assert_eq!(check(&bucket, &TEN, 1, 0).retry_after_us, Some(6 * SECOND));
    }

    #[test]
    fn charges_settled_in_any_order_give_back_all_they_did_not_cost() {
        let mut bucket = Gcra::default();
        let mut positions: Vec<Position> = (0..5).map(|_| bucket.charge(&TEN, 2, 0)).collect();
        for last in [3, 3, 0, 1, 0] {
            let settlement =
                Settlement { position: positions.remove(last), estimate: 2, actual: 1 };
            let gap = bucket.settle(&TEN, &settlement, 0);
            positions.iter_mut().take(last).for_each(|before| before.0 += gap);
        }
        assert_eq!(bucket.used(&TEN, 0), 5);
    }

    proptest! {
        #[test]
        fn decides_as_a_queue_of_every_charge_does(traffic in traffic(80)) {
            follow::<Gcra, Queue>(Algorithm::Gcra, traffic);
        }

        #[test]
        fn no_state_makes_anything_wrap(
            debt_tokens: u64,
            debt_parts: u64,
            charged_us in 0..=MAX_TIME_US,
            charged: u64,
            ordeal in ordeal(),
        ) {
            endure(Gcra { debt_tokens, debt_parts, charged_us, charged }, &ordeal);
            let charged_us = ordeal.now_us;
            let debt_tokens = debt_tokens >> 10;
            endure(Gcra { debt_tokens, debt_parts, charged_us, charged }, &ordeal);
        }
    }
}
