//! The payloads of the semantic cache: what RDB files, DUMP and replication carry.
//!
//! ```text
//! table      1 u8 · until_ms number · dim number · embedder · how many number · for each
//!            entry, the one hit longest ago first: entry · threshold number ·
//!            further vectors u8 · they
//! change     1 u8 · dropped number · their ids · parts u8: 1 threshold · 2 entry put in ·
//!            4 further vector · of each part that there is:
//!            id · threshold number
//!            dim number · embedder · entry
//!            id · dim number · vector
//!
//! entry      id · version's length u8 · version · vector · lifetime · text · text · text:
//!            the value, the prompt and the digest
//! vector     see [`Code::encode`](super::vector::Code::encode)
//! lifetime   see [`Lifetime::encode`]
//! embedder   length u8 · bytes; of length 0 where there is none
//! text       length and 1 number · bytes; 0 where there is none
//! ```
//!
//! Numbers are those of [`push_number`]. Vectors are kept as they are: loaded again they
//! are the same bits, and so is what is similar to them.

use super::change::{Change, Put};
use super::entry::{Entry, Texts};
use super::table::{MAX_ALIASES, MILLION, Table};
use super::vector::{DIMENSIONS, OwnedCode};
use crate::id::Id;
use crate::lifetime::{Lifetime, MAX_TIME_MS};
use crate::wire::{Reader, push_number};
use std::iter::Peekable;

const TABLE: u8 = 1;
const CHANGE: u8 = 1;

const THRESHOLD: u8 = 1;
const PUT: u8 = 2;
const ALIAS: u8 = 4;

/// How long a part of a table becomes before another is begun: no part is twice as long,
/// but for an entry that is so by itself.
const PART: usize = if cfg!(test) { 300 } else { 8 << 20 };

/// Gives the payloads of the parts of a table: tables all of them, which hold its entries
/// one after the other.
pub fn encode_parts(table: &Table, part: &mut dyn FnMut(&[u8])) {
    let mut entries = table.entries().peekable();
    loop {
        part(&encode_some(table, &mut entries, PART));
        if entries.peek().is_none() {
            return;
        }
    }
}

/// Appends the payload of a table.
pub fn encode(table: &Table, out: &mut Vec<u8>) {
    out.extend(encode_some(table, &mut table.entries().peekable(), usize::MAX));
}

/// The payload of a table of the next entries, as many as `most` bytes hold, and one more.
fn encode_some<'t>(
    table: &'t Table,
    entries: &mut Peekable<impl Iterator<Item = &'t Entry>>,
    most: usize,
) -> Vec<u8> {
    let (mut held, mut count) = (Vec::new(), 0);
    while let Some(entry) = entries.next_if(|_| held.len() < most) {
        encode_entry(table, entry, &mut held);
        count += 1;
    }
    let mut out = vec![TABLE];
    push_number(table.until_ms(), &mut out);
    push_number(table.dim().unwrap_or(0) as u64, &mut out);
    push_short(table.embedder().unwrap_or_default(), &mut out);
    push_number(count, &mut out);
    out.append(&mut held);
    out
}

/// Appends the payload of one entry of a table: what is the same on every node.
pub fn encode_entry(table: &Table, entry: &Entry, out: &mut Vec<u8>) {
    let mut codes = table.codes(entry);
    out.extend(entry.id.0);
    push_short(table.version(entry), out);
    codes.by_ref().take(1).for_each(|code| code.encode(out));
    entry.lifetime.encode(out);
    push_text(Some(entry.texts.value()), out);
    push_text(entry.texts.prompt(), out);
    push_text(entry.texts.digest(), out);
    push_number(entry.threshold.into(), out);
    out.push(table.codes(entry).skip(1).count() as u8);
    codes.for_each(|code| code.encode(out));
}

/// Reads the payload of a table; `None` unless it is one that can be.
pub fn decode(payload: &[u8]) -> Option<Table> {
    let mut table = Table::default();
    read_into(&mut table, payload)?;
    Some(table)
}

/// Adds what a further part of a table holds: `None`, and nothing added, unless it goes
/// with what is there.
pub fn extend(table: &mut Table, payload: &[u8]) -> Option<()> {
    // What is added as it is read could not be taken back.
    let part = decode(payload)?;
    if !table.goes_with(&part) {
        return None;
    }
    read_into(table, payload)
}

