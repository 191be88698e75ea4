//! What is counted of the semantic cache: of all namespaces together for INFO, of each for
//! ML.STATS.

use crate::flights::Gauges;
use crate::metrics::{self, Gauge};
use crate::server::{Global, Lock, Reply};
use crate::stats::{self, Namespaces, Selection, counters, max_namespaces};
use crate::time::Micros;

/// The flights to answers.
pub static FLIGHTS: Gauges = Gauges::new();

/// Callers that wait for a scan by threads.
pub static SCANNING: Gauge = Gauge::new();

/// Scans that threads have done.
pub static SCANS: metrics::Counter = metrics::Counter::new();

/// Scans given up, because what they were of was taken away, too much of it changed, or
/// whoever asked has gone.
pub static SCANS_GIVEN_UP: metrics::Counter = metrics::Counter::new();

counters! {
    "semantic":
    /// Questions answered.
    Hits = "hits",
    /// Questions with candidates only.
    Maybes = "maybes",
    /// Questions without either.
    Misses = "misses",
    /// Stale answers served in place of fresh ones.
    Stale = "stale",
    /// Leases granted.
    Leases = "leases",
    /// Callers that waited for another's answer.
    Waits = "waits",
    /// Answers got by waiting.
    Coalesced = "coalesced",
    /// Leases that ran out unfilled.
    ExpiredLeases = "expired_leases",
    /// Sets taken of a holder whose lease had run out.
    LateSets = "late_sets",
    /// Sets refused: of a lease that had passed, of a version not in force.
    RefusedSets = "refused_sets",
    /// What computing the answers of all hits had taken, in milliseconds.
    SavedMs = "saved_ms",
    /// Entries written.
    EntriesWritten = "entries_written",
    /// Further vectors that lead to an entry.
    Aliases = "aliases",
    /// Entries that went for others, or whose time was over.
    EntriesEvicted = "entries_evicted",
    with
    "open_leases" = &FLIGHTS.open,
    "past_leases" = &FLIGHTS.past,
    "lease_bytes" = &FLIGHTS.bytes,
    "waiters" = &FLIGHTS.waiters,
    "scanning" = &SCANNING,
    "scans" = &SCANS,
    "scans_given_up" = &SCANS_GIVEN_UP,
}

static COUNTS: Global<Namespaces<Counts>> = Global::new();

/// Counts so many more of something at a key.
pub fn count(lock: &Lock, key: &[u8], counter: Counter, more: u64) {
    TOTALS.add(counter as usize, more);
    COUNTS.with(lock, |namespaces| {
        namespaces.of_key(key, max_namespaces).add(counter as usize, more);
    });
}

/// The section of ML.STATS.
pub const STATS: stats::Section = stats::Section { keyword: "SEMANTIC", report, reset };

fn report(lock: &Lock, selection: Selection, _now: Micros, reply: Reply) {
    COUNTS.with(lock, |namespaces| {
        let asked_for = namespaces
            .iter_mut()
            .filter(|(name, counts)| selection.has(name) && **counts != Counts::default());
        let asked_for: Vec<_> = asked_for.collect();
        reply.map(asked_for.len());
        for (name, counts) in asked_for {
            reply.bytes(name);
            reply.map(Counter::ALL.len());
            counts.reply(reply, Counter::ALL.map(Counter::name));
        }
    });
}

fn reset(lock: &Lock, selection: Selection) {
    COUNTS.with(lock, |namespaces| namespaces.reset(|name| selection.has(name)));
}
