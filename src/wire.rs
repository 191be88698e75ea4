//! Reading payloads that may come from anywhere: a cursor that never reads
//! past the end and never allocates. Numbers are little-endian. What payloads of
//! several types have in them is read within its [bounds](crate::bounds).

use crate::bounds::{MAX_AMOUNT, MAX_TIME_US, MAX_TTL_MS};
use crate::id::Id;
use crate::time::{Micros, Millis};

/// A payload, read from the front.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// At the payload's start.
    pub fn new(payload: &'a [u8]) -> Self {
        Self { rest: payload }
    }

    /// The next `length` bytes; `None` when fewer are left.
    pub fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(taken)
    }

    /// The next byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(u8::from_le_bytes)
    }

    /// The next eight bytes, a number.
    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next number as [`push_number`] writes it: `None` also for one that is
    /// longer than need be.
    pub fn number(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return (byte != 0 || shift == 0).then_some(value);
            }
        }
        None
    }

    /// The next 16 bytes, an id.
    pub fn id(&mut self) -> Option<Id> {
        self.array().map(Id)
    }

    /// The next number, a limit, a maximum or an actual cost.
    pub fn amount(&mut self) -> Option<u64> {
        self.number().filter(|amount| *amount <= MAX_AMOUNT)
    }

    /// The next number, what a call takes.
    pub fn cost(&mut self) -> Option<u64> {
        self.amount().filter(|cost| *cost > 0)
    }

    /// The next number, a time to live.
    pub fn ttl_ms(&mut self) -> Option<Millis> {
        self.number().filter(|ttl_ms| (1..=MAX_TTL_MS).contains(ttl_ms))
    }

    /// The next number, a moment of a clock.
    pub fn time_us(&mut self) -> Option<Micros> {
        self.number().filter(|at_us| *at_us <= MAX_TIME_US)
    }

    /// All that is left.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether the payload was read to its end.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Ends the reading: `None` unless the payload was read to its end.
    pub fn end(self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }
}

/// Appends a number, seven bits a byte, the lowest first, a set high bit where
/// more follow (LEB128): small numbers are short.
pub fn push_number(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_come_back_as_they_went(value: u64, shift in 0u32..64) {
            let mut payload = Vec::new();
            push_number(value >> shift, &mut payload);
            prop_assert!(payload.len() <= 10);
            let mut reader = Reader::new(&payload);
            prop_assert_eq!(reader.number(), Some(value >> shift));
            prop_assert!(reader.is_empty());
        }

        #[test]
        fn a_number_has_one_way_to_be_written(payload in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut reader = Reader::new(&payload);
            if let Some(value) = reader.number() {
                let mut again = Vec::new();
                push_number(value, &mut again);
                prop_assert!(payload.starts_with(&again));
            }
        }
    }

    #[test]
    fn what_several_types_have_is_read_within_its_bounds() {
        for most in [0, 1, MAX_AMOUNT, MAX_TTL_MS, MAX_TIME_US] {
            for value in [most, most + 1] {
                let mut payload = Vec::new();
                push_number(value, &mut payload);
                let reader = || Reader::new(&payload);
                let is = |within: bool| within.then_some(value);
                assert_eq!(reader().amount(), is(value <= 1 << 53));
                assert_eq!(reader().cost(), is((1..=1 << 53).contains(&value)));
                assert_eq!(reader().ttl_ms(), is((1..=31_622_400_000).contains(&value)));
                assert_eq!(reader().time_us(), is(value < 1 << 63));
            }
        }
        assert_eq!(Reader::new(&[7; 16]).id(), Some(Id([7; 16])));
        assert_eq!(Reader::new(&[7; 15]).id(), None);
    }

    #[test]
    fn reads_to_the_end_and_never_past_it() {
        let mut payload = vec![7];
        payload.extend(300u64.to_le_bytes());
        payload.extend(b"ab");
        let mut reader = Reader::new(&payload);
        assert_eq!(reader.u8(), Some(7));
        assert_eq!(reader.u64(), Some(300));
        assert_eq!(reader.u64(), None, "two bytes are not eight");
        assert_eq!(reader.bytes(usize::MAX), None);
        assert_eq!(reader.bytes(2), Some(b"ab".as_slice()));
        assert_eq!(reader.u8(), None);
        assert_eq!(reader.end(), Some(()));
        assert_eq!(Reader::new(b"x").end(), None);
    }
}
