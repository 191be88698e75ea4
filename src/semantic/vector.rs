//! A vector: how it is kept, in 12 bits a dimension, and what another is compared
//! with it by.
//!
//! A vector is brought to length 1 and turned by a fixed rotation (random signs and
//! Walsh-Hadamard transforms, as in Ailon and Chazelle, "The fast Johnson-Lindenstrauss
//! transform", 2009), which changes no inner product. Turned, the dimensions of any
//! embedding are of about one size, whichever of them its model favours: so few bits
//! say much. They are kept as multiples of a scale of the vector's own.
//!
//! The similarity of a query and a kept vector is the inner product of what is kept of
//! them, as integers: the same bits on every processor. It is within
//! [`MAX_DEVIATION`] of the cosine of what the callers gave.

use crate::bug;
use crate::simd::TablePair;
use crate::wire::Reader;
use std::ops::RangeInclusive;

/// How many dimensions there may be.
pub const DIMENSIONS: RangeInclusive<usize> = 8..=4096;

/// How far a similarity may be from the cosine of the vectors as they were given.
pub const MAX_DEVIATION: f64 = 0.001;

/// How far a kept vector may be from what it is kept of. The rest of
/// [`MAX_DEVIATION`] is more than what is lost of the query, at 21 bits, and by
/// rotating both in single precision.
const MAX_RESIDUAL: f64 = 0.0009;

/// How much longer than 1 a kept vector or a query may be, by what is lost of it.
pub const MAX_LENGTH: f64 = 1.01;

/// The largest code: so that its upper 8 bits, rounded, are no more than 127.
const MAX_CODE: i32 = 2039;

/// Dimensions go through kernels by so many; the rest of the last are 0.
const STEP: usize = 32;

/// How many dimensions of zeros and all are kept.
pub fn padded(dim: usize) -> usize {
    dim.next_multiple_of(STEP)
}

/// Why bytes are not a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Another number of bytes.
    #[error("vector must be from 8 to 4096 little-endian 32-bit floats")]
    Size,
    /// An infinity or none of the numbers.
    #[error("vector must be of finite numbers")]
    NotFinite,
    /// No direction.
    #[error("vector must not be all zeros")]
    Zero,
}

/// A vector of length 1, rotated.
#[derive(Clone, Debug, PartialEq)]
pub struct Unit {
    dim: usize,
    /// Padded.
    values: Vec<f32>,
}

impl Unit {
    /// Reads a vector of little-endian 32-bit floats, whatever its length, and brings
    /// it to 1.
    pub fn read(bytes: &[u8]) -> Result<Self, Unfit> {
        let (numbers, rest) = bytes.as_chunks::<4>();
        let dim = numbers.len();
        if !rest.is_empty() || !DIMENSIONS.contains(&dim) {
            return Err(Unfit::Size);
        }
        let mut values = Vec::with_capacity(padded(dim));
        values.extend(numbers.iter().map(|number| f32::from_le_bytes(*number)));
        // Squares of single precision neither overflow nor vanish in double.
        let square = sum(&values, |one| f64::from(one) * f64::from(one));
        if !square.is_finite() {
            return Err(Unfit::NotFinite);
        }
        if square == 0.0 {
            return Err(Unfit::Zero);
        }
        let by = 1.0 / square.sqrt();
        values.iter_mut().for_each(|one| *one = (f64::from(*one) * by) as f32);
        rotate(&mut values);
        values.resize(padded(dim), 0.0);
        Ok(Self { dim, values })
    }

    /// How many dimensions it has.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// The one that is kept.
    pub fn kept(code: &Code) -> Self {
        let values: Vec<_> = code.values().flatten().collect();
        Self { dim: values.len(), values }
    }

    /// How many bytes it takes.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.values)
    }

    /// How similar a kept vector is: the same as to the [query](Query) for this one.
    pub fn similarity(&self, code: &Code) -> f64 {
        let steps = self.values.as_chunks::<STEP>().0;
        similarity(steps.iter().map(|step| each(step, exact)), code)
    }
}

