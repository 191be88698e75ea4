//! A sliding log: the charges of a sliding window, in at most 1 KiB whatever its
//! limit.
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
//! # 1 KiB
//!
//! A trailing window is at most 64 sub-windows long, so it touches at most 65:
//! the newest charge's and 64 before it, of each a sum, which is a word. A log
//! keeps the time and the cost of a charge, two words, of at most 64. The newest
//! charge stands beside them: a key that is charged once in a window needs no
//! block, and 65 charges are exact.

use super::meter::Settlement;
use super::policy::{Cost, Policy};
use crate::bounds::MAX_TIME_US;
use crate::bug;
use crate::time::Micros;
use crate::timegrid::TimeGrid;
use std::iter;

/// The sub-windows in a window, and the charges in a log.
const SUB_WINDOWS: usize = 64;

/// A grid with no more sums than this becomes a log again.
const FEW: usize = SUB_WINDOWS / 4;

/// A log that shrinks keeps room for this many.
const LEAST_ROOM: usize = SUB_WINDOWS / 8;

/// A log's first block has room for this many.
const FIRST_ROOM: usize = SUB_WINDOWS / 16;

/// The largest sum, far above any limit: what is more saturates, so that the
/// sum of all sums does not wrap.
const MAX_SUM: u64 = u64::MAX >> 7;

/// A charge, or a sum of charges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// When it counts as charged.
    pub at_us: Micros,
    /// What was charged.
    pub cost: Cost,
}

/// What was charged in a window. The default is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlidingLog {
    /// When the newest charge came.
    newest_us: Micros,
    /// What was charged then, or in a grid since its sub-window began. 0 only
    /// in the default.
    newest_cost: Cost,
    /// What was charged before, at most a window ago then, oldest first.
    older: Older,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Older {
    /// Each charge.
    Log(Vec<Charge>),
    /// The sums of the sub-windows before the newest charge's.
    Grid(Box<[u64; SUB_WINDOWS]>),
}

impl Default for Older {
    fn default() -> Self {
        Self::Log(Vec::new())
    }
}

/// The sub-windows of all time.
fn sub_windows(policy: &Policy) -> TimeGrid {
    TimeGrid { tile_us: policy.window_us.div_ceil(SUB_WINDOWS as u64) }
}

/// The last microsecond of the sub-window of `at_us`.
fn sub_window_end(policy: &Policy, at_us: Micros) -> Micros {
    let grid = sub_windows(policy);
    grid.end_us(grid.tile(at_us))
}

/// The index of the sub-window of `at_us` in a grid whose last sub-window is
/// the one before that of `newest_us`; `None` if it lies before the first.
fn grid_index(policy: &Policy, at_us: Micros, newest_us: Micros) -> Option<usize> {
    let grid = sub_windows(policy);
    let before = grid.tile(newest_us).saturating_sub(grid.tile(at_us));
    SUB_WINDOWS.checked_sub(usize::try_from(before).ok()?)
}

/// Whether a charge at `at_us` still weighs at `now_us`.
pub fn weighs(policy: &Policy, at_us: Micros, now_us: Micros) -> bool {
    now_us < at_us.saturating_add(policy.window_us)
}

fn add(sum: u64, cost: Cost) -> u64 {
    sum.saturating_add(cost).min(MAX_SUM)
}

