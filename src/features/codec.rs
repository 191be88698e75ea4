//! The payloads of rows: what RDB files, DUMP and replication carry. They carry
//! names, so that each stands alone.
//!
//! ```text
//! row     3 u8 · views · for each: name · fields · the name of each · times
//!         · for each field: value
//! change  3 u8 · action u8 · now_ms · of the action:
//!         1, 2 (replacing): view's name · fields · the name of each
//!                           · for each row: times · a value for each field
//!         3, 4 (by a deletion): view's name
//!         5: fields · for each: view's name · its name
//! event   3 u8 · kind u8 · now_us · view's name · at_ms · 0 u8 | 1 u8 · seq · of the kind:
//!         6 (push): field's name · last · items · for each: value
//!         7 (tally): spans, as [`super::windows`] writes them
//!                    · fields · for each: its name · f64
//!
//! times   at_ms · expires_at_ms (0: none)
//! name    length · bytes
//! value   0 u8 (text) · length · bytes | 1 u8 · i64 | 2 u8 · f32 | 3 u8 · f64
//!         | 4 u8 (string) · length · bytes
//!         | 5, 6, 7 u8 (vector of f32, f64, i64) · length · bytes
//!         | 8 u8 (events) · as [`super::events`] writes them
//! ```
//!
//! What has no size given is a number as [`crate::wire`] writes it. Version 1 of a
//! row had no strings, version 2 of a row and of a change no vectors and no events; all
//! else of them was the same.

use super::change::{Action, Change};
use super::dtype::{Dtype, Vector};
use super::event::{Event, OfFields, What};
use super::events::Events;
use super::layout::{Layout, MAX_FIELDS, MAX_NAME_BYTES, Name, names_a_view};
use super::row::{MAX_TIME_MS, Row, ViewTimes};
use super::sequence::MAX_ITEMS;
use super::shared_layout::SharedLayout;
use super::value::Value;
use super::value::tag::{EVENTS, F32, F32S, F64, F64S, I64, I64S, STRING, TEXT};
use super::windows::Spans;
use crate::time::Millis;
use crate::wire::{Reader, push_number};
use std::ops::RangeInclusive;
use std::sync::Arc;

const VERSION: u8 = 3;

/// The version of rows that knew no strings.
const WITHOUT_STRINGS: u8 = 1;

/// The last type that each version of rows knew, from the first on.
const LAST_TYPES: [u8; 3] = [F64, STRING, EVENTS];

/// The versions of changes that have this form: an AOF of an older module loads, and a
/// replica that was upgraded before its primary takes what that writes.
const CHANGES: RangeInclusive<u8> = 2..=VERSION;

const PUT: u8 = 1;
const REPLACE: u8 = 2;
const TAKE: u8 = 3;
const DELETE_VIEW: u8 = 4;
const DELETE_FIELDS: u8 = 5;
const PUSH: u8 = 6;
const TALLY: u8 = 7;

/// Appends the payload of a row.
pub fn encode(row: &Row, out: &mut Vec<u8>) {
    let layout: &Layout = row.layout();
    out.push(VERSION);
    push_number(layout.views() as u64, out);
    for (view, times) in row.all_times().enumerate() {
        push_name(layout.view_name(view), out);
        let fields = layout.fields(view);
        push_number(fields.len() as u64, out);
        fields.for_each(|field| push_name(layout.field_name(field), out));
        push_times(times, out);
    }
    let values = row.values();
    (0..layout.len()).for_each(|field| push_value(values.get(field), out));
}

