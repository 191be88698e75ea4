//! Rows: the typed values of one entity, in one block.
//!
//! A block is a layout and bytes:
//!
//! ```text
//! for each view    event time, expiry (0: never): milliseconds since the epoch, 48 bits each
//! values           all of them singles: 4 bytes each
//!                  else: slot size u8 (4 or 8) · kind u8 each · slot each · texts
//! slot             an integer, a single, a double; of a text, where it begins in the texts
//! text             its length as a `wire` number · its bytes
//! ```
//!
//! Slots are of 4 bytes where every value fits: singles, texts, integers of 32
//! bits. A row has one form only, by what it holds. 50 singles in one view take
//! a block of 224 bytes, which is what allocators make blocks of.

use super::interned::Interned;
use super::layout::Layout;
use super::value::Value;
use crate::block::Block;
use crate::time::Millis;
use crate::wire::{Reader, push_number};

/// The latest event time and expiry: what 48 bits hold, in the year 10889.
pub const MAX_TIME_MS: Millis = (1 << 48) - 1;

/// The most bytes that the values of a row take.
pub const MAX_ROW_BYTES: usize = 64 << 20;

/// The row of one key.
pub type Row = Block<Interned>;

/// The times of a view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Term {
    /// The event time of what it holds.
    pub at_ms: Millis,
    /// When it expires, if it does.
    pub expires_at_ms: Option<Millis>,
}

impl Term {
    /// Bytes that it takes in a row.
    pub const BYTES: usize = 12;

    /// How long ago the event was; 0 where it is still to come.
    pub fn age_ms(self, now_ms: Millis) -> Millis {
        now_ms.saturating_sub(self.at_ms)
    }

    /// Whether what it holds can be served.
    pub fn is_alive(self, now_ms: Millis) -> bool {
        self.expires_at_ms.is_none_or(|expires_at_ms| now_ms < expires_at_ms)
    }
}

const TEXT: u8 = 0;
const INTEGER: u8 = 1;
const SINGLE: u8 = 2;
const DOUBLE: u8 = 3;

impl Row {
    /// A row of these terms, one for each view of the layout, and values, one for
    /// each field. `None` when they are too large.
    pub fn assemble(layout: &Interned, terms: &[Term], values: &[Value]) -> Option<Self> {
        let mut bytes = Vec::with_capacity(terms.len() * Term::BYTES + values.len() * 4);
        for term in terms {
            bytes.extend(lowest_six(term.at_ms));
            bytes.extend(lowest_six(term.expires_at_ms.unwrap_or(0)));
        }
        if !push_singles(values, &mut bytes) {
            push_slots(values, &mut bytes)?;
        }
        if bytes.len() > MAX_ROW_BYTES {
            return None;
        }
        Self::new(layout.clone(), &[&bytes])
    }

    /// Which fields it has.
    pub fn layout(&self) -> &Interned {
        self.head()
    }

    /// A copy; `None` when there is no memory for it.
    pub fn duplicate(&self) -> Option<Self> {
        Self::new(self.layout().clone(), &[self.bytes()])
    }

    /// The times of a view.
    pub fn term(&self, view: usize) -> Term {
        let start = view * Term::BYTES;
        let time = |start: usize| {
            let bytes = self.bytes().get(start..start + 6).unwrap_or_default();
            bytes.iter().rev().fold(0, |time, byte| time << 8 | Millis::from(*byte))
        };
        let expires_at_ms = Some(time(start + 6)).filter(|at_ms| *at_ms > 0);
        Term { at_ms: time(start), expires_at_ms }
    }

    /// The times of all views.
    pub fn terms(&self) -> impl ExactSizeIterator<Item = Term> {
        (0..self.layout().views()).map(|view| self.term(view))
    }

    /// When the last of its views expires; `None` if one never does.
    pub fn expires_at_ms(&self) -> Option<Millis> {
        self.terms().try_fold(0, |last, term| Some(term.expires_at_ms?.max(last)))
    }

    /// Its values.
    pub fn values(&self) -> Values<'_> {
        let layout: &Layout = self.layout();
        let all = self.bytes().get(layout.views() * Term::BYTES..).unwrap_or_default();
        if all.len() == layout.len() * size_of::<f32>() {
            return Values::Singles(all.as_chunks().0);
        }
        let slotted = || {
            let (size, all) = all.split_first()?;
            let (kinds, all) = all.split_at_checked(layout.len())?;
            let size = usize::from(*size);
            let (slots, texts) = all.split_at_checked(layout.len() * size)?;
            Some(match size {
                4 => Values::Small { kinds, slots: slots.as_chunks().0, texts },
                _ => Values::Large { kinds, slots: slots.as_chunks().0, texts },
            })
        };
        slotted().unwrap_or(Values::Singles(&[]))
    }
}

/// A row without fields.
impl Default for Row {
    fn default() -> Self {
        Self::bare(Interned::new(Layout::default()))
    }
}

