//! What is counted of the cache: of all namespaces together for INFO, of each for
//! ML.STATS.

use super::counts::{Counter, Counts};
use super::state;
use crate::metrics::Gauge;
use crate::server::{Lock, Reply, Section};
use crate::stats::{self, Selection, Totals};
use crate::time::Micros;
use std::collections::BTreeMap;

static TOTALS: Totals<{ Counter::ALL.len() }> = Totals::new();

/// Leases open, and backoffs not over yet.
pub static LEASES: Gauge = Gauge::new();

/// Leases that ran out or were completed, and are not forgotten.
pub static PAST_LEASES: Gauge = Gauge::new();

/// What all of these take of memory, with those who wait.
pub static LEASE_BYTES: Gauge = Gauge::new();

/// Callers that wait.
pub static WAITERS: Gauge = Gauge::new();

/// The section of INFO.
#[allow(clippy::indexing_slicing)] // Checked when it is compiled.
pub static INFO: Section = Section {
    name: c"cache",
    fields: &[
        (c"cache_hits", &TOTALS.0[Counter::Hits as usize]),
        (c"cache_misses", &TOTALS.0[Counter::Misses as usize]),
        (c"cache_stale", &TOTALS.0[Counter::Stale as usize]),
        (c"cache_leases", &TOTALS.0[Counter::Leases as usize]),
        (c"cache_waits", &TOTALS.0[Counter::Waits as usize]),
        (c"cache_coalesced", &TOTALS.0[Counter::Coalesced as usize]),
        (c"cache_expired_leases", &TOTALS.0[Counter::ExpiredLeases as usize]),
        (c"cache_late_sets", &TOTALS.0[Counter::LateSets as usize]),
        (c"cache_refused_sets", &TOTALS.0[Counter::RefusedSets as usize]),
        (c"cache_saved_ms", &TOTALS.0[Counter::SavedMs as usize]),
        (c"cache_entries_written", &TOTALS.0[Counter::EntriesWritten as usize]),
        (c"cache_bytes_written", &TOTALS.0[Counter::BytesWritten as usize]),
        (c"cache_open_leases", &LEASES),
        (c"cache_past_leases", &PAST_LEASES),
        (c"cache_lease_bytes", &LEASE_BYTES),
        (c"cache_waiters", &WAITERS),
    ],
};

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
