//! Decided as a list of every permit would.

use super::*;
use crate::bounds::MAX_TTL_MS;
use crate::permit::codec;
use proptest::prelude::*;

const SECOND: Micros = 1_000_000;

fn id(number: u128) -> Id {
    Id(number.to_be_bytes())
}

/// A request whose id is drawn by the [`Holder`].
fn request(max: u64, cost: u64, ttl_s: u64) -> Request {
    asked(max, cost, ttl_s * 1_000)
}

fn asked(max: u64, cost: u64, ttl_ms: Millis) -> Request {
    Request { max, cost, permit: Some((id(0), ttl_ms)), max_holds: MAX_HOLDS }
}

fn in_use(decision: &Decision) -> u64 {
    decision.allowance.limit - decision.allowance.remaining.cast_unsigned()
}

/// Permits, and the number of the next one.
#[derive(Default)]
struct Holder {
    permits: Permits,
    granted: u128,
}

impl Holder {
    fn acquire(&mut self, request: &Request, now_us: Micros) -> (Decision, Option<Id>) {
        let new = id(self.granted);
        let permit = request.permit.map(|(_, ttl_ms)| (new, ttl_ms));
        let decision = self.permits.decide(&Request { permit, ..*request }, now_us).unwrap();
        decision.check_room().unwrap();
        self.granted += u128::from(decision.allowed);
        if let Some(change) = &decision.change {
            self.apply(change);
        }
        (decision, Some(new).filter(|_| decision.allowed))
    }

    fn granted(&mut self, request: &Request, now_us: Micros) -> Id {
        self.acquire(request, now_us).1.unwrap()
    }

    fn wait(&mut self, request: &Request, now_us: Micros) -> Option<Micros> {
        self.acquire(request, now_us).0.allowance.retry_after_us
    }

    fn step(&mut self, of: Id, step: Step, now_us: Micros) -> bool {
        let change = self.permits.decide_on(of, step, now_us);
        change.inspect(|change| self.apply(change)).is_some()
    }

    fn renew(&mut self, id: Id, ttl_ms: Millis, now_us: Micros) -> bool {
        self.step(id, Step::Renew { id, ttl_ms }, now_us)
    }

    fn release(&mut self, id: Id, now_us: Micros) -> bool {
        self.step(id, Step::Release { id }, now_us)
    }

    /// Applies a change, which comes to the same where it is sent to.
    fn apply(&mut self, change: &Change) {
        let mut payload = Vec::new();
        codec::encode_change(change, &mut payload);
        let sent = codec::decode_change(&payload).unwrap();
        assert!(self.permits.takes(&sent), "{sent:?}");
        let mut replica = self.permits.clone();
        self.permits.apply(change);
        replica.apply(&sent);
        assert_eq!(self.permits, replica);
        let mut payload = Vec::new();
        codec::encode(&replica, &mut payload);
        assert_eq!(codec::decode(&payload).as_ref(), Some(&self.permits), "not sound");
    }
}

#[test]
fn what_does_not_fit_is_told_how_long_to_wait() {
    let mut holder = Holder::default();
    for ttl_s in [30, 10, 20] {
        holder.granted(&request(9, 3, ttl_s), 0);
    }
    for (cost, wait_s) in [(1, 10), (3, 10), (4, 20), (7, 30), (9, 30)] {
        let (denied, _) = holder.acquire(&request(9, cost, 1), 0);
        let expected = Allowance {
            granted: 0,
            limit: 9,
            remaining: 0,
            retry_after_us: Some(wait_s * SECOND),
            reset_after_us: 30 * SECOND,
        };
        assert_eq!((denied.allowance, denied.change), (expected, None), "a cost of {cost}");
    }
    assert_eq!(holder.wait(&request(9, 10, 1), 0), None);
    assert_eq!(holder.wait(&request(0, 1, 1), 0), None);
    // A new maximum counts at once, up and down.
    assert_eq!(holder.wait(&request(5, 1, 1), 0), Some(20 * SECOND));
    let (granted, _) = holder.acquire(&request(10, 1, 40), 0);
    let Allowance { granted, remaining, reset_after_us, .. } = granted.allowance;
    assert_eq!((granted, remaining, reset_after_us), (1, 0, 40 * SECOND));
    // Nothing is never denied.
    assert_eq!(holder.wait(&request(0, 0, 1), 0), Some(0));
}

