//! Events: what happened to one field. The values of the newest, or amounts summed
//! up by time.
//!
//! ```text
//! events    1 u8 · sequence | 2 u8 · windows
//! last_seq  0 u8 (none) | 1 u8 · number
//! ```
//!
//! What the two hold is written as their own pages say, numbers as [`crate::wire`]
//! writes them. Equal events have equal payloads.

use super::sequence::{Item, Sequence};
use super::windows::{Tile, Windows};
use crate::time::{MICROS_PER_SECOND, Micros, Millis};
use crate::wire::{Reader, push_number};
use std::collections::VecDeque;
use std::ptr::{from_ref, null};

const SEQUENCE: u8 = 1;
const WINDOWS: u8 = 2;

/// What happened to one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Events {
    /// The values of the newest events.
    Sequence(Sequence),
    /// Amounts, summed up.
    Windows(Windows),
}

impl Events {
    /// The event time of the newest event.
    pub fn newest_ms(&self) -> Millis {
        match self {
            Self::Sequence(sequence) => sequence.newest_ms(),
            Self::Windows(windows) => windows.newest_ms(),
        }
    }

    /// The largest SEQ that was taken, if any was.
    #[cfg(test)]
    pub fn last_seq(&self) -> Option<u64> {
        match self {
            Self::Sequence(sequence) => sequence.last_seq(),
            Self::Windows(windows) => windows.last_seq(),
        }
    }

    /// Bytes of a row that they take, whatever room there is for more.
    pub fn row_bytes(&self) -> usize {
        match self {
            Self::Sequence(sequence) => sequence.row_bytes(),
            Self::Windows(windows) => windows.row_bytes(),
        }
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match self {
            Self::Sequence(sequence) => sequence.heap_bytes(),
            Self::Windows(windows) => windows.heap_bytes(),
        }
    }

    /// Blocks on the heap.
    pub fn blocks(&self) -> usize {
        match self {
            Self::Sequence(sequence) => sequence.blocks(),
            Self::Windows(windows) => windows.blocks(),
        }
    }

    /// Has the blocks that they stand in moved, each by the one that fits. Texts among
    /// the items stay: they come and go.
    pub fn relocate(
        &mut self,
        items: impl FnOnce(&mut VecDeque<Item>),
        tiles: impl Fn(&mut VecDeque<Tile>),
    ) {
        match self {
            Self::Sequence(sequence) => sequence.relocate(items),
            Self::Windows(windows) => windows.relocate(tiles),
        }
    }

    /// Where the newest of them stands; null where there is none.
    pub fn leads_to(&self) -> *const () {
        match self {
            Self::Sequence(sequence) => {
                sequence.newest().map_or(null(), |item| from_ref(item).cast())
            }
            Self::Windows(windows) => windows.newest().map_or(null(), |tile| from_ref(tile).cast()),
        }
    }

    /// What they are.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sequence(_) => "SEQUENCE",
            Self::Windows(_) => "WINDOWS",
        }
    }

    /// What people are told: the items of a sequence, the spans and tiles of windows in
    /// seconds.
    pub fn describe(&self) -> String {
        let mut told = self.name().to_owned();
        match self {
            Self::Sequence(sequence) => told.push_str(&format!("[{}]", sequence.len())),
            Self::Windows(windows) => windows.spans().iter().for_each(|span| {
                let seconds = |us: Micros| us as f64 / MICROS_PER_SECOND as f64;
                let (span, tile) = (seconds(span.span_us()), seconds(span.tile_us()));
                told.push_str(&format!(" SPAN {span} TILE {tile}"));
            }),
        }
        told
    }

    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Sequence(sequence) => {
                out.push(SEQUENCE);
                sequence.encode(out);
            }
            Self::Windows(windows) => {
                out.push(WINDOWS);
                windows.encode(out);
            }
        }
    }

    /// Reads a payload; `None` unless it is one of events that can be.
    pub fn decode(reader: &mut Reader) -> Option<Self> {
        match reader.u8()? {
            SEQUENCE => Sequence::decode(reader).map(Self::Sequence),
            WINDOWS => Windows::decode(reader).map(Self::Windows),
            _ => None,
        }
    }
}

