//! The payloads of a limiter: what RDB files, DUMP and replication carry.
//! Numbers are LEB128.
//!
//! ```text
//! limiter      version u8 = 1 · windows · how many reservations · reservations
//! windows      algorithm u8 · how many u8 · for each: limit · window_us · burst ·
//!              FIXED: opened_us · used
//!              SLIDING: exact u8 · how many · for each charge: at_us · cost
//!              GCRA: debt in tokens · debt in parts · updated_us · charged
//! reservation  id, 16 bytes · estimate · ttl_ms · expires_at_ms ·
//!              how many marks u8 · for each: window_us · mark
//! change       event u8: 0 a charge, 1 a settlement ·
//!              0 u8 · limiter, or
//!              1 u8 · windows · pruned_at_ms · settled u8 [id] · added u8 [reservation]
//! ```

use super::charges::Charges;
use super::fixed::Fixed;
use super::gcra::Gcra;
use super::limiter::{Change, Event, Limiter};
use super::policy::{MAX_TIME_US, MAX_WINDOW_US, MAX_WINDOWS, MIN_WINDOW_US, Policy};
use super::reservation::{Marks, Reservation};
use super::sliding::Sliding;
use super::slot::{Algorithm, Slot, Usage};
use super::window::Mark;
use crate::bounds::{MAX_AMOUNT, MAX_TTL_MS};
use crate::id::Id;
use crate::time::{MICROS_PER_MILLI, Millis};
use crate::wire::{Reader, push_number};

const VERSION: u8 = 1;
const WHOLE: u8 = 0;
const WINDOWS: u8 = 1;

/// The latest expiry of a reservation.
const MAX_TIME_MS: Millis = MAX_TIME_US / MICROS_PER_MILLI;

/// Appends the payload of a limiter.
pub fn encode(limiter: &Limiter, out: &mut Vec<u8>) {
    out.push(VERSION);
    push_slots(limiter.slots(), out);
    push_number(limiter.reservations().len() as u64, out);
    for reservation in limiter.reservations() {
        push_reservation(reservation, out);
    }
}

/// Reads the payload of a limiter; `None` unless it is one that can be.
pub fn decode(payload: &[u8]) -> Option<Limiter> {
    let mut reader = Reader::new(payload);
    if reader.u8()? != VERSION {
        return None;
    }
    let slots = slots(&mut reader)?;
    let count = reader.number()?;
    let mut reservations = Vec::new();
    for _ in 0..count {
        reservations.push(reservation(&mut reader)?);
    }
    reader.end()?;
    Limiter::of(slots, reservations)
}

/// Appends the payload of a change that has been made to a limiter.
pub fn encode_change(limiter: &Limiter, event: Event, change: &Change, out: &mut Vec<u8>) {
    out.push(u8::from(event == Event::Settlement));
    let Change::Windows { pruned_at_ms, added, settled } = *change else {
        out.push(WHOLE);
        return encode(limiter, out);
    };
    out.push(WINDOWS);
    push_slots(limiter.slots(), out);
    push_number(pruned_at_ms, out);
    out.push(u8::from(settled.is_some()));
    out.extend(settled.iter().flat_map(|id| id.0));
    let added = limiter.reservations().last().filter(|_| added);
    out.push(u8::from(added.is_some()));
    if let Some(reservation) = added {
        push_reservation(reservation, out);
    }
}

/// Makes the change of a payload to a limiter, a new one where there is none:
/// what the change was, and what comes of it. `None`, and nothing changed,
/// unless it is a change that can be.
pub fn apply(payload: &[u8], limiter: Option<&Limiter>) -> Option<(Event, Limiter)> {
    let mut reader = Reader::new(payload);
    let event = if flag(&mut reader)? { Event::Settlement } else { Event::Charge };
    match reader.u8()? {
        WHOLE => return Some((event, decode(payload.get(2..)?)?)),
        WINDOWS => {}
        _ => return None,
    }
    let slots = slots(&mut reader)?;
    let pruned_at_ms = time_ms(&mut reader)?;
    let settled = if flag(&mut reader)? { Some(id(&mut reader)?) } else { None };
    let added = if flag(&mut reader)? { Some(reservation(&mut reader)?) } else { None };
    reader.end()?;
    let mut reservations = limiter.map(Limiter::reservations).unwrap_or_default().to_vec();
    reservations.retain(|held| held.is_open(pruned_at_ms) && Some(held.id) != settled);
    reservations.extend(added);
    Some((event, Limiter::of(slots, reservations)?))
}