impl SlidingLog {
    /// Rebuilds a log from [`charges`](Self::charges) that nobody has checked;
    /// `None` unless there can be such charges.
    pub fn from_charges(policy: &Policy, exact: bool, charges: &[Charge]) -> Option<Self> {
        let Some((&Charge { at_us: newest_us, cost: newest_cost }, older)) = charges.split_last()
        else {
            return exact.then(Self::default);
        };
        let sound = older.len() <= SUB_WINDOWS
            && newest_us <= MAX_TIME_US
            && charges.is_sorted_by(|before, after| before.at_us < after.at_us)
            && charges.iter().all(|charge| (1..=MAX_SUM).contains(&charge.cost));
        if !sound {
            return None;
        }
        let older = if exact {
            let live = older.iter().all(|charge| weighs(policy, charge.at_us, newest_us));
            live.then(|| Older::Log(older.to_vec()))?
        } else {
            let mut sums = Box::new([0; SUB_WINDOWS]);
            for charge in older {
                let sum = sums.get_mut(grid_index(policy, charge.at_us, newest_us)?)?;
                let at_end = charge.at_us == sub_window_end(policy, charge.at_us);
                *sum = at_end.then_some(charge.cost)?;
            }
            Older::Grid(sums)
        };
        Some(Self { newest_us, newest_cost, older })
    }

    /// All that is held, oldest first.
    pub fn charges(&self, policy: &Policy) -> impl DoubleEndedIterator<Item = Charge> {
        self.indexed(policy).map(|(_, charge)| charge)
    }

    /// The most charges that are held.
    pub const MAX_CHARGES: usize = SUB_WINDOWS + 1;

    /// Whether they are kept one by one.
    pub fn exact(&self) -> bool {
        matches!(self.older, Older::Log(_))
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        match &self.older {
            Older::Log(log) => size_of::<Charge>() * log.capacity(),
            Older::Grid(sums) => size_of_val(sums.as_slice()),
        }
    }

    /// When the newest charge came, if there is any.
    pub fn newest_us(&self) -> Option<Micros> {
        (self.newest_cost > 0).then_some(self.newest_us)
    }

    /// The charges of a log and the sums of a grid, one of which is empty.
    fn older(&self) -> (&[Charge], &[u64]) {
        match &self.older {
            Older::Log(log) => (log, &[]),
            Older::Grid(sums) => (&[], sums.as_slice()),
        }
    }

    /// When the sums of a grid count, the first one first.
    fn grid_times(&self, policy: &Policy) -> impl Fn(usize) -> Micros {
        let length_us = sub_windows(policy).tile_us;
        let end_us = sub_window_end(policy, self.newest_us);
        move |index| end_us.saturating_sub((SUB_WINDOWS - index) as u64 * length_us)
    }

    /// All that is held, each with its index. The newest charge has the one after
    /// the last of the older ones.
    fn indexed(&self, policy: &Policy) -> impl DoubleEndedIterator<Item = (usize, Charge)> {
        let (log, sums) = self.older();
        let at_us = self.grid_times(policy);
        let sums = sums.iter().enumerate();
        let sums =
            sums.map(move |(index, cost)| (index, Charge { at_us: at_us(index), cost: *cost }));
        let newest = Charge { at_us: self.newest_us, cost: self.newest_cost };
        let newest = (log.len() + sums.len(), newest);
        let log = log.iter().copied().enumerate();
        log.chain(sums).chain(iter::once(newest)).filter(|(_, charge)| charge.cost > 0)
    }

    /// How many of the older charges, the first ones, weigh on nothing any more.
    fn gone(&self, policy: &Policy, now_us: Micros) -> usize {
        match &self.older {
            Older::Log(log) => log.partition_point(|charge| !weighs(policy, charge.at_us, now_us)),
            Older::Grid(sums) => {
                let at_us = self.grid_times(policy);
                (0..sums.len()).take_while(|index| !weighs(policy, at_us(*index), now_us)).count()
            }
        }
    }

    /// What of the [`charges`](Self::charges) weighs at `now_us`.
    pub fn live(&self, policy: &Policy, now_us: Micros) -> impl Iterator<Item = Charge> {
        self.charges(policy).skip_while(move |charge| !weighs(policy, charge.at_us, now_us))
    }

