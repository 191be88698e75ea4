//! Numbers as clients write them: read exactly, rounded once to the nearest, or
//! not at all.
//!
//! A number is an optional `-`, digits, and maybe decimals and an exponent, as in
//! JSON (RFC 8259) but that zeros may lead. Nothing around it, no hexadecimals,
//! no `nan` or `inf`.

use crate::bug;

/// The integer that a text is exactly; `None` for one that has decimals, or does
/// not fit 64 bits. Decided on the digits: a double would take neighbours for one.
pub fn read_i64(text: &[u8]) -> Option<i64> {
    match Short::parse(text) {
        Some(short) => short.to_i64(),
        None => Decimal::parse(text)?.to_i64(),
    }
}

/// The nearest double; `None` beyond the range of doubles.
#[inline]
pub fn read_f64(text: &[u8]) -> Option<f64> {
    Short::parse(text).and_then(|short| short.to_f64()).or_else(|| read_any_f64(text))
}

/// The nearest single; `None` beyond the range of singles.
#[inline]
pub fn read_f32(text: &[u8]) -> Option<f32> {
    Short::parse(text).and_then(|short| short.to_f32()).or_else(|| read_any_f32(text))
}

#[cold]
fn read_any_f64(text: &[u8]) -> Option<f64> {
    let number: f64 = decimal(text)?.parse().ok()?;
    number.is_finite().then_some(number)
}

#[cold]
fn read_any_f32(text: &[u8]) -> Option<f32> {
    // Not by way of the nearest double, which may round to another single.
    let number: f32 = decimal(text)?.parse().ok()?;
    number.is_finite().then_some(number)
}

/// A number as nearly all texts write it: 19 characters at most after the sign, and
/// no exponent. Reading these takes about a third of the instructions that
/// the parser of the standard library takes.
struct Short {
    negative: bool,
    /// All digits, before the point and after it.
    digits: u64,
    /// How many of them stand after it: fewer than there are.
    decimals: usize,
}

impl Short {
    /// The longest text, without its sign: as many digits always fit 64 bits.
    const LONGEST: usize = 19;

    /// What the digits count, by how many of them are decimals.
    const UNITS: [u64; Self::LONGEST] = [
        1,
        10,
        100,
        1_000,
        10_000,
        100_000,
        1_000_000,
        10_000_000,
        100_000_000,
        1_000_000_000,
        10_000_000_000,
        100_000_000_000,
        1_000_000_000_000,
        10_000_000_000_000,
        100_000_000_000_000,
        1_000_000_000_000_000,
        10_000_000_000_000_000,
        100_000_000_000_000_000,
        1_000_000_000_000_000_000,
    ];

    #[inline(always)]
    fn parse(text: &[u8]) -> Option<Self> {
        let (negative, mut rest) = match text {
            [b'-', rest @ ..] => (true, rest),
            rest => (false, rest),
        };
        let length = rest.len();
        if length > Self::LONGEST {
            return None;
        }
        let mut digits = 0;
        while let [first, after @ ..] = rest
            && let Some(digit) = digit(*first)
        {
            digits = digits * 10 + digit;
            rest = after;
        }
        if rest.len() == length {
            return None;
        }
        let mut decimals = 0;
        if let [point, after @ ..] = rest {
            decimals = after.len();
            if *point != b'.' || decimals == 0 {
                return None;
            }
            digits = read_last(text, decimals, digits)?;
        }
        Some(Self { negative, digits, decimals })
    }

    fn unit(decimals: usize) -> u64 {
        *Self::UNITS.get(decimals).unwrap_or_else(|| bug("more decimals than digits"))
    }

    fn to_i64(&self) -> Option<i64> {
        let unit = Self::unit(self.decimals);
        if !self.digits.is_multiple_of(unit) {
            return None;
        }
        let size = self.digits / unit;
        if self.negative { 0i64.checked_sub_unsigned(size) } else { i64::try_from(size).ok() }
    }

    /// The nearest double, if one division finds it (Clinger, How to Read Floating
    /// Point Numbers Accurately, 1990): both its sides are doubles exactly, so that
    /// it is all that rounds.
    #[inline(always)]
    fn to_f64(&self) -> Option<f64> {
        const ALL_INTEGERS: u64 = 1 << f64::MANTISSA_DIGITS;
        if self.digits > ALL_INTEGERS { None } else { self.near() }
    }

