//! Layouts shared by all rows that have the same: interned by their exact
//! content, as virtual machines share hidden classes (Chambers, Ungar and Lee,
//! "An efficient implementation of SELF", OOPSLA 1989). Names cost nothing per
//! row. A layout goes with the last row that has it.
//!
//! Rows are freed in the background too, so the table stands behind a mutex; who
//! holds a row reads its layout without one. A process forked to save reads
//! layouts through rows only: there the mutex may be locked for ever.

use super::events::Events;
use super::layout::Layout;
use super::stats::{LAYOUT_BYTES, LAYOUTS};
use crate::bug;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::ops::Deref;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use xxhash_rust::xxh3::Xxh3Builder;

/// A layout that all rows share that have it.
#[derive(Clone, Debug)]
pub struct SharedLayout(Arc<Node>);

/// A layout that is known when it comes again. It may go meanwhile: what it stood at is
/// no other's as long as it is known.
#[derive(Debug)]
pub struct KnownLayout(Weak<Node>);

/// What a row begins with: its layout, and what happened to those of its fields that
/// hold events. One pointer, as most rows have none: it leads to the layout that all
/// share, or to a block of the row's own.
#[derive(Debug)]
pub struct Head(SharedLayout);

#[derive(Debug)]
enum Node {
    Shared(Shared),
    Own {
        /// The layout, shared.
        layout: SharedLayout,
        /// The events of each field that has any, in order. One or two, as most have,
        /// take no block: a shared layout is as large.
        events: SmallVec<[Arc<Events>; 2]>,
        /// How many bytes of a row all of them take.
        bytes: usize,
    },
}

#[derive(Debug)]
struct Shared {
    layout: Layout,
    hash: u64,
}

/// The layouts in use, by their hashes. Layouts are compared whole: two that hash
/// alike cost time, never a wrong answer.
#[derive(Default)]
struct Table {
    layouts: HashMap<u64, Vec<Weak<Node>>>,
    /// What INFO was last told that the table takes.
    told_bytes: usize,
}

static TABLE: LazyLock<Mutex<Table>> = LazyLock::new(Mutex::default);

fn table() -> MutexGuard<'static, Table> {
    TABLE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Table {
    /// Tells INFO what the table takes now, beside the layouts themselves: its
    /// slots, and a list with one pointer for each hash. After each change.
    fn changed(&mut self) {
        type List = Vec<Weak<Node>>;
        // A slot and its control byte; tables keep one in eight free.
        let slots = self.layouts.capacity() * 8 / 7 * (size_of::<(u64, List)>() + 1);
        let bytes = slots + self.layouts.len() * size_of::<Weak<Node>>();
        LAYOUT_BYTES.add(bytes as i64 - self.told_bytes as i64);
        self.told_bytes = bytes;
    }

    /// Gives back what was needed for many more layouts than there are: each
    /// time for at least as many that went as it moves.
    fn shrink(&mut self) {
        if self.layouts.len() <= self.layouts.capacity() / 4 {
            self.layouts.shrink_to(self.layouts.len() * 2);
        }
    }
}

/// Seeded, and of where each name ends as well, so that nobody can make up layouts
/// that hash alike.
fn hash_of(layout: &Layout) -> u64 {
    static SEEDED: LazyLock<Xxh3Builder> = LazyLock::new(|| {
        let seed = RandomState::new().hash_one(());
        Xxh3Builder::new().with_seed(seed)
    });
    SEEDED.hash_one(layout)
}

impl SharedLayout {
    /// The one that is shared of all that are equal.
    pub fn new(layout: Layout) -> Self {
        let hash = hash_of(&layout);
        // Lives longer than the lock: the last of a layout takes it when dropped.
        let mut same_hash: Vec<SharedLayout>;
        let mut table = table();
        let known = table.layouts.entry(hash).or_insert_with(|| Vec::with_capacity(1));
        same_hash = known.iter().filter_map(Weak::upgrade).map(Self).collect();
        if let Some(place) = same_hash.iter().position(|shared| **shared == layout) {
            drop(table);
            return same_hash.swap_remove(place);
        }
        LAYOUTS.add(1);
        let shared = Shared { layout, hash };
        LAYOUT_BYTES.add(shared.bytes() as i64);
        let shared = Arc::new(Node::Shared(shared));
        known.push(Arc::downgrade(&shared));
        table.changed();
        drop(table);
        Self(shared)
    }

