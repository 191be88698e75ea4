//! Windows decided together, holds, and a replica that applies what was decided.

use super::*;
use crate::bounds::MAX_AMOUNT;
use crate::ratelimit::closing::Close;
use crate::ratelimit::codec;
use crate::ratelimit::policy::{Policies, closing};
use proptest::prelude::*;

const SECOND: Micros = 1_000_000;
const MILLI: Micros = MICROS_PER_MILLI;

fn request(pairs: &[(u64, u64)], cost: Cost) -> Request {
    let policies = pairs.iter().map(|(limit, seconds)| Policy::new(*limit, seconds * SECOND));
    Request {
        policies: Policies::from_iter(policies),
        algorithm: None,
        default_algorithm: Algorithm::Fixed,
        has_burst: false,
        cost,
        mode: Mode::Whole,
        hold: None,
        max_holds: 2,
    }
}

/// A token bucket.
fn bucket(limit: u64, seconds: u64, burst: u64, cost: Cost) -> Request {
    let mut request = request(&[(limit, seconds)], cost);
    request.policies[0].burst = burst;
    Request { algorithm: Some(Algorithm::Gcra), has_burst: true, ..request }
}

/// A hold to be opened.
fn held(ttl_ms: Millis) -> Option<HoldRequest> {
    Some(HoldRequest { id: Id([0; 16]), ttl_ms })
}

/// A key, and the replica of it: both apply what is decided.
#[derive(Default)]
struct Key {
    limiter: Option<Limiter>,
    replica: Option<Limiter>,
    ids: u8,
}

impl Key {
    fn decide<'r>(&self, request: &'r Request, now_us: Micros) -> Result<Decision<'r>, Refusal> {
        Limiter::decide(self.limiter.as_ref(), request, now_us)
    }

    fn apply(&mut self, change: &Change) {
        self.limiter.get_or_insert_default().apply(change);
        let mut payload = Vec::new();
        codec::encode_change(change, &mut payload);
        let mut policies = Policies::new();
        let sent = codec::decode_change(&payload, &mut policies).unwrap();
        assert!(Limiter::takes(self.replica.as_ref(), &sent), "{sent:?}");
        self.replica.get_or_insert_default().apply(&sent);
        assert_eq!(self.replica, self.limiter);
    }

    /// What is granted, what the limits say then, and the hold, whose id is a new
    /// one.
    fn hold(
        &mut self,
        request: &Request,
        now_us: Micros,
    ) -> Result<(Cost, Quota, Option<Id>), Refusal> {
        let mut request = request.clone();
        if let Some(hold) = &mut request.hold {
            self.ids += 1;
            hold.id = Id([self.ids; 16]);
        }
        self.hold_again(&request, now_us)
    }

    /// The same, by the id that the request brings.
    fn hold_again(
        &mut self,
        request: &Request,
        now_us: Micros,
    ) -> Result<(Cost, Quota, Option<Id>), Refusal> {
        let decision = self.decide(request, now_us)?;
        decision.check_room()?;
        let Decision { algorithm, granted, mut quota, hold, .. } = decision;
        if let Some(change) = &decision.change {
            self.apply(change);
            let (policies, all) = (&request.policies, granted == request.cost);
            let limiter = self.limiter.as_ref();
            if granted > 0 {
                quota = Limiter::quota(limiter, algorithm, policies, request.cost, all, now_us);
            }
        }
        Ok((granted, quota, hold))
    }

    fn call(&mut self, request: &Request, now_us: Micros) -> Result<(Cost, Quota), Refusal> {
        self.hold(request, now_us).map(|(granted, quota, _)| (granted, quota))
    }

    fn settle(&mut self, id: Id, actual: Cost, now_us: Micros) -> bool {
        let limiter = self.limiter.as_ref();
        let change =
            limiter.and_then(|limiter| limiter.decide_settlement(id, Some(actual), now_us));
        change.inspect(|change| self.apply(change)).is_some()
    }

    fn fits(&self, request: &Request, now_us: Micros) -> bool {
        self.decide(request, now_us).unwrap().quota.retry_after_us == Some(0)
    }

    fn remaining(&self, pairs: &[(u64, u64)], now_us: Micros) -> u64 {
        let look = Request { mode: Mode::Peek, ..request(pairs, 1) };
        self.decide(&look, now_us).unwrap().quota.remaining()
    }
}

#[test]
fn a_key_with_one_window_is_one_block_of_64_bytes() {
    assert_eq!(size_of::<Limiter>(), 64);
    let mut key = Key::default();
    key.call(&request(&[(10, 60)], 1), 0).unwrap();
    key.call(&request(&[(10, 60)], 1), SECOND).unwrap();
    assert!(matches!(key.limiter, Some(Limiter::One(_))));
}

