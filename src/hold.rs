//! Holds: what callers take of a key for a while, each under an id until a
//! deadline. The reservation of a cost known only afterwards is one, and so is the
//! permit of a slot: a lease (Gray and Cheriton, SOSP 1989), which ends by itself
//! should its holder have crashed.
//!
//! Found by id, and in the order in which they end: all that is done with one of
//! many takes the logarithm of how many there are, but for what a clock that
//! stepped back brings about.

use crate::bug;
use crate::id::Id;
use crate::metrics::{Gauge, Share};
use crate::time::{MICROS_PER_MILLI, Micros, Millis};
use std::collections::{BTreeMap, BTreeSet};

/// The most holds that are open on a key, whatever is configured.
pub const MAX_HOLDS: usize = 65_536;

/// A hold, and what its domain notes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold<N> {
    /// How much is held.
    pub cost: u64,
    /// How long it lasts, from `since_us` on.
    pub ttl_ms: Millis,
    /// When it was opened, or last renewed.
    pub since_us: Micros,
    /// What the domain notes.
    pub note: N,
}

impl<N> Hold<N> {
    /// When it ends by itself.
    pub fn ends_us(&self) -> Micros {
        self.since_us.saturating_add(self.ttl_ms.saturating_mul(MICROS_PER_MILLI))
    }

    /// Whether it has not ended.
    pub fn is_open(&self, now_us: Micros) -> bool {
        now_us < self.ends_us()
    }
}

/// The holds of a key.
#[derive(Clone, Debug)]
pub struct Holds<N> {
    by_id: BTreeMap<Id, Hold<N>>,
    /// What ends first, first.
    by_end: BTreeSet<(Micros, Id)>,
    /// The latest moment at which one was opened or renewed: none is from later.
    newest_us: Micros,
    /// How many there are, counted.
    counted: Share,
}

/// The same holds. When the last one was opened that is no more makes no difference.
impl<N: PartialEq> PartialEq for Holds<N> {
    fn eq(&self, other: &Self) -> bool {
        self.by_id == other.by_id
    }
}

impl<N: Eq> Eq for Holds<N> {}

impl<N> Holds<N> {
    /// None yet; a gauge counts them.
    pub const fn none(gauge: &'static Gauge) -> Self {
        Self {
            by_id: BTreeMap::new(),
            by_end: BTreeSet::new(),
            newest_us: 0,
            counted: Share::none_of(gauge),
        }
    }

    /// How many there are, those that have ended and were not taken out included.
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// The one with an id.
    pub fn get(&self, id: Id) -> Option<&Hold<N>> {
        self.by_id.get(&id)
    }

    /// The one with an id, if it has not ended.
    pub fn open(&self, id: Id, now_us: Micros) -> Option<&Hold<N>> {
        self.get(id).filter(|hold| hold.is_open(now_us))
    }

