//! Putting rows into keys: the same for whoever decided, and for what applies
//! decisions.

use crate::bug;
use crate::features::change::{Action, Change, Put};
use crate::features::codec;
use crate::features::event::{Event, OfFields};
use crate::features::row::{Row, TooLarge};
use crate::server::{Ends, Error, Lives, WriteKey, refuse};
use std::ffi::CStr;

/// What others are notified of when a change was made.
pub fn event(change: &Change) -> &'static CStr {
    match change.action {
        Action::Put { .. } | Action::Take { by_deletion: false, .. } => c"ml.featureset",
        Action::Take { by_deletion: true, .. } | Action::Remove(_) => c"ml.featuredel",
    }
}

/// Puts a row into a key in place of the one that it held, and closes it. The key
/// goes when the last view of the row does.
pub fn store(mut key: WriteKey, row: Option<Row>) -> Result<Ends, Error> {
    let lives = match row {
        Some(row) => put(&mut key, row)?,
        None => Lives::Gone,
    };
    Ok(key.close(lives))
}

/// Puts a row into a key in place of the one that it held: how long the key is to
/// live then. An expiry that somebody gave the key stays, as for any type, until a
/// write moves the row's own.
fn put(key: &mut WriteKey, row: Row) -> Result<Lives, Error> {
    let lives = |row: &Row| row.expires_at_ms().map_or(Lives::Forever, Lives::Until);
    let before = key.value_ref::<Row>()?.map_or(Lives::Forever, |row| lives(&row));
    let after = lives(&row).moved_from(before);
    drop(key.set(row)?);
    Ok(after)
}

/// Makes room in a key for what is to happen to its row: where in the row's head, and
/// how long the key is to live then. `check` refuses the row that there is then.
pub fn make_room(
    key: &mut WriteKey,
    event: &Event,
    check: impl FnOnce(&Row, &[usize]) -> Result<(), Error>,
) -> Result<(OfFields<usize>, Lives), Error> {
    let row = key.value_ref::<Row>()?;
    if let Some(row) = row.as_deref()
        && let Some(places) = event.places(row)
    {
        check(row, &places)?;
        return Ok((places, Lives::AsBefore));
    }
    let made = event.make_room(row.as_deref()).map_err(refused)?;
    let places = event.places(&made).unwrap_or_else(|| bug("a row without what was put into it"));
    check(&made, &places)?;
    Ok((places, put(key, made)?))
}

/// Has an event happen to the row in a key, where room was made for it, and closes it.
pub fn happen(
    mut key: WriteKey,
    event: &Event,
    (places, lives): (OfFields<usize>, Lives),
) -> Result<Ends, Error> {
    let head = key.inner::<Row>()?;
    let head = head.unwrap_or_else(|| bug("an event of a row that is not there"));
    for (number, place) in places.iter().enumerate() {
        head.change(*place, |events| event.happen(number, events));
    }
    Ok(key.close(lives))
}

/// The payload of a change, and what it puts into one row.
pub fn payload(change: &Change, put: Option<Put>) -> Vec<u8> {
    let mut payload = Vec::new();
    codec::encode_change(change, &mut payload);
    if let Some(put) = put {
        codec::encode_put(change, put.times, put.values.iter().copied(), &mut payload);
    }
    payload
}

/// The refusal of a row that is too large.
pub fn refused(reason: TooLarge) -> Error {
    refuse(reason.to_string())
}
