//! A table by id.
//!
//! Linear hashing (Litwin, "Linear hashing: a new tool for file and table addressing",
//! VLDB 1980): the table grows and shrinks by a list at a time, so that no call stands
//! still while all are put into a larger one. The holds themselves stand one beside the
//! other, the last in the place of the one that is taken out: ids are random, so each
//! step to another one is one in memory that nobody has foreseen. Callers choose ids: a
//! seed of the table's own keeps them from choosing the list.

use crate::id::Id;
use crate::rows::Rows;
use std::hash::{BuildHasher, RandomState};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// How many lists there are for each hold at least: few lead past another hold.
const LISTS: usize = 2;

/// How many there are for each at most, in a table that shrinks.
const MOST_LISTS: usize = 16;

/// How many places, and how many lists, stand in a row. In tests few, so that there are
/// many rows.
const PLACES: usize = if cfg!(test) { 4 } else { 64 };
const FIRSTS: usize = if cfg!(test) { 4 } else { 1_024 };

/// No place.
const NONE: u32 = u32::MAX;

/// The table.
#[derive(Clone, Debug)]
pub struct ById<V> {
    places: Rows<Place<V>, PLACES>,
    /// The first of each list.
    lists: Rows<u32, FIRSTS>,
    seed: u64,
}

#[derive(Clone, Debug)]
struct Place<V> {
    id: Id,
    value: V,
    /// The next one in its list.
    next: u32,
}

impl<V> ById<V> {
    /// An empty one.
    pub fn new() -> Self {
        Self { places: Rows::new(), lists: Rows::new(), seed: RandomState::new().hash_one(()) }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// The one with an id.
    pub fn get(&self, id: Id) -> Option<&V> {
        self.places.get(self.place_of(id)?).map(|place| &place.value)
    }

    /// The one with an id, to be changed.
    pub fn get_mut(&mut self, id: Id) -> Option<&mut V> {
        self.places.get_mut(self.place_of(id)?).map(|place| &mut place.value)
    }

    fn place_of(&self, id: Id) -> Option<usize> {
        let mut place = *self.lists.get(self.list_of(id))? as usize;
        loop {
            let found = self.places.get(place)?;
            if found.id == id {
                return Some(place);
            }
            place = found.next as usize;
        }
    }

    /// All of them, in no order.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Id, &mut V)> {
        self.places.iter_mut().map(|place| (place.id, &mut place.value))
    }

    /// Adds one, of an id that none has.
    pub fn add(&mut self, id: Id, value: V) {
        while self.lists.len() < (self.len() + 1) * LISTS {
            self.add_list();
        }
        let place = self.len() as u32;
        self.places.push(Place { id, value, next: NONE });
        self.link(place);
    }

    /// Takes one out, if it is such a one.
    pub fn remove_if(&mut self, id: Id, is: impl FnOnce(&V) -> bool) -> Option<V> {
        let link = self.place_of(id)? as u32;
        let place = self.places.get(link as usize).filter(|place| is(&place.value))?;
        let next = place.next;
        *self.link_to(id, link)? = next;
        let last = self.len() as u32 - 1;
        if link != last {
            let moved = self.places.get(last as usize)?.id;
            *self.link_to(moved, last)? = link;
        }
        let value = self.places.swap_remove(link as usize)?.value;
        while self.lists.len() > (self.len() + 1) * MOST_LISTS {
            self.remove_list();
        }
        Some(value)
    }

    /// Bytes on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.places.heap_bytes() + self.lists.heap_bytes()
    }

    /// The list of an id: of twice as many as there are at least, or of half of those
    /// where that is not there yet.
    fn list_of(&self, id: Id) -> usize {
        let hash = xxh3_64_with_seed(&id.0, self.seed) as usize;
        let mask = self.lists.len().next_power_of_two() - 1;
        let list = hash & mask;
        if list < self.lists.len() { list } else { hash & (mask >> 1) }
    }

    /// What leads to the place of an id in its list.
    fn link_to(&mut self, id: Id, place: u32) -> Option<&mut u32> {
        let list = self.list_of(id);
        let mut at = *self.lists.get(list)?;
        if at == place {
            return self.lists.get_mut(list);
        }
        loop {
            let next = self.places.get(at as usize)?.next;
            if next == place {
                return self.places.get_mut(at as usize).map(|before| &mut before.next);
            }
            at = next;
        }
    }

    /// Puts a place at the beginning of the list of its id.
    fn link(&mut self, place: u32) {
        let Some(id) = self.places.get(place as usize).map(|place| place.id) else { return };
        let list = self.list_of(id);
        let Some(first) = self.lists.get_mut(list) else { return };
        let next = std::mem::replace(first, place);
        if let Some(place) = self.places.get_mut(place as usize) {
            place.next = next;
        }
    }

    /// Has all in a list be put into their own.
    fn link_all(&mut self, mut place: u32) {
        while let Some(next) = self.places.get(place as usize).map(|place| place.next) {
            self.link(place);
            place = next;
        }
    }

    /// Adds a list, which takes its part of the one that had both.
    fn add_list(&mut self) {
        let both = both(self.lists.len());
        let all = self.lists.get_mut(both).map_or(NONE, |first| std::mem::replace(first, NONE));
        self.lists.push(NONE);
        self.link_all(all);
    }

    /// Takes out the last list, and puts what it has into the one that has both then.
    fn remove_list(&mut self) {
        if let Some(all) = self.lists.pop() {
            self.link_all(all);
        }
    }
}

/// The list that has what is in a list as long as that is not there.
fn both(list: usize) -> usize {
    list.saturating_sub((list + 1).next_power_of_two() / 2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Against a map, which grows and shrinks by turns.
        #[test]
        fn is_what_a_map_is(
            actions in prop::collection::vec((0u128..300, 0u8..10), 1..800),
            turn in 20usize..200,
        ) {
            let (mut table, mut map) = (ById::new(), BTreeMap::new());
            for (number, (id, chance)) in actions.into_iter().enumerate() {
                let id = Id(id.to_le_bytes());
                let adds = if (number / turn).is_multiple_of(2) { 8 } else { 1 };
                if chance < adds && !map.contains_key(&id) {
                    table.add(id, number);
                    map.insert(id, number);
                } else {
                    prop_assert_eq!(table.remove_if(id, |_| false), None);
                    prop_assert_eq!(table.remove_if(id, |_| true), map.remove(&id));
                }
                prop_assert_eq!(table.len(), map.len());
                for (id, value) in &map {
                    prop_assert_eq!(table.get(*id), Some(value));
                }
                let all: BTreeMap<_, _> = table.iter_mut().map(|(id, value)| (id, *value)).collect();
                prop_assert_eq!(&all, &map);
                let lists = table.lists.len();
                prop_assert!(lists >= map.len() * LISTS);
                prop_assert!(lists <= (map.len() + 1) * MOST_LISTS, "{lists} for {}", map.len());
            }
        }
    }
}