    /// All of them, what ends first, first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (Id, &Hold<N>)> {
        self.by_end.iter().map(|(_, id)| self.of_end(*id))
    }

    fn of_end(&self, id: Id) -> (Id, &Hold<N>) {
        match self.by_id.get(&id) {
            Some(hold) => (id, hold),
            None => bug("a hold that has an end is none"),
        }
    }

    /// Those that have ended, what ended first, first.
    pub fn ended(&self, now_us: Micros) -> impl Iterator<Item = (Id, &Hold<N>)> {
        self.ends_until(now_us).map(|id| self.of_end(id))
    }

    fn ends_until(&self, now_us: Micros) -> impl Iterator<Item = Id> {
        let ended = self.by_end.iter().take_while(move |(ends_us, _)| *ends_us <= now_us);
        ended.map(|(_, id)| *id)
    }

    /// How many have not ended.
    pub fn count_open(&self, now_us: Micros) -> usize {
        self.len() - self.ends_until(now_us).count()
    }

    /// When the last of them ends.
    pub fn last_end_us(&self) -> Option<Micros> {
        self.by_end.last().map(|(ends_us, _)| *ends_us)
    }

    /// Adds one, of an id that none has.
    pub fn add(&mut self, id: Id, hold: Hold<N>) {
        self.newest_us = self.newest_us.max(hold.since_us);
        self.by_end.insert((hold.ends_us(), id));
        if self.by_id.insert(id, hold).is_some() {
            bug("two holds of one id");
        }
        self.counted.set(self.by_id.len());
    }

    /// Takes one out.
    pub fn remove(&mut self, id: Id) -> Option<Hold<N>> {
        let hold = self.by_id.remove(&id)?;
        self.by_end.remove(&(hold.ends_us(), id));
        self.counted.set(self.by_id.len());
        Some(hold)
    }

    /// Takes out the first of those that have ended.
    pub fn remove_ended(&mut self, now_us: Micros) -> Option<Hold<N>> {
        let (_, id) = self.by_end.first().filter(|(ends_us, _)| *ends_us <= now_us)?;
        self.remove(*id)
    }

    /// Has the time of one start anew.
    pub fn renew(&mut self, id: Id, ttl_ms: Millis, now_us: Micros) {
        match self.remove(id) {
            Some(hold) => self.add(id, Hold { ttl_ms, since_us: now_us, ..hold }),
            None => bug("a hold to be renewed is not there"),
        }
    }

    /// Whether one may be from later than `now_us`: the clock stepped back.
    pub fn is_ahead(&self, now_us: Micros) -> bool {
        self.newest_us > now_us && !self.is_empty()
    }

    /// Rewinds to a clock that stepped back: what is from later counts as opened
    /// now. Left as it is, it would outlive its time by as much.
    pub fn rewind_to(&mut self, now_us: Micros) {
        if self.is_ahead(now_us) {
            self.by_id.values_mut().for_each(|hold| hold.since_us = hold.since_us.min(now_us));
            self.by_end = self.by_id.iter().map(|(id, hold)| (hold.ends_us(), *id)).collect();
        }
        self.newest_us = self.newest_us.min(now_us);
    }

    /// Bytes on the heap, about: B-trees of some two thirds.
    pub fn heap_bytes(&self) -> usize {
        self.len() * (size_of::<(Id, Hold<N>)>() + size_of::<(Micros, Id)>()) * 3 / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    static GAUGE: Gauge = Gauge::new();

    #[derive(Clone, Debug)]
    enum Action {
        Open(u8, u64),
        Remove(u8),
        Renew(u8, u64),
        Prune,
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            (0u8..12, 1u64..9).prop_map(|(id, ttl_ms)| Action::Open(id, ttl_ms)),
            (0u8..12).prop_map(Action::Remove),
            (0u8..12, 1u64..9).prop_map(|(id, ttl_ms)| Action::Renew(id, ttl_ms)),
            Just(Action::Prune),
        ]
    }

    proptest! {
        /// Against a list that is searched from end to end.
        #[test]
        fn are_what_a_list_of_them_is(
            actions in prop::collection::vec((action(), -3_000i64..6_000), 1..60),
        ) {
            let mut holds = Holds::none(&GAUGE);
            let mut list: Vec<(Id, Hold<u8>)> = Vec::new();
            let mut now_us: Micros = 1 << 40;
            for (action, step_us) in actions {
                now_us = now_us.saturating_add_signed(step_us);
                holds.rewind_to(now_us);
                list.iter_mut().for_each(|(_, hold)| hold.since_us = hold.since_us.min(now_us));
                match action {
                    Action::Open(id, ttl_ms) => {
                        let key = Id([id; 16]);
                        if holds.get(key).is_none() {
                            let hold = Hold { cost: 1, ttl_ms, since_us: now_us, note: id };
                            holds.add(key, hold);
                            list.push((key, hold));
                        }
                    }
                    Action::Remove(id) => {
                        let id = Id([id; 16]);
                        let at = list.iter().position(|(other, _)| *other == id);
                        prop_assert_eq!(holds.remove(id), at.map(|at| list.remove(at).1));
                    }
                    Action::Renew(id, ttl_ms) => {
                        let id = Id([id; 16]);
                        let held = list.iter_mut().find(|(other, _)| *other == id);
                        if let Some((_, hold)) = held {
                            *hold = Hold { ttl_ms, since_us: now_us, ..*hold };
                            holds.renew(id, ttl_ms, now_us);
                        }
                    }
                    Action::Prune => {
                        while holds.remove_ended(now_us).is_some() {}
                        list.retain(|(_, hold)| hold.is_open(now_us));
                    }
                }
                prop_assert!(!holds.is_ahead(now_us));
                list.sort_by_key(|(id, hold)| (hold.ends_us(), *id));
                let held: Vec<_> = holds.iter().map(|(id, hold)| (id, *hold)).collect();
                prop_assert_eq!(&held, &list);
                let ended = list.iter().filter(|(_, hold)| !hold.is_open(now_us)).count();
                prop_assert_eq!(holds.ended(now_us).count(), ended);
                let last_us = list.iter().map(|(_, hold)| hold.ends_us()).max();
                prop_assert_eq!(holds.last_end_us(), last_us);
            }
        }
    }
}
