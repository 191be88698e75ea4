//! The vectors of a key on shelves: segments, and whom each of their vectors belongs to.
//!
//! A vector is found by its slot. A segment that is full is never written to again, so
//! that it can be read elsewhere meanwhile; what is taken out of it is only forgotten
//! here. One that more than a quarter was taken out of is emptied, a few vectors a
//! write, into the last one.

use super::best::Best;
use super::entry::NONE;
use super::segment::{ROWS, Segment};
use super::vector::{Code, Query};
use crate::bug;
use std::sync::Arc;

/// How many vectors a write moves at most: three for each that is taken out are enough.
const MOVES: usize = 8;

/// A segment, and whom its vectors belong to.
#[derive(Clone)]
struct Shelf {
    segment: Arc<Segment>,
    /// For each vector, whom it belongs to; [`NONE`] where it was taken out.
    owners: Vec<u32>,
    living: usize,
}

impl Shelf {
    /// Whether so much of it was taken out that the rest should move.
    fn is_sparse(&self) -> bool {
        self.living * 4 < self.owners.len() * 3
    }
}

/// The shelves.
#[derive(Clone, Default)]
pub struct Shelves {
    /// By the upper part of slots; empty ones are used again.
    shelves: Vec<Option<Shelf>>,
    /// The one that is filled.
    last: Option<usize>,
    /// The one that is emptied, and how far that is.
    emptied: Option<(usize, usize)>,
    count: usize,
}

/// A vector that moved from one slot to another, and whom it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Whom it belongs to.
    pub owner: u32,
    /// Where it was.
    pub from: u32,
    /// Where it is.
    pub to: u32,
}

impl Shelves {
    /// How many vectors there are.
    pub fn vectors(&self) -> usize {
        self.count
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        let each = self.shelves.iter().flatten().map(|shelf| {
            size_of::<Segment>() + shelf.segment.heap_bytes() + shelf.owners.capacity() * 4
        });
        self.shelves.capacity() * size_of::<Option<Shelf>>() + each.sum::<usize>()
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.shelves.iter().flatten().count()
    }