/// A dimension of a query, in units of [`EXACT`].
#[inline(always)]
fn exact(value: f32) -> i32 {
    nearest(value / EXACT)
}

/// How similar a kept vector is to one of these exact dimensions, 32 by 32.
fn similarity(exact: impl Iterator<Item = [i32; STEP]>, code: &Code) -> f64 {
    let product = |exact: [i32; STEP], codes: [i32; STEP]| {
        let pairs = exact.iter().zip(codes);
        pairs.map(|(one, other)| i64::from(*one) * i64::from(other)).sum::<i64>()
    };
    let sum = exact.zip(code.codes()).map(|(exact, codes)| product(exact, codes)).sum::<i64>();
    // The sum is exact, 2^27 · 2^20 at most, and so is the product of scales.
    let similarity = sum as f64 * (f64::from(code.scale) * f64::from(EXACT) / 256.0);
    similarity.clamp(-1.0, 1.0)
}

/// The sum of what becomes of values: eight sums side by side, so that it is in one
/// order, and yet not one addition after the other.
fn sum(values: &[f32], term: impl Fn(f32) -> f64) -> f64 {
    let (eights, rest) = values.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for eight in eights {
        sums.iter_mut().zip(eight).for_each(|(sum, one)| *sum += term(*one));
    }
    sums.iter().sum::<f64>() + rest.iter().map(|one| term(*one)).sum::<f64>()
}

/// The largest size of a value.
fn largest(values: &[f32]) -> f32 {
    // Sizes are in the order of their bits, which are compared side by side.
    f32::from_bits(values.iter().fold(0, |most, one| most.max(one.abs().to_bits())))
}

/// The nearest integer of a number below 2^22, an even one if two are as near: what is
/// left of its fraction beside a number as large as can be.
#[inline(always)]
fn nearest(number: f32) -> i32 {
    const LARGE: f32 = 1.5 * (1 << 23) as f32;
    (number + LARGE).to_bits().cast_signed() - LARGE.to_bits().cast_signed()
}

/// Rotates a vector: twice a transform of the largest power of two of dimensions, of
/// the first ones and of the last ones, each after random changes of sign.
fn rotate(vector: &mut [f32]) {
    let size = 1 << vector.len().ilog2();
    let rest = vector.len() - size;
    for (round, start) in [(0, 0), (1, rest)] {
        let part = vector.get_mut(start..start + size);
        let part = part.unwrap_or_else(|| bug("a part outside of its vector"));
        let by = 1.0 / (size as f32).sqrt();
        for (word, values) in part.chunks_mut(BITS.len()).enumerate() {
            let signs = random_bits((round << 32) | word as u64) as u32;
            for (value, bit) in values.iter_mut().zip(BITS) {
                *value *= if signs & bit == 0 { by } else { -by };
            }
        }
        hadamard(part);
    }
}

/// Each bit of 32: what is compared with them is so side by side.
const BITS: [u32; 32] = {
    let mut bits = [0; 32];
    let mut place = 0;
    while place < 32 {
        #[allow(clippy::indexing_slicing)]
        {
            bits[place] = 1 << place;
        }
        place += 1;
    }
    bits
};

