//! The charges of a sliding window, in at most 512 bytes whatever its limit.
//!
//! Few are kept one by one, in a log. Many are summed up by sub-window, in a
//! grid.
//!
//! # Never too early, too late by less than 1/64 of the window
//!
//! A sub-window is 1/64 of the window, rounded up to a whole microsecond: its
//! last microsecond comes less than `window_us / 64` after its first. There the
//! grid counts all that was charged in it. That is never before it was charged,
//! so nothing is let in too early, and less than 1/64 of the window after, so
//! nothing is denied for longer than that without need.
//!
//! The newest charge's sub-window is still running; it counts at the newest
//! charge, so that no wait is longer than the window. Sub-windows are cut from
//! time itself and not from a first charge, so that a charge stays in its own
//! from log to grid and back, and is found there to be settled.
//!
//! # 512 bytes
//!
//! A trailing window is at most 64 sub-windows long, so it touches at most 65:
//! the newest charge's and 64 before it, of each a sum, which is a word. A log
//! puts a charge into a word: its time into the low bits, as many as tell apart
//! the moments of a window, and its cost into the others, 19 for the longest
//! window, 38 for a minute. 64 words make one block of 512 bytes. The newest
//! charge stands beside them: a key that is charged once in a window needs no
//! block, and 65 charges are exact.

use super::policy::{Cost, MAX_TIME_US, Policy};
use super::window::Settlement;
use crate::time::Micros;
use std::iter;

/// The sub-windows in a window, and the words in the block.
const SUB_WINDOWS: usize = 64;

/// A grid with no more sums than this becomes a log again.
const FEW: usize = SUB_WINDOWS / 4;

/// A log that shrinks keeps room for this many.
const LEAST_ROOM: usize = SUB_WINDOWS / 8;

/// The largest sum, far above any limit: what is more saturates, so that the
/// sum of all sums does not wrap.
const MAX_SUM: u64 = u64::MAX >> 7;

/// What was charged in a window. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charges {
    /// When the newest charge came.
    newest_us: Micros,
    /// What was charged then, or in a grid since its sub-window began. 0 only
    /// in the default.
    newest_cost: Cost,
    /// What was charged before, at most a window ago then.
    older: Older,
}

/// The words, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Older {
    /// What [`pack`] makes of each charge.
    Log(Vec<u64>),
    /// The sums of the sub-windows before the newest charge's.
    Grid(Box<[u64; SUB_WINDOWS]>),
}

impl Default for Older {
    fn default() -> Self {
        Self::Log(Vec::new())
    }
}

/// A charge, or a sum of charges.
struct Held {
    /// Its place among the words. The newest charge has the one after the last.
    place: usize,
    /// When it counts as charged.
    at_us: Micros,
    cost: Cost,
}

fn sub_window_us(policy: &Policy) -> Micros {
    policy.window_us.div_ceil(SUB_WINDOWS as u64)
}

/// The last microsecond of the sub-window of `at_us`.
fn sub_window_end(policy: &Policy, at_us: Micros) -> Micros {
    let length_us = sub_window_us(policy);
    (at_us / length_us).saturating_add(1).saturating_mul(length_us) - 1
}

/// The place of the sub-window of `at_us` in a grid whose last sub-window is
/// the one before that of `newest_us`; `None` if it lies before the first.
fn place(policy: &Policy, at_us: Micros, newest_us: Micros) -> Option<usize> {
    let length_us = sub_window_us(policy);
    let sub_windows = (newest_us / length_us).saturating_sub(at_us / length_us);
    SUB_WINDOWS.checked_sub(usize::try_from(sub_windows).ok()?)
}

/// Whether a charge at `at_us` still weighs at `now_us`.
pub fn weighs(policy: &Policy, at_us: Micros, now_us: Micros) -> bool {
    now_us < at_us.saturating_add(policy.window_us)
}

/// How many bits of a log's words are time.
fn time_bits(policy: &Policy) -> u32 {
    u64::BITS - policy.window_us.leading_zeros()
}

/// The word of a charge; `None` if it costs too much for one.
fn pack(policy: &Policy, at_us: Micros, cost: Cost) -> Option<u64> {
    let bits = time_bits(policy);
    (cost.leading_zeros() >= bits).then_some(cost << bits | at_us & !(u64::MAX << bits))
}

fn add(sum: u64, cost: Cost) -> u64 {
    sum.saturating_add(cost).min(MAX_SUM)
}

