//! Rows: the typed values of one entity, in one block.
//!
//! A block is a layout and bytes:
//!
//! ```text
//! for each view    event time, expiry (0: never): milliseconds since the epoch, 48 bits each
//! values           all of them F32: 4 bytes each
//!                  else: slot size u8 (4 or 8) · type u8 each · slot each · texts
//! slot             an I64, F32, F64; of a text or a vector, where it begins in the texts;
//!                  of events, their place in the head
//! text             its length as a `wire` number · its bytes
//! ```
//!
//! Slots are of 4 bytes where every value fits: F32, texts, integers of 32 bits.
//! A row has one form only, by what it holds. 50 F32 in one view take a block of
//! 224 bytes, which is what allocators make blocks of.

use super::dtype::{Dtype, Vector};
use super::events::Events;
use super::layout::Layout;
use super::shared_layout::{Head, SharedLayout};
use super::value::Value;
use super::value::tag::{EVENTS, F32, F32S, F64, F64S, I64, I64S, STRING, TEXT};
use crate::block::Block;
use crate::bug;
use crate::time::Millis;
use crate::wire::{Reader, push_number};
use std::sync::Arc;

/// The latest event time and expiry: what 48 bits hold, in the year 10889.
pub const MAX_TIME_MS: Millis = (1 << 48) - 1;

/// The most bytes that the values of a row take.
pub const MAX_ROW_BYTES: usize = 64 << 20;

/// The row of one key.
pub type Row = Block<Head>;

/// The times of a view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ViewTimes {
    /// The event time of what it holds.
    pub at_ms: Millis,
    /// When it expires, if it does.
    pub expires_at_ms: Option<Millis>,
}

impl ViewTimes {
    /// Bytes that they take in a row.
    const BYTES: usize = 12;

    /// Whether what the view holds can be served.
    pub fn is_alive(self, now_ms: Millis) -> bool {
        self.expires_at_ms.is_none_or(|expires_at_ms| now_ms < expires_at_ms)
    }
}

/// Why there can be no such row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLarge {
    /// It would hold too many fields.
    #[error("the row would hold more than 65535 fields")]
    Fields,
    /// The names of its fields would take too many bytes.
    #[error("the names of the row's fields would take more than 4 GiB")]
    Names,
    /// Its values would take too many bytes.
    #[error("the row would hold more than 64 MiB")]
    Bytes,
    /// There is no memory for it.
    #[error("not enough memory for the row")]
    Memory,
}

/// How the values of a row are put down.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// All are F32.
    F32,
    /// In slots of so many bytes.
    Slots(usize),
}

/// How values are put down, and the bytes of a row of so many views that has them;
/// too many are an error.
fn shape<'v>(
    views: usize,
    values: impl Iterator<Item = Value<'v>>,
) -> Result<(Form, usize), TooLarge> {
    let (mut form, mut count, mut texts, mut held) = (Form::F32, 0usize, 0usize, 0usize);
    for value in values {
        count += 1;
        let slot = match value {
            Value::F32(_) => continue,
            Value::Text(_) | Value::String(_) | Value::Vector(..) => {
                texts = texts.saturating_add(value.bytes().map_or(0, text_bytes));
                4
            }
            Value::Events(events) => {
                held = held.saturating_add(events.row_bytes());
                4
            }
            Value::I64(integer) if i32::try_from(integer).is_ok() => 4,
            Value::I64(_) | Value::F64(_) => 8,
        };
        if form != Form::Slots(8) {
            form = Form::Slots(slot);
        }
    }
    let values = match form {
        Form::F32 => count * size_of::<f32>(),
        Form::Slots(size) => 1 + count * (1 + size),
    };
    let bytes = (views * ViewTimes::BYTES + values).saturating_add(texts);
    if bytes.saturating_add(held) > MAX_ROW_BYTES {
        Err(TooLarge::Bytes)
    } else {
        Ok((form, bytes))
    }
}

/// Refuses a row of so many views and these values if it would be too large.
pub fn check_size<'v>(
    views: usize,
    values: impl Iterator<Item = Value<'v>>,
) -> Result<usize, TooLarge> {
    shape(views, values).map(|(_, bytes)| bytes)
}