    /// A vector.
    pub fn code(&self, slot: u32) -> Code<'_> {
        let (at, row) = place(slot);
        let shelf = self.shelves.get(at).and_then(Option::as_ref);
        shelf.unwrap_or_else(|| no_shelf()).segment.code(row)
    }

    /// Puts in a vector of so many dimensions, for somebody, of a version: its slot.
    pub fn put(&mut self, dim: usize, code: &Code, version: u16, owner: u32) -> u32 {
        let has_room = |shelf: &mut Shelf| {
            Arc::get_mut(&mut shelf.segment).is_some_and(|segment| !segment.is_full())
        };
        let last = self.last.and_then(|at| self.shelves.get_mut(at)?.as_mut());
        let at = match self.last.filter(|_| last.is_some_and(has_room)) {
            Some(at) => at,
            None => self.begin(dim),
        };
        let shelf = self.shelves.get_mut(at).and_then(Option::as_mut);
        let shelf = shelf.unwrap_or_else(|| no_shelf());
        let segment = Arc::get_mut(&mut shelf.segment);
        let segment = segment.unwrap_or_else(|| bug("a segment that is filled is read elsewhere"));
        let row = segment.push(code, version);
        if shelf.owners.len() == shelf.owners.capacity() {
            shelf.owners.reserve_exact((row / 4).clamp(1, ROWS - row));
        }
        shelf.owners.push(owner);
        shelf.living += 1;
        self.count += 1;
        (at * ROWS + row) as u32
    }

    /// Begins a segment, where there is none: which shelf it is on.
    fn begin(&mut self, dim: usize) -> usize {
        let before = self.last.and_then(|at| self.shelves.get(at)?.as_ref());
        let before = before.or_else(|| self.shelves.iter().flatten().next());
        let segment = Segment::new(dim, before.map(|shelf| &*shelf.segment));
        let shelf = Shelf { segment: Arc::new(segment), owners: Vec::new(), living: 0 };
        let free = self.shelves.iter().position(Option::is_none);
        let at = free.unwrap_or_else(|| {
            self.shelves.push(None);
            self.shelves.len() - 1
        });
        if let Some(free) = self.shelves.get_mut(at) {
            *free = Some(shelf);
        }
        self.last = Some(at);
        at
    }

    /// Has a vector belong to somebody else.
    pub fn give(&mut self, slot: u32, owner: u32) {
        let (at, row) = place(slot);
        let shelf = self.shelves.get_mut(at).and_then(Option::as_mut);
        let place = shelf.and_then(|shelf| shelf.owners.get_mut(row));
        *place.unwrap_or_else(|| no_shelf()) = owner;
    }

    /// Takes a vector out.
    pub fn remove(&mut self, slot: u32) {
        let (at, row) = place(slot);
        let Some(Some(shelf)) = self.shelves.get_mut(at) else { no_shelf() };
        let owner = shelf.owners.get_mut(row).filter(|owner| **owner != NONE);
        *owner.unwrap_or_else(|| bug("a vector is taken out twice")) = NONE;
        shelf.living -= 1;
        self.count -= 1;
        if shelf.living == 0 {
            self.clear(at);
        } else if self.emptied.is_none() && self.last != Some(at) && shelf.is_sparse() {
            self.emptied = Some((at, 0));
        }
    }

    fn clear(&mut self, at: usize) {
        if let Some(shelf) = self.shelves.get_mut(at) {
            *shelf = None;
        }
        self.last = self.last.filter(|last| *last != at);
        self.emptied = self.emptied.filter(|(emptied, _)| *emptied != at);
        while self.shelves.last().is_some_and(Option::is_none) {
            self.shelves.pop();
        }
        if self.shelves.len() * 4 < self.shelves.capacity() {
            self.shelves.shrink_to(self.shelves.len() * 2);
        }
    }

    /// Moves a few vectors out of a segment that few are left in; `moved` is told of each.
    pub fn tidy(&mut self, dim: usize, mut moved: impl FnMut(Moved)) {
        for _ in 0..MOVES {
            let Some((at, row)) = self.emptied.or_else(|| self.find_sparse()) else { return };
            let Some(Some(shelf)) = self.shelves.get(at) else { no_shelf() };
            let rows = shelf.owners.iter().enumerate().skip(row);
            let next = rows.map(|(row, owner)| (row, *owner)).find(|(_, owner)| *owner != NONE);
            let Some((row, owner)) = next else { bug("an empty segment is still there") };
            self.emptied = Some((at, row + 1));
            let segment = Arc::clone(&shelf.segment);
            let from = (at * ROWS + row) as u32;
            let to = self.put(dim, &segment.code(row), segment.tag(row), owner);
            drop(segment);
            self.remove(from);
            moved(Moved { owner, from, to });
        }
    }

    /// A segment that few are left in, once another was emptied.
    fn find_sparse(&mut self) -> Option<(usize, usize)> {
        let slots = self.shelves.len() * ROWS;
        // Nothing to look for while nearly all are there.
        if self.count * 4 >= slots * 3 {
            return None;
        }
        let mut shelves = self.shelves.iter().enumerate();
        let sparse = shelves.find_map(|(at, shelf)| {
            let shelf = shelf.as_ref()?;
            (Some(at) != self.last && shelf.is_sparse()).then_some((at, 0))
        });
        self.emptied = sparse;
        sparse
    }

    /// Looks for those whose vectors are most similar, among those of a version that
    /// `rank` knows: what they are told apart by, and from which similarity on they are
    /// hits.
    pub fn scan<R: Ord + Copy>(
        &self,
        query: &Query,
        version: u16,
        rank: impl Fn(u32) -> Option<(R, f64)>,
        best: &mut Best<R>,
    ) {
        for shelf in self.shelves.iter().flatten() {
            let owner = |row: usize, tag: u16| {
                let owner = shelf.owners.get(row).filter(|owner| **owner != NONE)?;
                if tag == version { rank(*owner) } else { None }
            };
            shelf.segment.scan(query, owner, best);
        }
    }
}

/// The shelf and the row of a slot.
fn place(slot: u32) -> (usize, usize) {
    (slot as usize / ROWS, slot as usize % ROWS)
}

#[cold]
fn no_shelf() -> ! {
    bug("a slot outside of all segments")
}

