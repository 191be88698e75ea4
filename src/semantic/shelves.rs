//! The vectors of a key on shelves: segments, and whom each of their vectors belongs to.
//!
//! A vector is found by its slot. A segment that is full is never written to again, so
//! that threads can read it meanwhile; what is taken out of it is only forgotten here. One
//! that more than a quarter was taken out of is emptied, a few vectors a write, into the
//! last one.
//!
//! Beside each vector stands what a scan asks of its owner, so that threads need not look
//! into the table. Who writes there while threads read has a copy of its own from then on.

use super::best::Best;
use super::entry::NONE;
use super::segment::{ROWS, Segment};
use super::table::MILLION;
use super::vector::{Code, Query};
use crate::bug;
use crate::id::Id;
use crate::lifetime::Lifetime;
use crate::time::Millis;
use std::cell::RefCell;
use std::sync::Arc;

/// How many vectors a write moves at most: three for each that is taken out are enough.
const MOVES: usize = 8;

/// The entry that a vector belongs to, as far as scans ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owner {
    /// What it is named by.
    pub id: Id,
    /// Where it stands in its table; [`NONE`] where the vector was taken out.
    pub place: u32,
    /// The least similarity that it answers from, in millionths.
    pub threshold: u32,
    expires_at_ms: Millis,
    stale_until_ms: Millis,
}

impl Owner {
    /// The owner at a place of its table.
    pub fn new(id: Id, place: u32, threshold: u32, lifetime: &Lifetime) -> Self {
        let Lifetime { expires_at_ms, stale_until_ms, .. } = *lifetime;
        Self { id, place, threshold, expires_at_ms, stale_until_ms }
    }

    /// Whether it is true.
    pub fn is_fresh(&self, now_ms: Millis) -> bool {
        now_ms < self.expires_at_ms
    }

    /// Whether it is not, but may be served in place of what is.
    pub fn is_stale(&self, now_ms: Millis) -> bool {
        !self.is_fresh(now_ms) && now_ms < self.stale_until_ms
    }
}

/// A segment, and whom its vectors belong to.
#[derive(Clone)]
struct Shelf {
    segment: Arc<Segment>,
    owners: Arc<Vec<Owner>>,
    living: usize,
}

impl Shelf {
    /// Looks for the vectors of a version most similar to a query, of those whose owners
    /// `serves` says may answer.
    fn scan(
        &self,
        query: &Query,
        version: u16,
        serves: impl Fn(&Owner) -> bool,
        best: &mut Best<Id>,
    ) {
        let owner = |row: usize, tag: u16| {
            let owner = self.owners.get(row).filter(|owner| owner.place != NONE)?;
            let threshold = f64::from(owner.threshold) / f64::from(MILLION);
            (tag == version && serves(owner)).then_some((owner.id, threshold))
        };
        self.segment.scan(query, owner, best);
    }

    /// Whether so much of it was taken out that the rest should move.
    fn is_sparse(&self) -> bool {
        self.living * 4 < self.owners.len() * 3
    }
}

/// Shelves as they were at one time, but for the one that was filled then: by the upper
/// part of slots.
pub struct Held(Vec<Option<Shelf>>);

impl Held {
    /// Looks for the vectors of a version most similar to a query, as long as `goes_on`
    /// says so after each segment; whether it was to the end.
    pub fn scan(
        &self,
        query: &Query,
        version: u16,
        serves: impl Fn(&Owner) -> bool,
        best: &mut Best<Id>,
        mut goes_on: impl FnMut() -> bool,
    ) -> bool {
        self.0.iter().flatten().all(|shelf| {
            shelf.scan(query, version, &serves, best);
            goes_on()
        })
    }

    /// Whether it has the segment of a shelf.
    fn has(&self, at: usize, shelf: &Shelf) -> bool {
        let held = self.0.get(at).and_then(Option::as_ref);
        held.is_some_and(|held| Arc::ptr_eq(&held.segment, &shelf.segment))
    }
}

/// The shelves.
#[derive(Default)]
pub struct Shelves {
    /// By the upper part of slots; empty ones are used again.
    shelves: Vec<Option<Shelf>>,
    /// The one that is filled.
    last: Option<usize>,
    /// The one that is emptied, and how far that is.
    emptied: Option<(usize, usize)>,
    count: usize,
    /// What was held last, if it is what there is still.
    held: RefCell<Option<Arc<Held>>>,
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
            let owners = size_of::<Vec<Owner>>() + shelf.owners.capacity() * size_of::<Owner>();
            size_of::<Segment>() + shelf.segment.heap_bytes() + owners
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
    pub fn put(&mut self, dim: usize, code: &Code, version: u16, owner: Owner) -> u32 {
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
        let owners = Arc::make_mut(&mut shelf.owners);
        if owners.len() == owners.capacity() {
            owners.reserve_exact((row / 4).clamp(1, ROWS - row));
        }
        owners.push(owner);
        shelf.living += 1;
        self.count += 1;
        (at * ROWS + row) as u32
    }