/// Whether a row has room for so many fields and views in any case, as long as
/// numbers alone are written to it.
pub fn has_room_for_numbers(row: Option<&Row>, views: usize, fields: usize) -> bool {
    let held = row.map_or(0, Row::held_bytes);
    held + 1 + views * ViewTimes::BYTES + fields * (1 + size_of::<u64>()) <= MAX_ROW_BYTES
}

/// Bytes that a text takes among the texts.
fn text_bytes(text: &[u8]) -> usize {
    number_bytes(text.len()) + text.len()
}

/// Bytes that [`push_number`] appends.
fn number_bytes(number: usize) -> usize {
    let bits = (usize::BITS - number.leading_zeros()) as usize;
    bits.div_ceil(7).max(1)
}

impl Row {
    /// A row of these times, one for each view of the layout, and values, one for
    /// each field.
    pub fn assemble(
        layout: &SharedLayout,
        times: &[ViewTimes],
        values: &[Value],
    ) -> Result<Self, TooLarge> {
        if (times.len(), values.len()) != (layout.views(), layout.len()) {
            bug("a row of other views and fields than its layout has");
        }
        let (form, size) = shape(times.len(), values.iter().copied())?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| TooLarge::Memory)?;
        for view in times {
            bytes.extend(lowest_six(view.at_ms));
            bytes.extend(lowest_six(view.expires_at_ms.unwrap_or(0)));
        }
        match form {
            Form::F32 => push_f32s(values, &mut bytes),
            Form::Slots(size) => push_slots(values, size, &mut bytes),
        }
        if bytes.len() != size {
            bug("a row of another size than was reckoned");
        }
        let events = |value: &Value| match value {
            Value::Events(events) => Some(Arc::clone(events)),
            _ => None,
        };
        let head = match form {
            Form::F32 => Head::plain(layout),
            Form::Slots(_) => Head::new(layout, values.iter().filter_map(events)),
        };
        Self::new(head, &[&bytes]).ok_or(TooLarge::Memory)
    }

    /// Which fields it has.
    pub fn layout(&self) -> &SharedLayout {
        self.head().layout()
    }

    /// How many bytes it holds, of at most [`MAX_ROW_BYTES`].
    pub fn held_bytes(&self) -> usize {
        self.bytes().len() + self.head().event_bytes()
    }

    /// A copy; `None` when there is no memory for it.
    pub fn duplicate(&self) -> Option<Self> {
        Self::new(self.head().clone(), &[self.bytes()])
    }

    /// The times of a view.
    pub fn times(&self, view: usize) -> ViewTimes {
        let start = view * ViewTimes::BYTES;
        let bytes = self.bytes().get(start..).and_then(|bytes| bytes.first_chunk());
        let Some([at_ms, expires_at_ms]) = bytes.map(halves) else { bug("a view without times") };
        ViewTimes { at_ms, expires_at_ms: Some(expires_at_ms).filter(|at_ms| *at_ms > 0) }
    }

    /// The times of all views.
    pub fn all_times(&self) -> impl ExactSizeIterator<Item = ViewTimes> {
        (0..self.layout().views()).map(|view| self.times(view))
    }

    /// When the last of its views expires; `None` if one never does.
    pub fn expires_at_ms(&self) -> Option<Millis> {
        self.all_times().try_fold(0, |last, view| Some(view.expires_at_ms?.max(last)))
    }

    /// Its values.
    pub fn values(&self) -> Values<'_> {
        self.parts().1
    }

    /// Which fields it has, and their values.
    #[inline]
    pub fn parts(&self) -> (&SharedLayout, Values<'_>) {
        let (shared, events) = self.head().parts();
        let layout: &Layout = shared;
        let values = self.bytes().get(layout.views() * ViewTimes::BYTES..);
        let parsed = values.and_then(|values| Values::parse(values, layout.len(), events));
        (shared, parsed.unwrap_or_else(|| bug("a row whose bytes are not those of its layout")))
    }
}

/// A row without fields.
impl Default for Row {
    fn default() -> Self {
        Self::bare(Head::plain(&SharedLayout::new(Layout::default())))
    }
}

