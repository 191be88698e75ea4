//! Tensors: many values as one buffer that a client reads without parsing.

use super::cells::Found;
use super::number::Number;
use super::value::Value;

/// The type of a tensor's values, all little-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Type {
    /// 32-bit IEEE 754.
    #[default]
    F32,
    /// 64-bit IEEE 754.
    F64,
    /// 64-bit two's complement.
    I64,
}

impl Type {
    /// All of them, by the names that clients write.
    pub const NAMES: [&str; 3] = ["F32", "F64", "I64"];

    /// The one at a place of [`Self::NAMES`].
    pub fn at(place: usize) -> Self {
        match place {
            0 => Self::F32,
            1 => Self::F64,
            _ => Self::I64,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F64 => "F64",
            Self::I64 => "I64",
        }
    }

    /// How many bytes a value takes.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::F64 | Self::I64 => size_of::<u64>(),
        }
    }
}

impl Type {
    /// The value that bytes begin with; `None` when they are too few.
    pub fn read(self, bytes: &[u8]) -> Option<Value<'static>> {
        Some(match self {
            Self::F32 => Value::Single(f32::from_le_bytes(*bytes.first_chunk()?)),
            Self::F64 => Value::Double(f64::from_le_bytes(*bytes.first_chunk()?)),
            Self::I64 => Value::Integer(i64::from_le_bytes(*bytes.first_chunk()?)),
        })
    }
}

/// What is known of a value, a byte each.
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
}

/// A tensor under construction, row by row.
#[derive(Debug)]
pub struct Tensor {
    kind: Type,
    data: Vec<u8>,
    status: Vec<u8>,
}

impl Tensor {
    /// An empty tensor with room for so many values; `None` when there is no
    /// memory for them.
    pub fn new(kind: Type, values: usize) -> Option<Self> {
        let (mut data, mut status) = (Vec::new(), Vec::new());
        data.try_reserve_exact(values.checked_mul(kind.bytes())?).ok()?;
        status.try_reserve_exact(values).ok()?;
        Some(Self { kind, data, status })
    }

    /// The values, and what is known of each.
    pub fn parts(&self) -> (&[u8], &[u8]) {
        (&self.data, &self.status)
    }

    /// Appends what was found. Where that is no value that the type holds,
    /// `default` stands in, then NaN; `None`, and nothing appended, when the type
    /// has no NaN.
    pub fn push(&mut self, found: Found, default: Option<Number>) -> Option<()> {
        let status = match found {
            Found::Value(value) if self.write_value(value) => Status::Present,
            Found::Value(_) => Status::NotANumber,
            Found::TooOld => Status::TooOld,
            Found::Nothing => Status::NotFound,
        };
        let written = status == Status::Present;
        if !written && !default.is_some_and(|number| self.write(number)) {
            self.write_not_finite(f64::NAN).then_some(())?;
        }
        self.status.push(status as u8);
        Some(())
    }

    /// Appends a row of singles to a tensor of singles.
    pub fn push_singles(&mut self, singles: &[[u8; 4]]) {
        debug_assert_eq!(self.kind, Type::F32);
        self.data.extend_from_slice(singles.as_flattened());
        self.are_present(singles.len());
    }

    /// Appends a row of singles to a tensor of singles: for each place of
    /// `columns` the slot that it names.
    pub fn gather_singles(&mut self, slots: &[[u8; 4]], columns: &[u32]) {
        debug_assert_eq!(self.kind, Type::F32);
        let start = self.data.len();
        self.data.resize(start + size_of_val(columns), 0);
        let row = self.data.get_mut(start..).unwrap_or_default().as_chunks_mut().0;
        for (value, column) in row.iter_mut().zip(columns) {
            *value = slots.get(*column as usize).copied().unwrap_or_default();
        }
        self.are_present(columns.len());
    }

    fn are_present(&mut self, values: usize) {
        self.status.resize(self.status.len() + values, Status::Present as u8);
    }

    fn write_value(&mut self, value: Value) -> bool {
        match value {
            Value::Integer(integer) => self.write(Number::Integer(integer)),
            Value::Text(text) if self.kind == Type::F32 => match Number::parse_single(text) {
                Some(single) => self.write_value(Value::Single(single)),
                None => false,
            },
            Value::Text(text) => Number::parse(text).is_some_and(|number| self.write(number)),
            Value::Single(single) if self.kind == Type::F32 => {
                self.data.extend(single.to_le_bytes());
                true
            }
            Value::Single(single) => self.write_double(single.into()),
            Value::Double(double) => self.write_double(double),
        }
    }

    fn write_double(&mut self, double: f64) -> bool {
        match double.is_finite() {
            true => self.write(Number::Double(double)),
            false => self.write_not_finite(double),
        }
    }

