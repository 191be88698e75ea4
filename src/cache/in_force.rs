//! Versions in force: which versions of a model may be read and filled, by the
//! namespace of a key.
//!
//! Of the namespaces of a key (see [`crate::namespace`]) the longest that has
//! versions in force decides; where none has, all are in force. They are found
//! by a hash that goes over the key once, part by part, so that the work is that
//! of reading the key, however many parts it has.

use super::counts::Counts;
use crate::bug;
use crate::namespace::{SEPARATOR, bare};
use arrayvec::ArrayVec;
use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};

/// The most versions in force in a namespace.
pub const MAX_IN_FORCE: usize = 16;

/// The longest name of a namespace with versions in force, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// The most namespaces with versions in force that replaying accepts, whatever
/// the config says.
pub const MAX_NAMESPACES: usize = 65_536;

/// A list of versions in one block, as payloads have it: of each its length in a
/// byte, and its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Versions<'a>(&'a [u8]);

impl<'a> Versions<'a> {
    /// The versions of a list that [`push_version`] wrote.
    pub fn of(list: &'a [u8]) -> Self {
        Self(list)
    }

    /// Takes the first `count` versions that `bytes` begin with, and what follows
    /// them; `None` where they are not there, or one is empty.
    pub fn split_from(bytes: &'a [u8], count: usize) -> Option<(Self, &'a [u8])> {
        let mut rest = bytes;
        for _ in 0..count {
            let (_, behind) = split_version(rest)?;
            rest = behind;
        }
        let (list, rest) = bytes.split_at_checked(bytes.len() - rest.len())?;
        Some((Self(list), rest))
    }

    /// The list as it is written.
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The versions.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (version, behind) = split_version(rest)?;
            rest = behind;
            Some(version)
        })
    }

    fn contains(self, version: &[u8]) -> bool {
        self.iter().any(|held| held == version)
    }

    fn is_same_set(self, other: Self) -> bool {
        self.iter().all(|version| other.contains(version))
            && other.iter().all(|version| self.contains(version))
    }
}

fn split_version(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first().filter(|(length, _)| **length > 0)?;
    rest.split_at_checked(usize::from(*length))
}

/// Appends a version, of 1 to 255 bytes as all are, to a list, unless it is there.
pub fn push_version(version: &[u8], list: &mut Vec<u8>) {
    if !Versions(list).contains(version) {
        list.push(version.len() as u8);
        list.extend(version);
    }
}

/// A rollout: the versions in force in a namespace.
#[derive(Debug, PartialEq, Eq)]
pub struct Rollout {
    name: Box<[u8]>,
    versions: Box<[u8]>,
    /// What was counted of each version, in their order; nothing before the first
    /// call.
    counts: Option<Box<[Counts]>>,
}

impl Rollout {
    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The first part of its name, under which its keys are counted.
    pub fn first_part(&self) -> &[u8] {
        let first = self.name.split(|byte| *byte == SEPARATOR).next();
        first.unwrap_or_else(|| bug("a name without a part"))
    }

    /// Its versions in force, of which there is one at least.
    pub fn versions(&self) -> Versions<'_> {
        Versions(&self.versions)
    }

    /// What was counted of each version in force.
    pub fn counts(&self) -> impl Iterator<Item = (&[u8], Counts)> {
        let versions = self.versions().iter().enumerate();
        versions.map(|(place, version)| {
            let counts = self.counts.as_ref().map(|counts| counts.get(place));
            let counts = counts.map(|counts| *counts.unwrap_or_else(|| uncounted()));
            (version, counts.unwrap_or_default())
        })
    }

    /// Where to count for a version, if it is in force.
    pub fn counts_of(&mut self, version: &[u8]) -> Option<&mut Counts> {
        let place = Versions(&self.versions).iter().position(|held| held == version)?;
        let all = Versions(&self.versions).iter().count();
        let counts = self.counts.get_or_insert_with(|| vec![Counts::default(); all].into());
        Some(counts.get_mut(place).unwrap_or_else(|| uncounted()))
    }
}

#[cold]
fn uncounted() -> ! {
    bug("a version in force without a place to count in")
}

/// As many namespaces as there may be have versions in force already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// All namespaces with versions in force.
#[derive(Debug, Default)]
pub struct InForce {
    /// By the hash of the name; those whose names hash alike stand together.
    by_hash: HashMap<u64, Vec<Rollout>>,
    hashes: RandomState,
    count: usize,
}

