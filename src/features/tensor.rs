//! Tensors: many values as one buffer that a client reads without parsing.

use super::buffer::TakeText;
use super::dtype::{Dtype, Vector};
use super::found::{Found, Items};
use super::number::{read_f32, read_f64, read_i64};
use super::row::Values;
use super::value::Value;
use super::value::tag::F32;
use crate::bug;
use std::collections::HashMap;
use std::ops::Range;

/// What is known of a field's values, a byte each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// There is something, but no number that the type holds.
    NotANumber = 0,
    /// It is there.
    Present = 1,
    /// There is none.
    NotFound = 3,
    /// It is older than the call takes it.
    TooOld = 4,
    /// There is something, but not of the form that is asked for.
    Misfit = 5,
}

/// The event time of what has none.
pub const NO_TIME: i64 = -1;

/// Texts longer than this are read once an entity, however often they are asked
/// for: no program prints a number as long.
const LONG: usize = 64;

/// A tensor under construction, entity by entity.
#[derive(Debug)]
pub struct Tensor {
    dtype: Dtype,
    data: Vec<u8>,
    status: Vec<u8>,
    times: Vec<u8>,
    /// The long texts of the entity at hand, by where they stand in memory, and
    /// what was made of each.
    long: HashMap<(usize, usize), Option<Value<'static>>>,
    long_bytes: usize,
}

impl Tensor {
    /// An empty tensor with room for so many values, of so many fields, and for the event
    /// times of these if they are `timed`; `None` when there is no memory for them.
    pub fn new(dtype: Dtype, values: usize, fields: usize, timed: bool) -> Option<Self> {
        let (mut data, mut status, mut times) = (Vec::new(), Vec::new(), Vec::new());
        data.try_reserve_exact(values.checked_mul(dtype.bytes())?).ok()?;
        status.try_reserve_exact(fields).ok()?;
        if timed {
            times.try_reserve_exact(fields.checked_mul(size_of::<i64>())?).ok()?;
        }
        Some(Self { dtype, data, status, times, long: HashMap::new(), long_bytes: 0 })
    }

    /// The type of its values.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The values, and what is known of each field.
    pub fn parts(&self) -> (&[u8], &[u8]) {
        (&self.data, &self.status)
    }

    /// Whether what was appended last is of another form than was asked for.
    pub fn is_misfit(&self) -> bool {
        self.status.last() == Some(&(Status::Misfit as u8))
    }

    /// The event times.
    pub fn times(&self) -> &[u8] {
        &self.times
    }

    /// Begins the next entity.
    pub fn begin(&mut self) {
        if self.long_bytes > 0 {
            self.long.clear();
            self.long_bytes = 0;
        }
    }

    /// How many bytes of long texts were read for the entity.
    pub fn long_bytes(&self) -> usize {
        self.long_bytes
    }

    /// Appends a number, if it is one that the type holds.
    #[inline(always)]
    pub fn push_number(&mut self, value: Value) -> bool {
        let is_number = matches!(value, Value::F32(_) | Value::F64(_) | Value::I64(_));
        let written = is_number && self.write_number(value);
        if written {
            self.status.push(Status::Present as u8);
        }
        written
    }

    /// Appends what was found. Where that is no value that the type holds,
    /// `default` stands in, then NaN; `None`, and nothing appended, when the type
    /// has no NaN.
    pub fn push(&mut self, found: Found, default: Option<Value<'static>>) -> Option<()> {
        let status = match found {
            Found::Value(value) if self.write(value) => Status::Present,
            Found::Value(Value::Vector(..)) | Found::Items(_) | Found::Packed(_) => Status::Misfit,
            Found::Value(_) | Found::Spoilt => Status::NotANumber,
            Found::TooOld => Status::TooOld,
            Found::Misfit | Found::Nested(_) => Status::Misfit,
            Found::Nothing => Status::NotFound,
        };
        if status != Status::Present {
            self.write_default(default)?;
        }
        self.status.push(status as u8);
        Some(())
    }

