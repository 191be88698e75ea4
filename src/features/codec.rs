//! The payloads of rows: what RDB files, DUMP and replication carry. They carry
//! names, so that each stands alone.
//!
//! ```text
//! row     1 u8 · views · for each: name · fields · the name of each · term
//!         · for each field: value
//! set     1 u8 · 1 u8 · now_ms · view's name · at_ms + 1 (0: none) · expires_at_ms (0: none)
//!         · fields · the name of each · for each row: a value for each field
//! view    1 u8 · 2 u8 · now_ms · view's name
//! fields  1 u8 · 3 u8 · now_ms · for each field: its name
//!
//! term    at_ms · expires_at_ms (0: none)
//! name    length · bytes
//! value   0 u8 · length · bytes | 1 u8 · i64 | 2 u8 · f32 | 3 u8 · f64
//! ```
//!
//! What has no size given is a number as [`crate::wire`] writes it.

use super::interned::Interned;
use super::layout::{Layout, MAX_FIELDS, Name};
use super::merge::{Deletion, Set};
use super::row::{MAX_TIME_MS, Row, Term};
use super::value::Value;
use crate::time::Millis;
use crate::wire::{Reader, push_number};

const ENCODING: u8 = 1;

const SET: u8 = 1;
const DELETE_VIEW: u8 = 2;
const DELETE_FIELDS: u8 = 3;

const TEXT: u8 = 0;
const INTEGER: u8 = 1;
const SINGLE: u8 = 2;
const DOUBLE: u8 = 3;

/// What was done to some rows.
pub enum Change<'a> {
    /// A write, with the values of each row.
    Set(Set<'a>, Rows<'a>),
    /// A deletion.
    Delete(Deletion<'a>),
}

/// The values that a write carries, row by row.
pub struct Rows<'a> {
    fields: usize,
    values: Reader<'a>,
}

impl<'a> Rows<'a> {
    /// The values of the next row; `None` after the last.
    pub fn next(&mut self, values: &mut Vec<Value<'a>>) -> Option<()> {
        values.clear();
        for _ in 0..self.fields {
            values.push(value(&mut self.values)?);
        }
        Some(())
    }
}

/// Appends the payload of a row.
pub fn encode(row: &Row, out: &mut Vec<u8>) {
    let layout: &Layout = row.layout();
    out.push(ENCODING);
    push_number(layout.views() as u64, out);
    for (view, term) in row.terms().enumerate() {
        push_name(layout.view_name(view), out);
        let fields = layout.fields(view);
        push_number(fields.len() as u64, out);
        fields.for_each(|field| push_name(layout.field_name(field), out));
        push_number(term.at_ms, out);
        push_number(term.expires_at_ms.unwrap_or(0), out);
    }
    let values = row.values();
    let values = (0..layout.len()).filter_map(|field| values.get(field));
    values.for_each(|value| push_value(value, out));
}

/// Reads the payload of a row; `None` unless it is one that can be.
pub fn decode(payload: &[u8]) -> Option<Row> {
    let mut reader = start(payload)?;
    let (mut names, mut terms, mut values): (Vec<Name>, Vec<_>, Vec<_>) = Default::default();
    let views = reader.number()?;
    for _ in 0..views {
        let view = name(&mut reader)?;
        let fields = reader.number()?;
        if fields == 0 || fields > (MAX_FIELDS - names.len()) as u64 {
            return None;
        }
        for _ in 0..fields {
            names.push((view, name(&mut reader)?));
        }
        terms.push(Term { at_ms: time(&mut reader)?, expires_at_ms: some(time(&mut reader)?) });
    }
    for _ in 0..names.len() {
        values.push(value(&mut reader)?);
    }
    reader.end()?;
    let layout = Layout::of(names.into_iter())?;
    // A view is there once.
    let sound = layout.views() == terms.len();
    sound.then(|| Row::assemble(&Interned::new(layout), &terms, &values)).flatten()
}

/// The payload of a write, without values; [`encode_values`] appends those of
/// each row.
pub fn encode_set(set: &Set, now_ms: Millis) -> Vec<u8> {
    let mut out = vec![ENCODING, SET];
    push_number(now_ms, &mut out);
    push_name(set.view, &mut out);
    push_number(set.at_ms.map_or(0, |at_ms| at_ms + 1), &mut out);
    push_number(set.expires_at_ms.unwrap_or(0), &mut out);
    push_number(set.fields.len() as u64, &mut out);
    set.fields.iter().for_each(|field| push_name(field, &mut out));
    out
}

/// Appends the values of a row.
pub fn encode_values(values: &[Value], out: &mut Vec<u8>) {
    values.iter().for_each(|value| push_value(*value, out));
}

