//! What was read: owned, since the keys that it was read from are closed again.

use super::dtype::Dtype;
use super::events::Events;
use super::found::{Found, Items};
use super::nested::Nested;
use super::value::Value;
use crate::bug;
use std::collections::HashMap;
use std::sync::Arc;

/// What takes the texts of an entity as they come, for the places of the fields in
/// the call.
pub trait TakeText {
    /// Takes a text for a place, and for others that ask for the same field. `None`,
    /// and nothing taken, where all texts would be longer together than they may.
    fn take(
        &mut self,
        place: usize,
        others: impl Iterator<Item = usize>,
        text: &[u8],
    ) -> Option<()>;

    /// Whether a text was taken for a place.
    fn has(&self, place: usize) -> bool;
}

/// A buffer of values: places, one after the other.
pub struct ValueBuffer {
    texts: Vec<u8>,
    /// As many bytes as there will be at most, if that is known.
    most: usize,
    places: Vec<Place>,
    /// The events that items are of, which are shared with the rows.
    events: Vec<Arc<Events>>,
    nested: Vec<Arc<Nested>>,
    /// How many bytes these are reckoned to take, as far as they were put here.
    nested_bytes: usize,
    /// Where the long texts of the entity at hand are kept, by where they stand in
    /// memory.
    long: HashMap<(usize, usize), (usize, usize)>,
}

/// Texts longer than this are kept once an entity, however often they are asked for.
const LONG: usize = 4096;

#[derive(Clone, Copy)]
enum Place {
    Nothing,
    TooOld,
    Misfit,
    Spoilt,
    /// From where to where in the texts.
    Text(usize, usize),
    /// The same, of a string.
    String(usize, usize),
    /// The same, of a vector.
    Vector(Dtype, usize, usize),
    /// Which of the events, and in how many places.
    Items(usize, usize),
    /// Which of the nested values.
    Nested(usize),
    Number(Value<'static>),
}

impl ValueBuffer {
    /// An empty one, for texts of at most so many bytes together.
    pub fn new(most: usize) -> Self {
        Self {
            texts: Vec::new(),
            most,
            places: Vec::new(),
            events: Vec::new(),
            nested: Vec::new(),
            nested_bytes: 0,
            long: HashMap::new(),
        }
    }

    /// So many places with nothing in them, instead of all there were.
    pub fn reset(&mut self, places: usize) {
        self.texts.clear();
        self.nested.clear();
        self.nested_bytes = 0;
        self.places.clear();
        self.places.resize(places, Place::Nothing);
    }

    fn place_mut(&mut self, place: usize) -> &mut Place {
        self.places.get_mut(place).unwrap_or_else(|| bug("a value for no place"))
    }

    /// Begins the next entity.
    pub fn begin(&mut self) {
        if !self.long.is_empty() {
            self.long.clear();
        }
    }

    /// Adds a place.
    #[inline]
    pub fn push(&mut self, found: Found) {
        let place = self.place_of(found);
        self.places.push(place);
    }

    /// Puts what was found into a place, and into others that ask for the same. `None`, and
    /// nothing put, where all would take more together than they may.
    pub fn put(
        &mut self,
        place: usize,
        others: impl Iterator<Item = usize>,
        found: Found,
    ) -> Option<()> {
        let nested = if let Found::Nested(nested) = found { nested.bytes() } else { 0 };
        let text = if let Found::Value(value) = found { value.bytes() } else { None };
        let kept = self.texts.len() + self.nested_bytes;
        let left = self.most.saturating_sub(kept);
        if nested + text.map_or(0, <[u8]>::len) > left {
            return None;
        }
        self.nested_bytes += nested;
        // What stood there in memory may be gone.
        self.begin();
        let kept = self.place_of(found);
        *self.place_mut(place) = kept;
        others.for_each(|place| *self.place_mut(place) = kept);
        Some(())
    }

    /// Where each value that is read comes by.
    #[inline(always)]
    fn place_of(&mut self, found: Found) -> Place {
        match found {
            Found::Nothing => Place::Nothing,
            Found::TooOld => Place::TooOld,
            Found::Value(Value::Text(text)) => {
                let (start, end) = self.keep_once(text);
                Place::Text(start, end)
            }
            Found::Value(Value::String(text)) => {
                let (start, end) = self.keep_once(text);
                Place::String(start, end)
            }
            Found::Value(Value::I64(integer)) => Place::Number(Value::I64(integer)),
            Found::Value(Value::F32(single)) => Place::Number(Value::F32(single)),
            Found::Value(Value::F64(double)) => Place::Number(Value::F64(double)),
            found => self.place_of_many(found),
        }
    }

    /// The place of more than one value.
    #[inline(never)]
    fn place_of_many(&mut self, found: Found) -> Place {
        match found {
            Found::Misfit => Place::Misfit,
            Found::Spoilt => Place::Spoilt,
            Found::Nested(nested) => {
                self.nested.push(Arc::clone(nested));
                Place::Nested(self.nested.len() - 1)
            }
            Found::Items(items) => {
                self.events.push(Arc::clone(items.events()));
                Place::Items(self.events.len() - 1, items.places())
            }
            Found::Packed(bytes) => {
                let (start, end) = self.keep_once(bytes);
                Place::Text(start, end)
            }
            Found::Value(Value::Vector(dtype, bytes)) => {
                let (start, end) = self.keep_once(bytes);
                Place::Vector(dtype, start, end)
            }
            _ => bug("a place of something else"),
        }
    }

