//! Kernels over small integers, for as many at once as the processor takes: each
//! has one result on every processor, since integers can be summed in any order. The
//! plain form stands beside each as what it must agree with, and is what runs where
//! AVX2 is not.
#![allow(unsafe_code)]

/// How many entries a block of 4-bit codes is of.
pub const LANES: usize = 32;

/// The codes of a block: two of each entry.
pub type CodePair = [u8; LANES];

/// What the codes of a pair stand for: sixteen values of the low one, then sixteen
/// of the high one, each below 128.
pub type TablePair = [u8; 32];

/// Looks up the codes of 32 entries and sums what they stand for, entry by entry,
/// modulo 65,536 (the fast scan of product quantisation: André, Kermarrec, Le
/// Scouarnec, "Cache locality is not enough", VLDB 2015).
pub fn sum_codes(codes: &[CodePair], tables: &[TablePair]) -> [u16; LANES] {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { avx2::sum_codes(codes, tables) };
    }
    plain::sum_codes(codes, tables)
}

/// The inner product of two vectors, modulo 2^32. Their lengths are equal multiples
/// of 32; what is beyond is left out.
pub fn dot(wide: &[i16], narrow: &[i8]) -> i32 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has AVX2.
        return unsafe { avx2::dot(wide, narrow) };
    }
    plain::dot(wide, narrow)
}

mod plain {
    use super::{CodePair, LANES, TablePair};

    pub fn sum_codes(codes: &[CodePair], tables: &[TablePair]) -> [u16; LANES] {
        let mut sums = [0_u16; LANES];
        for (codes, table) in codes.iter().zip(tables) {
            let value = |place: u8| table.get(usize::from(place)).map_or(0, |one| u16::from(*one));
            for (sum, pair) in sums.iter_mut().zip(codes) {
                *sum = sum.wrapping_add(value(pair & 15) + value(16 + (pair >> 4)));
            }
        }
        sums
    }

    pub fn dot(wide: &[i16], narrow: &[i8]) -> i32 {
        let (wide, narrow) = (wide.as_chunks::<32>().0, narrow.as_chunks::<32>().0);
        let pairs = wide.iter().flatten().zip(narrow.iter().flatten());
        pairs.fold(0, |sum, (one, other)| {
            sum.wrapping_add(i32::from(*one).wrapping_mul(i32::from(*other)))
        })
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{CodePair, LANES, TablePair};
    use std::arch::x86_64::*;

    #[target_feature(enable = "avx2")]
    pub fn sum_codes(codes: &[CodePair], tables: &[TablePair]) -> [u16; LANES] {
        let nibble = _mm256_set1_epi8(15);
        let byte = _mm256_set1_epi16(255);
        // Two values are below 256 together; entries of even and of odd places are
        // summed apart, in 16 bits.
        let (mut even, mut odd) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for (codes, table) in codes.iter().zip(tables) {
            // SAFETY: both are of 32 bytes, and may stand anywhere.
            let (codes, table) = unsafe {
                let codes = _mm256_loadu_si256(codes.as_ptr().cast());
                (codes, _mm256_loadu_si256(table.as_ptr().cast()))
            };
            let low_table = _mm256_permute2x128_si256::<0x00>(table, table);
            let high_table = _mm256_permute2x128_si256::<0x11>(table, table);
            let low = _mm256_shuffle_epi8(low_table, _mm256_and_si256(codes, nibble));
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibble);
            let high = _mm256_shuffle_epi8(high_table, high);
            let both = _mm256_add_epi8(low, high);
            even = _mm256_add_epi16(even, _mm256_and_si256(both, byte));
            odd = _mm256_add_epi16(odd, _mm256_srli_epi16::<8>(both));
        }
        // 0 to 7 and 16 to 23; 8 to 15 and 24 to 31.
        let first = _mm256_unpacklo_epi16(even, odd);
        let second = _mm256_unpackhi_epi16(even, odd);
        let mut sums = [0; LANES];
        let out = sums.as_mut_ptr();
        // SAFETY: there is room for 32 sums, which may stand anywhere.
        unsafe {
            let front = _mm256_permute2x128_si256::<0x20>(first, second);
            let back = _mm256_permute2x128_si256::<0x31>(first, second);
            _mm256_storeu_si256(out.cast(), front);
            _mm256_storeu_si256(out.add(LANES / 2).cast(), back);
        }
        sums
    }

