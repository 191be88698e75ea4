//! Something that happens to an entity: decide → event → apply, all on plain state.
//!
//! Fields that hold events have times of their own: what happens moves neither the
//! event time nor the expiry of their view. They are changed in place; only a field
//! that is new has the row made anew.
//!
//! [`Event::decide`] runs on the primary alone. What it leaves of the event is what
//! replicas are sent; applying that looks at no clock and refuses nothing.

use super::change::{Action, Applier, Change, Put, alive_view};
use super::events::Events;
use super::row::{MAX_ROW_BYTES, Row, TooLarge};
use super::sequence::Sequence;
use super::value::Value;
use super::windows::{Misfit, Spans, Windows};
use crate::bug;
use crate::time::{MICROS_PER_MILLI, Micros, Millis};
use smallvec::{SmallVec, smallvec};
use std::sync::Arc;

/// What happens to fields of one view.
#[derive(Clone, Debug, PartialEq)]
pub struct Event<'a> {
    /// When the primary was told.
    pub now_us: Micros,
    /// The view.
    pub view: &'a [u8],
    /// When it happened.
    pub at_ms: Millis,
    /// Whether somebody said when. What is pushed and was not comes after all that did,
    /// should the clock have stepped back.
    pub is_dated: bool,
    /// Its number among those of the field, if they are numbered.
    pub seq: Option<u64>,
    /// What happens.
    pub what: What<'a>,
}

/// What happens.
#[derive(Clone, Debug, PartialEq)]
pub enum What<'a> {
    /// Items come to a sequence.
    Push {
        /// The field.
        field: &'a [u8],
        /// How many items are kept.
        last: usize,
        /// The items, in order of arrival, no more than are kept.
        items: Vec<Value<'a>>,
    },
    /// Amounts are added to windows.
    Tally {
        /// The windows.
        spans: Spans,
        /// Fields, sorted, each once, and the amount of each.
        amounts: OfFields<(&'a [u8], f64)>,
    },
}

/// Something of each field that an event happens to, which mostly are few.
pub type OfFields<T> = SmallVec<[T; 2]>;

/// Why an event cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A field holds something else: its name, and what it is.
    #[error("it holds {1}")]
    Holds(Vec<u8>, String),
    /// The field's windows have other tiles.
    #[error("{1}")]
    Tiles(Vec<u8>, Misfit),
}

