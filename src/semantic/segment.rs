//! A segment: up to 1,024 vectors, laid out in the order that a scan reads them.
//!
//! A scan asks ever fewer of them ever more closely. All are compared by the signs of
//! their dimensions, 32 at a time; the bound on their similarity that the signs leave
//! rules most out. Those left are compared by 8 bits a dimension; and those that these
//! leave by all that is kept. What is ruled out cannot be similar enough: the bounds are
//! geometry, not statistics.
//!
//! The signs are those of what is left of a vector when the segment's centre is taken
//! away. Embeddings of one kind of text have much in common; where the mean cosine is
//! 0.7, signs of the vectors themselves rule nothing out.
//!
//! A segment is only ever appended to. Which of its vectors still stand for anything is
//! known elsewhere, and asked for those few that are similar enough.

use super::best::Best;
use super::vector::{Code, DIMENSIONS, MAX_LENGTH, Query, ROUND_UP, padded};
use crate::bug;
use crate::simd::{self, CodePair, LANES};

/// How many vectors a segment is full with.
pub const ROWS: usize = 1_024;

/// Of how many vectors of a segment one counts for the centre of the next.
const SAMPLED: usize = 4;

/// The centre of a segment that has none of its own.
static ORIGIN: [f32; *DIMENSIONS.end()] = [0.0; *DIMENSIONS.end()];

/// More than what the single-precision arithmetic of a bound by signs can lose.
const SLACK: f32 = 1e-4;

/// What is known of 32 vectors beside their signs. With μ the centre, z the rest of a
/// vector without it, and s the signs of z as a vector of length 1:
#[derive(Clone)]
struct Block {
    /// z·s
    along: [f32; LANES],
    /// |z − (z·s) s|
    across: [f32; LANES],
    /// μ·s
    centre_signs: [f32; LANES],
    /// μ·z
    centre_rest: [f32; LANES],
}

impl Block {
    const EMPTY: Self = Self {
        along: [0.0; LANES],
        across: [0.0; LANES],
        centre_signs: [0.0; LANES],
        centre_rest: [0.0; LANES],
    };
}

/// What is kept of a vector beside its dimensions.
#[derive(Clone, Copy)]
struct Row {
    scale: f32,
    /// The length of what the upper 8 bits leave out, in 64ths of the scale: rounded up,
    /// and at most 8.5 times the root of 4,096 dimensions.
    low_norm: u16,
    /// What it belongs to.
    tag: u16,
}

/// Vectors, one after the other, each with a tag that says what it belongs to.
#[derive(Clone)]
pub struct Segment {
    dim: usize,
    /// What is taken away before signs are made: padded, or empty where it is nothing.
    centre: Box<[f32]>,
    /// For each block, pairs of four signs.
    signs: Vec<CodePair>,
    blocks: Vec<Block>,
    rows: Vec<Row>,
    high: Vec<i8>,
    low: Vec<u8>,
    /// The few that are kept in more bits, by row.
    fine: Vec<(u32, Box<[i8]>)>,
}

impl Segment {
    /// An empty segment for vectors of so many dimensions. Its centre is that of
    /// `like`, if there is such a segment: of no effect but on how fast it is scanned.
    pub fn new(dim: usize, like: Option<&Self>) -> Self {
        Self {
            dim,
            centre: like.map_or_else(Box::default, Self::mean),
            signs: Vec::new(),
            blocks: Vec::new(),
            rows: Vec::new(),
            high: Vec::new(),
            low: Vec::new(),
            fine: Vec::new(),
        }
    }

    /// The mean of its vectors, as a part of them tell it.
    fn mean(&self) -> Box<[f32]> {
        let mut mean = vec![0.0; padded(self.dim)];
        let sampled = (0..self.len()).step_by(SAMPLED);
        let by = 1.0 / sampled.len().max(1) as f32;
        for row in sampled {
            for (mean, values) in
                mean.as_chunks_mut::<32>().0.iter_mut().zip(self.code(row).values())
            {
                mean.iter_mut().zip(values).for_each(|(mean, value)| *mean += value * by);
            }
        }
        mean.into()
    }

