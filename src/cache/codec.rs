//! The payloads of the cache: what RDB files, DUMP and replication carry.
//!
//! ```text
//! answers    1 u8 · how many u8 · for each, the last one first:
//!            lifetime · version · value's length u64 · value
//! change     1 u8 · versions dropped u8 · they · versions retimed u8 · for each:
//!            lifetime · version · where an answer is put in: lifetime · version
//! namespaces 2 u8 · for each: name's length u8 · name · versions u8 · they
//!
//! lifetime   see [`Lifetime::encode`]
//! version    length u8 · bytes
//! ```
//!
//! Namespaces of version 1 are as those of version 2, but of one part, with the
//! braces of a hash tag in it.

use super::answer::{Answer, MAX_VERSIONS};
use super::change::Change;
use super::in_force::{MAX_IN_FORCE, Versions};
use crate::lifetime::Lifetime;
use crate::namespace::bare;
use crate::wire::Reader;
use std::borrow::Cow;

const ANSWERS: u8 = 1;
const CHANGE: u8 = 1;
const NAMESPACES: u8 = 2;
const NAMESPACES_OF_ONE_PART: u8 = 1;

/// Appends the payload of a key's answers.
pub fn encode(answers: &Answer, out: &mut Vec<u8>) {
    out.push(ANSWERS);
    out.push(answers.answers().count() as u8);
    for answer in answers.answers() {
        answer.lifetime().encode(out);
        push_version(answer.version(), out);
        out.extend((answer.value().len() as u64).to_le_bytes());
        out.extend(answer.value());
    }
}

/// Reads the payload of a key's answers; `None` unless it is one that can be.
pub fn decode(payload: &[u8]) -> Option<Answer> {
    let mut reader = start(payload, ANSWERS)?;
    let count = usize::from(reader.u8()?);
    if count > MAX_VERSIONS {
        return None;
    }
    let mut answers = Vec::with_capacity(count);
    for _ in 0..count {
        let lifetime = Lifetime::decode(&mut reader)?;
        let version = version(&mut reader)?;
        let length = usize::try_from(reader.u64()?).ok()?;
        answers.push(Answer::of(&version, reader.bytes(length)?, lifetime)?);
    }
    reader.end()?;
    if answers.is_empty() { Some(Answer::default()) } else { Answer::of_all(answers) }
}

/// Appends the payload of a change.
pub fn encode_change(change: &Change, out: &mut Vec<u8>) {
    let Change { dropped, retimed, put } = change;
    out.push(CHANGE);
    out.push(dropped.len() as u8);
    dropped.iter().for_each(|version| push_version(version, out));
    out.push(retimed.len() as u8);
    for (version, lifetime) in retimed.iter().chain(put) {
        lifetime.encode(out);
        push_version(version, out);
    }
}

/// Reads the payload of a change; `None` unless it is one that can be.
pub fn decode_change(payload: &[u8]) -> Option<Change<'_>> {
    let mut reader = start(payload, CHANGE)?;
    let dropped = several(&mut reader, version)?;
    let retimed = several(&mut reader, timed)?;
    let put = if reader.is_empty() { None } else { Some(timed(&mut reader)?) };
    reader.end()?;
    Some(Change { dropped, retimed, put })
}

/// Appends the payload of the versions in force in some namespaces.
pub fn encode_namespaces<'n>(
    all: impl IntoIterator<Item = (&'n [u8], Versions<'n>)>,
    out: &mut Vec<u8>,
) {
    out.push(NAMESPACES);
    for (name, versions) in all {
        out.push(name.len() as u8);
        out.extend(name);
        out.push(versions.iter().count() as u8);
        out.extend(versions.bytes());
    }
}

/// Reads the payload of the versions in force; `None` unless it is one that can
/// be. Nothing is kept of it: the namespaces are read as they are asked for.
pub fn decode_namespaces(
    payload: &[u8],
) -> Option<impl Iterator<Item = (Cow<'_, [u8]>, Versions<'_>)> + Clone> {
    let (encoding, mut rest) = payload.split_first()?;
    let of_one_part = match *encoding {
        NAMESPACES => false,
        NAMESPACES_OF_ONE_PART => true,
        _ => return None,
    };
    let whole = rest;
    while !rest.is_empty() {
        (_, rest) = split_namespace(rest)?;
    }
    let mut rest = whole;
    Some(std::iter::from_fn(move || {
        let ((name, versions), behind) = split_namespace(rest)?;
        rest = behind;
        Some((if of_one_part { of_whole_key(name) } else { Cow::Borrowed(name) }, versions))
    }))
}

