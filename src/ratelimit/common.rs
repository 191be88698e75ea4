//! The call that most are: a cost of one limit, on a fixed window that is open, was
//! charged under the same limit before, and has room. What the limit says of it takes a
//! step; whatever else there may be is for [`Limiter::decide_any`].

use super::change::{Change, Step};
use super::limiter::Limiter;
use super::policy::{Algorithm, Cost, Policy};
use super::quota::Quota;
use super::request::{Decision, Mode, Request};
use super::window::{Usage, Window};
use crate::bug;
use crate::time::Micros;

impl Limiter {
    /// What the limit says before a charge of that kind; `None` of any other.
    fn room_for(&self, policy: &Policy, cost: Cost, now_us: Micros) -> Option<Quota> {
        let Self::One(Window { policy: own, usage: Usage::Fixed(fixed) }) = self else {
            return None;
        };
        let open_for_us = now_us.checked_sub(fixed.opened_us)?;
        let is_open = fixed.used > 0 && open_for_us < policy.window_us;
        let has_room = cost > 0 && cost <= policy.limit.saturating_sub(fixed.used);
        let reset_after_us = policy.window_us.saturating_sub(open_for_us);
        let Policy { limit, .. } = *policy;
        (own == policy && is_open && has_room).then_some(Quota {
            limit,
            used: fixed.used,
            retry_after_us: Some(0),
            reset_after_us,
        })
    }

    /// Charges a cost of 1 if it is of that kind: what the limit says then, which is
    /// what [`decide`](Self::decide) and [`apply`](Self::apply) would come to by
    /// [the change](charge_of). Else nothing is done.
    pub fn charge_one(&mut self, policy: &Policy, now_us: Micros) -> Option<Quota> {
        let after = self.room_for(policy, 1, now_us)?.charged(1);
        self.charge_common(&after);
        Some(after)
    }

    /// Makes a charge that was decided to be of that kind: what the limit says then. It is
    /// what [`apply`](Self::apply) comes to, and leaves the end of the key where it is.
    pub fn charge_common(&mut self, after: &Quota) {
        match self {
            Self::One(Window { usage: Usage::Fixed(fixed), .. }) => fixed.used = after.used,
            _ => bug("a common charge of a limiter that takes none"),
        }
    }

    /// Decides on a call if it is of that kind, as [`decide_any`](Self::decide_any)
    /// would.
    pub fn decide_common<'r>(&self, request: &'r Request, now_us: Micros) -> Option<Decision<'r>> {
        let Request { cost, hold: None, has_burst: false, algorithm, .. } = *request else {
            return None;
        };
        let ([policy], None | Some(Algorithm::Fixed)) = (&*request.policies, algorithm) else {
            return None;
        };
        let quota = self.room_for(policy, cost, now_us)?;
        let charge = (request.mode != Mode::Peek).then(|| charge_of(policy, cost, now_us));
        Some(Decision {
            algorithm: Algorithm::Fixed,
            allowed: true,
            granted: cost,
            quota,
            after: charge.map(|_| quota.charged(cost)),
            change: charge,
            ahead: false,
            full: false,
            hold: None,
        })
    }
}

/// A charge of that kind, as it is told to replicas.
pub fn charge_of(policy: &Policy, cost: Cost, now_us: Micros) -> Change<'_> {
    let policies = std::slice::from_ref(policy);
    let step = Step::Charge { algorithm: Algorithm::Fixed, policies, cost, hold: None };
    Change { now_us, step }
}

#[cfg(test)]
mod tests {
    use super::super::fixed::Fixed;
    use super::super::policy::MIN_WINDOW_US;
    use super::*;
    use crate::server::{Changeable, Lives};
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
            now_us in 0u64..5_000, is_other in 0u8..8, cost in 0u64..4,
            mode in prop::sample::select(&[Mode::Whole, Mode::Partial, Mode::Force, Mode::Peek]),
        ) {
            let usage = match is_other {
                0 => Usage::Gcra(Default::default()),
                _ => Usage::Fixed(Fixed { opened_us, used }),
            };
            let before = Limiter::One(Window { policy: own, usage });
            let request = Request {
                policies: [policy].into_iter().collect(),
                algorithm: None,
                default_algorithm: Algorithm::default(),
                has_burst: false,
                cost,
                mode,
                hold: None,
                max_holds: 1,
            };
            let mut charged = before.clone();
            let one = charged.charge_one(&policy, now_us);
            let long = Limiter::decide_any(Some(&before), &request, now_us).unwrap();
            let Some(short) = before.decide_common(&request, now_us) else {
                // Nothing that is common is left to the long way.
                let is_common = own == policy && is_other != 0 && used > 0 && !long.ahead
                    && now_us - opened_us < policy.window_us
                    && cost > 0 && cost <= policy.limit.saturating_sub(used);
                prop_assert!(!is_common);
                return Ok(());
            };
            prop_assert_eq!(Decision { after: None, ..short }, long);
            let Some(change) = short.change else {
                prop_assert_eq!((mode, short.after), (Mode::Peek, None));
                return Ok(());
            };
            prop_assert_eq!(change, charge_of(&policy, cost, now_us));
            let mut oracle = before.clone();
            oracle.apply(&change);
            let mut decided = before.clone();
            decided.charge_common(&short.after.unwrap());
            prop_assert_eq!(&decided, &oracle);
            prop_assert_eq!(oracle.lives().moved_from(before.lives()), Lives::AsBefore);
            let after = Limiter::quota(
                Some(&oracle), Algorithm::Fixed, &[policy], cost, true, now_us,
            );
            prop_assert_eq!(short.after, Some(Quota { retry_after_us: Some(0), ..after }));
            if cost == 1 {
                prop_assert_eq!((one, charged), (short.after, oracle));
            }
        }

        #[test]
        fn what_is_not_charged_is_left_as_it_is(
            own in policies(), policy in policies(), used in 0u64..5, opened_us in 0u64..2_000,
            now_us in 0u64..5_000,
        ) {
            let usage = Usage::Fixed(Fixed { opened_us, used });
            let before = Limiter::One(Window { policy: own, usage });
            let mut charged = before.clone();
            if charged.charge_one(&policy, now_us).is_none() {
                prop_assert_eq!(charged, before);
            }
        }
    }
}
