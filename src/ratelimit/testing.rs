//! Random traffic, and what every algorithm has to make of it.

use super::policy::{Cost, MAX_TIME_US, MAX_WINDOW_US, MIN_WINDOW_US, Policy};
use super::window::{Mark, Reading, Settlement, Window};
use crate::bounds::MAX_AMOUNT;
use crate::time::{MICROS_PER_MILLI, Micros};
use proptest::prelude::*;
use std::iter;

/// Every charge ever, and the algorithm in its most literal form. `id` tells the
/// charges apart.
pub trait Oracle: Default {
    /// What weighs at `now_us`, and the most that the algorithm may count.
    fn used(&self, policy: &Policy, now_us: Micros) -> (u128, u128);
    fn advance(&mut self, policy: &Policy, now_us: Micros);
    fn step_back(&mut self, now_us: Micros);
    fn charge(&mut self, policy: &Policy, id: usize, cost: Cost, now_us: Micros);
    fn settle(&mut self, policy: &Policy, id: usize, settlement: &Settlement, now_us: Micros);
}

#[derive(Clone, Debug)]
pub enum Action {
    Call(Cost),
    Force(Cost),
    /// Which of the open charges, and its actual cost in 1/4 of the estimate.
    Settle(usize, u64),
    Change(u64, u64),
}

#[derive(Clone, Debug)]
pub struct Traffic {
    policy: Policy,
    start_us: Micros,
    /// How many 1/64 of the window and how many microseconds pass before each.
    actions: Vec<(i64, i64, Action)>,
}

fn amount() -> impl Strategy<Value = u64> {
    prop_oneof![0u64..5, 1u64..200, Just(MAX_AMOUNT), 0..=MAX_AMOUNT]
}

fn cost() -> impl Strategy<Value = Cost> {
    prop_oneof![6 => 1u64..4, 1 => 1u64..100_000_000, 1 => 1..=MAX_AMOUNT]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        12 => cost().prop_map(Action::Call),
        1 => cost().prop_map(Action::Force),
        4 => (any::<usize>(), 0u64..7).prop_map(|(which, quarters)| Action::Settle(which, quarters)),
        1 => (amount(), amount()).prop_map(|(limit, burst)| Action::Change(limit, burst)),
    ]
}

/// Up to `most` actions. The clock now and then jumps, both ways.
pub fn traffic(most: usize) -> impl Strategy<Value = Traffic> {
    let step = prop_oneof![
        8 => (Just(0), 0i64..20),
        8 => (0i64..3, -1i64..50),
        1 => (-80i64..160, -1i64..2),
    ];
    let window_us =
        prop_oneof![MIN_WINDOW_US..2_000, 1_000_000u64..100_000_000, MIN_WINDOW_US..=MAX_WINDOW_US];
    let start_us = prop_oneof![0u64..10_000, Just(1_800_000_000_000_000), Just(1 << 61)];
    let actions = prop::collection::vec(
        (step, action()).prop_map(|((parts, micros), action)| (parts, micros, action)),
        1..most,
    );
    (amount(), window_us, start_us, actions).prop_map(|(limit, window_us, start_us, actions)| {
        Traffic { policy: Policy::new(limit, window_us), start_us, actions }
    })
}

/// A charge yet to be settled.
struct Open {
    id: usize,
    mark: Mark,
    estimate: Cost,
}

fn marks(open: &mut [Open]) -> impl Iterator<Item = &mut Mark> {
    open.iter_mut().map(|open| &mut open.mark)
}

/// No charges are yet to be settled.
pub fn no_marks() -> iter::Empty<&'static mut Mark> {
    iter::empty()
}

/// Runs the traffic through a window and its oracle, and compares them.
pub fn follow<W: Window, O: Oracle>(traffic: Traffic) {
    let Traffic { mut policy, start_us: mut now_us, actions } = traffic;
    let (mut window, mut oracle) = (W::default(), O::default());
    let mut open: Vec<Open> = Vec::new();
    let mut next_id = 0;
    for (parts, micros, action) in actions {
        let step_us = parts * i64::try_from(policy.window_us / 64).unwrap() + micros;
        now_us = now_us.saturating_add_signed(step_us);
        // A state ahead of the clock reads as it will once it has followed.
        let peeked = window.read(&policy, 1, now_us);
        window.follow_clock_back(&policy, marks(&mut open), now_us);
        oracle.step_back(now_us);
        assert_eq!(window.read(&policy, 1, now_us), peeked);
        assert!(!window.follow_clock_back(&policy, marks(&mut open), now_us));

        let mut charge = |window: &mut W, policy: &Policy, cost| {
            let mark = window.charge(policy, cost, now_us);
            oracle.charge(policy, next_id, cost, now_us);
            open.push(Open { id: next_id, mark, estimate: cost });
            next_id += 1;
        };
        match action {
            Action::Call(cost) => {
                if check(&window, &policy, cost, now_us).retry_after_us == Some(0) {
                    charge(&mut window, &policy, cost);
                }
            }
            Action::Force(cost) if policy.limit > 0 => charge(&mut window, &policy, cost),
            Action::Settle(which, quarters) if !open.is_empty() => {
                let Open { id, mark, estimate } = open.swap_remove(which % open.len());
                let actual = (estimate * quarters).div_ceil(4).min(MAX_AMOUNT);
                let settlement = Settlement { mark, estimate, actual };
                window.settle(&policy, &settlement, marks(&mut open), now_us);
                oracle.settle(&policy, id, &settlement, now_us);
            }
            Action::Change(limit, burst) => {
                let before = window.used(&policy, now_us);
                window.advance(&policy, now_us);
                oracle.advance(&policy, now_us);
                assert_eq!(window.used(&policy, now_us), before);
                policy = Policy { limit, burst, ..policy };
            }
            Action::Force(_) | Action::Settle(..) => (),
        }
        let used = u128::from(window.used(&policy, now_us));
        let (least, most) = oracle.used(&policy, now_us);
        assert!(least <= used && used <= most, "{least} <= {used} <= {most}");
        let reading = check(&window, &policy, 1 + policy.limit / 2, now_us);
        if let Some(wait_us) = reading.retry_after_us {
            let room = u128::from(W::capacity(&policy) - 1 - policy.limit / 2);
            assert!(oracle.used(&policy, now_us + wait_us).0 <= room);
            assert!(wait_us == 0 || oracle.used(&policy, now_us + wait_us - 1).1 > room);
        }
    }
}

