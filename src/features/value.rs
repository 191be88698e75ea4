//! Values as rows hold them: typed, and exactly what was written.

use super::number::Number;
use crate::number::parse_integer;

/// A value.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Any bytes.
    Text(&'a [u8]),
    /// 64-bit two's complement.
    Integer(i64),
    /// 32-bit IEEE 754; NaN and the infinities too.
    Single(f32),
    /// 64-bit IEEE 754; NaN and the infinities too.
    Double(f64),
}

/// What a write makes of the text of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A number where the number prints back to the same bytes, else a text.
    #[default]
    Auto,
    /// The nearest single.
    F32,
    /// The nearest double.
    F64,
    /// An integer, exactly.
    I64,
    /// The text.
    Text,
}

impl Kind {
    /// All of them, by the names that clients write.
    pub const NAMES: [&str; 5] = ["AUTO", "F32", "F64", "I64", "STRING"];

    /// The one at a place of [`Self::NAMES`].
    pub fn at(place: usize) -> Self {
        match place {
            0 => Self::Auto,
            1 => Self::F32,
            2 => Self::F64,
            3 => Self::I64,
            _ => Self::Text,
        }
    }

    /// What its texts are, as errors say it.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Auto | Self::Text => "any text",
            Self::F32 => "a number in the range of F32",
            Self::F64 => "a number in the range of F64",
            Self::I64 => "an integer in the range of I64",
        }
    }

    /// The value that a text stands for; `None` when it is not of the type, or
    /// out of its range.
    pub fn read(self, text: &[u8]) -> Option<Value<'_>> {
        match self {
            Self::Auto => Some(exact(text)),
            Self::F32 => {
                let words = || not_finite(text).map(|double| double as f32);
                Number::parse_single(text).or_else(words).map(Value::Single)
            }
            Self::F64 => match Number::parse(text) {
                Some(number) => Some(Value::Double(number.to_f64())),
                None => not_finite(text).map(Value::Double),
            },
            Self::I64 => Number::parse(text)?.to_i64().map(Value::Integer),
            Self::Text => Some(Value::Text(text)),
        }
    }
}

/// A text as a number that prints back to the same bytes, or as it is.
fn exact(text: &[u8]) -> Value<'_> {
    if let Some(integer) = parse_integer(text) {
        return Value::Integer(integer);
    }
    match Number::parse(text).map(|number| Value::Double(number.to_f64())) {
        Some(double) if double.print(&mut Printer::default()) == text => double,
        _ => Value::Text(text),
    }
}

/// NaN and the infinities, by the names that programs print them by.
fn not_finite(text: &[u8]) -> Option<f64> {
    let (sign, name) = match text {
        [b'-', name @ ..] => (-1.0, name),
        [b'+', name @ ..] => (1.0, name),
        name => (1.0, name),
    };
    match name.to_ascii_lowercase().as_slice() {
        b"nan" => Some(f64::NAN),
        b"inf" | b"infinity" => Some(f64::INFINITY * sign),
        _ => None,
    }
}

/// What numbers are printed with.
#[derive(Default)]
pub struct Printer {
    integers: itoa::Buffer,
    doubles: zmij::Buffer,
}

impl<'a> Value<'a> {
    /// The name of its type.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Text(_) => "STRING",
            Self::Integer(_) => "I64",
            Self::Single(_) => "F32",
            Self::Double(_) => "F64",
        }
    }

    /// The value as text: of a number the shortest that reads back as it.
    pub fn print<'p>(self, printer: &'p mut Printer) -> &'p [u8]
    where
        'a: 'p,
    {
        match self {
            Self::Text(text) => text,
            Self::Integer(integer) => printer.integers.format(integer).as_bytes(),
            Self::Single(single) => match single.is_finite() {
                true => printer.doubles.format_finite(single).as_bytes(),
                false => name_of(single.into()),
            },
            Self::Double(double) => match double.is_finite() {
                true => printer.doubles.format_finite(double).as_bytes(),
                false => name_of(double),
            },
        }
    }
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

