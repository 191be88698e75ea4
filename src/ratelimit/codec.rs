//! The payloads of a limiter: what RDB files, DUMP and replication carry.
//! Numbers are LEB128 (see [`crate::wire`]), ids their 16 bytes.
//!
//! ```text
//! limiter      version u8 = 1 · algorithm u8 · how many windows u8 · for each:
//!              limit · window_us · burst ·
//!              FIXED: opened_us · used
//!              SLIDING: exact u8 · how many · for each charge: at_us · cost
//!              GCRA: debt in tokens · debt in parts · charged_us · charged
//!              how many reservations · for each: id · estimate · ttl_ms ·
//!              expires_at_ms · how many positions u8 · for each: window_us · position
//! change       version u8 = 1 · now_us · step u8, and of the step:
//!              0 rewind
//!              1 charge: algorithm u8 · how many limits u8 · for each: limit ·
//!              window_us · burst · then cost · 0 u8, or 1 u8 · id · ttl_ms
//!              2 settle: id · actual
//! ```

use super::change::{Change, Step};
use super::fixed::Fixed;
use super::gcra::Gcra;
use super::limiter::Limiter;
use super::meter::Position;
use super::policy::{Algorithm, MAX_WINDOW_US, MAX_WINDOWS, MIN_WINDOW_US, Policies, Policy};
use super::reservation::{MAX_RESERVATIONS, Positions, Reservation};
use super::sliding::Sliding;
use super::sliding_log::{Charge, SlidingLog};
use super::window::{Usage, Window};
use crate::bounds::{MAX_TIME_US, MAX_TTL_MS};
use crate::time::{MICROS_PER_MILLI, Micros, Millis};
use crate::wire::{Reader, push_number};

const VERSION: u8 = 1;
const CHANGE_VERSION: u8 = 1;

/// The latest expiry of a reservation.
const MAX_TIME_MS: Millis = MAX_TIME_US / MICROS_PER_MILLI + MAX_TTL_MS;

/// The least bytes of a reservation.
const LEAST_RESERVATION: usize = 20;

/// Appends the payload of a limiter.
pub fn encode(limiter: &Limiter, out: &mut Vec<u8>) {
    out.push(VERSION);
    out.push(limiter.algorithm() as u8);
    out.push(limiter.windows().len() as u8);
    limiter.windows().iter().for_each(|window| push_window(window, out));
    push_number(limiter.reservations().len() as u64, out);
    limiter.reservations().iter().for_each(|reservation| push_reservation(reservation, out));
}

/// Reads the payload of a limiter; `None` unless it is one that can be.
pub fn decode(payload: &[u8]) -> Option<Limiter> {
    let mut reader = Reader::new(payload);
    if reader.u8()? != VERSION {
        return None;
    }
    let algorithm = algorithm(&mut reader)?;
    let count = count(&mut reader)?;
    let windows = (0..count).map(|_| window(algorithm, &mut reader)).collect::<Option<_>>()?;
    let count = usize::try_from(reader.number()?).ok()?;
    if count > MAX_RESERVATIONS.min(reader.rest().len() / LEAST_RESERVATION) {
        return None;
    }
    let mut reservations = Vec::with_capacity(count);
    for _ in 0..count {
        reservations.push(reservation(&mut reader)?);
    }
    reader.end()?;
    Limiter::of(windows, reservations)
}

/// Appends the payload of a change.
pub fn encode_change(change: &Change, out: &mut Vec<u8>) {
    out.push(CHANGE_VERSION);
    push_number(change.now_us, out);
    match change.step {
        Step::Rewind => out.push(0),
        Step::Charge { algorithm, policies, cost, reservation } => {
            out.push(1);
            out.push(algorithm as u8);
            out.push(policies.len() as u8);
            policies.iter().for_each(|policy| push_policy(policy, out));
            push_number(cost, out);
            out.push(u8::from(reservation.is_some()));
            if let Some((id, ttl_ms)) = reservation {
                out.extend(id.0);
                push_number(ttl_ms, out);
            }
        }
        Step::Settle { id, actual } => {
            out.push(2);
            out.extend(id.0);
            push_number(actual, out);
        }
    }
}

