//! Values: typed, and exactly what was written.

use super::dtype::{Dtype, Vector};
use super::events::Events;
use super::number::{read_f32, read_f64, read_i64, read_printed};
use crate::bug;
use crate::number::parse_integer;
use std::borrow::Cow;
use std::sync::Arc;

/// The numbers of values' types, in rows and payloads: stored, and never changed.
pub mod tag {
    /// A text.
    pub const TEXT: u8 = 0;
    /// An integer.
    pub const I64: u8 = 1;
    /// A single.
    pub const F32: u8 = 2;
    /// A double.
    pub const F64: u8 = 3;
    /// A text that was written as a string.
    pub const STRING: u8 = 4;
    /// A vector of singles.
    pub const F32S: u8 = 5;
    /// A vector of doubles.
    pub const F64S: u8 = 6;
    /// A vector of integers.
    pub const I64S: u8 = 7;
    /// What happened to a field.
    pub const EVENTS: u8 = 8;
}

/// The type that a value is written as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Type {
    /// A number where the text is one as programs print it, else a text.
    #[default]
    Auto,
    /// The nearest single.
    F32,
    /// The nearest double.
    F64,
    /// An integer, exactly.
    I64,
    /// The text, whatever it says.
    String,
    /// So many numbers of a type, as they lie in memory.
    Vector(Dtype, usize),
}

impl Type {
    /// All but vectors, by the names that clients write.
    pub const NAMES: [&str; 5] = ["AUTO", "F32", "F64", "I64", "STRING"];

    /// The one at a place of [`Self::NAMES`].
    pub fn at(place: usize) -> Self {
        match place {
            0 => Self::Auto,
            1 => Self::F32,
            2 => Self::F64,
            3 => Self::I64,
            _ => Self::String,
        }
    }

    /// What its texts are, as errors say it.
    pub fn describe(self) -> Cow<'static, str> {
        match self {
            Self::Auto | Self::String => "any text".into(),
            Self::F32 => "a number in the range of F32".into(),
            Self::F64 => "a number in the range of F64".into(),
            Self::I64 => "an integer in the range of I64".into(),
            Self::Vector(dtype, dim) => {
                let bytes = dim * dtype.bytes();
                format!("{bytes} bytes long: {dim} little-endian values of type {}", dtype.name())
                    .into()
            }
        }
    }

    /// The value that a text stands for; `None` when it is not of the type, or
    /// out of its range.
    #[inline]
    pub fn read(self, text: &[u8]) -> Option<Value<'_>> {
        match self {
            Self::Auto => Some(auto(text)),
            Self::F32 => {
                let words = || not_finite(text).map(|double| double as f32);
                read_f32(text).or_else(words).map(Value::F32)
            }
            Self::F64 => read_f64(text).or_else(|| not_finite(text)).map(Value::F64),
            Self::I64 => read_i64(text).map(Value::I64),
            Self::String => Some(Value::String(text)),
            Self::Vector(dtype, dim) => {
                Vector::new(dtype, text).filter(|vector| vector.dim() == dim).map(Value::from)
            }
        }
    }
}

/// A text as the number that it is as programs print it, or as it is.
fn auto(text: &[u8]) -> Value<'_> {
    if let Some(integer) = parse_integer(text) {
        return Value::I64(integer);
    }
    read_printed(text).map_or(Value::Text(text), Value::F64)
}

/// NaN and the infinities, by the names that programs print them by.
fn not_finite(text: &[u8]) -> Option<f64> {
    let (sign, name) = match text {
        [b'-', name @ ..] => (-1.0, name),
        [b'+', name @ ..] => (1.0, name),
        name => (1.0, name),
    };
    let is = |word: &[u8]| name.eq_ignore_ascii_case(word);
    if is(b"nan") {
        Some(f64::NAN)
    } else if is(b"inf") || is(b"infinity") {
        Some(f64::INFINITY * sign)
    } else {
        None
    }
}