fn push_slots(slots: &[Slot], out: &mut Vec<u8>) {
    let algorithm = slots.first().map(Slot::algorithm).unwrap_or_default();
    out.push(algorithm as u8);
    out.push(slots.len() as u8);
    for Slot { policy, usage } in slots {
        for number in [policy.limit, policy.window_us, policy.burst] {
            push_number(number, out);
        }
        match usage {
            Usage::Fixed(Fixed { opened_us, used }) => {
                push_number(*opened_us, out);
                push_number(*used, out);
            }
            Usage::Sliding(Sliding(charges)) => {
                out.push(u8::from(charges.exact()));
                push_number(charges.parts(policy).count() as u64, out);
                for (at_us, cost) in charges.parts(policy) {
                    push_number(at_us, out);
                    push_number(cost, out);
                }
            }
            Usage::Gcra(Gcra { debt_tokens, debt_parts, updated_us, charged }) => {
                for number in [debt_tokens, debt_parts, updated_us, charged] {
                    push_number(*number, out);
                }
            }
        }
    }
}

fn slots(reader: &mut Reader) -> Option<Vec<Slot>> {
    let algorithm = *Algorithm::ALL.get(usize::from(reader.u8()?))?;
    let count = usize::from(reader.u8()?);
    if !(1..=MAX_WINDOWS).contains(&count) {
        return None;
    }
    (0..count).map(|_| slot(algorithm, reader)).collect()
}

fn slot(algorithm: Algorithm, reader: &mut Reader) -> Option<Slot> {
    let limit = amount(reader)?;
    let window_us =
        reader.number().filter(|length| (MIN_WINDOW_US..=MAX_WINDOW_US).contains(length))?;
    let policy = Policy { limit, window_us, burst: amount(reader)? };
    let usage = match algorithm {
        Algorithm::Fixed => {
            Usage::Fixed(Fixed { opened_us: time_us(reader)?, used: reader.number()? })
        }
        Algorithm::Sliding => Usage::Sliding(Sliding(charges(&policy, reader)?)),
        Algorithm::Gcra => Usage::Gcra(Gcra {
            debt_tokens: reader.number()?,
            debt_parts: reader.number()?,
            updated_us: time_us(reader)?,
            charged: reader.number()?,
        }),
    };
    Some(Slot { policy, usage })
}

fn charges(policy: &Policy, reader: &mut Reader) -> Option<Charges> {
    let exact = flag(reader)?;
    let count = reader.number()?;
    let mut parts = Vec::new();
    for _ in 0..count {
        parts.push((time_us(reader)?, reader.number()?));
    }
    Charges::from_parts(policy, exact, &parts)
}

fn push_reservation(reservation: &Reservation, out: &mut Vec<u8>) {
    let Reservation { id, estimate, ttl_ms, expires_at_ms, marks } = reservation;
    out.extend(id.0);
    for number in [estimate, ttl_ms, expires_at_ms] {
        push_number(*number, out);
    }
    out.push(marks.len() as u8);
    for (window_us, mark) in marks {
        push_number(*window_us, out);
        push_number(mark.0, out);
    }
}

fn reservation(reader: &mut Reader) -> Option<Reservation> {
    let id = id(reader)?;
    let estimate = amount(reader)?;
    let ttl_ms = reader.number().filter(|ttl_ms| *ttl_ms <= MAX_TTL_MS)?;
    let expires_at_ms = time_ms(reader)?;
    let mut marks = Marks::new();
    for _ in 0..reader.u8()? {
        marks.try_push((reader.number()?, Mark(reader.number()?))).ok()?;
    }
    Some(Reservation::new(id, estimate, ttl_ms, expires_at_ms, &marks))
}

fn id(reader: &mut Reader) -> Option<Id> {
    reader.bytes(16)?.try_into().ok().map(Id)
}

fn flag(reader: &mut Reader) -> Option<bool> {
    reader.u8().filter(|flag| *flag <= 1).map(|flag| flag == 1)
}