/// The same bits: NaN equals itself, and 0 is not -0.
impl PartialEq for Value<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Text(one), Self::Text(other)) => one == other,
            (Self::Integer(one), Self::Integer(other)) => one == other,
            (Self::Single(one), Self::Single(other)) => one.to_bits() == other.to_bits(),
            (Self::Double(one), Self::Double(other)) => one.to_bits() == other.to_bits(),
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
    fn auto_is_a_number_only_where_it_prints_back_the_same() {
        for (text, value) in [
            ("12", Value::Integer(12)),
            ("-7", Value::Integer(-7)),
            ("9223372036854775807", Value::Integer(i64::MAX)),
            ("-9223372036854775808", Value::Integer(i64::MIN)),
            ("9007199254740993", Value::Integer(9_007_199_254_740_993)),
            ("12.5", Value::Double(12.5)),
            ("0.1", Value::Double(0.1)),
            ("5.0", Value::Double(5.0)),
            ("-0.0", Value::Double(-0.0)),
            ("1e+16", Value::Double(1e16)),
            ("5e-324", Value::Double(5e-324)),
            ("1.7976931348623157e+308", Value::Double(f64::MAX)),
        ] {
            assert_eq!(Kind::Auto.read(text.as_bytes()), Some(value), "{text}");
            assert_eq!(printed(value), text);
        }
        for text in [
            "84.50",
            "007",
            "-0",
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
            assert_eq!(Kind::Auto.read(text), Some(Value::Text(text)), "{text:?}");
        }
    }

    #[test]
    fn a_type_takes_what_it_holds_and_nothing_else() {
        let read = |kind: Kind, text: &'static str| kind.read(text.as_bytes());
        assert_eq!(read(Kind::F32, "0.1"), Some(Value::Single(0.1)));
        assert_eq!(read(Kind::F32, "16777217"), Some(Value::Single(16_777_216.0)));
        assert_eq!(read(Kind::F32, "-inf"), Some(Value::Single(f32::NEG_INFINITY)));
        assert_eq!(read(Kind::F32, "NaN"), Some(Value::Single(f32::NAN)));
        assert_eq!(read(Kind::F64, "84.50"), Some(Value::Double(84.5)));
        assert_eq!(read(Kind::F64, "Infinity"), Some(Value::Double(f64::INFINITY)));
        assert_eq!(read(Kind::I64, "12.0"), Some(Value::Integer(12)));
        assert_eq!(read(Kind::I64, "-9223372036854775808"), Some(Value::Integer(i64::MIN)));
        assert_eq!(read(Kind::Text, "12"), Some(Value::Text(b"12")));
        for (kind, text) in [
            (Kind::F32, "1e39"),
            (Kind::F32, "gold"),
            (Kind::F64, "1e400"),
            (Kind::F64, "0x10"),
            (Kind::F64, ""),
            (Kind::I64, "12.5"),
            (Kind::I64, "nan"),
            (Kind::I64, "9223372036854775808"),
            (Kind::I64, "1_000"),
        ] {
            assert_eq!(read(kind, text), None, "{kind:?} {text:?}");
        }
    }

    #[test]
    fn what_is_not_finite_has_a_name() {
        for (double, name) in
            [(f64::NAN, "nan"), (-f64::NAN, "nan"), (f64::INFINITY, "inf"), (-1.0 / 0.0, "-inf")]
        {
            assert_eq!(printed(Value::Double(double)), name);
            assert_eq!(printed(Value::Single(double as f32)), name);
        }
    }

    proptest! {
        #[test]
        fn auto_keeps_every_text(text in prop_oneof![
            "-?[0-9]{0,20}(\\.[0-9]{0,8})?(e[+-]?[0-9]{0,3})?",
            any::<f64>().prop_map(|double| zmij::Buffer::new().format(double).to_owned()),
            any::<i64>().prop_map(|integer| integer.to_string()),
            "\\PC{0,8}",
        ]) {
            let value = Kind::Auto.read(text.as_bytes()).unwrap();
            prop_assert_eq!(printed(value), text);
        }

        #[test]
        fn numbers_read_back_as_they_were(double: f64, single: f32) {
            prop_assume!(!double.is_nan() && !single.is_nan());
            let (double, single) = (Value::Double(double), Value::Single(single));
            let text = printed(double);
            prop_assert_eq!(Kind::F64.read(text.as_bytes()), Some(double));
            let text = printed(single);
            prop_assert_eq!(Kind::F32.read(text.as_bytes()), Some(single));
        }
    }
}