/// A value.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Bytes that were given no type, in a hash or by AUTO. What they say may be a
    /// number.
    Text(&'a [u8]),
    /// Bytes that were written as a string.
    String(&'a [u8]),
    /// 64-bit two's complement.
    I64(i64),
    /// 32-bit IEEE 754; NaN and the infinities too.
    F32(f32),
    /// 64-bit IEEE 754; NaN and the infinities too.
    F64(f64),
    /// Numbers of one type: those of a [`Vector`].
    Vector(Dtype, &'a [u8]),
    /// What happened to the field.
    Events(&'a Arc<Events>),
}

/// What numbers are printed with.
#[derive(Default)]
pub struct Printer {
    integers: itoa::Buffer,
    doubles: zmij::Buffer,
}

impl<'a> Value<'a> {
    /// The number of its type.
    pub fn tag(self) -> u8 {
        match self {
            Self::Text(_) => tag::TEXT,
            Self::String(_) => tag::STRING,
            Self::I64(_) => tag::I64,
            Self::F32(_) => tag::F32,
            Self::F64(_) => tag::F64,
            Self::Vector(dtype, _) => match dtype {
                Dtype::F32 => tag::F32S,
                Dtype::F64 => tag::F64S,
                Dtype::I64 => tag::I64S,
            },
            Self::Events(_) => tag::EVENTS,
        }
    }

    /// The name of its type.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Text(_) | Self::String(_) => "STRING",
            Self::I64(_) => "I64",
            Self::F32(_) => "F32",
            Self::F64(_) => "F64",
            Self::Vector(dtype, _) => dtype.name(),
            Self::Events(events) => events.name(),
        }
    }

    /// Its type, as clients write it; of events what they are.
    pub fn describe(self) -> String {
        match self {
            Self::Vector(dtype, bytes) => {
                format!("{}[{}]", dtype.name(), bytes.len() / dtype.bytes())
            }
            Self::Events(events) => events.describe(),
            _ => self.type_name().to_owned(),
        }
    }

    /// The bytes of what is as long as it may be: of a text, a string, a vector.
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Text(bytes) | Self::String(bytes) | Self::Vector(_, bytes) => Some(bytes),
            Self::I64(_) | Self::F32(_) | Self::F64(_) | Self::Events(_) => None,
        }
    }

    /// The number that bytes begin with; `None` when they are too few.
    pub fn read(dtype: Dtype, bytes: &[u8]) -> Option<Value<'static>> {
        Some(match dtype {
            Dtype::F32 => Value::F32(f32::from_le_bytes(*bytes.first_chunk()?)),
            Dtype::F64 => Value::F64(f64::from_le_bytes(*bytes.first_chunk()?)),
            Dtype::I64 => Value::I64(i64::from_le_bytes(*bytes.first_chunk()?)),
        })
    }

    /// The vector that it is, if it is one.
    pub fn vector(self) -> Option<Vector<'a>> {
        match self {
            Self::Vector(dtype, bytes) => Vector::of_any_length(dtype, bytes),
            _ => None,
        }
    }

    /// The numbers of a vector.
    pub fn each(vector: Vector<'_>) -> impl ExactSizeIterator<Item = Value<'static>> {
        let dtype = vector.dtype();
        let numbers = vector.bytes().chunks_exact(dtype.bytes());
        numbers.map(move |bytes| {
            Self::read(dtype, bytes).unwrap_or_else(|| bug("a number of fewer bytes than it takes"))
        })
    }

    /// The value as a number of a type: the nearest that it holds; `None` of what is
    /// none.
    pub fn to(self, dtype: Dtype) -> Option<Value<'static>> {
        match dtype {
            Dtype::F32 => self.to_f32().map(Value::F32),
            Dtype::F64 => self.to_f64().map(Value::F64),
            Dtype::I64 => self.to_i64().map(Value::I64),
        }
    }

    /// The nearest single; `None` of what is no number, or one beyond its range.
    pub fn to_f32(self) -> Option<f32> {
        match self {
            Self::F32(single) => Some(single),
            Self::Text(text) | Self::String(text) => read_f32(text),
            Self::I64(integer) => Some(integer as f32),
            Self::F64(double) => {
                let single = double as f32;
                (single.is_finite() || !double.is_finite()).then_some(single)
            }
            Self::Vector(..) | Self::Events(_) => None,
        }
    }

    /// The nearest double; `None` of what is no number.
    pub fn to_f64(self) -> Option<f64> {
        match self {
            Self::F64(double) => Some(double),
            Self::Text(text) | Self::String(text) => read_f64(text),
            Self::I64(integer) => Some(integer as f64),
            Self::F32(single) => Some(single.into()),
            Self::Vector(..) | Self::Events(_) => None,
        }
    }

    /// The integer that it is exactly, if it is one.
    pub fn to_i64(self) -> Option<i64> {
        match self {
            Self::I64(integer) => Some(integer),
            Self::Text(text) | Self::String(text) => read_i64(text),
            Self::F32(single) => whole(single.into()),
            Self::F64(double) => whole(double),
            Self::Vector(..) | Self::Events(_) => None,
        }
    }

    /// The value as text: of a number the shortest that reads back as it, of a vector
    /// its bytes; of events none.
    pub fn print<'p>(self, printer: &'p mut Printer) -> &'p [u8]
    where
        'a: 'p,
    {
        match self {
            Self::Text(bytes) | Self::String(bytes) | Self::Vector(_, bytes) => bytes,
            Self::Events(_) => b"",
            Self::I64(integer) => printer.integers.format(integer).as_bytes(),
            Self::F32(single) => match single.is_finite() {
                true => printer.doubles.format_finite(single).as_bytes(),
                false => name_of(single.into()),
            },
            Self::F64(double) => match double.is_finite() {
                true => printer.doubles.format_finite(double).as_bytes(),
                false => name_of(double),
            },
        }
    }
}