/// The values of a row, by its form.
#[derive(Clone, Copy)]
pub enum Values<'r> {
    /// All singles.
    Singles(&'r [[u8; 4]]),
    /// Slots of 4 bytes.
    Small {
        /// What each slot holds.
        kinds: &'r [u8],
        /// The slots.
        slots: &'r [[u8; 4]],
        /// The texts.
        texts: &'r [u8],
    },
    /// Slots of 8 bytes.
    Large {
        /// What each slot holds.
        kinds: &'r [u8],
        /// The slots.
        slots: &'r [[u8; 8]],
        /// The texts.
        texts: &'r [u8],
    },
}

impl<'r> Values<'r> {
    /// The value of a field.
    pub fn get(self, field: usize) -> Option<Value<'r>> {
        match self {
            Self::Singles(slots) => slots.get(field).map(|slot| single(*slot)),
            Self::Small { kinds, slots, texts } => {
                let slot = *slots.get(field)?;
                match *kinds.get(field)? {
                    SINGLE => Some(single(slot)),
                    INTEGER => Some(Value::Integer(i32::from_le_bytes(slot).into())),
                    _ => text(texts, u32::from_le_bytes(slot).into()),
                }
            }
            Self::Large { kinds, slots, texts } => {
                let slot = *slots.get(field)?;
                match *kinds.get(field)? {
                    SINGLE => slot.first_chunk().map(|slot| single(*slot)),
                    INTEGER => Some(Value::Integer(i64::from_le_bytes(slot))),
                    DOUBLE => Some(Value::Double(f64::from_le_bytes(slot))),
                    _ => text(texts, u64::from_le_bytes(slot)),
                }
            }
        }
    }
}

fn single<'r>(slot: [u8; 4]) -> Value<'r> {
    Value::Single(f32::from_le_bytes(slot))
}

fn text(texts: &[u8], start: u64) -> Option<Value<'_>> {
    let mut reader = Reader::new(texts.get(usize::try_from(start).ok()?..)?);
    let length = usize::try_from(reader.number()?).ok()?;
    reader.bytes(length).map(Value::Text)
}

fn lowest_six(time: Millis) -> impl Iterator<Item = u8> {
    time.to_le_bytes().into_iter().take(6)
}

/// Appends the values if they are all singles.
fn push_singles(values: &[Value], bytes: &mut Vec<u8>) -> bool {
    let start = bytes.len();
    for value in values {
        match value {
            Value::Single(single) => bytes.extend(single.to_le_bytes()),
            _ => {
                bytes.truncate(start);
                return false;
            }
        }
    }
    true
}

/// Appends values of all kinds; `None` when they are too large.
fn push_slots(values: &[Value], bytes: &mut Vec<u8>) -> Option<()> {
    let is_small = |value: &Value| match value {
        Value::Text(_) | Value::Single(_) => true,
        Value::Integer(integer) => i32::try_from(*integer).is_ok(),
        Value::Double(_) => false,
    };
    let size = if values.iter().all(is_small) { 4 } else { 8 };
    bytes.push(size);
    bytes.extend(values.iter().map(|value| match value {
        Value::Text(_) => TEXT,
        Value::Integer(_) => INTEGER,
        Value::Single(_) => SINGLE,
        Value::Double(_) => DOUBLE,
    }));
    let mut texts = Vec::new();
    for value in values {
        let slot = match value {
            Value::Text(text) => {
                let start = texts.len() as u64;
                push_number(text.len() as u64, &mut texts);
                texts.extend(*text);
                if texts.len() > MAX_ROW_BYTES {
                    return None;
                }
                start
            }
            // The lowest bytes of what is small are the same number.
            Value::Integer(integer) => integer.cast_unsigned(),
            Value::Single(single) => single.to_bits().into(),
            Value::Double(double) => double.to_bits(),
        };
        bytes.extend(slot.to_le_bytes().iter().take(size.into()));
    }
    bytes.extend(texts);
    Some(())
}

#[cfg(test)]
pub mod testing {
    //! Rows at random, for tests.

    use super::super::layout::Name;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// A value that owns its text.
    #[derive(Clone, Debug)]
    pub enum Owned {
        /// A text.
        Text(Vec<u8>),
        /// Any other.
        Number(Value<'static>),
    }

    impl Owned {
        /// The value.
        pub fn value(&self) -> Value<'_> {
            match self {
                Self::Text(text) => Value::Text(text),
                Self::Number(value) => *value,
            }
        }
    }

