//! Holds: what callers take of a key for a while, each under an id until a
//! deadline. The reservation of a cost known only afterwards is one, and so is the
//! permit of a slot: a lease (Gray and Cheriton, SOSP 1989), which ends by itself
//! should its holder have crashed.
//!
//! Found by id, and in the order in which they end: all that is done with one of
//! many takes the logarithm of how many there are, but for what a clock that
//! stepped back brings about.

mod by_id;
mod ends;
mod rows;

use crate::bug;
use crate::id::Id;
use crate::metrics::{Gauge, Share};
use crate::time::{MICROS_PER_MILLI, Micros, Millis};
use by_id::ById;
use ends::Ends;
pub use ends::Sum;
use std::iter;

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
///
/// Those that are over are none of them any more, from the moment on that a write finds
/// them [so](Self::end). They are taken out some at a time by the writes that follow,
/// so that none has thousands to take out that ended together.
#[derive(Clone, Debug)]
pub struct Holds<N> {
    by_id: ById<Hold<N>>,
    ends: Ends,
    /// Those that ended until then are over.
    over_us: Micros,
    /// Those that are not over.
    sum: Sum,
    /// The latest moment at which one was opened or renewed: none is from later.
    newest_us: Micros,
    /// How many there are, counted.
    counted: Share,
}

/// How many that are over a write takes out. In tests few, so that some stay.
const AT_ONCE: usize = if cfg!(test) { 2 } else { 64 };

/// The same holds. When the last one was opened that is no more makes no difference.
impl<N: PartialEq> PartialEq for Holds<N> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<N: Eq> Eq for Holds<N> {}

impl<N> Holds<N> {
    /// None yet; a gauge counts them.
    pub fn none(gauge: &'static Gauge) -> Self {
        Self {
            by_id: ById::new(),
            ends: Ends::default(),
            over_us: 0,
            sum: Sum::default(),
            newest_us: 0,
            counted: Share::none_of(gauge),
        }
    }

    /// How many there are, those included that have ended since the last write.
    pub fn len(&self) -> usize {
        self.sum.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether there are none, nor any left that are over.
    pub fn is_spent(&self) -> bool {
        self.by_id.len() == 0
    }

    /// The one with an id.
    pub fn get(&self, id: Id) -> Option<&Hold<N>> {
        self.open(id, self.over_us)
    }

    /// The one with an id, if it has not ended.
    pub fn open(&self, id: Id, now_us: Micros) -> Option<&Hold<N>> {
        self.by_id.get(id).filter(|hold| hold.is_open(now_us.max(self.over_us)))
    }

    /// All of them, what ends first, first.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &Hold<N>)> {
        self.ends.after(self.over_us).map(|(_, id)| match self.by_id.get(id) {
            Some(hold) => (id, hold),
            None => bug("a hold that has an end is none"),
        })
    }

    /// How many have not ended, and how much they hold together.
    pub fn open_sum(&self, now_us: Micros) -> Sum {
        let mut open = self.sum;
        open.subtract(self.ended(now_us));
        open
    }

    /// What has ended and is not over.
    fn ended(&self, now_us: Micros) -> Sum {
        self.ends.sum(self.over_us, now_us)
    }

    /// When the last of them ends.
    pub fn last_end_us(&self) -> Option<Micros> {
        self.ends.last().map(|(ends_us, _)| ends_us).filter(|ends_us| *ends_us > self.over_us)
    }

    /// Adds one, of an id that none has. One that is over and still there may: it goes,
    /// and is the answer.
    pub fn add(&mut self, id: Id, hold: Hold<N>) -> Option<Hold<N>> {
        self.newest_us = self.newest_us.max(hold.since_us);
        let over = self.take(id, true);
        self.sum.add(Sum { count: 1, cost: hold.cost });
        self.ends.add((hold.ends_us(), id), hold.cost);
        self.by_id.add(id, hold);
        self.counted.set(self.by_id.len());
        over
    }

    /// Takes one out.
    pub fn remove(&mut self, id: Id) -> Option<Hold<N>> {
        let hold = self.take(id, false)?;
        self.sum.subtract(Sum { count: 1, cost: hold.cost });
        Some(hold)
    }

    /// Takes out one that is over, or one that is not.
    fn take(&mut self, id: Id, is_over: bool) -> Option<Hold<N>> {
        let over_us = self.over_us;
        let hold = self.by_id.remove_if(id, |hold| hold.is_open(over_us) != is_over)?;
        self.ends.remove((hold.ends_us(), id));
        self.counted.set(self.by_id.len());
        Some(hold)
    }