/// The payload of a deletion.
pub fn encode_deletion(deletion: &Deletion, now_ms: Millis) -> Vec<u8> {
    let mut out = vec![ENCODING];
    match deletion {
        Deletion::View(view) => {
            out.push(DELETE_VIEW);
            push_number(now_ms, &mut out);
            push_name(view, &mut out);
        }
        Deletion::Fields(names) => {
            out.push(DELETE_FIELDS);
            push_number(now_ms, &mut out);
            names.iter().for_each(|name| push_name(name, &mut out));
        }
    }
    out
}

/// Reads the payload of a change to so many rows, and when it was made; `None`
/// unless it is one that can be.
pub fn decode_change(payload: &[u8], rows: usize) -> Option<(Change<'_>, Millis)> {
    let mut reader = start(payload)?;
    let kind = reader.u8()?;
    let now_ms = time(&mut reader)?;
    let change = match kind {
        SET => {
            let view = name(&mut reader)?;
            let at_ms = reader.number()?;
            if at_ms > MAX_TIME_MS + 1 {
                return None;
            }
            let expires_at_ms = some(time(&mut reader)?);
            let count = usize::try_from(reader.number()?).ok()?;
            if count == 0 || count > MAX_FIELDS {
                return None;
            }
            let mut fields = Vec::new();
            for _ in 0..count {
                fields.push(name(&mut reader)?);
            }
            // Sorted, and names that can be.
            Layout::of(fields.iter().map(|field| (view, *field)))?;
            let values = Reader::new(reader.rest());
            for _ in 0..rows {
                for _ in 0..count {
                    value(&mut reader)?;
                }
            }
            reader.end()?;
            let set = Set { view, fields, at_ms: at_ms.checked_sub(1), expires_at_ms };
            Change::Set(set, Rows { fields: count, values })
        }
        DELETE_VIEW => {
            let view = name(&mut reader)?;
            reader.end()?;
            Change::Delete(Deletion::View(view))
        }
        DELETE_FIELDS => {
            let mut names = Vec::new();
            while !reader.is_empty() {
                names.push(name(&mut reader)?);
            }
            Change::Delete(Deletion::Fields(names))
        }
        _ => return None,
    };
    Some((change, now_ms))
}

fn start(payload: &[u8]) -> Option<Reader<'_>> {
    let mut reader = Reader::new(payload);
    (reader.u8()? == ENCODING).then_some(reader)
}

/// A time; what is set is at least 1 millisecond after the epoch where 0 is none.
fn some(time: Millis) -> Option<Millis> {
    Some(time).filter(|time| *time > 0)
}

fn time(reader: &mut Reader) -> Option<Millis> {
    reader.number().filter(|time| *time <= MAX_TIME_MS)
}

fn push_name(name: &[u8], out: &mut Vec<u8>) {
    push_number(name.len() as u64, out);
    out.extend(name);
}

fn name<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = usize::try_from(reader.number()?).ok()?;
    reader.bytes(length)
}

fn push_value(value: Value, out: &mut Vec<u8>) {
    match value {
        Value::Text(text) => {
            out.push(TEXT);
            push_name(text, out);
        }
        Value::Integer(integer) => {
            out.push(INTEGER);
            out.extend(integer.to_le_bytes());
        }
        Value::Single(single) => {
            out.push(SINGLE);
            out.extend(single.to_le_bytes());
        }
        Value::Double(double) => {
            out.push(DOUBLE);
            out.extend(double.to_le_bytes());
        }
    }
}