fn read_into(table: &mut Table, payload: &[u8]) -> Option<()> {
    let mut reader = start(payload, TABLE)?;
    let until_ms = reader.number().filter(|until_ms| *until_ms <= MAX_TIME_MS)?;
    table.keep_until(until_ms);
    let dim = usize::try_from(reader.number()?).ok()?;
    let embedder = embedder(&mut reader)?;
    let count = reader.number()?;
    if count > 0 && !DIMENSIONS.contains(&dim) {
        return None;
    }
    for _ in 0..count {
        let put = entry(dim, embedder, &mut reader)?;
        let id = put.id;
        let is_new = table.get(id).is_none() && table.check_version(put.version).is_ok();
        let threshold = threshold(&mut reader).filter(|_| is_new)?;
        let mut change = Change { put: Some(put), ..Change::default() };
        apply(table, &change)?;
        let aliases = usize::from(reader.u8()?);
        if aliases > MAX_ALIASES {
            return None;
        }
        change.put = None;
        for _ in 0..aliases {
            change.alias = Some((id, OwnedCode::decode(dim, &mut reader)?));
            apply(table, &change)?;
        }
        if threshold > 0 {
            table.apply(&Change { threshold: Some((id, threshold)), ..Change::default() }, None);
        }
    }
    reader.end()
}

/// Makes a change, whose texts are put together; `None`, and nothing done, where there is
/// no memory for them.
fn apply(table: &mut Table, change: &Change) -> Option<()> {
    let texts = match &change.put {
        Some(put) => Some(Texts::new(put.value, put.prompt, put.digest)?),
        None => None,
    };
    table.apply(change, texts);
    Some(())
}

/// Appends the payload of a change.
pub fn encode_change(change: &Change, out: &mut Vec<u8>) {
    let Change { dropped, threshold, put, alias } = change;
    out.push(CHANGE);
    push_number(dropped.len() as u64, out);
    dropped.iter().for_each(|id| out.extend(id.0));
    let part = |is: bool, part: u8| if is { part } else { 0 };
    let parts = [
        part(threshold.is_some(), THRESHOLD),
        part(put.is_some(), PUT),
        part(alias.is_some(), ALIAS),
    ];
    out.push(parts.iter().sum());
    if let Some((id, threshold)) = threshold {
        out.extend(id.0);
        push_number((*threshold).into(), out);
    }
    if let Some(put) = put {
        push_number(put.code.dim() as u64, out);
        push_short(put.embedder.unwrap_or_default(), out);
        out.extend(put.id.0);
        push_short(put.version, out);
        put.code.as_ref().encode(out);
        put.lifetime.encode(out);
        for text in [Some(put.value), put.prompt, put.digest] {
            push_text(text, out);
        }
    }
    if let Some((id, code)) = alias {
        out.extend(id.0);
        push_number(code.dim() as u64, out);
        code.as_ref().encode(out);
    }
}

/// Reads the payload of a change; `None` unless it is one that can be.
pub fn decode_change(payload: &[u8]) -> Option<Change<'_>> {
    let mut reader = start(payload, CHANGE)?;
    let mut change = Change::default();
    let dropped = usize::try_from(reader.number()?).ok()?;
    let ids = reader.bytes(dropped.checked_mul(size_of::<Id>())?)?;
    change.dropped = ids.as_chunks().0.iter().map(|id| Id(*id)).collect();
    let parts = reader.u8()?;
    if parts & THRESHOLD != 0 {
        change.threshold = Some((reader.id()?, threshold(&mut reader)?));
    }
    if parts & PUT != 0 {
        let dim = dim(&mut reader)?;
        let embedder = embedder(&mut reader)?;
        change.put = Some(entry(dim, embedder, &mut reader)?);
    }
    if parts & ALIAS != 0 {
        let id = reader.id()?;
        let dim = dim(&mut reader)?;
        change.alias = Some((id, OwnedCode::decode(dim, &mut reader)?));
    }
    reader.end()?;
    (parts & !(THRESHOLD | PUT | ALIAS) == 0).then_some(change)
}

fn start(payload: &[u8], encoding: u8) -> Option<Reader<'_>> {
    let mut reader = Reader::new(payload);
    (reader.u8()? == encoding).then_some(reader)
}

