//! The payloads of permits: what RDB files, DUMP and replication carry.
//! Numbers are LEB128 (see [`crate::wire`]), ids their 16 bytes.
//!
//! ```text
//! permits  version u8 = 2 · how many · for each, what ends first, first:
//!          id · cost · ttl_ms · since_us
//! change   version u8 = 2 · now_us · step u8, and of the step:
//!          0 rewind
//!          1 acquire: id · cost · ttl_ms
//!          2 renew: id · ttl_ms
//!          3 release: id
//! ```
//!
//! Permits of version 1 begin with a moment, clock_us, and have in place of since_us
//! how long before that it was.

use super::change::{Change, Step};
use super::permits::Permits;
use crate::hold::{Hold, MAX_HOLDS};
use crate::wire::{Reader, push_number};

const VERSION: u8 = 2;

/// The least bytes of a permit.
const LEAST_PERMIT: usize = 19;

/// Appends the payload of the permits of a key.
pub fn encode(permits: &Permits, out: &mut Vec<u8>) {
    out.push(VERSION);
    push_number(permits.holds().len() as u64, out);
    for (id, Hold { cost, ttl_ms, since_us, .. }) in permits.holds().iter() {
        out.extend(id.0);
        for number in [cost, ttl_ms, since_us] {
            push_number(*number, out);
        }
    }
}

/// Reads the payload of the permits of a key; `None` unless they can be.
pub fn decode(payload: &[u8]) -> Option<Permits> {
    let mut reader = Reader::new(payload);
    let clock_us = match reader.u8()? {
        1 => Some(reader.time_us()?),
        VERSION => None,
        _ => return None,
    };
    let count = usize::try_from(reader.number()?).ok()?;
    if count > MAX_HOLDS.min(reader.rest().len() / LEAST_PERMIT) {
        return None;
    }
    let mut permits = Permits::default();
    let mut last = None;
    for _ in 0..count {
        let id = reader.id()?;
        let (cost, ttl_ms) = (reader.amount()?, reader.ttl_ms()?);
        let since_us = match clock_us {
            Some(clock_us) => clock_us.checked_sub(reader.number()?)?,
            None => reader.time_us()?,
        };
        let hold = Hold { cost, ttl_ms, since_us, note: () };
        let order = Some((hold.ends_us(), id));
        if last >= order || !permits.load(id, hold) {
            return None;
        }
        last = order;
    }
    reader.end()?;
    Some(permits)
}

/// Appends the payload of a change.
pub fn encode_change(change: &Change, out: &mut Vec<u8>) {
    out.push(VERSION);
    push_number(change.now_us, out);
    match change.step {
        Step::Rewind => out.push(0),
        Step::Acquire { id, cost, ttl_ms } => {
            out.push(1);
            out.extend(id.0);
            push_number(cost, out);
            push_number(ttl_ms, out);
        }
        Step::Renew { id, ttl_ms } => {
            out.push(2);
            out.extend(id.0);
            push_number(ttl_ms, out);
        }
        Step::Release { id } => {
            out.push(3);
            out.extend(id.0);
        }
    }
}