fn halves(both: &[u8; ViewTimes::BYTES]) -> [Millis; 2] {
    let [a, b, c, d, e, f, u, v, w, x, y, z] = *both;
    [[a, b, c, d, e, f, 0, 0], [u, v, w, x, y, z, 0, 0]].map(Millis::from_le_bytes)
}

/// The values of a row, by its form.
#[derive(Clone, Copy)]
pub enum Values<'r> {
    /// All F32.
    F32(&'r [[u8; 4]]),
    /// Slots of 4 bytes.
    Small {
        /// What each slot holds.
        types: &'r [u8],
        /// The slots.
        slots: &'r [[u8; 4]],
        /// The texts.
        texts: &'r [u8],
        /// The events.
        events: &'r [Arc<Events>],
    },
    /// Slots of 8 bytes.
    Large {
        /// What each slot holds.
        types: &'r [u8],
        /// The slots.
        slots: &'r [[u8; 8]],
        /// The texts.
        texts: &'r [u8],
        /// The events.
        events: &'r [Arc<Events>],
    },
}

impl<'r> Values<'r> {
    fn parse(bytes: &'r [u8], fields: usize, events: &'r [Arc<Events>]) -> Option<Self> {
        if bytes.len() == fields * size_of::<f32>() {
            return Some(Self::F32(bytes.as_chunks().0));
        }
        let (size, bytes) = bytes.split_first()?;
        let (types, bytes) = bytes.split_at_checked(fields)?;
        let size = usize::from(*size);
        let (slots, texts) = bytes.split_at_checked(fields * size)?;
        match size {
            4 => Some(Self::Small { types, slots: slots.as_chunks().0, texts, events }),
            8 => Some(Self::Large { types, slots: slots.as_chunks().0, texts, events }),
            _ => None,
        }
    }

    /// The events of fields that have any, in order.
    pub fn events(&self) -> &'r [Arc<Events>] {
        match self {
            Self::F32(_) => &[],
            Self::Small { events, .. } | Self::Large { events, .. } => events,
        }
    }

    /// The value of a field.
    #[inline]
    pub fn get(&self, field: usize) -> Value<'r> {
        let value = match self {
            Self::F32(slots) => slots.get(field).map(|slot| single(*slot)),
            _ => self.find(field),
        };
        value.unwrap_or_else(|| bug("a field without a value"))
    }

    /// Which of the row's events a field has, if it has any.
    pub fn events_at(&self, field: usize) -> Option<usize> {
        let (types, place) = match self {
            Self::F32(_) => return None,
            Self::Small { types, slots, .. } => {
                (types, u32::from_le_bytes(*slots.get(field)?) as usize)
            }
            Self::Large { types, slots, .. } => {
                (types, u64::from_le_bytes(*slots.get(field)?) as usize)
            }
        };
        (*types.get(field)? == EVENTS).then_some(place)
    }

    #[inline(never)]
    fn find(&self, field: usize) -> Option<Value<'r>> {
        match self {
            Self::F32(slots) => slots.get(field).map(|slot| single(*slot)),
            Self::Small { types, slots, texts, events } => {
                let slot = *slots.get(field)?;
                match *types.get(field)? {
                    F32 => Some(single(slot)),
                    I64 => Some(Value::I64(i32::from_le_bytes(slot).into())),
                    kind => long(kind, texts, events, u32::from_le_bytes(slot).into()),
                }
            }
            Self::Large { types, slots, texts, events } => {
                let slot = *slots.get(field)?;
                match *types.get(field)? {
                    F32 => Some(single(*slot.first_chunk()?)),
                    I64 => Some(Value::I64(i64::from_le_bytes(slot))),
                    F64 => Some(Value::F64(f64::from_le_bytes(slot))),
                    kind => long(kind, texts, events, u64::from_le_bytes(slot)),
                }
            }
        }
    }
}

fn single<'r>(slot: [u8; 4]) -> Value<'r> {
    Value::F32(f32::from_le_bytes(slot))
}

