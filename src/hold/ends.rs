//! The order in which holds end.
//!
//! A tree of runs: a run has the ends of some holds one beside the other, and what they
//! hold together. So how much has ended by a moment is added up run by run, and not
//! hold by hold.

use crate::id::Id;
use crate::time::Micros;
use std::collections::BTreeMap;
use std::iter;
use std::ops::Bound;

/// The most ends in a run. In tests few, so that there are many runs.
const FULL: usize = if cfg!(test) { 4 } else { 16 };

/// A run with no more is short.
const SHORT: usize = FULL / 4;

/// How many holds, and how much they hold together. Sums wrap: what is taken out was
/// added before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// How many.
    pub count: usize,
    /// How much.
    pub cost: u64,
}

impl Sum {
    /// With so much more.
    pub fn add(&mut self, other: Self) {
        self.count = self.count.wrapping_add(other.count);
        self.cost = self.cost.wrapping_add(other.cost);
    }

    /// With so much less.
    pub fn subtract(&mut self, other: Self) {
        self.count = self.count.wrapping_sub(other.count);
        self.cost = self.cost.wrapping_sub(other.cost);
    }
}

/// When a hold ends, and which: of those that end together one after the other.
pub type End = (Micros, Id);

/// The first and the last of all ids.
const FIRST: End = (0, Id([0; 16]));
const LAST: Id = Id([u8::MAX; 16]);

#[derive(Clone, Debug, Default)]
struct Run {
    ends: Vec<(End, u64)>,
    cost: u64,
}

impl Run {
    fn sum(&self) -> Sum {
        Sum { count: self.ends.len(), cost: self.cost }
    }

    fn first(&self) -> Option<End> {
        self.ends.first().map(|(end, _)| *end)
    }

    fn last(&self) -> Option<End> {
        self.ends.last().map(|(end, _)| *end)
    }

    fn add(&mut self, end: End, cost: u64) {
        let at = self.ends.partition_point(|(other, _)| *other < end);
        self.ends.insert(at, (end, cost));
        self.cost = self.cost.wrapping_add(cost);
    }

    fn remove(&mut self, at: usize) -> (End, u64) {
        let (end, cost) = self.ends.remove(at);
        self.cost = self.cost.wrapping_sub(cost);
        (end, cost)
    }

    /// Gives its second half away.
    fn split(&mut self) -> Self {
        let ends = self.ends.split_off(FULL / 2);
        let cost = sum_of(&ends);
        self.cost = self.cost.wrapping_sub(cost);
        Self { ends, cost }
    }
}

/// The ends of holds, in order. The default has none.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    /// The first run, which has some if there are any: few holds have no other.
    first: Run,
    /// The others, each by an end that none in it comes before, and all before it do.
    others: BTreeMap<End, Run>,
}

fn sum_of(ends: &[(End, u64)]) -> u64 {
    ends.iter().fold(0, |sum, (_, cost)| sum.wrapping_add(*cost))
}

impl FromIterator<(End, u64)> for Ends {
    fn from_iter<I: IntoIterator<Item = (End, u64)>>(ends: I) -> Self {
        let mut ends: Vec<_> = ends.into_iter().collect();
        ends.sort_unstable();
        let run = |ends: &[(End, u64)]| Run { ends: ends.to_vec(), cost: sum_of(ends) };
        let mut runs = ends.chunks(FULL).map(run);
        let first = runs.next().unwrap_or_default();
        Self { first, others: runs.filter_map(|run| Some((run.first()?, run))).collect() }
    }
}

impl Ends {
    /// The last of them.
    pub fn last(&self) -> Option<End> {
        self.others.last_key_value().map_or(&self.first, |(_, run)| run).last()
    }

    /// Those that come after a moment, in order.
    pub fn after(&self, moment_us: Micros) -> impl Iterator<Item = End> {
        let ends =
            self.runs_from(moment_us).flat_map(|(_, run)| run.ends.iter().map(|(end, _)| *end));
        ends.skip_while(move |(ends_us, _)| *ends_us <= moment_us)
    }