    /// The sum of what weighs at `now_us`.
    pub fn sum(&self, policy: &Policy, now_us: Micros) -> u64 {
        if !weighs(policy, self.newest_us, now_us) {
            return 0;
        }
        let gone = self.gone(policy, now_us);
        let older: u64 = match &self.older {
            Older::Log(log) => log.iter().skip(gone).map(|charge| charge.cost).sum(),
            Older::Grid(sums) => sums.iter().skip(gone).sum(),
        };
        self.newest_cost + older
    }

    /// The charge that came at `at_us`, or the sum with it.
    fn find(&self, policy: &Policy, at_us: Micros) -> Option<(usize, Charge)> {
        if at_us > self.newest_us {
            return None;
        }
        let mut end_us = sub_window_end(policy, at_us);
        if !self.exact() {
            end_us = end_us.min(self.newest_us);
        }
        // A log that was a grid has sums in it, each at its sub-window's end.
        let alone = self.indexed(policy).find(|(_, charge)| charge.at_us == at_us);
        alone.or_else(|| self.indexed(policy).find(|(_, charge)| charge.at_us == end_us))
    }

    /// When a charge that came at `at_us` counts; `None` if it is not held.
    pub fn counts_at(&self, policy: &Policy, at_us: Micros) -> Option<Micros> {
        self.find(policy, at_us).map(|(_, charge)| charge.at_us)
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
        match &mut self.older {
            Older::Log(log) if log.len() < SUB_WINDOWS => {
                if log.len() == log.capacity() {
                    // Twice the room, but never more than a full log takes: one that
                    // was loaded or copied is of any length.
                    let room = (2 * log.len()).clamp(FIRST_ROOM, SUB_WINDOWS);
                    log.reserve_exact(room - log.len());
                }
                log.push(Charge { at_us: self.newest_us, cost: self.newest_cost });
                self.newest_cost = 0;
            }
            _ => self.make_grid(policy),
        }
    }

    /// Moves the grid on to the sub-window of `now_us`. It becomes a log if few
    /// sums are left.
    fn move_grid(&mut self, policy: &Policy, now_us: Micros) {
        let Older::Grid(sums) = &mut self.older else { return };
        let (newest_us, newest_cost) = (self.newest_us, self.newest_cost);
        match grid_index(policy, newest_us, now_us) {
            Some(SUB_WINDOWS) => return,
            Some(index) => {
                sums.rotate_left(SUB_WINDOWS - index);
                let mut moved = sums.iter_mut().skip(index);
                moved.next().into_iter().for_each(|sum| *sum = newest_cost);
                moved.for_each(|sum| *sum = 0);
            }
            // All of it lies before the first sub-window.
            None => sums.fill(0),
        }
        (self.newest_us, self.newest_cost) = (now_us, 0);
        if self.charges(policy).count() <= FEW {
            self.older = Older::Log(self.live(policy, now_us).collect());
        }
    }

    /// Sums the log up.
    fn make_grid(&mut self, policy: &Policy) {
        let mut newest_cost = 0;
        let mut sums = Box::new([0; SUB_WINDOWS]);
        for charge in self.charges(policy) {
            // What came in the newest charge's sub-window is summed up with it.
            let Some(index) = grid_index(policy, charge.at_us, self.newest_us) else {
                bug("a charge in a log lies before its window")
            };
            let sum = sums.get_mut(index).unwrap_or(&mut newest_cost);
            *sum = add(*sum, charge.cost);
        }
        self.newest_cost = newest_cost;
        self.older = Older::Grid(sums);
    }

    /// Takes out the newest charge, and says what it cost. The one before it is
    /// the newest then.
    pub fn pop(&mut self, policy: &Policy) -> Cost {
        let cost = std::mem::take(&mut self.newest_cost);
        let Some((index, newest)) = self.indexed(policy).next_back() else {
            *self = Self::default();
            return cost;
        };
        match &mut self.older {
            Older::Log(log) => log.truncate(index),
            Older::Grid(sums) => {
                sums.iter_mut().skip(index).for_each(|sum| *sum = 0);
                sums.rotate_right(SUB_WINDOWS - index);
            }
        }
        (self.newest_us, self.newest_cost) = (newest.at_us, newest.cost);
        cost
    }