/// The value of a type that does not stand in its slot, which says where it does.
fn long<'r>(kind: u8, texts: &'r [u8], events: &'r [Arc<Events>], slot: u64) -> Option<Value<'r>> {
    if kind == EVENTS {
        return events.get(slot as usize).map(Value::Events);
    }
    let text = text(texts, slot)?;
    let vector = |dtype| Vector::new(dtype, text).map(Value::from);
    match kind {
        TEXT => Some(Value::Text(text)),
        STRING => Some(Value::String(text)),
        F32S => vector(Dtype::F32),
        F64S => vector(Dtype::F64),
        I64S => vector(Dtype::I64),
        _ => None,
    }
}

fn text(texts: &[u8], start: u64) -> Option<&[u8]> {
    let mut reader = Reader::new(texts.get(usize::try_from(start).ok()?..)?);
    let length = usize::try_from(reader.number()?).ok()?;
    reader.bytes(length)
}

fn lowest_six(time: Millis) -> impl Iterator<Item = u8> {
    time.to_le_bytes().into_iter().take(6)
}

/// Appends values that are all F32.
fn push_f32s(values: &[Value], bytes: &mut Vec<u8>) {
    for value in values {
        let Value::F32(single) = value else { bug("a value among F32 that is none") };
        bytes.extend(single.to_le_bytes());
    }
}

/// Appends values of all types, in slots of so many bytes.
fn push_slots(values: &[Value], size: usize, bytes: &mut Vec<u8>) {
    bytes.push(size as u8);
    bytes.extend(values.iter().map(|value| value.tag()));
    let (mut texts, mut events) = (0, 0);
    for value in values {
        let slot = match value {
            // The lowest bytes of what is small are the same number.
            Value::I64(integer) => integer.cast_unsigned(),
            Value::F32(single) => single.to_bits().into(),
            Value::F64(double) => double.to_bits(),
            Value::Events(_) => {
                events += 1;
                events - 1
            }
            Value::Text(_) | Value::String(_) | Value::Vector(..) => {
                let start = texts;
                texts += text_bytes(value.bytes().unwrap_or_default());
                start as u64
            }
        };
        bytes.extend(slot.to_le_bytes().iter().take(size));
    }
    for text in values.iter().filter_map(|value| value.bytes()) {
        push_number(text.len() as u64, bytes);
        bytes.extend(text);
    }
}

#[cfg(test)]
pub mod testing {
    //! Rows at random, for tests.

    use super::super::layout::Name;
    use super::super::sequence::Sequence;
    use super::super::windows::{Span, Spans, Windows};
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A value that owns its text.
    #[derive(Clone, Debug)]
    pub enum Owned {
        /// A text.
        Text(Vec<u8>),
        /// A string.
        String(Vec<u8>),
        /// A vector.
        Vector(Dtype, Vec<u8>),
        /// Events.
        Events(Arc<Events>),
        /// Any other.
        Number(Value<'static>),
    }

    impl Owned {
        /// The value.
        pub fn value(&self) -> Value<'_> {
            match self {
                Self::Text(text) => Value::Text(text),
                Self::String(text) => Value::String(text),
                Self::Vector(dtype, bytes) => Vector::new(*dtype, bytes).unwrap().into(),
                Self::Events(events) => Value::Events(events),
                Self::Number(value) => *value,
            }
        }
    }

    /// All that a field holds, events included.
    pub fn contents() -> impl Strategy<Value = Owned> {
        let events = prop::collection::vec((0..9u64, singles(), any::<bool>()), 1..9);
        let events = events.prop_map(|events| {
            let mut sequence = Sequence::default();
            for (at_ms, item, numbered) in &events {
                let seq = numbered.then_some(*at_ms);
                sequence.push(*at_ms, seq, 5, std::iter::once(item.value()));
            }
            let spans = Spans::new(Span::new(2_000_000, 1_000_000).unwrap(), None).unwrap();
            let mut windows = Windows::default();
            for (at_ms, _, _) in &events {
                windows.tally(&spans, *at_ms as f64, at_ms * 500, None, 5_000);
            }
            (sequence, windows)
        });
        prop_oneof![
            4 => values(),
            1 => events.prop_map(|(sequence, windows)| {
                let both = [Events::Sequence(sequence), Events::Windows(windows)];
                Owned::Events(Arc::new(both[events_of(&both)].clone()))
            }),
        ]
    }

