//! A sequence: the values of the newest events of a field, ordered by event time,
//! then by arrival.
//!
//! ```text
//! sequence  last_seq · items · for each, oldest first: milliseconds since the one
//!           before · value
//! ```

use super::codec;
use super::events::{self, give_back_room, is_new, make_room};
use super::row::MAX_TIME_MS;
use super::value::Value;
use crate::block::Block;
use crate::bug;
use crate::time::Millis;
use crate::wire::{Reader, push_number};
use std::alloc::{Layout, handle_alloc_error};
use std::collections::VecDeque;

/// The most items of a sequence.
pub const MAX_ITEMS: usize = 65_536;

/// The fewest bytes that an item takes in a payload: a time, a type, a length.
const LEAST_BYTES: usize = 3;

/// The values of the newest events. The default is nothing.
#[derive(Clone, Debug, Default)]
pub struct Sequence {
    /// The newest last.
    items: VecDeque<Item>,
    last_seq: Option<u64>,
    texts: Texts,
}

/// The texts among the items.
#[derive(Clone, Copy, Debug, Default)]
struct Texts {
    count: usize,
    bytes: usize,
}

/// The lowest 48 bits of an event time, which are all: beside the type of a value
/// they take no room of their own.
#[derive(Clone, Copy, Debug)]
pub struct At([u8; 6]);

/// An item, in two words.
#[derive(Clone, Debug)]
pub enum Item {
    Text(At, Text),
    String(At, Text),
    I64(At, i64),
    F32(At, f32),
    F64(At, f64),
}

/// A text, in a block to which a single word leads.
#[derive(Debug)]
pub struct Text(Block<()>);

impl At {
    fn new(at_ms: Millis) -> Self {
        let [a, b, c, d, e, f, ..] = at_ms.min(MAX_TIME_MS).to_le_bytes();
        Self([a, b, c, d, e, f])
    }

    fn millis(self) -> Millis {
        let [a, b, c, d, e, f] = self.0;
        Millis::from_le_bytes([a, b, c, d, e, f, 0, 0])
    }
}

impl Text {
    /// As for a box, there is always memory for it.
    fn new(text: &[u8]) -> Self {
        let block = Block::new((), &[text]);
        Self(block.unwrap_or_else(|| handle_alloc_error(Layout::for_value(text))))
    }
}

impl Clone for Text {
    fn clone(&self) -> Self {
        Self::new(self.0.bytes())
    }
}

impl Item {
    fn new(at_ms: Millis, value: Value) -> Self {
        let at = At::new(at_ms);
        match value {
            Value::Text(text) => Self::Text(at, Text::new(text)),
            Value::String(text) => Self::String(at, Text::new(text)),
            Value::I64(integer) => Self::I64(at, integer),
            Value::F32(single) => Self::F32(at, single),
            Value::F64(double) => Self::F64(at, double),
            Value::Vector(..) | Value::Events(_) => bug("an item that is no single value"),
        }
    }

    fn at_ms(&self) -> Millis {
        let (Self::Text(at, _)
        | Self::String(at, _)
        | Self::I64(at, _)
        | Self::F32(at, _)
        | Self::F64(at, _)) = self;
        at.millis()
    }

    /// Its value.
    pub fn value(&self) -> Value<'_> {
        match self {
            Self::Text(_, text) => Value::Text(text.0.bytes()),
            Self::String(_, text) => Value::String(text.0.bytes()),
            Self::I64(_, integer) => Value::I64(*integer),
            Self::F32(_, single) => Value::F32(*single),
            Self::F64(_, double) => Value::F64(*double),
        }
    }
}

impl Sequence {
    /// Bytes of a row that an item takes beside its text.
    pub const ITEM_BYTES: usize = size_of::<Item>();

    /// How many items at `at_ms` there are places for, if `last` are kept: none if their
    /// SEQ was seen, or if as many are newer.
    pub fn places(&self, at_ms: Millis, seq: Option<u64>, last: usize) -> usize {
        match is_new(seq, self.last_seq) {
            true => last.saturating_sub(self.items.len() - self.place(at_ms)),
            false => 0,
        }
    }

    /// Bytes of a row that it takes once items have come that there are
    /// [places](Self::places) for.
    pub fn row_bytes_with(&self, last: usize, items: &[Value]) -> usize {
        let bytes = |value: Value| Self::ITEM_BYTES + value.bytes().map_or(0, <[u8]>::len);
        let gone = (self.items.len() + items.len()).saturating_sub(last);
        let gone: usize = self.items.iter().take(gone).map(|item| bytes(item.value())).sum();
        let come: usize = items.iter().copied().map(bytes).sum();
        (self.row_bytes() + come).saturating_sub(gone)
    }

