//! Reading entities of either kind: what a call asks for is resolved once, for
//! plain hashes and for each layout of rows, and then read entity by entity.

use super::hash::HashPlan;
use crate::bug;
use crate::features::buffer::{Found, ValueBuffer};
use crate::features::by_namespace::{self, Counts};
use crate::features::layout::ReadName;
use crate::features::resolved::ResolvedFields;
use crate::features::row::{Row, Values, ViewTimes};
use crate::features::shared_layout::SharedLayout;
use crate::features::stats::{FOUND, MISSING, TOO_OLD};
use crate::features::tensor::NO_TIME;
use crate::server::{Arg, Error, Keyspace, Lock};
use crate::time::Millis;
use std::cell::Cell;
use std::collections::HashMap;

/// What reads the fields of a call from one entity after the other.
pub struct EntityReader<'a> {
    lock: Lock<'a>,
    fields: &'a [Arg<'a>],
    now_ms: Millis,
    max_age_ms: Option<Millis>,
    tally: Tally,
    hashes: Option<HashPlan<'a>>,
    buffer: ValueBuffer,
    layouts: Layouts<'a>,
    states: Vec<State>,
}

/// Whether a view is served.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Fresh,
    /// It is older than the call takes it.
    TooOld,
    /// It is none any more.
    Expired,
}

impl<'a> EntityReader<'a> {
    /// A reader at a moment, of rows not older than `max_age_ms`, and of hashes whose
    /// values take at most so many bytes.
    pub fn new(
        lock: Lock<'a>,
        fields: &'a [Arg<'a>],
        now_ms: Millis,
        max_age_ms: Option<Millis>,
        most: usize,
    ) -> Self {
        Self {
            lock,
            fields,
            now_ms,
            max_age_ms,
            tally: Tally::default(),
            hashes: None,
            buffer: ValueBuffer::new(most),
            layouts: Layouts::default(),
            states: Vec::new(),
        }
    }

    /// Has `work` look at an entity, and counts what it finds.
    pub fn read<R>(
        &mut self,
        keys: &Keyspace<'a>,
        key: Arg<'a>,
        work: impl FnOnce(&Entity) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let before = self.counts();
        let outcome = self.look(keys, key, work);
        by_namespace::count(&self.lock, key.bytes(), self.counts().since(&before));
        outcome
    }

    fn look<R>(
        &mut self,
        keys: &Keyspace<'a>,
        key: Arg<'a>,
        work: impl FnOnce(&Entity) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let open = keys.read(key);
        let tally = &self.tally;
        match open.value_ref::<Row>() {
            Ok(None) => work(&Entity { content: Content::Nothing, tally, bytes: 0 }),
            Ok(Some(row)) => {
                tally.add(|counts| counts.rows += 1);
                let row: &Row = &row;
                let (now_ms, max_age_ms) = (self.now_ms, self.max_age_ms);
                let state = |times: ViewTimes| match times {
                    _ if !times.is_alive(now_ms) => State::Expired,
                    _ if max_age_ms.is_some_and(|most| times.age_ms(now_ms) > most) => {
                        State::TooOld
                    }
                    _ => State::Fresh,
                };
                let fields = self.layouts.of(row.layout(), self.fields);
                self.states.clear();
                self.states.extend(fields.views().map(|view| state(row.times(view))));
                let all_fresh = self.states.iter().all(|state| *state == State::Fresh);
                let states = (!all_fresh).then_some(self.states.as_slice());
                let content = Content::Row { row, values: row.values(), fields, states };
                work(&Entity { content, tally, bytes: 0 })
            }
            Err(_) => {
                // It may still be a hash.
                let Some(hash) = open.hash()? else {
                    return work(&Entity { content: Content::Nothing, tally, bytes: 0 });
                };
                tally.add(|counts| counts.hashes += 1);
                let plan = self.hashes.get_or_insert_with(|| HashPlan::new(self.fields));
                let bytes = plan.read(&hash, &mut self.buffer)?;
                work(&Entity { content: Content::Hash(&self.buffer), tally, bytes })
            }
        }
    }

    /// What was counted up to now.
    pub fn counts(&self) -> Counts {
        self.tally.0.get()
    }

    /// Counts what was counted of a key between two moments once more.
    pub fn count_again(&self, key: Arg, before: &Counts, after: &Counts) {
        let again = after.since(before);
        self.tally.add(|counts| *counts += again);
        by_namespace::count(&self.lock, key.bytes(), again);
    }
}

/// An entity, as a call reads it.
pub struct Entity<'e> {
    content: Content<'e>,
    tally: &'e Tally,
    bytes: usize,
}

enum Content<'e> {
    Nothing,
    Hash(&'e ValueBuffer),
    Row {
        row: &'e Row,
        values: Values<'e>,
        fields: &'e ResolvedFields,
        /// The state of each view that is asked for; `None` where all are fresh.
        states: Option<&'e [State]>,
    },
}