/// Whether events of a SEQ were not seen before. What has none always counts as
/// new.
pub fn is_new(seq: Option<u64>, last_seq: Option<u64>) -> bool {
    seq.is_none() || seq > last_seq
}

/// Appends the last SEQ.
pub fn push_seq(seq: Option<u64>, out: &mut Vec<u8>) {
    out.push(seq.is_some().into());
    if let Some(seq) = seq {
        push_number(seq, out);
    }
}

/// The next last SEQ.
pub fn seq(reader: &mut Reader) -> Option<Option<u64>> {
    match reader.u8()? {
        0 => Some(None),
        1 => reader.number().map(Some),
        _ => None,
    }
}

/// Makes room for one more: as much again as there is, but never for more than
/// `most` if these are enough. So one takes the room of one.
pub fn make_room<T>(list: &mut VecDeque<T>, most: usize) {
    let length = list.len();
    if length == list.capacity() {
        let least = length + 1;
        let room = (2 * length).clamp(least, most.max(least));
        list.reserve_exact(room - length);
    }
}

/// Gives back the room of a list that has become much shorter: each time for at
/// least as many that went as it moves.
pub fn give_back_room<T>(list: &mut VecDeque<T>) {
    let room = list.capacity();
    if list.len() <= room / 4 {
        list.shrink_to(room / 2);
    }
}

#[cfg(test)]
mod tests {
    use super::super::sequence::testing::{pushed, pushes};
    use super::super::value::Value;
    use super::super::value::tag::I64;
    use super::super::windows::testing::{amounts, calls, span, tallied};
    use super::super::windows::{Aggregate, Span, Spans};
    use super::*;
    use proptest::prelude::*;

    fn encoded(events: &Events) -> Vec<u8> {
        let mut payload = Vec::new();
        events.encode(&mut payload);
        payload
    }

    fn decode(payload: &[u8]) -> Option<Events> {
        let mut reader = Reader::new(payload);
        let events = Events::decode(&mut reader)?;
        reader.end()?;
        Some(events)
    }

    fn events() -> impl Strategy<Value = Events> {
        // What was never written to is not there, and has no payload.
        let windows = calls(amounts()).prop_map(|calls| tallied(&calls));
        let windows = windows.prop_filter("written", |windows| windows.rings().next().is_some());
        let sequence = pushes().prop_map(|pushes| pushed(&pushes));
        prop_oneof![sequence.prop_map(Events::Sequence), windows.prop_map(Events::Windows)]
    }

    /// Events of a payload from anywhere hold to the payload, and go on as any do.
    fn endure(payload: &[u8]) {
        let mut reader = Reader::new(payload);
        let Some(mut events) = Events::decode(&mut reader) else { return };
        let read = &payload[..payload.len() - reader.rest().len()];
        assert_eq!(encoded(&events), read);
        let newest_ms = events.newest_ms();
        match &mut events {
            Events::Sequence(sequence) => {
                sequence.push(newest_ms / 2, None, 3, [Value::Text(b"x")].into_iter());
                assert!((1..=3).contains(&sequence.len()));
            }
            Events::Windows(windows) => {
                let first = windows.rings().next().unwrap().span;
                let spans = Spans::new(first, None).unwrap();
                for (amount, at_ms) in [(f64::MAX, newest_ms), (-1.0, newest_ms), (7.0, 0)] {
                    windows.tally(&spans, amount, at_ms, None, newest_ms);
                    for name in [&b"count"[..], b"sum", b"mean", b"min", b"max", b"std"] {
                        let aggregate = Aggregate::from_name(name).unwrap();
                        let summary = windows.summary(first.span_us(), newest_ms * 1_000, true);
                        summary.unwrap().read(aggregate);
                    }
                }
                for ring in windows.rings() {
                    let tiles = ring.span.span_us() / ring.span.tile_us();
                    assert!(ring.tiles as u64 <= 2 * tiles + 1);
                }
            }
        }
        assert_eq!(decode(&encoded(&events)), Some(events));
    }

