//! What the commands have in common that tell of events.

use super::listed::Listed;
use super::store::{make_room, refused};
use super::write_options::{EventTimes, check_name, view};
use crate::features::by_namespace::{self, Counts};
use crate::features::codec;
use crate::features::datatype::APPLY;
use crate::features::event::{Event, Refusal, What};
use crate::features::row::Row;
use crate::features::stats::{LATE, WRITTEN};
use crate::server::{Args, Argument, Call, Error, Options, fetch, quoted, refuse};
use crate::time::{MICROS_PER_MILLI, Micros, Millis};
use std::ffi::CStr;

/// `SEQ s`
pub const SEQ: Argument = Argument::integer(c"s").after(c"SEQ").optional();

/// The options of a call that tells of an event.
pub struct EventOptions<'a> {
    now_us: Micros,
    at_ms: Option<Millis>,
    seq: Option<u64>,
    view: &'a [u8],
}

impl<'a> EventOptions<'a> {
    /// None yet, of a call at a moment.
    pub fn at(now_us: Micros) -> Self {
        Self { now_us, at_ms: None, seq: None, view: b"" }
    }

    /// Reads AT, SEQ or VIEW.
    pub fn read(&mut self, option: &str, options: &mut Options<'_, 'a>) -> Result<(), Error> {
        match option {
            "AT" => {
                let can_be = EventTimes::at(self.now_us / MICROS_PER_MILLI);
                self.at_ms = Some(can_be.of_argument(options.value()?)?);
            }
            "SEQ" => self.seq = Some(options.integer(0..=i64::MAX)?.cast_unsigned()),
            _ => self.view = view(options.value()?)?,
        }
        Ok(())
    }

    /// When it happened.
    pub fn at_ms(&self) -> Millis {
        self.at_ms.unwrap_or(self.now_us / MICROS_PER_MILLI)
    }

    /// The event, of fields that a row can have.
    pub fn event(&self, what: What<'a>) -> Result<Event<'a>, Error> {
        let Self { now_us, seq, view, .. } = *self;
        let (at_ms, is_dated) = (self.at_ms(), self.at_ms.is_some());
        let event = Event { now_us, view, at_ms, is_dated, seq, what };
        event.fields().into_iter().try_for_each(|field| check_name(view, field))?;
        Ok(event)
    }
}

/// What others are notified of when something happened.
pub fn notice(event: &Event) -> &'static CStr {
    match event.what {
        What::Push { .. } => c"ml.featurepush",
        What::Tally { .. } => c"ml.featuretally",
    }
}

/// Has the event of a call happen to the row of its key, if any field takes it, and answers
/// whether one does. `parse` reads the arguments after the key, at a moment, with the field
/// lists that they may name.
pub fn happen<'a>(
    call: &mut Call<'a>,
    parse: impl FnOnce(&mut Args<'a>, &Listed<'_, 'a>, Micros) -> Result<Event<'a>, Error>,
) -> Result<(), Error> {
    let key = call.args.arg()?;
    let (lock, now_us) = (call.lock(), call.now());
    let listed = Listed::new(call.lock(), &call.kept);
    // The row comes from memory while the other arguments are read.
    let mut open = call.keys.write(key);
    let row = open.value_ref::<Row>();
    row.iter().flatten().for_each(|row| fetch(row.address()));
    let event = parse(&mut call.args, &listed, now_us)?;
    let decided = event.decide(row?.as_deref()).map_err(wrong)?;
    let mut counts = Counts::default();
    match &decided {
        None => {
            LATE.increment();
            counts.late = 1;
        }
        Some(event) => {
            let room = make_room(&mut open, event, |row, places| {
                event.check_size(row, places).map_err(refused)
            })?;
            let ends = super::store::happen(open, event, room)?;
            call.keys.commit_all(&[(key, ends)], notice(event), APPLY, || {
                // Mostly it is no longer than that.
                let mut payload = Vec::with_capacity(64);
                codec::encode_event(event, &mut payload);
                payload
            });
            WRITTEN.increment();
            counts.written = 1;
        }
    }
    by_namespace::count(&lock, key.bytes(), counts);
    call.reply.integer(decided.is_some().into());
    Ok(())
}

fn wrong(refusal: Refusal) -> Error {
    let (Refusal::Holds(field, _) | Refusal::Tiles(field, _)) = &refusal;
    refuse(format!("field {} cannot take it: {refusal}", quoted(field)))
}