/// Reads the payload of a change, whose limits are put into `policies`; `None`
/// unless it is one that can be.
pub fn decode_change<'p>(payload: &[u8], policies: &'p mut Policies) -> Option<Change<'p>> {
    let mut reader = Reader::new(payload);
    if reader.u8()? != CHANGE_VERSION {
        return None;
    }
    let now_us = reader.time_us()?;
    let step = match reader.u8()? {
        0 => Step::Rewind,
        1 => {
            let algorithm = algorithm(&mut reader)?;
            for _ in 0..count(&mut reader)? {
                let policy = policy(&mut reader)?;
                if policies.iter().any(|other| other.window_us == policy.window_us) {
                    return None;
                }
                policies.try_push(policy).ok()?;
            }
            let cost = reader.cost()?;
            let reservation = match flag(&mut reader)? {
                true => Some((reader.id()?, reader.ttl_ms()?)),
                false => None,
            };
            Step::Charge { algorithm, policies, cost, reservation }
        }
        2 => Step::Settle { id: reader.id()?, actual: reader.amount()? },
        _ => return None,
    };
    reader.end()?;
    Some(Change { now_us, step })
}

fn push_policy(policy: &Policy, out: &mut Vec<u8>) {
    for number in [policy.limit, policy.window_us, policy.burst] {
        push_number(number, out);
    }
}

fn policy(reader: &mut Reader) -> Option<Policy> {
    Some(Policy { limit: reader.amount()?, window_us: length(reader)?, burst: reader.amount()? })
}

fn push_window(Window { policy, usage }: &Window, out: &mut Vec<u8>) {
    push_policy(policy, out);
    match usage {
        Usage::Fixed(Fixed { opened_us, used }) => {
            push_number(*opened_us, out);
            push_number(*used, out);
        }
        Usage::Sliding(Sliding(log)) => {
            out.push(u8::from(log.exact()));
            push_number(log.charges(policy).count() as u64, out);
            for Charge { at_us, cost } in log.charges(policy) {
                push_number(at_us, out);
                push_number(cost, out);
            }
        }
        Usage::Gcra(Gcra { debt_tokens, debt_parts, charged_us, charged }) => {
            for number in [debt_tokens, debt_parts, charged_us, charged] {
                push_number(*number, out);
            }
        }
    }
}

fn window(algorithm: Algorithm, reader: &mut Reader) -> Option<Window> {
    let policy = policy(reader)?;
    let usage = match algorithm {
        Algorithm::Fixed => {
            Usage::Fixed(Fixed { opened_us: reader.time_us()?, used: reader.number()? })
        }
        Algorithm::Sliding => Usage::Sliding(Sliding(sliding_log(&policy, reader)?)),
        Algorithm::Gcra => Usage::Gcra(Gcra {
            debt_tokens: reader.number()?,
            debt_parts: reader.number().filter(|parts| *parts < policy.window_us)?,
            charged_us: reader.time_us()?,
            charged: reader.number()?,
        }),
    };
    Some(Window { policy, usage })
}

fn sliding_log(policy: &Policy, reader: &mut Reader) -> Option<SlidingLog> {
    let exact = flag(reader)?;
    let count = usize::try_from(reader.number()?).ok()?;
    if count > SlidingLog::MAX_CHARGES {
        return None;
    }
    let charge = |_| Some(Charge { at_us: reader.time_us()?, cost: reader.number()? });
    let charges: Vec<_> = (0..count).map(charge).collect::<Option<_>>()?;
    SlidingLog::from_charges(policy, exact, &charges)
}

fn push_reservation(reservation: &Reservation, out: &mut Vec<u8>) {
    let Reservation { id, estimate, ttl_ms, expires_at_ms, positions } = reservation;
    out.extend(id.0);
    for number in [estimate, ttl_ms, expires_at_ms] {
        push_number(*number, out);
    }
    out.push(positions.len() as u8);
    for (window_us, position) in positions {
        push_number(*window_us, out);
        push_number(position.0, out);
    }
}