/// Reads the payload of a row; `None` unless it is one that can be.
pub fn decode(payload: &[u8]) -> Option<Row> {
    let mut reader = Reader::new(payload);
    let version = reader.u8()?;
    let last_type = *LAST_TYPES.get(usize::from(version.checked_sub(WITHOUT_STRINGS)?))?;
    let (mut names, mut times, mut values): (Vec<Name>, Vec<_>, Vec<_>) = Default::default();
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
        times.push(view_times(&mut reader)?);
    }
    let mut events = Vec::new();
    for _ in 0..names.len() {
        let tag = *reader.rest().first().filter(|tag| **tag <= last_type)?;
        values.push(match tag {
            EVENTS => {
                reader.u8()?;
                events.push(Arc::new(Events::decode(&mut reader)?));
                None
            }
            _ => Some(value(&mut reader)?),
        });
    }
    reader.end()?;
    let mut events = events.iter().map(Value::Events);
    let values: Vec<_> =
        values.into_iter().filter_map(|value| value.or_else(|| events.next())).collect();
    let layout = Layout::of(names.into_iter())?;
    // A view is there once.
    if layout.views() != times.len() {
        return None;
    }
    Row::assemble(&SharedLayout::new(layout), &times, &values).ok()
}

/// Appends the payload of a change; [`encode_put`] appends what is put into each
/// row.
pub fn encode_change(change: &Change, out: &mut Vec<u8>) {
    out.push(VERSION);
    out.push(match &change.action {
        Action::Put { replaces: false, .. } => PUT,
        Action::Put { replaces: true, .. } => REPLACE,
        Action::Take { by_deletion: false, .. } => TAKE,
        Action::Take { by_deletion: true, .. } => DELETE_VIEW,
        Action::Remove(_) => DELETE_FIELDS,
    });
    push_number(change.now_ms, out);
    match &change.action {
        Action::Put { view, fields, .. } => {
            push_name(view, out);
            push_number(fields.len() as u64, out);
            fields.iter().for_each(|field| push_name(field, out));
        }
        Action::Take { view, .. } => push_name(view, out),
        Action::Remove(fields) => {
            push_number(fields.len() as u64, out);
            for (view, field) in fields {
                push_name(view, out);
                push_name(field, out);
            }
        }
    }
}

/// Appends what a change puts into a row, if it does.
pub fn encode_put<'v>(
    change: &Change,
    times: ViewTimes,
    values: impl Iterator<Item = Value<'v>>,
    out: &mut Vec<u8>,
) {
    if matches!(change.action, Action::Put { .. }) {
        push_times(times, out);
        values.for_each(|value| push_value(value, out));
    }
}

/// What a change puts into its rows, one after the other.
#[derive(Clone)]
pub struct Puts<'a> {
    fields: usize,
    rest: &'a [u8],
}

impl<'a> Puts<'a> {
    /// The times and values of the next row; `None` after the last.
    pub fn next(&mut self, values: &mut Vec<Value<'a>>) -> Option<ViewTimes> {
        let mut reader = Reader::new(self.rest);
        let times = view_times(&mut reader)?;
        values.clear();
        for _ in 0..self.fields {
            values.push(value(&mut reader)?);
        }
        self.rest = reader.rest();
        Some(times)
    }
}

/// Reads the payload of a change to so many rows, and what it puts into them if it
/// does; `None` unless it is one that can be.
pub fn decode_change(payload: &[u8], rows: usize) -> Option<(Change<'_>, Option<Puts<'_>>)> {
    let mut reader = Reader::new(payload);
    if !CHANGES.contains(&reader.u8()?) {
        return None;
    }
    let kind = reader.u8()?;
    let now_ms = time(&mut reader)?;
    let action = match kind {
        PUT | REPLACE => {
            let view = view(&mut reader)?;
            let count = fields(&mut reader).filter(|count| *count > 0)?;
            let mut fields: Vec<&[u8]> = Vec::new();
            for _ in 0..count {
                let field = field(&mut reader)?;
                if fields.last().is_some_and(|last| *last >= field) {
                    return None;
                }
                fields.push(field);
            }
            let puts = reader.rest();
            for _ in 0..rows {
                view_times(&mut reader)?;
                for _ in 0..count {
                    value(&mut reader)?;
                }
            }
            reader.end()?;
            let action = Action::Put { view, fields, replaces: kind == REPLACE };
            let puts = Puts { fields: count, rest: puts };
            return Some((Change { now_ms, action }, Some(puts)));
        }
        TAKE | DELETE_VIEW => {
            Action::Take { view: view(&mut reader)?, by_deletion: kind == DELETE_VIEW }
        }
        DELETE_FIELDS => {
            let mut names: Vec<Name> = Vec::new();
            for _ in 0..fields(&mut reader)? {
                let name = (view(&mut reader)?, field(&mut reader)?);
                if names.last().is_some_and(|last| *last >= name) {
                    return None;
                }
                names.push(name);
            }
            Action::Remove(names)
        }
        _ => return None,
    };
    reader.end()?;
    Some((Change { now_ms, action }, None))
}