    /// Adds items in the order of their arrival, and keeps the `last` newest.
    pub fn push<'v>(
        &mut self,
        at_ms: Millis,
        seq: Option<u64>,
        last: usize,
        items: impl Iterator<Item = Value<'v>>,
    ) {
        let mut newer = self.items.split_off(self.place(at_ms));
        let places = last.saturating_sub(newer.len());
        for value in items.filter(|_| places > 0) {
            // Before one comes: a full sequence never has room for one more.
            self.cut(places - 1);
            self.append(Item::new(at_ms, value), last);
        }
        if !newer.is_empty() {
            let room = self.items.capacity() - self.items.len();
            self.items.reserve_exact(newer.len().saturating_sub(room));
            self.items.append(&mut newer);
        }
        self.cut(last);
        give_back_room(&mut self.items);
        self.last_seq = self.last_seq.max(seq);
    }

    /// How many are not newer than `at_ms`: mostly all of them.
    fn place(&self, at_ms: Millis) -> usize {
        match self.newest_ms() <= at_ms {
            true => self.items.len(),
            false => self.items.partition_point(|item| item.at_ms() <= at_ms),
        }
    }

    /// Adds one after all others.
    fn append(&mut self, item: Item, most: usize) {
        if let Some(text) = item.value().bytes() {
            self.texts.count += 1;
            self.texts.bytes += text.len();
        }
        make_room(&mut self.items, most);
        self.items.push_back(item);
    }

    /// Keeps the so many newest.
    fn cut(&mut self, most: usize) {
        let gone = self.items.len().saturating_sub(most);
        for item in self.items.drain(..gone) {
            if let Some(text) = item.value().bytes() {
                self.texts.count -= 1;
                self.texts.bytes -= text.len();
            }
        }
    }

    /// The items, newest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Millis, Value<'_>)> {
        self.items.iter().rev().map(|item| (item.at_ms(), item.value()))
    }

    /// The items in two runs, the newer one first, in each the newest last.
    pub fn runs(&self) -> [&[Item]; 2] {
        let (older, newer) = self.items.as_slices();
        [newer, older]
    }

    /// How many items there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none: only before the first push.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The bytes of all texts.
    pub fn text_bytes(&self) -> usize {
        self.texts.bytes
    }

    /// The newest item.
    pub fn newest(&self) -> Option<&Item> {
        self.items.back()
    }

    /// The event time of the newest item; 0 where there is none.
    pub fn newest_ms(&self) -> Millis {
        self.newest().map_or(0, Item::at_ms)
    }

    /// The largest SEQ that was taken, if any was.
    pub fn last_seq(&self) -> Option<u64> {
        self.last_seq
    }

    /// Bytes of a row that it takes, whatever room there is for more.
    pub fn row_bytes(&self) -> usize {
        self.items.len() * Self::ITEM_BYTES + self.texts.bytes
    }

    /// Has the block of the items moved.
    pub fn relocate(&mut self, items: impl FnOnce(&mut VecDeque<Item>)) {
        items(&mut self.items);
    }

    /// Bytes on the heap. A text stands behind its length.
    pub fn heap_bytes(&self) -> usize {
        self.items.capacity() * size_of::<Item>()
            + self.texts.count * size_of::<u32>()
            + self.texts.bytes
    }

    /// Blocks on the heap.
    pub fn blocks(&self) -> usize {
        usize::from(self.items.capacity() > 0) + self.texts.count
    }

    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        events::push_seq(self.last_seq, out);
        push_number(self.items.len() as u64, out);
        let mut before_ms = 0;
        for item in &self.items {
            let at_ms = item.at_ms();
            push_number(at_ms - before_ms, out);
            codec::push_value(item.value(), out);
            before_ms = at_ms;
        }
    }

    /// Reads a payload; `None` unless it is one of a sequence that can be.
    pub fn decode(reader: &mut Reader) -> Option<Self> {
        let last_seq = events::seq(reader)?;
        let count = usize::try_from(reader.number()?).ok()?;
        let most = MAX_ITEMS.min(reader.rest().len() / LEAST_BYTES);
        if !(1..=most).contains(&count) {
            return None;
        }
        let items = VecDeque::with_capacity(count);
        let mut sequence = Self { items, last_seq, texts: Texts::default() };
        let mut at_ms: Millis = 0;
        for _ in 0..count {
            at_ms = at_ms.checked_add(reader.number()?).filter(|at_ms| *at_ms <= MAX_TIME_MS)?;
            sequence.append(Item::new(at_ms, codec::single(reader)?), count);
        }
        Some(sequence)
    }
}