fn reservation(reader: &mut Reader) -> Option<Reservation> {
    let id = reader.id()?;
    let estimate = reader.cost()?;
    let ttl_ms = reader.ttl_ms()?;
    let expires_at_ms = reader.number().filter(|at| (ttl_ms..=MAX_TIME_MS).contains(at))?;
    let mut positions = Positions::new();
    for _ in 0..reader.u8()? {
        positions.try_push((length(reader)?, Position(reader.number()?))).ok()?;
    }
    Some(Reservation::new(id, estimate, ttl_ms, expires_at_ms, &positions))
}

fn algorithm(reader: &mut Reader) -> Option<Algorithm> {
    Algorithm::ALL.get(usize::from(reader.u8()?)).copied()
}

/// How many limits or windows there are.
fn count(reader: &mut Reader) -> Option<usize> {
    reader.u8().map(usize::from).filter(|count| (1..=MAX_WINDOWS).contains(count))
}

fn flag(reader: &mut Reader) -> Option<bool> {
    reader.u8().filter(|flag| *flag <= 1).map(|flag| flag == 1)
}

fn length(reader: &mut Reader) -> Option<Micros> {
    reader.number().filter(|length_us| (MIN_WINDOW_US..=MAX_WINDOW_US).contains(length_us))
}

#[cfg(test)]
mod tests {
    use super::super::request::{Mode, Request};
    use super::*;
    use crate::bounds::MAX_AMOUNT;
    use crate::id::Id;
    use proptest::prelude::*;

    fn encoded(limiter: &Limiter) -> Vec<u8> {
        let mut payload = Vec::new();
        encode(limiter, &mut payload);
        payload
    }

    fn request(lengths_us: &[u64], algorithm: Algorithm, cost: u64, reserve: bool) -> Request {
        let limit = 1_000 + cost % 7;
        let policies = lengths_us.iter().map(|length_us| Policy::new(limit, *length_us));
        Request {
            policies: Policies::from_iter(policies),
            algorithm: Some(algorithm),
            default_algorithm: algorithm,
            has_burst: false,
            cost,
            mode: Mode::Force,
            reserve_ms: reserve.then_some(2_000),
            max_reservations: 5,
        }
    }

    type Traffic = (Vec<Micros>, usize, u64, bool, Option<u8>, i64);

    /// Traffic on one key: windows, which come and go, algorithm, cost, whether to reserve, which
    /// reservation to settle instead, and how far the clock moves.
    fn steps() -> impl Strategy<Value = Vec<Traffic>> {
        let jump = prop_oneof![5 => 0i64..800_000, 1 => -9_000_000i64..9_000_000];
        let lengths_us = vec![3_000_000, 1_000, 60_000_000, 777_777];
        let windows = prop::sample::subsequence(lengths_us, 1..4);
        let step = (windows, 0usize..3, 1u64..500, any::<bool>(), any::<Option<u8>>(), jump);
        prop::collection::vec(step, 1..60)
    }

    /// Plays the traffic and shows each change and the state before and after it.
    fn play(steps: Vec<Traffic>, mut each: impl FnMut(&Limiter, &Change, &Limiter)) {
        let mut limiter = Limiter::default();
        let mut now_us: Micros = 1_800_000_000_000_000;
        // Most traffic keeps to one algorithm.
        let usual = steps.first().map_or(0, |step| step.1);
        for (count, (windows, algorithm, cost, reserve, settle, jump)) in
            steps.into_iter().enumerate()
        {
            now_us = now_us.saturating_add_signed(jump);
            let before = limiter.clone();
            let algorithm = Algorithm::ALL[if count % 9 == 8 { algorithm } else { usual }];
            let call = request(&windows, algorithm, cost, reserve);
            let change = if let Some(index) = settle {
                let held = limiter.reservations().get(usize::from(index) % 4);
                held.and_then(|held| limiter.decide_settlement(held.id, cost, now_us))
            } else {
                let id = || Id([count as u8; 16]);
                let decision = Limiter::decide(Some(&limiter), &call, now_us, id);
                let decision = decision.ok().filter(|decision| decision.check_room().is_ok());
                decision.and_then(|decision| decision.change)
            };
            if let Some(change) = change {
                limiter.apply(&change);
                each(&before, &change, &limiter);
            }
        }
    }

