//! Reading entities of either kind: what a call asks for is resolved once, for
//! plain hashes and for each layout of rows, and then read entity by entity.

use super::fields::Fields;
use super::hash::HashPlan;
use crate::bug;
use crate::features::buffer::{TakeText, ValueBuffer};
use crate::features::by_namespace::{self, Counts};
use crate::features::config::MAX_VALUES;
use crate::features::events::Events;
use crate::features::feast;
use crate::features::form::Form;
use crate::features::found::Found;
use crate::features::layout::ReadName;
use crate::features::numbering::Numbering;
use crate::features::resolved::{ResolvedFields, Step};
use crate::features::row::{Row, Values, ViewTimes};
use crate::features::shared_layout::SharedLayout;
use crate::features::stats::{FOUND, MISSING, TOO_OLD};
use crate::features::tensor::NO_TIME;
use crate::features::value::Value;
use crate::features::windows::{Aggregate, Summary};
use crate::namespace::literal_start;
use crate::server::{Arg, Error, Hash, Keyspace, Lock, ReadKey, ValueRef, fetch, refuse};
use crate::time::{MICROS_PER_MILLI, Micros, Millis};
use arrayvec::ArrayVec;
use smallvec::SmallVec;
use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// What reads the fields of a call from one entity after the other.
pub struct EntityReader<'a> {
    call: Reading<'a>,
    /// What was counted before the entity that was read last.
    before: Counts,
    /// What reads hashes, once there is one, and what was read of the last.
    hashes: Option<(HashPlan<'a>, ValueBuffer)>,
    /// As many bytes as the values of a hash take at most.
    most: usize,
    layouts: Layouts<'a>,
    states: Vec<State>,
    summaries: Summaries,
}

/// What is the same for all entities of a call.
struct Reading<'a> {
    fields: &'a Fields<'a>,
    /// How Feast's store names what it wrote, where it wrote the hashes.
    feast: Option<&'a feast::Names>,
    /// The server's clock.
    now_us: Micros,
    /// What happened before this is too old.
    oldest_ms: Millis,
    tally: Tally<'a>,
}

impl Reading<'_> {
    fn state(&self, times: ViewTimes) -> State {
        match times {
            _ if !times.is_alive(self.now_us / MICROS_PER_MILLI) => State::Expired,
            _ if times.at_ms < self.oldest_ms => State::TooOld,
            _ => State::Fresh,
        }
    }

    /// When what stands in a hash happened, as far as it says.
    fn feast_time(&self, buffer: &ValueBuffer, place: usize) -> i64 {
        let time = self.feast.and_then(|names| names.time_of(place));
        match time.map(|time| buffer.get(time)) {
            Some(Found::Value(Value::I64(at_ms))) => at_ms,
            _ => NO_TIME,
        }
    }
}

/// What the windows of an entity come to that a call asks for aggregates of.
struct Summaries {
    /// Of each of the call's; `None` where there are no windows that the span fits.
    of: Vec<Option<Summary>>,
    /// How many tiles may still be looked at, to a field more or less.
    tiles_left: u64,
}

impl Summaries {
    /// Those of a row. Where the call has looked at too many tiles, it is refused.
    fn read(
        &mut self,
        call: &Reading,
        values: &Values,
        fields: &ResolvedFields,
        states: Option<&[State]>,
    ) -> Result<(), Error> {
        self.of.clear();
        for window in call.fields.windows() {
            let stands = served(fields, states, window.place);
            let summary = match stands.map(|(_, _, field)| values.get(field)) {
                Some(Value::Events(events)) => match &**events {
                    Events::Windows(windows) => {
                        windows.summary(window.span_us, call.now_us, window.deviates)
                    }
                    Events::Sequence(_) => None,
                },
                _ => None,
            };
            let tiles = summary.map_or(0, |summary| summary.tiles);
            let left = self.tiles_left.checked_sub(tiles);
            self.tiles_left = left.ok_or_else(too_many_tiles)?;
            self.of.push(summary);
        }
        Ok(())
    }
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
    /// A reader at a moment, of what is not older than `max_age_ms`, and of hashes whose
    /// values take at most so many bytes.
    pub fn new(
        lock: Lock<'a>,
        fields: &'a Fields<'a>,
        feast: Option<&'a feast::Names>,
        now_us: Micros,
        max_age_ms: Option<Millis>,
        most: usize,
    ) -> Self {
        let now_ms = now_us / MICROS_PER_MILLI;
        let oldest_ms = max_age_ms.map_or(0, |most| now_ms.saturating_sub(most));
        let tally = Tally::new(lock);
        Self {
            call: Reading { fields, feast, now_us, oldest_ms, tally },
            before: Counts::default(),
            hashes: None,
            most,
            layouts: Layouts::default(),
            states: Vec::new(),
            summaries: Summaries { of: Vec::new(), tiles_left: most_tiles() },
        }
    }

