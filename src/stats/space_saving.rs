//! The keys met most often of late, by a sketch of fixed size: A. Metwally,
//! D. Agrawal, A. El Abbadi, "Efficient Computation of Frequent and Top-k Elements
//! in Data Streams", ICDT 2005, the algorithm the paper calls Space-Saving.
//!
//! A key that has no counter takes that of the least frequent, and its count with
//! it: so a count is never below the truth, and a key above 1/64 of all is always
//! among those that have one. All counts halve every minute, so that the past
//! fades.

use crate::bug;
use crate::time::{MICROS_PER_SECOND, Micros};
use std::hash::{BuildHasher, RandomState};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How many keys have a counter.
const COUNTERS: usize = 64;

/// How much of a key is kept to be shown; what is longer is cut, and told apart
/// by its hash.
const KEY_BYTES: usize = 128;

/// After which time all counts halve.
const HALVED_AFTER: Micros = 60 * MICROS_PER_SECOND;

/// The sketch. A counter is a hash, a count and a key at one index of three lists,
/// so that looking for a hash goes through hashes alone.
#[derive(Debug)]
pub struct SpaceSaving {
    hashes: Vec<u32>,
    counts: Vec<u64>,
    keys: Vec<Vec<u8>>,
    /// Nobody can make up keys that hash alike without it.
    seed: u64,
    /// The index of the one counted last, which is likely to be the next as well.
    last: usize,
    /// No count is less than this, and none before `cursor` is this.
    least: u64,
    cursor: usize,
    halved_at: Micros,
}

impl Default for SpaceSaving {
    fn default() -> Self {
        let seed = RandomState::new().hash_one(());
        let (hashes, counts, keys) = (Vec::new(), Vec::new(), Vec::new());
        Self { hashes, counts, keys, seed, last: 0, least: 0, cursor: 0, halved_at: 0 }
    }
}

impl SpaceSaving {
    /// Counts a key once more.
    pub fn add(&mut self, key: &[u8], now: Micros) {
        self.advance(now);
        // Of 64 keys: half of the bits will do to tell them apart.
        let hash = xxh3_64_with_seed(key, self.seed) as u32;
        if self.hashes.get(self.last) != Some(&hash) {
            self.last = find(&self.hashes, hash).unwrap_or_else(|| self.place(hash, key));
        }
        match self.counts.get_mut(self.last) {
            Some(count) => *count = count.saturating_add(1),
            None => bug("a key without its counter"),
        }
    }

    /// Gives a key a counter, a new one or the least of others: its index.
    fn place(&mut self, hash: u32, key: &[u8]) -> usize {
        if self.counts.len() < COUNTERS {
            self.hashes.push(hash);
            self.counts.push(0);
            self.keys.push(Vec::new());
        }
        let index = self.least();
        let (Some(held), Some(shown)) = (self.hashes.get_mut(index), self.keys.get_mut(index))
        else {
            bug("a counter without its key")
        };
        *held = hash;
        show(key, shown);
        index
    }

    /// The index of a counter with the least count. Counts only grow, so that the
    /// least is looked for anew only when the last one with it has gone: keys that
    /// each come once take the counters in turn.
    fn least(&mut self) -> usize {
        loop {
            let rest = self.counts.iter().enumerate().skip(self.cursor);
            if let Some((index, _)) = rest.into_iter().find(|(_, count)| **count == self.least) {
                self.cursor = index + 1;
                return index;
            }
            let Some(least) = self.counts.iter().min() else { bug("a sketch without counters") };
            (self.least, self.cursor) = (*least, 0);
        }
    }

    /// Halves all counts as often as it is due.
    fn advance(&mut self, now: Micros) {
        // A clock that steps back begins anew.
        if now < self.halved_at || self.counts.is_empty() {
            self.halved_at = now;
        }
        let times = (now - self.halved_at) / HALVED_AFTER;
        if times == 0 {
            return;
        }
        self.halved_at += times * HALVED_AFTER;
        for count in &mut self.counts {
            let halved = u32::try_from(times).ok().and_then(|by| count.checked_shr(by));
            *count = halved.unwrap_or(0);
        }
        let mut kept = self.counts.iter().map(|count| *count > 0);
        self.hashes.retain(|_| kept.next() == Some(true));
        let mut kept = self.counts.iter().map(|count| *count > 0);
        self.keys.retain(|_| kept.next() == Some(true));
        self.counts.retain(|count| *count > 0);
        (self.least, self.cursor) = (0, 0);
    }