#[test]
fn one_hold_of_a_key_with_one_window_is_one_block_more() {
    let mut key = Key::default();
    let request = Request { hold: held(1_000), ..request(&[(10, 60)], 1) };
    let (_, _, id) = key.hold(&request, 0).unwrap();
    let Some(Limiter::Held(parts)) = &key.limiter else { panic!("{:?}", key.limiter) };
    assert_eq!(parts.ledger.heap_bytes(), 0);
    assert!(key.settle(id.unwrap(), 1, 1));
    assert!(matches!(key.limiter, Some(Limiter::One(_))));
}

#[test]
fn the_window_that_binds_answers() {
    let mut key = Key::default();
    let (granted, quota) = key.call(&request(&[(10, 1), (12, 60)], 9), 0).unwrap();
    assert_eq!((granted, quota.limit, quota.remaining()), (9, 10, 1));
    // Both deny: the longer wait binds.
    let (granted, quota) = key.call(&request(&[(10, 1), (12, 60)], 4), 0).unwrap();
    let retry_after_us = quota.retry_after_us;
    assert_eq!((granted, quota.limit, retry_after_us), (0, 12, Some(60 * SECOND)));
    // One that never can is the longest wait.
    let (_, quota) = key.call(&request(&[(10, 1), (12, 60)], 11), 0).unwrap();
    assert_eq!((quota.limit, quota.retry_after_us), (10, None));
}

