//! The key of a flight: what is computed once.

use std::sync::Arc;

/// The key of a flight: a name at a key of a scope. In the cache, the version
/// of an answer at a key of a database. Ordered so that all flights at a key,
/// and all of a scope, stand side by side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlightKey {
    scope: i32,
    key: Arc<[u8]>,
    name: Arc<[u8]>,
}

impl FlightKey {
    /// The key of the flight to a name at a key of a scope.
    pub fn new(scope: i32, key: &[u8], name: &[u8]) -> Self {
        Self { scope, key: key.into(), name: name.into() }
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

    /// Whether it is at this key of this scope.
    pub fn is_at(&self, scope: i32, key: &[u8]) -> bool {
        self.scope == scope && *self.key == *key
    }

    /// How many bytes it copies.
    pub fn bytes(&self) -> usize {
        self.key.len() + self.name.len()
    }
}