    /// Appends what was found in a place of so many columns, as [`Self::push`] does in a
    /// place of one: what stands in for a number does so in each column without one.
    pub fn push_wide(
        &mut self,
        found: Found,
        columns: usize,
        default: Option<Value<'static>>,
    ) -> Option<()> {
        let start = self.data.len();
        let status = match found {
            Found::Value(Value::Vector(dtype, bytes)) if bytes.len() == columns * dtype.bytes() => {
                self.write_vector(Vector::new(dtype, bytes)?, default)?
            }
            Found::Packed(bytes) if bytes.len() == columns * self.dtype.bytes() => {
                self.data.extend_from_slice(bytes);
                Status::Present
            }
            Found::Value(value) if columns == 1 => return self.push(Found::Value(value), default),
            Found::Items(items) if items.places() == columns => self.write_items(items, default)?,
            Found::Value(_)
            | Found::Packed(_)
            | Found::Items(_)
            | Found::Nested(_)
            | Found::Misfit => Status::Misfit,
            Found::Spoilt => Status::NotANumber,
            Found::TooOld => Status::TooOld,
            Found::Nothing => Status::NotFound,
        };
        if self.data.len() == start {
            self.write_default(default)?;
            let written = self.data.len();
            // Twice as much each time.
            while self.data.len() < start + columns * (written - start) {
                let (held, most) = (self.data.len() - start, columns * (written - start));
                self.data.extend_from_within(start..start + held.min(most - held));
            }
        }
        self.status.push(status as u8);
        Some(())
    }

    /// Appends so many numbers, if that is what was found: a vector of the tensor's type,
    /// or items enough, none of them a text.
    #[inline]
    pub fn push_whole(&mut self, found: Found, columns: usize) -> bool {
        let written = match found {
            Found::Value(Value::Vector(dtype, bytes))
                if dtype == self.dtype && bytes.len() == columns * dtype.bytes() =>
            {
                self.data.extend_from_slice(bytes);
                true
            }
            Found::Items(items) if items.held() == columns => match self.dtype {
                Dtype::F32 => self.write_all(items, |item| item.to_f32().map(f32::to_le_bytes)),
                Dtype::F64 => self.write_all(items, |item| item.to_f64().map(f64::to_le_bytes)),
                Dtype::I64 => self.write_all(items, |item| item.to_i64().map(i64::to_le_bytes)),
            },
            _ => false,
        };
        if written {
            self.status.push(Status::Present as u8);
        }
        written
    }

    /// Appends all items, if they are numbers that the type holds.
    fn write_all<const N: usize>(
        &mut self,
        items: Items,
        number: impl Fn(Value) -> Option<[u8; N]>,
    ) -> bool {
        let start = self.data.len();
        self.data.resize(start + items.held() * N, 0);
        let cells = self.data.get_mut(start..).map(|cells| cells.as_chunks_mut().0);
        let mut cells = cells.unwrap_or_else(|| bug("a tensor that did not grow"));
        for run in items.sequence().runs() {
            let (these, others) = cells.split_at_mut(run.len().min(cells.len()));
            for (cell, item) in these.iter_mut().zip(run.iter().rev()) {
                let value = item.value();
                let is_number = matches!(value, Value::F32(_) | Value::F64(_) | Value::I64(_));
                match is_number.then(|| number(value)).flatten() {
                    Some(number) => *cell = number,
                    None => {
                        self.data.truncate(start);
                        return false;
                    }
                }
            }
            cells = others;
        }
        true
    }

    fn write_vector(&mut self, vector: Vector, default: Option<Value<'static>>) -> Option<Status> {
        if vector.dtype() == self.dtype {
            self.data.extend_from_slice(vector.bytes());
            return Some(Status::Present);
        }
        let mut status = Status::Present;
        for number in Value::each(vector) {
            if !self.write(number) {
                self.write_default(default)?;
                status = Status::NotANumber;
            }
        }
        Some(status)
    }

    fn write_items(&mut self, items: Items, default: Option<Value<'static>>) -> Option<Status> {
        let mut status = Status::Present;
        // Not by `for`, which asks of each item where in the ring it is.
        items.values().try_for_each(|item| {
            if self.write(item) {
                return Some(());
            }
            status = Status::NotANumber;
            self.write_default(default)
        })?;
        (items.held()..items.places()).try_for_each(|_| self.write_default(default))?;
        Some(status)
    }

    /// Appends what stands in for a number, or NaN; `None` when the type has none.
    #[cold]
    fn write_default(&mut self, default: Option<Value<'static>>) -> Option<()> {
        self.write(default.unwrap_or(Value::F64(f64::NAN))).then_some(())
    }