    proptest! {
        #[test]
        fn a_limiter_comes_back_as_it_went(steps in steps()) {
            let mut payloads = Vec::new();
            play(steps, |_, _, limiter| {
                let payload = encoded(limiter);
                assert_eq!(decode(&payload).as_ref(), Some(limiter));
                payloads.push(payload);
            });
            if let Some(payload) = payloads.last() {
                for end in 0..payload.len() {
                    prop_assert_eq!(decode(&payload[..end]), None, "cut at {}", end);
                }
                prop_assert_eq!(decode(&[payload.as_slice(), b"x"].concat()), None);
            }
        }

        /// A replica that has loaded the state before and applies a change has
        /// what the primary has, and is sent a few bytes for it.
        #[test]
        fn a_change_makes_of_the_state_before_it_the_state_after_it(steps in steps()) {
            play(steps, |before, change, limiter| {
                let mut payload = Vec::new();
                encode_change(change, &mut payload);
                assert!(payload.len() <= 100, "{}", payload.len());
                for end in 0..payload.len() {
                    let cut = decode_change(&payload[..end], &mut Policies::new()).is_none();
                    assert!(cut, "cut at {end}");
                }
                let mut policies = Policies::new();
                let sent = decode_change(&payload, &mut policies).unwrap();
                assert_eq!(sent, *change);
                let mut replica = decode(&encoded(before)).unwrap();
                assert!(Limiter::takes(Some(&replica), &sent));
                replica.apply(&sent);
                assert_eq!(replica, *limiter, "{change:?}");
            });
        }

        #[test]
        fn no_bytes_decode_to_what_cannot_be(
            steps in steps(),
            spoils in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            play(steps, |before, change, limiter| {
                let spoil = |mut payload: Vec<u8>| {
                    for (index, byte) in &spoils {
                        let index = index.index(payload.len());
                        payload[index] = *byte;
                    }
                    payload
                };
                let payload = spoil(encoded(limiter));
                if let Some(limiter) = decode(&payload) {
                    assert_eq!(encoded(&limiter), payload);
                }
                let mut payload = Vec::new();
                encode_change(change, &mut payload);
                let payload = spoil(payload);
                let mut policies = Policies::new();
                if let Some(change) = decode_change(&payload, &mut policies) {
                    let mut again = Vec::new();
                    encode_change(&change, &mut again);
                    assert_eq!(again, payload);
                    // Whatever it is, the state that it leaves can be saved and loaded.
                    let mut limiter = before.clone();
                    if Limiter::takes(Some(&limiter), &change) {
                        limiter.apply(&change);
                        assert_eq!(decode(&encoded(&limiter)), Some(limiter));
                    }
                }
            });
        }
    }

    #[test]
    fn a_limiter_that_nobody_has_charged_comes_back() {
        assert_eq!(decode(&encoded(&Limiter::default())), Some(Limiter::default()));
    }

