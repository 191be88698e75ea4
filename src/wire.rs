//! Reading payloads that may come from anywhere: a cursor that never reads
//! past the end and never allocates. Numbers are little-endian.

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

    /// Whether the payload was read to its end.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Ends the reading: `None` unless the payload was read to its end.
    pub fn end(self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(*taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
