//! The memory of leases that are over: of those that ran out, whose holders may
//! still come with what they computed, and of those that were completed, whose
//! holders may say so again because the answer never reached them.
//!
//! No key is copied: a keyed hash of 128 bits stands for it, so that nobody can
//! look for two keys that are taken for one.

use super::{About, FlightKey, MOST_AT_ONCE};
use crate::bug;
use crate::id::Id;
use crate::time::Monotonic;
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::BuildHasher;
use std::sync::Arc;

/// What a lease that is over takes of memory, its name aside: of a record, its
/// place in each order, and what the trees leave empty.
pub const PAST_BYTES: usize = 360;

/// How a lease came to be over. What is forgotten first where room is wanted stands
/// first: many are completed where few run out, and what a late holder has computed would
/// be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// What it was for was computed.
    Completed,
    /// Its time ran out, and nobody has taken over.
    RanOut,
}

/// A lease that is over.
#[derive(Debug)]
pub struct PastLease<Q = ()> {
    /// What names it.
    pub token: Id,
    /// When it was granted.
    pub since: Monotonic,
    /// How long it was for.
    pub lease_us: Monotonic,
    /// What of the key it was for.
    pub name: Box<[u8]>,
    /// What is known of that.
    pub about: Option<Arc<Q>>,
}

impl<Q> Clone for PastLease<Q> {
    fn clone(&self) -> Self {
        let Self { token, since, lease_us, .. } = *self;
        Self { token, since, lease_us, name: self.name.clone(), about: self.about.clone() }
    }
}

impl<Q> PastLease<Q> {
    /// The flight it was in, at its key.
    pub fn flight(&self, scope: i32, key: &[u8]) -> FlightKey<Q> {
        FlightKey::new(scope, key, &self.name).with(self.about.clone())
    }
}

/// By its hash: a key of a scope.
type KeyHash = (i32, u128);

/// By its hash: a name there.
type NameHash = u64;

/// By its hash: a token at a key of a scope.
type TokenHash = u64;

/// Where a lease is found that came to an end.
type At = (KeyHash, End, NameHash);

/// By the end and by age: numbers count up.
type Number = (End, u64);

#[derive(Debug)]
struct Record<Q> {
    at: At,
    lease: PastLease<Q>,
    /// When it is forgotten.
    until: Monotonic,
}

/// The leases that are over and not forgotten yet. At most one of each end is
/// known of one thing.
#[derive(Debug)]
pub struct PastLeases<Q = ()> {
    hashers: [RandomState; 2],
    records: BTreeMap<Number, Record<Q>>,
    places: BTreeMap<At, Number>,
    tokens: BTreeSet<(TokenHash, Number)>,
    ends: BTreeSet<(Monotonic, Number)>,
    next: u64,
    bytes: usize,
}

impl<Q> Default for PastLeases<Q> {
    fn default() -> Self {
        Self {
            hashers: Default::default(),
            records: BTreeMap::new(),
            places: BTreeMap::new(),
            tokens: BTreeSet::new(),
            ends: BTreeSet::new(),
            next: 0,
            bytes: 0,
        }
    }
}