fn set(words: &mut [u64], place: usize, word: u64) {
    if let Some(held) = words.get_mut(place) {
        *held = word;
    }
}

impl Charges {
    /// Rebuilds charges from [`parts`](Self::parts) that nobody has checked;
    /// `None` unless there can be such charges.
    pub fn from_parts(policy: &Policy, exact: bool, parts: &[(Micros, Cost)]) -> Option<Self> {
        let Some((&(newest_us, newest_cost), older)) = parts.split_last() else {
            return exact.then(Self::default);
        };
        let sound = older.len() <= SUB_WINDOWS
            && newest_us <= MAX_TIME_US
            && parts.is_sorted_by(|(before_us, _), (after_us, _)| before_us < after_us)
            && parts.iter().all(|(_, cost)| (1..=MAX_SUM).contains(cost));
        if !sound {
            return None;
        }
        let older = if exact {
            let words = older.iter().map(|&(at_us, cost)| {
                pack(policy, at_us, cost).filter(|_| weighs(policy, at_us, newest_us))
            });
            Older::Log(words.collect::<Option<_>>()?)
        } else {
            let mut sums = Box::new([0; SUB_WINDOWS]);
            for &(at_us, cost) in older {
                let sum = sums.get_mut(place(policy, at_us, newest_us)?)?;
                *sum = (at_us == sub_window_end(policy, at_us)).then_some(cost)?;
            }
            Older::Grid(sums)
        };
        Some(Self { newest_us, newest_cost, older })
    }

    /// All that is held, oldest first: when it counts as charged, and its cost.
    pub fn parts(&self, policy: &Policy) -> impl Iterator<Item = (Micros, Cost)> {
        self.held(policy).map(|held| (held.at_us, held.cost))
    }

    /// Whether they are kept one by one.
    pub fn exact(&self) -> bool {
        matches!(self.older, Older::Log(_))
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match &self.older {
            Older::Log(log) => size_of::<u64>() * log.capacity(),
            Older::Grid(sums) => size_of_val(sums.as_slice()),
        }
    }

    /// When the newest charge came, if there is any.
    pub fn newest_us(&self) -> Option<Micros> {
        (self.newest_cost > 0).then_some(self.newest_us)
    }

    /// The words, and by how many bits the cost in them is shifted.
    fn words(&self, policy: &Policy) -> (&[u64], u32) {
        match &self.older {
            Older::Log(log) => (log, time_bits(policy)),
            Older::Grid(sums) => (sums.as_slice(), 0),
        }
    }

    fn held(&self, policy: &Policy) -> impl DoubleEndedIterator<Item = Held> {
        let newest_us = self.newest_us;
        let (words, shift) = self.words(policy);
        let length_us = sub_window_us(policy);
        let grid_end_us = (!self.exact()).then(|| sub_window_end(policy, newest_us));
        let older = words.iter().enumerate().map(move |(place, &word)| {
            let (end_us, before_us) = match grid_end_us {
                None => (newest_us, newest_us.wrapping_sub(word) & !(u64::MAX << shift)),
                Some(end_us) => (end_us, (SUB_WINDOWS - place) as u64 * length_us),
            };
            Held { place, at_us: end_us.saturating_sub(before_us), cost: word >> shift }
        });
        let newest = Held { place: words.len(), at_us: newest_us, cost: self.newest_cost };
        older.chain(iter::once(newest)).filter(|held| held.cost > 0)
    }

    fn held_live(&self, policy: &Policy, now_us: Micros) -> impl Iterator<Item = Held> {
        self.held(policy).filter(move |held| weighs(policy, held.at_us, now_us))
    }

    /// What of the [`parts`](Self::parts) weighs at `now_us`.
    pub fn live(&self, policy: &Policy, now_us: Micros) -> impl Iterator<Item = (Micros, Cost)> {
        self.held_live(policy, now_us).map(|held| (held.at_us, held.cost))
    }

    /// The sum of what weighs at `now_us`.
    pub fn sum(&self, policy: &Policy, now_us: Micros) -> u64 {
        let Some(oldest) = self.held_live(policy, now_us).next() else { return 0 };
        let (words, shift) = self.words(policy);
        let live = words.get(oldest.place..).unwrap_or_default();
        self.newest_cost + live.iter().map(|word| word >> shift).sum::<u64>()
    }

