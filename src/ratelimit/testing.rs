//! Random traffic, and what every algorithm has to make of it.

use super::meter::{Meter, Position, Settlement};
use super::policy::{Algorithm, Cost, MAX_WINDOW_US, MIN_WINDOW_US, Policy};
use super::quota::Quota;
use crate::bounds::{MAX_AMOUNT, MAX_TIME_US};
use crate::time::{MICROS_PER_MILLI, Micros};
use proptest::prelude::*;
use std::iter;

/// Every charge ever, and the algorithm in its most literal form. `id` tells the
/// charges apart.
pub trait Oracle: Default {
    /// What weighs at `now_us`, and the most that the algorithm may count.
    fn used(&self, policy: &Policy, now_us: Micros) -> (u128, u128);
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
    position: Position,
    estimate: Cost,
}

fn positions(open: &mut [Open]) -> impl Iterator<Item = &mut Position> {
    open.iter_mut().map(|open| &mut open.position)
}

/// No charges are yet to be settled.
pub fn no_positions() -> iter::Empty<&'static mut Position> {
    iter::empty()
}

/// Runs the traffic through a meter and its oracle, and compares them.
pub fn follow<M: Meter, O: Oracle>(algorithm: Algorithm, traffic: Traffic) {
    let Traffic { mut policy, start_us: mut now_us, actions } = traffic;
    let (mut meter, mut oracle) = (M::default(), O::default());
    let mut open: Vec<Open> = Vec::new();
    let mut next_id = 0;
    // The policy last charged under, and the one asked under.
    let mut stored = policy;
    for (parts, micros, action) in actions {
        let step_us = parts * i64::try_from(policy.window_us / 64).unwrap() + micros;
        now_us = now_us.saturating_add_signed(step_us).min(MAX_TIME_US);
        // A state ahead of the clock reads as it will once it is rewound.
        let peeked = meter.quota(&stored, stored.limit, 1, now_us);
        meter.rewind_to(&stored, positions(&mut open), now_us);
        oracle.step_back(now_us);
        assert_eq!(meter.quota(&stored, stored.limit, 1, now_us), peeked);
        assert!(!meter.is_ahead(&stored, now_us));

        let pace = policy.faster(&stored);
        let mut charge = |meter: &mut M, policy: &Policy, cost| {
            let position = meter.charge(&pace, cost, now_us);
            oracle.charge(&pace, next_id, cost, now_us);
            open.push(Open { id: next_id, position, estimate: cost });
            next_id += 1;
            stored = *policy;
        };
        let capacity = policy.capacity(algorithm);
        match action {
            Action::Call(cost) => {
                if check(&meter, &pace, capacity, cost, now_us).retry_after_us == Some(0) {
                    charge(&mut meter, &policy, cost);
                }
            }
            Action::Force(cost) if policy.limit > 0 => charge(&mut meter, &policy, cost),
            Action::Settle(which, quarters) if !open.is_empty() => {
                let Open { id, position, estimate } = open.swap_remove(which % open.len());
                let actual = (estimate * quarters).div_ceil(4).min(MAX_AMOUNT);
                let settlement = Settlement { position, estimate, actual };
                let gap = meter.settle(&stored, &settlement, now_us);
                for before in open.iter_mut().filter(|other| other.id < id) {
                    before.position.0 = before.position.0.wrapping_add(gap);
                }
                oracle.settle(&stored, id, &settlement, now_us);
            }
            Action::Change(limit, burst) => policy = Policy { limit, burst, ..policy },
            Action::Force(_) | Action::Settle(..) => (),
        }
        let pace = policy.faster(&stored);
        let capacity = policy.capacity(algorithm);
        for pace in [stored, pace] {
            let used = u128::from(meter.used(&pace, now_us));
            let (least, most) = oracle.used(&pace, now_us);
            assert!(least <= used && used <= most, "{least} <= {used} <= {most}");
        }
        let cost = 1 + policy.limit / 2;
        let quota = check(&meter, &pace, capacity, cost, now_us);
        if let Some(wait_us) = quota.retry_after_us {
            let room = u128::from(capacity - cost);
            assert!(oracle.used(&pace, now_us + wait_us).0 <= room);
            assert!(wait_us == 0 || oracle.used(&pace, now_us + wait_us - 1).1 > room);
        }
    }
}

/// A quota, after a check that its figures are true to the last microsecond,
/// and to the last millisecond when rounded up as replies are.
pub fn check<M: Meter>(
    meter: &M,
    policy: &Policy,
    capacity: u64,
    cost: Cost,
    now_us: Micros,
) -> Quota {
    let quota_at = |at_us| meter.quota(policy, capacity, cost, at_us);
    let fits = |at_us| quota_at(at_us).retry_after_us == Some(0);
    let quota = quota_at(now_us);
    assert_eq!((quota.limit, quota.used), (capacity, meter.used(policy, now_us)));
    assert_eq!(quota.retry_after_us.is_none(), cost > capacity);
    assert_eq!(fits(now_us), cost <= quota.remaining());
    if let Some(wait_us @ 1..) = quota.retry_after_us {
        assert!(fits(now_us + wait_us) && !fits(now_us + wait_us - 1));
        let rounded_us = wait_us.next_multiple_of(MICROS_PER_MILLI);
        assert!(fits(now_us + rounded_us) && !fits(now_us + rounded_us - MICROS_PER_MILLI));
        assert!(wait_us <= quota.reset_after_us);
    }
    let reset_at_us = now_us + quota.reset_after_us;
    assert_eq!(quota_at(reset_at_us).used, 0);
    if quota.reset_after_us > 0 {
        assert_eq!(meter.reset_at(policy), reset_at_us);
        assert!(meter.used(policy, reset_at_us - 1) > 0);
    } else {
        assert!(meter.reset_at(policy) <= now_us);
    }
    quota
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
    let position = prop_oneof![any::<u64>(), 0..=2 * MAX_AMOUNT, Just(u64::MAX)];
    let figures = (amount(), amount(), window_us, 0..=MAX_TIME_US);
    (figures, cost(), position.prop_map(Position), cost(), amount()).prop_map(
        |((limit, burst, window_us, now_us), cost, position, estimate, actual)| Ordeal {
            policy: Policy { limit, window_us, burst },
            now_us,
            cost,
            settlement: Settlement { position, estimate, actual },
        },
    )
}

/// Nothing wraps, and the stray settlement brings about no more than one of a
/// charge that was made.
pub fn endure<M: Meter>(mut meter: M, ordeal: &Ordeal) {
    let Ordeal { policy, now_us, cost, settlement } = ordeal;
    let Settlement { estimate, actual, mut position } = *settlement;
    meter.rewind_to(policy, iter::once(&mut position), *now_us);
    for capacity in [policy.limit, policy.burst] {
        check(&meter, policy, capacity, *cost, *now_us);
    }
    for stray in [settlement.position, Position(*now_us)] {
        let settlement = Settlement { position: stray, ..*settlement };
        let before = meter.used(policy, *now_us);
        meter.settle(policy, &settlement, *now_us);
        let after = meter.used(policy, *now_us);
        assert!(after >= before.saturating_sub(estimate.saturating_sub(actual)));
        assert!(after <= before.saturating_add(actual.saturating_sub(estimate)));
    }
    meter.charge(policy, *cost, *now_us);
    assert!(meter.used(policy, *now_us) >= *cost);
    check(&meter, policy, policy.limit, *cost, *now_us);
    check(&meter, policy, policy.limit, *cost, *now_us + policy.window_us / 2);
}