    /// The nearest single, where [`Self::near`] leaves no doubt which one it is.
    #[inline(always)]
    fn to_f32(&self) -> Option<f32> {
        let near = self.near()?;
        // What is on the same side of all middles rounds to the same single. These
        // numbers are 0, or far from both ends of the singles.
        (!is_middle_of_singles(near, 2)).then_some(near as f32)
    }

    /// A double less than two neighbours away from the number: the digits round by
    /// half a unit in the last place of theirs, which is one at most of the quotient,
    /// and the quotient by half of one. What divides is a double exactly. `None` of
    /// digits beyond 63 bits, which a processor turns into doubles at one go.
    #[inline(always)]
    fn near(&self) -> Option<f64> {
        let digits = i64::try_from(self.digits).ok()?;
        let size = digits as f64 / Self::unit(self.decimals).cast_signed() as f64;
        Some(if self.negative { -size } else { size })
    }
}

/// A digit as a number.
#[inline(always)]
fn digit(byte: u8) -> Option<u64> {
    let digit = byte.wrapping_sub(b'0');
    (digit <= 9).then_some(digit.into())
}

/// The digits that a text ends with, so many of them, behind those that were read
/// before, as one number; `None` where some are none.
#[inline(always)]
fn read_last(text: &[u8], count: usize, mut digits: u64) -> Option<u64> {
    let start = text.len().checked_sub(count)?;
    let (eights, rest) = text.get(start..)?.as_chunks();
    for eight in eights {
        digits = digits * 100_000_000 + read_eight(u64::from_le_bytes(*eight))?;
    }
    if rest.is_empty() {
        return Some(digits);
    }
    let Some(last) = text.last_chunk() else {
        return rest.iter().try_fold(digits, |digits, byte| Some(digits * 10 + digit(*byte)?));
    };
    // With zeros in the place of what stands before them.
    let before = u64::BITS - 8 * rest.len() as u32;
    let last = (u64::from_le_bytes(*last) ^ ZEROS) >> before << before ^ ZEROS;
    Some(digits * Short::unit(rest.len()) + read_eight(last)?)
}

/// Eight zeros as text.
const ZEROS: u64 = u64::from_ne_bytes(*b"00000000");

/// Eight digits, the first one in the lowest byte, as one number; `None` where some
/// are none. All at a time: pairs of digits, then of pairs, then of fours (Lemire,
/// Number Parsing at a Gigabyte per Second, 2021).
#[inline(always)]
fn read_eight(text: u64) -> Option<u64> {
    // What is more than 9 has its highest bit, or gets it.
    const TO_HIGHEST_BIT: u64 = u64::from_ne_bytes([128 - 10; 8]);
    const HIGHEST_BITS: u64 = u64::from_ne_bytes([128; 8]);
    let ones = text ^ ZEROS;
    if (ones | ones.wrapping_add(TO_HIGHEST_BIT)) & HIGHEST_BITS != 0 {
        return None;
    }
    // Each step leaves its sums in every other lane of those before.
    let pairs = (ones.wrapping_mul(10).wrapping_add(ones >> 8)) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs.wrapping_mul(100).wrapping_add(pairs >> 16)) & 0x0000_FFFF_0000_FFFF;
    Some((fours.wrapping_mul(10_000).wrapping_add(fours >> 32)) & 0xFFFF_FFFF)
}

/// The double that a program printed as this text: in one of the forms that
/// programs print doubles in, and only where its value survives. So it says the
/// very number that the shortest text of the double does, digit by digit, and is
/// the same single and the same integer as the double. `None` for all else: it is
/// kept as it is.
pub fn read_printed(text: &[u8]) -> Option<f64> {
    let decimal = Decimal::parse(text)?;
    if !decimal.is_printed() {
        return None;
    }
    let double = read_f64(text)?;
    let mut buffer = zmij::Buffer::new();
    let shortest = buffer.format_finite(double).as_bytes();
    let is_same = shortest == text || Decimal::parse(shortest)?.is(&decimal);
    (is_same && is_same_single(text, double) && is_same_integer(&decimal, double)).then_some(double)
}