    /// The charge that came at `at_us`, or the sum with it.
    fn find(&self, policy: &Policy, at_us: Micros) -> Option<Held> {
        if at_us > self.newest_us {
            return None;
        }
        let mut end_us = sub_window_end(policy, at_us);
        if !self.exact() {
            end_us = end_us.min(self.newest_us);
        }
        // A log that was a grid has sums in it, each at its sub-window's end.
        let alone = self.held(policy).find(|held| held.at_us == at_us);
        alone.or_else(|| self.held(policy).find(|held| held.at_us == end_us))
    }

    /// When a charge that came at `at_us` counts; `None` if it is not held.
    pub fn counts_at(&self, policy: &Policy, at_us: Micros) -> Option<Micros> {
        self.find(policy, at_us).map(|held| held.at_us)
    }

    /// Adds a charge at `now_us`, which is not before the newest.
    pub fn push(&mut self, policy: &Policy, cost: Cost, now_us: Micros) {
        if cost == 0 {
            return;
        }
        if self.newest_cost > 0 && self.newest_us != now_us {
            if self.exact() {
                self.log_newest(policy);
            }
            if !self.exact() {
                self.move_grid(policy, now_us);
            }
        }
        self.newest_us = now_us;
        self.newest_cost = add(self.newest_cost, cost);
    }

    /// Puts the newest charge into the log, which becomes a grid if it is full.
    fn log_newest(&mut self, policy: &Policy) {
        let word = pack(policy, self.newest_us, self.newest_cost);
        match (&mut self.older, word) {
            (Older::Log(log), Some(word)) if log.len() < SUB_WINDOWS => {
                log.push(word);
                self.newest_cost = 0;
            }
            _ => self.make_grid(policy),
        }
    }

    /// Moves the grid on to the sub-window of `now_us`. It becomes a log if few
    /// sums are left.
    fn move_grid(&mut self, policy: &Policy, now_us: Micros) {
        let place = place(policy, self.newest_us, now_us).unwrap_or_default();
        let Older::Grid(sums) = &mut self.older else { return };
        if place == SUB_WINDOWS {
            return;
        }
        sums.rotate_left(SUB_WINDOWS - place);
        sums.iter_mut().skip(place).for_each(|sum| *sum = 0);
        set(sums.as_mut(), place, self.newest_cost);
        (self.newest_us, self.newest_cost) = (now_us, 0);
        if self.held(policy).count() <= FEW {
            self.make_log(policy);
        }
    }

    /// Sums the log up.
    fn make_grid(&mut self, policy: &Policy) {
        let mut newest_cost = 0;
        let mut sums = Box::new([0; SUB_WINDOWS]);
        for held in self.held(policy) {
            let place = place(policy, held.at_us, self.newest_us).unwrap_or_default();
            let sum = sums.get_mut(place).unwrap_or(&mut newest_cost);
            *sum = add(*sum, held.cost);
        }
        self.newest_cost = newest_cost;
        self.older = Older::Grid(sums);
    }

    /// Logs what of the grid still weighs, unless a sum is too much for a word.
    fn make_log(&mut self, policy: &Policy) {
        let live = self.live(policy, self.newest_us);
        let log = live.map(|(at_us, cost)| pack(policy, at_us, cost)).collect();
        if let Some(log) = log {
            self.older = Older::Log(log);
        }
    }

    /// Takes out the newest charge, and says what it cost. The one before it is
    /// the newest then.
    pub fn pop(&mut self, policy: &Policy) -> Cost {
        let cost = std::mem::take(&mut self.newest_cost);
        let Some(newest) = self.held(policy).next_back() else {
            *self = Self::default();
            return cost;
        };
        match &mut self.older {
            Older::Log(log) => log.truncate(newest.place),
            Older::Grid(sums) => {
                sums.iter_mut().skip(newest.place).for_each(|sum| *sum = 0);
                sums.rotate_right(SUB_WINDOWS - newest.place);
            }
        }
        (self.newest_us, self.newest_cost) = (newest.at_us, newest.cost);
        cost
    }

    /// Forgets what no longer weighs at `now_us`, and gives back the room of a
    /// log that has become much shorter.
    pub fn forget(&mut self, policy: &Policy, now_us: Micros) {
        let Some(oldest) = self.held_live(policy, now_us).next() else {
            *self = Self::default();
            return;
        };
        if let Older::Log(log) = &mut self.older {
            log.drain(..oldest.place);
            let room = log.capacity();
            if room > LEAST_ROOM && log.len() <= room / 4 {
                log.shrink_to(room / 2);
            }
        }
    }