/// The 64 bits of a place, always the same (Steele, Lea, Flood: SplitMix64).
fn random_bits(place: u64) -> u64 {
    let mut bits = (place + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

/// The Walsh-Hadamard transform, not scaled, of a power of two of values, 8 at least.
fn hadamard(values: &mut [f32]) {
    for eight in values.as_chunks_mut::<8>().0 {
        let [a, b, c, d, e, f, g, h] = *eight;
        let [a, b, c, d, e, f, g, h] = [a + b, a - b, c + d, c - d, e + f, e - f, g + h, g - h];
        let [a, b, c, d, e, f, g, h] = [a + c, b + d, a - c, b - d, e + g, f + h, e - g, f - h];
        *eight = [a + e, b + f, c + g, d + h, a - e, b - f, c - g, d - h];
    }
    let mut half = 8;
    while half < values.len() {
        for both in values.chunks_exact_mut(2 * half) {
            let (front, back) = both.split_at_mut(half);
            for (one, other) in front.iter_mut().zip(back) {
                (*one, *other) = (*one + *other, *one - *other);
            }
        }
        half *= 2;
    }
}

/// What becomes of each of 32: `map` of an array that long is not made into vectors.
#[inline(always)]
fn each<A: Copy, B: Copy + Default>(from: &[A; STEP], becomes: impl Fn(A) -> B) -> [B; STEP] {
    let mut to = [B::default(); STEP];
    to.iter_mut().zip(from).for_each(|(to, from)| *to = becomes(*from));
    to
}

/// A vector as it is kept: each dimension is the scale times 16 times its upper 8 bits,
/// plus its lower 4, plus a 256th of the further 8 where there are any.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Code<'a> {
    /// What a code of 1 is worth.
    pub scale: f32,
    /// The upper 8 bits of each dimension, padded.
    pub high: &'a [i8],
    /// The lower 4 bits, from −8 to 7: of 32 dimensions, the first 16 in the lower halves
    /// of 16 bytes.
    pub low: &'a [u8],
    /// 8 bits more, of the few vectors with dimensions so large that the others would be
    /// kept too coarsely.
    pub fine: Option<&'a [i8]>,
}

impl<'a> Code<'a> {
    /// The codes of all dimensions, 32 by 32, in units of a 256th.
    #[inline(always)]
    fn codes(&self) -> impl Iterator<Item = [i32; STEP]> + use<'a> {
        let fine = self.fine.unwrap_or_default().as_chunks::<STEP>().0;
        let steps = self.high.as_chunks::<STEP>().0.iter().zip(self.low.as_chunks().0);
        steps.enumerate().map(|(at, (high, low))| {
            let mut codes = each(&upper_codes(high, low), |code| code * 256);
            if let Some(fine) = fine.get(at) {
                codes.iter_mut().zip(fine).for_each(|(code, fine)| *code += i32::from(*fine));
            }
            codes
        })
    }

    /// The vector that is kept, 32 by 32 dimensions.
    #[inline(always)]
    pub fn values(&self) -> impl Iterator<Item = [f32; STEP]> + use<'a> {
        let by = self.scale / 256.0;
        self.codes().map(move |codes| each(&codes, |code| code as f32 * by))
    }

    /// The length of what the upper 8 bits leave out, in units of the scale.
    pub fn low_norm(&self) -> f64 {
        let mut sums = [0; STEP];
        for (codes, high) in self.codes().zip(self.high.as_chunks::<STEP>().0) {
            for ((sum, code), high) in sums.iter_mut().zip(codes).zip(high) {
                // 2^11 squared, 128 times.
                let low = code - i32::from(*high) * 4_096;
                *sum += low * low;
            }
        }
        let square = sums.iter().map(|sum| i64::from(*sum)).sum::<i64>();
        (square as f64).sqrt() / 256.0
    }

    /// Appends the payload: scale f32 · whether fine u8 · high · low · fine if so, all
    /// padded.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.scale.to_le_bytes());
        out.push(self.fine.is_some().into());
        out.extend(self.high.iter().map(|high| high.cast_unsigned()));
        out.extend(self.low);
        out.extend(self.fine.unwrap_or_default().iter().map(|fine| fine.cast_unsigned()));
    }

    /// A copy of its own.
    pub fn to_owned(&self, dim: usize) -> OwnedCode {
        OwnedCode {
            dim,
            scale: self.scale,
            high: self.high.into(),
            low: self.low.into(),
            fine: self.fine.map(Into::into),
        }
    }
}