impl<'e> Entity<'e> {
    /// What stands for the field at a place of the call. It is counted.
    pub fn get(&self, place: usize) -> Found<'e> {
        let found = self.peek(place);
        self.tally.count(&found);
        found
    }

    /// What stands there, and is not counted.
    pub fn peek(&self, place: usize) -> Found<'e> {
        match &self.content {
            Content::Nothing => Found::Nothing,
            Content::Hash(buffer) => buffer.get(place),
            Content::Row { values, fields, states: None, .. } => {
                let field = fields.field(place);
                field.map_or(Found::Nothing, |field| Found::Value(values.get(field)))
            }
            Content::Row { values, fields, states: Some(states), .. } => {
                match served(fields, states, place) {
                    None => Found::Nothing,
                    Some((State::TooOld, ..)) => Found::TooOld,
                    Some((_, _, field)) => Found::Value(values.get(field)),
                }
            }
        }
    }

    /// As many bytes as all texts that it holds together take at most.
    pub fn text_bytes(&self) -> usize {
        match &self.content {
            Content::Nothing => 0,
            Content::Hash(buffer) => buffer.text_bytes(),
            Content::Row { row, .. } => row.bytes().len(),
        }
    }

    /// The event time of what stands there, too old or not; [`NO_TIME`] where
    /// nothing does, and of hashes.
    pub fn event_time(&self, place: usize) -> i64 {
        let Content::Row { row, fields, states, .. } = &self.content else { return NO_TIME };
        let view = match states {
            None => fields.all(place).next().map(|(view, _)| view),
            Some(states) => served(fields, states, place).map(|(_, view, _)| view),
        };
        view.map_or(NO_TIME, |view| row.times(fields.view(view)).at_ms.cast_signed())
    }

    /// Where all that is asked for is there and F32, and the row is served.
    pub fn f32s(&self) -> Option<F32Row<'e>> {
        let Content::Row { values: Values::F32(slots), fields, states: None, .. } = self.content
        else {
            return None;
        };
        let row = match fields.run() {
            Some(run) => {
                let run = slots.get(run);
                F32Row::Run(run.unwrap_or_else(|| bug("fields that the row has not")))
            }
            None => F32Row::Spread(slots, fields.all_there()?),
        };
        self.tally.add(|counts| counts.found += fields.len() as u64);
        Some(row)
    }

    /// How many bytes were read to know it; of a row none are read before they
    /// are asked for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What is served at a place: how, of which of the call's views, and the field.
fn served(
    fields: &ResolvedFields,
    states: &[State],
    place: usize,
) -> Option<(State, usize, usize)> {
    fields.all(place).find_map(|(view, field)| {
        let state = *states.get(view).unwrap_or_else(|| bug("a view without a state"));
        (state != State::Expired).then_some((state, view, field))
    })
}

/// What a call asks for of a row of F32.
pub enum F32Row<'e> {
    /// One after the other, in order.
    Run(&'e [[u8; 4]]),
    /// The slots of the row, and for each place of the call which one it is.
    Spread(&'e [[u8; 4]], &'e [u32]),
}

/// What was found, and how often. Counted in INFO when the call is over.
#[derive(Default)]
struct Tally(Cell<Counts>);

impl Tally {
    fn add(&self, add: impl FnOnce(&mut Counts)) {
        let mut counts = self.0.get();
        add(&mut counts);
        self.0.set(counts);
    }

    fn count(&self, found: &Found) {
        self.add(|counts| {
            *match found {
                Found::Value(_) => &mut counts.found,
                Found::Nothing => &mut counts.missing,
                Found::TooOld => &mut counts.too_old,
            } += 1;
        });
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        let counts = self.0.get();
        FOUND.add(counts.found);
        MISSING.add(counts.missing);
        TOO_OLD.add(counts.too_old);
    }
}

/// What a call asks for, resolved for the layouts that it met.
#[derive(Default)]
struct Layouts<'a> {
    /// The names, cut when the first layout is met.
    names: Vec<ReadName<'a>>,
    met: Vec<ResolvedFields>,
    /// By the address of each, which is its own while it is held in `met`.
    places: HashMap<usize, usize>,
    last: usize,
}

impl<'a> Layouts<'a> {
    /// The fields of a layout. Rows of the same mostly follow each other.
    fn of(&mut self, layout: &SharedLayout, fields: &[Arg<'a>]) -> &ResolvedFields {
        let is_last = self.met.get(self.last).is_some_and(|last| last.layout().is(layout));
        if !is_last {
            if self.names.is_empty() {
                self.names = fields.iter().map(|field| ReadName::new(field.bytes())).collect();
            }
            let (met, names) = (&mut self.met, &self.names);
            self.last = *self.places.entry(layout.address()).or_insert_with(|| {
                met.push(ResolvedFields::new(layout, names));
                met.len() - 1
            });
        }
        self.met.get(self.last).unwrap_or_else(|| bug("a layout that was not met"))
    }
}

/// Entities that cost much to read, by their keys: where one comes again, what it
/// is stands in the answer already. So a call costs no more than what it sends
/// and what its keys hold, each once.
pub struct Repeats<'a, S> {
    met: HashMap<&'a [u8], (S, Counts, Counts)>,
}

/// An entity of which no more bytes were read is read again: that costs about
/// what its place in the call does.
const COSTLY: usize = 4096;

impl<'a, S: Clone> Repeats<'a, S> {
    /// None yet.
    pub fn new() -> Self {
        Self { met: HashMap::new() }
    }

    /// Where the entity of a key stands, if it was met; what was counted then is
    /// counted again.
    pub fn met(&self, key: Arg<'a>, reader: &EntityReader) -> Option<S> {
        if self.met.is_empty() {
            return None;
        }
        let (stands, before, after) = self.met.get(key.bytes())?;
        reader.count_again(key, before, after);
        Some(stands.clone())
    }

    /// Remembers where the entity of a key stands, if it took so many bytes;
    /// `before` is what was counted before it was read.
    pub fn remember(
        &mut self,
        key: Arg<'a>,
        bytes: usize,
        stands: S,
        before: Counts,
        reader: &EntityReader,
    ) {
        if bytes > COSTLY {
            self.met.insert(key.bytes(), (stands, before, reader.counts()));
        }
    }
}