    /// The keys, cut short where they are long, with their counts, the largest
    /// first.
    pub fn top(&mut self, now: Micros) -> Vec<(&[u8], u64)> {
        self.advance(now);
        let keys = self.keys.iter().map(Vec::as_slice);
        let mut top: Vec<_> = keys.zip(self.counts.iter().copied()).collect();
        top.sort_unstable_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(other.0)));
        top
    }
}

/// Where a hash is among hashes. Several are compared at a time.
fn find(hashes: &[u32], hash: u32) -> Option<usize> {
    const AT_A_TIME: usize = 16;
    let is_here = |several: &[u32]| several.iter().fold(false, |here, one| here | (*one == hash));
    let chunk = hashes.chunks(AT_A_TIME).position(is_here)? * AT_A_TIME;
    let within = hashes.get(chunk..)?.iter().position(|one| *one == hash)?;
    Some(chunk + within)
}

/// Writes down what is shown of a key.
fn show(key: &[u8], shown: &mut Vec<u8>) {
    const CUT: &[u8] = b"...";
    shown.clear();
    match key.get(..KEY_BYTES - CUT.len()) {
        Some(start) if key.len() > KEY_BYTES => {
            shown.extend_from_slice(start);
            shown.extend_from_slice(CUT);
        }
        _ => shown.extend_from_slice(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const MINUTE: Micros = HALVED_AFTER;

    fn top(sketch: &mut SpaceSaving, now: Micros) -> Vec<(String, u64)> {
        let text = |key: &[u8]| String::from_utf8_lossy(key).into_owned();
        sketch.top(now).into_iter().map(|(key, count)| (text(key), count)).collect()
    }

    #[test]
    fn counts_halve_every_minute_and_what_is_left_of_none_goes() {
        let mut sketch = SpaceSaving::default();
        let start = 1_000 * MINUTE;
        (0..5).for_each(|_| sketch.add(b"a", start));
        sketch.add(b"b", start);
        let of = |name: &str, count| (name.to_owned(), count);
        assert_eq!(top(&mut sketch, start + MINUTE - 1), [of("a", 5), of("b", 1)]);
        assert_eq!(top(&mut sketch, start + MINUTE), [of("a", 2)]);
        assert_eq!(top(&mut sketch, start + 2 * MINUTE - 1), [of("a", 2)]);
        sketch.add(b"a", start + 2 * MINUTE);
        assert_eq!(top(&mut sketch, start + 2 * MINUTE), [of("a", 2)]);
        assert_eq!(top(&mut sketch, start), [of("a", 2)], "a clock that steps back");
        assert_eq!(top(&mut sketch, start + MINUTE), [of("a", 1)], "is the clock from then on");
        assert_eq!(top(&mut sketch, Micros::MAX), []);
    }

    #[test]
    fn long_keys_are_cut_and_told_apart() {
        let mut sketch = SpaceSaving::default();
        let long = [b'k'; 1_000];
        sketch.add(&long, 0);
        sketch.add(&long[1..], 0);
        sketch.add(&long[..KEY_BYTES], 0);
        let top = sketch.top(0);
        assert_eq!(top.len(), 3);
        assert!(top.iter().all(|(key, _)| key.len() == KEY_BYTES));
        assert_eq!(top.iter().filter(|(key, _)| key.ends_with(b"...")).count(), 2);
    }

    proptest! {
        /// What the paper proves: no count is below the truth, nor above it by
        /// more than 1/64 of all; and who is met more often than that is there.
        #[test]
        fn counts_are_off_by_a_64th_of_all_at_most(
            keys in prop::collection::vec(0u32..400, 1..2_000),
            hot in prop::collection::vec(0u32..3, 0..400),
        ) {
            let mut sketch = SpaceSaving::default();
            let mut oracle = HashMap::new();
            for key in keys.iter().chain(&hot) {
                sketch.add(&key.to_le_bytes(), 7);
                *oracle.entry(*key).or_insert(0u64) += 1;
            }
            let most_off = (keys.len() + hot.len()) as u64 / COUNTERS as u64;
            let top: HashMap<_, _> = sketch.top(7).into_iter().map(|(key, count)| {
                (u32::from_le_bytes(key.try_into().unwrap()), count)
            }).collect();
            prop_assert!(top.len() <= COUNTERS);
            for (key, truth) in oracle {
                match top.get(&key) {
                    Some(count) => prop_assert!((truth..=truth + most_off).contains(count)),
                    None => prop_assert!(truth <= most_off, "{} times {}", truth, key),
                }
            }
        }
    }
}