    /// Corrects the charge of a settlement, or the sum with it.
    pub fn correct(&mut self, policy: &Policy, settlement: &Settlement) {
        let Some(held) = self.find(policy, settlement.mark.0) else { return };
        let cost = settlement.correct(held.cost).min(MAX_SUM);
        match &mut self.older {
            Older::Grid(sums) if held.place < SUB_WINDOWS => set(sums.as_mut(), held.place, cost),
            Older::Log(log) if held.place < log.len() => match pack(policy, held.at_us, cost) {
                _ if cost == 0 => drop(log.remove(held.place)),
                Some(word) => set(log, held.place, word),
                None => {
                    self.make_grid(policy);
                    self.correct(policy, settlement);
                }
            },
            _ if cost == 0 => drop(self.pop(policy)),
            _ => self.newest_cost = cost,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 64 seconds: a sub-window is a second.
    const POLICY: Policy = Policy::new(0, 64_000_000);

    /// Charges as a window makes them.
    fn charged(policy: &Policy, steps: &[(Micros, Cost)]) -> Charges {
        let mut charges = Charges::default();
        let mut now_us = 0;
        for (step_us, cost) in steps {
            now_us += step_us;
            charges.forget(policy, now_us);
            charges.push(policy, *cost, now_us);
        }
        charges
    }

    #[test]
    fn are_exact_up_to_65_and_again_once_they_are_few() {
        let mut charges = charged(&POLICY, &[(100_000, 1); 65]);
        assert!(charges.exact());
        charges.push(&POLICY, 1, 6_600_000);
        assert!(!charges.exact());
        assert_eq!(charges.parts(&POLICY).count(), 7);
        assert_eq!(charges.sum(&POLICY, 6_600_000), 66);
        charges.push(&POLICY, 1, 7_000_000);
        assert!(charges.exact());
        // A charge is found in the sum that it went into.
        assert_eq!(charges.counts_at(&POLICY, 500_000), Some(999_999));
        assert_eq!(charges.counts_at(&POLICY, 7_000_000), Some(7_000_000));
    }

    #[test]
    fn that_cost_too_much_for_a_log_are_summed_up() {
        // A word has 26 bits of time, and so 38 of cost.
        let most = u64::MAX >> 26;
        assert!(charged(&POLICY, &[(1, most), (1, 1)]).exact());
        let charges = charged(&POLICY, &[(1, most + 1), (1, 1)]);
        assert!(!charges.exact());
        assert_eq!(charges.sum(&POLICY, 2), most + 2);
    }

    #[test]
    fn that_nobody_can_have_made_are_refused() {
        let refused =
            |exact, parts: &[(Micros, Cost)]| Charges::from_parts(&POLICY, exact, parts).is_none();
        assert!(!refused(true, &[]) && refused(false, &[]));
        for exact in [true, false] {
            assert!(!refused(exact, &[(999_999, 1), (64_999_998, 1)]));
            assert!(refused(exact, &[(64_999_998, 1), (999_999, 1)]));
            assert!(refused(exact, &[(5, 1), (5, 1)]));
            assert!(refused(exact, &[(5, 0)]));
            assert!(refused(exact, &[(5, MAX_SUM + 1)]));
            assert!(refused(exact, &[(MAX_TIME_US + 1, 1)]));
            assert!(refused(exact, &[(999_999, 1), (66_000_000, 1)]));
        }
        assert!(refused(true, &[(5, 1 << 38), (6, 1)]));
        assert!(refused(true, &Vec::from_iter((0..66).map(|at_us| (at_us, 1)))));
        assert!(refused(false, &[(999_998, 1), (5_000_000, 1)]));
        assert!(refused(false, &[(999_999, 1), (999_999, 1)]));
    }

    proptest! {
        #[test]
        fn take_at_most_512_bytes_and_come_back_as_they_went(
            window_us in 1_000u64..1_000_000,
            steps in prop::collection::vec((0u64..20_000, 1u64..1_000), 1..300),
        ) {
            let policy = Policy::new(0, window_us);
            for end in 1..=steps.len() {
                let charges = charged(&policy, &steps[..end]);
                if let Older::Log(log) = &charges.older {
                    prop_assert!(log.capacity() * size_of::<u64>() <= 512);
                }
                let parts: Vec<_> = charges.parts(&policy).collect();
                let rebuilt = Charges::from_parts(&policy, charges.exact(), &parts);
                prop_assert_eq!(rebuilt, Some(charges));
            }
        }
    }
}