fn value<'a>(reader: &mut Reader<'a>) -> Option<Value<'a>> {
    Some(match reader.u8()? {
        TEXT => Value::Text(name(reader)?),
        INTEGER => Value::Integer(i64::from_le_bytes(reader.array()?)),
        SINGLE => Value::Single(f32::from_le_bytes(reader.array()?)),
        DOUBLE => Value::Double(f64::from_le_bytes(reader.array()?)),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::row::testing::{Owned, content, held, row, values};
    use super::*;
    use proptest::prelude::*;

    fn encoded(row: &Row) -> Vec<u8> {
        let mut payload = Vec::new();
        encode(row, &mut payload);
        payload
    }

    /// Reads a change and writes it again.
    fn again(payload: &[u8], rows: usize) -> Option<Vec<u8>> {
        Some(match decode_change(payload, rows)? {
            (Change::Delete(deletion), now_ms) => encode_deletion(&deletion, now_ms),
            (Change::Set(set, mut rows), now_ms) => {
                let mut payload = encode_set(&set, now_ms);
                let mut values = Vec::new();
                while rows.next(&mut values).is_some() {
                    encode_values(&values, &mut payload);
                }
                payload
            }
        })
    }

    proptest! {
        #[test]
        fn a_row_comes_back_as_it_went(held in held(values())) {
            let row = row(&held);
            let payload = encoded(&row);
            for end in 0..payload.len() {
                prop_assert!(decode(&payload[..end]).is_none(), "cut at {}", end);
            }
            prop_assert!(decode(&[payload.as_slice(), b"x"].concat()).is_none());
            let read = decode(&payload).unwrap();
            prop_assert_eq!(content(&read), content(&row));
            prop_assert!(read.layout().is(row.layout()));
        }

        #[test]
        fn a_change_comes_back_as_it_went(
            view in "[a-z]{0,3}",
            names in prop::collection::btree_set("[a-z:]{0,3}", 1..5),
            at_ms in prop::option::of(0..=MAX_TIME_MS),
            expires_at_ms in prop::option::of(1..=MAX_TIME_MS),
            now_ms in 0..=MAX_TIME_MS,
            one in prop::collection::vec(values(), 5),
            other in prop::collection::vec(values(), 5),
        ) {
            let fields: Vec<_> = names.iter().map(|name| name.as_bytes()).collect();
            let view = view.as_bytes();
            let set = Set { view, fields: fields.clone(), at_ms, expires_at_ms };
            let mut payload = encode_set(&set, now_ms);
            for row in [&one, &other] {
                let row: Vec<_> = row.iter().take(fields.len()).map(Owned::value).collect();
                encode_values(&row, &mut payload);
            }
            prop_assert_eq!(again(&payload, 2), Some(payload.clone()));
            prop_assert_eq!(again(&payload, 1), None);
            prop_assert_eq!(again(&payload, 3), None);
            for end in 0..payload.len() {
                prop_assert!(decode_change(&payload[..end], 2).is_none(), "cut at {}", end);
            }
            for deletion in [Deletion::View(view), Deletion::Fields(fields)] {
                let payload = encode_deletion(&deletion, now_ms);
                prop_assert_eq!(again(&payload, 1), Some(payload));
            }
        }

        #[test]
        fn no_bytes_decode_to_what_cannot_be(
            payload in prop::collection::vec(any::<u8>(), 0..100),
            small in prop::collection::vec(0u8..4, 0..30),
        ) {
            for payload in [payload, small] {
                let payload = [&[ENCODING], payload.as_slice()].concat();
                if let Some(row) = decode(&payload) {
                    prop_assert_eq!(&encoded(&row), &payload);
                }
                for rows in 0..3 {
                    if let Some(again) = again(&payload, rows) {
                        prop_assert_eq!(&again, &payload);
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_spoilt_payload_is_another_or_none(
            held in held(values()),
            rows in 1usize..4,
            bytes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let spoil = |mut payload: Vec<u8>| {
                for (place, byte) in &bytes {
                    let place = place.index(payload.len());
                    payload[place] = *byte;
                }
                payload
            };
            let payload = spoil(encoded(&row(&held)));
            if let Some(row) = decode(&payload) {
                prop_assert_eq!(encoded(&row), payload);
            }
            let set = Set { view: b"v", fields: vec![b"a", b"b"], at_ms: Some(7), expires_at_ms: None };
            let mut payload = encode_set(&set, 9);
            let texts = [Value::Text(b"gold"), Value::Integer(7)];
            (0..rows).for_each(|_| encode_values(&texts, &mut payload));
            let payload = spoil(payload);
            if let Some(again) = again(&payload, rows) {
                prop_assert_eq!(again, payload);
            }
        }
    }

    #[test]
    fn refuses_what_no_row_is() {
        // A view "v" with a field "a", at 5, without expiry, that is 7.
        let seven = [&[INTEGER][..], &7i64.to_le_bytes()].concat();
        let view = |name: u8| vec![1, name, 1, 1, b'a', 5, 0];
        let row = |encoding: u8, views: &[Vec<u8>]| {
            let mut payload = vec![encoding, views.len() as u8];
            views.iter().for_each(|view| payload.extend(view));
            views.iter().for_each(|_| payload.extend(&seven));
            decode(&payload).map(drop)
        };
        assert!(row(1, &[view(b'v')]).is_some());
        assert!(row(1, &[view(b'v'), view(b'w')]).is_some());
        assert_eq!(row(2, &[view(b'v')]), None, "an unknown version");
        assert_eq!(row(1, &[view(b'w'), view(b'v')]), None, "views out of order");
        assert_eq!(row(1, &[view(b'v'), view(b'v')]), None, "a view twice");
        assert_eq!(row(1, &[view(b':')]), None, "a name that no view has");
        assert_eq!(row(1, &[vec![1, b'v', 0, 5, 0]]), None, "a view without fields");
        let split = [vec![1, b'v', 1, 1, b'a', 5, 0], vec![1, b'v', 1, 1, b'b', 5, 0]];
        assert_eq!(row(1, &split), None, "a view in two");
        let mut late = vec![1, b'v', 1, 1, b'a'];
        push_number(MAX_TIME_MS + 1, &mut late);
        late.push(0);
        assert_eq!(row(1, &[late]), None, "a time that rows cannot hold");
        let mut huge = vec![1, 1, 1, b'v'];
        push_number(u64::MAX, &mut huge);
        assert!(decode(&huge).is_none(), "more fields than a row holds");
        assert!(decode(&[1, 0]).is_some_and(|row| row.layout().len() == 0));
    }
}