    /// One of both, by what they are.
    fn events_of(both: &[Events; 2]) -> usize {
        usize::from(both[0].newest_ms() % 2 == 1)
    }

    /// Values of all kinds.
    pub fn values() -> impl Strategy<Value = Owned> {
        prop_oneof![5 => singles(), 1 => vectors()]
    }

    /// Values of all kinds but vectors, the extremes among them.
    pub fn singles() -> impl Strategy<Value = Owned> {
        let double = prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            prop::sample::select(vec![0.0, -0.0, f64::NAN, f64::INFINITY, 5e-324, f64::MIN]),
        ];
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200).prop_map(Owned::Text),
            prop::collection::vec(any::<u8>(), 0..20).prop_map(Owned::String),
            any::<i64>().prop_map(|one| Owned::Number(Value::I64(one))),
            (-3i64..3).prop_map(|one| Owned::Number(Value::I64(one))),
            any::<u32>().prop_map(|one| Owned::Number(Value::F32(f32::from_bits(one)))),
            double.prop_map(|one| Owned::Number(Value::F64(one))),
        ]
    }

    /// Vectors of all types.
    fn vectors() -> impl Strategy<Value = Owned> {
        (0usize..3, prop::collection::vec(any::<u64>(), 1..9)).prop_map(|(dtype, numbers)| {
            let dtype = Dtype::at(dtype);
            let mut bytes: Vec<u8> = numbers.iter().flat_map(|one| one.to_le_bytes()).collect();
            bytes.truncate(numbers.len() * dtype.bytes());
            Owned::Vector(dtype, bytes)
        })
    }

    /// The times of a view.
    pub fn times() -> impl Strategy<Value = ViewTimes> {
        let moment = || prop_oneof![0..100u64, 0..=MAX_TIME_MS];
        (moment(), prop::option::of(moment().prop_filter("0 is none", |at| *at > 0)))
            .prop_map(|(at_ms, expires_at_ms)| ViewTimes { at_ms, expires_at_ms })
    }

    /// What a row holds: the times of each view, and its values.
    pub type Held = BTreeMap<Vec<u8>, (ViewTimes, BTreeMap<Vec<u8>, Owned>)>;

    /// Rows of a few views and fields.
    pub fn held(value: impl Strategy<Value = Owned>) -> impl Strategy<Value = Held> {
        let name = || "[a-d]{0,2}".prop_map(String::into_bytes);
        let fields = prop::collection::btree_map(name(), value, 1..6);
        prop::collection::btree_map(name(), (times(), fields), 0..4)
    }

    /// The row that holds it.
    pub fn row(held: &Held) -> Row {
        let names = held
            .iter()
            .flat_map(|(view, (_, fields))| fields.keys().map(|field| -> Name { (view, field) }));
        let layout = SharedLayout::new(Layout::of(names).unwrap());
        let times: Vec<_> = held.values().map(|(times, _)| *times).collect();
        let values = held.values().flat_map(|(_, fields)| fields.values().map(Owned::value));
        Row::assemble(&layout, &times, &values.collect::<Vec<_>>()).unwrap()
    }

    /// What a row holds, to be compared: names, times and values.
    pub fn content(row: &Row) -> Vec<(Name<'_>, ViewTimes, Value<'_>)> {
        let views = 0..row.layout().views();
        let views =
            views.flat_map(|view| row.layout().fields(view).map(move |field| (view, field)));
        let cells = views.zip(row.layout().names());
        let values = row.values();
        cells.map(|((view, field), name)| (name, row.times(view), values.get(field))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;
    use proptest::prelude::*;

    fn f32s(count: u8) -> (SharedLayout, Vec<Value<'static>>) {
        let names: Vec<_> = (0..count).map(|one| [b'f', one]).collect();
        let layout = Layout::of(names.iter().map(|name| (&b""[..], &name[..]))).unwrap();
        (SharedLayout::new(layout), (0..count).map(|one| Value::F32(one.into())).collect())
    }

    #[test]
    fn an_f32_takes_four_bytes_and_a_view_twelve() {
        let (layout, values) = f32s(50);
        let row = Row::assemble(&layout, &[ViewTimes::default()], &values).unwrap();
        assert_eq!(row.bytes().len(), 12 + 50 * 4);
        assert!(matches!(row.values(), Values::F32(slots) if slots.len() == 50));
    }

    #[test]
    fn a_text_among_f32_costs_a_byte_a_field_more() {
        let (layout, mut values) = f32s(50);
        values[7] = Value::Text(b"gold");
        values[8] = Value::I64(-3);
        let row = Row::assemble(&layout, &[ViewTimes::default()], &values).unwrap();
        assert_eq!(row.bytes().len(), 12 + 1 + 50 * 5 + 5);
        values[9] = Value::I64(1 << 31);
        let row = Row::assemble(&layout, &[ViewTimes::default()], &values).unwrap();
        assert_eq!(row.bytes().len(), 12 + 1 + 50 * 9 + 5);
        assert_eq!(row.values().get(9), Value::I64(1 << 31));
    }

    #[test]
    fn a_row_is_as_large_as_it_may_be_and_no_larger() {
        let layout = Layout::of([(&b""[..], &b"a"[..]), (b"", b"b")].into_iter()).unwrap();
        let layout = SharedLayout::new(layout);
        // Times, slot size, two slots, and the length of a text.
        let text = vec![b'x'; MAX_ROW_BYTES - 12 - 1 - 2 * 5 - 4 - 1];
        for (empty, outcome) in [(&b""[..], Ok(MAX_ROW_BYTES)), (b"x", Err(TooLarge::Bytes))] {
            let values = [Value::Text(&text), Value::String(empty)];
            let row = Row::assemble(&layout, &[ViewTimes::default()], &values);
            assert_eq!(row.as_ref().map(|row| row.bytes().len()).map_err(|error| *error), outcome);
            assert_eq!(check_size(1, values.into_iter()), outcome);
            if let Ok(row) = row {
                assert!(row.values().get(0) == values[0] && row.values().get(1) == values[1]);
            }
        }
    }

    /// Not a row that lacks the last value, or has another's in its place.
    #[test]
    fn what_does_not_fit_its_layout_is_loud() {
        let (layout, values) = f32s(3);
        let times = [ViewTimes::default()];
        for (times, values) in
            [(&times[..], &values[1..]), (&times[1..], &values[..]), (&[times[0]; 2], &values)]
        {
            std::panic::catch_unwind(|| Row::assemble(&layout, times, values)).unwrap_err();
        }
        let row = Row::assemble(&layout, &times, &values).unwrap();
        std::panic::catch_unwind(|| row.values().get(3)).unwrap_err();
        std::panic::catch_unwind(|| row.times(2)).unwrap_err();
        let broken = Row::new(row.head().clone(), &[&row.bytes()[1..]]).unwrap();
        std::panic::catch_unwind(|| broken.values().get(0)).unwrap_err();
    }

    #[test]
    fn a_row_without_fields_holds_nothing() {
        let row = Row::default();
        assert_eq!((row.layout().len(), row.all_times().len()), (0, 0));
        assert_eq!(row.expires_at_ms(), Some(0));
        assert!(row.bytes().is_empty());
    }

    proptest! {
        #[test]
        fn a_row_holds_what_was_put_into_it(
            held in prop_oneof![
                held(values()),
                held(any::<f32>().prop_map(|one| Owned::Number(Value::F32(one)))),
            ],
        ) {
            let row = row(&held);
            let expected: Vec<_> = held.iter().flat_map(|(view, (times, fields))| {
                fields.iter().map(|(field, value)| ((&**view, &**field), *times, value.value()))
            }).collect();
            prop_assert_eq!(content(&row), expected.clone());
            let copy = row.duplicate().unwrap();
            prop_assert_eq!(content(&copy), expected);
            let last = held.values().map(|(times, _)| times.expires_at_ms.unwrap_or(u64::MAX)).max();
            let last = last.unwrap_or(0);
            prop_assert_eq!(row.expires_at_ms(), Some(last).filter(|last| *last != u64::MAX));
        }
    }
}