    /// Whether both are the same layout.
    pub fn is(&self, other: &Self) -> bool {
        self.address() == other.address()
    }

    /// Whether nobody else has it: no row, and no other who looks at it.
    pub fn is_new(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }

    /// The layout, to be known again.
    pub fn known(&self) -> KnownLayout {
        KnownLayout(Arc::downgrade(&self.0))
    }

    /// What no other layout has, for as long as this one is held.
    pub fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }
}

impl KnownLayout {
    /// Whether it is this one.
    pub fn is(&self, layout: &SharedLayout) -> bool {
        std::ptr::eq(self.0.as_ptr(), Arc::as_ptr(&layout.0))
    }
}

impl Deref for SharedLayout {
    type Target = Layout;

    fn deref(&self) -> &Layout {
        match &*self.0 {
            Node::Shared(shared) => &shared.layout,
            Node::Own { layout, .. } => layout,
        }
    }
}

impl Head {
    /// The head of a row without events.
    pub fn plain(layout: &SharedLayout) -> Self {
        Self(layout.clone())
    }

    /// The head of a row of a layout, and of the events of those fields that have any,
    /// in order.
    pub fn new(layout: &SharedLayout, events: impl Iterator<Item = Arc<Events>>) -> Self {
        let events: SmallVec<[_; 2]> = events.collect();
        if events.is_empty() {
            return Self::plain(layout);
        }
        let bytes = events.iter().map(|events| events.row_bytes()).sum();
        Self(SharedLayout(Arc::new(Node::Own { layout: layout.clone(), events, bytes })))
    }

    /// The layout, and the events of each field that has any, in order.
    pub fn parts(&self) -> (&SharedLayout, &[Arc<Events>]) {
        match &*self.0.0 {
            Node::Shared(_) => (&self.0, &[]),
            Node::Own { layout, events, .. } => (layout, events),
        }
    }

    /// Where it leads to.
    pub fn leads_to(&self) -> *const () {
        Arc::as_ptr(&self.0.0).cast()
    }

    /// The layout.
    pub fn layout(&self) -> &SharedLayout {
        self.parts().0
    }

    /// The events of each field that has any, in order.
    pub fn events(&self) -> &[Arc<Events>] {
        self.parts().1
    }

    /// How many bytes of a row the events take.
    pub fn event_bytes(&self) -> usize {
        match &*self.0.0 {
            Node::Shared(_) => 0,
            Node::Own { bytes, .. } => *bytes,
        }
    }

    /// Changes the events at a place of [`Self::events`]: a copy of their own where
    /// another row has them as well.
    pub fn change(&mut self, place: usize, change: impl FnOnce(&mut Events)) {
        let Some(Node::Own { events, bytes, .. }) = Arc::get_mut(&mut self.0.0) else {
            bug("the events of a row that has none of its own")
        };
        let events = events.get_mut(place).map(Arc::make_mut);
        let events = events.unwrap_or_else(|| bug("events that the row has not"));
        let before = events.row_bytes();
        change(events);
        *bytes = (*bytes - before) + events.row_bytes();
    }

    /// The events that no other row has as well.
    pub fn own_events(&mut self) -> impl Iterator<Item = &mut Events> {
        let events = match Arc::get_mut(&mut self.0.0) {
            Some(Node::Own { events, .. }) => events.as_mut_slice(),
            _ => &mut [],
        };
        events.iter_mut().filter_map(Arc::get_mut)
    }