    /// Appends numbers of a row that stand one after the other, as many as the type holds
    /// and are no texts: how many.
    pub fn push_numbers(&mut self, values: &Values, fields: Range<usize>) -> usize {
        match values {
            Values::F32(slots) if self.dtype == Dtype::F32 => {
                let slots = slots.get(fields).unwrap_or_else(|| bug("fields that no row has"));
                self.push_f32s(slots);
                return slots.len();
            }
            Values::Small { types, slots, .. } if self.dtype == Dtype::F32 => {
                let all = types.get(fields.clone()).zip(slots.get(fields.clone()));
                let (types, slots) = all.unwrap_or_else(|| bug("fields that no row has"));
                let singles = match types.iter().fold(true, |all, kind| all & (*kind == F32)) {
                    true => types.len(),
                    false => types.iter().take_while(|kind| **kind == F32).count(),
                };
                if singles > 0 {
                    self.push_f32s(slots.get(..singles).unwrap_or_default());
                    return singles;
                }
            }
            _ => {}
        }
        fields.take_while(|field| self.push_number(values.get(*field))).count()
    }

    /// Appends an event time.
    pub fn push_time(&mut self, at_ms: i64) {
        self.times.extend(at_ms.to_le_bytes());
    }

    /// Appends a row of F32 to a tensor of F32.
    #[inline]
    pub fn push_f32s(&mut self, values: &[[u8; 4]]) {
        debug_assert_eq!(self.dtype, Dtype::F32);
        self.data.extend_from_slice(values.as_flattened());
        self.are_present(values.len());
    }

    /// Appends a row of F32 to a tensor of F32: for each place of `columns` the
    /// slot that it names.
    pub fn gather_f32s(&mut self, slots: &[[u8; 4]], columns: &[u32]) {
        debug_assert_eq!(self.dtype, Dtype::F32);
        let start = self.data.len();
        self.data.resize(start + size_of_val(columns), 0);
        let row = self.data.get_mut(start..).unwrap_or_else(|| bug("a tensor that did not grow"));
        for (value, column) in row.as_chunks_mut().0.iter_mut().zip(columns) {
            let slot = slots.get(*column as usize);
            *value = *slot.unwrap_or_else(|| bug("a column that the row has not"));
        }
        self.are_present(columns.len());
    }

    /// Appends a row of so many values, of which none is there yet, for texts of at
    /// most so many bytes together.
    pub fn append_row(&mut self, values: usize, most: usize) -> TensorRow<'_> {
        let (data, status) = (self.data.len(), self.status.len());
        self.data.resize(data + values * self.dtype.bytes(), 0);
        self.status.resize(status + values, Status::NotFound as u8);
        let row = self.data.get_mut(data..).zip(self.status.get_mut(status..));
        let (data, status) = row.unwrap_or_else(|| bug("a tensor that did not grow"));
        TensorRow { dtype: self.dtype, data, status, left: most }
    }

    /// Appends the entity of a number once more; each has so many values, of so many
    /// fields.
    pub fn repeat(&mut self, number: usize, values: usize, fields: usize) {
        let again = |all: &mut Vec<u8>, size: usize| {
            all.extend_from_within(number * size..(number + 1) * size);
        };
        again(&mut self.data, values * self.dtype.bytes());
        again(&mut self.status, fields);
        if !self.times.is_empty() {
            again(&mut self.times, fields * size_of::<i64>());
        }
    }

    fn are_present(&mut self, values: usize) {
        self.status.resize(self.status.len() + values, Status::Present as u8);
    }

    /// Appends a value, if the type holds it.
    #[inline]
    fn write(&mut self, value: Value) -> bool {
        match value {
            Value::Text(text) | Value::String(text) => self.write_text(text),
            value => self.write_number(value),
        }
    }

    #[inline(never)]
    fn write_text(&mut self, text: &[u8]) -> bool {
        let number = match text.len() {
            ..=LONG => Value::Text(text).to(self.dtype),
            _ => self.read_long(text),
        };
        number.is_some_and(|number| self.write_number(number))
    }

    #[inline(always)]
    fn write_number(&mut self, value: Value) -> bool {
        match self.dtype {
            Dtype::F32 => value.to_f32().map(|single| self.append(single.to_le_bytes())),
            Dtype::F64 => value.to_f64().map(|double| self.append(double.to_le_bytes())),
            Dtype::I64 => value.to_i64().map(|integer| self.append(integer.to_le_bytes())),
        }
        .is_some()
    }

    #[inline]
    fn append<const N: usize>(&mut self, bytes: [u8; N]) {
        self.data.extend_from_slice(&bytes);
    }

    #[cold]
    fn read_long(&mut self, text: &[u8]) -> Option<Value<'static>> {
        let place = (text.as_ptr().addr(), text.len());
        let (dtype, long_bytes) = (self.dtype, &mut self.long_bytes);
        *self.long.entry(place).or_insert_with(|| {
            *long_bytes += text.len();
            Value::Text(text).to(dtype)
        })
    }
}

