//! Namespaces: the versions in force in each, and what is counted of it.
//!
//! The namespace of a key is its part before the first `:`; a key without one
//! is in that of the empty name.

use std::collections::HashMap;

/// The most versions in force in a namespace.
pub const MAX_IN_FORCE: usize = 16;

/// The longest name of a namespace, in bytes. Keys of a longer one are counted
/// under [`OTHER`].
pub const MAX_NAME_BYTES: usize = 255;

/// The most namespaces that replaying accepts, whatever the config says.
pub const MAX_NAMESPACES: usize = 65_536;

/// What namespaces beyond the configured number are counted under.
pub const OTHER: &[u8] = b"(other)";

/// The name of a key's namespace.
pub fn name_of(key: &[u8]) -> &[u8] {
    key.iter().position(|byte| *byte == b':').and_then(|end| key.get(..end)).unwrap_or_default()
}

/// What is counted of each namespace on this state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistic {
    /// Fresh answers served.
    Hits,
    /// Reads that found no fresh answer.
    Misses,
    /// Stale answers served while another caller computes.
    Stale,
    /// Leases granted.
    Leases,
    /// Callers that waited for another's answer.
    OnUnblock,
    /// Answers got by waiting.
    Coalesced,
    /// Leases that ran out unfilled.
    ExpiredLeases,
    /// Sets refused: of a lease that had passed, of a version not in force.
    RefusedSets,
    /// What computing the answers of all hits had taken, in milliseconds.
    SavedMs,
    /// Answers written.
    EntriesWritten,
    /// Bytes of the answers written.
    BytesWritten,
}

impl Statistic {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Hits,
        Self::Misses,
        Self::Stale,
        Self::Leases,
        Self::OnUnblock,
        Self::Coalesced,
        Self::ExpiredLeases,
        Self::RefusedSets,
        Self::SavedMs,
        Self::EntriesWritten,
        Self::BytesWritten,
    ];

    /// Its name in ML.CACHESTATS.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hits => "hits",
            Self::Misses => "misses",
            Self::Stale => "stale",
            Self::Leases => "leases",
            Self::OnUnblock => "waits",
            Self::Coalesced => "coalesced",
            Self::ExpiredLeases => "expired_leases",
            Self::RefusedSets => "refused_sets",
            Self::SavedMs => "saved_ms",
            Self::EntriesWritten => "entries_written",
            Self::BytesWritten => "bytes_written",
        }
    }
}

/// The versions in force in a namespace; none: all are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce<'a> {
    /// The namespace's name.
    pub namespace: &'a [u8],
    /// The versions, each once.
    pub versions: Vec<&'a [u8]>,
}

/// A namespace.
#[derive(Debug, Default)]
pub struct Namespace {
    name: Box<[u8]>,
    versions: Vec<Box<[u8]>>,
    counts: [u64; Statistic::ALL.len()],
}

impl Namespace {
    fn new(name: &[u8]) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The versions in force; none: all are.
    pub fn versions(&self) -> &[Box<[u8]>] {
        &self.versions
    }

    /// Whether a version may be read and filled.
    pub fn admits(&self, version: &[u8]) -> bool {
        self.versions.is_empty() || self.versions.iter().any(|held| **held == *version)
    }

    /// How much was counted of something.
    pub fn statistic(&self, statistic: Statistic) -> u64 {
        self.counts.get(statistic as usize).copied().unwrap_or_default()
    }

    /// Counts so many more.
    pub fn count(&mut self, statistic: Statistic, more: u64) {
        if let Some(count) = self.counts.get_mut(statistic as usize) {
            *count = count.wrapping_add(more);
        }
    }
}

/// As many namespaces as there may be are known already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany;

/// The namespaces that are known: those with versions in force, and those of
/// keys that were called for.
#[derive(Debug)]
pub struct Namespaces {
    /// The first is [`OTHER`].
    all: Vec<Namespace>,
    places: HashMap<Box<[u8]>, usize>,
    /// The place of the one asked for last, which the next call asks for as
    /// well, more often than not.
    last: usize,
}

impl Default for Namespaces {
    fn default() -> Self {
        Self::of(Vec::new())
    }
}

impl Namespaces {
    /// These, and [`OTHER`].
    fn of(known: Vec<Namespace>) -> Self {
        let all: Vec<_> = [Namespace::new(OTHER)].into_iter().chain(known).collect();
        let places = all.iter().enumerate().map(|(place, one)| (one.name.clone(), place));
        Self { places: places.collect(), all, last: 0 }
    }

    /// The namespace of a key, made known if there is room for another among
    /// `max`; else [`OTHER`].
    pub fn of_key(&mut self, key: &[u8], max: usize) -> &mut Namespace {
        let name = name_of(key);
        if self.all.get(self.last).is_none_or(|last| *last.name != *name) {
            self.last = match self.places.get(name) {
                Some(place) => *place,
                None => self.add(name, max).unwrap_or(0),
            };
        }
        self.at(self.last)
    }

    fn at(&mut self, place: usize) -> &mut Namespace {
        if place >= self.all.len() {
            // Every place that is kept is one of `all`.
            self.all.resize_with(place + 1, Namespace::default);
        }
        #[allow(clippy::indexing_slicing)] // Just seen to.
        &mut self.all[place]
    }

    fn add(&mut self, name: &[u8], max: usize) -> Result<usize, TooMany> {
        // The first one counts for none.
        if self.all.len() > max || name.len() > MAX_NAME_BYTES {
            return Err(TooMany);
        }
        let place = self.all.len();
        self.all.push(Namespace::new(name));
        self.places.insert(name.into(), place);
        Ok(place)
    }

    /// A namespace, if it is known.
    pub fn named(&self, name: &[u8]) -> Option<&Namespace> {
        self.all.get(*self.places.get(name)?)
    }

