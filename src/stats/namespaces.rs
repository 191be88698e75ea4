//! Counts by namespace: of so many by name, of the rest together.

use crate::bug;
use crate::namespace::{first_part, is_first_part};
use std::collections::HashMap;

/// What namespaces beyond the most there may be are counted under.
const OTHER: &[u8] = b"(other)";

/// The longest name of a namespace, in bytes; keys of a longer one are counted
/// under [`OTHER`].
const MAX_NAME_BYTES: usize = 255;

#[derive(Debug)]
struct Namespace<C> {
    name: Box<[u8]>,
    /// Whether there is no brace in the name.
    is_literal: bool,
    counts: C,
}

impl<C> Namespace<C> {
    fn begins(&self, key: &[u8]) -> bool {
        self.is_literal && is_first_part(&self.name, key)
    }
}

/// The counts `C` of each namespace.
#[derive(Debug)]
pub struct Namespaces<C> {
    /// The first is [`OTHER`].
    all: Vec<Namespace<C>>,
    places: HashMap<Box<[u8]>, usize>,
    /// The place of the one asked for last, which the next call asks for as
    /// well, more often than not.
    last: usize,
}

impl<C: Default> Default for Namespaces<C> {
    fn default() -> Self {
        let mut namespaces = Self { all: Vec::new(), places: HashMap::new(), last: 0 };
        namespaces.add(OTHER, C::default());
        namespaces
    }
}

impl<C: Default> Namespaces<C> {
    /// The counts of a key's namespace, by name if there is room for another
    /// among `most`; else [`OTHER`]'s.
    pub fn of_key(&mut self, key: &[u8], most: impl FnOnce() -> usize) -> &mut C {
        if !self.all.get(self.last).is_some_and(|last| last.begins(key)) {
            self.last = self.place(&first_part(key), most);
        }
        match self.all.get_mut(self.last) {
            Some(one) => &mut one.counts,
            None => bug("a namespace has a place among all"),
        }
    }

    fn place(&mut self, name: &[u8], most: impl FnOnce() -> usize) -> usize {
        if self.all.get(self.last).is_some_and(|last| *last.name == *name) {
            return self.last;
        }
        match self.places.get(name) {
            Some(place) => *place,
            // The first one counts for none.
            None if self.all.len() <= most() && name.len() <= MAX_NAME_BYTES => {
                self.add(name, C::default())
            }
            None => 0,
        }
    }

    fn add(&mut self, name: &[u8], counts: C) -> usize {
        let place = self.all.len();
        let is_literal = !name.iter().any(|byte| matches!(byte, b'{' | b'}'));
        self.all.push(Namespace { name: name.into(), is_literal, counts });
        self.places.insert(name.into(), place);
        place
    }

    /// All, with their names.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&[u8], &mut C)> {
        self.all.iter_mut().map(|one| (&*one.name, &mut one.counts))
    }

    /// Forgets what was counted in the namespaces that `asked` says, which makes
    /// room for others.
    pub fn reset(&mut self, asked: impl Fn(&[u8]) -> bool) {
        let before = std::mem::take(self);
        for one in before.all.into_iter().filter(|one| !asked(&one.name)) {
            match self.all.first_mut().filter(|other| other.name == one.name) {
                Some(other) => other.counts = one.counts,
                None => _ = self.add(&one.name, one.counts),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn count(all: &mut Namespaces<u64>, key: &[u8], most: usize) {
        *all.of_key(key, || most) += 1;
    }

    fn counted(all: &mut Namespaces<u64>) -> Vec<(String, u64)> {
        let counted = all.iter_mut().filter(|(_, count)| **count > 0);
        let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        counted.map(|(one, count)| (name(one), *count)).collect()
    }

    #[test]
    fn beyond_the_most_there_may_be_they_are_counted_together() {
        let mut all = Namespaces::default();
        for key in [b"a:1".as_slice(), b"b:1", b"c:1", b"{d:1}", b"a:2", b"{a}:2", b"(other):1"] {
            count(&mut all, key, 2);
        }
        count(&mut all, &[&[b'x'; 256][..], b":1"].concat(), 99);
        let of = |name: &str, count| (name.to_owned(), count);
        assert_eq!(counted(&mut all), [of("(other)", 4), of("a", 3), of("b", 1)]);
        all.reset(|name| name == b"a");
        assert_eq!(counted(&mut all), [of("(other)", 4), of("b", 1)]);
        count(&mut all, b"c:1", 2);
        all.reset(|name| name == OTHER);
        assert_eq!(counted(&mut all), [of("b", 1), of("c", 1)]);
        all.reset(|_| true);
        assert_eq!(counted(&mut all), []);
        count(&mut all, b"", 2);
        assert_eq!(counted(&mut all), [of("", 1)]);
    }

    proptest! {
        #[test]
        fn each_key_is_counted_in_its_first_part(
            keys in prop::collection::vec("[ab{}:]{0,5}", 0..60), most in 0usize..6,
        ) {
            let mut all = Namespaces::default();
            let mut oracle = BTreeMap::new();
            for key in &keys {
                count(&mut all, key.as_bytes(), most);
                let name = String::from_utf8(first_part(key.as_bytes()).into_owned()).unwrap();
                let known = oracle.contains_key(&name) || oracle.len() < most;
                *oracle.entry(if known { name } else { OTHER_NAME.to_owned() }).or_insert(0) += 1;
                if !known && oracle.len() > most {
                    break;
                }
            }
            let mut found = counted(&mut all);
            found.sort();
            prop_assert_eq!(found, oracle.into_iter().collect::<Vec<_>>());
        }
    }

    const OTHER_NAME: &str = "(other)";
}