    /// Forgets what no longer weighs at `now_us`, and gives back the room of a
    /// log that has become much shorter.
    pub fn forget(&mut self, policy: &Policy, now_us: Micros) {
        if !weighs(policy, self.newest_us, now_us) {
            *self = Self::default();
            return;
        }
        let gone = self.gone(policy, now_us);
        if let Older::Log(log) = &mut self.older {
            log.drain(..gone);
            let room = log.capacity();
            if room > LEAST_ROOM && log.len() <= room / 4 {
                log.shrink_to(room / 2);
            }
        }
    }

    /// Corrects the charge of a settlement, or the sum with it.
    pub fn correct(&mut self, policy: &Policy, settlement: &Settlement) {
        let Some((index, charge)) = self.find(policy, settlement.position.0) else { return };
        let cost = settlement.correct(charge.cost).min(MAX_SUM);
        match &mut self.older {
            Older::Log(log) if index < log.len() && cost == 0 => _ = log.remove(index),
            Older::Log(log) if index < log.len() => {
                log.iter_mut().skip(index).take(1).for_each(|charge| charge.cost = cost);
            }
            Older::Grid(sums) if index < SUB_WINDOWS => {
                sums.iter_mut().skip(index).take(1).for_each(|sum| *sum = cost);
            }
            _ if cost == 0 => _ = self.pop(policy),
            _ => self.newest_cost = cost,
        }
    }