    /// Bytes of memory that it takes, shared layouts aside.
    pub fn heap_bytes(&self) -> usize {
        match &*self.0.0 {
            Node::Shared(_) => 0,
            Node::Own { events, .. } => {
                let spilled = if events.spilled() { events.capacity() } else { 0 };
                let own = size_of::<Node>() + spilled * size_of::<Arc<Events>>();
                let each = events.iter().map(|events| size_of::<Events>() + events.heap_bytes());
                // Each shared pointer has two counts.
                own + each.sum::<usize>() + (1 + events.len()) * 2 * size_of::<usize>()
            }
        }
    }

    /// How many blocks it takes.
    pub fn blocks(&self) -> usize {
        match &*self.0.0 {
            Node::Shared(_) => 0,
            Node::Own { events, .. } => {
                let own = 1 + usize::from(events.spilled());
                own + events.iter().map(|events| 1 + events.blocks()).sum::<usize>()
            }
        }
    }
}

/// Of events, what is changed of one is not changed of the other.
impl Clone for Head {
    fn clone(&self) -> Self {
        Self::new(self.layout(), self.events().iter().cloned())
    }
}

impl Shared {
    /// Bytes that it takes, the two counts of its pointers with it.
    fn bytes(&self) -> usize {
        size_of::<Node>() - size_of::<Layout>() + self.layout.bytes() + 2 * size_of::<usize>()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        LAYOUTS.add(-1);
        LAYOUT_BYTES.add(-(self.bytes() as i64));
        let mut table = table();
        if let Some(same_hash) = table.layouts.get_mut(&self.hash) {
            // An equal one may have been interned since this one's last row went.
            same_hash.retain(|shared| shared.strong_count() > 0);
            if same_hash.is_empty() {
                table.layouts.remove(&self.hash);
                table.shrink();
            }
            table.changed();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(names: &[&str]) -> Layout {
        Layout::of(names.iter().map(|name| (&b""[..], name.as_bytes()))).unwrap()
    }

    fn known(layout: &Layout) -> usize {
        table().layouts.get(&hash_of(layout)).map_or(0, Vec::len)
    }

    #[test]
    fn equal_layouts_are_one_which_goes_with_the_last() {
        let names = ["interned_a", "interned_b"];
        let one = SharedLayout::new(layout(&names));
        let other = SharedLayout::new(layout(&names));
        assert!(one.is(&other) && *one == layout(&names) && !other.is_new());
        drop(one);
        assert!(other.is_new());
        assert_eq!(known(&other), 1);
        drop(other);
        assert_eq!(known(&layout(&names)), 0);
    }

    #[test]
    fn names_that_run_together_alike_are_two_layouts() {
        let one = SharedLayout::new(layout(&["aa", "ab"]));
        let other = SharedLayout::new(layout(&["a", "aab"]));
        assert!(!one.is(&other));
        assert_ne!(hash_of(&one), hash_of(&other));
        assert_eq!((known(&one), known(&other)), (1, 1));
    }

    #[test]
    fn the_table_shrinks_with_what_is_in_it() {
        let names: Vec<_> = (0..1_000).map(|one| format!("shrinking {one}")).collect();
        let mut held: Vec<_> =
            names.iter().map(|name| SharedLayout::new(layout(&[name]))).collect();
        let full = table().layouts.capacity();
        assert!(full >= 1_000);
        held.truncate(10);
        // Other tests have a few in it meanwhile.
        let capacity = table().layouts.capacity();
        assert!(capacity < full / 4, "{capacity} of {full} places are kept for 10");
        assert!(held.iter().zip(&names).all(|(held, name)| **held == layout(&[name])));
    }

    #[test]
    fn threads_that_intern_and_drop_leave_nothing_behind() {
        let layouts = || (0..4).map(|one| layout(&["interned_t", &format!("t{one}")]));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let held: Vec<_> = layouts().map(SharedLayout::new).collect();
                        assert!(held.iter().zip(layouts()).all(|(held, is)| **held == is));
                    }
                });
            }
        });
        assert!(layouts().all(|layout| known(&layout) == 0));
    }
}