/// Reads the payload of a change; `None` unless it can be.
pub fn decode_change(payload: &[u8]) -> Option<Change> {
    let mut reader = Reader::new(payload);
    if reader.u8()? != VERSION {
        return None;
    }
    let now_us = reader.time_us()?;
    let step = match reader.u8()? {
        0 => Step::Rewind,
        1 => {
            let id = reader.id()?;
            Step::Acquire { id, cost: reader.amount()?, ttl_ms: reader.ttl_ms()? }
        }
        2 => Step::Renew { id: reader.id()?, ttl_ms: reader.ttl_ms()? },
        3 => Step::Release { id: reader.id()? },
        _ => return None,
    };
    reader.end()?;
    Some(Change { now_us, step })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounds::{MAX_AMOUNT, MAX_TIME_US, MAX_TTL_MS};
    use crate::id::Id;
    use proptest::prelude::*;

    fn encoded(permits: &Permits) -> Vec<u8> {
        let mut payload = Vec::new();
        encode(permits, &mut payload);
        payload
    }

    fn encoded_change(change: &Change) -> Vec<u8> {
        let mut payload = Vec::new();
        encode_change(change, &mut payload);
        payload
    }

    fn step() -> impl Strategy<Value = Step> {
        let id = any::<[u8; 16]>().prop_map(Id);
        (id, 0..=MAX_AMOUNT, 1..=MAX_TTL_MS, 0..4).prop_map(|(id, cost, ttl_ms, step)| match step {
            0 => Step::Rewind,
            1 => Step::Acquire { id, cost, ttl_ms },
            2 => Step::Renew { id, ttl_ms },
            _ => Step::Release { id },
        })
    }

    fn permits() -> impl Strategy<Value = Permits> {
        let permit = (any::<[u8; 16]>(), 0..=MAX_AMOUNT / 20, 1..=MAX_TTL_MS, 0..=MAX_TIME_US);
        prop::collection::vec(permit, 0..20).prop_map(|permits| {
            let mut all = Permits::default();
            for (id, cost, ttl_ms, since_us) in permits {
                all.load(Id(id), Hold { cost, ttl_ms, since_us, note: () });
            }
            all
        })
    }

    proptest! {
        #[test]
        fn permits_come_back_as_they_went(permits in permits()) {
            let payload = encoded(&permits);
            for end in 0..payload.len() {
                prop_assert_eq!(decode(&payload[..end]), None, "cut at {}", end);
            }
            prop_assert_eq!(decode(&[payload.as_slice(), b"x"].concat()), None);
            prop_assert_eq!(decode(&payload), Some(permits));
        }

        #[test]
        fn a_change_comes_back_as_it_went(now_us in 0..=MAX_TIME_US, step in step()) {
            let change = Change { now_us, step };
            let payload = encoded_change(&change);
            for end in 0..payload.len() {
                prop_assert_eq!(decode_change(&payload[..end]), None, "cut at {}", end);
            }
            prop_assert_eq!(decode_change(&[payload.as_slice(), b"x"].concat()), None);
            prop_assert_eq!(decode_change(&payload), Some(change));
        }

        #[test]
        fn no_bytes_decode_to_what_cannot_be(
            permits in permits(),
            step in step(),
            bytes in prop::collection::vec(any::<u8>(), 0..80),
            at: prop::sample::Index,
        ) {
            let changed = |mut payload: Vec<u8>| {
                let at = at.index(payload.len());
                payload.splice(at.., bytes.iter().copied());
                payload
            };
            for payload in [bytes.clone(), changed(encoded(&permits))] {
                if let Some(permits) = decode(&payload).filter(|_| payload[0] == VERSION) {
                    prop_assert_eq!(encoded(&permits), payload);
                }
            }
            let change = encoded_change(&Change { now_us: 1 << 50, step });
            for payload in [bytes.clone(), changed(change)] {
                if let Some(change) = decode_change(&payload) {
                    prop_assert_eq!(encoded_change(&change), payload);
                }
            }
        }
    }

    /// The payload of permits, each of an id of one byte repeated, a cost, a TTL and
    /// a moment.
    fn payload(permits: &[(u8, u64, u64, u64)]) -> Vec<u8> {
        let mut payload = vec![VERSION, permits.len() as u8];
        for (id, cost, ttl_ms, since_us) in permits {
            payload.extend([*id; 16]);
            for number in [*cost, *ttl_ms, *since_us] {
                push_number(number, &mut payload);
            }
        }
        payload
    }

    #[test]
    fn refuses_what_no_permits_can_be() {
        assert_eq!(decode(&encoded(&Permits::default())), Some(Permits::default()));
        assert!(decode(&payload(&[(1, 1, 9, 0), (2, 0, 9, 50)])).is_some());
        assert!(decode(&payload(&[(1, MAX_AMOUNT - 1, 9, 0), (2, 1, MAX_TTL_MS, 0)])).is_some());
        for (permits, why) in [
            (&[(1, 1, 9, 50), (2, 1, 9, 0)][..], "what ends last, first"),
            (&[(2, 1, 9, 0), (1, 1, 9, 0)], "ids in disorder"),
            (&[(1, 1, 9, 0), (1, 1, 9, 0)], "the same permit twice"),
            (&[(1, 1, 9, 0), (1, 1, 9, 50)], "the same id twice"),
            (&[(1, MAX_AMOUNT + 1, 9, 0)], "a cost above the largest"),
            (&[(1, MAX_AMOUNT, 9, 0), (2, 1, 9, 0)], "more in use than can be"),
            (&[(1, 1, 0, 0)], "no time"),
            (&[(1, 1, MAX_TTL_MS + 1, 0)], "a TTL above the longest"),
            (&[(1, 1, 9, MAX_TIME_US + 1)], "a moment that no clock shows"),
        ] {
            assert_eq!(decode(&payload(permits)), None, "{why}");
        }
        let mut many = vec![VERSION];
        push_number(MAX_HOLDS as u64 + 1, &mut many);
        assert_eq!(decode(&many), None, "more permits than a key holds");
        let mut late = vec![VERSION];
        push_number(MAX_TIME_US + 1, &mut late);
        late.push(0);
        assert_eq!(decode_change(&late), None, "a moment that no clock shows");
        assert_eq!(decode(&[VERSION + 1, 0]), None, "an unknown version");
        assert_eq!(decode_change(&[VERSION + 1, 50, 0]), None, "an unknown version");
        assert_eq!(decode_change(&[VERSION, 50, 4]), None, "an unknown step");
    }

    #[test]
    fn permits_of_version_1_load_with_the_age_that_they_had() {
        let mut payload = vec![1, 50, 2];
        for (id, age_us) in [(1, 50), (2, 0)] {
            payload.extend([id; 16]);
            payload.extend([3, 9, age_us]);
        }
        let permits = decode(&payload).unwrap();
        let since_us: Vec<_> = permits.holds().iter().map(|(_, hold)| hold.since_us).collect();
        assert_eq!((since_us, permits.in_use(50)), (vec![0, 50], 6));
        payload[20] = 51;
        assert!(decode(&payload).is_none(), "one from before the epoch");
    }
}