    /// How many vectors there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether no more fit in.
    pub fn is_full(&self) -> bool {
        self.rows.len() >= ROWS
    }

    /// Bytes reserved beyond the segment itself.
    pub fn heap_bytes(&self) -> usize {
        let fine = self.fine.iter().map(|(_, fine)| fine.len()).sum::<usize>();
        size_of_val(&*self.centre)
            + self.signs.capacity() * size_of::<CodePair>()
            + self.blocks.capacity() * size_of::<Block>()
            + self.rows.capacity() * size_of::<Row>()
            + self.high.capacity()
            + self.low.capacity()
            + self.fine.capacity() * size_of::<(u32, Box<[i8]>)>()
            + fine
    }

    /// A vector as it is kept.
    pub fn code(&self, row: usize) -> Code<'_> {
        let fine = self.fine.binary_search_by_key(&row, |(row, _)| *row as usize).ok();
        let fine = fine.and_then(|place| self.fine.get(place));
        Code {
            scale: self.row(row).scale,
            high: part(&self.high, row, padded(self.dim)),
            low: part(&self.low, row, padded(self.dim) / 2),
            fine: fine.map(|(_, fine)| &**fine),
        }
    }

    /// What a vector belongs to.
    pub fn tag(&self, row: usize) -> u16 {
        self.row(row).tag
    }

    fn row(&self, row: usize) -> &Row {
        self.rows.get(row).unwrap_or_else(|| bug("a row outside of its segment"))
    }

    /// Appends a vector, of as many dimensions as the segment is for; where it stands.
    /// The segment is not full.
    pub fn push(&mut self, code: &Code, tag: u16) -> usize {
        let row = self.rows.len();
        self.grow();
        let low_norm = (code.low_norm() * 64.0).ceil() as u16;
        self.rows.push(Row { scale: code.scale, low_norm, tag });
        self.high.extend(code.high);
        self.low.extend(code.low);
        if let Some(fine) = code.fine {
            self.fine.push((row as u32, fine.into()));
        }
        self.sign(row, code);
        row
    }

    /// Makes room for another vector: of a quarter as many as there are, so that the few
    /// of a small key do not take the room of many.
    fn grow(&mut self) {
        let (rows, blocks, size) = (self.rows.len(), self.blocks.len(), padded(self.dim));
        if rows == self.rows.capacity() {
            let more = (rows / 4).clamp(1, ROWS.saturating_sub(rows).max(1));
            self.rows.reserve_exact(more);
            self.high.reserve_exact(more * size);
            self.low.reserve_exact(more * size / 2);
        }
        if rows < blocks * LANES {
            return;
        }
        if blocks == self.blocks.capacity() {
            let more = (blocks / 4).clamp(1, (ROWS / LANES).saturating_sub(blocks).max(1));
            self.blocks.reserve_exact(more);
            self.signs.reserve_exact(more * size / 8);
        }
        self.blocks.push(Block::EMPTY);
        self.signs.resize((blocks + 1) * size / 8, [0; LANES]);
    }

    /// Writes down the signs of a vector, and what is known of it beside them.
    fn sign(&mut self, row: usize, code: &Code) {
        let (block, lane) = (row / LANES, row % LANES);
        // Thirty-two sums side by side: in one order, and yet not one after the other.
        let mut sums = [[0.0_f32; 4]; 32];
        let signs = part_mut(&mut self.signs, block, padded(self.dim) / 8);
        let centres = centre_or_origin(&self.centre).as_chunks::<32>().0.iter();
        let steps = centres.zip(signs.as_chunks_mut::<4>().0);
        for (values, (centres, signs)) in code.values().zip(steps) {
            let mut set = [0_u8; 32];
            let known = values.iter().zip(centres).zip(sums.iter_mut().zip(&mut set));
            for ((value, centre), (sums, set)) in known {
                let rest = value - centre;
                let [along, square, centre_signs, centre_rest] = sums;
                *set = (rest >= 0.0).into();
                *along += rest.abs();
                *square += rest * rest;
                *centre_signs += if rest >= 0.0 { *centre } else { -centre };
                *centre_rest += centre * rest;
            }
            for (signs, set) in signs.iter_mut().zip(set.as_chunks::<8>().0) {
                if let Some(signs) = signs.get_mut(lane) {
                    *signs = set.iter().rev().fold(0, |signs, set| (signs << 1) | set);
                }
            }
        }
        let total =
            |of: fn(&[f32; 4]) -> f32| sums.iter().map(|sums| f64::from(of(sums))).sum::<f64>();
        let by = 1.0 / (self.dim as f64).sqrt();
        let along = total(|sums| sums[0]) * by;
        let across = (total(|sums| sums[1]) - along * along).max(0.0) + f64::from(SLACK);
        let block = self.blocks.get_mut(block).unwrap_or_else(|| bug("a row outside of its block"));
        let put = |to: &mut [f32; LANES], what: f64| {
            if let Some(to) = to.get_mut(lane) {
                *to = what as f32;
            }
        };
        put(&mut block.along, along);
        put(&mut block.across, across.sqrt());
        put(&mut block.centre_signs, total(|sums| sums[2]) * by);
        put(&mut block.centre_rest, total(|sums| sums[3]));
    }

    /// Looks for the vectors most similar to a query, among those that `rank` knows: what
    /// they are told apart by, and from which similarity on they are hits, from where they
    /// stand and their tag.
    pub fn scan<R: Ord + Copy>(
        &self,
        query: &Query,
        rank: impl Fn(usize, u16) -> Option<(R, f64)>,
        best: &mut Best<R>,
    ) {
        let centred = Centred::new(self, query);
        let signs = self.signs.chunks_exact(padded(self.dim) / 8);
        let mut nearest = None;
        for (at, (block, signs)) in self.blocks.iter().zip(signs).enumerate() {
            let sums = simd::sum_codes(signs, &query.tables);
            let bounds = centred.bounds(block, &sums);
            let floor = round_down(best.floor());
            let least = nearest.map_or(best.nearest_bound(), |(bound, _)| bound);
            let least = least.min(floor);
            if !bounds.iter().fold(false, |any, bound| any | (*bound >= least)) {
                continue;
            }
            for (lane, bound) in bounds.iter().enumerate() {
                let row = at * LANES + lane;
                if row >= self.rows.len() {
                    break;
                }
                if *bound >= round_down(best.floor()) {
                    self.look_closely(row, query, &rank, best);
                }
                let nearest_bound = nearest.map_or(best.nearest_bound(), |(bound, _)| bound);
                if *bound > nearest_bound && rank(row, self.tag(row)).is_some() {
                    nearest = Some((*bound, row));
                }
            }
        }
        if let Some((bound, row)) = nearest {
            best.note_nearest(bound, query.similarity(&self.code(row)));
        }
    }

    /// Compares a vector that its signs do not rule out.
    fn look_closely<R: Ord + Copy>(
        &self,
        row: usize,
        query: &Query,
        rank: impl Fn(usize, u16) -> Option<(R, f64)>,
        best: &mut Best<R>,
    ) {
        let Row { scale, low_norm, tag } = *self.row(row);
        let high = part(&self.high, row, padded(self.dim));
        let coarse = f64::from(simd::dot(&query.coarse, high)) * query.coarse_scale;
        let (scale, low_norm) = (f64::from(scale), f64::from(low_norm) / 64.0);
        let rest = query.length * scale * low_norm + query.coarse_rest * MAX_LENGTH;
        let bound = coarse * scale * 16.0 + rest * ROUND_UP;
        if bound < best.floor() {
            return;
        }
        if let Some((rank, threshold)) = rank(row, tag) {
            best.offer(query.similarity(&self.code(row)), rank, threshold);
        }
    }
}