    /// What ends after a moment and until another.
    pub fn sum(&self, after_us: Micros, until_us: Micros) -> Sum {
        let mut sum = Sum::default();
        if self.first.first().is_none_or(|(ends_us, _)| until_us < ends_us) {
            return sum;
        }
        let is_in = |(ends_us, _): End| after_us < ends_us && ends_us <= until_us;
        let mut runs = self.runs_from(after_us).peekable();
        while let Some((first, run)) = runs.next().filter(|(first, _)| first.0 <= until_us) {
            // Where the next one begins in time as well, all of it is.
            if is_in(first) && runs.peek().is_some_and(|(next, _)| is_in(*next)) {
                sum.add(run.sum());
            } else {
                let ends = run.ends.iter().filter(|(end, _)| is_in(*end));
                ends.for_each(|(_, cost)| sum.add(Sum { count: 1, cost: *cost }));
            }
        }
        sum
    }

    /// The runs from the one on in which what comes after a moment begins, each with an
    /// end that none in it comes before.
    fn runs_from(&self, moment_us: Micros) -> impl Iterator<Item = (End, &Run)> {
        let from = self.others.range(..=(moment_us, LAST)).next_back().map(|(first, _)| *first);
        let first = from.is_none().then_some((FIRST, &self.first));
        let others = self.others.range(from.unwrap_or(FIRST)..).map(|(first, run)| (*first, run));
        first.into_iter().chain(others)
    }

    /// The run that an end belongs to.
    fn run_mut(&mut self, end: End) -> &mut Run {
        if self.first.last() >= Some(end) {
            return &mut self.first;
        }
        self.others.range_mut(..=end).next_back().map_or(&mut self.first, |(_, run)| run)
    }

    /// Adds one.
    pub fn add(&mut self, end: End, cost: u64) {
        let comes_last = self.last() < Some(end);
        let run = self.run_mut(end);
        if run.ends.len() < FULL {
            return run.add(end, cost);
        }
        // Most come last: theirs is a run that is full when the next one begins.
        let mut next = if comes_last { Run::default() } else { run.split() };
        match next.first() {
            Some(first) if end < first => run.add(end, cost),
            _ => next.add(end, cost),
        }
        if let Some(first) = next.first() {
            self.others.insert(first, next);
        }
    }

    /// Takes one out.
    pub fn remove(&mut self, end: End) {
        let run = self.run_mut(end);
        let Ok(at) = run.ends.binary_search_by_key(&end, |(end, _)| *end) else { return };
        run.remove(at);
        match run.ends.len() {
            0 => self.remove_run(end),
            // It is short from now on. Those beside it see to it when they become so.
            SHORT => self.join_around(end),
            _ => {}
        }
    }

    /// Takes out the last of those in the first run that end until a moment.
    pub fn remove_until(&mut self, until_us: Micros) -> Option<End> {
        let run = &mut self.first;
        let ended = run.ends.partition_point(|((ends_us, _), _)| *ends_us <= until_us);
        let (end, _) = run.remove(ended.checked_sub(1)?);
        if run.ends.is_empty() {
            self.remove_run(end);
        }
        Some(end)
    }

    /// Takes out the run that an end belonged to, which is empty.
    fn remove_run(&mut self, end: End) {
        let run = self.others.range(..=end).next_back().map(|(first, _)| *first);
        match run {
            Some(first) => _ = self.others.remove(&first),
            None => self.first = self.others.pop_first().map(|(_, run)| run).unwrap_or_default(),
        }
    }

    /// Has the run that an end belongs to become one with those beside it, where both
    /// are short.
    fn join_around(&mut self, end: End) {
        let mut runs = self.others.range(..=end).map(|(first, _)| *first);
        if runs.next_back().is_some() {
            let before = runs.next_back().unwrap_or(FIRST);
            self.join(before);
        }
        self.join(end);
    }

    /// Has the run that an end belongs to become one with the one after it, where both
    /// are short.
    fn join(&mut self, end: End) {
        let len = self.run_mut(end).ends.len();
        let next = self.others.range((Bound::Excluded(end), Bound::Unbounded)).next();
        let next = next.filter(|(_, next)| len.max(next.ends.len()) <= SHORT);
        let next = next.map(|(first, _)| *first);
        if let Some(mut next) = next.and_then(|first| self.others.remove(&first)) {
            let run = self.run_mut(end);
            run.cost = run.cost.wrapping_add(next.cost);
            run.ends.append(&mut next.ends);
        }
    }