/// The upper 12 bits of 32 dimensions.
#[inline(always)]
fn upper_codes(high: &[i8; STEP], low: &[u8; STEP / 2]) -> [i32; STEP] {
    let mut codes = each(high, |high| i32::from(high) * 16);
    let (front, back) = codes.split_at_mut(STEP / 2);
    for ((one, other), pair) in front.iter_mut().zip(back).zip(low) {
        let pair = i32::from(*pair);
        *one += pair << 28 >> 28;
        *other += pair << 24 >> 28;
    }
    codes
}

/// A vector as it is kept, by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct OwnedCode {
    dim: usize,
    scale: f32,
    high: Box<[i8]>,
    low: Box<[u8]>,
    fine: Option<Box<[i8]>>,
}

impl OwnedCode {
    /// How a vector is kept.
    pub fn of(unit: &Unit) -> Self {
        let scale = largest(&unit.values) / MAX_CODE as f32;
        let by = 256.0 / scale;
        let size = unit.values.len();
        let (mut high, mut fine) = (Vec::with_capacity(size), Vec::with_capacity(size));
        let mut low = Vec::with_capacity(size / 2);
        let mut squares = [0.0; STEP];
        for values in unit.values.as_chunks::<STEP>().0 {
            // At most 2^19, whose fractions are known to a 32nd.
            let exact = each(values, |one| one * by);
            let whole = each(&exact, nearest);
            let codes = each(&whole, |whole| (whole + 128) >> 8);
            for ((square, exact), code) in squares.iter_mut().zip(exact).zip(codes) {
                let lost = exact - (code * 256) as f32;
                *square += lost * lost;
            }
            high.extend(each(&codes, |code| ((code + 8) >> 4) as i8));
            let (front, back) = codes.split_at(STEP / 2);
            let pair = |(one, other): (&i32, &i32)| ((one & 15) | ((other & 15) << 4)) as u8;
            low.extend(front.iter().zip(back).map(pair));
            fine.extend(whole.iter().zip(codes).map(|(whole, code)| (whole - code * 256) as i8));
        }
        let residual = squares.iter().map(|one| f64::from(*one)).sum::<f64>().sqrt();
        let is_fine = residual / f64::from(by) > MAX_RESIDUAL;
        let fine = is_fine.then(|| fine.into());
        Self { dim: unit.dim, scale, high: high.into(), low: low.into(), fine }
    }

    /// Reads a payload of a vector of so many dimensions; `None` unless it is of one
    /// whose length is 1, but for what is lost.
    pub fn decode(dim: usize, reader: &mut Reader) -> Option<Self> {
        let size = padded(dim);
        let scale = f32::from_le_bytes(reader.array()?);
        let is_fine = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return None,
        };
        let signed = |bytes: &[u8]| bytes.iter().map(|byte| byte.cast_signed()).collect();
        let high = signed(reader.bytes(size)?);
        let low = reader.bytes(size / 2)?.into();
        let fine = if is_fine { Some(signed(reader.bytes(size)?)) } else { None };
        let code = Self { dim, scale, high, low, fine };
        let codes = || code.as_ref().codes().flatten();
        let is_padded = codes().skip(dim).all(|code| code == 0);
        let square = codes().map(|code| i64::from(code).pow(2)).sum::<i64>();
        let length = (square as f64).sqrt() / 256.0 * f64::from(scale);
        (is_padded && (2.0 - MAX_LENGTH..MAX_LENGTH).contains(&length)).then_some(code)
    }

    /// How many dimensions it has.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// How many bytes it takes.
    pub fn bytes(&self) -> usize {
        self.high.len() + self.low.len() + self.fine.as_ref().map_or(0, |fine| fine.len())
    }

    /// The same, borrowed.
    pub fn as_ref(&self) -> Code<'_> {
        Code { scale: self.scale, high: &self.high, low: &self.low, fine: self.fine.as_deref() }
    }
}