/// The same items and SEQ, to the bit.
impl PartialEq for Sequence {
    fn eq(&self, other: &Self) -> bool {
        self.last_seq == other.last_seq && self.iter().eq(other.iter())
    }
}

impl Eq for Sequence {}

#[cfg(test)]
pub mod testing {
    //! Sequences at random, for tests.

    use super::super::row::testing::{Owned, singles};
    use super::*;
    use proptest::prelude::*;

    /// A call.
    #[derive(Clone, Debug)]
    pub struct Push {
        /// When it happened.
        pub at_ms: Millis,
        /// Its number, if it has one.
        pub seq: Option<u64>,
        /// How many items are to be kept.
        pub last: usize,
        /// What it adds.
        pub items: Vec<Owned>,
    }

    impl Push {
        /// Makes the call.
        pub fn make(&self, sequence: &mut Sequence) {
            sequence.push(self.at_ms, self.seq, self.last, self.items.iter().map(Owned::value));
        }
    }

    /// Calls that come late, twice and out of order.
    pub fn pushes() -> impl Strategy<Value = Vec<Push>> {
        let at_ms = prop_oneof![20 => 0..30u64, 1 => Just(MAX_TIME_MS), 1 => 0..=MAX_TIME_MS];
        let seq = prop::option::of(prop_oneof![10 => 0..30u64, 1 => Just(u64::MAX)]);
        let last = prop_oneof![4 => 1..8usize, 1 => 1..=MAX_ITEMS];
        let items = prop::collection::vec(singles(), 1..6);
        let push = (at_ms, seq, last, items);
        let push = push.prop_map(|(at_ms, seq, last, items)| Push { at_ms, seq, last, items });
        prop::collection::vec(push, 1..20)
    }

    /// The sequence that calls lead to.
    pub fn pushed(pushes: &[Push]) -> Sequence {
        let mut sequence = Sequence::default();
        for push in pushes {
            if sequence.places(push.at_ms, push.seq, push.last) > 0 {
                push.make(&mut sequence);
            }
        }
        sequence
    }
}

#[cfg(test)]
mod tests {
    use super::super::row::testing::Owned;
    use super::testing::*;
    use super::*;
    use proptest::prelude::*;

    fn push(sequence: &mut Sequence, at_ms: Millis, last: usize, items: &[i64]) {
        sequence.push(at_ms, None, last, items.iter().map(|item| Value::I64(*item)));
    }

    fn integers(sequence: &Sequence) -> Vec<i64> {
        sequence.iter().filter_map(|(_, value)| value.to_i64()).collect()
    }

    proptest! {
        /// The oracle: everything that was ever taken, sorted by event time and
        /// arrival, of which the last are kept.
        #[test]
        fn the_newest_by_event_time_then_by_arrival_are_kept(pushes in pushes()) {
            let (mut sequence, mut replica) = (Sequence::default(), Sequence::default());
            let mut oracle: Vec<(Millis, usize, Owned)> = Vec::new();
            let (mut arrivals, mut last_seq) = (0, None);
            for push in pushes {
                let first = arrivals;
                let mut after = oracle.clone();
                for item in &push.items {
                    after.push((push.at_ms, arrivals, item.clone()));
                    arrivals += 1;
                }
                after.sort_by_key(|(at_ms, arrival, _)| (*at_ms, *arrival));
                after.drain(..after.len().saturating_sub(push.last));
                let is_seen = push.seq.is_some_and(|seq| last_seq.is_some_and(|last| seq <= last));
                let stays = after.iter().any(|(_, arrival, _)| *arrival >= first);
                let places = sequence.places(push.at_ms, push.seq, push.last);
                prop_assert_eq!(places > 0, !is_seen && stays);
                if places > 0 {
                    prop_assert_eq!(places, push.last - after.iter().filter(|one| one.0 > push.at_ms).count());
                    let fit = push.items.len().saturating_sub(places);
                    let fit: Vec<_> = push.items.iter().skip(fit).map(Owned::value).collect();
                    let bytes = sequence.row_bytes_with(push.last, &fit);
                    push.make(&mut sequence);
                    prop_assert_eq!(sequence.row_bytes(), bytes);
                    oracle = after;
                    last_seq = push.seq.or(last_seq);
                    // What was saved and loaded goes on alike.
                    let mut payload = Vec::new();
                    replica.encode(&mut payload);
                    replica = Sequence::decode(&mut Reader::new(&payload)).unwrap_or_default();
                    push.make(&mut replica);
                }
                let newest_first = oracle.iter().rev();
                let expected: Vec<_> =
                    newest_first.map(|(at_ms, _, item)| (*at_ms, item.value())).collect();
                prop_assert_eq!(sequence.iter().collect::<Vec<_>>(), expected);
                let texts = oracle.iter().filter_map(|(_, _, item)| item.value().bytes());
                let text_bytes: usize = texts.clone().map(<[u8]>::len).sum();
                prop_assert_eq!(sequence.text_bytes(), text_bytes);
                prop_assert_eq!(sequence.blocks(), texts.count() + usize::from(!oracle.is_empty()));
                prop_assert_eq!(sequence.len(), oracle.len());
                prop_assert_eq!(sequence.last_seq(), last_seq);
                let newest = oracle.last().map_or(0, |(at_ms, ..)| *at_ms);
                prop_assert_eq!(sequence.newest_ms(), newest);
                prop_assert_eq!(&sequence, &replica);
                prop_assert_eq!(&sequence, &sequence.clone());
            }
        }
    }