    /// Has the block of the older charges moved, by the one that fits.
    pub fn relocate(
        &mut self,
        log: impl FnOnce(&mut Vec<Charge>),
        sums: impl FnOnce(&mut Vec<u64>),
    ) {
        self.older = match std::mem::take(&mut self.older) {
            Older::Log(mut block) => {
                log(&mut block);
                Older::Log(block)
            }
            Older::Grid(grid) => {
                let grid: Box<[u64]> = grid;
                let mut block = grid.into_vec();
                sums(&mut block);
                match block.into_boxed_slice().try_into() {
                    Ok(grid) => Older::Grid(grid),
                    Err(_) => bug("a grid that was moved has another length"),
                }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::super::policy::MAX_WINDOW_US;
    use super::*;
    use crate::bounds::MAX_AMOUNT;
    use proptest::prelude::*;

    /// 64 seconds: a sub-window is a second.
    const POLICY: Policy = Policy::new(0, 64_000_000);

    /// Charges as a window makes them.
    fn charged(policy: &Policy, steps: &[(Micros, Cost)]) -> SlidingLog {
        let mut log = SlidingLog::default();
        let mut now_us = 0;
        for (step_us, cost) in steps {
            now_us += step_us;
            log.forget(policy, now_us);
            log.push(policy, *cost, now_us);
        }
        log
    }

    #[test]
    fn is_exact_up_to_65_and_again_once_they_are_few() {
        let mut log = charged(&POLICY, &[(100_000, 1); 65]);
        assert!(log.exact());
        log.push(&POLICY, 1, 6_600_000);
        assert!(!log.exact());
        assert_eq!(log.charges(&POLICY).count(), 7);
        assert_eq!(log.sum(&POLICY, 6_600_000), 66);
        log.push(&POLICY, 1, 7_000_000);
        assert!(log.exact());
        // A charge is found in the sum that it went into.
        assert_eq!(log.counts_at(&POLICY, 500_000), Some(999_999));
        assert_eq!(log.counts_at(&POLICY, 7_000_000), Some(7_000_000));
    }

    #[test]
    fn that_nobody_can_have_made_is_refused() {
        let refused = |exact, charges: &[(Micros, Cost)]| {
            let charge = |&(at_us, cost): &(Micros, Cost)| Charge { at_us, cost };
            let charges: Vec<_> = charges.iter().map(charge).collect();
            SlidingLog::from_charges(&POLICY, exact, &charges).is_none()
        };
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
        assert!(!refused(true, &[(5, MAX_AMOUNT), (6, MAX_AMOUNT)]));
        assert!(refused(true, &Vec::from_iter((0..66).map(|at_us| (at_us, 1)))));
        assert!(refused(false, &[(999_998, 1), (5_000_000, 1)]));
        assert!(refused(false, &[(999_999, 1), (999_999, 1)]));
    }

    proptest! {
        #[test]
        fn takes_at_most_1_kib_and_comes_back_as_it_went(
            window_us in 1_000u64..1_000_000,
            steps in prop::collection::vec((0u64..20_000, 1u64..1_000), 1..300),
        ) {
            let policy = Policy::new(0, window_us);
            for end in 1..=steps.len() {
                let log = charged(&policy, &steps[..end]);
                prop_assert!(log.heap_bytes() <= 1_024);
                let charges: Vec<_> = log.charges(&policy).collect();
                prop_assert!(charges.len() <= SlidingLog::MAX_CHARGES);
                let rebuilt = SlidingLog::from_charges(&policy, log.exact(), &charges);
                prop_assert_eq!(rebuilt.as_ref(), Some(&log));
                let mut moved = log.clone();
                moved.relocate(|block| *block = block.clone(), |block| *block = block.clone());
                prop_assert_eq!(moved, log);
            }
        }

        /// What was loaded or copied has no more room than it needs, and grows
        /// from any length.
        #[test]
        fn takes_at_most_1_kib_also_from_when_it_was_loaded_or_copied(
            steps in prop::collection::vec((1u64..20_000, 1u64..1_000), 2..140),
            start: prop::sample::Index,
        ) {
            let policy = Policy::new(0, 1_000_000);
            let (before, after) = steps.split_at(start.index(steps.len()));
            let log = charged(&policy, before);
            let charges: Vec<_> = log.charges(&policy).collect();
            let loaded = SlidingLog::from_charges(&policy, log.exact(), &charges).unwrap();
            for mut copy in [loaded, log.clone()] {
                let mut now_us = before.iter().map(|(step_us, _)| step_us).sum();
                for (step_us, cost) in after {
                    now_us += step_us;
                    copy.forget(&policy, now_us);
                    copy.push(&policy, *cost, now_us);
                    prop_assert!(copy.heap_bytes() <= 1_024, "{}", copy.heap_bytes());
                }
                prop_assert_eq!(copy, charged(&policy, &steps));
            }
        }

        /// The oracle: every charge. Up to 65 of them are told apart, whatever
        /// they cost and however long the window.
        #[test]
        fn of_65_charges_each_leaves_in_its_own_microsecond(
            window_us in prop_oneof![1_000..=MAX_WINDOW_US, Just(MAX_WINDOW_US), Just(30 * 86_400_000_000)],
            charges in prop::collection::vec((1u64..1_000, 1..=MAX_AMOUNT), 1..=65),
        ) {
            let policy = Policy::new(0, window_us);
            let mut log = SlidingLog::default();
            let (mut now_us, mut made) = (0, Vec::new());
            for (parts, cost) in charges {
                now_us += 1 + window_us / 66 * parts / 1_000;
                log.forget(&policy, now_us);
                log.push(&policy, cost, now_us);
                made.push(Charge { at_us: now_us, cost });
            }
            prop_assert!(log.exact());
            for charge in &made {
                for at_us in [charge.at_us + window_us - 1, charge.at_us + window_us] {
                    let weigh = made.iter().filter(|charge| at_us - charge.at_us < window_us);
                    let expected: u64 = weigh.map(|charge| charge.cost).sum();
                    prop_assert!(at_us < now_us || log.sum(&policy, at_us) == expected);
                }
            }
        }
    }
}
