//! What was read: owned, since the keys it was read from are closed again.

use super::value::Value;

/// What was found in the place of a field.
#[derive(Clone, Copy, Debug)]
pub enum Found<'v> {
    /// A value.
    Value(Value<'v>),
    /// A value older than the call takes it.
    TooOld,
    /// Nothing.
    Nothing,
}

/// Places, one after the other.
#[derive(Default)]
pub struct Cells {
    texts: Vec<u8>,
    cells: Vec<Cell>,
}

#[derive(Clone, Copy)]
enum Cell {
    Nothing,
    TooOld,
    /// From where to where in the texts.
    Text(usize, usize),
    Number(Value<'static>),
}

impl Cells {
    /// So many places with nothing in them, in place of all there were.
    pub fn reset(&mut self, places: usize) {
        self.texts.clear();
        self.cells.clear();
        self.cells.resize(places, Cell::Nothing);
    }

    /// Puts a text into a place.
    pub fn set(&mut self, place: usize, text: &[u8]) {
        let text = self.keep(text);
        if let Some(cell) = self.cells.get_mut(place) {
            *cell = text;
        }
    }

    /// Adds a place.
    pub fn push(&mut self, found: Found) {
        let cell = match found {
            Found::Nothing => Cell::Nothing,
            Found::TooOld => Cell::TooOld,
            Found::Value(Value::Text(text)) => self.keep(text),
            Found::Value(Value::Integer(integer)) => Cell::Number(Value::Integer(integer)),
            Found::Value(Value::Single(single)) => Cell::Number(Value::Single(single)),
            Found::Value(Value::Double(double)) => Cell::Number(Value::Double(double)),
        };
        self.cells.push(cell);
    }

    /// What is in a place.
    pub fn get(&self, place: usize) -> Found<'_> {
        match self.cells.get(place) {
            None | Some(Cell::Nothing) => Found::Nothing,
            Some(Cell::TooOld) => Found::TooOld,
            Some(Cell::Text(start, end)) => {
                Found::Value(Value::Text(self.texts.get(*start..*end).unwrap_or_default()))
            }
            Some(Cell::Number(value)) => Found::Value(*value),
        }
    }

    fn keep(&mut self, text: &[u8]) -> Cell {
        let start = self.texts.len();
        self.texts.extend_from_slice(text);
        Cell::Text(start, self.texts.len())
    }
}