fn dim(reader: &mut Reader) -> Option<usize> {
    usize::try_from(reader.number()?).ok().filter(|dim| DIMENSIONS.contains(dim))
}

fn threshold(reader: &mut Reader) -> Option<u32> {
    u32::try_from(reader.number()?).ok().filter(|threshold| *threshold <= MILLION)
}

fn entry<'a>(dim: usize, embedder: Option<&'a [u8]>, reader: &mut Reader<'a>) -> Option<Put<'a>> {
    Some(Put {
        id: reader.id()?,
        version: short(reader).filter(|version| !version.is_empty())?,
        embedder,
        code: OwnedCode::decode(dim, reader)?,
        lifetime: Lifetime::decode(reader)?,
        value: text(reader)??,
        prompt: text(reader)?,
        digest: text(reader)?,
    })
}

fn embedder<'a>(reader: &mut Reader<'a>) -> Option<Option<&'a [u8]>> {
    let name = short(reader)?;
    Some((!name.is_empty()).then_some(name))
}

/// What is at most 255 bytes long: the parsers and decoders see to it.
fn push_short(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(bytes.len() as u8);
    out.extend(bytes);
}

fn short<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = reader.u8()?;
    reader.bytes(usize::from(length))
}

fn push_text(text: Option<&[u8]>, out: &mut Vec<u8>) {
    push_number(text.map_or(0, |text| text.len() as u64 + 1), out);
    out.extend(text.unwrap_or_default());
}

