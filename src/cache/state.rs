//! What a node keeps beside its keys: the namespaces, and who computes and waits.

use super::config::NAMESPACES;
use super::flights::{Flights, Verdict, Woken};
use super::namespaces::{Namespace, Namespaces, Statistic};
use super::reply::reply_verdict;
use super::stats::{LEASES, WAITERS, count};
use crate::metrics::Share;
use crate::server::{
    BlockedClient, Event, Global, Listener, Lock, OnUnblock, Reply, Timer, monotonic, new_id, wake,
};
use std::collections::HashMap;

/// The versions in force in a namespace.
struct Aside {
    namespace: Box<[u8]>,
    versions: Vec<Box<[u8]>>,
}

/// The state of the state.
pub struct State {
    /// The namespaces.
    pub namespaces: Namespaces,
    /// Who computes and who waits.
    pub flights: Flights,
    /// What those are told who were woken.
    verdicts: HashMap<BlockedClient, Woken>,
    /// The versions that were in force before a data set began to load.
    set_aside: Vec<Aside>,
    open_leases: Share,
    waiters: Share,
}

static STATE: Global<State> = Global::new();

static ALARM: Timer = Timer::new(|lock| {
    act(lock, |state| state.flights.advance(monotonic(), &mut new_id));
});

impl Default for State {
    fn default() -> Self {
        Self {
            namespaces: Namespaces::default(),
            flights: Flights::default(),
            verdicts: HashMap::new(),
            set_aside: Vec::new(),
            open_leases: Share::none_of(&LEASES),
            waiters: Share::none_of(&WAITERS),
        }
    }
}

/// Looks at the state, and counts.
pub fn with<R>(lock: &Lock, work: impl FnOnce(&mut State) -> R) -> R {
    STATE.with(lock, work)
}

/// Changes who computes and waits, and wakes those who need wait no more.
pub fn act<R>(lock: &Lock, work: impl FnOnce(&mut State) -> R) -> R {
    let (result, woken, next_end) = STATE.with(lock, |state| {
        let result = work(state);
        (result, state.settle(), state.flights.next_end())
    });
    // The server answers them here and now, which looks at the state again.
    woken.into_iter().for_each(|waiter| wake(lock, waiter));
    if let Some(end) = next_end {
        ALARM.set(lock, end);
    }
    result
}

impl State {
    /// The namespace of a key.
    pub fn namespace(&mut self, key: &[u8]) -> &mut Namespace {
        self.namespaces.of_key(key, usize::try_from(NAMESPACES.get()).unwrap_or(0))
    }

    /// Writes down what those are told who were woken, and counts.
    fn settle(&mut self) -> Vec<BlockedClient> {
        for place in self.flights.take_lapsed() {
            count(self.namespace(place.key()), Statistic::ExpiredLeases, 1);
        }
        let mut waiters = Vec::new();
        for woken in self.flights.take_woken() {
            let namespace = self.namespace(woken.place.key());
            match woken.verdict {
                Verdict::Hit { .. } => count(namespace, Statistic::Coalesced, 1),
                Verdict::Lease { .. } => count(namespace, Statistic::Leases, 1),
                Verdict::Busy { .. } | Verdict::Retired => {}
            }
            waiters.push(woken.waiter);
            self.verdicts.insert(woken.waiter, woken);
        }
        self.open_leases.set(self.flights.count());
        self.waiters.set(self.flights.waiters());
        waiters
    }
}

/// Callers that wait for an answer.
pub struct Callers;

impl OnUnblock for Callers {
    fn answer(lock: &Lock, waiter: BlockedClient, reply: Reply) {
        let verdict = act(lock, |state| {
            let left_us = state.flights.left_us(waiter, monotonic());
            state.flights.forget(waiter);
            let woken = state.verdicts.remove(&waiter);
            woken.map_or(Verdict::Busy { left_us }, |woken| woken.verdict)
        });
        reply_verdict(reply, &verdict);
    }

    fn gone(lock: &Lock, waiter: BlockedClient) {
        act(lock, |state| {
            state.flights.forget(waiter);
            // A lease that nobody has heard of goes to the next.
            if let Some(Woken { place, verdict: Verdict::Lease { token, .. }, .. }) =
                state.verdicts.remove(&waiter)
            {
                state.flights.release(&place, token, None, monotonic(), &mut new_id);
            }
        });
    }
}

/// Follows what happens to the server as a whole.
pub const LISTENER: Listener = |lock, event| match event {
    Event::Flushed(db) => {
        act(lock, |state| state.flights.void_db(db, monotonic(), &mut new_id));
    }
    Event::Swapped(one, other) => act(lock, |state| {
        for db in [one, other] {
            state.flights.void_db(Some(db), monotonic(), &mut new_id);
        }
    }),
    Event::RoleChanged => act(lock, |state| state.flights.clear()),
    // What is loaded says which versions are in force.
    Event::LoadingStarted => with(lock, |state| {
        let in_force = state.namespaces.in_force().map(|one| Aside {
            namespace: one.namespace.into(),
            versions: one.versions.iter().map(|version| (*version).into()).collect(),
        });
        state.set_aside = in_force.collect();
        state.namespaces.clear();
    }),
    Event::LoadingEnded => with(lock, |state| state.set_aside = Vec::new()),
    Event::LoadingFailed => with(lock, |state| {
        state.namespaces.clear();
        for Aside { namespace, versions } in std::mem::take(&mut state.set_aside) {
            let versions: Vec<_> = versions.iter().map(AsRef::as_ref).collect();
            // All of them were known before.
            let _ = state.namespaces.set(&namespace, &versions, usize::MAX);
        }
    }),
};
