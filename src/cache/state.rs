//! What a node keeps beside its keys: the versions in force, and what is counted.

use super::config::VERSIONS;
use super::counts::{Counter, Counts};
use super::in_force::InForce;
use super::stats;
use crate::server::{Event, Global, Listener, Lock};
use crate::stats::{Namespaces, max_namespaces};

/// What a node keeps beside its keys.
#[derive(Default)]
pub struct State {
    /// Which versions may be read and filled.
    pub in_force: InForce,
    /// What was counted of each namespace.
    pub counts: Namespaces<Counts>,
    /// The versions that were in force before a data set began to load.
    set_aside: InForce,
}

static STATE: Global<State> = Global::new();

/// Looks at the state, and counts.
pub fn with<R>(lock: &Lock, work: impl FnOnce(&mut State) -> R) -> R {
    STATE.with(lock, work)
}

/// Whether a version may be read and filled.
pub fn admits(lock: &Lock, key: &[u8], version: &[u8]) -> bool {
    with(lock, |state| state.in_force.admits(key, version))
}

/// Counts so many more of something that becomes of a version at a key.
pub fn tally(lock: &Lock, key: &[u8], version: &[u8], counter: Counter, more: u64) {
    with(lock, |state| state.tally(key, version).count(counter, more));
}

/// Where it is counted what becomes of a version at a key.
pub struct Tally<'s> {
    namespace: &'s mut Counts,
    /// Where versions are in force: its own, if it is.
    version: Option<&'s mut Counts>,
    /// Whether the version may be read and filled.
    pub is_in_force: bool,
}

impl Tally<'_> {
    /// Counts so many more of something.
    pub fn count(&mut self, counter: Counter, more: u64) {
        stats::count(counter, more);
        self.namespace.add(counter as usize, more);
        if let Some(version) = &mut self.version {
            version.add(counter as usize, more);
        }
    }
}

impl State {
    /// Whether a version may be read and filled under a key, and where it is
    /// counted what becomes of that.
    pub fn tally(&mut self, key: &[u8], version: &[u8]) -> Tally<'_> {
        let namespace = self.counts.of_key(key, max_namespaces);
        let deciding = self.in_force.of_key_mut(key);
        let all_are = deciding.is_none();
        let version = deciding.and_then(|one| one.counts_of(version));
        Tally { namespace, is_in_force: all_are || version.is_some(), version }
    }

    /// How many versions a key holds: as many as are configured, and at least as
    /// many as are in force.
    pub fn versions_to_keep(&self, key: &[u8]) -> usize {
        let in_force = self.in_force.of_key(key).map_or(0, |one| one.versions().iter().count());
        VERSIONS.get_count().max(in_force)
    }
}

/// Follows what happens to the server as a whole.
pub const LISTENER: Listener = |lock, event| match event {
    // What is loaded says which versions are in force.
    Event::LoadingStarted => with(lock, |state| {
        state.set_aside = std::mem::take(&mut state.in_force);
    }),
    Event::LoadingEnded => with(lock, |state| state.set_aside = InForce::default()),
    Event::LoadingFailed => with(lock, |state| {
        state.in_force = std::mem::take(&mut state.set_aside);
    }),
    Event::Flushed(_)
    | Event::Swapped(..)
    | Event::RoleChanged
    | Event::Tick
    | Event::VersionsChanged => {}
};