/// A vector that others are compared with.
pub struct Query {
    dim: usize,
    /// Each dimension, in units of 2^-21, padded: what a similarity is of.
    exact: Vec<i32>,
    /// The same, as numbers.
    values: Vec<f32>,
    /// Its length, or a little more.
    pub length: f64,
    /// Each dimension in 16 bits, such that its product with 8-bit numbers fits in 32.
    pub coarse: Vec<i16>,
    /// What a coarse dimension of 1 is worth.
    pub coarse_scale: f64,
    /// The length of what is coarsely left out, or a little more.
    pub coarse_rest: f64,
    /// What four signs are worth, for every four dimensions.
    pub tables: Vec<TablePair>,
    /// What 1 of a table is worth.
    pub table_step: f32,
    /// What the sum of all tables is too much by.
    pub table_base: f32,
    /// What that sum may be wrong by.
    pub table_error: f32,
}

/// What one unit of an exact query is worth.
const EXACT: f32 = 1.0 / (1 << 21) as f32;

impl Query {
    /// The query for a vector.
    pub fn new(unit: &Unit) -> Self {
        let exact: Vec<_> = unit.values.iter().map(|one| exact(*one)).collect();
        let values: Vec<_> = exact.iter().map(|one| *one as f32 * EXACT).collect();
        let square = sum(&values, |one| f64::from(one) * f64::from(one));
        let sizes = sum(&values, |one| one.abs().into());

        let most = f32::from(i16::MAX - 1);
        // Rounding adds a half to each.
        let most_of_all = (1 << 24) as f64 - unit.dim as f64;
        let coarse_scale = (largest(&values) / most).max((sizes / most_of_all) as f32);
        let by = 1.0 / coarse_scale;
        let coarse: Vec<_> = values.iter().map(|one| nearest(one * by) as i16).collect();
        let lost = |one| one - nearest(one * by) as f32 * coarse_scale;
        let coarse_rest = sum(&values, |one| f64::from(lost(one)) * f64::from(lost(one))).sqrt();

        let (tables, table_step, table_error) = tables(&values, sizes);
        Self {
            dim: unit.dim,
            exact,
            values,
            length: square.sqrt() * ROUND_UP,
            coarse,
            coarse_scale: coarse_scale.into(),
            coarse_rest: coarse_rest * ROUND_UP + 1e-6,
            tables,
            table_step,
            table_base: sizes as f32,
            table_error,
        }
    }

    /// How many dimensions it has.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Its values, padded.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// How similar a kept vector is: the cosine, but for what is lost.
    pub fn similarity(&self, code: &Code) -> f64 {
        similarity(self.exact.as_chunks::<STEP>().0.iter().copied(), code)
    }
}

/// The tables of a query: for every four dimensions and each of their sixteen patterns
/// of signs what these are worth, from 0 to 127 steps; the step, and what the sum of all
/// may be wrong by. `sizes` is the sum of the sizes of all values.
fn tables(values: &[f32], sizes: f64) -> (Vec<TablePair>, f32, f32) {
    /// The most that the sum is to be, with what is rounded up.
    const MOST: f64 = 60_000.0;
    /// For each of four dimensions, where its sign is set.
    const SET: [[u16; 16]; 4] = {
        let mut set = [[0; 16]; 4];
        let mut at = 0;
        while at < 64 {
            let (dim, pattern) = (at / 16, at % 16);
            #[allow(clippy::indexing_slicing)]
            if pattern >> dim & 1 == 1 {
                set[dim][pattern] = u16::MAX;
            }
            at += 1;
        }
        set
    };
    let fours = values.as_chunks::<4>().0.iter();
    let sums = fours.clone().map(|four| four.iter().map(|one| one.abs()).sum::<f32>());
    let (largest, used) = sums.fold((0.0_f32, 0), |(largest, used), sum| {
        (if sum > largest { sum } else { largest }, used + i32::from(sum > 0.0))
    });
    // Rounding must not lead to 128.
    let step = (f64::from(largest) / 63.0).max(sizes * 2.0 / MOST) as f32;
    // In 256ths of a step, what a dimension is worth more with its sign set.
    let parts = 512.0 / step;
    let table = |four: &[f32; 4]| {
        let worth = four.map(|one| nearest(one * parts) as i16);
        let none = worth.iter().fold(128, |sum, one| sum - (*one).min(0)).cast_unsigned();
        let mut sums = [none; 16];
        for (set, worth) in SET.iter().zip(worth) {
            for (sum, set) in sums.iter_mut().zip(set) {
                *sum = sum.wrapping_add(set & worth.cast_unsigned());
            }
        }
        sums.map(|sum| (sum >> 8) as u8)
    };
    let mut pairs = Vec::with_capacity(values.len() / 8);
    for eight in values.as_chunks::<8>().0 {
        let (front, back) = (eight.first_chunk(), eight.last_chunk());
        let mut pair = [[0; 16]; 2];
        for (to, four) in pair.iter_mut().zip([front, back].into_iter().flatten()) {
            *to = table(four);
        }
        let mut both = [0; 32];
        both.iter_mut().zip(pair.as_flattened()).for_each(|(to, from)| *to = *from);
        pairs.push(both);
    }
    // Half a step each, and what is lost of four dimensions.
    (pairs, step, used as f32 * step * 0.51)
}