/// The largest number in single precision that is no larger.
fn round_down(number: f64) -> f32 {
    let nearest = number as f32;
    if f64::from(nearest) > number { nearest.next_down() } else { nearest }
}

/// A query as a segment's centre sees it.
struct Centred {
    /// q·μ
    centre: f32,
    /// The square of the length of q − μ, widened by what the tables may be wrong by.
    square: f32,
    /// What 1 in a sum of tables is worth, along a vector of signs of length 1.
    step: f32,
    /// What a sum is too much by.
    base: f32,
    /// What it may be wrong by.
    error: f32,
}

impl Centred {
    fn new(segment: &Segment, query: &Query) -> Self {
        let mut centre = [0.0_f64; 8];
        let mut square = [0.0_f64; 8];
        let eights = query.values().as_chunks::<8>().0.iter();
        for (values, centres) in eights.zip(centre_or_origin(&segment.centre).as_chunks::<8>().0) {
            let pairs = values.iter().zip(centres).zip(centre.iter_mut().zip(&mut square));
            for ((value, one), (centre, square)) in pairs {
                let (value, one) = (f64::from(*value), f64::from(*one));
                *centre += value * one;
                *square += (value - one).powi(2);
            }
        }
        let by = 1.0 / (segment.dim as f32).sqrt();
        let error = query.table_error * by + SLACK;
        let square = square.iter().sum::<f64>() as f32;
        Self {
            centre: centre.iter().sum::<f64>() as f32,
            square: square + 2.0 * error * (square.sqrt() + error) + SLACK,
            step: query.table_step * by,
            base: query.table_base * by,
            error,
        }
    }