    /// Has those that have ended be over, and takes some out of those that are.
    pub fn end(&mut self, now_us: Micros, mut gone: impl FnMut(Hold<N>)) {
        self.sum.subtract(self.ended(now_us));
        self.over_us = self.over_us.max(now_us);
        for _ in 0..AT_ONCE {
            let Some(over) = self.remove_over() else { break };
            gone(over);
        }
    }

    /// Takes out all that are over: as many as that are.
    pub fn remove_all_over(&mut self, gone: impl FnMut(Hold<N>)) {
        iter::from_fn(|| self.remove_over()).for_each(gone);
    }

    fn remove_over(&mut self) -> Option<Hold<N>> {
        let (_, id) = self.ends.remove_until(self.over_us)?;
        let hold = self.by_id.remove_if(id, |_| true)?;
        self.counted.set(self.by_id.len());
        Some(hold)
    }

    /// Has the time of one start anew.
    pub fn renew(&mut self, id: Id, ttl_ms: Millis, now_us: Micros) {
        match self.remove(id) {
            Some(hold) => _ = self.add(id, Hold { ttl_ms, since_us: now_us, ..hold }),
            None => bug("a hold to be renewed is not there"),
        }
    }

    /// Whether one may be from later than `now_us`: the clock stepped back.
    pub fn is_ahead(&self, now_us: Micros) -> bool {
        self.newest_us > now_us && !self.is_empty()
    }

    /// Rewinds to a clock that stepped back: what is from later counts as opened
    /// now. Left as it is, it would outlive its time by as much. What is over stays so,
    /// and is taken out.
    pub fn rewind_to(&mut self, now_us: Micros, gone: impl FnMut(Hold<N>)) {
        if now_us < self.over_us {
            self.remove_all_over(gone);
            self.over_us = now_us;
        }
        if self.is_ahead(now_us) {
            let rewound = self.by_id.iter_mut().map(|(id, hold)| {
                hold.since_us = hold.since_us.min(now_us);
                ((hold.ends_us(), id), hold.cost)
            });
            self.ends = rewound.collect();
        }
        self.newest_us = self.newest_us.min(now_us);
    }

    /// Bytes on the heap, about.
    pub fn heap_bytes(&self) -> usize {
        self.by_id.heap_bytes() + self.ends.heap_bytes()
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
        End,
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            8 => (0u8..40, 1u64..40).prop_map(|(id, ttl_ms)| Action::Open(id, ttl_ms)),
            2 => (0u8..40).prop_map(Action::Remove),
            2 => (0u8..40, 1u64..40).prop_map(|(id, ttl_ms)| Action::Renew(id, ttl_ms)),
            3 => Just(Action::End),
        ]
    }

    proptest! {
        /// Against a list that is searched from end to end.
        #[test]
        fn are_what_a_list_of_them_is(
            actions in prop::collection::vec((action(), -3_000i64..6_000), 1..200),
        ) {
            let mut holds = Holds::none(&GAUGE);
            let mut list: Vec<(Id, Hold<u8>)> = Vec::new();
            let mut now_us: Micros = 1 << 40;
            for (action, step_us) in actions {
                now_us = now_us.saturating_add_signed(step_us);
                holds.rewind_to(now_us, |_| ());
                list.iter_mut().for_each(|(_, hold)| hold.since_us = hold.since_us.min(now_us));
                match action {
                    Action::Open(id, ttl_ms) => {
                        let key = Id([id; 16]);
                        if holds.get(key).is_none() {
                            let hold = Hold { cost: id.into(), ttl_ms, since_us: now_us, note: id };
                            // One that is over and still there goes.
                            let over = holds.add(key, hold);
                            prop_assert!(over.is_none_or(|over| !over.is_open(holds.over_us)));
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
                    Action::End => {
                        holds.end(now_us, |over| assert!(!over.is_open(now_us)));
                        list.retain(|(_, hold)| hold.is_open(now_us));
                    }
                }
                prop_assert!(!holds.is_ahead(now_us));
                list.sort_by_key(|(id, hold)| (hold.ends_us(), *id));
                let held: Vec<_> = holds.iter().map(|(id, hold)| (id, *hold)).collect();
                prop_assert_eq!(&held, &list);
                for at_us in [now_us, now_us + 2_000, now_us + 7_000] {
                    let open = list.iter().filter(|(_, hold)| hold.is_open(at_us));
                    let cost = open.clone().map(|(_, hold)| hold.cost).sum();
                    prop_assert_eq!(holds.open_sum(at_us), Sum { count: open.count(), cost });
                }
                let last_us = list.iter().map(|(_, hold)| hold.ends_us()).max();
                prop_assert_eq!(holds.last_end_us(), last_us);
            }
        }
    }
}
