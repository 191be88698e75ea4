//! The commands that write: parse → decide → write → replicate → reply.

use super::codec::{self, Change};
use super::datatype::APPLY;
use super::merge::{Deletion, TooLarge, Writer, Written, delete};
use super::parse::{self, Batch, Write};
use super::row::Row;
use super::stats::{LATE, WRITTEN};
use super::value::Value;
use crate::server::{Arg, Call, Error, WriteKey, effects_are_wanted, refuse};
use crate::time::{MICROS_PER_MILLI, Millis};
use std::ffi::CStr;

/// ML.FEATURESET key [VIEW view] [AT ms] [EX s | PX ms | EXAT s | PXAT ms]
/// [TYPE AUTO|F32|F64|I64|STRING] FIELDS n field value [field value ...]
pub fn featureset(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let Write { set, values } = Write::parse(&mut call.args, now_ms)?;
    let mut writer = Writer::new(&set, now_ms);
    let stored = store(call.write(key), &mut writer, &values)?;
    if stored == Stored::Changed {
        replicate(call, &[key], || {
            let mut payload = codec::encode_set(&set, now_ms);
            codec::encode_values(&values, &mut payload);
            payload
        });
    }
    call.reply.integer(stored.answer());
    Ok(())
}

/// ML.FEATUREMSET numkeys key [key ...] blob TYPE F32|F64|I64
/// FIELDS m field [field ...] [VIEW view] [AT ms] [EX s | PX ms | EXAT s | PXAT ms]
pub fn featuremset(call: &mut Call) -> Result<(), Error> {
    let now_ms = call.now() / MICROS_PER_MILLI;
    let batch = Batch::parse(&mut call.args, now_ms)?;
    let mut writer = Writer::new(&batch.set, now_ms);
    check(call, &mut writer, &batch.keys)?;
    let mut payload = effects_are_wanted().then(|| codec::encode_set(&batch.set, now_ms));
    let mut answers = Vec::with_capacity(batch.keys.len());
    let mut written = Vec::new();
    let mut values = Vec::new();
    for (key, row) in batch.keys.iter().zip(batch.rows()) {
        values.clear();
        values.extend(row);
        let stored = store(call.write(*key), &mut writer, &values)?;
        answers.push(stored.answer());
        if stored == Stored::Changed {
            written.push(*key);
            payload.iter_mut().for_each(|payload| codec::encode_values(&values, payload));
        }
    }
    if !written.is_empty() {
        replicate(call, &written, || payload.unwrap_or_default());
    }
    call.reply.array(answers.len());
    answers.iter().for_each(|answer| call.reply.integer(*answer));
    Ok(())
}

/// ML.FEATUREDEL key (VIEW view | FIELDS n field [field ...])
pub fn featuredel(call: &mut Call) -> Result<(), Error> {
    let key = call.args.arg()?;
    let deletion = parse::deletion(&mut call.args)?;
    let now_ms = call.now() / MICROS_PER_MILLI;
    let removed = remove(call.write(key), &deletion, now_ms)?;
    if removed.is_some() {
        replicate(call, &[key], || codec::encode_deletion(&deletion, now_ms));
    }
    call.reply.integer(removed.unwrap_or(0) as i64);
    Ok(())
}

/// Refuses what cannot be written to one of the keys, before any is written.
fn check<'a>(call: &mut Call<'a>, writer: &mut Writer, keys: &[Arg<'a>]) -> Result<(), Error> {
    for key in keys {
        // Opened as for the write itself: it is none of the reads that are counted.
        writer.check(call.write(*key).value_ref::<Row>()?.as_deref()).map_err(refused)?;
    }
    Ok(())
}

/// What came of a write.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stored {
    Changed,
    /// There was nothing to be changed.
    Unchanged,
    /// The row holds something newer.
    Late,
}

impl Stored {
    fn answer(self) -> i64 {
        i64::from(self != Self::Late)
    }
}

/// Writes values to a key.
fn store(mut key: WriteKey, writer: &mut Writer, values: &[Value]) -> Result<Stored, Error> {
    const EVENT: &CStr = c"ml.featureset";
    let outcome = writer.write(key.value_ref::<Row>()?.as_deref(), values).map_err(refused)?;
    match outcome {
        Written::Late => {
            LATE.increment();
            return Ok(Stored::Late);
        }
        Written::Unchanged => return Ok(Stored::Unchanged),
        Written::Row(row) => put(&mut key, Some(row), EVENT)?,
        Written::Emptied => put(&mut key, None, EVENT)?,
    }
    WRITTEN.increment();
    Ok(Stored::Changed)
}

/// Takes fields out of a key: how many; `None` where that changed nothing.
fn remove(mut key: WriteKey, deletion: &Deletion, now_ms: Millis) -> Result<Option<usize>, Error> {
    let outcome = key.value_ref::<Row>()?.and_then(|row| delete(&row, deletion, now_ms));
    let Some((removed, left)) = outcome else { return Ok(None) };
    put(&mut key, left, c"ml.featuredel")?;
    Ok(Some(removed))
}

fn refused(reason: TooLarge) -> Error {
    refuse(reason.to_string())
}

/// Puts a row into a key in place of the one that it held. The key goes when the
/// last view of the row does. An expiry that somebody gave the key stays, as for
/// any type, until a write moves the row's own.
fn put(key: &mut WriteKey, row: Option<Row>, event: &CStr) -> Result<(), Error> {
    let before = key.value_ref::<Row>()?.map(|row| row.expires_at_ms());
    match row {
        Some(row) => {
            let expires_at_ms = row.expires_at_ms();
            drop(key.set(row)?);
            if before.unwrap_or_default() != expires_at_ms {
                match expires_at_ms {
                    Some(expires_at_ms) => key.expire_at_ms(expires_at_ms),
                    None => key.persist(),
                }
            }
            key.changed(event);
        }
        None if before.is_some() => {
            key.delete();
            key.deleted(event);
        }
        None => {}
    }
    Ok(())
}

fn replicate<'a>(call: &Call<'a>, keys: &[Arg<'a>], payload: impl FnOnce() -> Vec<u8>) {
    match effects_are_wanted() {
        true => call.replicate_keys(APPLY, &payload(), keys),
        false => call.replicate_nothing(),
    }
}

/// ML.APPLYFEATURE change key [key ...]
pub fn apply(call: &mut Call) -> Result<(), Error> {
    let payload = call.args.arg()?;
    let keys: Vec<_> = call.args.remaining().collect();
    let change = codec::decode_change(payload.bytes(), keys.len());
    let (change, now_ms) = change.ok_or_else(|| refuse("change is not a change of rows"))?;
    match change {
        Change::Delete(deletion) => {
            for key in &keys {
                call.write(*key).value_ref::<Row>()?;
            }
            for key in &keys {
                remove(call.write(*key), &deletion, now_ms)?;
            }
        }
        Change::Set(set, mut rows) => {
            let mut writer = Writer::new(&set, now_ms);
            // Numbers have room. Texts come in changes of one key, which is written or
            // not.
            check(call, &mut writer, &keys)?;
            let mut values = Vec::new();
            for key in &keys {
                rows.next(&mut values);
                store(call.write(*key), &mut writer, &values)?;
            }
        }
    }
    call.replicate_keys(APPLY, payload.bytes(), &keys);
    call.reply.ok();
    Ok(())
}