    /// Has `work` look at an entity, and counts what it finds.
    #[inline]
    pub fn read<R>(
        &mut self,
        key: &EntityKey<'_, 'a>,
        work: impl FnOnce(&Entity) -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.open(key, |open| match open {
            Opened::Hash(hash) => work(&hash.read()?),
            Opened::Read(entity) => work(entity),
        })
    }

    /// The same, of a hash before it is read.
    #[inline]
    pub fn open<R>(
        &mut self,
        key: &EntityKey<'_, 'a>,
        work: impl FnOnce(Opened) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let EntityKey { name, open, row } = *key;
        self.call.tally.turn_to(name.bytes());
        self.before = self.call.tally.counts.get();
        let call = &self.call;
        // Put together where it stays, and looked at in one place: else it would be copied,
        // and looking at it a call.
        let (entity, unread);
        match row {
            Some(row) => {
                call.tally.add(|counts| counts.rows += 1);
                let (layout, values) = row.parts();
                let fields = self.layouts.of(layout, call.fields);
                let mut states = fields.views().map(|view| call.state(row.times(view)));
                let states = match states.all(|state| state == State::Fresh) {
                    true => None,
                    false => {
                        self.states.clear();
                        let states = fields.views().map(|view| call.state(row.times(view)));
                        self.states.extend(states);
                        Some(self.states.as_slice())
                    }
                };
                if !call.fields.windows().is_empty() {
                    self.summaries.read(call, &values, fields, states)?;
                }
                let summaries = &self.summaries.of;
                let content = Content::Row { row, values, fields, states, summaries };
                (entity, unread) = (Entity::new(content, call, 0), None);
            }
            // It may still be a hash.
            None => {
                unread = open.hash()?.map(|hash| {
                    call.tally.add(|counts| counts.hashes += 1);
                    let Reading { fields, feast, .. } = *call;
                    let (plan, buffer) = self.hashes.get_or_insert_with(|| {
                        (HashPlan::new(fields.in_hashes(feast)), ValueBuffer::new(self.most))
                    });
                    OpenHash { hash, plan, buffer, call }
                });
                entity = Entity::new(Content::Nothing, call, 0);
            }
        }
        work(match unread {
            Some(hash) => Opened::Hash(hash),
            None => Opened::Read(&entity),
        })
    }

    /// What was counted of the entity that was read last.
    fn counted(&self) -> Counts {
        self.call.tally.counts.get().since(&self.before)
    }

    /// Counts once more what was counted of a key.
    fn count_again(&mut self, key: Arg<'a>, again: Counts) {
        self.call.tally.turn_to(key.bytes());
        self.call.tally.add(|counts| *counts += again);
    }
}

/// The key of an entity, open.
pub struct EntityKey<'o, 'a> {
    /// What it is called.
    pub name: Arg<'a>,
    open: &'o ReadKey<'o>,
    row: Option<&'o Row>,
}

impl<'o, 'a> EntityKey<'o, 'a> {
    /// A key that was opened, and the row that is in it, if one is.
    pub fn new(name: Arg<'a>, open: &'o ReadKey, row: Option<&'o Row>) -> Self {
        Self { name, open, row }
    }
}

/// How many keys are opened before the first is read, while they hold rows: enough that these
/// come from memory meanwhile, and few enough that the server has their handles ready.
const AHEAD: usize = 16;