#[test]
fn one_that_is_open_takes_nothing_more_under_the_same_id() {
    let mut permits = Permits::default();
    let mine = request(3, 2, 10);
    permits.apply(&permits.decide(&mine, 0).unwrap().change.unwrap());
    let again = permits.decide(&mine, SECOND).unwrap();
    let Allowance { granted, remaining, retry_after_us, .. } = again.allowance;
    assert_eq!((granted, remaining, retry_after_us, again.change), (2, 1, Some(0), None));
    assert_eq!(permits.decide(&request(3, 1, 10), SECOND), Err(Refusal::AskedFor(2)));
    // Ended, it is a new call.
    assert!(permits.decide(&request(3, 1, 10), 10 * SECOND).unwrap().change.is_some());
}

#[test]
fn what_another_key_denies_says_what_is_so_without_it() {
    let permits = Permits::default();
    let mut decision = permits.decide(&request(3, 2, 10), 0).unwrap();
    assert_eq!((decision.allowance.granted, decision.allowance.remaining), (2, 1));
    decision.deny();
    let Allowance { granted, remaining, reset_after_us, .. } = decision.allowance;
    assert_eq!((granted, remaining, reset_after_us, decision.change), (0, 3, 0, None));
    // Whoever looks takes nothing.
    let look = permits.decide(&Request { permit: None, ..request(3, 2, 10) }, 0).unwrap();
    assert!(look.allowed && look.change.is_none());
    assert_eq!((look.allowance.granted, look.allowance.remaining), (2, 3));
}

#[test]
fn what_expired_frees_its_place_and_nobody_elses() {
    let mut holder = Holder::default();
    let first = holder.granted(&request(1, 1, 10), 0);
    let second = holder.granted(&request(1, 1, 10), 10 * SECOND);
    for now_us in [10 * SECOND, 19 * SECOND] {
        assert!(!holder.release(first, now_us));
        assert!(!holder.renew(first, 1_000, now_us));
    }
    assert!(holder.renew(second, 5_000, 20 * SECOND - 1));
    assert!(!holder.renew(second, 5_000, 25 * SECOND - 1), "it ended at that very moment");
    assert_eq!(holder.permits.in_use(25 * SECOND - 1), 0);
}

#[test]
fn a_key_holds_so_many_permits_and_no_more() {
    let mut permits = Permits::default();
    let acquire = |number: u128, now_us| Change {
        now_us,
        step: Step::Acquire { id: id(number), cost: 1, ttl_ms: 1 + (number % 2) as u64 },
    };
    for number in 1..=MAX_HOLDS as u128 {
        permits.apply(&acquire(number, 0));
    }
    let more = asked(MAX_AMOUNT, 1, 1);
    assert_eq!(permits.decide(&more, 0).unwrap().check_room(), Err(Refusal::Full));
    assert!(!permits.takes(&acquire(1 << 100, 0)));
    let denied = permits.decide(&Request { max: 1, ..more }, 0).unwrap();
    assert_eq!((denied.allowed, denied.allowance.retry_after_us), (false, Some(2_000)));
    assert_eq!(denied.check_room(), Ok(()), "whoever is denied is to wait, room or not");
    // Half of them expire.
    assert!(permits.takes(&acquire(1 << 100, 1_000)));
    assert!(!permits.takes(&acquire(1, 1_000)), "that one is there already");
    permits.apply(&acquire(1 << 100, 1_000));
    assert_eq!(permits.in_use(1_000), MAX_HOLDS as u64 / 2 + 1);
    permits.apply(&acquire(1 << 101, 3_000));
    assert_eq!(permits.holds().len(), 1);
}

#[test]
fn no_more_is_in_use_than_can_be_counted() {
    let mut holder = Holder::default();
    let latest = i64::MAX as u64;
    let all = asked(MAX_AMOUNT, MAX_AMOUNT - 1, MAX_TTL_MS);
    assert_eq!(in_use(&holder.acquire(&all, latest).0), MAX_AMOUNT - 1);
    let one = Request { cost: 1, ..all };
    assert_eq!(in_use(&holder.acquire(&one, latest).0), MAX_AMOUNT);
    let wait_us = MAX_TTL_MS * MICROS_PER_MILLI;
    assert_eq!(holder.wait(&one, latest), Some(wait_us));
    assert_eq!(holder.wait(&one, 0), Some(wait_us));
    let more = Step::Acquire { id: id(99), cost: 1, ttl_ms: 1 };
    assert!(!holder.permits.takes(&Change { now_us: 0, step: more }));
}

