//! Numbers as features hold them: read exactly, or not at all.

use crate::number::parse_integer;

/// A finite number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// An integer that fits 64 bits.
    Integer(i64),
    /// Any other.
    Double(f64),
}

impl Number {
    /// Reads text that is exactly a finite number: an optional `-`, digits, and
    /// maybe decimals and an exponent, as in JSON but that zeros may lead.
    /// Nothing around it, no hexadecimals, no `nan` or `inf`.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if let Some(integer) = parse_integer(text) {
            return Some(Self::Integer(integer));
        }
        let number: f64 = decimal(text)?.parse().ok()?;
        number.is_finite().then_some(Self::Double(number))
    }

    /// The nearest single of such a text; `None` beyond its range.
    pub fn parse_single(text: &[u8]) -> Option<f32> {
        if let Some(integer) = parse_integer(text) {
            return Self::Integer(integer).to_f32();
        }
        // Not by way of the nearest double, which may round to another single.
        let number: f32 = decimal(text)?.parse().ok()?;
        number.is_finite().then_some(number)
    }

    /// The nearest double.
    pub fn to_f64(self) -> f64 {
        match self {
            Self::Integer(integer) => integer as f64,
            Self::Double(double) => double,
        }
    }

    /// The nearest single; `None` beyond its range.
    pub fn to_f32(self) -> Option<f32> {
        let single = match self {
            Self::Integer(integer) => integer as f32,
            Self::Double(double) => double as f32,
        };
        single.is_finite().then_some(single)
    }

    /// The integer that it is exactly, if it is one.
    pub fn to_i64(self) -> Option<i64> {
        match self {
            Self::Integer(integer) => Some(integer),
            Self::Double(double) => {
                // Doubles from -2^63 to below 2^63 without decimals are integers.
                const END: f64 = 9_223_372_036_854_775_808.0;
                let fits = double.fract() == 0.0 && (-END..END).contains(&double);
                fits.then_some(double as i64)
            }
        }
    }
}

/// The text, if it may be a number: what Rust reads beyond the grammar are a sign
/// more, a bare point, and words.
fn decimal(text: &[u8]) -> Option<&str> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let after = digits.get(whole..)?;
    let bare = after.first() == Some(&b'.') && !after.get(1).is_some_and(u8::is_ascii_digit);
    if whole == 0 || bare { None } else { std::str::from_utf8(text).ok() }
}

/// Whether text is a number as JSON writes it (RFC 8259), and finite as a double.
pub fn is_json_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let leads = matches!(digits, [b'0', b'0'..=b'9', ..]);
    !leads && Number::parse(text).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_exactly_a_finite_number_or_none() {
        for (text, number) in [
            ("0", Number::Integer(0)),
            ("-7", Number::Integer(-7)),
            ("9007199254740993", Number::Integer(9_007_199_254_740_993)),
            ("9223372036854775807", Number::Integer(i64::MAX)),
            ("-9223372036854775808", Number::Integer(i64::MIN)),
            ("9223372036854775808", Number::Double(9.223372036854776e18)),
            ("18446744073709551616", Number::Double(1.8446744073709552e19)),
            ("-0", Number::Double(-0.0)),
            ("84.50", Number::Double(84.5)),
            ("007", Number::Double(7.0)),
            ("1e5", Number::Double(1e5)),
            ("1.5E-3", Number::Double(1.5e-3)),
            ("5e-324", Number::Double(5e-324)),
            ("1e-400", Number::Double(0.0)),
        ] {
            assert_eq!(Number::parse(text.as_bytes()), Some(number), "{text}");
        }
        for text in [
            "", "-", ".", ".5", "5.", "1.e5", "+1", "--1", "1e", "1e+", "1e400", "-1e999", "0x10",
            " 1", "1 ", "1_000", "1,5", "nan", "NaN", "inf", "Infinity", "-inf", "1\0", "１",
            "abc",
        ] {
            assert_eq!(Number::parse(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Number::parse(b"1\xff"), None);
    }

    #[test]
    fn an_integer_is_one_exactly_and_in_range() {
        for (text, integer) in [
            ("12.0", Some(12)),
            ("1e3", Some(1_000)),
            ("12.5", None),
            ("-0.0", Some(0)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("-9223372036854775808.0", Some(i64::MIN)),
            ("1e300", None),
            ("5e-324", None),
        ] {
            let number = Number::parse(text.as_bytes()).unwrap();
            assert_eq!(number.to_i64(), integer, "{text}");
        }
    }

    #[test]
    fn a_single_is_the_nearest_and_in_range() {
        let single = |text: &str| Number::parse_single(text.as_bytes());
        assert_eq!(single("0.1"), Some(0.1));
        assert_eq!(single("16777217"), Some(16_777_216.0));
        assert_eq!(single("1e39"), None);
        assert_eq!(single("-1e39"), None);
        assert_eq!(single("1e-60"), Some(0.0));
        // Between two singles, and a little more: the double would be the middle.
        assert_eq!(single("1.000000059604644775390625000000001"), Some(1.000_000_1));
        assert_eq!(single("gold"), None);
    }

    #[test]
    fn json_takes_no_leading_zeros() {
        for (text, is_number) in [
            ("0", true),
            ("-0", true),
            ("84.50", true),
            ("1E+5", true),
            ("007", false),
            ("-01.5", false),
            ("1e400", false),
            ("", false),
        ] {
            assert_eq!(is_json_number(text.as_bytes()), is_number, "{text}");
        }
    }

    proptest! {
        #[test]
        fn numbers_come_back_as_they_were_printed(double: f64, integer: i64) {
            let read = Number::parse(double.to_string().as_bytes());
            match double.is_finite() {
                true => prop_assert_eq!(read.map(Number::to_f64), Some(double)),
                false => prop_assert_eq!(read, None),
            }
            let read = Number::parse(integer.to_string().as_bytes());
            prop_assert_eq!(read, Some(Number::Integer(integer)));
        }

        #[test]
        fn what_json_reads_as_a_number_is_one(text in "-?[0-9]{0,3}(\\.[0-9]{0,3})?([eE][+-]?[0-9]{0,2})?") {
            let json = serde_json::from_str::<f64>(&text).is_ok_and(f64::is_finite);
            prop_assert_eq!(is_json_number(text.as_bytes()), json, "{}", text);
        }
    }
}