/// A row of a tensor that texts are written to as numbers, in whatever order they
/// come.
pub struct TensorRow<'t> {
    dtype: Dtype,
    data: &'t mut [u8],
    status: &'t mut [u8],
    /// How many bytes of texts it still takes.
    left: usize,
}

impl TakeText for TensorRow<'_> {
    #[inline]
    fn take(
        &mut self,
        place: usize,
        others: impl Iterator<Item = usize>,
        text: &[u8],
    ) -> Option<()> {
        self.left = self.left.checked_sub(text.len())?;
        match self.dtype {
            Dtype::F32 => self.set(place, others, read_f32(text).map(f32::to_le_bytes)),
            Dtype::F64 => self.set(place, others, read_f64(text).map(f64::to_le_bytes)),
            Dtype::I64 => self.set(place, others, read_i64(text).map(i64::to_le_bytes)),
        }
        Some(())
    }

    fn has(&self, place: usize) -> bool {
        self.status.get(place) != Some(&(Status::NotFound as u8))
    }
}

impl TensorRow<'_> {
    /// The type of its values.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Whether all values are there.
    pub fn is_whole(&self) -> bool {
        self.status.iter().all(|status| *status == Status::Present as u8)
    }

    /// Has `default` stand in for a value that is not there, or else NaN; `None` when
    /// the type has no NaN.
    pub fn fill_in(&mut self, place: usize, default: Option<Value<'static>>) -> Option<()> {
        if *self.status_mut(place) == Status::Present as u8 {
            return Some(());
        }
        let number = default.unwrap_or(Value::F64(f64::NAN));
        match self.dtype {
            Dtype::F32 => self.write(place, number.to_f32()?.to_le_bytes()),
            Dtype::F64 => self.write(place, number.to_f64()?.to_le_bytes()),
            Dtype::I64 => self.write(place, number.to_i64()?.to_le_bytes()),
        }
        Some(())
    }

    /// Sets places to the bytes of a number, or to what is none.
    #[inline]
    fn set<const N: usize>(
        &mut self,
        place: usize,
        others: impl Iterator<Item = usize>,
        number: Option<[u8; N]>,
    ) {
        let status = if number.is_some() { Status::Present } else { Status::NotANumber };
        let mut set = |place: usize| {
            *self.status_mut(place) = status as u8;
            if let Some(number) = number {
                self.write(place, number);
            }
        };
        set(place);
        others.for_each(set);
    }

    fn status_mut(&mut self, place: usize) -> &mut u8 {
        self.status.get_mut(place).unwrap_or_else(|| bug("a value for no place"))
    }

    #[inline]
    fn write<const N: usize>(&mut self, place: usize, number: [u8; N]) {
        let bytes = self.data.as_chunks_mut().0.get_mut(place);
        *bytes.unwrap_or_else(|| bug("a value for no place")) = number;
    }
}

#[cfg(test)]
mod tests {
    use super::super::events::Events;
    use super::super::sequence::Sequence;
    use super::*;
    use std::iter::empty;
    use std::sync::Arc;