/// Whether a payload is that of an event, rather than of a change.
pub fn is_event(payload: &[u8]) -> bool {
    matches!(payload, [VERSION, PUSH | TALLY, ..])
}

/// Appends the payload of an event.
pub fn encode_event(event: &Event, out: &mut Vec<u8>) {
    let kind = match event.what {
        What::Push { .. } => PUSH,
        What::Tally { .. } => TALLY,
    };
    out.extend([VERSION, kind]);
    push_number(event.now_us, out);
    push_name(event.view, out);
    push_number(event.at_ms, out);
    out.push(event.seq.is_some().into());
    event.seq.iter().for_each(|seq| push_number(*seq, out));
    match &event.what {
        What::Push { field, last, items } => {
            push_name(field, out);
            push_number(*last as u64, out);
            push_number(items.len() as u64, out);
            items.iter().for_each(|item| push_value(*item, out));
        }
        What::Tally { spans, amounts } => {
            spans.encode(out);
            push_number(amounts.len() as u64, out);
            for (field, amount) in amounts {
                push_name(field, out);
                out.extend(amount.to_le_bytes());
            }
        }
    }
}

/// Reads the payload of an event; `None` unless it is one that can be.
pub fn decode_event(payload: &[u8]) -> Option<Event<'_>> {
    let mut reader = Reader::new(payload);
    if reader.u8()? != VERSION {
        return None;
    }
    let kind = reader.u8()?;
    let now_us = reader.time_us()?;
    let view = view(&mut reader)?;
    let at_ms = time(&mut reader)?;
    let seq = match reader.u8()? {
        0 => None,
        1 => Some(reader.number()?),
        _ => return None,
    };
    let what = match kind {
        PUSH => {
            let field = field(&mut reader)?;
            let last = usize::try_from(reader.number()?).ok()?;
            let last = Some(last).filter(|last| (1..=MAX_ITEMS).contains(last))?;
            // More than are kept are not sent.
            let count = usize::try_from(reader.number()?).ok()?;
            let count = Some(count).filter(|count| (1..=last).contains(count))?;
            let items = (0..count).map(|_| single(&mut reader)).collect::<Option<_>>()?;
            What::Push { field, last, items }
        }
        TALLY => {
            let spans = Spans::decode(&mut reader)?;
            let mut amounts: OfFields<(&[u8], f64)> = OfFields::new();
            for _ in 0..fields(&mut reader).filter(|count| *count > 0)? {
                let field = field(&mut reader)?;
                if amounts.last().is_some_and(|(last, _)| *last >= field) {
                    return None;
                }
                let amount = f64::from_le_bytes(reader.array()?);
                amounts.push((field, Some(amount).filter(|amount| amount.is_finite())?));
            }
            What::Tally { spans, amounts }
        }
        _ => return None,
    };
    reader.end()?;
    Some(Event { now_us, view, at_ms, is_dated: true, seq, what })
}

fn push_times(times: ViewTimes, out: &mut Vec<u8>) {
    push_number(times.at_ms, out);
    push_number(times.expires_at_ms.unwrap_or(0), out);
}

fn view_times(reader: &mut Reader) -> Option<ViewTimes> {
    let at_ms = time(reader)?;
    let expires_at_ms = Some(time(reader)?).filter(|at_ms| *at_ms > 0);
    Some(ViewTimes { at_ms, expires_at_ms })
}

/// The next number, an event time or an expiry.
pub fn time(reader: &mut Reader) -> Option<Millis> {
    reader.number().filter(|time| *time <= MAX_TIME_MS)
}

