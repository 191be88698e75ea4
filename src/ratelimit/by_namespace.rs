//! What is counted of each namespace, for ML.STATS: calls allowed and denied, and
//! the keys denied most of late.

use crate::server::{Global, Lock, Reply};
use crate::stats::{Namespaces, Section, Selection, SpaceSaving, max_namespaces, reply_count};
use crate::time::Micros;

/// Counts of one namespace.
#[derive(Debug, Default)]
struct Counts {
    allowed: u64,
    denied: u64,
    /// The keys whose own limits denied most of late; nothing before the first time.
    most_denied: Option<Box<SpaceSaving>>,
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

/// The section of ML.STATS.
pub const STATS: Section = Section { keyword: "LIMITS", report, reset };

fn report(lock: &Lock, selection: Selection, now: Micros, reply: Reply) {
    COUNTS.with(lock, |namespaces| {
        let asked_for = namespaces.iter_mut().filter(|(name, counts)| {
            selection.has(name) && (counts.allowed > 0 || counts.denied > 0)
        });
        let asked_for: Vec<_> = asked_for.collect();
        reply.map(asked_for.len());
        for (name, counts) in asked_for {
            reply.bytes(name);
            reply.map(3);
            reply_count(reply, "allowed", counts.allowed);
            reply_count(reply, "denied", counts.denied);
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