/// The integer that a double is exactly, if it is one of 64 bits.
fn whole(double: f64) -> Option<i64> {
    // Doubles from -2^63 to below 2^63 without decimals are integers.
    const END: f64 = 9_223_372_036_854_775_808.0;
    let fits = double.fract() == 0.0 && (-END..END).contains(&double);
    fits.then_some(double as i64)
}

/// The double that the shortest decimal of a single names: 0.1 of the single next
/// to 0.1, which as a double is 0.10000000149011612.
pub fn widen(single: f32) -> f64 {
    let double = f64::from(single);
    if double == 0.0 || !double.is_finite() {
        return double;
    }
    // With as few decimals as name the single. In this range both the product and
    // the quotient are those of integers that doubles hold, rounded once.
    if (1e-3..1e7).contains(&double.abs()) {
        const POWERS: [f64; 13] =
            [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12];
        for power in POWERS {
            let shorter = (double * power).round_ties_even() / power;
            if shorter as f32 == single {
                return shorter;
            }
        }
    }
    let mut buffer = zmij::Buffer::new();
    // What was just printed reads.
    let printed = buffer.format_finite(single);
    printed.parse().unwrap_or_else(|_| bug("a single that is no double"))
}

/// The name of what is not finite.
fn name_of(double: f64) -> &'static [u8] {
    if double.is_nan() {
        b"nan"
    } else if double > 0.0 {
        b"inf"
    } else {
        b"-inf"
    }
}

impl<'a> From<Vector<'a>> for Value<'a> {
    fn from(vector: Vector<'a>) -> Self {
        Self::Vector(vector.dtype(), vector.bytes())
    }
}

/// The same bits: NaN equals itself, and 0 is not -0.
impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) | (Self::String(one), Self::String(other)) => {
                one == other
            }
            (Self::I64(one), Self::I64(other)) => one == other,
            (Self::F32(one), Self::F32(other)) => one.to_bits() == other.to_bits(),
            (Self::F64(one), Self::F64(other)) => one.to_bits() == other.to_bits(),
            (Self::Vector(dtype, one), Self::Vector(other_dtype, other)) => {
                (dtype, one) == (other_dtype, other)
            }
            (Self::Events(one), Self::Events(other)) => one == other,
            _ => false,
        }
    }
}