#[test]
fn windows_asked_for_by_turns_keep_what_is_used_of_them() {
    let mut key = Key::default();
    let granted: Vec<_> = (0..8)
        .map(|call| key.call(&request(&[(1, 60 + call % 2)], 1), call * SECOND).unwrap().0)
        .collect();
    assert_eq!(granted, [1, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(key.limiter.as_ref().unwrap().expires_at_ms(), 62_000);
    // When they are back at full, they are forgotten.
    key.call(&request(&[(1, 10)], 1), 100 * SECOND).unwrap();
    assert_eq!(key.limiter.unwrap().windows().len(), 1);
}

#[test]
fn no_more_windows_are_kept_than_there_may_be() {
    let mut key = Key::default();
    for seconds in 1..=20 {
        key.call(&request(&[(1, 1_000 - seconds)], 1), 0).unwrap();
    }
    let limiter = key.limiter.as_ref().unwrap();
    assert_eq!(limiter.windows().len(), MAX_WINDOWS);
    assert_eq!(key.remaining(&[(1, 980)], 0), 0, "what was charged last is kept");
}

#[test]
fn another_algorithm_takes_over_what_is_used() {
    let mut key = Key::default();
    key.call(&request(&[(10, 60), (20, 600)], 7), 0).unwrap();
    for algorithm in [Algorithm::Sliding, Algorithm::Gcra, Algorithm::Fixed] {
        let call = Request { algorithm: Some(algorithm), ..request(&[(10, 60)], 1) };
        assert_eq!(key.call(&call, 0).unwrap().0, 1);
        let limiter = key.limiter.as_ref().unwrap();
        assert!(limiter.windows().iter().all(|window| window.algorithm() == Some(algorithm)));
        assert_eq!(key.remaining(&[(20, 600)], 0), 13, "and of all windows");
    }
    assert_eq!(key.remaining(&[(10, 60)], 0), 0);
    // Without a word, a key keeps its own.
    let call = Request { default_algorithm: Algorithm::Gcra, ..request(&[(20, 60)], 1) };
    key.call(&call, 0).unwrap();
    assert_eq!(key.limiter.unwrap().algorithm(), Some(Algorithm::Fixed));
}

#[test]
fn part_of_a_cost_is_granted_and_all_of_it_forced() {
    let mut key = Key::default();
    let part = Request { mode: Mode::Partial, ..request(&[(10, 60), (6, 600)], 8) };
    assert_eq!(key.call(&part, 0).unwrap().0, 6);
    assert_eq!(key.call(&part, 0).unwrap().0, 0);
    let force = Request { mode: Mode::Force, ..request(&[(10, 60)], 8) };
    assert_eq!(key.call(&force, 0).unwrap().0, 8);
    assert_eq!(key.limiter.unwrap().windows()[0].used(0), 14);
}

#[test]
fn a_part_fits_the_window_with_the_least_left_whichever_has_the_longest_wait() {
    let mut key = Key::default();
    key.call(&request(&[(9, 1)], 8), 0).unwrap();
    let part = Request { mode: Mode::Partial, ..request(&[(9, 1), (5, 600)], 7) };
    let (granted, quota) = key.call(&part, 0).unwrap();
    assert_eq!((granted, quota.limit, quota.remaining()), (1, 5, 4));
}

#[test]
fn a_part_of_nothing_waits_for_the_first_unit() {
    let mut key = Key::default();
    key.call(&bucket(10, 10, 5, 5), 0).unwrap();
    // A cost that never fits whole is granted in part in a second.
    let part = Request { mode: Mode::Partial, ..bucket(10, 10, 5, 9) };
    let (granted, quota) = key.call(&part, 0).unwrap();
    assert_eq!((granted, quota.retry_after_us), (0, Some(SECOND)));
    assert_eq!(key.call(&part, SECOND).unwrap().0, 1);
}

#[test]
fn what_is_forced_beyond_the_limit_is_owed() {
    let mut key = Key::default();
    let force = Request { mode: Mode::Force, ..request(&[(10, 60), (20, 600)], 25) };
    let (_, quota) = key.call(&force, 0).unwrap();
    assert_eq!((quota.limit, quota.balance(), quota.remaining()), (10, -15, 0));
    let most = Request { cost: MAX_AMOUNT, ..force };
    for _ in 0..5_000 {
        key.call(&most, 0).unwrap();
    }
    assert_eq!(key.call(&most, 0).unwrap().1.balance(), i64::MIN, "and ends there");
}

#[test]
fn a_limit_that_was_raised_is_so_at_once() {
    // 1 in 10 s: told 10 s. 100 in 10 s: told 100 ms, and granted then.
    let mut key = Key::default();
    key.call(&bucket(1, 10, 1, 1), 0).unwrap();
    assert_eq!(key.call(&bucket(1, 10, 1, 1), 0).unwrap().1.retry_after_us, Some(10 * SECOND));
    let raised = bucket(100, 10, 1, 1);
    assert_eq!(key.call(&raised, 0).unwrap().1.retry_after_us, Some(100 * MILLI));
    assert!(!key.fits(&raised, 99 * MILLI));
    assert_eq!(key.call(&raised, 100 * MILLI).unwrap().0, 1);
}

#[test]
fn a_limit_that_was_lowered_keeps_nobody_out_for_longer_than_the_old_one() {
    let mut key = Key::default();
    key.call(&bucket(1_000, 2, 1_000, 1_000), 0).unwrap();
    let lowered = bucket(10, 2, 10, 1);
    // 991 are to be paid, at 500 a second.
    assert_eq!(key.call(&lowered, 0).unwrap().1.retry_after_us, Some(1_982 * MILLI));
    assert!(!key.fits(&lowered, 1_981 * MILLI));
    assert_eq!(key.call(&lowered, 1_982 * MILLI).unwrap().0, 1);
    // From then on time pays at the new rate.
    let (_, quota) = key.call(&lowered, 1_982 * MILLI).unwrap();
    assert_eq!(quota.retry_after_us, Some(200 * MILLI));
}

#[test]
fn only_a_grant_puts_another_limit_in_force() {
    let mut key = Key::default();
    key.call(&bucket(1, 10, 1, 1), 0).unwrap();
    let before = key.limiter.clone();
    for mode in [Mode::Whole, Mode::Partial, Mode::Peek] {
        let denied = Request { mode, ..bucket(2, 10, 1, 1) };
        assert_eq!(key.call(&denied, 0).unwrap().0, 0);
        let nothing = Request { mode, cost: 0, ..bucket(100, 10, 100, 1) };
        assert_eq!(key.call(&nothing, 5 * SECOND).unwrap().0, 0);
        assert_eq!(key.limiter, before, "{mode:?}");
    }
    let force = Request { mode: Mode::Force, ..bucket(2, 10, 1, 1) };
    key.call(&force, 0).unwrap();
    assert_eq!(key.limiter.unwrap().windows()[0].policy.limit, 2);
}

#[test]
fn a_refund_leaves_the_time_of_the_last_charge_and_a_surcharge_is_one() {
    let mut key = Key::default();
    let estimate = Request { hold: held(60_000), ..bucket(10, 10, 10, 10) };
    let (_, _, id) = key.hold(&estimate, 0).unwrap();
    assert!(key.settle(id.unwrap(), 4, 2 * SECOND));
    // 4 of 10 since then: at the caller's 20 in 10 s, 2 s have paid them.
    assert!(key.fits(&bucket(20, 10, 10, 10), 2 * SECOND));
    assert!(!key.fits(&bucket(10, 10, 10, 9), 2 * SECOND));

    let (_, _, id) = key.hold(&estimate, 4 * SECOND).unwrap();
    assert!(key.settle(id.unwrap(), 15, 5 * SECOND));
    // 14 are owed from then on, so that time before pays at no caller's rate.
    let quota = key.decide(&bucket(100, 10, 10, 1), 5 * SECOND).unwrap().quota;
    assert_eq!((quota.used, quota.retry_after_us), (14, Some(500 * MILLI)));
}

#[test]
fn another_algorithm_is_judged_by_what_the_old_one_says_until_it_is_charged() {
    let mut key = Key::default();
    key.call(&request(&[(10, 60)], 10), 0).unwrap();
    // A fixed window gives all back as it closes, also to a bucket.
    let gcra = Request { algorithm: Some(Algorithm::Gcra), ..request(&[(10, 60)], 1) };
    let (granted, quota) = key.call(&gcra, 30 * SECOND).unwrap();
    assert_eq!((granted, quota.retry_after_us), (0, Some(30 * SECOND)));
    assert_eq!(key.limiter.as_ref().unwrap().algorithm(), Some(Algorithm::Fixed));
    let raised = Request { algorithm: Some(Algorithm::Gcra), ..request(&[(12, 60)], 1) };
    assert_eq!(key.call(&raised, 30 * SECOND).unwrap().0, 1);
    // 11 are charged as of then, and paid at 12 in 60 s.
    let (_, quota) = key.call(&raised, 30 * SECOND).unwrap();
    assert_eq!((quota.remaining(), quota.reset_after_us), (0, 60 * SECOND));
}

#[test]
fn a_hold_is_settled_once_and_only_while_it_is_open() {
    let mut key = Key::default();
    let estimate = Request { hold: held(5_000), ..request(&[(10, 60)], 6) };
    let (_, _, first) = key.hold(&estimate, 0).unwrap();
    assert_eq!(key.hold(&estimate, 0).unwrap().2, None);
    assert!(!key.settle(Id([2; 16]), 0, 0), "a denied one leaves nothing behind");
    assert!(key.settle(first.unwrap(), 2, SECOND));
    assert!(!key.settle(first.unwrap(), 2, SECOND));
    assert!(matches!(key.limiter, Some(Limiter::One(_))));
    assert_eq!(key.remaining(&[(10, 60)], SECOND), 8);

    let (_, _, next) = key.hold(&estimate, SECOND).unwrap();
    assert!(!key.settle(next.unwrap(), 0, 6 * SECOND), "late");
    assert_eq!(key.remaining(&[(10, 60)], 6 * SECOND), 2);
}

#[test]
fn a_key_has_as_many_holds_open_as_it_may_and_outlives_them() {
    let mut key = Key::default();
    let estimate = Request { hold: held(90_000), ..request(&[(10, 60)], 1) };
    for _ in 0..2 {
        key.hold(&estimate, 0).unwrap();
    }
    assert_eq!(key.hold(&estimate, 0), Err(Refusal::TooManyHolds));
    // Whoever is denied has to wait, room or not.
    let beyond = Request { cost: 9, ..estimate.clone() };
    let (granted, quota, id) = key.hold(&beyond, 0).unwrap();
    assert_eq!((granted, quota.retry_after_us, id), (0, Some(60 * SECOND), None));
    // So it is when another key denies.
    let mut decision = key.decide(&estimate, 0).unwrap();
    assert_eq!(decision.check_room(), Err(Refusal::TooManyHolds));
    decision.deny();
    assert_eq!(decision.check_room(), Ok(()));
    assert!(!decision.allowed && decision.quota.retry_after_us == Some(0));
    assert_eq!(key.remaining(&[(10, 60)], 0), 8);
    assert_eq!(key.limiter.as_ref().unwrap().expires_at_ms(), 90_000);
    // Those that have ended make room.
    assert!(key.hold(&estimate, 90 * SECOND).is_ok());
    assert_eq!(key.limiter.unwrap().open(90 * SECOND), 1);
}

#[test]
fn a_clock_that_steps_back_keeps_no_hold_longer_than_it_was_to_be_open() {
    let mut key = Key::default();
    let estimate = Request { hold: held(5_000), ..request(&[(1, 60)], 1) };
    key.hold(&estimate, 10_000 * SECOND).unwrap();
    assert_eq!(key.call(&request(&[(1, 60)], 1), 10 * SECOND).unwrap().0, 0);
    let limiter = key.limiter.unwrap();
    let ends_us = limiter.ledger().unwrap().holds().last_end_us();
    assert_eq!(ends_us, Some(15 * SECOND));
    assert_eq!(limiter.expires_at_ms(), 70_000);
}

#[test]
fn a_window_forgotten_takes_no_settlement_of_an_older_charge() {
    let mut key = Key::default();
    let estimate = Request {
        algorithm: Some(Algorithm::Gcra),
        hold: held(900_000),
        ..request(&[(10, 60)], 5)
    };
    let (_, _, id) = key.hold(&estimate, 0).unwrap();
    // Back at full, and another window asked for: the first one is gone.
    key.call(&request(&[(10, 1)], 1), 100 * SECOND).unwrap();
    key.call(&request(&[(10, 60)], 10), 101 * SECOND).unwrap();
    assert!(key.settle(id.unwrap(), 0, 101 * SECOND));
    assert_eq!(key.remaining(&[(10, 60)], 101 * SECOND), 0);
}

#[test]
fn one_that_is_open_takes_nothing_more_under_the_same_id() {
    let mut key = Key::default();
    let mine = Request { hold: held(5_000), ..request(&[(10, 60)], 6) };
    assert_eq!(key.hold_again(&mine, 0).unwrap().0, 6);
    let before = key.limiter.clone();
    // With the figures of now, whether or not it would fit.
    let (granted, quota, id) = key.hold_again(&mine, SECOND).unwrap();
    assert_eq!((granted, quota.remaining(), id), (6, 4, Some(Id([0; 16]))));
    assert_eq!(key.limiter, before);
    let other = Request { cost: 5, ..mine.clone() };
    assert_eq!(key.hold_again(&other, SECOND), Err(Refusal::AskedFor(6)));
    // Once it is settled or has ended it is a new call.
    assert!(key.settle(Id([0; 16]), 1, SECOND));
    assert_eq!(key.hold_again(&mine, SECOND).unwrap().0, 6);
    assert_eq!(key.hold_again(&mine, 6 * SECOND).unwrap().0, 0, "7 are used");
}

#[test]
fn a_part_granted_is_asked_for_again_with_the_whole_cost() {
    let mut key = Key::default();
    let mine = Request { hold: held(5_000), mode: Mode::Partial, ..request(&[(10, 60)], 15) };
    assert_eq!(key.hold_again(&mine, 0).unwrap().0, 10);
    assert_eq!(key.hold_again(&mine, 0).unwrap().0, 10);
    let ten = Request { cost: 10, ..mine };
    assert_eq!(key.hold_again(&ten, 0), Err(Refusal::AskedFor(15)));
}

#[test]
fn a_cost_of_nothing_is_never_denied_and_stores_nothing_but_its_hold() {
    for algorithm in Algorithm::ALL {
        let mut key = Key::default();
        let of =
            |limit, cost| Request { algorithm: Some(algorithm), ..request(&[(limit, 60)], cost) };
        key.call(&Request { mode: Mode::Force, ..of(10, 25) }, 0).unwrap();
        let before = key.limiter.clone();
        let decision = of(20, 0);
        let decision = key.decide(&decision, 0).unwrap();
        assert!(decision.allowed && decision.change.is_none());
        // What it costs is known when it is settled: it is charged then.
        let later = Request { hold: held(90_000), ..of(20, 0) };
        let (granted, _, id) = key.hold(&later, SECOND).unwrap();
        assert_eq!((granted, key.limiter.as_ref().unwrap().open(SECOND)), (0, 1));
        assert_eq!(key.limiter.as_ref().unwrap().windows(), before.unwrap().windows());
        let used = |key: &Key, now_us| key.limiter.as_ref().unwrap().windows()[0].used(now_us);
        let unsettled = used(&key, 2 * SECOND);
        assert!(key.settle(id.unwrap(), 7, 2 * SECOND));
        assert_eq!(used(&key, 2 * SECOND), unsettled + 7, "{algorithm:?}");
    }
}

#[test]
fn a_hold_of_nothing_on_a_new_key_is_charged_when_it_is_settled() {
    for algorithm in Algorithm::ALL {
        let mut key = Key::default();
        let algorithm = Some(algorithm);
        let later = Request { algorithm, hold: held(90_000), ..request(&[(10, 60)], 0) };
        let (_, _, id) = key.hold(&later, 0).unwrap();
        // Nor is its window forgotten for another one.
        key.call(&Request { algorithm, ..request(&[(10, 1)], 1) }, SECOND).unwrap();
        assert!(key.settle(id.unwrap(), 7, 80 * SECOND));
        assert_eq!(key.remaining(&[(10, 60)], 80 * SECOND), 3, "{algorithm:?}");
    }
}

#[test]
fn a_window_that_closes_at_a_moment_is_fixed_beside_any_algorithm() {
    let day_us = Close::Day.next(0);
    for algorithm in Algorithm::ALL {
        let mut key = Key::default();
        let mut call = Request { algorithm: Some(algorithm), ..request(&[(5, 60)], 1) };
        call.policies.push(Policy::until(8, Close::Day, day_us));
        assert_eq!(key.call(&Request { cost: 5, ..call.clone() }, 0).unwrap().0, 5);
        assert_eq!(key.limiter.as_ref().unwrap().algorithm(), Some(algorithm));
        assert_eq!(key.call(&Request { cost: 3, ..call.clone() }, 60 * SECOND).unwrap().0, 3);
        // The day's limit binds until it closes, whatever the bucket has.
        let (granted, quota) = key.call(&call, 200 * SECOND).unwrap();
        assert_eq!((granted, quota.retry_after_us), (0, Some(day_us - 200 * SECOND)));
        // Another algorithm takes over the others, and leaves it.
        let other = Algorithm::ALL[(algorithm as usize + 1) % 3];
        let call = Request { algorithm: Some(other), ..request(&[(5, 60)], 1) };
        key.call(&call, 300 * SECOND).unwrap();
        let windows = key.limiter.as_ref().unwrap().windows();
        assert_eq!(windows[1].used(300 * SECOND), 8, "{algorithm:?}");
        assert_eq!(key.limiter.as_ref().unwrap().expires_at_ms(), day_us / MILLI);
    }
}

#[test]
fn a_key_of_windows_that_close_only_has_no_algorithm_yet() {
    let mut key = Key::default();
    let mut call = request(&[], 3);
    call.policies.push(Policy::until(8, Close::Month, Close::Month.next(0)));
    key.call(&call, 0).unwrap();
    assert!(matches!(key.limiter, Some(Limiter::One(_))));
    let bucket = Request { default_algorithm: Algorithm::Gcra, ..request(&[(5, 60)], 1) };
    key.call(&bucket, 0).unwrap();
    assert_eq!(key.limiter.as_ref().unwrap().algorithm(), Some(Algorithm::Gcra));
    assert_eq!(key.call(&call, 0).unwrap().1.remaining(), 2);
}

#[test]
fn a_renewed_hold_lasts_from_then_on() {
    let mut key = Key::default();
    let estimate = Request { hold: held(5_000), ..request(&[(10, 60)], 6) };
    let id = key.hold(&estimate, 0).unwrap().2.unwrap();
    let renewal = |key: &Key, ttl_ms, now_us| {
        key.limiter.as_ref().unwrap().decide_renewal(id, ttl_ms, now_us)
    };
    key.apply(&renewal(&key, 9_000, 4 * SECOND).unwrap());
    assert!(renewal(&key, 1, 13 * SECOND).is_none(), "it has ended");
    assert!(key.settle(id, 1, 13 * SECOND - 1));
    assert_eq!(key.remaining(&[(10, 60)], 13 * SECOND), 9);
}

#[test]
fn takes_no_change_that_cannot_be_one_of_it() {
    let mut key = Key::default();
    let settle =
        |id: u8| Change { now_us: 0, step: Step::Settle { id: Id([id; 16]), actual: Some(1) } };
    let renew = |id: u8| Change { now_us: 0, step: Step::Renew { id: Id([id; 16]), ttl_ms: 1 } };
    let rewind = Change { now_us: 0, step: Step::Rewind };
    assert!(!Limiter::takes(None, &rewind) && !Limiter::takes(None, &settle(1)));
    let estimate = Request { hold: held(5_000), ..request(&[(10, 60)], 1) };
    let open = key.decide(&estimate, 0).unwrap().change.unwrap();
    key.apply(&open);
    let limiter = key.limiter.as_ref();
    assert!(Limiter::takes(limiter, &settle(0)) && Limiter::takes(limiter, &renew(0)));
    assert!(!Limiter::takes(limiter, &renew(1)));
    assert!(Limiter::takes(limiter, &settle(0)) && !Limiter::takes(limiter, &settle(2)));
    assert!(!Limiter::takes(limiter, &open), "that one is open already");
    assert!(Limiter::takes(limiter, &rewind));
    assert!(!Limiter::takes(limiter, &Change { now_us: 5 * SECOND, ..settle(0) }));
}

/// A call under one of a few limits that a key may be asked under by turns,
/// and how many milliseconds later.
fn turn() -> impl Strategy<Value = (Request, Micros)> {
    let limit = prop_oneof![4 => 1u64..30, 1 => Just(1_000u64), 1 => Just(0u64)];
    let burst = prop_oneof![Just(None), (1u64..40).prop_map(Some)];
    let windows = prop::sample::subsequence(vec![1u64, 3, 60], 1..=2);
    let algorithm = prop_oneof![
        3 => Just(None),
        1 => prop::sample::select(&Algorithm::ALL[..]).prop_map(Some)
    ];
    let mode = prop::sample::select(vec![Mode::Whole, Mode::Whole, Mode::Partial]);
    let step_ms = prop_oneof![Just(0u64), 0u64..40, 0u64..3_000];
    (windows, prop::collection::vec(limit, 2), burst, algorithm, 1u64..12, mode, step_ms).prop_map(
        |(windows, limits, burst, algorithm, cost, mode, step_ms)| {
            let pairs: Vec<_> = limits.into_iter().zip(windows).collect();
            let mut request = Request { algorithm, mode, ..request(&pairs, cost) };
            if let ([policy], Some(burst)) = (request.policies.as_mut_slice(), burst) {
                policy.burst = burst;
            }
            (request, step_ms * MILLI)
        },
    )
}

proptest! {
    /// Denied in whole one millisecond before the wait is over, granted when
    /// it is, whatever the limits, bursts and algorithms before.
    #[test]
    fn the_told_wait_is_true_after_every_change_of_limit_burst_and_algorithm(
        start_us in prop_oneof![Just(1_800_000_000_000_000u64), 1_800_000_000_000_000u64..1_800_000_000_001_000],
        turns in prop::collection::vec(turn(), 1..80),
    ) {
        let (mut key, mut now_us) = (Key::default(), start_us);
        for (request, step_us) in turns {
            now_us += step_us;
            let (granted, quota) = key.call(&request, now_us).unwrap();
            if granted == request.cost {
                continue;
            }
            // What a partial call waits for when nothing is left.
            let cost = if request.mode == Mode::Partial && granted == 0 { 1 } else { request.cost };
            let fits = |at_us| key.fits(&Request { cost, ..request.clone() }, at_us);
            match quota.retry_after_us {
                None => {
                    let capacity = |policy: &Policy| {
                        policy.capacity(key.decide(&request, now_us).unwrap().algorithm)
                    };
                    prop_assert!(request.policies.iter().any(|policy| cost > capacity(policy)));
                }
                Some(wait_us) => {
                    let told_us = wait_us.div_ceil(MILLI) * MILLI;
                    prop_assert!(wait_us > 0);
                    prop_assert!(!fits(now_us + told_us - MILLI) && !fits(now_us + wait_us - 1));
                    prop_assert!(fits(now_us + told_us) && fits(now_us + wait_us));
                    prop_assert_eq!(quota.reset_after_us >= wait_us, true);
                }
            }
        }
    }

    /// Whoever alternates between limits, as fast as the waits let it.
    #[test]
    fn no_interval_lets_in_more_than_the_largest_burst_and_the_fastest_rate(
        window_s in prop::sample::select(vec![1u64, 7, 60]),
        limits in prop::collection::vec((1u64..2_000, 1u64..50), 1..4),
        turns in prop::collection::vec((any::<prop::sample::Index>(), 1u64..60, any::<bool>(), any::<bool>(), 0u64..500), 1..120),
    ) {
        let (mut key, mut now_us) = (Key::default(), 1_800_000_000 * SECOND);
        let mut taken: Vec<(Micros, Cost)> = Vec::new();
        for (which, cost, partial, waits, step_ms) in turns {
            let (limit, burst) = limits[which.index(limits.len())];
            let mode = if partial { Mode::Partial } else { Mode::Whole };
            let call = Request { mode, ..bucket(limit, window_s, burst, cost) };
            let (granted, quota) = key.call(&call, now_us).unwrap();
            taken.push((now_us, granted));
            now_us += match quota.retry_after_us {
                Some(wait_us) if waits => wait_us.div_ceil(MILLI) * MILLI,
                _ => step_ms * MILLI,
            };
        }
        let fastest = u128::from(limits.iter().map(|(limit, _)| *limit).max().unwrap());
        let largest = u128::from(limits.iter().map(|(_, burst)| *burst).max().unwrap());
        let window_us = u128::from(window_s * SECOND);
        for (first, (from_us, _)) in taken.iter().enumerate() {
            let mut sum = 0;
            for (until_us, granted) in &taken[first..] {
                sum += u128::from(*granted);
                let most = largest * window_us + fastest * u128::from(until_us - from_us);
                prop_assert!(sum * window_us <= most);
            }
        }
    }
}

fn call() -> impl Strategy<Value = (Vec<(u64, u64)>, Cost, Micros)> {
    let pairs = prop::sample::subsequence(vec![1u64, 2, 7, 30, 300], 1..=3);
    let pairs = pairs.prop_flat_map(|windows| {
        let limits = prop::collection::vec(0u64..40, windows.len());
        limits.prop_map(move |limits| limits.into_iter().zip(windows.clone()).collect())
    });
    (pairs, 1u64..12, 0u64..5_000_000)
}

proptest! {
    /// The oracle: a key for each window, charged when all would be.
    #[test]
    fn several_windows_are_charged_all_or_none(
        algorithm in prop::sample::select(&Algorithm::ALL[..]),
        calls in prop::collection::vec(call(), 1..60),
    ) {
        let mut key = Key::default();
        let mut alone: std::collections::HashMap<u64, Key> = Default::default();
        let mut now_us = 1_800_000_000 * SECOND;
        for (pairs, cost, step_us) in calls {
            now_us += step_us;
            let whole = Request { default_algorithm: algorithm, ..request(&pairs, cost) };
            let single = |pair: &(u64, u64)| Request {
                default_algorithm: algorithm,
                ..request(&[*pair], cost)
            };
            let quotas: Vec<Quota> = pairs.iter().map(|pair| {
                alone.entry(pair.1).or_default().decide(&single(pair), now_us).unwrap().quota
            }).collect();
            let fits = quotas.iter().all(|quota| quota.retry_after_us == Some(0));

            let (granted, quota) = key.call(&whole, now_us).unwrap();
            prop_assert_eq!(granted, if fits { cost } else { 0 });
            let least = pairs.iter().map(|pair| {
                let own = alone.get_mut(&pair.1).unwrap();
                if fits {
                    own.call(&single(pair), now_us).unwrap();
                }
                own.remaining(&[*pair], now_us)
            }).min().unwrap();
            if fits {
                prop_assert_eq!(quota.remaining(), least);
            } else {
                let never = quotas.iter().any(|quota| quota.retry_after_us.is_none());
                let longest = quotas.iter().filter_map(|quota| quota.retry_after_us).max();
                prop_assert_eq!(quota.retry_after_us, longest.filter(|_| !never));
            }
            // What is not asked for is kept, while anything of it is used.
            for (seconds, own) in &alone {
                let pair = [(1_000, *seconds)];
                prop_assert_eq!(key.remaining(&pair, now_us), own.remaining(&pair, now_us));
            }
        }
    }
}

/// What is done with a key whose charges nothing takes away but a settlement.
#[derive(Clone, Debug)]
enum Deed {
    /// A call on some windows, by an algorithm, which opens a hold or does not.
    Call(Vec<Policy>, Algorithm, Mode, Cost, bool),
    /// One of the holds is settled.
    Settle(prop::sample::Index, Cost),
    /// The key is saved and loaded.
    Reload,
}

fn deed() -> impl Strategy<Value = (Deed, Micros)> {
    // So long that nothing leaves them, so slow that no token comes back.
    let close = Policy::until(100, Close::Until, 1_900_000_000 * SECOND);
    let windows = [1_000, 2_000, 3_000].map(|seconds| Policy::new(100, seconds * SECOND));
    let windows = prop::sample::subsequence([&windows[..], &[close]].concat(), 1..=3);
    // Most keep to one.
    let algorithm = prop_oneof![
        2 => Just(Algorithm::Fixed),
        1 => prop::sample::select(&Algorithm::ALL[..]),
    ];
    let mode = prop::sample::select(vec![Mode::Whole, Mode::Partial, Mode::Force]);
    let cost = prop_oneof![1 => Just(0u64), 4 => 1u64..40];
    let call = (windows, algorithm, mode, cost.clone(), prop::bool::weighted(0.7));
    let call = call.prop_map(|(windows, algorithm, mode, cost, holds)| {
        Deed::Call(windows, algorithm, mode, cost, holds)
    });
    let settle = (any::<prop::sample::Index>(), cost);
    let deed = prop_oneof![
        9 => call,
        6 => settle.prop_map(|(which, actual)| Deed::Settle(which, actual)),
        1 => Just(Deed::Reload),
    ];
    (deed, 0..40 * MILLI)
}

/// A hold, as the oracle knows it.
struct Open {
    id: Id,
    windows_us: Vec<Micros>,
    estimate: Cost,
    taken_over: bool,
}

proptest! {
    /// The oracle: a sum for each window. A settlement corrects it, but where another
    /// algorithm has taken over it only adds.
    #[test]
    fn settlements_come_to_what_a_sum_says_whatever_took_over_and_whichever_windows_came(
        deeds in prop::collection::vec(deed(), 1..100),
    ) {
        let (mut key, mut now_us) = (Key::default(), 1_800_000_000 * SECOND);
        let mut sums: std::collections::BTreeMap<Micros, Cost> = Default::default();
        let mut open: Vec<Open> = Vec::new();
        for (deed, step_us) in deeds {
            now_us += step_us;
            match deed {
                Deed::Call(windows, algorithm, mode, cost, holds) => {
                    let windows_us: Vec<_> = windows.iter().map(|policy| policy.window_us).collect();
                    let call = Request {
                        policies: windows.into_iter().collect(),
                        algorithm: Some(algorithm),
                        mode,
                        hold: held(900_000).filter(|_| holds),
                        max_holds: 200,
                        ..request(&[], cost)
                    };
                    let kept = key.limiter.as_ref().and_then(Limiter::algorithm);
                    let (granted, _, id) = key.hold(&call, now_us).unwrap();
                    if granted > 0 && kept.is_some_and(|kept| kept != algorithm) {
                        open.iter_mut().for_each(|hold| hold.taken_over = true);
                    }
                    for window_us in &windows_us {
                        *sums.entry(*window_us).or_default() += granted;
                    }
                    open.extend(id.map(|id| {
                        Open { id, windows_us, estimate: granted, taken_over: false }
                    }));
                }
                Deed::Settle(which, actual) if !open.is_empty() => {
                    let hold = open.remove(which.index(open.len()));
                    prop_assert!(key.settle(hold.id, actual, now_us));
                    for window_us in hold.windows_us {
                        let sum = sums.get_mut(&window_us).unwrap();
                        if hold.taken_over && closing(window_us).is_none() {
                            *sum += actual.saturating_sub(hold.estimate);
                        } else {
                            *sum = *sum + actual - hold.estimate;
                        }
                    }
                }
                Deed::Settle(..) => {}
                Deed::Reload => {
                    let mut payload = Vec::new();
                    key.limiter.iter().for_each(|limiter| codec::encode(limiter, &mut payload));
                    let loaded = codec::decode(&payload);
                    prop_assert_eq!(&loaded, &key.limiter);
                    key.limiter = loaded;
                }
            }
            for (window_us, sum) in &sums {
                let window = key.limiter.as_ref().and_then(|limiter| limiter.window(*window_us));
                prop_assert_eq!(window.map_or(0, |window| window.used(now_us)), *sum);
            }
        }
    }
}