    #[test]
    fn refuses_what_no_limiter_has() {
        let windows = |algorithm: u8, windows: &[[u64; 5]]| {
            let mut payload = vec![VERSION, algorithm, windows.len() as u8];
            for number in windows.as_flattened() {
                push_number(*number, &mut payload);
            }
            payload.push(0);
            decode(&payload)
        };
        let sound = [9, 1_000, 9, 5, 3];
        assert!(windows(0, &[sound]).is_some());
        assert_eq!(windows(3, &[sound]), None, "an unknown algorithm");
        assert_eq!(windows(0, &[]), None, "no window");
        assert_eq!(windows(0, &[sound; 2]), None, "the same window twice");
        assert_eq!(windows(0, &[sound; 9]), None, "too many windows");
        assert_eq!(windows(0, &[[MAX_AMOUNT + 1, 1_000, 9, 5, 3]]), None);
        assert_eq!(windows(0, &[[9, MIN_WINDOW_US - 1, 9, 5, 3]]), None);
        assert_eq!(windows(0, &[[9, MAX_WINDOW_US + 1, 9, 5, 3]]), None);
        assert_eq!(windows(0, &[[9, 1_000, 9, MAX_TIME_US + 1, 3]]), None);
        let mut many = encoded(&Limiter::default());
        many.pop();
        push_number(u64::MAX, &mut many);
        assert_eq!(decode(&many), None, "more reservations than bytes");
        let mut unknown = encoded(&Limiter::default());
        unknown[0] = VERSION + 1;
        assert_eq!(decode(&unknown), None);
        let reservations = |ids: &[u8]| {
            let mut payload = encoded(&Limiter::default());
            payload.pop();
            payload.push(ids.len() as u8);
            for id in ids {
                payload.extend([*id; 16]);
                payload.extend([1, 2, 3, 0]);
            }
            decode(&payload)
        };
        assert!(reservations(&[1, 2]).is_some());
        assert_eq!(reservations(&[1, 2, 1]), None, "an id twice");
        let reservation = |estimate: u8, ttl_ms: u8, expires_at_ms: u8, positions: &[u64]| {
            let mut payload = encoded(&Limiter::default());
            payload.pop();
            payload.push(1);
            payload.extend([7; 16]);
            payload.extend([estimate, ttl_ms, expires_at_ms, positions.len() as u8]);
            for window_us in positions {
                push_number(*window_us, &mut payload);
                payload.push(5);
            }
            decode(&payload)
        };
        assert!(reservation(1, 2, 2, &[MIN_WINDOW_US]).is_some());
        assert_eq!(reservation(0, 2, 3, &[]), None, "an estimate of nothing");
        assert_eq!(reservation(1, 2, 1, &[]), None, "one from before the epoch");
        assert_eq!(reservation(1, 2, 3, &[MIN_WINDOW_US; 2]), None, "a window twice");
        assert_eq!(reservation(1, 2, 3, &[MIN_WINDOW_US + 1]), None, "a window that is not there");
        let bucket = |debt_parts| {
            let gcra = Gcra { debt_tokens: 3, debt_parts, charged_us: 5, charged: 3 };
            let window = Window { policy: Policy::new(9, 1_000), usage: Usage::Gcra(gcra) };
            decode(&encoded(&Limiter::One(window)))
        };
        assert!(bucket(999).is_some());
        assert_eq!(bucket(1_000), None, "a token in parts");
    }

    #[test]
    fn refuses_what_no_change_is() {
        let decoded = |payload: &[u8]| decode_change(payload, &mut Policies::new()).is_some();
        let limit = |limit: u8| [limit, 0xe8, 0x07, 9];
        let charge = |limits: &[[u8; 4]], rest: &[u8]| {
            let head = [CHANGE_VERSION, 5, 1, 0, limits.len() as u8];
            decoded(&[&head, limits.as_flattened(), rest].concat())
        };
        assert!(charge(&[limit(9)], &[1, 0]));
        assert!(!charge(&[limit(9); 2], &[1, 0]), "the same window twice");
        assert!(!charge(&[], &[1, 0]), "no window");
        assert!(!charge(&[limit(9)], &[0, 0]), "no cost");
        assert!(!charge(&[limit(9)], &[1, 2]), "no flag");
        assert!(!charge(&[limit(9)], &[&[1, 1][..], &[7; 16], &[0]].concat()), "no time");
        assert!(charge(&[limit(9)], &[&[1, 1][..], &[7; 16], &[1]].concat()));
        assert!(decoded(&[CHANGE_VERSION, 5, 0]) && !decoded(&[CHANGE_VERSION + 1, 5, 0]));
        assert!(!decoded(&[CHANGE_VERSION, 5, 3]), "an unknown step");
        let mut late = vec![CHANGE_VERSION];
        push_number(MAX_TIME_US + 1, &mut late);
        late.push(0);
        assert!(!decoded(&late), "a moment that no clock shows");
    }
}