impl<Q: About> PastLeases<Q> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// How many bytes they take.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn place(&self, scope: i32, key: &[u8]) -> KeyHash {
        let [high, low] = &self.hashers;
        let hash = u128::from(high.hash_one(key)) << 64 | u128::from(low.hash_one(key));
        (scope, hash)
    }

    fn name(&self, name: &[u8]) -> NameHash {
        let [hasher, _] = &self.hashers;
        hasher.hash_one(name)
    }

    fn token(&self, place: KeyHash, token: Id) -> TokenHash {
        let [hasher, _] = &self.hashers;
        hasher.hash_one((place, token.0))
    }

    fn at(&self, key: &FlightKey<Q>, end: End) -> At {
        (self.place(key.scope(), key.key()), end, self.name(key.name()))
    }

    /// Remembers a lease until then, in place of the one that came to the same
    /// end before.
    pub fn remember(
        &mut self,
        key: &FlightKey<Q>,
        end: End,
        token: Id,
        since: Monotonic,
        lease_us: Monotonic,
        until: Monotonic,
    ) {
        let at = self.at(key, end);
        self.forget(at);
        let (name, about) = (key.name().into(), key.about().cloned());
        let lease = PastLease { token, since, lease_us, name, about };
        let number = (end, self.next);
        self.next += 1;
        self.bytes += Self::bytes_of(&lease);
        self.tokens.insert((self.token(at.0, token), number));
        self.records.insert(number, Record { at, lease, until });
        self.places.insert(at, number);
        self.ends.insert((until, number));
    }

    fn bytes_of(lease: &PastLease<Q>) -> usize {
        PAST_BYTES + lease.name.len() + lease.about.as_ref().map_or(0, |about| about.bytes())
    }

    /// The lease on this that came to such an end, if it is remembered.
    pub fn find(&self, key: &FlightKey<Q>, end: End, now: Monotonic) -> Option<&PastLease<Q>> {
        if self.records.is_empty() {
            return None;
        }
        let number = self.places.get(&self.at(key, end))?;
        Some(self.record(*number)).filter(|record| now < record.until).map(|record| &record.lease)
    }

    /// The leases of this token at a key that came to such an end: of whatever name.
    pub fn of_token(
        &self,
        scope: i32,
        key: &[u8],
        token: Id,
        end: End,
        now: Monotonic,
    ) -> impl Iterator<Item = &PastLease<Q>> + use<'_, Q> {
        let at = (!self.records.is_empty()).then(|| {
            let place = self.place(scope, key);
            (place, self.token(place, token))
        });
        at.into_iter().flat_map(move |(place, hash)| {
            let all = self.tokens.range((hash, (end, u64::MIN))..=(hash, (end, u64::MAX)));
            let records = all.map(|(_, number)| self.record(*number));
            let held = records.filter(move |record| {
                record.at.0 == place && record.lease.token == token && now < record.until
            });
            held.map(|record| &record.lease)
        })
    }

    fn record(&self, number: Number) -> &Record<Q> {
        self.records.get(&number).unwrap_or_else(|| bug("a place without a record"))
    }

    /// The leases at a key that came to such an end.
    fn at_key(&self, scope: i32, key: &[u8], end: End) -> Vec<(At, Number)> {
        if self.records.is_empty() {
            return Vec::new();
        }
        let place = self.place(scope, key);
        let all = self.places.range((place, end, NameHash::MIN)..=(place, end, NameHash::MAX));
        all.map(|(at, number)| (*at, *number)).collect()
    }

    /// Forgets the lease on this that came to such an end.
    pub fn forget_one(&mut self, key: &FlightKey<Q>, end: End) {
        if !self.records.is_empty() {
            self.forget(self.at(key, end));
        }
    }

    /// Forgets the leases at a key, of one name or of all.
    pub fn forget_at(&mut self, scope: i32, key: &[u8], name: Option<&[u8]>) {
        match name.map(|name| self.name(name)) {
            Some(name) if !self.records.is_empty() => {
                let place = self.place(scope, key);
                for end in [End::RanOut, End::Completed] {
                    self.forget((place, end, name));
                }
            }
            Some(_) => {}
            None => {
                let ends = [End::RanOut, End::Completed].map(|end| self.at_key(scope, key, end));
                ends.into_iter().flatten().for_each(|(at, _)| _ = self.forget(at));
            }
        }
    }

    /// Forgets the leases that ran out at a key and are to things of a kind.
    pub fn forget_late_if(
        &mut self,
        scope: i32,
        key: &[u8],
        is_one: impl Fn(&FlightKey<Q>) -> bool,
    ) {
        for (at, number) in self.at_key(scope, key, End::RanOut) {
            if is_one(&self.record(number).lease.flight(scope, key)) {
                self.forget(at);
            }
        }
    }

    /// Forgets the leases of a scope, or all.
    pub fn forget_scope(&mut self, scope: Option<i32>) {
        let Some(scope) = scope else {
            let hashers = std::mem::take(&mut self.hashers);
            *self = Self { hashers, next: self.next, ..Self::default() };
            return;
        };
        let first = ((scope, u128::MIN), End::Completed, NameHash::MIN);
        let last = ((scope, u128::MAX), End::RanOut, NameHash::MAX);
        let all: Vec<_> = self.places.range(first..=last).map(|(at, _)| *at).collect();
        for at in all {
            self.forget(at);
        }
    }

    /// Forgets those whose time to be remembered is over, so many at most.
    pub fn advance(&mut self, now: Monotonic) {
        for _ in 0..MOST_AT_ONCE {
            let first = self.ends.first().copied().filter(|(end, _)| *end <= now);
            let Some((_, number)) = first else { break };
            self.remove(number);
        }
    }

    /// Whether there are more of these.
    pub fn is_behind(&self, now: Monotonic) -> bool {
        self.ends.first().is_some_and(|(end, _)| *end <= now)
    }

    /// Forgets the oldest that was completed, or, where there is none, that ran out;
    /// whether there was one.
    pub fn forget_oldest(&mut self) -> bool {
        let oldest = self.records.first_key_value().map(|(number, _)| *number);
        oldest.and_then(|number| self.remove(number)).is_some()
    }

    fn forget(&mut self, at: At) -> Option<PastLease<Q>> {
        let number = self.places.get(&at).copied()?;
        self.remove(number)
    }

    fn remove(&mut self, number: Number) -> Option<PastLease<Q>> {
        let Record { at, lease, until } = self.records.remove(&number)?;
        self.places.remove(&at);
        self.tokens.remove(&(self.token(at.0, lease.token), number));
        self.ends.remove(&(until, number));
        self.bytes -= Self::bytes_of(&lease);
        Some(lease)
    }

    #[cfg(test)]
    pub fn assert_sound(&self) {
        assert_eq!(self.records.len(), self.places.len());
        assert_eq!(self.records.len(), self.ends.len());
        assert_eq!(self.records.len(), self.tokens.len());
        let bytes: usize = self.records.values().map(|record| Self::bytes_of(&record.lease)).sum();
        assert_eq!(self.bytes, bytes);
    }
}
