//! Numbers as clients write them, read strictly: what a number does not print
//! back as is refused, never rounded, cut or guessed at. Pure, and a fuzz
//! target.

/// A decimal integer as Redis takes it: an optional `-`, then digits without a
/// leading zero. No `+`, no spaces, no `-0`. `None` also when it does not fit.
pub fn parse_integer(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    match digits {
        [] => return None,
        [b'0', ..] if digits.len() > 1 || negative => return None,
        _ => {}
    }
    // What has no more digits than this cannot wrap.
    if digits.len() > 19 {
        return None;
    }
    let mut size: u64 = 0;
    for byte in digits {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        size = size * 10 + u64::from(digit);
    }
    if negative { 0i64.checked_sub_unsigned(size) } else { i64::try_from(size).ok() }
}

/// Seconds with at most six decimals, as whole microseconds: `60`, `0.25`.
/// Exact: no float is involved.
pub fn parse_seconds(text: &[u8]) -> Option<u64> {
    let whole = |text| u64::try_from(parse_integer(text)?).ok()?.checked_mul(1_000_000);
    // Most have no decimals.
    if let Some(micros) = whole(text) {
        return Some(micros);
    }
    let point = text.iter().position(|byte| *byte == b'.')?;
    let (mut micros, decimals) = (whole(text.get(..point)?)?, text.get(point + 1..)?);
    if decimals.is_empty() || decimals.len() > 6 {
        return None;
    }
    let mut unit = 100_000;
    for digit in decimals {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        micros = micros.checked_add(u64::from(digit) * unit)?;
        unit /= 10;
    }
    Some(micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn integers_at_their_extremes() {
        for value in [0, 1, -1, 10, i64::MAX, i64::MIN] {
            assert_eq!(parse_integer(value.to_string().as_bytes()), Some(value));
        }
        for text in [
            "",
            "-",
            "+1",
            "01",
            "-0",
            "00",
            " 1",
            "1 ",
            "0x10",
            "1e3",
            "1.0",
            "1_000",
            "abc",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999999",
        ] {
            assert_eq!(parse_integer(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn seconds_to_the_microsecond() {
        for (text, micros) in [
            ("60", 60_000_000),
            ("0.25", 250_000),
            ("0.001", 1_000),
            ("0.000001", 1),
            ("31622400", 31_622_400_000_000),
            ("1.5", 1_500_000),
            ("0", 0),
        ] {
            assert_eq!(parse_seconds(text.as_bytes()), Some(micros), "{text:?}");
        }
        for text in [
            "",
            ".",
            ".5",
            "1.",
            "-1",
            "-0.5",
            "1.0000000",
            "1e3",
            "1.2.3",
            "0x1",
            " 1",
            "1 ",
            "01",
            "1.-5",
            "18446744073710",
            "nan",
            "inf",
        ] {
            assert_eq!(parse_seconds(text.as_bytes()), None, "{text:?}");
        }
    }

    proptest! {
        /// The oracle: the standard parser, held to what prints back the same.
        #[test]
        fn an_integer_is_what_prints_back_to_the_same_text(
            text in prop_oneof![
                "[+-]?[0-9]{0,21}",
                any::<i64>().prop_map(|value| value.to_string()),
                "\\PC{0,8}",
            ]
        ) {
            let oracle = text.parse::<i64>().ok().filter(|value| value.to_string() == text);
            prop_assert_eq!(parse_integer(text.as_bytes()), oracle);
        }

        #[test]
        fn seconds_are_exact(micros in 0u64..=31_622_400_000_000) {
            let text = format!("{}.{:06}", micros / 1_000_000, micros % 1_000_000);
            prop_assert_eq!(parse_seconds(text.as_bytes()), Some(micros));
        }

        #[test]
        fn no_bytes_upset_the_parsers(text in prop::collection::vec(any::<u8>(), 0..32)) {
            let _ = (parse_integer(&text), parse_seconds(&text));
        }
    }
}
