//! The payloads of a limiter: what RDB files, DUMP and replication carry.
//! Numbers are LEB128 (see [`crate::wire`]), ids their 16 bytes.
//!
//! ```text
//! limiter      version u8 = 2 · algorithm u8 · how many windows u8 · for each:
//!              limit · window_us · burst ·
//!              FIXED: opened_us · used
//!              SLIDING: exact u8 · how many · for each charge: at_us · cost
//!              GCRA: debt in tokens · debt in parts · charged_us · charged
//!              one that closes at a moment, known by a window_us beyond the longest,
//!              whose burst is that moment: closes_us · used · opened
//!              how many holds · for each: id · cost · asked · ttl_ms · since_us ·
//!              how many windows u8, 128 more if another algorithm has taken over ·
//!              for each: window_us · position, which the former do not have then
//! change       version u8 = 2 · now_us · step u8, and of the step:
//!              0 rewind
//!              1 charge: algorithm u8 · how many limits u8 · for each: limit ·
//!              window_us · burst · then cost · 0 u8, or 1 u8 · id · ttl_ms · asked
//!              2 settle: id · 0 u8, or 1 u8 · actual
//!              3 renew: id · ttl_ms
//! ```
//!
//! Where all windows close at a moment, algorithm is that of the default, FIXED.
//! What another algorithm took over is in all windows but those that close at a moment.
//! A limiter of version 1 has reservations in place of holds: id · cost · ttl_ms ·
//! ends_ms · positions.

use super::change::{Change, Opened, Step};
use super::closing::Closing;
use super::fixed::Fixed;
use super::gcra::Gcra;
use super::ledger::{Entry, Ledger, Positions};
use super::limiter::Limiter;
use super::meter::Position;
use super::policy::{
    Algorithm, MAX_WINDOW_US, MAX_WINDOWS, MIN_WINDOW_US, Policies, Policy, closing,
};
use super::sliding::Sliding;
use super::sliding_log::{Charge, SlidingLog};
use super::window::{Usage, Window};
use crate::bounds::{MAX_TIME_US, MAX_TTL_MS};
use crate::hold::MAX_HOLDS;
use crate::time::{MICROS_PER_MILLI, Micros, Millis};
use crate::wire::{Reader, push_number};

const VERSION: u8 = 2;
const CHANGE_VERSION: u8 = 2;

/// Set in the number of a hold's windows where another algorithm has taken over.
const TAKEN_OVER: u8 = 0x80;

/// The latest end of a reservation.
const MAX_TIME_MS: Millis = MAX_TIME_US / MICROS_PER_MILLI + MAX_TTL_MS;

/// The least bytes of a hold.
const LEAST_HOLD: usize = 20;

/// Appends the payload of a limiter.
pub fn encode(limiter: &Limiter, out: &mut Vec<u8>) {
    out.push(VERSION);
    out.push(limiter.algorithm().unwrap_or_default() as u8);
    out.push(limiter.windows().len() as u8);
    limiter.windows().iter().for_each(|window| push_window(window, out));
    let ledger = limiter.ledger();
    push_number(ledger.map_or(0, |ledger| ledger.holds().len()) as u64, out);
    ledger.into_iter().flat_map(Ledger::entries).for_each(|entry| push_entry(&entry, out));
}

/// Reads the payload of a limiter; `None` unless it is one that can be.
pub fn decode(payload: &[u8]) -> Option<Limiter> {
    let mut reader = Reader::new(payload);
    let entry = match reader.u8()? {
        1 => reservation,
        VERSION => entry,
        _ => return None,
    };
    let algorithm = algorithm(&mut reader)?;
    let count = count(&mut reader)?;
    let windows: Vec<_> =
        (0..count).map(|_| window(algorithm, &mut reader)).collect::<Option<_>>()?;
    let is_there = |window_us| windows.iter().any(|window| window.policy.window_us == window_us);
    let count = usize::try_from(reader.number()?).ok()?;
    if count > MAX_HOLDS.min(reader.rest().len() / LEAST_HOLD) {
        return None;
    }
    let mut ledger = Ledger::default();
    let mut any_own = false;
    for _ in 0..count {
        let entry = entry(&mut reader)?;
        // A charge sits in windows that are there: those are few.
        let sits = entry.positions.iter().all(|(window_us, _)| is_there(*window_us));
        // What was taken over is older than all that was not.
        let follows = any_own && is_taken_over(&entry);
        if !sits || follows || ledger.holds().get(entry.id).is_some() {
            return None;
        }
        any_own |= entry
            .positions
            .iter()
            .any(|(window_us, position)| position.is_some() && closing(*window_us).is_none());
        ledger.add(entry);
    }
    reader.end()?;
    let limiter = Limiter::of(windows, ledger)?;
    // That no algorithm keeps the windows is said in one way.
    (limiter.algorithm().unwrap_or_default() == algorithm).then_some(limiter)
}