/// The namespace of keys whose first part, braces of hash tags and all, an earlier
/// encoding names. A brace that is not closed in it was closed behind it: of
/// `{pred:a}` that is `{pred`.
fn of_whole_key(first_part: &[u8]) -> Cow<'_, [u8]> {
    let open = first_part.iter().position(|byte| *byte == b'{');
    let is_closed = |open: &usize| first_part.iter().skip(*open).any(|byte| *byte == b'}');
    match open.filter(|open| !is_closed(open)) {
        None => bare(first_part),
        Some(open) => {
            let kept = first_part.iter().enumerate().filter(|(place, _)| *place != open);
            Cow::Owned(kept.map(|(_, byte)| *byte).collect())
        }
    }
}

type NamedVersions<'a> = (&'a [u8], Versions<'a>);

/// The namespace that bytes begin with, and what is behind it.
fn split_namespace(bytes: &[u8]) -> Option<(NamedVersions<'_>, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (name, rest) = rest.split_at_checked(usize::from(*length))?;
    let (count, rest) = rest.split_first()?;
    let count = usize::from(*count);
    let (versions, rest) = Versions::split_from(rest, count).filter(|_| count <= MAX_IN_FORCE)?;
    Some(((name, versions), rest))
}

fn start(payload: &[u8], encoding: u8) -> Option<Reader<'_>> {
    let mut reader = Reader::new(payload);
    (reader.u8()? == encoding).then_some(reader)
}

/// So many, each read by `one`; there are no more than versions.
fn several<'a, T>(
    reader: &mut Reader<'a>,
    one: impl Fn(&mut Reader<'a>) -> Option<T>,
) -> Option<Vec<T>> {
    let count = usize::from(reader.u8()?);
    (count <= MAX_VERSIONS).then(|| (0..count).map(|_| one(reader)).collect())?
}

/// A version is at most 255 bytes long: [`Answer::of`] and the parser see to it.
fn push_version(version: &[u8], out: &mut Vec<u8>) {
    out.push(version.len() as u8);
    out.extend(version);
}

fn version<'a>(reader: &mut Reader<'a>) -> Option<Cow<'a, [u8]>> {
    let length = reader.u8().filter(|length| *length > 0)?;
    reader.bytes(usize::from(length)).map(Cow::Borrowed)
}