    /// All that are known and have something to tell.
    pub fn known(&self) -> impl Iterator<Item = &Namespace> {
        let tells = |one: &&Namespace| {
            !one.versions.is_empty() || one.counts.iter().any(|count| *count > 0)
        };
        self.all.iter().filter(tells)
    }

    /// Puts versions in force, in place of those that were; none: all are from
    /// now on.
    pub fn set(&mut self, name: &[u8], versions: &[&[u8]], max: usize) -> Result<(), TooMany> {
        let place = match self.places.get(name) {
            Some(0) => return Err(TooMany),
            Some(place) => *place,
            None if versions.is_empty() => return Ok(()),
            None => self.add(name, max)?,
        };
        let mut distinct: Vec<Box<[u8]>> = Vec::with_capacity(versions.len());
        for version in versions {
            if !distinct.iter().any(|held| **held == **version) {
                distinct.push((*version).into());
            }
        }
        self.at(place).versions = distinct;
        Ok(())
    }

    /// The versions in force, of the namespaces that have some.
    pub fn in_force(&self) -> impl Iterator<Item = InForce<'_>> {
        let retired = self.all.iter().filter(|one| !one.versions.is_empty());
        retired.map(|one| InForce {
            namespace: &one.name,
            versions: one.versions.iter().map(AsRef::as_ref).collect(),
        })
    }

    /// Puts all versions of all namespaces in force.
    pub fn clear(&mut self) {
        self.all.iter_mut().for_each(|one| one.versions.clear());
    }

    /// Sets what is counted to 0, of one namespace or of all. Those that have
    /// nothing but counts are forgotten, and make room.
    pub fn reset(&mut self, name: Option<&[u8]>) {
        let asked = |one: &Namespace| name.is_none_or(|name| *one.name == *name);
        self.all
            .iter_mut()
            .filter(|one| asked(one))
            .for_each(|one| one.counts = Default::default());
        let (other, rest) = {
            let mut all = std::mem::take(&mut self.all).into_iter();
            (all.next(), all)
        };
        let kept = rest.filter(|one| !(asked(one) && one.versions.is_empty())).collect();
        *self = Self::of(kept);
        if let (Some(first), Some(other)) = (self.all.first_mut(), other) {
            *first = other;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_what_stands_before_the_first_colon() {
        for (key, name) in
            [("a:b", "a"), ("a:b:c", "a"), (":b", ""), ("ab", ""), ("", ""), ("{t}x:1", "{t}x")]
        {
            assert_eq!(name_of(key.as_bytes()), name.as_bytes(), "{key}");
        }
    }

    #[test]
    fn without_versions_in_force_all_are() {
        let mut all = Namespaces::default();
        assert!(all.of_key(b"m:1", 10).admits(b"v1"));
        all.set(b"m", &[b"v1", b"v2", b"v1"], 10).unwrap();
        assert_eq!(all.named(b"m").unwrap().versions().len(), 2, "twice counts once");
        assert!(all.of_key(b"m:1", 10).admits(b"v2"));
        assert!(!all.of_key(b"m:1", 10).admits(b"v3"));
        assert!(all.of_key(b"n:1", 10).admits(b"v3"), "another namespace");
        assert_eq!(all.in_force().count(), 1);
        all.set(b"m", &[], 10).unwrap();
        assert!(all.of_key(b"m:1", 10).admits(b"v3"));
        all.set(b"m", &[b"v1"], 10).unwrap();
        all.clear();
        assert!(all.of_key(b"m:1", 10).admits(b"v3"));
    }

    #[test]
    fn beyond_the_most_there_may_be_they_are_counted_together_and_none_is_set() {
        let mut all = Namespaces::default();
        for key in [b"a:1".as_slice(), b"b:1", b"c:1", b"d:1", b"a:2"] {
            all.of_key(key, 2).count(Statistic::Hits, 1);
        }
        let hits = |all: &Namespaces, name: &[u8]| {
            all.named(name).map(|one| one.statistic(Statistic::Hits))
        };
        assert_eq!(
            [hits(&all, b"a"), hits(&all, b"b"), hits(&all, b"c")],
            [Some(2), Some(1), None]
        );
        assert_eq!(hits(&all, OTHER), Some(2));
        assert_eq!(all.set(b"c", &[b"v"], 2), Err(TooMany));
        assert_eq!(all.set(OTHER, &[b"v"], 9), Err(TooMany));
        assert_eq!(all.set(b"c", &[], 2), Ok(()), "nothing to set");
        assert_eq!(all.set(b"a", &[b"v"], 0), Ok(()), "a known one");
        let long = [b'x'; 256];
        all.of_key(&[&long[..], b":1"].concat(), 99).count(Statistic::Hits, 1);
        assert_eq!(hits(&all, OTHER), Some(3));
    }

    #[test]
    fn a_reset_forgets_figures_and_keeps_versions() {
        let mut all = Namespaces::default();
        for key in [b"a:1".as_slice(), b"b:1", b"x"] {
            all.of_key(key, 9).count(Statistic::Misses, 3);
        }
        all.of_key(&[b'y'; 300], 9).count(Statistic::Misses, 1);
        all.set(b"b", &[b"v"], 9).unwrap();
        all.reset(Some(b"a"));
        assert!(all.named(b"a").is_none() && all.named(b"").is_some());
        assert_eq!(all.of_key(b"b:1", 9).statistic(Statistic::Misses), 3);
        all.reset(None);
        assert_eq!(all.known().map(Namespace::name).collect::<Vec<_>>(), [b"b"]);
        assert!(!all.of_key(b"b:1", 9).admits(b"w"));
        assert_eq!(all.of_key(b"b:1", 9).statistic(Statistic::Misses), 0);
    }
}
