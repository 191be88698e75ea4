//! Holds: what callers take of a key for a while, each under an id until a
//! deadline. The reservation of a cost known only afterwards is one, and so is the
//! permit of a slot: a lease (Gray and Cheriton, SOSP 1989), which ends by itself
//! should its holder have crashed.
//!
//! Few are a [list](few), many a [table and an order](many): what is done with one of
//! many takes the logarithm of how many there are, but for what a clock that stepped
//! back brings about.

mod ends;
mod few;
mod many;

use crate::bug;
use crate::id::Id;
use crate::metrics::{Gauge, Share};
use crate::time::{MICROS_PER_MILLI, Micros, Millis};
pub use ends::Sum;
use few::{FEW, Few};
use many::Many;
use smallvec::SmallVec;
use std::fmt::Debug;

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

    /// Has its time start anew.
    fn renew(&mut self, ttl_ms: Millis, now_us: Micros) {
        self.ttl_ms = ttl_ms;
        self.since_us = now_us;
    }

    /// Whether it has not ended.
    pub fn is_open(&self, now_us: Micros) -> bool {
        now_us < self.ends_us()
    }
}

/// What a domain keeps of each hold beside what is noted of it: of few holds one by one
/// with each of them, of many all together in a place of its own.
pub trait Beside: Clone + Debug + Default {
    /// What is kept of a hold.
    type Seat: Clone + Debug;

    /// What it is found by among many: of those added later a higher one.
    type Number: Copy + Debug + Ord;

    /// Takes in what is kept of one that is added.
    fn put(&mut self, seat: Self::Seat) -> Self::Number;

    /// Gives out what is kept of one that is taken out.
    fn take(&mut self, number: Self::Number) -> Self::Seat;
}

/// Nothing is kept.
impl Beside for () {
    type Seat = ();
    type Number = ();

    fn put(&mut self, (): ()) {}

    fn take(&mut self, (): ()) {}
}

/// A hold, and what the domain keeps of it.
#[derive(Clone, Debug)]
pub struct Row<N, S> {
    /// What it is found by.
    pub id: Id,
    /// The hold.
    pub hold: Hold<N>,
    /// What the domain keeps of it.
    pub seat: S,
}

/// Several of them.
type Rows<N, B> = [Row<N, <B as Beside>::Seat>];

/// The holds of a key.
#[derive(Clone, Debug)]
pub struct Holds<N, B: Beside = ()> {
    form: Form<N, B>,
    /// How many there are, counted.
    counted: Share,
}

#[derive(Clone, Debug)]
enum Form<N, B: Beside> {
    Few(Few<N, B::Seat>),
    Many(Box<Many<N, B>>),
}

/// The same expression for either form.
macro_rules! either {
    ($form:expr, $holds:ident => $result:expr) => {
        match $form {
            Form::Few($holds) => $result,
            Form::Many($holds) => $result,
        }
    };
}

/// The same holds. When the last one was opened that is no more makes no difference.
impl<N: PartialEq, B: Beside> PartialEq for Holds<N, B> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<N: Eq, B: Beside> Eq for Holds<N, B> {}

impl<N, B: Beside> Holds<N, B> {
    /// None yet; a gauge counts them.
    pub fn none(gauge: &'static Gauge) -> Self {
        Self { form: Form::Few(Few(SmallVec::new())), counted: Share::none_of(gauge) }
    }

