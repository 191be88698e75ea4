//! What is counted of the cache: of all namespaces together for INFO, of each for
//! ML.STATS.

use super::counts::{Counter, Counts, TOTALS};
use super::state;
use crate::server::{Lock, Reply};
use crate::stats::{self, Selection};
use crate::time::Micros;
use std::collections::BTreeMap;

/// Counts so many more of something, of all namespaces.
pub fn count(counter: Counter, more: u64) {
    TOTALS.add(counter as usize, more);
}

/// The section of ML.STATS.
pub const STATS: stats::Section = stats::Section { keyword: "CACHE", report, reset };

/// The versions in force in the namespaces that begin with one first part, each
/// with its counts.
type Deciding<'s> = Vec<(&'s [u8], Vec<(&'s [u8], Counts)>)>;

fn report(lock: &Lock, selection: Selection, _now: Micros, reply: Reply) {
    state::with(lock, |state| {
        let mut all: BTreeMap<&[u8], (Counts, Deciding)> = BTreeMap::new();
        for (name, counts) in state.counts.iter_mut() {
            if selection.has(name) && *counts != Counts::default() {
                all.entry(name).or_default().0 = *counts;
            }
        }
        for one in state.in_force.all() {
            if selection.has(one.first_part()) {
                let deciding = (one.name(), one.counts().collect());
                all.entry(one.first_part()).or_default().1.push(deciding);
            }
        }
        reply.map(all.len());
        for (name, (counts, deciding)) in all {
            reply.bytes(name);
            reply.map(Counter::ALL.len() + 1);
            counts.reply(reply, Counter::ALL.map(Counter::name));
            reply.bytes(b"versions");
            reply.map(deciding.len());
            for (namespace, versions) in deciding {
                reply.bytes(namespace);
                reply.map(versions.len());
                for (version, counts) in versions {
                    reply.bytes(version);
                    reply.map(Counter::ALL.len());
                    counts.reply(reply, Counter::ALL.map(Counter::name));
                }
            }
        }
    });
}

fn reset(lock: &Lock, selection: Selection) {
    state::with(lock, |state| {
        state.counts.reset(|name| selection.has(name));
        state.in_force.reset_counts(|one| selection.has(one.first_part()));
    });
}