    /// What each of 32 vectors can be as similar as at most. With q' = q − μ and
    /// e = q'·s, which the sums tell within an error ε, it is
    /// q·μ + μ·z + q'·z, and q'·z ≤ (z·s) e + |z − (z·s) s| √(|q'|² − e²).
    fn bounds(&self, block: &Block, sums: &[u16; LANES]) -> [f32; LANES] {
        let mut bounds = [0.0; LANES];
        let Block { along, across, centre_signs, centre_rest } = block;
        let known = along.iter().zip(across).zip(centre_signs).zip(centre_rest);
        for ((bound, sum), known) in bounds.iter_mut().zip(sums).zip(known) {
            let (((along, across), centre_signs), centre_rest) = known;
            let estimate = f32::from(*sum) * self.step - self.base - centre_signs;
            let left = (self.square - estimate * estimate).max(0.0).sqrt();
            let by_signs = along * (estimate + self.error) + across * left;
            *bound = self.centre + centre_rest + by_signs + SLACK;
        }
        bounds
    }
}

/// The centre of a segment: padded, or longer.
fn centre_or_origin(own: &[f32]) -> &[f32] {
    if own.is_empty() { &ORIGIN } else { own }
}

/// The elements of a place, of so many each.
fn part<T>(all: &[T], place: usize, size: usize) -> &[T] {
    all.get(place * size..(place + 1) * size).unwrap_or_else(|| bug("a vector cut short"))
}

fn part_mut<T>(all: &mut [T], place: usize, size: usize) -> &mut [T] {
    let part = all.get_mut(place * size..(place + 1) * size);
    part.unwrap_or_else(|| bug("a vector cut short"))
}

#[cfg(test)]
mod tests {
    use super::super::vector::tests::{bytes, cosine, dims, vectors};
    use super::super::vector::{MAX_DEVIATION, OwnedCode, Unit};
    use super::*;
    use proptest::prelude::*;

    fn unit(vector: &[f32]) -> Unit {
        Unit::read(&bytes(vector)).unwrap()
    }

    fn filled(dim: usize, vectors: &[Vec<f32>], like: Option<&Segment>) -> Segment {
        let mut segment = Segment::new(dim, like);
        for (row, vector) in vectors.iter().enumerate() {
            let code = OwnedCode::of(&unit(vector));
            assert_eq!(segment.push(&code.as_ref(), row as u16 * 3), row);
            assert_eq!((segment.code(row), segment.tag(row)), (code.as_ref(), row as u16 * 3));
        }
        segment
    }

