//! Types of numbers, and vectors of them: as they lie in tensors and in rows.

/// A type of numbers, all little-endian.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit IEEE 754.
    #[default]
    F32,
    /// 64-bit IEEE 754.
    F64,
    /// 64-bit two's complement.
    I64,
}

impl Dtype {
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

    /// How many bytes a number takes.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => size_of::<f32>(),
            Self::F64 | Self::I64 => size_of::<u64>(),
        }
    }
}

/// A vector: numbers of one type, one after the other. An embedding is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vector<'a> {
    dtype: Dtype,
    bytes: &'a [u8],
}

/// The most numbers that a vector of a row has.
pub const MAX_DIM: usize = 65_536;

impl<'a> Vector<'a> {
    /// The vector that bytes are; `None` where they are none, or too many.
    pub fn new(dtype: Dtype, bytes: &'a [u8]) -> Option<Self> {
        let vector = Self::of_any_length(dtype, bytes);
        vector.filter(|vector| (1..=MAX_DIM).contains(&vector.dim()))
    }

    /// The same of however many, also none: what is no row's has its own bounds.
    pub fn of_any_length(dtype: Dtype, bytes: &'a [u8]) -> Option<Self> {
        bytes.len().is_multiple_of(dtype.bytes()).then_some(Self { dtype, bytes })
    }

    /// The type of its numbers.
    pub fn dtype(self) -> Dtype {
        self.dtype
    }

    /// Its bytes.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// How many numbers it has.
    pub fn dim(self) -> usize {
        self.bytes.len() / self.dtype.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_has_whole_numbers_one_at_least_and_not_too_many() {
        let bytes = vec![0; (MAX_DIM + 1) * 8];
        for dtype in [Dtype::F32, Dtype::F64, Dtype::I64] {
            let size = dtype.bytes();
            let dim = |length: usize| Vector::new(dtype, &bytes[..length]).map(Vector::dim);
            assert_eq!([dim(0), dim(size - 1), dim(size + 1)], [None; 3]);
            assert_eq!([dim(size), dim(3 * size)], [Some(1), Some(3)]);
            assert_eq!(dim(MAX_DIM * size), Some(MAX_DIM));
            assert_eq!(dim((MAX_DIM + 1) * size), None);
            assert_eq!(
                Dtype::NAMES.map(|name| name == dtype.name()).iter().filter(|is| **is).count(),
                1
            );
        }
    }
}
