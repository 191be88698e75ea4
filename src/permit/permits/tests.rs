//! Decided as a list of every permit would.

use super::*;
use crate::bounds::MAX_TTL_MS;
use crate::permit::codec;
use proptest::prelude::*;

const SECOND: Micros = 1_000_000;

fn id(number: u128) -> Id {
    Id(number.to_be_bytes())
}

fn request(max: u64, cost: u64, ttl_s: u64) -> Request {
    Request { max, cost, ttl_ms: ttl_s * 1_000 }
}

/// Permits, and the number of the next one.
#[derive(Default)]
struct Holder {
    permits: Permits,
    granted: u128,
}

impl Holder {
    fn acquire(&mut self, request: &Request, now_us: Micros) -> Outcome {
        let outcome = self.permits.decide(request, now_us, || id(self.granted)).unwrap();
        self.granted += u128::from(outcome.id.is_some());
        if let Some(change) = &outcome.change {
            self.apply(change);
        }
        outcome
    }

    fn step(&mut self, of: Id, step: Step, now_us: Micros) -> bool {
        let open = self.permits.is_open(of, now_us);
        if open {
            self.apply(&Change { now_us, step });
        }
        open
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
        let Permits { all, clock_us, .. } = replica;
        assert_eq!(Permits::of(all, clock_us).as_ref(), Some(&self.permits), "not sound");
    }
}

#[test]
fn what_does_not_fit_is_told_how_long_to_wait() {
    let mut holder = Holder::default();
    for ttl_s in [30, 10, 20] {
        assert!(holder.acquire(&request(9, 3, ttl_s), 0).id.is_some());
    }
    for (cost, wait_s) in [(1, 10), (3, 10), (4, 20), (7, 30), (9, 30)] {
        let denied = holder.acquire(&request(9, cost, 1), 0);
        let expected =
            Outcome { id: None, in_use: 9, retry_after_us: Some(wait_s * SECOND), change: None };
        assert_eq!(denied, expected, "a cost of {cost}");
    }
    assert_eq!(holder.acquire(&request(9, 10, 1), 0).retry_after_us, None);
    assert_eq!(holder.acquire(&request(0, 1, 1), 0).retry_after_us, None);
    // A new maximum counts at once, up and down.
    assert_eq!(holder.acquire(&request(5, 1, 1), 0).retry_after_us, Some(20 * SECOND));
    assert_eq!(holder.acquire(&request(10, 1, 1), 0).in_use, 10);
}

#[test]
fn what_expired_frees_its_place_and_nobody_elses() {
    let mut holder = Holder::default();
    let first = holder.acquire(&request(1, 1, 10), 0).id.unwrap();
    let second = holder.acquire(&request(1, 1, 10), 10 * SECOND).id.unwrap();
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
    for number in 0..MAX_PERMITS as u128 {
        permits.apply(&acquire(number, 0));
    }
    let more = Request { max: MAX_AMOUNT, cost: 1, ttl_ms: 1 };
    assert_eq!(permits.decide(&more, 0, || id(99)), Err(Full));
    assert!(!permits.takes(&acquire(1 << 100, 0)));
    let denied = permits.decide(&Request { max: 1, ..more }, 0, || id(99)).unwrap();
    assert_eq!((denied.id, denied.retry_after_us), (None, Some(2_000)));
    // Half of them expire.
    assert!(permits.takes(&acquire(1 << 100, 1_000)));
    assert!(!permits.takes(&acquire(1, 1_000)), "that one is there already");
    permits.apply(&acquire(1 << 100, 1_000));
    assert_eq!(permits.in_use(1_000), MAX_PERMITS as u64 / 2 + 1);
    permits.apply(&acquire(1 << 101, 3_000));
    assert_eq!(permits.all().len(), 1);
    assert!(permits.all().capacity() < 100, "what a rush took is given back");
}

#[test]
fn no_more_is_in_use_than_can_be_counted() {
    let mut holder = Holder::default();
    let all = Request { max: MAX_AMOUNT, cost: MAX_AMOUNT - 1, ttl_ms: MAX_TTL_MS };
    let latest = i64::MAX as u64;
    assert_eq!(holder.acquire(&all, latest).in_use, MAX_AMOUNT - 1);
    let one = Request { cost: 1, ..all };
    assert_eq!(holder.acquire(&one, latest).in_use, MAX_AMOUNT);
    let wait_us = MAX_TTL_MS * MICROS_PER_MILLI;
    assert_eq!(holder.acquire(&one, latest).retry_after_us, Some(wait_us));
    assert_eq!(holder.acquire(&one, 0).retry_after_us, Some(wait_us));
    let more = Step::Acquire { id: id(99), cost: 1, ttl_ms: 1 };
    assert!(!holder.permits.takes(&Change { now_us: 0, step: more }));
}

#[test]
fn a_clock_that_steps_back_grants_nothing_again_and_prolongs_nothing() {
    let mut holder = Holder::default();
    holder.acquire(&request(2, 1, 60), 10_000 * SECOND);
    holder.acquire(&request(2, 1, 30), 10_001 * SECOND);
    let back = 10 * SECOND;
    let denied = holder.permits.decide(&request(2, 1, 60), back, || id(99)).unwrap();
    assert_eq!((denied.id, denied.retry_after_us), (None, Some(30 * SECOND)));
    assert_eq!(denied.change, Some(Change { now_us: back, step: Step::Rewind }));
    holder.apply(&denied.change.unwrap());
    // It need not be done twice.
    assert_eq!(holder.acquire(&request(2, 1, 60), back).change, None);
    assert_eq!(holder.permits.expires_at_ms(), Some(70_000));
    assert_eq!(holder.permits.in_use(40 * SECOND), 1);
    assert_eq!(holder.permits.in_use(70 * SECOND), 0);
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
            let Request { cost, ttl_ms, .. } = *request;
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
                    let request = Request { max, cost, ttl_ms };
                    let new = id(holder.granted);
                    let outcome = holder.acquire(&request, now);
                    let expected = oracle.acquire(new, &request, now);
                    prop_assert_eq!((outcome.id.is_some(), outcome.retry_after_us), expected);
                    prop_assert_eq!(outcome.id, outcome.id.map(|_| new));
                    prop_assert_eq!(u128::from(outcome.in_use), oracle.in_use_after(now, 0));
                    prop_assert!(outcome.id.is_none() || outcome.in_use <= max);
                    // The wait is exact: granted after it, denied a microsecond before.
                    if let Some(wait) = outcome.retry_after_us.filter(|wait| *wait > 0) {
                        let fits = |at| holder.permits.wait(&request, at) == Some(0);
                        prop_assert!(fits(now + wait) && !fits(now + wait - 1));
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
            let seen: Vec<_> = seen.open(now).map(|permit| (permit.expires_us(), permit.id, permit.cost)).collect();
            let mut expected: Vec<_> =
                oracle.open(now).iter().map(|(end, permit)| (*end, permit.id, permit.cost)).collect();
            expected.sort_unstable();
            prop_assert_eq!(seen, expected);
            let last = oracle.0.iter().map(Permit::expires_us).max();
            prop_assert_eq!(holder.permits.expires_at_ms(), last.map(|end| end.div_ceil(1_000)));
        }
    }
}
