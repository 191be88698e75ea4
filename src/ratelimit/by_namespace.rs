//! What is counted of each namespace, for ML.STATS: calls allowed and denied, the keys
//! denied most of late, and the waits of those who are let in later.

use crate::server::{Global, Lock, Reply};
use crate::stats::{Namespaces, Section, Selection, SpaceSaving, max_namespaces, reply_count};
use crate::time::{Micros, Millis};

/// Counts of one namespace.
#[derive(Debug, Default)]
struct Counts {
    allowed: u64,
    denied: u64,
    waiting: u64,
    waited_ms: Millis,
    /// The keys whose own limits denied most of late; nothing before the first time.
    most_denied: Option<Box<SpaceSaving>>,
}

impl Counts {
    fn are_of_something(&self) -> bool {
        [self.allowed, self.denied, self.waiting, self.waited_ms].iter().any(|count| *count > 0)
    }
}

static COUNTS: Global<Namespaces<Counts>> = Global::new();

/// Counts a call that a key allowed.
pub fn count_allowed(lock: &Lock, key: &[u8]) {
    COUNTS.with(lock, |namespaces| {
        let counts = namespaces.of_key(key, max_namespaces);
        counts.allowed = counts.allowed.wrapping_add(1);
    });
}

/// Counts a call that was denied. A key that did not deny it itself, but another key of
/// the call, is not to be found among those that deny most.
pub fn count_denied(lock: &Lock, key: &[u8], by_itself: bool, now: Micros) {
    COUNTS.with(lock, |namespaces| {
        let counts = namespaces.of_key(key, max_namespaces);
        counts.denied = counts.denied.wrapping_add(1);
        if by_itself {
            counts.most_denied.get_or_insert_default().add(key, now);
        }
    });
}

/// Counts a call that has to wait, at the key that holds it up: a limit's, or permits'.
pub fn count_wait(lock: &Lock, key: &[u8]) {
    COUNTS.with(lock, |namespaces| {
        let counts = namespaces.of_key(key, max_namespaces);
        counts.waiting = counts.waiting.wrapping_add(1);
    });
}

/// Counts how long it has waited, when it waits no more.
pub fn count_waited(lock: &Lock, key: &[u8], waited_ms: Millis) {
    COUNTS.with(lock, |namespaces| {
        let counts = namespaces.of_key(key, max_namespaces);
        counts.waited_ms = counts.waited_ms.wrapping_add(waited_ms);
    });
}

/// The section of ML.STATS.
pub const STATS: Section = Section { keyword: "LIMITS", report, reset };

fn report(lock: &Lock, selection: Selection, now: Micros, reply: Reply) {
    COUNTS.with(lock, |namespaces| {
        let asked_for = namespaces
            .iter_mut()
            .filter(|(name, counts)| selection.has(name) && counts.are_of_something());
        let asked_for: Vec<_> = asked_for.collect();
        reply.map(asked_for.len());
        for (name, counts) in asked_for {
            reply.bytes(name);
            reply.map(5);
            reply_count(reply, "allowed", counts.allowed);
            reply_count(reply, "denied", counts.denied);
            reply_count(reply, "waiting", counts.waiting);
            reply_count(reply, "waited_ms", counts.waited_ms);
            reply.bytes(b"most_denied");
            let most = counts.most_denied.as_mut().map(|sketch| sketch.top(now));
            let most = most.unwrap_or_default();
            reply.array(most.len());
            for (key, denied) in most {
                reply.array(2);
                reply.bytes(key);
                reply.integer(i64::try_from(denied).unwrap_or(i64::MAX));
            }
        }
    });
}

fn reset(lock: &Lock, selection: Selection) {
    COUNTS.with(lock, |namespaces| namespaces.reset(|name| selection.has(name)));
}