fn timed<'a>(reader: &mut Reader<'a>) -> Option<(Cow<'a, [u8]>, Lifetime)> {
    let lifetime = Lifetime::decode(reader)?;
    Some((version(reader)?, lifetime))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::in_force::tests::list;
    use crate::lifetime::MAX_TIME_MS;
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

    fn answers() -> impl Strategy<Value = Answer> {
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

    fn encoded(answers: &Answer) -> Vec<u8> {
        let mut payload = Vec::new();
        encode(answers, &mut payload);
        payload
    }

    fn encoded_change(change: &Change) -> Vec<u8> {
        let mut payload = Vec::new();
        encode_change(change, &mut payload);
        payload
    }

    fn encoded_namespaces<'n>(all: impl Iterator<Item = (&'n [u8], Versions<'n>)>) -> Vec<u8> {
        let mut payload = Vec::new();
        encode_namespaces(all, &mut payload);
        payload
    }

    proptest! {
           #[test]
           fn answers_come_back_as_they_went(all in answers()) {
               let payload = encoded(&all);
               for end in 0..payload.len() {
                   prop_assert!(decode(&payload[..end]).is_none(), "cut at {}", end);
               }
               prop_assert!(decode(&[payload.as_slice(), b"x"].concat()).is_none());
               prop_assert_eq!(decode(&payload).map(|again| encoded(&again)), Some(encoded(&all)));
           }

           #[test]
           fn a_change_comes_back_as_it_went(
               version in bytes(1..256),
               lifetime in lifetimes(),
               others in prop::collection::vec((bytes(1..256), lifetimes()), 0..=MAX_VERSIONS),
           ) {
               let names: Vec<_> = others.iter().map(|(name, _)| Cow::Borrowed(&name[..])).collect();
               let retimed = others.iter().map(|(name, to)| (Cow::Borrowed(&name[..]), *to));
               let retimed: Vec<_> = retimed.collect();
               for put in [None, Some((Cow::Borrowed(&version[..]), lifetime))] {
                   let change = Change {
    dropped: names.clone(), retimed: retimed.clone(), put };
                   let payload = encoded_change(&change);
                   prop_assert_eq!(decode_change(&payload), Some(change));
               }
           }

           #[test]
           fn namespaces_come_back_as_they_went(
               all in prop::collection::vec(
                   (bytes(0..256), prop::collection::vec(bytes(1..256), 0..=MAX_IN_FORCE)), 0..5),
           ) {
               let lists: Vec<_> = all.iter().map(|(name, versions)| {
                   (name, list(versions.iter().map(Vec::as_slice)))
               }).collect();
               let all: Vec<_> = lists.iter().map(|(name, list)| {
                   (name.as_slice(), Versions::of(list))
               }).collect();
               let payload = encoded_namespaces(all.iter().copied());
               let again = decode_namespaces(&payload).unwrap();
               prop_assert!(again.eq(all.iter().map(|(name, one)| (Cow::Borrowed(*name), *one))));
           }

           #[test]
           fn a_spoilt_payload_is_another_or_none(
               all in answers(),
               bytes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
           ) {
               let mut payload = encoded(&all);
               for (place, byte) in &bytes {
                   let place = place.index(payload.len());
                   payload[place] = *byte;
               }
               if let Some(all) = decode(&payload) {
                   prop_assert_eq!(&encoded(&all), &payload);
               }
           }

           #[test]
           fn no_bytes_decode_to_what_cannot_be(payload in bytes(0..200)) {
               if let Some(all) = decode(&payload) {
                   prop_assert_eq!(&encoded(&all), &payload);
               }
               if let Some(change) = decode_change(&payload) {
                   prop_assert_eq!(&encoded_change(&change), &payload);
               }
               if let Some(all) = decode_namespaces(&payload).filter(|_| payload[0] == NAMESPACES) {
                   let all: Vec<_> = all.collect();
                   let all = all.iter().map(|(name, versions)| (&**name, *versions));
                   prop_assert_eq!(&encoded_namespaces(all), &payload);
               }
           }
       }

    #[test]
    fn a_namespace_of_one_part_is_read_without_the_braces_of_its_keys() {
        for (name, now) in [
            ("pred", "pred"),
            ("{pred}", "pred"),
            ("{pred", "pred"),
            ("p{red", "pred"),
            ("pre}d{", "pre}d"),
            ("{}pred", "{}pred"),
            ("pred}", "pred}"),
            ("", ""),
        ] {
            let payload = [&[1, name.len() as u8], name.as_bytes(), &[1, 1, b'v']].concat();
            let all: Vec<_> = decode_namespaces(&payload).unwrap().collect();
            let [(read, _)] = &all[..] else { panic!("one") };
            assert_eq!(&**read, now.as_bytes(), "{name}");
        }
    }

    #[test]
    fn refuses_what_no_key_has() {
        let lifetime = [0u8; 32];
        let answer = [&lifetime, &[1, b'v'][..], &1u64.to_le_bytes(), b"x"].concat();
        let key = |count: u8, answers: &[&[u8]]| {
            decode(&[&[1, count], &*answers.concat()].concat()).map(|_| ())
        };
        assert!(key(1, &[&answer]).is_some());
        assert_eq!(key(2, &[&answer, &answer]), None, "the same version twice");
        assert_eq!(key(2, &[&answer]), None, "fewer answers than it says");
        assert_eq!(key(17, &[]), None, "more versions than a key holds");
        let huge = [&lifetime, &[1, b'v'][..], &u64::MAX.to_le_bytes(), b"x"].concat();
        assert_eq!(key(1, &[&huge]), None, "a value longer than the payload");
        for (place, what) in [(7, "an expiry the server cannot count"), (31, "a cost of ages")] {
            let mut late = answer.clone();
            late[place] = 0xff;
            assert_eq!(key(1, &[&late]), None, "{what}");
        }
        let mut unsound = answer.clone();
        unsound[0] = 1;
        assert_eq!(key(1, &[&unsound]), None, "stale until before it expires");
        assert!(decode(&[2, 0]).is_none(), "an unknown version");
        assert_eq!(decode_change(&[1, 17]), None, "more versions than a key holds");
        assert_eq!(decode_change(&[2, 0, 0]), None, "an unknown version");
        assert!(decode_namespaces(&[3]).is_none(), "an unknown version");
    }

    #[test]
    fn namespaces_written_before_they_could_have_parts_are_read_without_braces() {
        let payload = [&[1, 4][..], b"{t}x", &[1, 1], b"v"].concat();
        let all: Vec<_> = decode_namespaces(&payload).unwrap().collect();
        assert_eq!(all.len(), 1);
        assert_eq!((&*all[0].0, all[0].1.bytes()), (&b"tx"[..], &b"\x01v"[..]));
        let payload = [&[2][..], &payload[1..]].concat();
        assert_eq!(&*decode_namespaces(&payload).unwrap().next().unwrap().0, b"{t}x");
    }
}
