//! The payloads of the cache: what RDB files, DUMP and replication carry.
//!
//! ```text
//! entry   version u8 = 1 · answers u8 · for each, the last one first:
//!         expires_at_ms u64 · version's length u8 · version ·
//!         value's length u64 · value
//! change  version u8 = 1 · expires_at_ms u64 · version's length u8 · version ·
//!         for each version dropped: its length u8 · it
//! ```

use super::entry::{Answer, Entry, MAX_VERSIONS};
use crate::time::Millis;
use crate::wire::Reader;

const VERSION: u8 = 1;

/// The latest expiry a payload may name: what the server can count.
pub const MAX_TIME_MS: Millis = i64::MAX as u64;

/// What a write changes in an entry; the value travels beside it.
#[derive(Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// The version written.
    pub version: &'a [u8],
    /// When its answer expires.
    pub expires_at_ms: Millis,
    /// The versions that went.
    pub dropped: Vec<&'a [u8]>,
}

/// Appends the payload of an entry.
pub fn encode(entry: &Entry, out: &mut Vec<u8>) {
    let answers = entry.answers();
    out.push(VERSION);
    out.push(answers.len() as u8);
    for answer in answers {
        out.extend(answer.expires_at_ms.to_le_bytes());
        push_version(answer.version(), out);
        out.extend((answer.value().len() as u64).to_le_bytes());
        out.extend(answer.value());
    }
}

/// Reads the payload of an entry; `None` unless it is one that can be.
pub fn decode(payload: &[u8]) -> Option<Entry> {
    let mut reader = Reader::new(payload);
    if reader.u8()? != VERSION {
        return None;
    }
    let count = usize::from(reader.u8()?);
    if count > MAX_VERSIONS {
        return None;
    }
    let mut answers = Vec::with_capacity(count);
    for _ in 0..count {
        let expires_at_ms = expiry(&mut reader)?;
        let version = version(&mut reader)?;
        let length = usize::try_from(reader.u64()?).ok()?;
        answers.push(Answer::new(version, reader.bytes(length)?, expires_at_ms)?);
    }
    reader.end()?;
    Entry::of(answers)
}

/// Appends the payload of a change.
pub fn encode_change(change: &Change, out: &mut Vec<u8>) {
    out.push(VERSION);
    out.extend(change.expires_at_ms.to_le_bytes());
    push_version(change.version, out);
    for version in &change.dropped {
        push_version(version, out);
    }
}

/// Reads the payload of a change; `None` unless it is one that can be.
pub fn decode_change(payload: &[u8]) -> Option<Change<'_>> {
    let mut reader = Reader::new(payload);
    if reader.u8()? != VERSION {
        return None;
    }
    let expires_at_ms = expiry(&mut reader)?;
    let written = version(&mut reader)?;
    let mut dropped = Vec::new();
    while !reader.is_empty() {
        dropped.push(version(&mut reader)?);
        if dropped.len() > MAX_VERSIONS {
            return None;
        }
    }
    Some(Change { version: written, expires_at_ms, dropped })
}

/// A version is at most 255 bytes long: [`Answer::new`] sees to it.
fn push_version(version: &[u8], out: &mut Vec<u8>) {
    out.push(version.len() as u8);
    out.extend(version);
}

fn version<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = reader.u8().filter(|length| *length > 0)?;
    reader.bytes(usize::from(length))
}

fn expiry(reader: &mut Reader) -> Option<Millis> {
    reader.u64().filter(|at| *at <= MAX_TIME_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), length)
    }

    fn entry() -> impl Strategy<Value = Entry> {
        let answer = (bytes(1..256), bytes(0..100), 0..=MAX_TIME_MS);
        prop::collection::vec(answer, 0..MAX_VERSIONS).prop_map(|answers| {
            let mut entry = Entry::default();
            for (version, value, expires) in answers {
                entry.put(Answer::new(&version, &value, expires).unwrap(), &[]).unwrap();
            }
            entry
        })
    }

    fn encoded(entry: &Entry) -> Vec<u8> {
        let mut payload = Vec::new();
        encode(entry, &mut payload);
        payload
    }

    proptest! {
        #[test]
        fn an_entry_comes_back_as_it_went(entry in entry()) {
            let payload = encoded(&entry);
            for end in 0..payload.len() {
                prop_assert_eq!(decode(&payload[..end]), None, "cut at {}", end);
            }
            prop_assert_eq!(decode(&[payload.as_slice(), b"x"].concat()), None);
            prop_assert_eq!(decode(&payload), Some(entry));
        }

        #[test]
        fn a_change_comes_back_as_it_went(
            version in bytes(1..256),
            expires_at_ms in 0..=MAX_TIME_MS,
            dropped in prop::collection::vec(bytes(1..256), 0..=MAX_VERSIONS),
        ) {
            let dropped: Vec<_> = dropped.iter().map(Vec::as_slice).collect();
            let change = Change { version: &version, expires_at_ms, dropped };
            let mut payload = Vec::new();
            encode_change(&change, &mut payload);
            prop_assert_eq!(decode_change(&payload), Some(change));
        }

        #[test]
        fn no_bytes_decode_to_what_cannot_be(payload in bytes(0..200)) {
            if let Some(entry) = decode(&payload) {
                prop_assert_eq!(encoded(&entry), payload.clone());
            }
            if let Some(change) = decode_change(&payload) {
                let mut again = Vec::new();
                encode_change(&change, &mut again);
                prop_assert_eq!(again, payload);
            }
        }
    }

    #[test]
    fn refuses_what_no_entry_has() {
        let answer = [&[0; 8], &[1, b'v'][..], &1u64.to_le_bytes(), b"x"].concat();
        let entry =
            |count: u8, answers: &[&[u8]]| decode(&[&[1, count], &*answers.concat()].concat());
        assert!(entry(1, &[&answer]).is_some());
        assert_eq!(entry(2, &[&answer, &answer]), None, "the same version twice");
        assert_eq!(entry(2, &[&answer]), None, "fewer answers than it says");
        assert_eq!(entry(17, &[]), None, "more versions than an entry holds");
        let huge = [&[0; 8], &[1, b'v'][..], &u64::MAX.to_le_bytes(), b"x"].concat();
        assert_eq!(entry(1, &[&huge]), None, "a value longer than the payload");
        let late = [&[0xff; 8], &[1, b'v'][..], &1u64.to_le_bytes(), b"x"].concat();
        assert_eq!(entry(1, &[&late]), None, "an expiry the server cannot count");
        assert_eq!(decode(&[2, 0]), None, "an unknown version");
    }
}