impl Eq for Value<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn printed(value: Value) -> String {
        String::from_utf8_lossy(value.print(&mut Printer::default())).into_owned()
    }

    #[test]
    fn auto_is_a_number_where_programs_print_it_so() {
        for (text, value) in [
            ("12", Value::I64(12)),
            ("-7", Value::I64(-7)),
            ("9223372036854775807", Value::I64(i64::MAX)),
            ("-9223372036854775808", Value::I64(i64::MIN)),
            ("9007199254740993", Value::I64(9_007_199_254_740_993)),
            ("12.5", Value::F64(12.5)),
            ("0.1", Value::F64(0.1)),
            ("5.0", Value::F64(5.0)),
            ("-0.0", Value::F64(-0.0)),
            ("1e+16", Value::F64(1e16)),
            ("5e-324", Value::F64(5e-324)),
            ("1.7976931348623157e+308", Value::F64(f64::MAX)),
            ("2e-05", Value::F64(2e-5)),
            ("1e-07", Value::F64(1e-7)),
        ] {
            assert_eq!(Type::Auto.read(text.as_bytes()), Some(value), "{text}");
            let read = Type::Auto.read(printed(value).as_bytes()) == Some(value);
            assert!(read, "{text} is answered as {}", printed(value));
        }
        for text in [
            "84.50",
            "007",
            "+1",
            " 1",
            "1 ",
            "1_000",
            "0x10",
            "1e5",
            "1e400",
            "",
            ".5",
            "5.",
            "9223372036854775808",
            "18446744073709551615",
            "nan",
            "NaN",
            "inf",
            "gold",
            "1e-400",
            "0.00",
            "1\0",
        ] {
            let text = text.as_bytes();
            assert_eq!(Type::Auto.read(text), Some(Value::Text(text)), "{text:?}");
        }
    }

    #[test]
    fn a_type_takes_what_it_holds_and_nothing_else() {
        let read = |kind: Type, text: &'static str| kind.read(text.as_bytes());
        assert_eq!(read(Type::F32, "0.1"), Some(Value::F32(0.1)));
        assert_eq!(read(Type::F32, "16777217"), Some(Value::F32(16_777_216.0)));
        assert_eq!(read(Type::F32, "-inf"), Some(Value::F32(f32::NEG_INFINITY)));
        assert_eq!(read(Type::F32, "NaN"), Some(Value::F32(f32::NAN)));
        assert_eq!(read(Type::F64, "84.50"), Some(Value::F64(84.5)));
        assert_eq!(read(Type::F64, "Infinity"), Some(Value::F64(f64::INFINITY)));
        assert_eq!(read(Type::I64, "12.0"), Some(Value::I64(12)));
        assert_eq!(read(Type::I64, "-9223372036854775808"), Some(Value::I64(i64::MIN)));
        assert_eq!(read(Type::String, "12"), Some(Value::String(b"12")));
        for (kind, text) in [
            (Type::F32, "1e39"),
            (Type::F32, "gold"),
            (Type::F64, "1e400"),
            (Type::F64, "0x10"),
            (Type::F64, ""),
            (Type::I64, "12.5"),
            (Type::I64, "nan"),
            (Type::I64, "9223372036854775808"),
            (Type::I64, "-9223372036854775809"),
            (Type::I64, "1e-400"),
            (Type::I64, "1_000"),
        ] {
            assert_eq!(read(kind, text), None, "{kind:?} {text:?}");
        }
    }

    #[test]
    fn what_is_not_finite_has_a_name() {
        for (double, name) in
            [(f64::NAN, "nan"), (-f64::NAN, "nan"), (f64::INFINITY, "inf"), (-1.0 / 0.0, "-inf")]
        {
            assert_eq!(printed(Value::F64(double)), name);
            assert_eq!(printed(Value::F32(double as f32)), name);
        }
    }

    #[test]
    fn numbers_of_one_type_are_numbers_of_another_where_it_holds_them() {
        assert_eq!(Value::F64(1e39).to_f32(), None);
        assert_eq!(Value::F64(f64::INFINITY).to_f32(), Some(f32::INFINITY));
        assert_eq!(Value::F64(0.1).to_f32(), Some(0.1));
        assert_eq!(Value::F32(1.5).to_i64(), None);
        assert_eq!(Value::F64(-9_223_372_036_854_775_808.0).to_i64(), Some(i64::MIN));
        assert_eq!(Value::F64(9_223_372_036_854_775_808.0).to_i64(), None);
        assert_eq!(Value::F64(f64::NAN).to_i64(), None);
        assert_eq!(Value::String(b"7").to_i64(), Some(7));
        assert_eq!(widen(0.1), 0.1);
        assert_eq!(widen(f32::MAX), 3.4028235e38);
        assert!(widen(f32::NAN).is_nan());
    }

    proptest! {
        #[test]
        fn auto_keeps_what_every_text_says(text in prop_oneof![
            "-?[0-9]{0,20}(\\.[0-9]{0,8})?(e[+-]?[0-9]{0,3})?",
            any::<f64>().prop_map(|double| zmij::Buffer::new().format(double).to_owned()),
            any::<i64>().prop_map(|integer| integer.to_string()),
            "\\PC{0,8}",
        ]) {
            let value = Type::Auto.read(text.as_bytes()).unwrap();
            match value {
                Value::Text(_) => prop_assert_eq!(printed(value), text),
                // Read again it is the same, and every program reads the same.
                value => {
                    let again = printed(value);
                    prop_assert_eq!(Type::Auto.read(again.as_bytes()), Some(value));
                    let double: f64 = text.parse().unwrap();
                    prop_assert_eq!(value.to_f64().map(f64::to_bits), Some(double.to_bits()));
                }
            }
        }

        #[test]
        fn a_single_is_widened_to_what_its_text_says(
            single in prop_oneof![any::<f32>(), -2e7f32..2e7, -2f32..2.0],
        ) {
            prop_assume!(!single.is_nan());
            let text = printed(Value::F32(single));
            prop_assert_eq!(widen(single).to_bits(), text.parse::<f64>().unwrap().to_bits());
        }

        #[test]
        fn numbers_read_back_as_they_were(double: f64, single: f32) {
            prop_assume!(!double.is_nan() && !single.is_nan());
            prop_assert_eq!(widen(single) as f32, single);
            let (double, single) = (Value::F64(double), Value::F32(single));
            let text = printed(double);
            prop_assert_eq!(Type::F64.read(text.as_bytes()), Some(double));
            let text = printed(single);
            prop_assert_eq!(Type::F32.read(text.as_bytes()), Some(single));
        }
    }
}