fn amount(reader: &mut Reader) -> Option<u64> {
    reader.number().filter(|amount| *amount <= MAX_AMOUNT)
}

fn time_us(reader: &mut Reader) -> Option<u64> {
    reader.number().filter(|at_us| *at_us <= MAX_TIME_US)
}

fn time_ms(reader: &mut Reader) -> Option<Millis> {
    reader.number().filter(|at_ms| *at_ms <= MAX_TIME_MS)
}

#[cfg(test)]
mod tests {
    use super::super::request::{Mode, Policies, Request};
    use super::*;
    use crate::time::Micros;
    use proptest::prelude::*;

    fn encoded(limiter: &Limiter) -> Vec<u8> {
        let mut payload = Vec::new();
        encode(limiter, &mut payload);
        payload
    }

    fn request(lengths_us: &[u64], algorithm: Algorithm, cost: u64, reserve: bool) -> Request {
        let policies = lengths_us.iter().map(|length_us| Policy::new(1_000, *length_us));
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

    type Step = (usize, usize, u64, bool, Option<u8>, i64);

    /// Traffic on one key: windows, algorithm, cost, whether to reserve, which
    /// reservation to settle instead, and how far the clock moves.
    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let jump = prop_oneof![5 => 0i64..800_000, 1 => -9_000_000i64..9_000_000];
        let step = (1usize..4, 0usize..3, 1u64..500, any::<bool>(), any::<Option<u8>>(), jump);
        prop::collection::vec(step, 1..60)
    }

    /// Plays the traffic and shows each change and the state after it.
    fn play(steps: Vec<Step>, mut each: impl FnMut(Option<&Limiter>, &Change, &Limiter)) {
        const LENGTHS_US: [Micros; 3] = [3_000_000, 1_000, 60_000_000];
        let mut key: Option<Limiter> = None;
        let mut now_us: Micros = 1_800_000_000_000_000;
        // Most traffic keeps to one algorithm.
        let usual = steps.first().map_or(0, |step| step.1);
        for (count, (windows, algorithm, cost, reserve, settle, jump)) in
            steps.into_iter().enumerate()
        {
            now_us = now_us.saturating_add_signed(jump);
            let before = key.clone();
            let change = if let Some((limiter, place)) = key.as_mut().zip(settle) {
                let held = limiter.reservations().get(usize::from(place) % 4).map(|held| held.id);
                held.and_then(|id| limiter.settle(id, cost, now_us))
            } else {
                let algorithm = Algorithm::ALL[if count % 9 == 8 { algorithm } else { usual }];
                let call = request(&LENGTHS_US[..windows], algorithm, cost, reserve);
                Limiter::decide(key.as_ref(), &call, now_us).ok().map(|decision| {
                    let limiter = key.get_or_insert_with(|| Limiter::new(&call, algorithm));
                    let id = reserve.then_some(Id([count as u8; 16]));
                    limiter.commit(&call, &decision, id, now_us)
                })
            };
            if let Some((limiter, change)) = key.as_ref().zip(change) {
                each(before.as_ref(), &change, limiter);
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

        /// A replica that applies each change has what the primary has.
        #[test]
        fn a_change_makes_of_the_state_before_it_the_state_after_it(steps in steps()) {
            let mut replica: Option<Limiter> = None;
            play(steps, |before, change, limiter| {
                assert_eq!(replica.as_ref(), before);
                let mut payload = Vec::new();
                encode_change(limiter, Event::Settlement, change, &mut payload);
                for end in 0..payload.len() {
                    assert_eq!(apply(&payload[..end], before), None, "cut at {end}");
                }
                let (event, applied) = apply(&payload, before).unwrap();
                assert_eq!((event, &applied), (Event::Settlement, limiter), "{change:?}");
                replica = Some(applied);
            });
        }

        #[test]
        fn no_bytes_decode_to_what_cannot_be(
            steps in steps(),
            spoils in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            play(steps, |_, _, limiter| {
                let mut payload = encoded(limiter);
                for (place, byte) in &spoils {
                    let place = place.index(payload.len());
                    payload[place] = *byte;
                }
                if let Some(limiter) = decode(&payload) {
                    assert_eq!(encoded(&limiter), payload);
                }
                apply(&payload, Some(limiter));
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
    }
}