    /// Values of all kinds, the extremes among them.
    pub fn values() -> impl Strategy<Value = Owned> {
        let double = prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            prop::sample::select(vec![0.0, -0.0, f64::NAN, f64::INFINITY, 5e-324, f64::MIN]),
        ];
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200).prop_map(Owned::Text),
            any::<i64>().prop_map(|one| Owned::Number(Value::Integer(one))),
            (-3i64..3).prop_map(|one| Owned::Number(Value::Integer(one))),
            any::<u32>().prop_map(|one| Owned::Number(Value::Single(f32::from_bits(one)))),
            double.prop_map(|one| Owned::Number(Value::Double(one))),
        ]
    }

    /// The times of a view.
    pub fn terms() -> impl Strategy<Value = Term> {
        let moment = || prop_oneof![0..100u64, 0..=MAX_TIME_MS];
        (moment(), prop::option::of(moment().prop_filter("0 is none", |at| *at > 0)))
            .prop_map(|(at_ms, expires_at_ms)| Term { at_ms, expires_at_ms })
    }

    /// What a row holds: the term of each view, and its values.
    pub type Held = BTreeMap<Vec<u8>, (Term, BTreeMap<Vec<u8>, Owned>)>;

    /// Rows of a few views and fields.
    pub fn held(value: impl Strategy<Value = Owned>) -> impl Strategy<Value = Held> {
        let name = || "[a-d]{0,2}".prop_map(String::into_bytes);
        let fields = prop::collection::btree_map(name(), value, 1..6);
        prop::collection::btree_map(name(), (terms(), fields), 0..4)
    }

    /// The row that holds it.
    pub fn row(held: &Held) -> Row {
        let names = held
            .iter()
            .flat_map(|(view, (_, fields))| fields.keys().map(|field| -> Name { (view, field) }));
        let layout = Interned::new(Layout::of(names).unwrap());
        let terms: Vec<_> = held.values().map(|(term, _)| *term).collect();
        let values = held.values().flat_map(|(_, fields)| fields.values().map(Owned::value));
        Row::assemble(&layout, &terms, &values.collect::<Vec<_>>()).unwrap()
    }

    /// What a row holds, to be compared: names, terms and values.
    pub fn content(row: &Row) -> Vec<(Name<'_>, Term, Value<'_>)> {
        let views = 0..row.layout().views();
        let views =
            views.flat_map(|view| row.layout().fields(view).map(move |field| (view, field)));
        let cells = views.zip(row.layout().names());
        let values = row.values();
        cells
            .map(|((view, field), name)| (name, row.term(view), values.get(field).unwrap()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;
    use proptest::prelude::*;

    fn singles(count: u8) -> (Interned, Vec<Value<'static>>) {
        let names: Vec<_> = (0..count).map(|one| [b'f', one]).collect();
        let layout = Layout::of(names.iter().map(|name| (&b""[..], &name[..]))).unwrap();
        (Interned::new(layout), (0..count).map(|one| Value::Single(one.into())).collect())
    }

    #[test]
    fn a_single_takes_four_bytes_and_a_view_twelve() {
        let (layout, values) = singles(50);
        let row = Row::assemble(&layout, &[Term::default()], &values).unwrap();
        assert_eq!(row.bytes().len(), 12 + 50 * 4);
        assert!(matches!(row.values(), Values::Singles(slots) if slots.len() == 50));
    }

    #[test]
    fn a_text_among_singles_costs_a_byte_a_field_more() {
        let (layout, mut values) = singles(50);
        values[7] = Value::Text(b"gold");
        values[8] = Value::Integer(-3);
        let row = Row::assemble(&layout, &[Term::default()], &values).unwrap();
        assert_eq!(row.bytes().len(), 12 + 1 + 50 * 5 + 5);
        values[9] = Value::Integer(1 << 31);
        let row = Row::assemble(&layout, &[Term::default()], &values).unwrap();
        assert_eq!(row.bytes().len(), 12 + 1 + 50 * 9 + 5);
        assert_eq!(row.values().get(9), Some(Value::Integer(1 << 31)));
    }

    #[test]
    fn a_row_without_fields_holds_nothing() {
        let row = Row::default();
        assert_eq!((row.layout().len(), row.terms().len()), (0, 0));
        assert_eq!(row.values().get(0), None);
        assert_eq!(row.expires_at_ms(), Some(0));
        assert!(row.bytes().is_empty());
    }

    proptest! {
        #[test]
        fn a_row_holds_what_was_put_into_it(
            held in prop_oneof![
                held(values()),
                held(any::<f32>().prop_map(|one| Owned::Number(Value::Single(one)))),
            ],
        ) {
            let row = row(&held);
            let expected: Vec<_> = held.iter().flat_map(|(view, (term, fields))| {
                fields.iter().map(|(field, value)| ((&**view, &**field), *term, value.value()))
            }).collect();
            prop_assert_eq!(content(&row), expected.clone());
            let copy = row.duplicate().unwrap();
            prop_assert_eq!(content(&copy), expected);
            prop_assert_eq!(row.values().get(row.layout().len()), None);
            let last = held.values().map(|(term, _)| term.expires_at_ms.unwrap_or(u64::MAX)).max();
            let last = last.unwrap_or(0);
            prop_assert_eq!(row.expires_at_ms(), Some(last).filter(|last| *last != u64::MAX));
        }
    }
}