    /// How many there are, those included that have ended since the last write.
    pub fn len(&self) -> usize {
        either!(&self.form, holds => holds.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The one with an id.
    pub fn get(&self, id: Id) -> Option<&Hold<N>> {
        self.open(id, 0)
    }

    /// The one with an id, if it has not ended.
    pub fn open(&self, id: Id, now_us: Micros) -> Option<&Hold<N>> {
        either!(&self.form, holds => holds.open(id, now_us))
    }

    /// All of them, what ends first, first.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &Hold<N>)> {
        let (few, many) = match &self.form {
            Form::Few(few) => (Some(few.iter()), None),
            Form::Many(many) => (None, Some(many.iter())),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }

    /// Those that are few, in the order in which they were added, or those that are many.
    pub fn forms(&self) -> (&Rows<N, B>, Option<&Many<N, B>>) {
        match &self.form {
            Form::Few(few) => (&few.0, None),
            Form::Many(many) => (&[], Some(many)),
        }
    }

    /// The same, to have changed what the domain keeps of them.
    pub fn forms_mut(&mut self) -> (&mut Rows<N, B>, Option<&mut Many<N, B>>) {
        match &mut self.form {
            Form::Few(few) => (&mut few.0, None),
            Form::Many(many) => (&mut [], Some(many)),
        }
    }

    /// How many have not ended, and how much they hold together.
    pub fn open_sum(&self, now_us: Micros) -> Sum {
        either!(&self.form, holds => holds.open_sum(now_us))
    }

    /// When the last of them ends.
    pub fn last_end_us(&self) -> Option<Micros> {
        either!(&self.form, holds => holds.last_end_us())
    }

    /// Adds one, of an id that none has.
    pub fn add(&mut self, row: Row<N, B::Seat>) {
        match &mut self.form {
            Form::Few(few) if few.len() < FEW => few.add(row),
            Form::Few(few) => {
                let mut many = Many::none();
                few.0.drain(..).chain([row]).for_each(|row| many.add(row));
                self.form = Form::Many(Box::new(many));
            }
            Form::Many(many) => many.add(row),
        }
        self.count();
    }

    /// Takes one out, and what the domain keeps of it.
    pub fn remove(&mut self, id: Id) -> Option<(Hold<N>, B::Seat)> {
        let removed = either!(&mut self.form, holds => holds.remove(id));
        self.count();
        removed
    }

    /// Takes out those that have ended. None is seen any more; of many some stay in
    /// memory until the next writes.
    pub fn end(&mut self, now_us: Micros) {
        either!(&mut self.form, holds => holds.end(now_us));
        if let Form::Many(many) = &mut self.form
            && many.kept() <= FEW / 2
        {
            self.form = Form::Few(Few(many.take_rows().collect()));
        }
        self.count();
    }

    /// Takes those out of memory that are not seen any more: as many as that are.
    pub fn remove_all_over(&mut self) {
        if let Form::Many(many) = &mut self.form {
            many.remove_all_over();
        }
    }

    /// Whether there are none, nor any in memory that is not seen any more.
    pub fn is_spent(&self) -> bool {
        either!(&self.form, holds => holds.kept() == 0)
    }

    /// Has the time of one start anew.
    pub fn renew(&mut self, id: Id, ttl_ms: Millis, now_us: Micros) {
        if !either!(&mut self.form, holds => holds.renew(id, ttl_ms, now_us)) {
            bug("a hold to be renewed is not there");
        }
    }

    /// Whether one may be from later than `now_us`: the clock stepped back.
    pub fn is_ahead(&self, now_us: Micros) -> bool {
        either!(&self.form, holds => holds.is_ahead(now_us))
    }

    /// Rewinds to a clock that stepped back: what is from later counts as opened
    /// now. Left as it is, it would outlive its time by as much.
    pub fn rewind_to(&mut self, now_us: Micros) {
        either!(&mut self.form, holds => holds.rewind_to(now_us));
    }

    /// Bytes on the heap, about, but for what the domain keeps.
    pub fn heap_bytes(&self) -> usize {
        either!(&self.form, holds => holds.heap_bytes())
    }

    fn count(&mut self) {
        self.counted.set(self.len());
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
            let mut holds = Holds::<_>::none(&GAUGE);
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
                            let hold = Hold { cost: id.into(), ttl_ms, since_us: now_us, note: id };
                            holds.add(Row { id: key, hold, seat: () });
                            list.push((key, hold));
                        }
                    }
                    Action::Remove(id) => {
                        let id = Id([id; 16]);
                        let at = list.iter().position(|(other, _)| *other == id);
                        prop_assert_eq!(holds.remove(id).map(|(hold, ())| hold), at.map(|at| list.remove(at).1));
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
                        holds.end(now_us);
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

    #[test]
    fn are_a_list_until_there_are_more_than_a_few_and_once_few_are_left() {
        let mut holds = Holds::<(), ()>::none(&GAUGE);
        let hold = |ttl_ms| Hold { cost: 1, ttl_ms, since_us: 0, note: () };
        let row = |id: usize| Row { id: Id([id as u8; 16]), hold: hold(id as u64), seat: () };
        for id in 1..=FEW {
            holds.add(row(id));
            assert!(matches!(holds.form, Form::Few(_)));
        }
        holds.add(row(FEW + 1));
        assert!(matches!(holds.form, Form::Many(_)));
        for ended in 1..=FEW + 1 {
            holds.end(ended as u64 * 1_000);
            assert_eq!(holds.len(), FEW + 1 - ended);
            let is_few = matches!(holds.form, Form::Few(_));
            assert_eq!(is_few, holds.len() <= FEW / 2, "{ended}");
        }
        assert!(holds.is_spent());
    }

    #[test]
    #[should_panic(expected = "two holds of one id")]
    fn of_one_id_are_none_more_than_one_among_few() {
        open_twice(1);
    }

    #[test]
    #[should_panic(expected = "two holds of one id")]
    fn of_one_id_are_none_more_than_one_among_many() {
        open_twice(FEW + 1);
    }

    /// One again of so many that are open.
    fn open_twice(count: usize) {
        let mut holds = Holds::<(), ()>::none(&GAUGE);
        for id in (0..count).chain([0]) {
            let hold = Hold { cost: 1, ttl_ms: 1, since_us: 0, note: () };
            holds.add(Row { id: Id([id as u8; 16]), hold, seat: () });
        }
    }
}
