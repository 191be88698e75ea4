//! ML.FEATUREMSET: writes the same fields of several entities.

use super::listed::Listed;
use super::store::{event, refused, store};
use super::write_options::{
    AT, DIM, EventTimes, FIELDS, NUMBERS, REPLACE, Taken, VIEW, WriteOptions, check_events, order,
};
use crate::bug;
use crate::features::by_namespace::{self, Counts};
use crate::features::change::{Applier, Change, Put, Set};
use crate::features::codec;
use crate::features::datatype::APPLY;
use crate::features::dtype::{Dtype, Vector};
use crate::features::row::{Row, ViewTimes};
use crate::features::shared_layout::SharedLayout;
use crate::features::stats::{LATE, WRITTEN};
use crate::features::value::Value;
use crate::server::{
    Arg, Args, Argument, Call, Command, Ends, Error, KeyAccess, KeySpec, Keyspace, handler, refuse,
};
use crate::time::{MICROS_PER_MILLI, Millis};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// ML.FEATUREMSET
pub const COMMAND: Command = Command {
    name: c"ML.FEATUREMSET",
    run: handler(featuremset),
    flags: c"write deny-oom",
    categories: c"write",
    arity: -8,
    keys: Some(KeySpec::counted(1, KeyAccess::Write)),
    arguments: &[
        Argument::integer(c"numkeys"),
        Argument::key(c"key").repeated(),
        Argument::string(c"blob"),
        Argument::one_of(c"type", NUMBERS).after(c"TYPE"),
        DIM,
        FIELDS,
        VIEW.optional(),
        Argument::one_of(c"time", &[AT, Argument::string(c"times").after(c"TIMES")]).optional(),
        Argument::EXPIRATION.optional(),
        REPLACE,
    ],
    summary: c"Writes the same fields of several entities, from one buffer of numbers.",
    complexity:
        c"O(N+K*M+M*log(M)) where N is the size of the entities then, K the number of keys and \
M that of the fields of each.",
    since: c"0.1.0",
};

/// ML.FEATUREMSET numkeys key [key ...] blob TYPE F32|F64|I64 [DIM k]
/// FIELDS m field [field ...] [VIEW view] [AT ms | TIMES blob]
/// [EX s | PX ms | EXAT s | PXAT ms] [REPLACE]
fn featuremset(call: &mut Call) -> Result<(), Error> {
    let (now_ms, lock) = (call.now() / MICROS_PER_MILLI, call.lock());
    let listed = Listed::new(call.lock(), &call.kept);
    let batch = Batch::parse(&mut call.args, &listed, now_ms)?;
    let change = batch.set.change(now_ms);
    let mut applier = Applier::new(&change);
    let decided = batch.decide(&mut call.keys, &change, &mut applier, now_ms)?;
    let mut written = Vec::with_capacity(decided.rows.len());
    let outcome = batch.write(&mut call.keys, &mut applier, &decided.rows, &mut written);
    // What was written is told, even where something unforeseen ended it.
    if !written.is_empty() {
        call.keys.commit_all(&written, event(&change), APPLY, || {
            batch.effect(&change, decided.rows.iter().take(written.len()))
        });
        WRITTEN.add(written.len() as u64);
        for (key, _) in &written {
            by_namespace::count(&lock, key.bytes(), Counts { written: 1, ..Counts::default() });
        }
    }
    outcome?;
    for (key, _) in batch.keys.iter().zip(&decided.answers).filter(|(_, written)| !**written) {
        by_namespace::count(&lock, key.bytes(), Counts { late: 1, ..Counts::default() });
    }
    LATE.add(decided.answers.iter().filter(|written| !**written).count() as u64);
    call.reply.array(decided.answers.len());
    decided.answers.iter().for_each(|written| call.reply.integer((*written).into()));
    Ok(())
}

/// What is written to some rows.
struct Batch<'a> {
    keys: Vec<Arg<'a>>,
    set: Set<'a>,
    /// The event time of each key.
    events: Events,
    dtype: Dtype,
    /// Of vectors, how many numbers each has.
    dim: Option<usize>,
    blob: &'a [u8],
    /// For each field of the set, which column of the blob has its values.
    columns: Vec<usize>,
    /// How many columns the blob has.
    width: usize,
}

enum Events {
    OfAll(Option<Millis>),
    OfEach(Vec<Millis>),
}

/// What was decided.
struct Decided {
    /// For each key whether it was written.
    answers: Vec<bool>,
    /// The rows that change.
    rows: Vec<DecidedRow>,
}

/// The layouts that a call brings into being: rows of different fields each come to
/// another, with names of its own.
#[derive(Default)]
struct NewLayouts {
    /// They are held, so that one that comes again is known.
    layouts: Vec<SharedLayout>,
    bytes: usize,
}