impl InForce {
    /// The rollout that decides over a key; `None` where all versions are in
    /// force.
    pub fn of_key(&self, key: &[u8]) -> Option<&Rollout> {
        let (hash, length) = self.deciding(key)?;
        self.by_hash.get(&hash)?.iter().find(|one| one.name.len() == length)
    }

    /// The same, to count in.
    pub fn of_key_mut(&mut self, key: &[u8]) -> Option<&mut Rollout> {
        let (hash, length) = self.deciding(key)?;
        self.by_hash.get_mut(&hash)?.iter_mut().find(|one| one.name.len() == length)
    }

    /// Whether a version may be read and filled under a key.
    pub fn admits(&self, key: &[u8], version: &[u8]) -> bool {
        self.of_key(key).is_none_or(|one| one.versions().contains(version))
    }

    /// The hash and the length of the longest name that is one of a key's; no
    /// two of those are of the same length.
    #[inline]
    fn deciding(&self, key: &[u8]) -> Option<(u64, usize)> {
        if self.by_hash.is_empty() { None } else { self.longest_of(key) }
    }

    fn longest_of(&self, key: &[u8]) -> Option<(u64, usize)> {
        let key = bare(key);
        let prefixes = self.prefixes(&key).filter(|(end, _)| key.get(*end) == Some(&SEPARATOR));
        let mut hits: ArrayVec<_, { MAX_NAME_BYTES + 1 }> =
            prefixes.filter(|(_, hash)| self.by_hash.contains_key(hash)).collect();
        if !key.contains(&SEPARATOR) {
            hits.push((0, self.hash_of(b"")));
        }
        let is_one = |(length, hash): &(usize, u64)| {
            let name = key.get(..*length);
            self.by_hash.get(hash).into_iter().flatten().any(|one| Some(&*one.name) == name)
        };
        hits.into_iter().rev().find(is_one).map(|(length, hash)| (hash, length))
    }

    /// The first parts of a name, one, two and so on, each with its hash, up to
    /// the longest that a name can be.
    fn prefixes(&self, name: &[u8]) -> impl Iterator<Item = (usize, u64)> {
        let mut hasher = self.hashes.build_hasher();
        let mut start = 0;
        let ends = (0..=name.len().min(MAX_NAME_BYTES))
            .filter(|end| name.get(*end).is_none_or(|byte| *byte == SEPARATOR));
        ends.map(move |end| {
            hasher.write(name.get(start..end).unwrap_or_else(|| bug("a part outside of its name")));
            start = end;
            (end, hasher.finish())
        })
    }

    /// The hash of a name, which goes over it by its parts as that of a key does; 0 of
    /// one that is too long to be a namespace's.
    fn hash_of(&self, name: &[u8]) -> u64 {
        self.prefixes(name).last().map_or(0, |(_, hash)| hash)
    }