    /// Vectors around one another, so that some are near any threshold.
    fn clustered() -> impl Strategy<Value = Vec<Vec<f32>>> {
        dims().prop_flat_map(|dim| {
            let most = if dim > 100 { 4 } else { 80 };
            let many = prop::collection::vec((vectors(dim), 0.0f32..1.0), 1..most);
            (vectors(dim), many).prop_map(|(middle, many)| {
                let size =
                    |vector: &[f32]| vector.iter().fold(0.0f32, |most, one| most.max(one.abs()));
                let mix = |(vector, far): (Vec<f32>, f32)| {
                    let pairs = middle.iter().zip(&vector);
                    let mixed: Vec<_> = pairs
                        .map(|(one, other)| {
                            one / size(&middle) * (1.0 - far) + other / size(&vector) * far
                        })
                        .collect();
                    if size(&mixed) > 0.0 { mixed } else { vector }
                };
                let mut all: Vec<_> = many.into_iter().map(mix).collect();
                all.push(middle.clone());
                all
            })
        })
    }

    /// What a scan finds among all but the last vector, which is asked for, and of which
    /// some are known.
    fn check_scan(
        all: &[Vec<f32>],
        threshold: f64,
        known: u64,
        most: usize,
    ) -> Result<(), TestCaseError> {
        let dim = all[0].len();
        let (query, all) = all.split_last().unwrap();
        let is_known = |row: usize| known >> (row % 64) & 1 == 1;
        let uncentred = filled(dim, all, None);
        let centred = filled(dim, all, Some(&uncentred));
        let query_of_it = Query::new(&unit(query));
        let exact: Vec<_> =
            (0..all.len()).map(|row| query_of_it.similarity(&uncentred.code(row))).collect();
        let mut expected: Vec<_> = (0..all.len())
            .filter(|row| is_known(*row) && exact[*row] >= threshold)
            .map(|row| (exact[row], row))
            .collect();
        expected.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(&other.1)));
        expected.truncate(most);
        for segment in [&uncentred, &centred] {
            let mut best = Best::new(most, threshold, None);
            segment.scan(
                &query_of_it,
                |row, tag| {
                    assert_eq!(tag, row as u16 * 3);
                    is_known(row).then_some((row, -1.0))
                },
                &mut best,
            );
            prop_assert_eq!(best.hits(), &expected[..]);
            let any = (0..all.len()).any(is_known);
            prop_assert_eq!(best.similarity().is_some(), any);
            let nearest = (0..all.len()).filter(|row| is_known(*row)).map(|row| exact[row]);
            prop_assert!(best.similarity() <= nearest.max_by(f64::total_cmp));
        }
        // Against what was given, outside of the deviation.
        let found: Vec<_> = expected.iter().map(|(_, row)| *row).collect();
        for (row, vector) in all.iter().enumerate().filter(|(row, _)| is_known(*row)) {
            let cosine = cosine(query, vector);
            if most > all.len() && (cosine - threshold).abs() > MAX_DEVIATION {
                prop_assert_eq!(
                    found.contains(&row),
                    cosine > threshold,
                    "{} {}",
                    cosine,
                    threshold
                );
            }
        }
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_scan_finds_what_is_similar_and_nothing_else(
            all in clustered(),
            threshold in prop_oneof![-1.0..1.0, Just(1.0), Just(0.9)],
            known in any::<u64>(),
            most in prop_oneof![Just(1usize), Just(3), Just(1_000)],
        ) {
            check_scan(&all, threshold, known, most)?;
        }
    }

    #[test]
    fn few_vectors_take_little_room_and_many_what_they_need() {
        let mut segment = Segment::new(384, None);
        let mut vector = vec![0.0; 384];
        for row in 0..ROWS {
            assert!(!segment.is_full());
            vector[row % 384] += 1.0;
            segment.push(&OwnedCode::of(&unit(&vector)).as_ref(), 0);
            let (rows, blocks) = (row + 1, row / LANES + 1);
            let needed = rows * (384 * 3 / 2 + 8) + blocks * (384 * LANES / 8 + 16 * LANES);
            assert!(segment.heap_bytes() <= needed * 5 / 4, "{row}");
        }
        assert!(segment.is_full());
        assert!(segment.heap_bytes() < ROWS * 654, "{}", segment.heap_bytes());
    }
}