    fn write_not_finite(&mut self, double: f64) -> bool {
        match self.kind {
            Type::F32 => self.data.extend((double as f32).to_le_bytes()),
            Type::F64 => self.data.extend(double.to_le_bytes()),
            Type::I64 => return false,
        }
        true
    }

    fn write(&mut self, number: Number) -> bool {
        match self.kind {
            Type::F32 => match number.to_f32() {
                Some(single) => self.data.extend(single.to_le_bytes()),
                None => return false,
            },
            Type::F64 => self.data.extend(number.to_f64().to_le_bytes()),
            Type::I64 => match number.to_i64() {
                Some(integer) => self.data.extend(integer.to_le_bytes()),
                None => return false,
            },
        }
        true
    }
}

/// Whether a tensor of the type holds a number.
pub fn holds(kind: Type, number: Number) -> bool {
    match kind {
        Type::F32 => number.to_f32().is_some(),
        Type::F64 => true,
        Type::I64 => number.to_i64().is_some(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Found<'_> {
        Found::Value(Value::Text(text.as_bytes()))
    }

    fn singles(tensor: &Tensor) -> Vec<f32> {
        let chunks = tensor.parts().0.as_chunks().0.iter();
        chunks.map(|chunk| f32::from_le_bytes(*chunk)).collect()
    }

    #[test]
    fn missing_wrong_old_and_present_are_told_apart() {
        let mut tensor = Tensor::new(Type::F32, 7).unwrap();
        let seven = Some(Number::Integer(7));
        tensor.push(text("1.5"), seven).unwrap();
        tensor.push(text("abc"), seven).unwrap();
        tensor.push(text("1e39"), None).unwrap();
        tensor.push(Found::Nothing, seven).unwrap();
        tensor.push(Found::Nothing, None).unwrap();
        tensor.push(Found::TooOld, seven).unwrap();
        tensor.push(Found::TooOld, None).unwrap();
        assert_eq!(tensor.parts().1, [1, 0, 0, 3, 3, 4, 4]);
        let values = singles(&tensor);
        assert_eq!([values[0], values[1], values[3], values[5]], [1.5, 7.0, 7.0, 7.0]);
        assert!(values[2].is_nan() && values[4].is_nan() && values[6].is_nan());
    }

    #[test]
    fn nan_and_the_infinities_are_present_in_floats_and_no_integers() {
        let values = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        for kind in [Type::F32, Type::F64, Type::I64] {
            let mut tensor = Tensor::new(kind, 6).unwrap();
            for value in values {
                tensor.push(Found::Value(Value::Double(value)), Some(Number::Integer(1))).unwrap();
                let single = Value::Single(value as f32);
                tensor.push(Found::Value(single), Some(Number::Integer(1))).unwrap();
            }
            let status = if kind == Type::I64 { 0 } else { 1 };
            assert_eq!(tensor.parts().1, [status; 6]);
            if kind == Type::F32 {
                let values = singles(&tensor);
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
        let mut tensor = Tensor::new(Type::F32, 2).unwrap();
        tensor.push(Found::Value(Value::Double(1e39)), None).unwrap();
        tensor.push(Found::Value(Value::Double(0.1)), None).unwrap();
        assert_eq!(tensor.parts().1, [0, 1]);
        assert_eq!(singles(&tensor)[1], 0.1);
    }

    #[test]
    fn an_integer_has_no_nan() {
        let mut tensor = Tensor::new(Type::I64, 2).unwrap();
        assert_eq!(tensor.push(text("1.5"), None), None);
        assert_eq!(tensor.push(Found::Nothing, None), None);
        assert_eq!(tensor.push(text("-9223372036854775808"), None), Some(()));
        assert_eq!(tensor.push(text("1.5"), Some(Number::Integer(3))), Some(()));
        let (data, status) = tensor.parts();
        assert_eq!(data, [i64::MIN.to_le_bytes(), 3i64.to_le_bytes()].concat());
        assert_eq!(status, [1, 0]);
    }

    #[test]
    fn doubles_are_the_nearest() {
        let mut tensor = Tensor::new(Type::F64, 1).unwrap();
        tensor.push(text("9007199254740993"), None).unwrap();
        assert_eq!(tensor.parts().0, 9_007_199_254_740_992f64.to_le_bytes());
    }

    #[test]
    fn singles_are_gathered_in_the_order_asked_for() {
        let slots = [1.0f32, 2.0, f32::NAN].map(f32::to_le_bytes);
        let mut tensor = Tensor::new(Type::F32, 4).unwrap();
        tensor.gather_singles(&slots, &[2, 0, 1, 0]);
        tensor.push_singles(&slots[..2]);
        let values = singles(&tensor);
        assert!(values[0].is_nan());
        assert_eq!(values[1..], [1.0, 2.0, 1.0, 1.0, 2.0]);
        assert_eq!(tensor.parts().1, [1; 6]);
    }
}