/// A reading, after a check that its figures are true to the last microsecond,
/// and to the last millisecond when rounded up as replies are.
pub fn check<W: Window>(window: &W, policy: &Policy, cost: Cost, now_us: Micros) -> Reading {
    let fits = |at_us| window.read(policy, cost, at_us).retry_after_us == Some(0);
    let reading = window.read(policy, cost, now_us);
    let (capacity, used) = (W::capacity(policy), window.used(policy, now_us));
    assert_eq!(reading.remaining, capacity.saturating_sub(used));
    assert_eq!(reading.retry_after_us.is_none(), cost > capacity);
    assert_eq!(fits(now_us), cost <= reading.remaining);
    if let Some(wait_us @ 1..) = reading.retry_after_us {
        assert!(fits(now_us + wait_us) && !fits(now_us + wait_us - 1));
        let rounded_us = wait_us.next_multiple_of(MICROS_PER_MILLI);
        assert!(fits(now_us + rounded_us) && !fits(now_us + rounded_us - MICROS_PER_MILLI));
        assert!(wait_us <= reading.reset_after_us);
    }
    let full_at_us = now_us + reading.reset_after_us;
    assert_eq!(window.read(policy, cost, full_at_us).remaining, capacity);
    assert_eq!(window.used(policy, full_at_us), 0);
    if reading.reset_after_us > 0 {
        assert_eq!(window.full_at(policy), full_at_us);
        assert!(window.used(policy, full_at_us - 1) > 0);
    } else {
        assert!(window.full_at(policy) <= now_us);
    }
    reading
}

/// What a window from an untrusted source may meet: amounts and moments at
/// their extremes, and the settlement of a charge that it never had.
#[derive(Clone, Debug)]
pub struct Ordeal {
    pub policy: Policy,
    pub now_us: Micros,
    cost: Cost,
    settlement: Settlement,
}

pub fn ordeal() -> impl Strategy<Value = Ordeal> {
    let window_us = prop_oneof![Just(MIN_WINDOW_US), Just(MAX_WINDOW_US), 1_000u64..1_000_000];
    let mark = prop_oneof![any::<u64>(), 0..=2 * MAX_AMOUNT, Just(u64::MAX)];
    let figures = (amount(), amount(), window_us, 0..=MAX_TIME_US);
    (figures, cost(), mark.prop_map(Mark), cost(), amount()).prop_map(
        |((limit, burst, window_us, now_us), cost, mark, estimate, actual)| Ordeal {
            policy: Policy { limit, window_us, burst },
            now_us,
            cost,
            settlement: Settlement { mark, estimate, actual },
        },
    )
}

/// Nothing wraps, and the stray settlement brings about no more than one of a
/// charge that was made.
pub fn endure<W: Window>(mut window: W, ordeal: &Ordeal) {
    let Ordeal { policy, now_us, cost, settlement } = ordeal;
    let Settlement { estimate, actual, mut mark } = *settlement;
    window.follow_clock_back(policy, iter::once(&mut mark), *now_us);
    check(&window, policy, *cost, *now_us);
    for stray in [settlement.mark, Mark(*now_us)] {
        let settlement = Settlement { mark: stray, ..*settlement };
        let before = window.used(policy, *now_us);
        window.settle(policy, &settlement, iter::once(&mut mark), *now_us);
        let after = window.used(policy, *now_us);
        assert!(after >= before.saturating_sub(estimate.saturating_sub(actual)));
        assert!(after <= before.saturating_add(actual.saturating_sub(estimate)));
    }
    window.charge(policy, *cost, *now_us);
    assert!(window.used(policy, *now_us) >= *cost);
    check(&window, policy, *cost, *now_us);
    let later_us = *now_us + policy.window_us / 2;
    window.advance(policy, later_us);
    check(&window, policy, *cost, later_us);
}