/// A number of fields, at most as many as a row has.
fn fields(reader: &mut Reader) -> Option<usize> {
    let count = usize::try_from(reader.number()?).ok()?;
    (count <= MAX_FIELDS).then_some(count)
}

fn view<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    name(reader).filter(|name| names_a_view(name))
}

fn field<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    name(reader).filter(|name| name.len() <= MAX_NAME_BYTES)
}

fn push_name(name: &[u8], out: &mut Vec<u8>) {
    push_number(name.len() as u64, out);
    out.extend(name);
}

fn name<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = usize::try_from(reader.number()?).ok()?;
    reader.bytes(length)
}

/// Appends a value.
pub fn push_value(value: Value, out: &mut Vec<u8>) {
    out.push(value.tag());
    match value {
        Value::Text(bytes) | Value::String(bytes) | Value::Vector(_, bytes) => {
            push_name(bytes, out);
        }
        Value::Events(events) => events.encode(out),
        Value::I64(integer) => out.extend(integer.to_le_bytes()),
        Value::F32(single) => out.extend(single.to_le_bytes()),
        Value::F64(double) => out.extend(double.to_le_bytes()),
    }
}

fn value<'a>(reader: &mut Reader<'a>) -> Option<Value<'a>> {
    Some(match reader.u8()? {
        TEXT => Value::Text(name(reader)?),
        STRING => Value::String(name(reader)?),
        I64 => Value::I64(i64::from_le_bytes(reader.array()?)),
        F32 => Value::F32(f32::from_le_bytes(reader.array()?)),
        F64 => Value::F64(f64::from_le_bytes(reader.array()?)),
        F32S => vector(Dtype::F32, reader)?,
        F64S => vector(Dtype::F64, reader)?,
        I64S => vector(Dtype::I64, reader)?,
        _ => return None,
    })
}

/// The next value, which is a single one.
pub fn single<'a>(reader: &mut Reader<'a>) -> Option<Value<'a>> {
    value(reader).filter(|value| !matches!(value, Value::Vector(..)))
}

fn vector<'a>(dtype: Dtype, reader: &mut Reader<'a>) -> Option<Value<'a>> {
    Vector::new(dtype, name(reader)?).map(Value::from)
}

#[cfg(test)]
mod tests {
    use super::super::row::testing::{Owned, content, contents, held, row, times, values};
    use super::*;
    use proptest::prelude::*;

    fn encoded(row: &Row) -> Vec<u8> {
        let mut payload = Vec::new();
        encode(row, &mut payload);
        payload
    }

    /// Reads a change and writes it again.
    fn again(payload: &[u8], rows: usize) -> Option<Vec<u8>> {
        let (change, puts) = decode_change(payload, rows)?;
        let mut payload = Vec::new();
        encode_change(&change, &mut payload);
        if let Some(mut puts) = puts {
            let mut values = Vec::new();
            while let Some(times) = puts.next(&mut values) {
                encode_put(&change, times, values.iter().copied(), &mut payload);
            }
        }
        Some(payload)
    }

    fn put<'a>(view: &'a [u8], fields: Vec<&'a [u8]>, replaces: bool, now_ms: u64) -> Change<'a> {
        Change { now_ms, action: Action::Put { view, fields, replaces } }
    }

