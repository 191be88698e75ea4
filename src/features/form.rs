//! Forms: what a call asks for of a field. The end of the name says it, read from
//! the right: `name[k]` are k numbers, `f(name,s)` is an aggregate of the last s
//! seconds, all else is one value.

use super::dtype::{Dtype, MAX_DIM};
use super::events::Events;
use super::found::{Found, Items};
use super::value::Value;
use super::windows::Aggregate;
use crate::number::{parse_integer, parse_seconds};
use crate::time::{Micros, Millis};
use std::borrow::Cow;
use std::sync::Arc;

/// What a call asks for of a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// One value.
    #[default]
    One,
    /// So many numbers: of a vector, or the newest of a sequence.
    Numbers(usize),
    /// An aggregate of the events of so long until now.
    Window(Aggregate, Micros),
}

impl Form {
    /// Cuts a name as it is asked for into that of a field, and what is asked for of it.
    pub fn cut(name: &[u8]) -> (&[u8], Self) {
        let cut = match name {
            [asked @ .., b']'] => numbers(asked),
            [asked @ .., b')'] => window(asked),
            _ => None,
        };
        cut.unwrap_or((name, Self::One))
    }

    /// Whether a name may ask for more than a value as it is, by its end.
    pub fn may_cut(name: &[u8]) -> bool {
        matches!(name.last(), Some(b']' | b')'))
    }

    /// How many columns of a tensor it takes.
    pub fn width(self) -> usize {
        match self {
            Self::One | Self::Window(..) => 1,
            Self::Numbers(count) => count,
        }
    }

    /// What is asked for, as errors say it.
    pub fn describe(self) -> Cow<'static, str> {
        match self {
            Self::One => "one value".into(),
            Self::Numbers(1) => "one number".into(),
            Self::Numbers(count) => format!("{count} numbers").into(),
            Self::Window(..) => "windows that this span fits".into(),
        }
    }

    /// What a value of a row comes to, where what happened before `oldest_ms` is too old.
    /// Windows are read by their summaries alone.
    #[inline(always)]
    pub fn of_row(self, value: Value, oldest_ms: Millis) -> Found {
        match (self, value) {
            (form, Value::Events(events)) => form.of_events(events, oldest_ms),
            (Self::One, value) => Found::Value(value),
            (Self::Numbers(count), Value::Vector(dtype, bytes)) => {
                let fits = bytes.len() == count * dtype.bytes();
                if fits { Found::Value(value) } else { Found::Misfit }
            }
            (Self::Numbers(1), value) => Found::Value(value),
            (Self::Numbers(_) | Self::Window(..), _) => Found::Misfit,
        }
    }

    /// What stands in a hash comes to, where what is there has a type.
    pub fn of_typed(self, found: Found, oldest_ms: Millis) -> Found {
        match (self, found) {
            (Self::Numbers(_), Found::Value(value)) => self.of_row(value, oldest_ms),
            (Self::Numbers(_), Found::Nested(_)) => Found::Misfit,
            (_, found) => found,
        }
    }

    #[inline(always)]
    fn of_events(self, events: &Arc<Events>, oldest_ms: Millis) -> Found<'_> {
        match (self, &**events) {
            (Self::One | Self::Numbers(_), Events::Sequence(sequence)) => {
                if sequence.newest_ms() < oldest_ms {
                    return Found::TooOld;
                }
                let places = if let Self::Numbers(count) = self { count } else { sequence.len() };
                Found::Items(Items::of(events, places))
            }
            (Self::Window(..), Events::Sequence(_)) | (_, Events::Windows(_)) => Found::Misfit,
        }
    }

    /// What the bytes of a hash come to, by the whole name as it is asked for, and by
    /// the name of the field alone.
    pub fn of_hash<'v>(self, literal: Option<&'v [u8]>, field: Option<&'v [u8]>) -> Found<'v> {
        match (self, literal) {
            (Self::One | Self::Window(..) | Self::Numbers(1), Some(text)) => {
                Found::Value(Value::Text(text))
            }
            (Self::Numbers(count), literal) => match literal.or(field) {
                Some(bytes) if is_packed(bytes, count) => Found::Packed(bytes),
                Some(_) => Found::Misfit,
                None => Found::Nothing,
            },
            (_, None) => Found::Nothing,
        }
    }
}

/// Whether bytes can be so many numbers of a type.
fn is_packed(bytes: &[u8], count: usize) -> bool {
    let sizes = [Dtype::F32, Dtype::F64].map(Dtype::bytes);
    sizes.iter().any(|size| bytes.len() == count * size)
}

/// The name before `[k`, and k numbers.
fn numbers(asked: &[u8]) -> Option<(&[u8], Form)> {
    let open = asked.iter().rposition(|byte| *byte == b'[')?;
    let count = usize::try_from(parse_integer(asked.get(open + 1..)?)?).ok()?;
    let count = Some(count).filter(|count| (1..=MAX_DIM).contains(count))?;
    Some((asked.get(..open)?, Form::Numbers(count)))
}