    proptest! {
        #[test]
        fn events_come_back_as_they_went(events in events()) {
            let payload = encoded(&events);
            for end in 0..payload.len() {
                prop_assert!(decode(&payload[..end]).is_none(), "cut at {}", end);
            }
            prop_assert!(decode(&[payload.as_slice(), b"x"].concat()).is_none());
            let read = decode(&payload).unwrap();
            prop_assert_eq!(encoded(&read), payload);
            prop_assert_eq!(read.describe(), events.describe());
            prop_assert_eq!(&read, &events);
            prop_assert_eq!(read.newest_ms(), events.newest_ms());
            prop_assert_eq!(read.last_seq(), events.last_seq());
            // What is loaded takes no more than it needs.
            prop_assert!(read.heap_bytes() <= events.heap_bytes());
            prop_assert!(read.blocks() <= events.blocks());
        }

        #[test]
        fn equal_events_have_equal_payloads(one in events(), other in events()) {
            prop_assert_eq!(one == other, encoded(&one) == encoded(&other));
        }

        #[test]
        fn a_spoilt_payload_is_another_or_none(
            events in events(),
            bytes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut payload = encoded(&events);
            for (place, byte) in bytes {
                let place = place.index(payload.len());
                payload[place] = byte;
            }
            endure(&payload);
        }

        #[test]
        fn no_bytes_decode_to_what_cannot_be(
            payload in prop::collection::vec(any::<u8>(), 0..100),
            small in prop::collection::vec(0u8..6, 0..60),
        ) {
            endure(&payload);
            endure(&small);
        }
    }

    #[test]
    fn refuses_what_no_sequence_is() {
        let sequence = |count: u64, times: &[u64]| {
            let mut payload = vec![SEQUENCE, 0];
            push_number(count, &mut payload);
            for at_ms in times {
                push_number(*at_ms, &mut payload);
                payload.push(I64);
                payload.extend(7i64.to_le_bytes());
            }
            decode(&payload).map(|events| events.newest_ms())
        };
        assert_eq!(sequence(2, &[5, 3]), Some(8));
        assert_eq!(sequence(0, &[]), None, "nothing");
        assert_eq!(sequence(1, &[(1 << 48) - 1]), Some((1 << 48) - 1));
        assert_eq!(sequence(1, &[1 << 48]), None, "a time that rows cannot hold");
        assert_eq!(sequence(2, &[(1 << 48) - 1, 1]), None, "nor by a step");
        assert_eq!(sequence(2, &[5, u64::MAX]), None, "time that wraps");
        assert_eq!(sequence(u64::MAX, &[5]), None, "more than there are");
        assert!(sequence(65_536, &[1; 65_536]).is_some());
        assert_eq!(sequence(65_537, &[1; 65_537]), None, "more than a sequence keeps");
        assert!(decode(&[0, 0]).is_none() && decode(&[3, 0]).is_none(), "neither");
        assert!(decode(&[SEQUENCE, 2, 1, 5, I64]).is_none(), "a SEQ of no kind");
    }