    proptest! {
        #[test]
        fn a_row_comes_back_as_it_went(held in held(contents())) {
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
            times in prop::collection::vec(times(), 2),
            replaces: bool,
            now_ms in 0..=MAX_TIME_MS,
            one in prop::collection::vec(values(), 5),
            other in prop::collection::vec(values(), 5),
        ) {
            let fields: Vec<_> = names.iter().map(|name| name.as_bytes()).collect();
            let view = view.as_bytes();
            let mut payload = Vec::new();
            let change = put(view, fields.clone(), replaces, now_ms);
            encode_change(&change, &mut payload);
            for (row, times) in [&one, &other].into_iter().zip(&times) {
                encode_put(&change, *times, row.iter().take(fields.len()).map(Owned::value), &mut payload);
            }
            prop_assert_eq!(again(&payload, 2), Some(payload.clone()));
            prop_assert_eq!(again(&payload, 1), None);
            prop_assert_eq!(again(&payload, 3), None);
            for version in 0..=u8::MAX {
                let older = [&[version], &payload[1..]].concat();
                let read = again(&older, 2);
                prop_assert_eq!(read, CHANGES.contains(&version).then(|| payload.clone()));
            }
            for end in 0..payload.len() {
                prop_assert!(decode_change(&payload[..end], 2).is_none(), "cut at {}", end);
            }
            let names = fields.iter().map(|field| (view, *field)).collect();
            for action in [
                Action::Take { view, by_deletion: true },
                Action::Take { view, by_deletion: false },
                Action::Remove(names),
                Action::Remove(Vec::new()),
            ] {
                let change = Change { now_ms, action };
                let mut payload = Vec::new();
                encode_change(&change, &mut payload);
                prop_assert_eq!(&decode_change(&payload, 1).unwrap().0, &change);
                prop_assert_eq!(again(&payload, 1), Some(payload.clone()));
                for end in 0..payload.len() {
                    prop_assert!(decode_change(&payload[..end], 1).is_none(), "cut at {}", end);
                }
            }
        }

        #[test]
        fn no_bytes_decode_to_what_cannot_be(
            payload in prop::collection::vec(any::<u8>(), 0..100),
            small in prop::collection::vec(0u8..6, 0..30),
        ) {
            for payload in [payload, small] {
                let payload = [&[VERSION], payload.as_slice()].concat();
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
            held in held(contents()),
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
                let again = encoded(&row);
                prop_assert!((WITHOUT_STRINGS..=VERSION).contains(&payload[0]));
                prop_assert_eq!(&again[1..], &payload[1..]);
            }
            let mut payload = Vec::new();
            let change = put(b"v", vec![b"a", b"b"], false, 9);
            encode_change(&change, &mut payload);
            let texts = [Value::Text(b"gold"), Value::I64(7)];
            let times = ViewTimes { at_ms: 7, expires_at_ms: None };
            (0..rows).for_each(|_| encode_put(&change, times, texts.into_iter(), &mut payload));
            let payload = spoil(payload);
            if let Some(again) = again(&payload, rows) {
                prop_assert_eq!(&again[1..], &payload[1..]);
            }
        }
    }

    #[test]
    fn refuses_what_no_row_is() {
        // A view "v" with a field "a", at 5, without expiry, that is 7.
        let seven = [&[I64][..], &7i64.to_le_bytes()].concat();
        let view = |name: u8| vec![1, name, 1, 1, b'a', 5, 0];
        let row = |encoding: u8, views: &[Vec<u8>]| {
            let mut payload = vec![encoding, views.len() as u8];
            views.iter().for_each(|view| payload.extend(view));
            views.iter().for_each(|_| payload.extend(&seven));
            decode(&payload).map(drop)
        };
        assert!(row(1, &[view(b'v')]).is_some());
        assert!(row(1, &[view(b'v'), view(b'w')]).is_some());
        assert!(row(2, &[view(b'v')]).is_some());
        assert!(row(3, &[view(b'v')]).is_some());
        for version in [0, 4, 255] {
            assert_eq!(row(version, &[view(b'v')]), None, "an unknown version");
        }
        let mut string = vec![1, 1, 0, 1, 0, 5, 0, STRING, 1, b'x'];
        assert!(decode(&string).is_none(), "version 1 knew no strings");
        string[0] = 2;
        assert_eq!(decode(&string).unwrap().values().get(0), Value::String(b"x"));
        let mut vector = vec![2, 1, 0, 1, 0, 5, 0, F32S, 4, 0, 0, 0, 0];
        assert!(decode(&vector).is_none(), "version 2 knew no vectors");
        vector[0] = 3;
        assert!(decode(&vector).is_some());
        vector[7] = F64S;
        assert!(decode(&vector).is_none(), "half a double");
        assert!(decode(&[3, 1, 0, 1, 0, 5, 0, F32S, 0]).is_none(), "a vector of nothing");
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
