//! Many holds: a table by id, and the order in which they end.
//!
//! Those that are over are none of them any more, from the moment on that a write finds
//! them [so](Many::end). They are taken out some at a time by the writes that follow,
//! so that none has thousands to take out that ended together.

use super::ends::{Ends, Sum};
use super::{Beside, Hold, Row};
use crate::bug;
use crate::by_id::ById;
use crate::id::Id;
use crate::time::{Micros, Millis};

/// How many that are over a write takes out. In tests few, so that some stay.
const AT_ONCE: usize = if cfg!(test) { 2 } else { 64 };

/// The holds.
#[derive(Clone, Debug)]
pub struct Many<N, B: Beside> {
    by_id: ById<Kept<N, B::Number>>,
    ends: Ends,
    /// Those that ended until then are over.
    over_us: Micros,
    /// Those that are not over.
    sum: Sum,
    /// The latest moment at which one was opened or renewed: none is from later.
    newest_us: Micros,
    /// What the domain keeps of them.
    pub beside: B,
}

#[derive(Clone, Debug)]
struct Kept<N, M> {
    hold: Hold<N>,
    number: M,
}

impl<N, B: Beside> Many<N, B> {
    /// None yet.
    pub fn none() -> Self {
        Self {
            by_id: ById::new(),
            ends: Ends::default(),
            over_us: 0,
            sum: Sum::default(),
            newest_us: 0,
            beside: B::default(),
        }
    }

    /// How many there are that are not over.
    pub fn len(&self) -> usize {
        self.sum.count
    }

    /// How many there are, those included that are over.
    pub fn kept(&self) -> usize {
        self.by_id.len()
    }

    /// The one with an id, if it has not ended.
    pub fn open(&self, id: Id, now_us: Micros) -> Option<&Hold<N>> {
        let kept = self.by_id.get(id)?;
        Some(&kept.hold).filter(|hold| hold.is_open(now_us.max(self.over_us)))
    }

    /// The one with an id, and its number.
    pub fn get(&self, id: Id) -> Option<(&Hold<N>, B::Number)> {
        let kept = self.by_id.get(id).filter(|kept| kept.hold.is_open(self.over_us))?;
        Some((&kept.hold, kept.number))
    }

    /// All of them, what ends first, first.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &Hold<N>)> {
        self.numbered().map(|(id, hold, _)| (id, hold))
    }

    /// All of them, what ends first, first, each with its number.
    pub fn numbered(&self) -> impl Iterator<Item = (Id, &Hold<N>, B::Number)> {
        self.ends.after(self.over_us).map(|(_, id)| match self.by_id.get(id) {
            Some(kept) => (id, &kept.hold, kept.number),
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

    /// Adds one, of an id that none has. One that is over and still there may: it goes.
    pub fn add(&mut self, Row { id, hold, seat }: Row<N, B::Seat>) {
        match self.take(id, |_, _| true) {
            Some((over, _)) if over.is_open(self.over_us) => bug("two holds of one id"),
            _ => {}
        }
        self.newest_us = self.newest_us.max(hold.since_us);
        self.sum.add(Sum { count: 1, cost: hold.cost });
        self.ends.add((hold.ends_us(), id), hold.cost);
        let number = self.beside.put(seat);
        self.by_id.add(id, Kept { hold, number });
    }

    /// Takes one out.
    pub fn remove(&mut self, id: Id) -> Option<(Hold<N>, B::Seat)> {
        let (hold, seat) = self.take(id, Hold::is_open)?;
        self.sum.subtract(Sum { count: 1, cost: hold.cost });
        Some((hold, seat))
    }

    /// Takes out one that is over, or one that is not.
    fn take(
        &mut self,
        id: Id,
        is: impl FnOnce(&Hold<N>, Micros) -> bool,
    ) -> Option<(Hold<N>, B::Seat)> {
        let over_us = self.over_us;
        let Kept { hold, number } = self.by_id.remove_if(id, |kept| is(&kept.hold, over_us))?;
        self.ends.remove((hold.ends_us(), id));
        Some((hold, self.beside.take(number)))
    }

    /// Has those that have ended be over, and takes some out of those that are.
    pub fn end(&mut self, now_us: Micros) {
        self.sum.subtract(self.ended(now_us));
        self.over_us = self.over_us.max(now_us);
        (0..AT_ONCE).take_while(|_| self.remove_over()).count();
    }

    /// Takes out all that are over: as many as that are.
    pub fn remove_all_over(&mut self) {
        while self.remove_over() {}
    }

    fn remove_over(&mut self) -> bool {
        let over = self.ends.remove_until(self.over_us);
        if let Some(kept) = over.and_then(|(_, id)| self.by_id.remove_if(id, |_| true)) {
            self.beside.take(kept.number);
        }
        over.is_some()
    }

    /// Has the time of one start anew; `false` if that is not there.
    pub fn renew(&mut self, id: Id, ttl_ms: Millis, now_us: Micros) -> bool {
        let kept = self.by_id.get_mut(id).filter(|kept| kept.hold.is_open(self.over_us));
        let Some(Kept { hold, .. }) = kept else { return false };
        self.ends.remove((hold.ends_us(), id));
        hold.renew(ttl_ms, now_us);
        self.ends.add((hold.ends_us(), id), hold.cost);
        self.newest_us = self.newest_us.max(now_us);
        true
    }

    /// Whether one may be from later than `now_us`.
    pub fn is_ahead(&self, now_us: Micros) -> bool {
        self.newest_us > now_us && self.len() > 0
    }

    /// Has what is from later than `now_us` be from then. What is over stays so, and is
    /// taken out.
    pub fn rewind_to(&mut self, now_us: Micros) {
        if now_us < self.over_us {
            self.remove_all_over();
            self.over_us = now_us;
        }
        if self.is_ahead(now_us) {
            let rewound = self.by_id.iter_mut().map(|(id, kept)| {
                kept.hold.since_us = kept.hold.since_us.min(now_us);
                ((kept.hold.ends_us(), id), kept.hold.cost)
            });
            self.ends = rewound.collect();
        }
        self.newest_us = self.newest_us.min(now_us);
    }

    /// Takes out all of them, in the order in which they were added.
    pub fn take_rows(&mut self) -> impl Iterator<Item = Row<N, B::Seat>> {
        let mut ids: Vec<_> = self.numbered().map(|(id, _, number)| (number, id)).collect();
        ids.sort_unstable();
        ids.into_iter().filter_map(|(_, id)| {
            let (hold, seat) = self.remove(id)?;
            Some(Row { id, hold, seat })
        })
    }

    /// Bytes on the heap, about, but for what the domain keeps.
    pub fn heap_bytes(&self) -> usize {
        size_of::<Self>() + self.by_id.heap_bytes() + self.ends.heap_bytes()
    }
}