    #[inline]
    fn keep_once(&mut self, text: &[u8]) -> (usize, usize) {
        match text.len() {
            ..=LONG => keep(&mut self.texts, text, self.most),
            _ => self.keep_long(text),
        }
    }

    #[cold]
    fn keep_long(&mut self, text: &[u8]) -> (usize, usize) {
        let (texts, most) = (&mut self.texts, self.most);
        let place = (text.as_ptr().addr(), text.len());
        *self.long.entry(place).or_insert_with(|| keep(texts, text, most))
    }

    /// What is in a place.
    #[inline]
    pub fn get(&self, place: usize) -> Found<'_> {
        match self.places.get(place) {
            Some(Place::Nothing) => Found::Nothing,
            Some(Place::TooOld) => Found::TooOld,
            Some(Place::Text(start, end)) => Found::Value(Value::Text(self.text(*start, *end))),
            Some(Place::String(start, end)) => Found::Value(Value::String(self.text(*start, *end))),
            Some(Place::Number(value)) => Found::Value(*value),
            Some(place) => self.of_many(*place),
            None => bug("a place that the buffer has not"),
        }
    }

    /// What is in a place of more than one value.
    #[inline(never)]
    fn of_many(&self, place: Place) -> Found<'_> {
        match place {
            Place::Misfit => Found::Misfit,
            Place::Spoilt => Found::Spoilt,
            Place::Nested(number) => {
                let nested = self.nested.get(number);
                Found::Nested(nested.unwrap_or_else(|| bug("a nested value that is not kept")))
            }
            Place::Vector(dtype, start, end) => {
                Found::Value(Value::Vector(dtype, self.text(start, end)))
            }
            Place::Items(number, places) => {
                let events = self.events.get(number);
                let events = events.unwrap_or_else(|| bug("items of events that are not kept"));
                Found::Items(Items::of(events, places))
            }
            _ => bug("a place of something else"),
        }
    }

    /// How many bytes all texts take together at most.
    pub fn most(&self) -> usize {
        self.most
    }

    /// How many bytes the texts take.
    pub fn text_bytes(&self) -> usize {
        self.texts.len()
    }

    fn text(&self, start: usize, end: usize) -> &[u8] {
        self.texts.get(start..end).unwrap_or_else(|| bug("a text outside the texts"))
    }
}

impl TakeText for ValueBuffer {
    #[inline]
    fn take(
        &mut self,
        place: usize,
        others: impl Iterator<Item = usize>,
        text: &[u8],
    ) -> Option<()> {
        if text.len() > self.most.saturating_sub(self.texts.len()) {
            return None;
        }
        let (start, end) = keep(&mut self.texts, text, self.most);
        let kept = Place::Text(start, end);
        *self.place_mut(place) = kept;
        others.for_each(|place| *self.place_mut(place) = kept);
        Some(())
    }

    fn has(&self, place: usize) -> bool {
        !matches!(self.places.get(place), Some(Place::Nothing))
    }
}

/// Appends a text; where it stands.
#[inline]
fn keep(texts: &mut Vec<u8>, text: &[u8], most: usize) -> (usize, usize) {
    let start = texts.len();
    if text.len() > texts.capacity() - start {
        make_room(texts, text.len(), most);
    }
    texts.extend_from_slice(text);
    (start, texts.len())
}

/// Makes room for so many bytes more, twice as much each time as there was, but no
/// more than there will be at most.
#[cold]
pub fn make_room(bytes: &mut Vec<u8>, more: usize, most: usize) {
    let needed = bytes.len().saturating_add(more);
    if needed > bytes.capacity() {
        let room = bytes.capacity().saturating_mul(2).min(most).max(needed);
        bytes.reserve_exact(room - bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::iter::{empty, once};

    #[test]
    fn what_is_put_into_a_place_is_there_and_kept_once() {
        let mut buffer = ValueBuffer::new(usize::MAX);
        buffer.reset(3);
        buffer.take(2, once(0), b"both").unwrap();
        assert!(matches!(buffer.get(0), Found::Value(Value::Text(b"both"))));
        assert!(matches!(buffer.get(1), Found::Nothing));
        assert!(matches!(buffer.get(2), Found::Value(Value::Text(b"both"))));
        assert_eq!(buffer.texts, b"both");
        buffer.push(Found::Value(Value::String(b"s")));
        buffer.push(Found::TooOld);
        assert!(matches!(buffer.get(3), Found::Value(Value::String(b"s"))));
        assert!(matches!(buffer.get(4), Found::TooOld));
        std::panic::catch_unwind(|| buffer.get(5).is_none()).unwrap_err();
        let long = vec![b'x'; LONG + 1];
        buffer.begin();
        (0..9).for_each(|_| buffer.push(Found::Value(Value::Text(&long))));
        assert_eq!(buffer.text_bytes(), 5 + long.len());
        assert!(matches!(buffer.get(13), Found::Value(Value::Text(text)) if text == long));
    }

    #[test]
    fn texts_take_no_more_than_they_may() {
        let mut buffer = ValueBuffer::new(6);
        for _ in 0..2 {
            buffer.reset(3);
            assert_eq!(buffer.take(0, once(1), b"1234"), Some(()));
            assert_eq!(buffer.take(2, empty(), b"567"), None);
            assert!(matches!(buffer.get(2), Found::Nothing));
            assert_eq!(buffer.take(2, empty(), b"56"), Some(()));
            assert!(buffer.texts.capacity() <= 6);
        }
    }

    impl Found<'_> {
        fn is_none(&self) -> bool {
            matches!(self, Self::Nothing)
        }
    }
}