    #[test]
    fn refuses_what_no_windows_are() {
        // At 5 s, by seconds.
        let tiles = |spans: &[Span], tiles: &[&[u8]]| {
            let mut payload = vec![WINDOWS, 0];
            push_number(5_000, &mut payload);
            payload.push(spans.len() as u8);
            for span in spans {
                push_number(span.tile_us(), &mut payload);
                push_number(span.span_us() / span.tile_us(), &mut payload);
            }
            for _ in spans {
                push_number(tiles.len() as u64, &mut payload);
                tiles.iter().for_each(|tile| payload.extend(*tile));
            }
            decode(&payload).map(drop)
        };
        let (seconds, minutes) = (span(1_000_000, 1), span(60_000_000, 1));
        let one = |number: u8, amount: f64| [&[number, 1][..], &amount.to_le_bytes()].concat();
        let many = |doubles: [f64; 5]| {
            let doubles = doubles.iter().flat_map(|double| double.to_le_bytes());
            [0, 2].into_iter().chain(doubles).collect::<Vec<u8>>()
        };
        assert!(tiles(&[seconds], &[]).is_some());
        assert!(tiles(&[seconds, minutes], &[&one(0, 1.0)]).is_some());
        assert!(tiles(&[minutes, seconds], &[]).is_none(), "rings out of order");
        assert!(tiles(&[seconds, seconds], &[]).is_none(), "a ring twice");
        assert!(tiles(&[], &[]).is_none() && tiles(&[seconds; 3], &[]).is_none());
        assert!(tiles(&[seconds], &[&one(5, 1.0)]).is_some());
        assert!(tiles(&[seconds], &[&one(6, 1.0)]).is_none(), "newer than the newest");
        let next = one(0, 1.0);
        assert!(tiles(&[seconds], &[&next, &next, &next]).is_some());
        assert!(tiles(&[seconds], &[&next, &next, &next, &next]).is_none(), "too many");
        assert!(tiles(&[seconds], &[&next, &one(2, 1.0)]).is_none(), "too far apart");
        for amount in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(tiles(&[seconds], &[&one(0, amount)]).is_none(), "{amount}");
        }
        assert!(tiles(&[seconds], &[&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]).is_none(), "no event");
        let (inf, nan) = (f64::INFINITY, f64::NAN);
        for doubles in
            [[3.0, 0.0, 1.0, 2.0, 0.5], [inf, 0.0, 1.0, 2.0, inf], [3.0, 1.0, 1.0, 1.0, 0.0]]
        {
            assert!(tiles(&[seconds], &[&many(doubles)]).is_some(), "{doubles:?}");
        }
        for doubles in [
            [nan, 0.0, 1.0, 2.0, 0.5],
            [3.0, nan, 1.0, 2.0, 0.5],
            [3.0, inf, 1.0, 2.0, 0.5],
            [inf, 1.0, 1.0, 2.0, 0.5],
            [f64::MAX, f64::MAX, 1.0, 2.0, 0.5],
            [3.0, 0.0, 2.0, 1.0, 0.5],
            [3.0, 0.0, nan, 2.0, 0.5],
            [3.0, 0.0, 1.0, inf, 0.5],
            [3.0, 0.0, -inf, 1.0, 0.5],
            [3.0, 0.0, 1.0, 2.0, -0.5],
            [3.0, 0.0, 1.0, 2.0, nan],
        ] {
            assert!(tiles(&[seconds], &[&many(doubles)]).is_none(), "{doubles:?}");
        }
    }

    #[test]
    fn people_are_told_what_events_are() {
        let mut sequence = super::super::sequence::Sequence::default();
        sequence.push(5, Some(3), 9, [Value::I64(1), Value::I64(2)].into_iter());
        let events = Events::Sequence(sequence);
        assert_eq!((events.name(), events.describe().as_str()), ("SEQUENCE", "SEQUENCE[2]"));
        assert_eq!((events.newest_ms(), events.last_seq()), (5, Some(3)));
        let mut windows = Windows::default();
        let spans = Spans::new(span(1_000_000, 60), None).unwrap();
        (0..3).for_each(|one| windows.tally(&spans, 1.0, one * 600, Some(one), 2_000));
        let events = Events::Windows(windows);
        assert_eq!(
            (events.name(), events.describe().as_str()),
            ("WINDOWS", "WINDOWS SPAN 60 TILE 1")
        );
        assert_eq!((events.newest_ms(), events.last_seq()), (1_200, Some(2)));
    }
}
