//! The payloads of the cache: what RDB files, DUMP and replication carry.
//!
//! ```text
//! entry      1 u8 · answers u8 · for each, the last one first:
//!            lifetime · version · value's length u64 · value
//! put        1 u8 · 1 u8 · lifetime · version · for each version dropped: it
//! drop       1 u8 · 2 u8 · for each version dropped: it
//! retime     1 u8 · 3 u8 · for each version given another lifetime: lifetime · version
//! namespaces 1 u8 · for each: name's length u8 · name · versions u8 · the versions
//!
//! lifetime       expires_at_ms u64 · stale_until_ms u64 · written_at_ms u64 · cost_ms u64
//! version    length u8 · bytes
//! ```

use super::answer::{Answer, MAX_VERSIONS};
use super::lifetime::Lifetime;
use super::namespaces::{InForce, MAX_IN_FORCE};
use crate::time::Millis;
use crate::wire::Reader;

const ENCODING: u8 = 1;

const PUT: u8 = 1;
const DROP: u8 = 2;
const RETIME: u8 = 3;

/// The latest moment a payload may name: what the server can count.
pub const MAX_TIME_MS: Millis = i64::MAX as u64;

/// What a write changes in an entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// An answer is put in; its value travels beside the change.
    Put {
        /// Its version.
        version: &'a [u8],
        /// Its lifetime.
        lifetime: Lifetime,
        /// The versions that go.
        dropped: Vec<&'a [u8]>,
    },
    /// Versions go.
    Drop(Vec<&'a [u8]>),
    /// Versions get other lifetimes.
    Retime(Vec<(&'a [u8], Lifetime)>),
}

/// Appends the payload of an entry.
pub fn encode(entry: &Answer, out: &mut Vec<u8>) {
    out.push(ENCODING);
    out.push(entry.answers().count() as u8);
    for answer in entry.answers() {
        push_lifetime(&answer.lifetime(), out);
        push_version(answer.version(), out);
        out.extend((answer.value().len() as u64).to_le_bytes());
        out.extend(answer.value());
    }
}

/// Reads the payload of an entry; `None` unless it is one that can be.
pub fn decode(payload: &[u8]) -> Option<Answer> {
    let mut reader = start(payload)?;
    let count = usize::from(reader.u8()?);
    if count > MAX_VERSIONS {
        return None;
    }
    let mut answers = Vec::with_capacity(count);
    for _ in 0..count {
        let lifetime = lifetime(&mut reader)?;
        let version = version(&mut reader)?;
        let length = usize::try_from(reader.u64()?).ok()?;
        answers.push(Answer::of(version, reader.bytes(length)?, lifetime)?);
    }
    reader.end()?;
    if answers.is_empty() { Some(Answer::default()) } else { Answer::of_all(answers) }
}

/// Appends the payload of a change.
pub fn encode_change(change: &Change, out: &mut Vec<u8>) {
    out.push(ENCODING);
    match change {
        Change::Put { version, lifetime, dropped } => {
            out.push(PUT);
            push_lifetime(lifetime, out);
            push_version(version, out);
            dropped.iter().for_each(|version| push_version(version, out));
        }
        Change::Drop(versions) => {
            out.push(DROP);
            versions.iter().for_each(|version| push_version(version, out));
        }
        Change::Retime(lifetimes) => {
            out.push(RETIME);
            for (version, lifetime) in lifetimes {
                push_lifetime(lifetime, out);
                push_version(version, out);
            }
        }
    }
}

/// Reads the payload of a change; `None` unless it is one that can be.
pub fn decode_change(payload: &[u8]) -> Option<Change<'_>> {
    let mut reader = start(payload)?;
    match reader.u8()? {
        PUT => {
            let lifetime = lifetime(&mut reader)?;
            let written = version(&mut reader)?;
            let dropped = rest(&mut reader, version)?;
            Some(Change::Put { version: written, lifetime, dropped })
        }
        DROP => rest(&mut reader, version).map(Change::Drop),
        RETIME => rest(&mut reader, |reader| {
            let lifetime = lifetime(reader)?;
            Some((version(reader)?, lifetime))
        })
        .map(Change::Retime),
        _ => None,
    }
}

/// Appends the payload of the versions in force in some namespaces.
pub fn encode_namespaces<'n>(all: impl Iterator<Item = InForce<'n>>, out: &mut Vec<u8>) {
    out.push(ENCODING);
    for InForce { namespace, versions } in all {
        out.push(namespace.len() as u8);
        out.extend(namespace);
        out.push(versions.len() as u8);
        versions.iter().for_each(|version| push_version(version, out));
    }
}

