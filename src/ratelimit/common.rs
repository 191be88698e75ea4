//! The call that most are: a cost of 1, of one limit, on a fixed window that is open,
//! was charged under the same limit before, and has room. It is decided and charged in
//! a step; whatever else there may be is for [`Limiter::decide`].

use super::change::{Change, Step};
use super::limiter::Limiter;
use super::policy::{Algorithm, Policy};
use super::quota::Quota;
use super::window::{Usage, Window};
use crate::time::Micros;

impl Limiter {
    /// Charges a call if it is of that kind: what the limit says then, which is what
    /// [`decide`](Self::decide) and [`apply`](Self::apply) would come to by
    /// [the change](charge_of_one). Else nothing is done.
    pub fn charge_one(&mut self, policy: &Policy, now_us: Micros) -> Option<Quota> {
        let Self::One(Window { policy: own, usage: Usage::Fixed(fixed) }) = self else {
            return None;
        };
        let open_for_us = now_us.checked_sub(fixed.opened_us)?;
        let is_open = fixed.used > 0 && open_for_us < policy.window_us;
        if own != policy || !is_open || fixed.used >= policy.limit {
            return None;
        }
        fixed.used += 1;
        let reset_after_us = policy.window_us - open_for_us;
        let Policy { limit, .. } = *policy;
        Some(Quota { limit, used: fixed.used, retry_after_us: Some(0), reset_after_us })
    }
}

/// What [`Limiter::charge_one`] does, as it is told to replicas.
pub fn charge_of_one(policy: &Policy, now_us: Micros) -> Change<'_> {
    let policies = std::slice::from_ref(policy);
    let step = Step::Charge { algorithm: Algorithm::Fixed, policies, cost: 1, hold: None };
    Change { now_us, step }
}

#[cfg(test)]
mod tests {
    use super::super::fixed::Fixed;
    use super::super::policy::MIN_WINDOW_US;
    use super::super::request::{Mode, Request};
    use super::*;
    use proptest::prelude::*;

    fn policies() -> impl Strategy<Value = Policy> {
        let limits = prop_oneof![0u64..4, Just(1 << 50)];
        (limits, MIN_WINDOW_US..MIN_WINDOW_US + 3)
            .prop_map(|(limit, window_us)| Policy::new(limit, window_us))
    }

    proptest! {
        #[test]
        fn it_is_what_the_long_way_comes_to_or_nothing(
            own in policies(), policy in policies(), used in 0u64..5, opened_us in 0u64..2_000,
            now_us in 0u64..5_000, is_other in 0u8..8,
        ) {
            let usage = match is_other {
                0 => Usage::Gcra(Default::default()),
                _ => Usage::Fixed(Fixed { opened_us, used }),
            };
            let before = Limiter::One(Window { policy: own, usage });
            let mut charged = before.clone();
            let found = charged.charge_one(&policy, now_us);
            let request = Request {
                policies: [policy].into_iter().collect(),
                algorithm: None,
                default_algorithm: Algorithm::default(),
                has_burst: false,
                cost: 1,
                mode: Mode::Whole,
                hold: None,
                max_holds: 1,
            };
            let decision = Limiter::decide(Some(&before), &request, now_us).unwrap();
            let Some(quota) = found else {
                prop_assert_eq!(&charged, &before);
                // Nothing that is common is left to the long way.
                let is_common = own == policy && is_other != 0 && used > 0 && !decision.ahead
                    && now_us - opened_us < policy.window_us && decision.allowed;
                prop_assert!(!is_common);
                return Ok(());
            };
            prop_assert!(decision.allowed && decision.granted == 1);
            prop_assert_eq!(decision.change, Some(charge_of_one(&policy, now_us)));
            let mut oracle = before;
            oracle.apply(&charge_of_one(&policy, now_us));
            prop_assert_eq!(&charged, &oracle);
            let policies = [policy];
            let algorithm = Algorithm::Fixed;
            let after = Limiter::quota(Some(&oracle), algorithm, &policies, 1, true, now_us);
            let after = Quota { retry_after_us: Some(0), ..after };
            prop_assert_eq!(quota, after);
        }
    }
}