#[test]
fn a_clock_that_steps_back_grants_nothing_again_and_prolongs_nothing() {
    let mut holder = Holder::default();
    holder.acquire(&request(2, 1, 60), 10_000 * SECOND);
    holder.acquire(&request(2, 1, 30), 10_001 * SECOND);
    let back = 10 * SECOND;
    let new = Request { permit: Some((id(99), 60_000)), ..request(2, 1, 60) };
    let denied = holder.permits.decide(&new, back).unwrap();
    assert_eq!((denied.allowed, denied.allowance.retry_after_us), (false, Some(30 * SECOND)));
    assert_eq!(denied.change, Some(Change { now_us: back, step: Step::Rewind }));
    holder.apply(&denied.change.unwrap());
    // It need not be done twice.
    assert_eq!(holder.acquire(&request(2, 1, 60), back).0.change, None);
    assert_eq!(holder.permits.expires_at_ms(), Some(70_000));
    assert_eq!(holder.permits.in_use(40 * SECOND), 1);
    assert_eq!(holder.permits.in_use(70 * SECOND), 0);
}

/// A permit, as the oracle has it.
#[derive(Clone, Copy)]
struct Permit {
    id: Id,
    cost: u64,
    ttl_ms: Millis,
    since_us: Micros,
}

/// The oracle: a list of every permit that no write found expired, in no order.
#[derive(Default)]
struct Oracle(Vec<Permit>);

impl Oracle {
    /// Each permit with the moment it ends, as seen at `now`.
    fn open(&self, now: Micros) -> Vec<(Micros, Permit)> {
        let end = |permit: &Permit| permit.since_us.min(now) + permit.ttl_ms * 1_000;
        let ends = self.0.iter().map(|permit| (end(permit), *permit));
        ends.filter(|(end, _)| *end > now).collect()
    }

    fn in_use_after(&self, now: Micros, wait: Micros) -> u128 {
        let open = self.open(now);
        let then = open.iter().filter(|(end, _)| *end > now + wait);
        then.map(|(_, permit)| u128::from(permit.cost)).sum()
    }

    /// The shortest of all waits, of those after which something ends.
    fn wait(&self, request: &Request, now: Micros) -> Option<Micros> {
        let mut waits: Vec<_> = self.open(now).iter().map(|(end, _)| end - now).collect();
        waits.push(0);
        waits.sort_unstable();
        let fits = |wait: &Micros| {
            self.in_use_after(now, *wait) + u128::from(request.cost) <= request.max.into()
        };
        waits.into_iter().find(fits)
    }

    fn write(&mut self, now: Micros) {
        self.0 = self.open(now).into_iter().map(|(_, permit)| permit).collect();
        self.0.iter_mut().for_each(|permit| permit.since_us = permit.since_us.min(now));
    }

    fn acquire(&mut self, new: Id, request: &Request, now: Micros) -> (bool, Option<Micros>) {
        let wait = self.wait(request, now);
        let granted = wait == Some(0);
        if granted || self.0.iter().any(|permit| permit.since_us > now) {
            self.write(now);
        }
        if granted {
            let (cost, ttl_ms) = (request.cost, request.permit.unwrap().1);
            self.0.push(Permit { id: new, cost, ttl_ms, since_us: now });
        }
        (granted, wait)
    }

    /// What is done to the permit if it is open; whether it was.
    fn with(&mut self, id: Id, now: Micros, step: impl FnOnce(&mut Vec<Permit>, usize)) -> bool {
        let found = self.open(now).iter().any(|(_, permit)| permit.id == id);
        if found {
            self.write(now);
            let at = self.0.iter().position(|permit| permit.id == id).unwrap();
            step(&mut self.0, at);
        }
        found
    }
}

#[derive(Clone, Debug)]
enum Call {
    Acquire { max: u64, cost: u64, ttl_ms: Millis },
    Renew { number: usize, ttl_ms: Millis },
    Release { number: usize },
    Look,
}