    fn text(text: &str) -> Found<'_> {
        Found::Value(Value::Text(text.as_bytes()))
    }

    fn f32s(tensor: &Tensor) -> Vec<f32> {
        let chunks = tensor.parts().0.as_chunks().0.iter();
        chunks.map(|chunk| f32::from_le_bytes(*chunk)).collect()
    }

    #[test]
    fn missing_wrong_old_and_present_are_told_apart() {
        let mut tensor = Tensor::new(Dtype::F32, 7, 7, false).unwrap();
        let seven = Some(Value::I64(7));
        tensor.push(text("1.5"), seven).unwrap();
        tensor.push(text("abc"), seven).unwrap();
        tensor.push(text("1e39"), None).unwrap();
        tensor.push(Found::Nothing, seven).unwrap();
        tensor.push(Found::Nothing, None).unwrap();
        tensor.push(Found::TooOld, seven).unwrap();
        tensor.push(Found::TooOld, None).unwrap();
        assert_eq!(tensor.parts().1, [1, 0, 0, 3, 3, 4, 4]);
        let values = f32s(&tensor);
        assert_eq!([values[0], values[1], values[3], values[5]], [1.5, 7.0, 7.0, 7.0]);
        assert!(values[2].is_nan() && values[4].is_nan() && values[6].is_nan());
    }

    #[test]
    fn nan_and_the_infinities_are_present_in_floats_and_no_integers() {
        let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        for kind in [Dtype::F32, Dtype::F64, Dtype::I64] {
            let mut tensor = Tensor::new(kind, 6, 6, false).unwrap();
            for value in values {
                tensor.push(Found::Value(Value::F64(value)), Some(Value::I64(1))).unwrap();
                let single = Value::F32(value as f32);
                tensor.push(Found::Value(single), Some(Value::I64(1))).unwrap();
            }
            let status = if kind == Dtype::I64 { 0 } else { 1 };
            assert_eq!(tensor.parts().1, [status; 6]);
            if kind == Dtype::F32 {
                let values = f32s(&tensor);
                assert!(values[0].is_nan() && values[1].is_nan());
                assert_eq!(
                    values[2..],
                    [f32::INFINITY, f32::INFINITY, -f32::INFINITY, -f32::INFINITY]
                );
            }
        }
    }

    #[test]
    fn a_double_beyond_the_range_of_singles_is_no_single() {
        let mut tensor = Tensor::new(Dtype::F32, 2, 2, false).unwrap();
        tensor.push(Found::Value(Value::F64(1e39)), None).unwrap();
        tensor.push(Found::Value(Value::F64(0.1)), None).unwrap();
        assert_eq!(tensor.parts().1, [0, 1]);
        assert_eq!(f32s(&tensor)[1], 0.1);
    }

    #[test]
    fn an_integer_has_no_nan() {
        let mut tensor = Tensor::new(Dtype::I64, 2, 2, false).unwrap();
        assert_eq!(tensor.push(text("1.5"), None), None);
        assert_eq!(tensor.push(Found::Nothing, None), None);
        assert_eq!(tensor.push(text("-9223372036854775808"), None), Some(()));
        assert_eq!(tensor.push(text("1.5"), Some(Value::I64(3))), Some(()));
        let (data, status) = tensor.parts();
        assert_eq!(data, [i64::MIN.to_le_bytes(), 3i64.to_le_bytes()].concat());
        assert_eq!(status, [1, 0]);
    }

    /// By a text that changed in the meantime: what is remembered is what was read.
    #[test]
    fn a_long_text_is_read_once_an_entity() {
        let mut digits = [b'0'; 1_000];
        digits[999] = b'7';
        let mut tensor = Tensor::new(Dtype::F64, 4, 4, false).unwrap();
        tensor.begin();
        tensor.push(Found::Value(Value::Text(&digits)), None).unwrap();
        digits[999] = b'8';
        tensor.push(Found::Value(Value::Text(&digits)), None).unwrap();
        assert_eq!(tensor.long_bytes(), 1_000);
        tensor.begin();
        tensor.push(Found::Value(Value::Text(&digits)), None).unwrap();
        assert_eq!(tensor.long_bytes(), 1_000);
        let expected = [7f64, 7.0, 8.0].map(f64::to_le_bytes);
        assert_eq!(tensor.parts(), (expected.as_flattened(), &[1u8; 3][..]));
    }

    #[test]
    fn an_entity_is_repeated_with_all_that_is_known_of_it() {
        let mut tensor = Tensor::new(Dtype::I64, 6, 6, true).unwrap();
        for (number, at_ms) in [(1, 10), (2, NO_TIME), (3, 30), (4, 40)] {
            tensor.push(Found::Nothing, Some(Value::I64(number))).unwrap();
            tensor.push_time(at_ms);
        }
        tensor.repeat(0, 2, 2);
        let numbers = |bytes: &[u8]| -> Vec<i64> {
            bytes.as_chunks().0.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
        };
        assert_eq!(numbers(tensor.parts().0), [1, 2, 3, 4, 1, 2]);
        assert_eq!(numbers(tensor.times()), [10, -1, 30, 40, 10, -1]);
        assert_eq!(tensor.parts().1, [3; 6]);
    }

    #[test]
    fn texts_are_written_to_their_places_in_a_row() {
        for kind in [Dtype::F32, Dtype::F64, Dtype::I64] {
            let mut tensor = Tensor::new(kind, 6, 6, false).unwrap();
            tensor.push(text("5"), None).unwrap();
            let mut row = tensor.append_row(5, 6);
            assert_eq!(row.take(4, [1].into_iter(), b"12"), Some(()));
            assert_eq!(row.take(0, empty(), b"abc"), Some(()));
            assert_eq!(row.take(2, empty(), b"34"), None, "7 bytes");
            assert_eq!(row.take(2, empty(), b"3"), Some(()));
            assert_eq!(
                [0, 1, 2, 3, 4].map(|place| row.has(place)),
                [true, true, true, false, true]
            );
            assert!(!row.is_whole());
            let no_nan = (kind == Dtype::I64).then_some(());
            assert_eq!(row.fill_in(0, None).xor(Some(())), no_nan);
            for (place, default) in [(0, 8), (1, 9), (3, 7)] {
                assert_eq!(row.fill_in(place, Some(Value::I64(default))), Some(()));
            }
            let numbers = [5, 8, 12, 3, 7, 12].map(|number| Value::I64(number).to(kind));
            let (data, status) = tensor.parts();
            assert_eq!(status, [1, 0, 1, 1, 3, 1]);
            assert!(data.chunks(kind.bytes()).map(|bytes| Value::read(kind, bytes)).eq(numbers));
            let mut row = tensor.append_row(1, 1);
            assert_eq!(row.take(0, empty(), b"1"), Some(()));
            assert!(row.is_whole());
        }
    }

    #[test]
    fn a_place_that_a_row_has_not_is_loud() {
        std::panic::catch_unwind(|| {
            let mut tensor = Tensor::new(Dtype::F32, 2, 2, false).unwrap();
            tensor.append_row(1, 1).take(1, empty(), b"1")
        })
        .unwrap_err();
    }

    #[test]
    fn a_column_that_is_not_there_is_loud() {
        let slots = [[0; 4]; 2];
        std::panic::catch_unwind(|| {
            Tensor::new(Dtype::F32, 1, 1, false).unwrap().gather_f32s(&slots, &[2]);
        })
        .unwrap_err();
    }

    #[test]
    fn what_is_as_it_is_asked_for_is_written_as_all_else() {
        let mut sequence = Sequence::default();
        // More than are kept: the ring begins anew within it.
        for at_ms in 0..30u16 {
            let item = Value::F32(f32::from(at_ms) / 8.0);
            sequence.push(at_ms.into(), None, 20, [item].into_iter());
        }
        let events = Arc::new(Events::Sequence(sequence));
        let vector = Value::Vector(Dtype::F64, &[7; 56]);
        for kind in [Dtype::F32, Dtype::F64, Dtype::I64] {
            for columns in [1, 7, 20, 21] {
                let vector = Found::Value(vector);
                for (found, is_whole) in [
                    (Found::Items(Items::of(&events, columns)), columns < 21 && kind != Dtype::I64),
                    (vector, columns == 7 && kind == Dtype::F64),
                ] {
                    let [mut at_once, mut any] =
                        [(); 2].map(|()| Tensor::new(kind, columns, 1, false).unwrap());
                    assert_eq!(at_once.push_whole(found, columns), is_whole);
                    if is_whole {
                        any.push_wide(found, columns, None).unwrap();
                    }
                    assert_eq!(at_once.parts(), any.parts());
                }
            }
        }
    }

    #[test]
    fn doubles_are_the_nearest() {
        let mut tensor = Tensor::new(Dtype::F64, 1, 1, false).unwrap();
        tensor.push(text("9007199254740993"), None).unwrap();
        assert_eq!(tensor.parts().0, 9_007_199_254_740_992f64.to_le_bytes());
    }

    #[test]
    fn singles_are_gathered_in_the_order_asked_for() {
        let slots = [1.0f32, 2.0, f32::NAN].map(f32::to_le_bytes);
        let mut tensor = Tensor::new(Dtype::F32, 4, 4, false).unwrap();
        tensor.gather_f32s(&slots, &[2, 0, 1, 0]);
        tensor.push_f32s(&slots[..2]);
        let values = f32s(&tensor);
        assert!(values[0].is_nan());
        assert_eq!(values[1..], [1.0, 2.0, 1.0, 1.0, 2.0]);
        assert_eq!(tensor.parts().1, [1; 6]);
    }
}