fn text<'a>(reader: &mut Reader<'a>) -> Option<Option<&'a [u8]>> {
    match reader.number()?.checked_sub(1) {
        None => Some(None),
        Some(length) => Some(Some(reader.bytes(usize::try_from(length).ok()?)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::vector::Unit;
    use super::super::vector::tests::{bytes, random};
    use super::*;
    use proptest::prelude::*;

    fn code(dim: usize, seed: u64, spiky: bool) -> OwnedCode {
        let mut vector = random(seed << 32, dim);
        if spiky {
            vector.iter_mut().skip(1).for_each(|one| *one *= 1e-4);
        }
        OwnedCode::of(&Unit::read(&bytes(&vector)).unwrap())
    }

    /// What puts of changes are made of.
    type Parts = (u8, Vec<u8>, (u64, bool), u64, [Option<Vec<u8>>; 2], Vec<u8>);

    fn parts() -> impl Strategy<Value = Parts> {
        let text = || prop::collection::vec(any::<u8>(), 0..20);
        let texts = [prop::option::of(text()), prop::option::of(text())];
        let version = prop::collection::vec(0u8..3, 1..3);
        (any::<u8>(), version, any::<(u64, bool)>(), 0..=MAX_TIME_MS, texts, text())
    }

    fn put<'p>(dim: usize, embedder: Option<&'p [u8]>, parts: &'p Parts) -> Put<'p> {
        let (id, version, (seed, spiky), until_ms, [prompt, digest], value) = parts;
        Put {
            id: Id([*id; 16]),
            version,
            embedder,
            code: code(dim, *seed, *spiky),
            lifetime: Lifetime { stale_until_ms: *until_ms, ..Lifetime::default() },
            value,
            prompt: prompt.as_deref(),
            digest: digest.as_deref(),
        }
    }

    /// What a change is made of.
    #[derive(Debug)]
    struct Made {
        dropped: Vec<Id>,
        threshold: Option<(Id, u32)>,
        alias: Option<(Id, u64)>,
        put: Option<Parts>,
        dim: usize,
        named: bool,
    }

    impl Made {
        fn change(&self) -> Change<'_> {
            let put = |parts| put(self.dim, self.named.then_some(&b"model"[..]), parts);
            let alias = |(id, seed)| (id, code(self.dim, seed, self.named));
            Change {
                dropped: self.dropped.clone(),
                threshold: self.threshold,
                put: self.put.as_ref().map(put),
                alias: self.alias.map(alias),
            }
        }
    }

    fn changes() -> impl Strategy<Value = Made> {
        let id = || any::<[u8; 16]>().prop_map(Id);
        let ids = prop::collection::vec(id(), 0..4);
        let threshold = prop::option::of((id(), 0..=MILLION));
        let alias = prop::option::of((id(), any::<u64>()));
        (ids, threshold, alias, prop::option::of(parts()), 8usize..70, any::<bool>()).prop_map(
            |(dropped, threshold, alias, put, dim, named)| Made {
                dropped,
                threshold,
                alias,
                put,
                dim,
                named,
            },
        )
    }

    fn encoded(change: &Change) -> Vec<u8> {
        let mut payload = Vec::new();
        encode_change(change, &mut payload);
        payload
    }

    /// A table with what some changes bring, of vectors of one size.
    fn table(all: &[Parts], named: bool) -> Table {
        let mut table = Table::default();
        for parts in all {
            let (id, _, (seed, spiky), until_ms, ..) = parts;
            let put = put(19, named.then_some(&b"model"[..]), parts);
            if table.check_version(put.version).is_err() {
                continue;
            }
            let alias = spiky.then(|| (put.id, code(19, seed + 1, !spiky)));
            let threshold = (until_ms % 2 == 0).then_some((put.id, MILLION / 2));
            let dropped = if id % 7 == 0 { vec![Id([id / 2; 16])] } else { vec![] };
            let change = Change { dropped, threshold: None, put: Some(put), alias };
            apply(&mut table, &change).unwrap();
            table.apply(&Change { threshold, ..Change::default() }, None);
        }
        table
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]
        #[test]
        fn a_change_comes_back_as_it_went(made in changes()) {
            let change = made.change();
            let payload = encoded(&change);
            prop_assert_eq!(decode_change(&payload), Some(change));
            for length in 0..payload.len() {
                prop_assert_eq!(decode_change(&payload[..length]), None);
            }
            let longer = [&payload[..], &[0]].concat();
            prop_assert_eq!(decode_change(&longer), None);
        }

        #[test]
        fn a_table_comes_back_as_it_went(
            all in prop::collection::vec(parts(), 0..12), named: bool, touched in 0u8..12,
        ) {
            let table = table(&all, named);
            if let Some(parts) = all.get(usize::from(touched)) {
                table.touch(Id([parts.0; 16]));
            }
            let mut payload = Vec::new();
            encode(&table, &mut payload);
            let again = decode(&payload).unwrap();
            let mut payload_again = Vec::new();
            encode(&again, &mut payload_again);
            prop_assert_eq!(&payload, &payload_again);
            prop_assert_eq!((again.bytes(), again.dim()), (table.bytes(), table.dim()));
            for length in 0..payload.len() {
                prop_assert!(decode(&payload[..length]).is_none());
            }
            // The same in parts, none of which is taken twice.
            let mut parts = Vec::new();
            encode_parts(&table, &mut |part| parts.push(part.to_vec()));
            let mut again = decode(&parts[0]).unwrap();
            for part in &parts[1..] {
                prop_assert!(part.len() < 2 * PART);
                prop_assert_eq!(extend(&mut again, &part[..part.len() - 1]), None);
                prop_assert_eq!(extend(&mut again, part), Some(()));
                prop_assert_eq!(extend(&mut again, part), None);
            }
            let mut payload_again = Vec::new();
            encode(&again, &mut payload_again);
            prop_assert_eq!(payload, payload_again);
        }

        #[test]
        fn what_is_damaged_is_refused_or_is_another_one(
            all in prop::collection::vec(parts(), 1..6), at: prop::sample::Index, bits: u8,
        ) {
            let mut payload = Vec::new();
            encode(&table(&all, true), &mut payload);
            let at = at.index(payload.len());
            payload[at] ^= bits;
            if let Some(table) = decode(&payload) {
                let mut again = Vec::new();
                encode(&table, &mut again);
                let twice = decode(&again).unwrap();
                prop_assert_eq!(twice.len(), table.len());
            }
        }

        #[test]
        fn anything_is_read_without_a_panic(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            decode(&payload);
            decode_change(&payload);
            decode(&[&[TABLE][..], &payload].concat());
            decode_change(&[&[CHANGE][..], &payload].concat());
        }
    }

    #[test]
    fn a_count_that_is_not_there_allocates_nothing() {
        let mut payload = vec![TABLE, 0, 8, 0];
        push_number(u64::MAX, &mut payload);
        assert!(decode(&payload).is_none());
        let mut payload = vec![CHANGE];
        push_number(u64::MAX / 16 + 2, &mut payload);
        assert_eq!(decode_change(&payload), None);
    }
}
