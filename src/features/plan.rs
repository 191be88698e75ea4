//! Reading entities of either kind: what a call asks for is resolved once, for
//! plain hashes and for each layout of rows, and then read entity by entity.

use super::cells::{Cells, Found};
use super::hash::HashPlan;
use super::interned::Interned;
use super::row::{Row, Term, Values};
use super::stats::{FOUND, MISSING, TOO_OLD};
use crate::server::{Arg, Call, Error};
use crate::time::Millis;
use std::cell::Cell;
use std::collections::HashMap;
use std::ops::Range;

/// What reads the fields of a call from one entity after the other.
pub struct Reader<'a> {
    fields: &'a [Arg<'a>],
    now_ms: Millis,
    max_age_ms: Option<Millis>,
    tally: Tally,
    hashes: Option<HashPlan<'a>>,
    cells: Cells,
    layouts: Layouts,
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

impl<'a> Reader<'a> {
    /// A reader at a moment, of rows not older than `max_age_ms`.
    pub fn new(fields: &'a [Arg<'a>], now_ms: Millis, max_age_ms: Option<Millis>) -> Self {
        Self {
            fields,
            now_ms,
            max_age_ms,
            tally: Tally::default(),
            hashes: None,
            cells: Cells::default(),
            layouts: Layouts::default(),
            states: Vec::new(),
        }
    }

    /// Has `work` look at an entity.
    pub fn read<R>(
        &mut self,
        call: &Call<'a>,
        key: Arg<'a>,
        work: impl FnOnce(&Entity) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let open = call.read(key);
        let tally = &self.tally;
        match open.value_ref::<Row>() {
            Ok(None) => work(&Entity { content: Content::Nothing, tally }),
            Ok(Some(row)) => {
                let (now_ms, max_age_ms) = (self.now_ms, self.max_age_ms);
                let state = |term: Term| match term {
                    _ if !term.is_alive(now_ms) => State::Expired,
                    _ if max_age_ms.is_some_and(|most| term.age_ms(now_ms) > most) => State::TooOld,
                    _ => State::Fresh,
                };
                self.states.clear();
                self.states.extend(row.terms().map(state));
                let all_fresh = self.states.iter().all(|state| *state == State::Fresh);
                let states = (!all_fresh).then_some(self.states.as_slice());
                let columns = self.layouts.of(row.layout(), self.fields);
                let content = columns.map(|columns| {
                    let values = row.values();
                    Content::Row { values, columns, states }
                });
                work(&Entity { content: content.unwrap_or(Content::Nothing), tally })
            }
            Err(_) => {
                // It may still be a hash.
                if let Some(hash) = open.hash()? {
                    let plan = self.hashes.get_or_insert_with(|| HashPlan::new(self.fields));
                    plan.read(&hash, &mut self.cells)?;
                }
                work(&Entity { content: Content::Hash(&self.cells), tally })
            }
        }
    }
}

/// An entity, as a call reads it.
pub struct Entity<'e> {
    content: Content<'e>,
    tally: &'e Tally,
}

enum Content<'e> {
    Nothing,
    Hash(&'e Cells),
    Row {
        values: Values<'e>,
        columns: &'e Columns,
        /// The state of each view; `None` where all are fresh.
        states: Option<&'e [State]>,
    },
}

impl<'e> Entity<'e> {
    /// What stands for the field at a place of the call.
    pub fn get(&self, place: usize) -> Found<'e> {
        let found = match &self.content {
            Content::Nothing => Found::Nothing,
            Content::Hash(cells) => cells.get(place),
            Content::Row { values, columns, states: None } => {
                let field = columns.fields.get(place).map(|field| *field as usize);
                field.and_then(|field| values.get(field)).map_or(Found::Nothing, Found::Value)
            }
            Content::Row { values, columns, states: Some(states) } => {
                let served = columns.all(place).find_map(|(view, field)| {
                    let state = *states.get(view)?;
                    (state != State::Expired).then_some((state, field))
                });
                match served {
                    None => Found::Nothing,
                    Some((State::TooOld, _)) => Found::TooOld,
                    Some((_, field)) => values.get(field).map_or(Found::Nothing, Found::Value),
                }
            }
        };
        self.tally.count(&found);
        found
    }

    /// Where all that is asked for is there and a single, and the row is served.
    pub fn singles(&self) -> Option<Singles<'e>> {
        let Content::Row { values: Values::Singles(slots), columns, states: None } = self.content
        else {
            return None;
        };
        let singles = match &columns.run {
            Some(run) => Singles::Run(slots.get(run.clone())?),
            None if columns.are_all_there => Singles::Spread(slots, &columns.fields),
            None => return None,
        };
        self.tally.found.set(self.tally.found.get() + columns.fields.len() as u64);
        Some(singles)
    }
}