impl NewLayouts {
    /// How many bytes those of one call take.
    const MOST: usize = 16 << 20;

    /// Adds a layout, if it is new; all but the first may be too much.
    fn add(&mut self, layout: Option<&SharedLayout>) -> Result<(), Error> {
        let Some(layout) = layout.filter(|layout| layout.is_new()) else { return Ok(()) };
        self.bytes = self.bytes.saturating_add(layout.bytes());
        if self.bytes > Self::MOST && !self.layouts.is_empty() {
            return Err(refuse(format!(
                "the names of FIELDS, and of what the keys hold, would take more than {} bytes \
                 for keys of different fields: write fewer keys at a time",
                Self::MOST
            )));
        }
        self.layouts.push(layout.clone());
        Ok(())
    }
}

struct DecidedRow {
    /// Which key's, and at the same time which row's of the blob.
    number: usize,
    times: ViewTimes,
}

impl<'a> Batch<'a> {
    fn parse(args: &mut Args<'a>, listed: &Listed<'_, 'a>, now_ms: Millis) -> Result<Self, Error> {
        const TAKEN: &Taken = &Taken {
            known: &[
                "VIEW", "AT", "EX", "PX", "EXAT", "PXAT", "TYPE", "DIM", "TIMES", "REPLACE",
                "FIELDS",
            ],
            types: &Dtype::NAMES,
            field_size: 1,
        };
        let keys: Vec<_> = args.counted("numkeys", "keys")?.collect();
        let blob = args.arg()?.bytes();
        let options = WriteOptions::parse(args, listed, now_ms, TAKEN)?;
        let kind = options.kind.ok_or_else(|| refuse("TYPE must be given: F32, F64 or I64"))?;
        let (dtype, dim) = (Dtype::at(kind.place), kind.dim);
        let size = dtype.bytes().saturating_mul(dim.unwrap_or(1));
        let width = options.fields.len();
        let length = keys.len().saturating_mul(width).saturating_mul(size);
        if blob.len() != length {
            let each = dim.map_or_else(|| "a value".to_owned(), |dim| format!("{dim} values"));
            return Err(refuse(format!(
                "blob must be {length} bytes long: {each} of type {} for each key and field",
                dtype.name()
            )));
        }
        let events = match options.times {
            None => Events::OfAll(options.at_ms),
            Some(times) => Events::OfEach(event_times(times, keys.len(), now_ms)?),
        };
        let names: Vec<_> = options.fields.iter().map(|name| name.bytes()).collect();
        let columns = order(&names);
        let set = options.set(&names, &columns)?;
        Ok(Self { keys, set, events, dtype, dim, blob, columns, width })
    }

    /// Decides about all rows before any is written, and refuses what cannot be.
    /// A key that comes several times is decided about one time after the other,
    /// and its row made once, of the last that is written.
    fn decide(
        &self,
        keys: &mut Keyspace<'a>,
        change: &Change,
        applier: &mut Applier,
        now_ms: Millis,
    ) -> Result<Decided, Error> {
        let mut answers = vec![false; self.keys.len()];
        let mut rows = Vec::with_capacity(self.keys.len());
        let mut values = Vec::new();
        let again = Again::of(&self.keys);
        let mut new_layouts = NewLayouts::default();
        // Rows of the same layout mostly follow each other.
        let mut last_layout: Option<(SharedLayout, Option<usize>)> = None;
        for first in (0..self.keys.len()).filter(|number| again.is_first(*number)) {
            // Opened as for the write itself: it is none of the reads that are counted.
            let open = keys.write(self.key(first));
            let row = open.value_ref::<Row>()?;
            check_events(&self.set, row.as_deref(), now_ms)?;
            let mut places = again.all(first);
            let events = again.all(first).map(|number| self.event(number));
            let view = row.as_deref().and_then(|row| {
                let known = last_layout.take().filter(|(layout, _)| layout.is(row.layout()));
                let known = known
                    .unwrap_or_else(|| (row.layout().clone(), row.layout().view(self.set.view)));
                Some((row, last_layout.insert(known).1?))
            });
            let last = self.set.decide_in(view, now_ms, events, |written| {
                let answer = places.next().and_then(|number| answers.get_mut(number));
                *answer.unwrap_or_else(|| bug("an event of no key")) = written;
            });
            let last = last.filter(|_| change.concerns(row.as_deref()));
            let Some((last, times)) = last else { continue };
            let number =
                again.all(first).nth(last).unwrap_or_else(|| bug("a key that is not there"));
            let numbers = self.dim.is_none();
            if !(numbers && applier.has_room_for_numbers(row.as_deref()).map_err(refused)?) {
                self.read(number, &mut values);
                let put = Put { times, values: &values };
                applier.check(row.as_deref(), Some(put)).map_err(refused)?;
            }
            new_layouts.add(applier.layout())?;
            rows.push(DecidedRow { number, times });
        }
        Ok(Decided { answers, rows })
    }