#[cfg(test)]
mod tests {
    use super::super::vector::tests::{bytes, random};
    use super::super::vector::{OwnedCode, Unit};
    use super::*;
    use std::collections::BTreeMap;

    fn code(seed: u64) -> OwnedCode {
        OwnedCode::of(&Unit::read(&bytes(&random(seed, 8))).unwrap())
    }

    /// Shelves, and where on them everybody's vector stands.
    #[derive(Default)]
    struct Kept {
        shelves: Shelves,
        slots: BTreeMap<u32, u32>,
    }

    impl Kept {
        fn put(&mut self, owner: u32) {
            let slot = self.shelves.put(8, &code(owner.into()).as_ref(), 7, owner);
            assert!(self.slots.values().all(|other| *other != slot));
            self.slots.insert(owner, slot);
            self.tidy();
        }

        fn remove(&mut self, owner: u32) {
            self.shelves.remove(self.slots.remove(&owner).unwrap());
            self.tidy();
        }

        fn tidy(&mut self) {
            let slots = &mut self.slots;
            self.shelves.tidy(8, |Moved { owner, from, to }| {
                assert_eq!(slots.insert(owner, to), Some(from));
            });
        }

        fn check(&self) {
            assert_eq!(self.shelves.vectors(), self.slots.len());
            for (owner, slot) in &self.slots {
                assert_eq!(self.shelves.code(*slot), code((*owner).into()).as_ref());
            }
            let query = Query::new(&Unit::read(&bytes(&random(0, 8))).unwrap());
            let all = |owner| Some((owner, -1.0));
            let mut best = Best::new(10_000, -1.0, None);
            self.shelves.scan(&query, 7, all, &mut best);
            let mut found: Vec<_> = best.hits().iter().map(|(_, owner)| *owner).collect();
            found.sort_unstable();
            assert!(found.iter().eq(self.slots.keys()));
            let mut none = Best::new(10_000, -1.0, None);
            self.shelves.scan(&query, 8, all, &mut none);
            assert_eq!(none.hits(), []);
        }
    }

    #[test]
    fn what_is_taken_out_is_forgotten_and_its_room_is_given_back() {
        let mut kept = Kept::default();
        (0..4_000).for_each(|owner| kept.put(owner));
        assert_eq!(kept.shelves.segments(), 4);
        kept.check();
        let full = kept.shelves.heap_bytes();
        // Every other one, and then of the others as well.
        (0..4_000).step_by(2).for_each(|owner| kept.remove(owner));
        kept.check();
        (1..4_000).step_by(4).for_each(|owner| kept.remove(owner));
        kept.check();
        assert!(kept.shelves.segments() <= 2, "{}", kept.shelves.segments());
        assert!(kept.shelves.heap_bytes() < full / 2);
        let left: Vec<_> = kept.slots.keys().copied().collect();
        left.into_iter().for_each(|owner| kept.remove(owner));
        assert_eq!((kept.shelves.segments(), kept.shelves.vectors()), (0, 0));
        kept.put(1);
        kept.check();
    }

    #[test]
    fn in_the_long_run_three_quarters_of_the_room_are_used() {
        let mut kept = Kept::default();
        (0..3_000).for_each(|owner| kept.put(owner));
        for owner in 3_000..12_000_u32 {
            // Some by age, some by chance.
            let chance = owner.wrapping_mul(2_654_435_761) % 3_000;
            let from = owner - 3_000 + if owner % 2 == 0 { 0 } else { chance };
            let gone = kept.slots.range(from..).next();
            let gone = *gone.or(kept.slots.iter().next()).unwrap().0;
            kept.remove(gone);
            kept.put(owner);
            assert!(kept.shelves.segments() <= 5, "{owner}");
        }
        kept.check();
    }

    #[test]
    fn a_segment_that_is_read_elsewhere_is_left_as_it_is() {
        let mut kept = Kept::default();
        kept.put(1);
        let read = Arc::clone(&kept.shelves.shelves[0].as_ref().unwrap().segment);
        kept.put(2);
        assert_eq!((read.len(), kept.shelves.segments()), (1, 2));
        kept.remove(1);
        assert_eq!(read.code(0), code(1).as_ref());
        kept.check();
    }
}