    #[target_feature(enable = "avx2")]
    pub fn dot(wide: &[i16], narrow: &[i8]) -> i32 {
        let (mut first, mut second) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for (wide, narrow) in wide.as_chunks::<32>().0.iter().zip(narrow.as_chunks::<32>().0) {
            let (wide, narrow) = (wide.as_ptr(), narrow.as_ptr());
            // SAFETY: both are of 32 elements, and may stand anywhere.
            let (wide, narrow) = unsafe {
                (
                    [_mm256_loadu_si256(wide.cast()), _mm256_loadu_si256(wide.add(16).cast())],
                    [_mm_loadu_si128(narrow.cast()), _mm_loadu_si128(narrow.add(16).cast())],
                )
            };
            let product = |wide, narrow| _mm256_madd_epi16(wide, _mm256_cvtepi8_epi16(narrow));
            let [(wide_1, narrow_1), (wide_2, narrow_2)] =
                [(wide[0], narrow[0]), (wide[1], narrow[1])];
            first = _mm256_add_epi32(first, product(wide_1, narrow_1));
            second = _mm256_add_epi32(second, product(wide_2, narrow_2));
        }
        let sum = _mm256_add_epi32(first, second);
        let sum = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
        let sum = _mm_add_epi32(sum, _mm_unpackhi_epi64(sum, sum));
        _mm_cvtsi128_si32(_mm_add_epi32(sum, _mm_shuffle_epi32::<1>(sum)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(
        count: usize,
        any_byte: impl Strategy<Value = u8>,
    ) -> impl Strategy<Value = Vec<[u8; 32]>> {
        prop::collection::vec(any_byte, count * 32)
            .prop_map(|bytes| bytes.as_chunks::<32>().0.to_vec())
    }

    proptest! {
        #[test]
        fn every_path_sums_the_same_codes(
            (codes, tables) in (0usize..600).prop_flat_map(|count| {
                (pairs(count, any::<u8>()), pairs(count, 0u8..128))
            }),
        ) {
            // The oracle: each entry by itself, in wide numbers.
            let expected: Vec<_> = (0..LANES).map(|entry| {
                let looked_up = codes.iter().zip(&tables).map(|(codes, table)| {
                    let (low, high) = (codes[entry] % 16, codes[entry] / 16);
                    u64::from(table[low as usize]) + u64::from(table[16 + high as usize])
                });
                (looked_up.sum::<u64>() % 65_536) as u16
            }).collect();
            prop_assert_eq!(sum_codes(&codes, &tables).to_vec(), &expected[..]);
            prop_assert_eq!(plain::sum_codes(&codes, &tables).to_vec(), expected);
        }

        #[test]
        fn every_path_has_the_same_inner_product(
            pairs in prop::collection::vec((any::<i16>(), any::<i8>()), 0..2_000),
            extreme: bool,
        ) {
            let pair = |pair: &(i16, i8)| if extreme { (i16::MIN, i8::MIN) } else { *pair };
            let (wide, narrow): (Vec<_>, Vec<_>) = pairs.iter().map(pair).unzip();
            let whole = pairs.len() / 32 * 32;
            let products = wide.iter().zip(&narrow).take(whole);
            let products = products.map(|(one, other)| i64::from(*one) * i64::from(*other));
            let expected: i64 = products.sum();
            prop_assert_eq!(dot(&wide, &narrow), expected as i32);
            prop_assert_eq!(plain::dot(&wide, &narrow), expected as i32);
        }
    }
}