/// More than what the sums of a bound can be too small by.
pub const ROUND_UP: f64 = 1.000_001;

#[cfg(test)]
#[allow(missing_docs)]
pub mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The bytes of a vector.
    pub fn bytes(vector: &[f32]) -> Vec<u8> {
        vector.iter().flat_map(|one| one.to_le_bytes()).collect()
    }

    /// The cosine, in double precision and without any detour.
    pub fn cosine(one: &[f32], other: &[f32]) -> f64 {
        let product = |one: &[f32], other: &[f32]| {
            let pairs = one.iter().zip(other);
            pairs.map(|(one, other)| f64::from(*one) * f64::from(*other)).sum::<f64>()
        };
        product(one, other) / (product(one, one) * product(other, other)).sqrt()
    }

    /// A vector of numbers from −1 to 1: drawn here, since thousands of them one by one
    /// would take a test most of its time.
    pub fn random(seed: u64, dim: usize) -> Vec<f32> {
        let draw = |place| (random_bits(seed ^ place) >> 40) as f32 / (1 << 23) as f32 - 1.0;
        (0..dim as u64).map(draw).collect()
    }

    /// Vectors of all kinds: even, of few dimensions, of outliers, tiny and huge ones, and
    /// ones that the rotation turns into a few dimensions.
    pub fn vectors(dim: usize) -> impl Strategy<Value = Vec<f32>> {
        let even = any::<u64>().prop_map(move |seed| random(seed, dim));
        let spiky = any::<u64>().prop_map(move |seed| {
            let mut vector = random(seed, dim);
            vector.iter_mut().for_each(|one| *one = one.powi(15));
            vector
        });
        let one_hot = (0..dim, any::<bool>()).prop_map(move |(place, negative)| {
            let mut vector = vec![0.0; dim];
            vector[place] = if negative { -1.0 } else { 1.0 };
            vector
        });
        let turned = (0..dim).prop_map(move |place| {
            let mut vector = vec![0.0; dim];
            vector[place] = 1.0;
            unrotate(&mut vector);
            vector
        });
        let kind = prop_oneof![4 => even, 2 => spiky, 1 => one_hot, 2 => turned];
        let size = prop_oneof![
            4 => Just(1.0f32),
            1 => Just(1e-45), // denormal: most dimensions vanish
            1 => Just(1e-41),
            1 => Just(3e38),
            1 => 0.001f32..1_000.0,
        ];
        (kind, size).prop_map(move |(mut vector, size)| {
            vector.iter_mut().for_each(|one| *one *= size);
            if vector.iter().all(|one| *one == 0.0) {
                vector[0] = size;
            }
            vector
        })
    }

    /// The rotation back: its parts backwards, each its own inverse but for the signs.
    fn unrotate(vector: &mut [f32]) {
        let size = 1 << vector.len().ilog2();
        for (round, start) in [(1, vector.len() - size), (0, 0)] {
            let part = &mut vector[start..start + size];
            hadamard(part);
            for (place, value) in part.iter_mut().enumerate() {
                let sign = random_bits((round << 32) | (place as u64 / 32)) >> (place % 32) & 1;
                *value *= if sign == 0 { 1.0 } else { -1.0 } / (size as f32).sqrt();
            }
        }
    }

    /// Sizes of vectors: the usual ones, the least, the most, and odd ones.
    pub fn dims() -> impl Strategy<Value = usize> {
        prop_oneof![
            4 => 8usize..100,
            1 => Just(8),
            1 => Just(384),
            1 => Just(1_000),
            1 => Just(4_096),
        ]
    }

    fn two_vectors() -> impl Strategy<Value = (Vec<f32>, Vec<f32>)> {
        dims().prop_flat_map(|dim| (vectors(dim), vectors(dim)))
    }

    fn unit(vector: &[f32]) -> Unit {
        Unit::read(&bytes(vector)).unwrap()
    }

    /// The similarity of two vectors, and of one with a mix of both.
    fn check_similarity(one: &[f32], other: &[f32], near: f32) -> Result<(), TestCaseError> {
        // Near one another, as well as anyhow.
        let longest = |vector: &[f32]| vector.iter().fold(0.0f32, |most, one| most.max(one.abs()));
        let ratio = longest(one) / longest(other);
        let mixed: Vec<_> = one
            .iter()
            .zip(other)
            .map(|(one, other)| one * near + other * ratio * (1.0 - near))
            .collect();
        for other in [other, &mixed, one] {
            if !other.iter().all(|one| one.is_finite()) || other.iter().all(|one| *one == 0.0) {
                continue;
            }
            let query = Query::new(&unit(one));
            let code = OwnedCode::of(&unit(other));
            let similarity = query.similarity(&code.as_ref());
            let cosine = cosine(one, other);
            prop_assert!((similarity - cosine).abs() <= MAX_DEVIATION, "{similarity} {cosine}");
        }
        Ok(())
    }

    /// What the bounds of scans rest on.
    fn check_bounds(one: &[f32], other: &[f32]) -> Result<(), TestCaseError> {
        let (one, other) = (unit(one), unit(other));
        let query = Query::new(&one);
        let code = OwnedCode::of(&other);
        let code = code.as_ref();
        let values: Vec<_> = code.values().flatten().collect();
        let length =
            |values: &[f32]| values.iter().map(|one| f64::from(*one).powi(2)).sum::<f64>().sqrt();
        prop_assert!(length(&values) <= MAX_LENGTH && query.length <= MAX_LENGTH);
        // What is coarsely left out of both.
        let coarse = f64::from(crate::simd::dot(&query.coarse, code.high))
            * query.coarse_scale
            * f64::from(code.scale)
            * 16.0;
        let rest =
            query.length * code.low_norm() * f64::from(code.scale) + query.coarse_rest * MAX_LENGTH;
        let similarity = query.similarity(&code);
        prop_assert!((coarse - similarity).abs() <= rest * ROUND_UP + 1e-9);
        let most = query.coarse.iter().map(|one| i64::from(*one).abs() * 128).sum::<i64>();
        prop_assert!(most < 1 << 31);
        // The tables: against the sum of signed values.
        prop_assert!(query.tables.iter().flatten().all(|value| *value < 128));
        let (mut sum, mut exact) = (0_u64, 0.0);
        for (place, eight) in query.values().as_chunks::<8>().0.iter().enumerate() {
            let signs = values[place * 8..][..8].iter().map(|one| *one >= 0.0);
            let pattern = signs
                .clone()
                .enumerate()
                .fold(0, |all, (at, sign)| all | (usize::from(sign) << at));
            let table = &query.tables[place];
            sum += u64::from(table[pattern & 15]) + u64::from(table[16 + (pattern >> 4)]);
            exact += eight
                .iter()
                .zip(signs)
                .map(|(one, sign)| if sign { f64::from(*one) } else { -f64::from(*one) })
                .sum::<f64>();
        }
        prop_assert!(sum < 1 << 16);
        let estimate = sum as f32 * query.table_step - query.table_base;
        prop_assert!((f64::from(estimate) - exact).abs() <= f64::from(query.table_error) + 1e-4);
        Ok(())
    }

    proptest! {
        #[test]
        fn a_similarity_is_the_cosine_within_its_deviation(
            (one, other) in two_vectors(), near in 0.0f32..1.0,
        ) {
            check_similarity(&one, &other, near)?;
        }

        #[test]
        fn the_bounds_of_a_query_and_of_a_code_hold((one, other) in two_vectors()) {
            check_bounds(&one, &other)?;
        }

        #[test]
        fn a_code_comes_back_as_it_went(vector in dims().prop_flat_map(vectors)) {
            let code = OwnedCode::of(&unit(&vector));
            let mut payload = Vec::new();
            code.as_ref().encode(&mut payload);
            let mut reader = Reader::new(&payload);
            prop_assert_eq!(OwnedCode::decode(vector.len(), &mut reader), Some(code));
            prop_assert!(reader.is_empty());
            payload.pop();
            prop_assert_eq!(OwnedCode::decode(vector.len(), &mut Reader::new(&payload)), None);
        }

        #[test]
        fn no_payload_is_kept_that_is_not_of_length_1(
            payload in prop::collection::vec(any::<u8>(), 48), scale in any::<f32>(),
        ) {
            // Sometimes of that length, and padded as it should be.
            let mut payload = [&scale.to_le_bytes()[..], &[0], &payload].concat();
            payload[5 + 8..5 + 32].fill(0);
            payload[5 + 32..].fill(0);
            if let Some(code) = OwnedCode::decode(8, &mut Reader::new(&payload)) {
                let square: f32 = code.as_ref().values().flatten().map(|one| one * one).sum();
                prop_assert!((square.sqrt() - 1.0).abs() < 0.0101, "{}", square);
            }
        }
    }

    #[test]
    fn what_is_no_vector_is_refused() {
        let of = |vector: &[f32]| Unit::read(&bytes(vector)).map(|unit| unit.dim());
        assert_eq!(of(&[1.0; 8]), Ok(8));
        assert_eq!(of(&[1.0; 4_096]), Ok(4_096));
        for vector in [&[][..], &[1.0; 7], &[1.0; 4_097]] {
            assert_eq!(of(vector), Err(Unfit::Size));
        }
        assert_eq!(Unit::read(&[1; 33]), Err(Unfit::Size));
        assert_eq!(of(&[0.0; 8]), Err(Unfit::Zero));
        assert_eq!(of(&[-0.0; 8]), Err(Unfit::Zero));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut vector = [1.0; 8];
            vector[7] = bad;
            assert_eq!(of(&vector), Err(Unfit::NotFinite));
        }
        assert_eq!(of(&[f32::MAX; 4_096]), Ok(4_096));
        assert_eq!(of(&[f32::from_bits(1); 8]), Ok(8));
    }

    #[test]
    fn few_vectors_take_more_than_12_bits_and_those_do() {
        for dim in [8, 384, 1_536, 4_096] {
            assert!(OwnedCode::of(&unit(&random(7, dim))).fine.is_none(), "{dim}");
        }
        let mut vector = vec![0.0; 384];
        vector[5] = 1.0;
        assert!(OwnedCode::of(&unit(&vector)).fine.is_none(), "rotated, it is like any other");
        // One large dimension after the rotation, and something in the others.
        unrotate(&mut vector);
        vector.iter_mut().zip(random(7, 384)).for_each(|(one, more)| *one += 0.01 * more);
        assert!(OwnedCode::of(&unit(&vector)).fine.is_some());
    }
}