    #[test]
    fn a_number_takes_two_words_and_one_takes_no_more_room() {
        let mut sequence = Sequence::default();
        assert_eq!((sequence.heap_bytes(), sequence.blocks()), (0, 0));
        for (items, room) in [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (9, 10), (10, 10), (11, 10)] {
            while sequence.len() < items.min(10) {
                push(&mut sequence, 7, 10, &[1]);
            }
            push(&mut sequence, 7, items.min(10), &[]);
            assert_eq!((sequence.heap_bytes(), sequence.blocks()), (room * 16, 1), "{items}");
        }
        push(&mut sequence, 7, 10, &[1, 2]);
        assert_eq!(sequence.heap_bytes(), 10 * 16, "a full one has what goes before what comes");
        // A text stands in a block of its own, behind its length.
        sequence.push(8, None, 1, [Value::Text(b"gold")].into_iter());
        assert_eq!((sequence.text_bytes(), sequence.blocks()), (4, 2));
        assert_eq!(sequence.heap_bytes(), 5 * 16 + 8, "half of the room is given back");
    }

    #[test]
    fn what_comes_late_takes_no_room_that_it_does_not_stay_in() {
        let mut sequence = Sequence::default();
        push(&mut sequence, 5, 4, &[1, 2]);
        push(&mut sequence, 9, 4, &[5, 6]);
        push(&mut sequence, 5, 4, &[1, 2, 3, 4]);
        assert_eq!(integers(&sequence), [6, 5, 4, 3]);
        assert_eq!(sequence.heap_bytes(), 4 * 16);
    }

    #[test]
    fn items_of_one_time_are_in_order_of_arrival() {
        let mut sequence = Sequence::default();
        push(&mut sequence, 5, 10, &[1, 2]);
        push(&mut sequence, 9, 10, &[5, 6]);
        push(&mut sequence, 5, 10, &[3, 4]);
        assert_eq!(integers(&sequence), [6, 5, 4, 3, 2, 1]);
        push(&mut sequence, 5, 3, &[7]);
        assert_eq!(integers(&sequence), [6, 5, 7], "a smaller LAST cuts at once");
        assert_eq!(sequence.places(8, None, 2), 0, "two are newer");
        assert_eq!((sequence.places(8, None, 3), sequence.places(9, None, 2)), (1, 2));
        push(&mut sequence, 10, 2, &[1, 2, 3, 4]);
        assert_eq!(integers(&sequence), [4, 3], "of more than LAST the last arrived stay");
    }

    #[test]
    fn what_was_delivered_again_is_not_taken() {
        let mut sequence = Sequence::default();
        sequence.push(5, Some(0), 3, [Value::I64(1)].into_iter());
        let places = |seq| sequence.places(5, seq, 3);
        assert_eq!([places(Some(0)), places(Some(1)), places(None)], [0, 3, 3]);
        push(&mut sequence, 6, 3, &[2]);
        assert_eq!(sequence.last_seq(), Some(0), "what has no SEQ leaves the last one");
    }
}