/// Whether the single next to a text is the one next to the double that is next to
/// the text. It may be another where the double is the middle of two singles, and
/// at the ends of their range.
fn is_same_single(text: &[u8], double: f64) -> bool {
    let is_normal = (f32::MIN_POSITIVE.into()..=f32::MAX.into()).contains(&double.abs());
    let single = || Some(double as f32).filter(|single| single.is_finite());
    (!is_middle_of_singles(double, 0) && is_normal) || read_f32(text) == single()
}

/// Whether a double is the middle of two neighbours among the normal singles, or at
/// most so many doubles away from one.
#[inline(always)]
fn is_middle_of_singles(double: f64, away: u64) -> bool {
    const BEYOND_SINGLES: u64 = (1 << (f64::MANTISSA_DIGITS - f32::MANTISSA_DIGITS)) - 1;
    const MIDDLE: u64 = BEYOND_SINGLES / 2 + 1;
    (double.to_bits() & BEYOND_SINGLES).abs_diff(MIDDLE) <= away
}

/// Whether the integer that a text is is the double.
fn is_same_integer(decimal: &Decimal, double: f64) -> bool {
    const ALL_INTEGERS: f64 = (1u64 << f64::MANTISSA_DIGITS) as f64;
    double.abs() < ALL_INTEGERS
        || decimal.to_i64().is_none_or(|integer| i128::from(integer) == double as i128)
}

/// Whether text is a number as JSON writes it (RFC 8259), and finite as a double.
pub fn is_json_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let leads = matches!(digits, [b'0', b'0'..=b'9', ..]);
    !leads && read_f64(text).is_some()
}

/// The text, if it may be a number: what Rust reads beyond the grammar are a sign
/// more, a bare point, and words.
fn decimal(text: &[u8]) -> Option<&str> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let after = digits.get(whole..).unwrap_or_else(|| bug("more digits than there are"));
    let bare = after.first() == Some(&b'.') && !after.get(1).is_some_and(u8::is_ascii_digit);
    if whole == 0 || bare { None } else { std::str::from_utf8(text).ok() }
}

/// A number by its parts.
struct Decimal<'t> {
    negative: bool,
    /// The digits before the point.
    whole: &'t [u8],
    /// Those after it.
    decimals: &'t [u8],
    /// The digits of the exponent, if one is written.
    written_exponent: Option<&'t [u8]>,
    /// The exponent; of one that is longer than any text the nearest that is not.
    exponent: i64,
}

/// Beyond what any text makes up for by its length.
const FARTHEST: i64 = 1 << 62;

impl<'t> Decimal<'t> {
    fn parse(text: &'t [u8]) -> Option<Self> {
        let (negative, text) = match text {
            [b'-', text @ ..] => (true, text),
            text => (false, text),
        };
        let (whole, rest) = split_digits(text)?;
        let (decimals, rest) = match rest {
            [b'.', rest @ ..] => split_digits(rest)?,
            rest => (&[][..], rest),
        };
        let (written_exponent, exponent) = match rest {
            [] => (None, 0),
            [b'e' | b'E', rest @ ..] => {
                let (sign, rest) = match rest {
                    [b'-', rest @ ..] => (-1, rest),
                    [b'+', rest @ ..] => (1, rest),
                    rest => (1, rest),
                };
                let (digits, []) = split_digits(rest)? else { return None };
                let size = digits.iter().fold(0i64, |size, digit| {
                    size.saturating_mul(10).saturating_add((digit - b'0').into()).min(FARTHEST)
                });
                (Some(digits), sign * size)
            }
            _ => return None,
        };
        Some(Self { negative, whole, decimals, written_exponent, exponent })
    }

    /// The digits from the first to the last that is not 0, and the power of ten
    /// that they count: of 0 none.
    fn significant(&self) -> (impl Iterator<Item = u8> + Clone, usize, i64) {
        let all = self.whole.iter().chain(self.decimals).map(|digit| digit - b'0');
        let length = self.whole.len() + self.decimals.len();
        let zeros = |digit: &u8| *digit == 0;
        let before = all.clone().take_while(zeros).count();
        let after = all.clone().rev().take_while(zeros).count();
        let digits = length.saturating_sub(before + after);
        let power = match digits {
            0 => 0,
            _ => self.exponent - self.decimals.len() as i64 + after as i64,
        };
        (all.skip(before).take(digits), digits, power)
    }

