//! What was found in the place of a field.

use super::events::Events;
use super::nested::Nested;
use super::sequence::Sequence;
use super::value::Value;
use crate::bug;
use std::sync::Arc;

/// What was found in the place of a field.
#[derive(Clone, Copy, Debug)]
pub enum Found<'v> {
    /// A value.
    Value(Value<'v>),
    /// The bytes of a hash that are to be read as numbers, of 4 or 8 bytes each.
    Packed(&'v [u8]),
    /// What happened last.
    Items(Items<'v>),
    /// Values with others in them.
    Nested(&'v Arc<Nested>),
    /// Something older than the call takes it.
    TooOld,
    /// Something, but not of the form that is asked for: of another width, or
    /// without such a window.
    Misfit,
    /// Bytes that are not what the layout says they are.
    Spoilt,
    /// Nothing.
    Nothing,
}

/// The newest items of a sequence, in so many places.
#[derive(Clone, Copy, Debug)]
pub struct Items<'v> {
    events: &'v Arc<Events>,
    places: usize,
}

impl<'v> Items<'v> {
    /// The newest of a sequence, as many as it has places for.
    pub fn of(events: &'v Arc<Events>, places: usize) -> Self {
        Self { events, places }
    }

    /// The events that they are of, all of them.
    pub fn events(self) -> &'v Arc<Events> {
        self.events
    }

    /// How many places there are, with an item in each or not.
    pub fn places(self) -> usize {
        self.places
    }

    /// How many items there are for them.
    pub fn held(self) -> usize {
        self.places.min(self.sequence().len())
    }

    /// Each of them, the newest first, as often as there are places: `None` in those that
    /// are left over.
    pub fn each(self) -> impl Iterator<Item = Option<Value<'v>>> {
        let items = self.values().map(Some);
        items.chain(std::iter::repeat(None)).take(self.places)
    }

    /// The bytes of those that are as long as they may be.
    pub fn bytes(self) -> usize {
        let sequence = self.sequence();
        if self.places >= sequence.len() {
            return sequence.text_bytes();
        }
        self.values().map(|value| value.bytes().map_or(0, <[u8]>::len)).sum()
    }

    /// The items, the newest first, without the places that are left over.
    pub fn values(self) -> impl Iterator<Item = Value<'v>> {
        self.sequence().iter().map(|(_, value)| value).take(self.places)
    }

    /// The sequence that they are of.
    pub fn sequence(self) -> &'v Sequence {
        match &**self.events {
            Events::Sequence(sequence) => sequence,
            Events::Windows(_) => bug("items of no sequence"),
        }
    }
}