/// Reads the payload of the versions in force; `None` unless it is one that can
/// be.
pub fn decode_namespaces(payload: &[u8]) -> Option<Vec<InForce<'_>>> {
    let mut reader = start(payload)?;
    let mut all = Vec::new();
    while !reader.is_empty() {
        let length = usize::from(reader.u8()?);
        let namespace = reader.bytes(length)?;
        let count = usize::from(reader.u8()?);
        if count > MAX_IN_FORCE {
            return None;
        }
        let versions = (0..count).map(|_| version(&mut reader)).collect::<Option<_>>()?;
        all.push(InForce { namespace, versions });
    }
    Some(all)
}

fn start(payload: &[u8]) -> Option<Reader<'_>> {
    let mut reader = Reader::new(payload);
    (reader.u8()? == ENCODING).then_some(reader)
}

/// All that is left, each read by `one`; there are no more than versions.
fn rest<'a, T>(
    reader: &mut Reader<'a>,
    one: impl Fn(&mut Reader<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let mut all = Vec::new();
    while !reader.is_empty() {
        all.push(one(reader)?);
        if all.len() > MAX_VERSIONS {
            return None;
        }
    }
    Some(all)
}

/// A version is at most 255 bytes long: [`Answer::of`] and the parser see to it.
fn push_version(version: &[u8], out: &mut Vec<u8>) {
    out.push(version.len() as u8);
    out.extend(version);
}

fn version<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = reader.u8().filter(|length| *length > 0)?;
    reader.bytes(usize::from(length))
}

fn push_lifetime(lifetime: &Lifetime, out: &mut Vec<u8>) {
    let Lifetime { expires_at_ms, stale_until_ms, written_at_ms, cost_ms } = *lifetime;
    for number in [expires_at_ms, stale_until_ms, written_at_ms, cost_ms.into()] {
        out.extend(number.to_le_bytes());
    }
}