    /// The versions in force in a namespace itself; none where another decides,
    /// or all are in force.
    pub fn named(&self, name: &[u8]) -> Versions<'_> {
        let same_hash = self.by_hash.get(&self.hash_of(name)).into_iter().flatten();
        let mut named = same_hash.filter(|one| *one.name == *name);
        named.next().map_or(Versions::default(), Rollout::versions)
    }

    /// How many namespaces have versions in force.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Makes room for so many namespaces in all, so that they are put in without
    /// a move.
    pub fn reserve(&mut self, all: usize) {
        self.by_hash.reserve(all.saturating_sub(self.by_hash.len()));
    }

    /// Puts versions in force in a namespace, in place of those that were; with
    /// none, it decides no more. Of at most `most` namespaces. Whether that
    /// changes anything: the order of versions does not count. What was counted
    /// of versions that stay in force is kept.
    pub fn set(&mut self, name: &[u8], versions: Versions, most: usize) -> Result<bool, TooMany> {
        let held = self.named(name);
        if held.is_same_set(versions) {
            return Ok(false);
        }
        if held.is_empty() && self.count >= most {
            return Err(TooMany);
        }
        let hash = self.hash_of(name);
        let same_hash = self.by_hash.entry(hash).or_default();
        let place = same_hash.iter().position(|one| *one.name == *name);
        let mut before = place.map(|place| same_hash.swap_remove(place));
        self.count -= usize::from(before.is_some());
        if versions.is_empty() {
            if same_hash.is_empty() {
                self.by_hash.remove(&hash);
                self.shrink();
            }
            return Ok(true);
        }
        let mut now = Rollout { name: name.into(), versions: versions.0.into(), counts: None };
        if let Some(before) = before.as_mut().filter(|before| before.counts.is_some()) {
            for version in versions.iter() {
                if let Some(counted) = before.counts_of(version).copied()
                    && let Some(counts) = now.counts_of(version)
                {
                    *counts = counted;
                }
            }
        }
        // Most hash like no other: room for one is enough.
        same_hash.reserve_exact(1);
        same_hash.push(now);
        self.count += 1;
        Ok(true)
    }

    /// Gives back what the table has grown to, once most of it is gone.
    fn shrink(&mut self) {
        if self.by_hash.len() < self.by_hash.capacity() / 8 {
            self.by_hash.shrink_to(self.by_hash.len() * 2);
        }
    }

    /// All namespaces with versions in force, by name.
    pub fn all(&self) -> Vec<&Rollout> {
        let mut all: Vec<_> = self.by_hash.values().flatten().collect();
        all.sort_unstable_by_key(|one| one.name());
        all
    }

    /// Sets what was counted to 0, in the namespaces that `asked` says.
    pub fn reset_counts(&mut self, asked: impl Fn(&Rollout) -> bool) {
        let asked = self.by_hash.values_mut().flatten().filter(|one| asked(one));
        asked.for_each(|one| one.counts = None);
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::cache::counts::Counter;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// The list of some versions.
    pub fn list<'v>(versions: impl IntoIterator<Item = &'v [u8]>) -> Vec<u8> {
        let mut list = Vec::new();
        versions.into_iter().for_each(|version| push_version(version, &mut list));
        list
    }

    fn set(all: &mut InForce, name: &str, versions: &[&str], most: usize) -> Result<bool, TooMany> {
        let list = list(versions.iter().map(|version| version.as_bytes()));
        all.set(name.as_bytes(), Versions(&list), most)
    }

    fn named(all: &InForce, name: &str) -> Vec<String> {
        let versions = all.named(name.as_bytes()).iter();
        versions.map(|version| String::from_utf8(version.into()).unwrap()).collect()
    }

    #[test]
    fn without_versions_in_force_all_are() {
        let mut all = InForce::default();
        assert!(all.admits(b"m:1", b"v1"));
        assert_eq!(set(&mut all, "m", &["v1", "v2", "v1"], 10), Ok(true));
        assert_eq!(named(&all, "m"), ["v1", "v2"], "twice counts once");
        assert!(all.admits(b"m:1", b"v2") && !all.admits(b"m:1", b"v3"));
        assert!(all.admits(b"n:1", b"v3") && all.admits(b"m", b"v3"), "another namespace");
        assert_eq!(set(&mut all, "m", &["v2", "v1"], 0), Ok(false), "in another order");
        assert_eq!(set(&mut all, "m", &[], 0), Ok(true));
        assert!(all.admits(b"m:1", b"v3") && all.count() == 0);
        assert_eq!(set(&mut all, "m", &[], 0), Ok(false));
    }

    #[test]
    fn no_more_namespaces_are_set_than_there_may_be() {
        let mut all = InForce::default();
        assert_eq!(set(&mut all, "a", &["v"], 2), Ok(true));
        assert_eq!(set(&mut all, "b", &["v"], 2), Ok(true));
        assert_eq!(set(&mut all, "c", &["v"], 2), Err(TooMany));
        assert_eq!(set(&mut all, "c", &[], 2), Ok(false), "nothing to set");
        assert_eq!(set(&mut all, "a", &["w"], 0), Ok(true), "a known one");
        assert_eq!(set(&mut all, "a", &[], 0), Ok(true));
        assert_eq!(set(&mut all, "c", &["v"], 2), Ok(true));
        assert_eq!(all.all().iter().map(|one| one.name()).collect::<Vec<_>>(), [b"b", b"c"]);
        (0..1_000).for_each(|one| _ = set(&mut all, &format!("n{one}"), &["v"], 2_000).unwrap());
        (0..1_000).for_each(|one| _ = set(&mut all, &format!("n{one}"), &[], 2_000).unwrap());
        assert!(all.count() == 2 && all.by_hash.capacity() < 100, "its memory is given back");
    }

    #[test]
    fn what_was_counted_of_a_version_stays_while_it_is_in_force() {
        let mut all = InForce::default();
        set(&mut all, "m", &["v1", "v2"], 9).unwrap();
        let count = |all: &mut InForce, version: &[u8]| {
            all.of_key_mut(b"m:k")?.counts_of(version)?.add(Counter::Hits as usize, 1);
            Some(())
        };
        count(&mut all, b"v1").unwrap();
        count(&mut all, b"v2").unwrap();
        assert_eq!(count(&mut all, b"v3"), None);
        set(&mut all, "m", &["v3", "v2"], 9).unwrap();
        let counted = |all: &InForce| {
            let one = all.of_key(b"m:k").unwrap();
            one.counts().map(|(_, counts)| counts.get(Counter::Hits as usize)).collect::<Vec<_>>()
        };
        assert_eq!(counted(&all), [0, 1]);
        all.reset_counts(|one| one.name() == b"n");
        assert_eq!(counted(&all), [0, 1]);
        all.reset_counts(|_| true);
        assert_eq!(counted(&all), [0, 0]);
    }

    #[test]
    fn a_list_that_is_cut_short_is_none() {
        let list = list([b"v1".as_slice(), b"version"]);
        let (versions, rest) = Versions::split_from(&list, 1).unwrap();
        assert_eq!((versions.iter().collect::<Vec<_>>(), rest.len()), (vec![b"v1".as_slice()], 8));
        assert_eq!(Versions::split_from(&list, 2), Some((Versions(&list), &b""[..])));
        assert_eq!(Versions::split_from(&list, 3), None);
        assert_eq!(Versions::split_from(&list[..9], 2), None);
        assert_eq!(Versions::split_from(b"\0", 1), None, "an empty version");
    }

    /// The oracle: all names in a list, each compared with each of a key's.
    fn decides(names: &BTreeMap<String, u8>, key: &str) -> Option<(String, u8)> {
        let key = String::from_utf8(bare(key.as_bytes()).into_owned()).unwrap();
        let parts: Vec<_> = key.split(':').collect();
        let mut namespaces: Vec<_> =
            (1..parts.len()).map(|count| parts[..count].join(":")).collect();
        if namespaces.is_empty() {
            namespaces.push(String::new());
        }
        let known = namespaces.into_iter().rev();
        let mut known = known.filter_map(|name| Some((name.clone(), *names.get(&name)?)));
        known.next()
    }

    proptest! {
        #[test]
        fn the_longest_of_a_keys_namespaces_decides(
            steps in prop::collection::vec(("[a:]{0,5}", 0u8..3), 0..40),
            keys in prop::collection::vec("[a:{}]{0,8}", 0..40),
        ) {
            let mut all = InForce::default();
            let mut oracle = BTreeMap::new();
            for (name, version) in steps {
                let versions = if version == 0 { vec![] } else { list([&[version][..]]) };
                all.set(name.as_bytes(), Versions(&versions), 99).unwrap();
                match version {
                    0 => oracle.remove(&name),
                    version => oracle.insert(name, version),
                };
                prop_assert_eq!(all.count(), oracle.len());
            }
            for key in keys {
                let expected = decides(&oracle, &key);
                let found = all.of_key(key.as_bytes()).map(|one| {
                    let name = String::from_utf8(one.name().into()).unwrap();
                    (name, one.versions().iter().next().unwrap()[0])
                });
                prop_assert_eq!(&found, &expected, "{}", key);
                let counting = all.of_key_mut(key.as_bytes()).map(|one| one.name().to_vec());
                prop_assert_eq!(counting, found.map(|(name, _)| name.into_bytes()));
                prop_assert_eq!(all.admits(key.as_bytes(), b"\0"), expected.is_none());
            }
        }

        #[test]
        fn names_as_long_as_they_may_be_and_keys_of_any_length(
            length in 0usize..300, more in 0usize..300, separators: bool,
        ) {
            let byte = if separators { b':' } else { b'x' };
            let name = vec![byte; length.min(MAX_NAME_BYTES)];
            let mut all = InForce::default();
            all.set(&name, Versions(b"\x01v"), 9).unwrap();
            let key = [&name[..], b":", &vec![byte; more]].concat();
            prop_assert!(!all.admits(&key, b"w"));
            prop_assert!(all.admits(&[b"y", &key[..]].concat(), b"w"));
        }
    }
}
