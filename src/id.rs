//! Ids of what a caller holds for a while, such as a reservation or a permit:
//! 128 random bits, written as 32 hexadecimal digits. None is used twice, also
//! not across restarts and failovers.

/// An id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(pub [u8; 16]);

impl Id {
    /// Reads what [`Self::text`] wrote; `None` for anything else, which names
    /// nothing.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: &[u8; 32] = text.try_into().ok()?;
        let mut bytes = [0; 16];
        for (byte, digits) in bytes.iter_mut().zip(text.chunks_exact(2)) {
            *byte =
                digits.iter().try_fold(0, |byte: u8, digit| Some(byte << 4 | value(*digit)?))?;
        }
        Some(Self(bytes))
    }

    /// The 32 digits, in lower case.
    pub fn text(self) -> [u8; 32] {
        let mut text = [0; 32];
        for (digits, byte) in text.chunks_exact_mut(2).zip(self.0) {
            for (digit, nibble) in digits.iter_mut().zip([byte >> 4, byte & 15]) {
                *digit = nibble + if nibble < 10 { b'0' } else { b'a' - 10 };
            }
        }
        text
    }
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_id_reads_back_as_it_was_written(bytes: [u8; 16]) {
            prop_assert_eq!(Id::parse(&Id(bytes).text()), Some(Id(bytes)));
        }

        #[test]
        fn anything_else_names_nothing(text in prop::collection::vec(any::<u8>(), 0..40)) {
            if let Some(id) = Id::parse(&text) {
                prop_assert_eq!(id.text().to_vec(), text);
            }
        }
    }

    #[test]
    fn an_id_is_32_digits_in_lower_case() {
        let text = b"00ff1234567890abcdef00000000000a";
        assert_eq!(Id::parse(text).map(Id::text).as_ref(), Some(text));
        assert_eq!(Id::parse(b"00FF1234567890abcdef00000000000a"), None);
        assert_eq!(Id::parse(b"00ff"), None);
    }
}