    /// Bytes on the heap, about: of the tree above the runs some two thirds is used.
    pub fn heap_bytes(&self) -> usize {
        let tree = self.others.len() * size_of::<(End, Run)>() * 3 / 2;
        let runs = iter::once(&self.first).chain(self.others.values());
        tree + runs.map(|run| run.ends.capacity() * size_of::<(End, u64)>()).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Action {
        Add(End, u64),
        Remove(prop::sample::Index),
        /// Takes out so many one after the other.
        RemoveSome(prop::sample::Index, usize),
        RemoveUntil(Micros),
        Collect,
    }

    fn action() -> impl Strategy<Value = Action> {
        let end = (0u64..60, 0u8..30).prop_map(|(ends_us, id)| (ends_us, Id([id; 16])));
        let which = any::<prop::sample::Index>;
        prop_oneof![
            40 => (end, any::<u64>()).prop_map(|(end, cost)| Action::Add(end, cost)),
            10 => which().prop_map(Action::Remove),
            2 => (which(), 1usize..20).prop_map(|(from, count)| Action::RemoveSome(from, count)),
            5 => (0u64..40).prop_map(Action::RemoveUntil),
            1 => Just(Action::Collect),
        ]
    }

    proptest! {
        /// Against a sorted list.
        #[test]
        fn are_what_a_sorted_list_of_them_is(
            actions in prop::collection::vec(action(), 1..400),
            (after_us, until_us) in (0u64..60, 0u64..60),
        ) {
            let (mut ends, mut list) = (Ends::default(), Vec::<(End, u64)>::new());
            for action in actions {
                match action {
                    Action::Add(end, cost) => {
                        if let Err(at) = list.binary_search_by_key(&end, |(end, _)| *end) {
                            ends.add(end, cost);
                            list.insert(at, (end, cost));
                        }
                    }
                    Action::Remove(which) if !list.is_empty() => {
                        ends.remove(list.remove(which.index(list.len())).0);
                    }
                    Action::RemoveSome(from, count) if !list.is_empty() => {
                        let from = from.index(list.len());
                        for (end, _) in list.drain(from..list.len().min(from + count)) {
                            ends.remove(end);
                        }
                    }
                    Action::RemoveUntil(until_us) => {
                        let removed = ends.remove_until(until_us);
                        let at = list.iter().position(|(end, _)| Some(*end) == removed);
                        let ended = list.first().is_some_and(|(end, _)| end.0 <= until_us);
                        prop_assert_eq!(at.is_some(), ended);
                        let removed = at.map(|at| list.remove(at));
                        prop_assert!(removed.is_none_or(|(end, _)| end.0 <= until_us));
                    }
                    Action::Collect => ends = list.iter().rev().copied().collect(),
                    Action::Remove(_) | Action::RemoveSome(..) => {}
                }
                prop_assert_eq!(ends.last(), list.last().map(|(end, _)| *end));
                let after = list.iter().map(|(end, _)| *end).filter(|end| end.0 > after_us);
                prop_assert_eq!(ends.after(after_us).collect::<Vec<_>>(), after.collect::<Vec<_>>());
                let mut sum = Sum::default();
                list.iter().filter(|(end, _)| end.0 > after_us && end.0 <= until_us).for_each(
                    |(_, cost)| sum.add(Sum { count: 1, cost: *cost }),
                );
                prop_assert_eq!(ends.sum(after_us, until_us), sum);
                // None is empty, and of two that follow each other one is not short.
                let lengths: Vec<_> = ends.others.values().map(|run| run.ends.len()).collect();
                prop_assert!(lengths.iter().all(|length| (1..=FULL).contains(length)));
                prop_assert!(lengths.is_sorted_by(|one, next| *one.max(next) > SHORT));
                prop_assert_eq!(ends.first.ends.is_empty(), list.is_empty());
            }
        }
    }
}