/// Appends the payload of a change.
pub fn encode_change(change: &Change, out: &mut Vec<u8>) {
    out.push(CHANGE_VERSION);
    push_number(change.now_us, out);
    match change.step {
        Step::Rewind => out.push(0),
        Step::Charge { algorithm, policies, cost, hold } => {
            out.push(1);
            out.push(algorithm as u8);
            out.push(policies.len() as u8);
            policies.iter().for_each(|policy| push_policy(policy, out));
            push_number(cost, out);
            out.push(u8::from(hold.is_some()));
            if let Some(Opened { id, ttl_ms, asked }) = hold {
                out.extend(id.0);
                push_number(ttl_ms, out);
                push_number(asked, out);
            }
        }
        Step::Settle { id, actual } => {
            out.push(2);
            out.extend(id.0);
            out.push(u8::from(actual.is_some()));
            if let Some(actual) = actual {
                push_number(actual, out);
            }
        }
        Step::Renew { id, ttl_ms } => {
            out.push(3);
            out.extend(id.0);
            push_number(ttl_ms, out);
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
            let cost = reader.amount()?;
            let hold = match flag(&mut reader)? {
                true => Some(Opened {
                    id: reader.id()?,
                    ttl_ms: reader.ttl_ms()?,
                    asked: reader.amount().filter(|asked| *asked >= cost)?,
                }),
                false if cost > 0 => None,
                false => return None,
            };
            Step::Charge { algorithm, policies, cost, hold }
        }
        2 => {
            let id = reader.id()?;
            let actual = if flag(&mut reader)? { Some(reader.amount()?) } else { None };
            Step::Settle { id, actual }
        }
        3 => Step::Renew { id: reader.id()?, ttl_ms: reader.ttl_ms()? },
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
    let (limit, window_us) = (reader.amount()?, length(reader)?);
    let burst = if closing(window_us).is_some() { close(reader)? } else { reader.amount()? };
    Some(Policy { limit, window_us, burst })
}

/// The moment at which a window closes.
fn close(reader: &mut Reader) -> Option<Micros> {
    reader.number().filter(|at_us| *at_us <= MAX_TIME_US + MAX_WINDOW_US)
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
        Usage::Closing(Closing { closes_us, used, opened }) => {
            for number in [closes_us, used, opened] {
                push_number(*number, out);
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
        _ if policy.close().is_some() => Usage::Closing(Closing {
            closes_us: close(reader)?,
            used: reader.number()?,
            opened: reader.number()?,
        }),
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

fn push_entry(entry: &Entry, out: &mut Vec<u8>) {
    let Entry { id, cost, asked, ttl_ms, since_us, positions } = entry;
    out.extend(id.0);
    for number in [cost, asked, ttl_ms, since_us] {
        push_number(*number, out);
    }
    let mark = if is_taken_over(entry) { TAKEN_OVER } else { 0 };
    out.push(positions.len() as u8 | mark);
    for (window_us, position) in positions {
        push_number(*window_us, out);
        if let Some(position) = position {
            push_number(position.0, out);
        }
    }
}

/// Whether another algorithm has taken over its charge.
fn is_taken_over(entry: &Entry) -> bool {
    entry.positions.iter().any(|(_, position)| position.is_none())
}

fn entry(reader: &mut Reader) -> Option<Entry> {
    let (id, cost) = (reader.id()?, reader.amount()?);
    let asked = reader.amount().filter(|asked| *asked >= cost)?;
    let (ttl_ms, since_us) = (reader.ttl_ms()?, reader.time_us()?);
    let head = reader.u8()?;
    let taken_over = head & TAKEN_OVER > 0;
    let positions = positions(reader, head & !TAKEN_OVER, taken_over)?;
    let in_order = positions.is_sorted_by_key(|(window_us, _)| *window_us);
    let entry = Entry { id, cost, asked, ttl_ms, since_us, positions };
    (in_order && is_taken_over(&entry) == taken_over).then_some(entry)
}

fn reservation(reader: &mut Reader) -> Option<Entry> {
    let (id, cost, ttl_ms) = (reader.id()?, reader.cost()?, reader.ttl_ms()?);
    let ends_ms = reader.number().filter(|at| (ttl_ms..=MAX_TIME_MS).contains(at))?;
    let since_us = (ends_ms - ttl_ms) * MICROS_PER_MILLI;
    if since_us > MAX_TIME_US {
        return None;
    }
    let count = reader.u8()?;
    let positions = positions(reader, count, false)?;
    Some(Entry { id, cost, asked: cost, ttl_ms, since_us, positions })
}

fn positions(reader: &mut Reader, count: u8, taken_over: bool) -> Option<Positions> {
    let mut positions = Positions::new();
    for _ in 0..count {
        let window_us = length(reader)?;
        let own = !taken_over || closing(window_us).is_some();
        let position = if own { Some(Position(reader.number()?)) } else { None };
        if positions.iter().any(|(other_us, _)| *other_us == window_us) {
            return None;
        }
        positions.try_push((window_us, position)).ok()?;
    }
    Some(positions)
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
    reader.number().filter(|length_us| {
        (MIN_WINDOW_US..=MAX_WINDOW_US).contains(length_us) || closing(*length_us).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::super::closing::Close;
    use super::super::request::{HoldRequest, Mode, Request};
    use super::*;
    use crate::bounds::MAX_AMOUNT;
    use crate::id::Id;
    use proptest::prelude::*;

    fn encoded(limiter: &Limiter) -> Vec<u8> {
        let mut payload = Vec::new();
        encode(limiter, &mut payload);
        payload
    }

    fn request(
        lengths_us: &[u64],
        algorithm: Algorithm,
        cost: u64,
        hold: Option<u8>,
        now_us: Micros,
    ) -> Request {
        let limit = 1_000 + cost % 7;
        let policies = lengths_us.iter().map(|length_us| match closing(*length_us) {
            Some(close) => Policy::until(limit, close, close.next(now_us) - cost),
            None => Policy::new(limit, *length_us),
        });
        Request {
            policies: Policies::from_iter(policies),
            algorithm: Some(algorithm),
            default_algorithm: algorithm,
            has_burst: false,
            cost,
            mode: Mode::Force,
            hold: hold.map(|id| HoldRequest { id: Id([id; 16]), ttl_ms: 2_000 }),
            max_holds: 5,
        }
    }

    type Traffic = (Vec<Micros>, usize, u64, bool, Option<u8>, i64);

    /// Traffic on one key: windows, which come and go, algorithm, cost, whether to hold, which hold
    /// to settle or renew instead, and how far the clock moves.
    fn steps() -> impl Strategy<Value = Vec<Traffic>> {
        let jump = prop_oneof![5 => 0i64..800_000, 1 => -9_000_000i64..9_000_000];
        let marks_us = [Close::Day, Close::Until].map(|close| Policy::until(1, close, 1).window_us);
        let lengths_us = [&[3_000_000, 1_000, 60_000_000, 777_777], &marks_us[..]].concat();
        let windows = prop::sample::subsequence(lengths_us, 1..4);
        let step = (windows, 0usize..3, 0u64..500, any::<bool>(), any::<Option<u8>>(), jump);
        prop::collection::vec(step, 1..60)
    }

    /// Plays the traffic and shows each change and the state before and after it.
    fn play(steps: Vec<Traffic>, mut each: impl FnMut(&Limiter, &Change, &Limiter)) {
        let mut limiter = Limiter::default();
        let mut now_us: Micros = 1_800_000_000_000_000;
        // Most traffic keeps to one algorithm.
        let usual = steps.first().map_or(0, |step| step.1);
        for (count, (windows, algorithm, cost, holds, end, jump)) in steps.into_iter().enumerate() {
            now_us = now_us.saturating_add_signed(jump);
            let before = limiter.clone();
            let algorithm = Algorithm::ALL[if count % 9 == 8 { algorithm } else { usual }];
            let call = request(&windows, algorithm, cost, holds.then_some(count as u8), now_us);
            let change = if let Some(index) = end {
                let mut held =
                    limiter.ledger().into_iter().flat_map(|ledger| ledger.holds().iter());
                let held = held.nth(usize::from(index) % 4).map(|(id, _)| id);
                held.and_then(|id| match index / 64 {
                    0 => limiter.decide_renewal(id, cost + 1, now_us),
                    1 => limiter.decide_settlement(id, None, now_us),
                    _ => limiter.decide_settlement(id, Some(cost), now_us),
                })
            } else {
                let decision = Limiter::decide(Some(&limiter), &call, now_us);
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
                if let Some(limiter) = decode(&payload).filter(|_| payload[0] == VERSION) {
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
        assert_eq!(windows(0, &[[9, MAX_WINDOW_US + 5, 9, 5, 3]]), None, "an unknown word");
        assert_eq!(windows(0, &[[9, 1_000, 9, MAX_TIME_US + 1, 3]]), None);
        let day = Policy::until(9, Close::Day, 5);
        let mut closing = encoded(&Limiter::One(Window::unused(Algorithm::Gcra, day)));
        assert!(decode(&closing).is_some());
        closing[1] = Algorithm::Gcra as u8;
        assert_eq!(decode(&closing), None, "an algorithm that keeps nothing");
        let mut many = encoded(&Limiter::default());
        many.pop();
        push_number(u64::MAX, &mut many);
        assert_eq!(decode(&many), None, "more holds than bytes");
        let mut unknown = encoded(&Limiter::default());
        unknown[0] = VERSION + 1;
        assert_eq!(decode(&unknown), None);
        let holds = |ids: &[u8]| {
            let mut payload = encoded(&Limiter::default());
            payload.pop();
            payload.push(ids.len() as u8);
            for id in ids {
                payload.extend([*id; 16]);
                payload.extend([1, 1, 2, 3, 0]);
            }
            decode(&payload)
        };
        assert!(holds(&[1, 2]).is_some());
        assert_eq!(holds(&[1, 2, 1]), None, "an id twice");
        let one = |version: u8, figures: &[u8], positions: &[u64]| {
            let mut payload = encoded(&Limiter::default());
            payload[0] = version;
            payload.pop();
            payload.push(1);
            payload.extend([7; 16]);
            payload.extend(figures);
            payload.push(positions.len() as u8);
            for window_us in positions {
                push_number(*window_us, &mut payload);
                payload.push(5);
            }
            decode(&payload)
        };
        let hold = |figures: [u8; 4], positions: &[u64]| one(VERSION, &figures, positions);
        assert!(hold([1, 1, 2, 2], &[MIN_WINDOW_US]).is_some());
        assert!(hold([0, 9, 2, 2], &[]).is_some(), "one that takes nothing yet");
        assert_eq!(hold([2, 1, 2, 2], &[]), None, "more than was asked for");
        assert_eq!(hold([1, 1, 0, 2], &[]), None, "one that has no time");
        assert_eq!(hold([1, 1, 2, 3], &[MIN_WINDOW_US; 2]), None, "a window twice");
        assert_eq!(hold([1, 1, 2, 3], &[MIN_WINDOW_US + 1]), None, "a window that is not there");
        let holds = |version: u8, places: &[&[u8]]| {
            let mut payload = encoded(&Limiter::default());
            payload[0] = version;
            payload.pop();
            payload.push(places.len() as u8);
            for (number, place) in places.iter().enumerate() {
                payload.extend([number as u8; 16]);
                payload.extend(if version == 1 { &[1, 2, 5][..] } else { &[1, 1, 2, 2] });
                payload.extend(*place);
            }
            decode(&payload)
        };
        let (own, taken_over) = (&[1, 0xe8, 7, 5][..], &[0x81, 0xe8, 7][..]);
        assert!(holds(VERSION, &[taken_over, taken_over, own, own]).is_some());
        assert_eq!(holds(VERSION, &[own, taken_over]), None, "taken over before an older one");
        assert_eq!(holds(VERSION, &[&[0x80]]), None, "taken over, and nowhere");
        assert_eq!(holds(VERSION, &[&[0x82, 0xe8, 7, 0xe8, 7]]), None, "a window twice");
        assert_eq!(holds(1, &[taken_over]), None, "a version that knows of none");
        // Those of version 1 say when they end.
        let reservation = |figures: [u8; 3]| one(1, &figures, &[MIN_WINDOW_US]);
        let loaded = reservation([1, 2, 5]).unwrap();
        assert_eq!(loaded.ledger().unwrap().holds().last_end_us(), Some(5_000));
        let late = [&[1, 1][..], &[0xff; 9], &[1]].concat();
        assert_eq!(one(1, &late, &[MIN_WINDOW_US]), None, "a moment that no clock shows");
        assert_eq!(reservation([0, 2, 3]), None, "an estimate of nothing");
        assert_eq!(reservation([1, 2, 1]), None, "one from before the epoch");
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
        assert!(!charge(&[limit(9)], &[0, 0]), "nothing, and no hold");
        assert!(!charge(&[limit(9)], &[1, 2]), "no flag");
        assert!(!charge(&[limit(9)], &[&[1, 1][..], &[7; 16], &[0, 1]].concat()), "no time");
        let none_asked = [&[1, 1][..], &[7; 16], &[1, 0]].concat();
        assert!(!charge(&[limit(9)], &none_asked), "more than was asked for");
        assert!(charge(&[limit(9)], &[&[0, 1][..], &[7; 16], &[1, 0]].concat()));
        assert!(charge(&[limit(9)], &[&[1, 1][..], &[7; 16], &[1, 1]].concat()));
        assert!(decoded(&[CHANGE_VERSION, 5, 0]) && !decoded(&[CHANGE_VERSION + 1, 5, 0]));
        assert!(!decoded(&[CHANGE_VERSION, 5, 4]), "an unknown step");
        let mut late = vec![CHANGE_VERSION];
        push_number(MAX_TIME_US + 1, &mut late);
        late.push(0);
        assert!(!decoded(&late), "a moment that no clock shows");
    }
}