    fn to_i64(&self) -> Option<i64> {
        let (digits, count, power) = self.significant();
        // 19 digits fit a u64. The last one is not 0: with a negative power it
        // stands behind the point.
        let power = u32::try_from(power).ok()?;
        if count as u64 + u64::from(power) > 19 {
            return None;
        }
        let size = digits.fold(0u64, |size, digit| size * 10 + u64::from(digit));
        let size = size.checked_mul(10u64.checked_pow(power)?)?;
        if self.negative { 0i64.checked_sub_unsigned(size) } else { i64::try_from(size).ok() }
    }

    /// Whether both are the same number, and 0 of the same sign.
    fn is(&self, other: &Self) -> bool {
        let (one, count, power) = self.significant();
        let (same, others, other_power) = other.significant();
        self.negative == other.negative && (count, power) == (others, other_power) && one.eq(same)
    }

    /// Whether it has a form in which programs print doubles: without needless
    /// zeros (but for `.0`); with an exponent where they write one, below a
    /// thousandth and from a million, and then with one digit before the point.
    /// So do Python, JavaScript, Go, Rust, Java and C's `%g`.
    fn is_printed(&self) -> bool {
        let whole = match self.written_exponent {
            None => self.whole == b"0" || self.whole.first() != Some(&b'0'),
            Some(digits) => {
                let is_short = digits.len() <= 3;
                let is_far = !(-3..6).contains(&self.exponent);
                is_short && is_far && matches!(self.whole, [b'1'..=b'9'])
            }
        };
        whole && (self.decimals == b"0" || self.decimals.last() != Some(&b'0'))
    }
}