/// Has `work` look at one key after the other. Those of rows are opened some at a time. Where
/// more is asked for than values as they are, what events stand in is fetched as well.
pub fn each_key<'a>(
    keys: &Keyspace<'a>,
    mut names: &[Arg<'a>],
    are_plain: bool,
    mut work: impl FnMut(&EntityKey<'_, 'a>) -> Result<(), Error>,
) -> Result<(), Error> {
    // The first says what the others mostly are.
    let mut ahead = 1;
    while !names.is_empty() {
        let open = names.iter().take(ahead).map(|name| keys.read(*name));
        let open: ArrayVec<_, AHEAD> = open.collect();
        let row = |open| ReadKey::own::<Row>(open).inspect(|row| fetch(row.address()));
        let rows: ArrayVec<_, AHEAD> = open.iter().map(row).collect();
        if !are_plain {
            fetch_all(rows.iter().flatten());
        }
        let mut read = 0;
        for ((name, open), row) in names.iter().zip(&open).zip(&rows) {
            // A hash may go as it is read, with the last of its fields that expires: it is
            // opened alone, lest another have it open too.
            if row.is_none() && ahead > 1 && open.is_hash() {
                break;
            }
            work(&EntityKey::new(*name, open, row.as_deref()))?;
            read += 1;
        }
        ahead = if rows.iter().all(Option::is_some) { AHEAD } else { 1 };
        names = names.get(read..).unwrap_or_default();
    }
    Ok(())
}

/// Fetches what rows hold that is longer than a number: vectors, and what events stand in,
/// to which three steps lead. Each is taken for all rows before the next.
fn fetch_all<'r>(rows: impl Iterator<Item = &'r ValueRef<'r, Row>> + Clone) {
    const LINE: usize = 64;
    const LINES: usize = 16;
    for row in rows.clone() {
        fetch(row.head().leads_to());
        row.bytes().chunks(LINE).take(LINES).for_each(|line| fetch(line.as_ptr()));
    }
    let events = rows.flat_map(|row| row.head().events());
    events.clone().for_each(|events| fetch(&raw const **events));
    events.for_each(|events| fetch(events.leads_to()));
}

/// An entity that is open.
pub enum Opened<'o, 'e> {
    /// A hash, of which nothing was read yet.
    Hash(OpenHash<'e>),
    /// All else.
    Read(&'o Entity<'e>),
}

/// A hash that is open.
pub struct OpenHash<'e> {
    hash: Hash<'e>,
    plan: &'e HashPlan<'e>,
    buffer: &'e mut ValueBuffer,
    call: &'e Reading<'e>,
}

impl<'e> OpenHash<'e> {
    /// Reads it into the reader's buffer.
    pub fn read(self) -> Result<Entity<'e>, Error> {
        self.buffer.reset(self.plan.field_count());
        let bytes = match self.call.feast {
            None => self.plan.read(&self.hash, self.buffer)?,
            Some(names) => self.plan.read(&self.hash, &mut names.reading(self.buffer))?,
        };
        Ok(Entity::new(Content::Hash(self.buffer), self.call, bytes))
    }

    /// Has what is asked for taken as it comes; how many bytes were read for that.
    pub fn read_into(&self, values: &mut impl TakeText) -> Result<usize, Error> {
        self.plan.read(&self.hash, values)
    }

    /// Counts so many fields that are there, and so many that are not.
    pub fn count(&self, found: usize, missing: usize) {
        self.call.tally.add(|counts| {
            counts.found += found as u64;
            counts.missing += missing as u64;
        });
    }
}

/// An entity, as a call reads it.
pub struct Entity<'e> {
    content: Content<'e>,
    call: &'e Reading<'e>,
    /// Whether all that is asked for are values as they are, unless they are events.
    is_plain: bool,
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
        /// What the windows come to that are asked for.
        summaries: &'e [Option<Summary>],
    },
}

impl<'e> Entity<'e> {
    #[inline]
    fn new(content: Content<'e>, call: &'e Reading<'e>, bytes: usize) -> Self {
        let is_plain = call.fields.are_plain()
            && match &content {
                Content::Row { states, .. } => states.is_none(),
                Content::Hash(_) => call.feast.is_none(),
                Content::Nothing => true,
            };
        Self { content, call, is_plain, bytes }
    }