fn amount() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 1u64..6, 1 => Just(MAX_AMOUNT), 1 => 1..=MAX_AMOUNT]
}

fn ttl() -> impl Strategy<Value = Millis> {
    prop_oneof![8 => 1u64..60, 1 => Just(MAX_TTL_MS), 1 => 1..=MAX_TTL_MS]
}

fn call() -> impl Strategy<Value = Call> {
    let max = prop_oneof![8 => 6u64..12, 1 => Just(0u64), 1 => Just(MAX_AMOUNT)];
    prop_oneof![
        6 => (max, amount(), ttl()).prop_map(|(max, cost, ttl_ms)| Call::Acquire { max, cost, ttl_ms }),
        2 => (0usize..12, ttl()).prop_map(|(number, ttl_ms)| Call::Renew { number, ttl_ms }),
        2 => (0usize..12).prop_map(|number| Call::Release { number }),
        1 => Just(Call::Look),
    ]
}

/// Mostly on, by less than a permit lasts; at times far, either way.
fn clock_step() -> impl Strategy<Value = i64> {
    prop_oneof![6 => Just(0i64), 20 => 0i64..20_000, 3 => -40_000i64..100_000, 1 => -9_000_000i64..9_000_000]
}

proptest! {
    #[test]
    fn decides_as_a_list_of_every_permit_does(
        calls in prop::collection::vec((clock_step(), call()), 1..120),
    ) {
        let (mut holder, mut oracle) = (Holder::default(), Oracle::default());
        let mut now: Micros = 1_800_000_000_000_000;
        for (step_us, call) in calls {
            now = now.checked_add_signed(step_us).unwrap();
            // Of late permits, open ones and such that have gone.
            let late = |number: usize| id(holder.granted.wrapping_sub(number as u128));
            match call {
                Call::Acquire { max, cost, ttl_ms } => {
                    let request = asked(max, cost, ttl_ms);
                    let new = id(holder.granted);
                    let (decision, granted) = holder.acquire(&request, now);
                    let retry_after_us = decision.allowance.retry_after_us;
                    let expected = oracle.acquire(new, &request, now);
                    prop_assert_eq!((decision.allowed, retry_after_us), expected);
                    prop_assert_eq!(granted, granted.map(|_| new));
                    let in_use = oracle.in_use_after(now, 0);
                    prop_assert_eq!(u128::from(holder.permits.in_use(now)), in_use);
                    let remaining = u128::from(max).saturating_sub(in_use);
                    prop_assert_eq!(decision.allowance.remaining as u128, remaining);
                    prop_assert!(!decision.allowed || in_use <= max.into());
                    // The wait is exact: granted after it, denied a microsecond before.
                    if let Some(wait) = retry_after_us.filter(|wait| *wait > 0) {
                        let wait_at = |at| holder.permits.seen_at(at).wait(&request, at);
                        prop_assert_eq!(wait_at(now + wait), Some(0));
                        prop_assert!(wait_at(now + wait - 1) != Some(0));
                    }
                }
                Call::Renew { number, ttl_ms } => {
                    let id = late(number);
                    let renewed = oracle.with(id, now, |permits, at| {
                        permits[at] = Permit { ttl_ms, since_us: now, ..permits[at] };
                    });
                    prop_assert_eq!(holder.renew(id, ttl_ms, now), renewed);
                }
                Call::Release { number } => {
                    let id = late(number);
                    let released = oracle.with(id, now, |permits, at| _ = permits.remove(at));
                    prop_assert_eq!(holder.release(id, now), released);
                }
                Call::Look => {}
            }
            let seen = holder.permits.seen_at(now);
            let open = seen.holds().iter().filter(|(_, permit)| permit.is_open(now));
            let seen: Vec<_> = open.map(|(id, permit)| (permit.ends_us(), id, permit.cost)).collect();
            let mut expected: Vec<_> =
                oracle.open(now).iter().map(|(end, permit)| (*end, permit.id, permit.cost)).collect();
            expected.sort_unstable();
            prop_assert_eq!(seen, expected);
            let last = oracle.0.iter().map(|permit| permit.since_us + permit.ttl_ms * 1_000).max();
            prop_assert_eq!(holder.permits.expires_at_ms(), last.map(|end| end.div_ceil(1_000)));
        }
    }
}
