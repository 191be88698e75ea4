//! Tensors: many values as one buffer that a client reads without parsing.

use super::number::Number;

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

    fn bytes(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::F64 | Self::I64 => size_of::<u64>(),
        }
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

    /// Appends what was read: `text`, if there was something. Without a number
    /// that the type holds, `default` stands in, then NaN; `None`, and nothing
    /// appended, when the type has no NaN.
    pub fn push(&mut self, text: Option<&[u8]>, default: Option<Number>) -> Option<()> {
        let number = text.and_then(Number::parse);
        let (written, status) = match (number.is_some_and(|number| self.write(number)), text) {
            (true, _) => (true, Status::Present),
            (false, Some(_)) => (false, Status::NotANumber),
            (false, None) => (false, Status::NotFound),
        };
        if !written && !default.is_some_and(|number| self.write(number)) {
            match self.kind {
                Type::F32 => self.data.extend(f32::NAN.to_le_bytes()),
                Type::F64 => self.data.extend(f64::NAN.to_le_bytes()),
                Type::I64 => return None,
            }
        }
        self.status.push(status as u8);
        Some(())
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

    #[test]
    fn missing_wrong_and_present_are_told_apart() {
        let mut tensor = Tensor::new(Type::F32, 5).unwrap();
        let seven = Some(Number::Integer(7));
        tensor.push(Some(b"1.5"), seven).unwrap();
        tensor.push(Some(b"abc"), seven).unwrap();
        tensor.push(Some(b"1e39"), None).unwrap();
        tensor.push(None, seven).unwrap();
        tensor.push(None, None).unwrap();
        let (data, status) = tensor.parts();
        assert_eq!(status, [1, 0, 0, 3, 3]);
        let values: Vec<_> =
            data.chunks(4).map(|chunk| f32::from_le_bytes(chunk.try_into().unwrap())).collect();
        assert_eq!(values[..2], [1.5, 7.0]);
        assert_eq!(values[3], 7.0);
        assert!(values[2].is_nan() && values[4].is_nan());
    }

    #[test]
    fn an_integer_has_no_nan() {
        let mut tensor = Tensor::new(Type::I64, 2).unwrap();
        assert_eq!(tensor.push(Some(b"1.5"), None), None);
        assert_eq!(tensor.push(None, None), None);
        assert_eq!(tensor.push(Some(b"-9223372036854775808"), None), Some(()));
        assert_eq!(tensor.push(Some(b"1.5"), Some(Number::Integer(3))), Some(()));
        let (data, status) = tensor.parts();
        assert_eq!(data, [i64::MIN.to_le_bytes(), 3i64.to_le_bytes()].concat());
        assert_eq!(status, [1, 0]);
    }

    #[test]
    fn doubles_are_the_nearest() {
        let mut tensor = Tensor::new(Type::F64, 1).unwrap();
        tensor.push(Some(b"9007199254740993"), None).unwrap();
        assert_eq!(tensor.parts().0, 9_007_199_254_740_992f64.to_le_bytes());
    }
}