/// The name in `f(name,s`, and the aggregate.
fn window(asked: &[u8]) -> Option<(&[u8], Form)> {
    let open = asked.iter().position(|byte| *byte == b'(')?;
    let aggregate = Aggregate::from_name(asked.get(..open)?)?;
    let inner = asked.get(open + 1..)?;
    let comma = inner.iter().rposition(|byte| *byte == b',')?;
    let span_us = parse_seconds(inner.get(comma + 1..)?).filter(|span_us| *span_us > 0)?;
    Some((inner.get(..comma)?, Form::Window(aggregate, span_us)))
}

#[cfg(test)]
mod tests {
    use super::super::dtype::Vector;
    use super::*;

    #[test]
    fn the_end_of_a_name_says_what_is_asked_for() {
        for (name, field, form) in [
            ("e[128]", "e", Form::Numbers(128)),
            ("v:e[1]", "v:e", Form::Numbers(1)),
            ("e[1][65536]", "e[1]", Form::Numbers(65_536)),
            ("[3]", "", Form::Numbers(3)),
            ("sum(x,86400)", "x", Form::Window(Aggregate::Sum, 86_400_000_000)),
            ("std(v:x,0.25)", "v:x", Form::Window(Aggregate::Std, 250_000)),
            ("count(a,b,1)", "a,b", Form::Window(Aggregate::Count, 1_000_000)),
            ("mean(f(x,1),2)", "f(x,1)", Form::Window(Aggregate::Mean, 2_000_000)),
            ("min((,1)", "(", Form::Window(Aggregate::Min, 1_000_000)),
            ("max(,1)", "", Form::Window(Aggregate::Max, 1_000_000)),
        ] {
            assert_eq!(Form::cut(name.as_bytes()), (field.as_bytes(), form), "{name}");
        }
        for name in [
            "",
            "e",
            "e[]",
            "e[0]",
            "e[65537]",
            "e[01]",
            "e[-1]",
            "e[1] ",
            "e[1",
            "e1]",
            "]",
            ")",
            "e[99999999999999999999]",
            "sum(x)",
            "sum(x,0)",
            "sum(x,-1)",
            "sum(x,1e3)",
            "SUM(x,1)",
            "median(x,1)",
            "sum(x,1.0000001)",
            "sum(x,)",
            "sumx,1)",
            " sum(x,1)",
            "sum(x,1) ",
        ] {
            assert_eq!(Form::cut(name.as_bytes()), (name.as_bytes(), Form::One), "{name}");
        }
    }

    #[test]
    fn of_a_hash_the_whole_name_comes_first() {
        let bytes = [0u8; 16];
        let is = |found: Found, packed: usize| matches!(found, Found::Packed(bytes) if bytes.len() == packed);
        assert!(is(Form::Numbers(4).of_hash(None, Some(&bytes)), 16));
        assert!(is(Form::Numbers(2).of_hash(None, Some(&bytes)), 16));
        assert!(is(Form::Numbers(1).of_hash(None, Some(&bytes[..4])), 4));
        assert!(is(Form::Numbers(2).of_hash(Some(&bytes[..8]), Some(&bytes)), 8));
        assert!(matches!(Form::Numbers(3).of_hash(None, Some(&bytes)), Found::Misfit));
        assert!(matches!(Form::Numbers(3).of_hash(None, None), Found::Nothing));
        let literal = Form::Numbers(1).of_hash(Some(b"1.5"), None);
        assert!(matches!(literal, Found::Value(Value::Text(b"1.5"))));
        let window = Form::Window(Aggregate::Sum, 1);
        assert!(matches!(window.of_hash(Some(b"7"), None), Found::Value(Value::Text(b"7"))));
        assert!(matches!(window.of_hash(None, Some(b"7")), Found::Nothing));
        assert!(matches!(Form::One.of_hash(None, Some(b"7")), Found::Nothing));
    }

    #[test]
    fn a_vector_is_read_by_its_width_and_a_value_as_one() {
        let vector = Value::from(Vector::new(Dtype::F64, &[0; 16]).unwrap());
        let read = |form: Form, value| form.of_row(value, 0);
        assert!(matches!(read(Form::Numbers(2), vector), Found::Value(Value::Vector(..))));
        assert!(matches!(read(Form::One, vector), Found::Value(Value::Vector(..))));
        assert!(matches!(read(Form::Numbers(4), vector), Found::Misfit));
        assert!(matches!(read(Form::Numbers(1), Value::I64(3)), Found::Value(Value::I64(3))));
        assert!(matches!(read(Form::Numbers(2), Value::I64(3)), Found::Misfit));
        assert!(matches!(read(Form::Window(Aggregate::Sum, 1), Value::I64(3)), Found::Misfit));
    }
}