/// The digits that a text begins with, at least one, and the rest.
fn split_digits(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if count == 0 { None } else { text.split_at_checked(count) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_exactly_a_finite_number_or_none() {
        for (text, number) in [
            ("0", 0.0),
            ("-7", -7.0),
            ("9007199254740993", 9_007_199_254_740_992.0),
            ("9223372036854775807", 9.223372036854776e18),
            ("18446744073709551616", 1.8446744073709552e19),
            ("-0", -0.0),
            ("84.50", 84.5),
            ("007", 7.0),
            ("1e5", 1e5),
            ("1.5E-3", 1.5e-3),
            ("5e-324", 5e-324),
            ("1e-400", 0.0),
            ("0e99999999999999999999", 0.0),
        ] {
            let read = read_f64(text.as_bytes()).unwrap();
            assert_eq!(read.to_bits(), f64::to_bits(number), "{text}");
        }
        for text in [
            "",
            "-",
            ".",
            ".5",
            "5.",
            "1.e5",
            "+1",
            "--1",
            "1e",
            "1e+",
            "1e400",
            "-1e999",
            "0x10",
            " 1",
            "1 ",
            "1_000",
            "1,5",
            "nan",
            "NaN",
            "inf",
            "Infinity",
            "-inf",
            "1\0",
            "１",
            "abc",
            "1e99999999999999999999",
        ] {
            assert_eq!(read_f64(text.as_bytes()), None, "{text:?}");
            assert_eq!(read_i64(text.as_bytes()), None, "{text:?}");
            assert_eq!(read_printed(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(read_f64(b"1\xff"), None);
    }

    #[test]
    fn an_integer_is_one_exactly_and_in_range() {
        for (text, integer) in [
            ("12.0", Some(12)),
            ("12.000", Some(12)),
            ("1e3", Some(1_000)),
            ("1.50e1", Some(15)),
            ("1500e-2", Some(15)),
            ("1e-0", Some(1)),
            ("007", Some(7)),
            ("0.0", Some(0)),
            ("-0.0", Some(0)),
            ("0e99999999999999999999", Some(0)),
            ("0e-99999999999999999999", Some(0)),
            ("12.5", None),
            ("1.5e0", None),
            ("9007199254740993.0", Some(9_007_199_254_740_993)),
            ("9223372036854775807", Some(i64::MAX)),
            ("9223372036854775807.0", Some(i64::MAX)),
            ("9223372036854775808", None),
            ("9.223372036854775807e18", Some(i64::MAX)),
            ("9.223372036854775808e18", None),
            ("-9223372036854775808.0", Some(i64::MIN)),
            ("-9.223372036854775808e+18", Some(i64::MIN)),
            ("-9223372036854775809", None),
            ("99999999999999999999", None),
            ("1e18", Some(1_000_000_000_000_000_000)),
            ("1e19", None),
            ("1e300", None),
            ("1e99999999999999999999", None),
            ("1e-400", None),
            ("5e-324", None),
            ("1e-99999999999999999999", None),
        ] {
            assert_eq!(read_i64(text.as_bytes()), integer, "{text}");
        }
    }

    #[test]
    fn a_single_is_the_nearest_and_in_range() {
        let single = |text: &str| read_f32(text.as_bytes());
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
    fn what_programs_print_is_that_double() {
        // Python, JavaScript, Go (%v, %g), Rust ({}, {:?}, {:e}), Java, C (%g).
        for (double, texts) in [
            (2e-5, "2e-05 0.00002 2e-5 2.0E-5"),
            (1e-7, "1e-07 1e-7 0.0000001 1.0E-7"),
            (0.0001, "0.0001 1e-4 1.0E-4"),
            (1e21, "1e+21 1000000000000000000000 1e21 1.0E21"),
            (1e6, "1e+06 1e6 1000000.0 1.0E6"),
            (123456789.5, "123456789.5 1.234567895e+08 1.234567895E8"),
            (1e16, "1e+16 1e16 10000000000000000.0"),
            (1.8446744073709552e19, "1.8446744073709552e+19 18446744073709552000"),
            (5e-324, "5e-324 5E-324"),
            (f64::MAX, "1.7976931348623157e+308 1.7976931348623157E308"),
            (0.1, "0.1"),
            (-0.0, "-0 -0.0"),
            (1e300, "1e+300 1e300"),
            (2.5, "2.5"),
        ] {
            for text in texts.split(' ') {
                let read = read_printed(text.as_bytes()).map(f64::to_bits);
                assert_eq!(read, Some(double.to_bits()), "{text}");
                let read = read_printed(format!("-{text}").as_bytes()).map(f64::to_bits);
                let negative = (!text.starts_with('-')).then_some((-double).to_bits());
                assert_eq!(read, negative, "-{text}");
            }
        }
        for text in [
            "84.50",
            "007",
            "1e5",
            "1e+05",
            "12e4",
            "12e10",
            "0.10e-5",
            "1.50e-5",
            "0.00",
            "00.5",
            "1e0006",
            "0.10000000000000001",
            "0.1000000000000000055511151231257827021181583404541015625",
            "9007199254740993.0",
            "9223372036854775808",
            "18446744073709551615",
            // Integers that the nearest double is not.
            "2.211416316124349e16",
            "22114163161243490.0",
            // Beyond the middle of two singles, which the nearest double is.
            "1.0000000596046448",
            // In range, which the single of the nearest double is not.
            "3.4028235677973366e+38",
            "1e-400",
            "4e-324",
            "1e400",
        ] {
            assert_eq!(read_printed(text.as_bytes()), None, "{text}");
        }
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

    /// What reads any number, without the way of the short ones.
    fn check(text: &[u8]) {
        let said = || String::from_utf8_lossy(text);
        let doubles = [read_f64(text), read_any_f64(text)].map(|read| read.map(f64::to_bits));
        assert_eq!(doubles[0], doubles[1], "{}", said());
        let singles = [read_f32(text), read_any_f32(text)].map(|read| read.map(f32::to_bits));
        assert_eq!(singles[0], singles[1], "{}", said());
        let decimal = Decimal::parse(text);
        assert_eq!(decimal.is_some(), doubles[0].is_some(), "{}", said());
        assert_eq!(read_i64(text), decimal.and_then(|decimal| decimal.to_i64()), "{}", said());
    }

    #[test]
    fn any_byte_anywhere_in_a_short_number_is_what_it_is_in_others() {
        for text in
            ["1", "-12", "1.5", "-12.25", "1234.678", "12345678.12345678", "0.1234567890123456"]
        {
            for place in 0..text.len() {
                for byte in 0..=u8::MAX {
                    let mut text = text.as_bytes().to_vec();
                    text[place] = byte;
                    // An exponent that fits no double is beyond what is compared here.
                    if !byte.eq_ignore_ascii_case(&b'e') {
                        check(&text);
                    }
                }
            }
        }
    }

    #[test]
    fn short_numbers_leave_what_is_in_doubt_to_the_others() {
        // Beside the middle of two singles, by less than a double tells.
        for text in ["8388608.5", "16777217", "1.0000000596046448", "0.75000002980232239"] {
            let short = Short::parse(text.as_bytes()).unwrap();
            assert_eq!(short.to_f32(), None, "{text}");
            check(text.as_bytes());
        }
        for (text, is_left) in [
            ("9007199254740992", false),
            ("9007199254740993", true),
            ("900719925474.0993", true),
            ("9999999999999999999", true),
        ] {
            let short = Short::parse(text.as_bytes()).unwrap();
            assert_eq!(short.to_f64().is_none(), is_left, "{text}");
            check(text.as_bytes());
        }
        for text in ["10000000000000000000", "0.123456789012345678", "1e5", "5.", ".5", "", "-"] {
            assert!(Short::parse(text.as_bytes()).is_none(), "{text}");
            if !text.is_empty() {
                check(text.as_bytes());
            }
        }
    }

    proptest! {
        #[test]
        fn short_numbers_are_read_as_others(
            text in "-?[0-9]{1,20}|-?[0-9]{1,12}\\.[0-9]{1,18}|[-+.0-9 x]{0,21}"
        ) {
            check(text.as_bytes());
        }

        #[test]
        fn numbers_come_back_as_they_were_printed(double: f64, integer: i64) {
            let texts = [double.to_string(), format!("{double:?}"), format!("{double:e}")];
            for text in texts {
                let read = read_f64(text.as_bytes()).map(f64::to_bits);
                prop_assert_eq!(read, double.is_finite().then_some(double.to_bits()));
            }
            for text in [double.to_string(), format!("{double:?}")] {
                match read_printed(text.as_bytes()) {
                    Some(read) => prop_assert_eq!(read.to_bits(), double.to_bits()),
                    None => {
                        let single = Some(double as f32).filter(|single| single.is_finite());
                        let integer = read_i64(text.as_bytes());
                        // Of two texts as short, programs print one or the other.
                        let mut buffer = zmij::Buffer::new();
                        let shortest = Decimal::parse(buffer.format(double).as_bytes());
                        let decimal = Decimal::parse(text.as_bytes());
                        let survives = decimal.zip(shortest).is_some_and(|(one, other)| one.is(&other))
                            && read_f32(text.as_bytes()) == single
                            && integer.is_none_or(|integer| integer as i128 == double as i128);
                        prop_assert!(!double.is_finite() || !survives, "{}", text);
                    }
                }
            }
            prop_assert_eq!(read_i64(integer.to_string().as_bytes()), Some(integer));
        }

        #[test]
        fn what_json_reads_as_a_number_is_one(text in "-?[0-9]{0,3}(\\.[0-9]{0,3})?([eE][+-]?[0-9]{0,2})?") {
            let json = serde_json::from_str::<f64>(&text).is_ok_and(f64::is_finite);
            prop_assert_eq!(is_json_number(text.as_bytes()), json, "{}", text);
        }

        /// The grammar is one, whoever reads it.
        #[test]
        fn parts_and_whole_agree_on_what_a_number_is(text in "-?[0-9]{0,3}(\\.[0-9]{0,3})?([eE][+-]?[0-9]{0,2})?|[-+.eE0-9]{0,8}") {
            let whole = decimal(text.as_bytes()).is_some_and(|text| text.parse::<f64>().is_ok());
            prop_assert_eq!(Decimal::parse(text.as_bytes()).is_some(), whole, "{}", text);
        }
    }
}