/// What a call asks for of a row of singles.
pub enum Singles<'e> {
    /// One after the other, in order.
    Run(&'e [[u8; 4]]),
    /// The slots of the row, and for each place of the call which one it is.
    Spread(&'e [[u8; 4]], &'e [u32]),
}

/// What was found, and how often. Counted when the call is over.
#[derive(Default)]
struct Tally {
    found: Cell<u64>,
    missing: Cell<u64>,
    too_old: Cell<u64>,
}

impl Tally {
    fn count(&self, found: &Found) {
        let count = match found {
            Found::Value(_) => &self.found,
            Found::Nothing => &self.missing,
            Found::TooOld => &self.too_old,
        };
        count.set(count.get() + 1);
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        FOUND.add(self.found.get());
        MISSING.add(self.missing.get());
        TOO_OLD.add(self.too_old.get());
    }
}

/// What a call asks for, resolved for the layouts that it met.
#[derive(Default)]
struct Layouts {
    met: Vec<Columns>,
    /// By the address of each, which is its own while it is held in `met`.
    places: HashMap<usize, usize>,
    last: usize,
}

impl Layouts {
    /// The columns of a layout. Rows of the same mostly follow each other.
    fn of(&mut self, layout: &Interned, fields: &[Arg]) -> Option<&Columns> {
        let is_last = self.met.get(self.last).is_some_and(|last| last.layout.is(layout));
        if !is_last {
            let met = &mut self.met;
            self.last = *self.places.entry(layout.address()).or_insert_with(|| {
                met.push(Columns::new(layout, fields));
                met.len() - 1
            });
        }
        self.met.get(self.last)
    }
}

/// Where in the rows of a layout the fields of a call stand.
struct Columns {
    layout: Interned,
    /// For each place of the call the field; [`NOWHERE`] where there is none.
    fields: Vec<u32>,
    are_all_there: bool,
    /// Where they are all there, and each stands after the one before it.
    run: Option<Range<usize>>,
    /// The view of each of them.
    views: Vec<u32>,
    /// What stands for a place where its view has expired: a view and a field.
    others: HashMap<usize, (usize, usize)>,
}

/// A field that no row has.
const NOWHERE: u32 = u32::MAX;

impl Columns {
    fn new(layout: &Interned, asked: &[Arg]) -> Self {
        let mut fields = Vec::with_capacity(asked.len());
        let mut views = Vec::with_capacity(asked.len());
        let mut others = HashMap::new();
        let mut likely = 0;
        for (place, name) in asked.iter().enumerate() {
            let mut found = layout.resolve(name.bytes(), likely).into_iter().flatten();
            // A row has fewer views and fields than 2^32 by far.
            let (view, field) = found
                .next()
                .map_or((NOWHERE, NOWHERE), |(view, field)| (view as u32, field as u32));
            views.push(view);
            fields.push(field);
            likely = field.wrapping_add(1) as usize;
            others.extend(found.map(|other| (place, other)));
        }
        let are_all_there = fields.iter().all(|field| *field != NOWHERE);
        let first = fields.first().map_or(0, |first| *first as usize);
        let run = first..first + fields.len();
        let in_order = fields.iter().map(|field| *field as usize).eq(run.clone());
        let run = (are_all_there && in_order).then_some(run);
        Self { layout: layout.clone(), fields, are_all_there, run, views, others }
    }

    /// All that may stand for a place: views and fields, the first that is served
    /// before the others.
    fn all(&self, place: usize) -> impl Iterator<Item = (usize, usize)> {
        let first = self.views.get(place).zip(self.fields.get(place));
        let first = first.map(|(view, field)| (*view as usize, *field as usize));
        first.into_iter().chain(self.others.get(&place).copied())
    }
}