impl<'a> Event<'a> {
    /// The fields, sorted, each once.
    pub fn fields(&self) -> OfFields<&'a [u8]> {
        match &self.what {
            What::Push { field, .. } => smallvec![*field],
            What::Tally { amounts, .. } => amounts.iter().map(|(field, _)| *field).collect(),
        }
    }

    /// Refuses a row that has all fields, their events at these places, if it would be too
    /// large once it happens.
    pub fn check_size(&self, row: &Row, places: &[usize]) -> Result<(), TooLarge> {
        // Few rows are so large that what goes has to be looked for.
        let fits = row.held_bytes().saturating_add(self.most_bytes()) <= MAX_ROW_BYTES;
        if fits || self.bytes_after(row, places) <= MAX_ROW_BYTES {
            Ok(())
        } else {
            Err(TooLarge::Bytes)
        }
    }

    /// How many bytes of a row there are once it has happened.
    fn bytes_after(&self, row: &Row, places: &[usize]) -> usize {
        let events = |place: &usize| row.head().events().get(*place);
        let events = |place| events(place).unwrap_or_else(|| bug("a place without events"));
        let events = places.iter().map(events);
        events.fold(row.held_bytes(), |bytes, events| {
            let after = match (&self.what, &**events) {
                (What::Push { last, items, .. }, Events::Sequence(sequence)) => {
                    sequence.row_bytes_with(*last, items)
                }
                (What::Tally { spans, .. }, Events::Windows(windows)) => {
                    let tiles = windows.new_tiles(spans, self.at_ms, self.now_ms());
                    windows.row_bytes() + tiles * Windows::TILE_BYTES
                }
                _ => bug("events of another kind"),
            };
            (bytes - events.row_bytes()).saturating_add(after)
        })
    }

    /// How many bytes a row that has all fields grows by at most when it happens.
    fn most_bytes(&self) -> usize {
        match &self.what {
            What::Push { items, .. } => {
                let text = |value: &Value| value.bytes().map_or(0, <[u8]>::len);
                Sequence::ITEM_BYTES * items.len() + items.iter().map(text).sum::<usize>()
            }
            // Rings that the call does not name take it too.
            What::Tally { amounts, .. } => Windows::TILE_BYTES * Windows::MAX_RINGS * amounts.len(),
        }
    }

    fn now_ms(&self) -> Millis {
        self.now_us / MICROS_PER_MILLI
    }

    /// What is left of the event: `None` if no field takes it.
    pub fn decide(mut self, row: Option<&Row>) -> Result<Option<Self>, Refusal> {
        let (at_ms, seq, now_ms) = (self.at_ms, self.seq, self.now_ms());
        let takes = match &self.what {
            What::Push { field, last, .. } => {
                let none = Sequence::default();
                let sequence = match self.held_events(row, field)? {
                    Some(Events::Sequence(sequence)) => sequence,
                    _ => &none,
                };
                let newest_ms = if self.is_dated { 0 } else { sequence.newest_ms() };
                let at_ms = at_ms.max(newest_ms);
                let places = sequence.places(at_ms, seq, *last);
                self.happens_at(at_ms, places);
                places > 0
            }
            What::Tally { spans, amounts } => {
                let none = Windows::default();
                let mut taken = OfFields::new();
                for (field, amount) in amounts {
                    let windows = match self.held_events(row, field)? {
                        Some(Events::Windows(windows)) => windows,
                        _ => &none,
                    };
                    if windows.would_take(spans, at_ms, seq, now_ms) {
                        taken.push((*field, *amount));
                    }
                }
                let takes = !taken.is_empty();
                self.what = What::Tally { spans: spans.clone(), amounts: taken };
                takes
            }
        };
        Ok(takes.then_some(self))
    }

    /// Of items, no more than there are places for are told to anybody: those that
    /// arrived last.
    fn happens_at(&mut self, at_ms: Millis, places: usize) {
        (self.at_ms, self.is_dated) = (at_ms, true);
        if let What::Push { items, .. } = &mut self.what {
            items.drain(..items.len().saturating_sub(places));
        }
    }

    /// Whether each field holds nothing, or events that it can happen to. So it is wherever
    /// the event was decided about; elsewhere it may not be.
    pub fn can_happen(&self, row: Option<&Row>) -> bool {
        self.fields().iter().all(|field| self.held_events(row, field).is_ok())
    }

    /// The events of a field, if it holds anything; refused unless the event can happen to
    /// them.
    fn held_events<'r>(
        &self,
        row: Option<&'r Row>,
        field: &[u8],
    ) -> Result<Option<&'r Events>, Refusal> {
        let held = row.and_then(|row| {
            let view = alive_view(row, self.view, self.now_ms())?;
            Some(row.values().get(row.layout().field(view, field)?))
        });
        let Some(value) = held else { return Ok(None) };
        let holds = |what: String| Err(Refusal::Holds(field.to_vec(), what));
        let Value::Events(events) = value else {
            return holds(format!("a value of type {}", value.type_name()));
        };
        match (&self.what, &**events) {
            (What::Push { .. }, Events::Sequence(_)) => {}
            (What::Tally { spans, .. }, Events::Windows(windows)) => {
                windows.check(spans).map_err(|why| Refusal::Tiles(field.to_vec(), why))?;
            }
            _ => return holds(events.describe()),
        }
        Ok(Some(events))
    }

    /// The row with the fields that it has not yet, which hold no events so far.
    pub fn make_room(&self, row: Option<&Row>) -> Result<Row, TooLarge> {
        let view = row.and_then(|row| Some((row, alive_view(row, self.view, self.now_ms())?)));
        let is_there = |field: &&[u8]| {
            view.is_some_and(|(row, view)| row.layout().field(view, field).is_some())
        };
        let missing: Vec<_> = self.fields().into_iter().filter(|field| !is_there(field)).collect();
        let none = Arc::new(match self.what {
            What::Push { .. } => Events::Sequence(Sequence::default()),
            What::Tally { .. } => Events::Windows(Windows::default()),
        });
        let values = vec![Value::Events(&none); missing.len()];
        // The times of the view stay, if it is alive.
        let times = view.map(|(row, view)| row.times(view)).unwrap_or_default();
        let action = Action::Put { view: self.view, fields: missing, replaces: false };
        let change = Change { now_ms: self.now_ms(), action };
        let row = Applier::new(&change).apply(row, Some(Put { times, values: &values }))?;
        Ok(row.unwrap_or_else(|| bug("a row without the fields that were put into it")))
    }

    /// Where in the row's head the events of each field are; `None` unless it has all of
    /// them.
    pub fn places(&self, row: &Row) -> Option<OfFields<usize>> {
        let view = alive_view(row, self.view, self.now_ms())?;
        let (layout, values) = (row.layout(), row.values());
        let place = |field: &&[u8]| values.events_at(layout.field(view, field)?);
        self.fields().iter().map(place).collect()
    }

    /// Has the event happen to the events of a field, by its place among the fields.
    pub fn happen(&self, number: usize, events: &mut Events) {
        let Self { at_ms, seq, .. } = *self;
        match (&self.what, events) {
            (What::Push { last, items, .. }, Events::Sequence(sequence)) => {
                sequence.push(at_ms, seq, *last, items.iter().copied());
            }
            (What::Tally { spans, amounts }, Events::Windows(windows)) => {
                let amount = amounts.get(number).map(|(_, amount)| *amount);
                let amount = amount.unwrap_or_else(|| bug("a field without an amount"));
                windows.tally(spans, amount, at_ms, seq, self.now_ms());
            }
            _ => bug("events of another kind"),
        }
    }
}