    /// Begins a segment, where there is none: which shelf it is on.
    fn begin(&mut self, dim: usize) -> usize {
        self.held.take();
        let before = self.last.and_then(|at| self.shelves.get(at)?.as_ref());
        let before = before.or_else(|| self.shelves.iter().flatten().next());
        let segment = Segment::new(dim, before.map(|shelf| &*shelf.segment));
        let shelf = Shelf { segment: Arc::new(segment), owners: Arc::default(), living: 0 };
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

    /// Writes down what has changed of a vector's owner.
    pub fn change(&mut self, slot: u32, change: impl FnOnce(&mut Owner)) {
        let (at, row) = place(slot);
        if self.last != Some(at) {
            self.held.take();
        }
        let Some(Some(shelf)) = self.shelves.get_mut(at) else { no_shelf() };
        change(Arc::make_mut(&mut shelf.owners).get_mut(row).unwrap_or_else(|| no_shelf()));
    }

    /// Takes a vector out.
    pub fn remove(&mut self, slot: u32) {
        self.change(slot, |owner| {
            if owner.place == NONE {
                bug("a vector is taken out twice");
            }
            owner.place = NONE;
        });
        let (at, _) = place(slot);
        let Some(Some(shelf)) = self.shelves.get_mut(at) else { no_shelf() };
        shelf.living -= 1;
        self.count -= 1;
        if shelf.living == 0 {
            self.clear(at);
        } else if self.emptied.is_none() && self.last != Some(at) && shelf.is_sparse() {
            self.emptied = Some((at, 0));
        }
    }

    fn clear(&mut self, at: usize) {
        self.held.take();
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
            let next =
                rows.map(|(row, owner)| (row, *owner)).find(|(_, owner)| owner.place != NONE);
            let Some((row, owner)) = next else { bug("an empty segment is still there") };
            self.emptied = Some((at, row + 1));
            let segment = Arc::clone(&shelf.segment);
            let from = (at * ROWS + row) as u32;
            let to = self.put(dim, &segment.code(row), segment.tag(row), owner);
            drop(segment);
            self.remove(from);
            moved(Moved { owner: owner.place, from, to });
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

    /// The shelves as they are now, to be read by threads, but for the one that is filled.
    /// Taking them costs something for each; as long as nothing changes in them, once.
    pub fn hold(&self) -> Arc<Held> {
        let full = |at: usize| Some(at) != self.last;
        let take = || {
            let shelves = self.shelves.iter().enumerate();
            Held(shelves.map(|(at, shelf)| shelf.as_ref().filter(|_| full(at)).cloned()).collect())
        };
        Arc::clone(self.held.borrow_mut().get_or_insert_with(|| Arc::new(take())))
    }

    /// Looks for the vectors of a version most similar to a query, of those whose owners
    /// `serves` says may answer; in all segments, or in those that are not held.
    pub fn scan(
        &self,
        query: &Query,
        version: u16,
        serves: impl Fn(&Owner) -> bool,
        but: Option<&Held>,
        best: &mut Best<Id>,
    ) {
        for (at, shelf) in self.shelves.iter().enumerate() {
            if let Some(shelf) = shelf
                && !but.is_some_and(|held| held.has(at, shelf))
            {
                shelf.scan(query, version, &serves, best);
            }
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

    fn owned(place: u32) -> Owner {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&place.to_be_bytes());
        Owner::new(Id(id), place, 0, &Lifetime::default())
    }

    /// Shelves, and where on them everybody's vector stands.
    #[derive(Default)]
    struct Kept {
        shelves: Shelves,
        slots: BTreeMap<u32, u32>,
    }

    impl Kept {
        fn put(&mut self, owner: u32) {
            let slot = self.shelves.put(8, &code(owner.into()).as_ref(), 7, owned(owner));
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
            let scan = |version, but: Option<&Held>| {
                let mut best = Best::new(10_000, -1.0, Some(-1.0));
                self.shelves.scan(&query, version, |_| true, but, &mut best);
                let mut found: Vec<_> =
                    best.hits().iter().chain(best.maybes()).map(|(_, id)| *id).collect();
                found.sort_unstable();
                found
            };
            let mut all: Vec<_> = self.slots.keys().map(|owner| owned(*owner).id).collect();
            all.sort_unstable();
            assert_eq!(scan(7, None), all);
            assert_eq!(scan(8, None), []);
            // What is held and what is not are all there is, and nothing twice.
            let held = self.shelves.hold();
            let mut best = Best::new(10_000, -1.0, Some(-1.0));
            assert!(held.scan(&query, 7, |_| true, &mut best, || true));
            let mut found = scan(7, Some(&held));
            found.extend(best.hits().iter().chain(best.maybes()).map(|(_, id)| *id));
            found.sort_unstable();
            assert_eq!(found, all);
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

    #[test]
    fn what_is_held_stays_as_it_was() {
        let mut kept = Kept::default();
        (0..3_000).for_each(|owner| kept.put(owner));
        let held = kept.shelves.hold();
        (0..2_000).for_each(|owner| kept.remove(owner));
        (3_000..4_000).for_each(|owner| kept.put(owner));
        let query = Query::new(&Unit::read(&bytes(&random(0, 8))).unwrap());
        let mut best = Best::new(10_000, 0.0, Some(-1.0));
        assert!(held.scan(&query, 7, |_| true, &mut best, || true));
        assert!(!Arc::ptr_eq(&held, &kept.shelves.hold()));
        assert!(Arc::ptr_eq(&kept.shelves.hold(), &kept.shelves.hold()), "taken once");
        // The third segment was being filled.
        let scanned = best.hits().iter().chain(best.maybes()).map(|(_, id)| *id);
        let mut scanned: Vec<_> = scanned.collect();
        scanned.sort_unstable();
        assert!(!best.hits().is_empty() && scanned.len() <= 2 * ROWS);
        assert!(best.hits().iter().any(|(_, id)| *id < owned(2_000).id), "those taken out, too");
        assert!(scanned.iter().all(|id| *id < owned(2 * ROWS as u32).id));
        assert!(!held.scan(&query, 7, |_| true, &mut Best::new(1, 0.0, None), || false));
        kept.check();
    }
}