    /// What stands for the field at a place of the call. It is counted.
    #[inline]
    pub fn get(&self, place: usize) -> Found<'e> {
        let found = self.peek(place);
        self.count(&found);
        found
    }

    /// Counts what was found.
    #[inline]
    pub fn count(&self, found: &Found) {
        self.call.tally.count(found);
    }

    /// What stands there, and is not counted.
    #[inline(always)]
    pub fn peek(&self, place: usize) -> Found<'e> {
        match &self.content {
            Content::Row { values, fields, .. } if self.is_plain => {
                match fields.field(place).map(|field| values.get(field)) {
                    None => return Found::Nothing,
                    Some(Value::Events(_)) => {}
                    Some(value) => return Found::Value(value),
                }
            }
            Content::Hash(buffer) if self.is_plain => return buffer.get(place),
            _ => {}
        }
        self.in_form(place)
    }

    /// The same where more is asked for than values as they are.
    #[inline(never)]
    fn in_form(&self, place: usize) -> Found<'e> {
        match &self.content {
            Content::Nothing => Found::Nothing,
            Content::Hash(buffer) => self.of_hash(buffer, place),
            Content::Row { values, fields, states, .. } => match served(fields, *states, place) {
                None => Found::Nothing,
                Some((state, _, field)) => self.of_row(values.get(field), state, place),
            },
        }
    }

    /// What a value of a row comes to, in a view of a state. Events have times of their
    /// own.
    fn of_row(&self, value: Value<'e>, state: State, place: usize) -> Found<'e> {
        if let Some((aggregate, summary)) = self.summary(place) {
            return summary.read(aggregate).map_or(Found::Nothing, Found::Value);
        }
        if state == State::TooOld && !matches!(value, Value::Events(_)) {
            return Found::TooOld;
        }
        self.call.fields.form(place).of_row(value, self.call.oldest_ms)
    }

    /// The aggregate that is asked for at a place, if one is, of windows that are there.
    #[inline]
    pub fn aggregate(&self, place: usize) -> Option<Value<'static>> {
        let (aggregate, summary) = self.summary(place)?;
        summary.read(aggregate)
    }

    #[inline]
    fn summary(&self, place: usize) -> Option<(Aggregate, &Summary)> {
        let Content::Row { summaries, .. } = &self.content else { return None };
        let (aggregate, window) = self.call.fields.aggregate(place)?;
        Some((aggregate, summaries.get(window)?.as_ref()?))
    }

    fn of_hash(&self, buffer: &'e ValueBuffer, place: usize) -> Found<'e> {
        if self.call.feast.is_some() {
            return self.of_feast(buffer, place);
        }
        let bytes = |place: usize| match buffer.get(place) {
            Found::Value(value) => value.bytes(),
            _ => None,
        };
        self.call
            .fields
            .form(place)
            .of_hash(bytes(place), self.call.fields.bare(place).and_then(bytes))
    }

    /// The same of what Feast's store wrote, which says its type, and when it happened.
    fn of_feast(&self, buffer: &'e ValueBuffer, place: usize) -> Found<'e> {
        let Reading { fields, oldest_ms, .. } = *self.call;
        let found = match (buffer.get(place), fields.bare(place)) {
            (Found::Nothing, Some(bare)) => buffer.get(bare),
            (literal, _) => literal,
        };
        let at_ms = u64::try_from(self.event_time(place));
        match found {
            Found::Nothing => Found::Nothing,
            _ if at_ms.is_ok_and(|at_ms| at_ms < oldest_ms) => Found::TooOld,
            found => fields.form(place).of_typed(found, oldest_ms),
        }
    }

    /// What stands at a place, as errors tell it: the type of a value, what events are,
    /// of what nothing says the type how long it is.
    #[cold]
    pub fn describe(&self, place: usize) -> String {
        let found = match &self.content {
            Content::Nothing => None,
            Content::Row { values, fields, states, .. } => {
                served(fields, *states, place).map(|(_, _, field)| values.get(field).describe())
            }
            Content::Hash(buffer) => {
                let names = [Some(place), self.call.fields.bare(place)];
                names.into_iter().flatten().find_map(|name| match buffer.get(name) {
                    Found::Value(Value::Text(text)) => Some(format!("{} bytes", text.len())),
                    Found::Value(value) => Some(value.describe()),
                    Found::Nested(_) => Some("values with others in them".to_owned()),
                    _ => None,
                })
            }
        };
        found.unwrap_or_else(|| bug("a form of what is not there"))
    }

    /// As many bytes as all texts that it holds together take at most; of events nobody
    /// knows beforehand.
    pub fn text_bytes(&self) -> Option<usize> {
        match &self.content {
            Content::Nothing => Some(0),
            Content::Hash(buffer) => Some(buffer.text_bytes()),
            Content::Row { row, values, .. } => {
                values.events().is_empty().then(|| row.bytes().len())
            }
        }
    }

    /// The event time of what stands there, too old or not, of events that of the newest;
    /// [`NO_TIME`] where nothing does, and of hashes; in Feast's layout that of the view,
    /// whether the field is there or not.
    pub fn event_time(&self, place: usize) -> i64 {
        let (row, values, fields, states) = match &self.content {
            Content::Row { row, values, fields, states, .. } => (row, values, fields, *states),
            Content::Hash(buffer) => return self.call.feast_time(buffer, place),
            Content::Nothing => return NO_TIME,
        };
        let at_ms = served(fields, states, place).map(|(_, view, field)| match values.get(field) {
            Value::Events(events) => events.newest_ms(),
            _ => row.times(fields.view(view)).at_ms,
        });
        at_ms.map_or(NO_TIME, Millis::cast_signed)
    }

    /// Where all that is asked for is there and F32, and the row is served.
    pub fn f32s(&self) -> Option<F32Row<'e>> {
        let Content::Row { values: Values::F32(slots), fields, .. } = self.content else {
            return None;
        };
        if !self.is_plain {
            return None;
        }
        let row = match fields.run() {
            Some(run) => {
                let run = slots.get(run);
                F32Row::Run(run.unwrap_or_else(|| bug("fields that the row has not")))
            }
            None => F32Row::Spread(slots, fields.all_there()?),
        };
        self.call.tally.add(|counts| counts.found += fields.len() as u64);
        Some(row)
    }

    /// The values of a row that is served, and the steps in which it is read.
    pub fn steps(&self) -> Option<(&Values<'e>, &'e [Step])> {
        let Content::Row { values, fields, states: None, .. } = &self.content else { return None };
        Some((values, fields.steps(|place| self.call.fields.form(place))))
    }

    /// Has what a value of a served row comes to at places of the call looked at, one
    /// after the other. It is counted.
    #[inline]
    pub fn each(
        &self,
        value: Option<Value<'e>>,
        places: Range<usize>,
        mut look: impl FnMut(usize, Found<'e>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for place in places {
            let found = value.map(|value| self.of_row(value, State::Fresh, place));
            let found = found.unwrap_or(Found::Nothing);
            self.count(&found);
            look(place, found)?;
        }
        Ok(())
    }

    /// What a value of a served row comes to that is asked for as so many numbers.
    #[inline]
    pub fn numbers(&self, value: Value<'e>, columns: usize) -> Found<'e> {
        Form::Numbers(columns).of_row(value, self.call.oldest_ms)
    }

    /// Counts so many fields that were found.
    pub fn count_found(&self, found: usize) {
        self.call.tally.add(|counts| counts.found += found as u64);
    }

    /// How many bytes were read to know it; of a row none are read before they
    /// are asked for.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The most tiles that a call looks at: as long as it takes to read as many values as
/// it may.
fn most_tiles() -> u64 {
    const TILES_A_VALUE: u64 = 4;
    MAX_VALUES.get_unsigned().saturating_mul(TILES_A_VALUE)
}

#[cold]
fn too_many_tiles() -> Error {
    let most = most_tiles();
    refuse(format!(
        "more than {most} tiles of windows would be looked at, 4 times \
         ml.features-max-values: ask for fewer at a time"
    ))
}

/// What is served at a place: how, of which of the call's views, and the field.
fn served(
    fields: &ResolvedFields,
    states: Option<&[State]>,
    place: usize,
) -> Option<(State, usize, usize)> {
    fields.all(place).find_map(|(view, field)| {
        let state = states.map_or(State::Fresh, |states| {
            *states.get(view).unwrap_or_else(|| bug("a view without a state"))
        });
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

/// What was found, and how often: of keys that follow each other in a namespace
/// counted together, when another begins or the call is over.
struct Tally<'a> {
    lock: Lock<'a>,
    /// The first of them.
    key: &'a [u8],
    /// What others begin with that are in its namespace, once there is another.
    start: Option<&'a [u8]>,
    counts: Cell<Counts>,
}

impl<'a> Tally<'a> {
    fn new(lock: Lock<'a>) -> Self {
        Self { lock, key: b"", start: None, counts: Cell::default() }
    }

    /// Has what comes counted in the namespace of a key.
    #[inline]
    fn turn_to(&mut self, key: &'a [u8]) {
        if !self.start.is_some_and(|start| key.starts_with(start)) {
            self.leave_for(key);
        }
    }

    fn leave_for(&mut self, key: &'a [u8]) {
        match literal_start(self.key).filter(|start| key.starts_with(start)) {
            Some(start) => self.start = Some(start),
            None => {
                self.count_all();
                (self.key, self.start) = (key, None);
            }
        }
    }

    fn count_all(&mut self) {
        let counts = self.counts.take();
        if counts != Counts::default() {
            by_namespace::count(&self.lock, self.key, counts);
            FOUND.add(counts.found);
            MISSING.add(counts.missing);
            TOO_OLD.add(counts.too_old);
        }
    }

    fn add(&self, add: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.get();
        add(&mut counts);
        self.counts.set(counts);
    }

    fn count(&self, found: &Found) {
        self.add(|counts| {
            *match found {
                Found::Value(_) | Found::Items(_) | Found::Packed(_) | Found::Nested(_) => {
                    &mut counts.found
                }
                Found::Nothing | Found::Misfit | Found::Spoilt => &mut counts.missing,
                Found::TooOld => &mut counts.too_old,
            } += 1;
        });
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.count_all();
    }
}

/// What a call asks for, resolved for the layouts that it met.
#[derive(Default)]
struct Layouts<'a> {
    /// The names, cut once for all layouts from the second on: mostly there is one.
    names: Vec<ReadName<'a>>,
    met: SmallVec<[(SharedLayout, Arc<ResolvedFields>); 1]>,
    /// Of the address of each, which is its own while it is held in `met`.
    numbering: Numbering,
}

impl<'a> Layouts<'a> {
    /// The fields of a layout.
    #[inline]
    fn of(&mut self, layout: &SharedLayout, fields: &Fields<'a>) -> &ResolvedFields {
        let number = self.numbering.of(layout.address());
        if number == self.met.len() {
            self.resolve(layout, fields);
        }
        let met = self.met.get(number);
        met.map_or_else(|| bug("a layout that was not met"), |(_, fields)| fields)
    }

    #[inline(never)]
    fn resolve(&mut self, layout: &SharedLayout, fields: &Fields<'a>) {
        let resolved = fields.resolved(layout, || {
            let has_named_views = layout.has_named_views();
            if self.met.is_empty() || !has_named_views {
                return ResolvedFields::new(layout, fields.read_names(has_named_views));
            }
            if self.names.is_empty() {
                self.names = fields.read_names(true).collect();
            }
            ResolvedFields::new(layout, self.names.iter().copied())
        });
        self.met.push((layout.clone(), resolved));
    }
}

/// Entities that cost much to read, by their keys: where one comes again, what it
/// is stands in the answer already. So a call costs no more than what it sends
/// and what its keys hold, each once.
pub struct Repeats<'a, S> {
    met: HashMap<&'a [u8], (S, Counts)>,
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
    pub fn met(&self, key: Arg<'a>, reader: &mut EntityReader<'a>) -> Option<S> {
        if self.met.is_empty() {
            return None;
        }
        let (stands, counted) = self.met.get(key.bytes())?;
        reader.count_again(key, *counted);
        Some(stands.clone())
    }

    /// Remembers where the entity that was read last stands, if it took so many bytes.
    pub fn remember(&mut self, key: Arg<'a>, bytes: usize, stands: S, reader: &EntityReader) {
        if bytes > COSTLY {
            self.met.insert(key.bytes(), (stands, reader.counted()));
        }
    }
}
