//! Few holds: a list that is searched from end to end. The first is where the list is.

use super::{Hold, Row, Sum};
use crate::bug;
use crate::id::Id;
use crate::time::{Micros, Millis};
use smallvec::SmallVec;

/// The most there are. In tests few, so that there are often more.
pub const FEW: usize = if cfg!(test) { 4 } else { 16 };

/// The holds, in the order in which they were added.
#[derive(Clone, Debug)]
pub struct Few<N, S>(pub SmallVec<[Row<N, S>; 1]>);

impl<N, S> Few<N, S> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// How many there are: of few that are over none stays.
    pub fn kept(&self) -> usize {
        self.len()
    }

    /// The one with an id, if it has not ended.
    pub fn open(&self, id: Id, now_us: Micros) -> Option<&Hold<N>> {
        let row = self.0.iter().find(|row| row.id == id)?;
        Some(&row.hold).filter(|hold| hold.is_open(now_us))
    }

    /// All of them, what ends first, first.
    pub fn iter(&self) -> impl Iterator<Item = (Id, &Hold<N>)> {
        let mut rows: SmallVec<[_; FEW]> =
            self.0.iter().map(|row| (row.hold.ends_us(), row.id, &row.hold)).collect();
        rows.sort_unstable_by_key(|(ends_us, id, _)| (*ends_us, *id));
        rows.into_iter().map(|(_, id, hold)| (id, hold))
    }

    /// How many have not ended, and how much they hold together.
    pub fn open_sum(&self, now_us: Micros) -> Sum {
        let mut sum = Sum::default();
        let open = self.0.iter().filter(|row| row.hold.is_open(now_us));
        open.for_each(|row| sum.add(Sum { count: 1, cost: row.hold.cost }));
        sum
    }

    /// When the last of them ends.
    pub fn last_end_us(&self) -> Option<Micros> {
        self.0.iter().map(|row| row.hold.ends_us()).max()
    }

    /// Adds one, of an id that none has.
    pub fn add(&mut self, row: Row<N, S>) {
        if self.0.iter().any(|other| other.id == row.id) {
            bug("two holds of one id");
        }
        self.0.push(row);
    }

    /// Takes one out.
    pub fn remove(&mut self, id: Id) -> Option<(Hold<N>, S)> {
        let at = self.0.iter().position(|row| row.id == id)?;
        let row = self.0.remove(at);
        Some((row.hold, row.seat))
    }

    /// Has the time of one start anew; `false` if that is not there.
    pub fn renew(&mut self, id: Id, ttl_ms: Millis, now_us: Micros) -> bool {
        let row = self.0.iter_mut().find(|row| row.id == id);
        row.map(|row| row.hold.renew(ttl_ms, now_us)).is_some()
    }

    /// Takes out those that have ended.
    pub fn end(&mut self, now_us: Micros) {
        self.0.retain(|row| row.hold.is_open(now_us));
    }

    /// Whether one is from later than `now_us`.
    pub fn is_ahead(&self, now_us: Micros) -> bool {
        self.0.iter().any(|row| row.hold.since_us > now_us)
    }

    /// Has what is from later than `now_us` be from then.
    pub fn rewind_to(&mut self, now_us: Micros) {
        self.0.iter_mut().for_each(|row| row.hold.since_us = row.hold.since_us.min(now_us));
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        if self.0.spilled() { self.0.capacity() * size_of::<Row<N, S>>() } else { 0 }
    }
}