fn lifetime(reader: &mut Reader) -> Option<Lifetime> {
    let mut moment = || reader.u64().filter(|at| *at <= MAX_TIME_MS);
    let (expires_at_ms, stale_until_ms, written_at_ms) = (moment()?, moment()?, moment()?);
    let cost_ms = u32::try_from(reader.u64()?).ok()?;
    let sound = expires_at_ms <= stale_until_ms;
    sound.then_some(Lifetime { expires_at_ms, stale_until_ms, written_at_ms, cost_ms })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(length: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(any::<u8>(), length)
    }

    fn lifetimes() -> impl Strategy<Value = Lifetime> {
        let moment = 0..=MAX_TIME_MS;
        (moment.clone(), moment.clone(), moment, any::<u32>()).prop_map(
            |(one, other, written_at_ms, cost_ms)| Lifetime {
                expires_at_ms: one.min(other),
                stale_until_ms: one.max(other),
                written_at_ms,
                cost_ms,
            },
        )
    }

    fn entry() -> impl Strategy<Value = Answer> {
        let answer = (bytes(1..256), bytes(0..100), lifetimes());
        prop::collection::vec(answer, 0..MAX_VERSIONS).prop_map(|answers| {
            let mut versions = std::collections::HashSet::new();
            let distinct = answers.iter().filter(|(version, ..)| versions.insert(version));
            let answers: Vec<_> = distinct
                .map(|(version, value, lifetime)| Answer::of(version, value, *lifetime).unwrap())
                .collect();
            Answer::of_all(answers).unwrap_or_default()
        })
    }

    fn encoded(entry: &Answer) -> Vec<u8> {
        let mut payload = Vec::new();
        encode(entry, &mut payload);
        payload
    }

    fn encoded_change(change: &Change) -> Vec<u8> {
        let mut payload = Vec::new();
        encode_change(change, &mut payload);
        payload
    }

    fn encoded_namespaces(all: &[InForce]) -> Vec<u8> {
        let mut payload = Vec::new();
        encode_namespaces(all.iter().cloned(), &mut payload);
        payload
    }

    proptest! {
        #[test]
        fn an_entry_comes_back_as_it_went(entry in entry()) {
            let payload = encoded(&entry);
            for end in 0..payload.len() {
                prop_assert!(decode(&payload[..end]).is_none(), "cut at {}", end);
            }
            prop_assert!(decode(&[payload.as_slice(), b"x"].concat()).is_none());
            prop_assert_eq!(decode(&payload).map(|again| encoded(&again)), Some(encoded(&entry)));
        }

        #[test]
        fn a_change_comes_back_as_it_went(
            version in bytes(1..256),
            lifetime in lifetimes(),
            others in prop::collection::vec((bytes(1..256), lifetimes()), 0..=MAX_VERSIONS),
        ) {
            let names: Vec<&[u8]> = others.iter().map(|(name, _)| name.as_slice()).collect();
            let retimed = others.iter().map(|(name, lifetime)| (name.as_slice(), *lifetime)).collect();
            for change in [
                Change::Put { version: &version, lifetime, dropped: names.clone() },
                Change::Drop(names),
                Change::Retime(retimed),
            ] {
                let payload = encoded_change(&change);
                prop_assert_eq!(decode_change(&payload), Some(change));
            }
        }

        #[test]
        fn namespaces_come_back_as_they_went(
            all in prop::collection::vec(
                (bytes(0..256), prop::collection::vec(bytes(1..256), 0..=MAX_IN_FORCE)), 0..5),
        ) {
            let all: Vec<_> = all.iter().map(|(namespace, versions)| InForce {
                namespace,
                versions: versions.iter().map(Vec::as_slice).collect(),
            }).collect();
            let payload = encoded_namespaces(&all);
            prop_assert_eq!(decode_namespaces(&payload), Some(all));
        }

        #[test]
        fn a_spoilt_payload_is_another_or_none(
            entry in entry(),
            bytes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let mut payload = encoded(&entry);
            for (place, byte) in &bytes {
                let place = place.index(payload.len());
                payload[place] = *byte;
            }
            if let Some(entry) = decode(&payload) {
                prop_assert_eq!(&encoded(&entry), &payload);
            }
        }

        #[test]
        fn no_bytes_decode_to_what_cannot_be(payload in bytes(0..200)) {
            if let Some(entry) = decode(&payload) {
                prop_assert_eq!(&encoded(&entry), &payload);
            }
            if let Some(change) = decode_change(&payload) {
                prop_assert_eq!(&encoded_change(&change), &payload);
            }
            if let Some(all) = decode_namespaces(&payload) {
                prop_assert_eq!(&encoded_namespaces(&all), &payload);
            }
        }
    }

    #[test]
    fn refuses_what_no_entry_has() {
        let lifetime = [0u8; 32];
        let answer = [&lifetime, &[1, b'v'][..], &1u64.to_le_bytes(), b"x"].concat();
        let entry = |count: u8, answers: &[&[u8]]| {
            decode(&[&[1, count], &*answers.concat()].concat()).map(|_| ())
        };
        assert!(entry(1, &[&answer]).is_some());
        assert_eq!(entry(2, &[&answer, &answer]), None, "the same version twice");
        assert_eq!(entry(2, &[&answer]), None, "fewer answers than it says");
        assert_eq!(entry(17, &[]), None, "more versions than an entry holds");
        let huge = [&lifetime, &[1, b'v'][..], &u64::MAX.to_le_bytes(), b"x"].concat();
        assert_eq!(entry(1, &[&huge]), None, "a value longer than the payload");
        for (place, what) in [(7, "an expiry the server cannot count"), (31, "a cost of ages")] {
            let mut late = answer.clone();
            late[place] = 0xff;
            assert_eq!(entry(1, &[&late]), None, "{what}");
        }
        let mut unsound = answer.clone();
        unsound[0] = 1;
        assert_eq!(entry(1, &[&unsound]), None, "stale until before it expires");
        assert!(decode(&[2, 0]).is_none(), "an unknown version");
        assert_eq!(decode_change(&[1, 9]), None, "an unknown change");
    }
}
