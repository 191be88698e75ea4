//! The key of a flight: what is computed once.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What the owner of flights knows of one beside what it is told by.
pub trait About {
    /// How many bytes are kept of it.
    fn bytes(&self) -> usize;
}

impl About for () {
    fn bytes(&self) -> usize {
        0
    }
}

/// The key of a flight: a name at a key of a scope. In the cache, the version
/// of an answer at a key of a database. Ordered so that all flights at a key,
/// and all of a scope, stand side by side. What the owner knows of the flight (`Q`)
/// goes with it, and is no part of what it is told by.
#[derive(Debug)]
pub struct FlightKey<Q = ()> {
    scope: i32,
    key: Arc<[u8]>,
    name: Arc<[u8]>,
    about: Option<Arc<Q>>,
}

impl<Q> FlightKey<Q> {
    /// The key of the flight to a name at a key of a scope.
    pub fn new(scope: i32, key: &[u8], name: &[u8]) -> Self {
        Self { scope, key: key.into(), name: name.into(), about: None }
    }

    /// The same, with what is known of the flight.
    pub fn with(self, about: Option<Arc<Q>>) -> Self {
        Self { about, ..self }
    }

    /// The scope.
    pub fn scope(&self) -> i32 {
        self.scope
    }

    /// The key in it.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The name at that.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// What is known of the flight.
    pub fn about(&self) -> Option<&Arc<Q>> {
        self.about.as_ref()
    }

    /// Whether it is at this key of this scope.
    pub fn is_at(&self, scope: i32, key: &[u8]) -> bool {
        self.scope == scope && *self.key == *key
    }

    fn told_by(&self) -> (i32, &[u8], &[u8]) {
        (self.scope, &self.key, &self.name)
    }
}

impl<Q: About> FlightKey<Q> {
    /// How many bytes it copies.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.name.len() + self.about.as_ref().map_or(0, |about| about.bytes())
    }
}

impl<Q> Clone for FlightKey<Q> {
    fn clone(&self) -> Self {
        let (key, name) = (Arc::clone(&self.key), Arc::clone(&self.name));
        Self { scope: self.scope, key, name, about: self.about.clone() }
    }
}

impl<Q> PartialEq for FlightKey<Q> {
    fn eq(&self, other: &Self) -> bool {
        self.told_by() == other.told_by()
    }
}

impl<Q> Eq for FlightKey<Q> {}

impl<Q> Ord for FlightKey<Q> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.told_by().cmp(&other.told_by())
    }
}

impl<Q> PartialOrd for FlightKey<Q> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<Q> Hash for FlightKey<Q> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.told_by().hash(state);
    }
}