    /// Writes what was decided.
    fn write(
        &self,
        keys: &mut Keyspace<'a>,
        applier: &mut Applier,
        rows: &[DecidedRow],
        written: &mut Vec<(Arg<'a>, Ends)>,
    ) -> Result<(), Error> {
        let mut values = Vec::new();
        for DecidedRow { number, times } in rows {
            let key = self.key(*number);
            self.read(*number, &mut values);
            let put = Put { times: *times, values: &values };
            let open = keys.write(key);
            let row = open.value_ref::<Row>()?;
            let new = applier.apply(row.as_deref(), Some(put)).map_err(refused)?;
            written.push((key, store(open, new)?));
        }
        Ok(())
    }

    /// What was decided, for replicas and the AOF.
    fn effect<'r>(&self, change: &Change, rows: impl Iterator<Item = &'r DecidedRow>) -> Vec<u8> {
        let mut payload = Vec::new();
        let mut values = Vec::new();
        codec::encode_change(change, &mut payload);
        for DecidedRow { number, times } in rows {
            self.read(*number, &mut values);
            codec::encode_put(change, *times, values.iter().copied(), &mut payload);
        }
        payload
    }

    fn key(&self, number: usize) -> Arg<'a> {
        *self.keys.get(number).unwrap_or_else(|| bug("a key that is not there"))
    }

    fn event(&self, number: usize) -> Option<Millis> {
        match &self.events {
            Events::OfAll(at_ms) => *at_ms,
            Events::OfEach(all) => {
                Some(*all.get(number).unwrap_or_else(|| bug("a key without an event time")))
            }
        }
    }

    /// Reads the values of a row, for the fields of the set.
    fn read(&self, number: usize, values: &mut Vec<Value<'a>>) {
        let size = self.dtype.bytes() * self.dim.unwrap_or(1);
        let row = self.blob.get(number * self.width * size..);
        let value = |column: &usize| {
            let bytes = row?.get(column * size..)?;
            match self.dim {
                None => Value::read(self.dtype, bytes),
                Some(_) => Vector::new(self.dtype, bytes.get(..size)?).map(Value::from),
            }
        };
        values.clear();
        values.extend(
            self.columns.iter().map(|column| {
                value(column).unwrap_or_else(|| bug("a value that the blob has not"))
            }),
        );
    }
}

/// The event times of keys, i64 little-endian each.
fn event_times(blob: &[u8], keys: usize, now_ms: Millis) -> Result<Vec<Millis>, Error> {
    let (times, []) = blob.as_chunks() else { return Err(wrong_times(keys)) };
    if times.len() != keys {
        return Err(wrong_times(keys));
    }
    let can_be = EventTimes::at(now_ms);
    times.iter().map(|at_ms| can_be.check("TIMES", i64::from_le_bytes(*at_ms))).collect()
}

fn wrong_times(keys: usize) -> Error {
    refuse(format!(
        "TIMES must be {} bytes long: an event time for each key, 64 bits, little-endian",
        keys.saturating_mul(size_of::<i64>())
    ))
}

/// Where keys come again.
struct Again {
    /// For each key the next place where it comes; empty where none does.
    next: Vec<Option<usize>>,
    is_later: Vec<bool>,
}

impl Again {
    fn of(keys: &[Arg]) -> Self {
        let (mut next, mut is_later) = (Vec::new(), Vec::new());
        let mut last = HashMap::with_capacity(keys.len());
        for (number, key) in keys.iter().enumerate() {
            match last.entry(key.bytes()) {
                Entry::Vacant(vacant) => _ = vacant.insert(number),
                Entry::Occupied(mut occupied) => {
                    next.resize(keys.len(), None);
                    is_later.resize(keys.len(), false);
                    let before = occupied.insert(number);
                    let place = next.get_mut(before).zip(is_later.get_mut(number));
                    let (before, later) = place.unwrap_or_else(|| bug("a key that is not there"));
                    (*before, *later) = (Some(number), true);
                }
            }
        }
        Self { next, is_later }
    }

    /// Whether a key has not come before.
    fn is_first(&self, number: usize) -> bool {
        self.is_later.get(number) != Some(&true)
    }

    /// All places of a key, from the first.
    fn all(&self, first: usize) -> impl Iterator<Item = usize> {
        std::iter::successors(Some(first), |number| self.next.get(*number).copied().flatten())
    }
}
