//! What is counted of the semantic cache: of all namespaces together for INFO, of each for
//! ML.STATS.

use crate::metrics::{self, Gauge};
use crate::server::{Global, Lock, Reply, Section};
use crate::stats::{self, Namespaces, Selection, Totals, counters, max_namespaces};
use crate::time::Micros;

counters! {
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
}

static TOTALS: Totals<{ Counter::ALL.len() }> = Totals::new();

static COUNTS: Global<Namespaces<Counts>> = Global::new();

/// Leases open, and backoffs not over yet.
pub static LEASES: Gauge = Gauge::new();

/// Leases that ran out or were completed, and are not forgotten.
pub static PAST_LEASES: Gauge = Gauge::new();

/// What all of these take of memory, with those who wait.
pub static LEASE_BYTES: Gauge = Gauge::new();

/// Callers that wait.
pub static WAITERS: Gauge = Gauge::new();

/// Callers that wait for a scan by threads.
pub static SCANNING: Gauge = Gauge::new();

/// Scans that threads have done.
pub static SCANS: metrics::Counter = metrics::Counter::new();

/// Scans given up, because what they were of was taken away, or whoever asked has gone.
pub static SCANS_GIVEN_UP: metrics::Counter = metrics::Counter::new();

/// The section of INFO.
#[allow(clippy::indexing_slicing)] // Checked when it is compiled.
pub static INFO: Section = Section {
    name: c"semantic",
    fields: &[
        (c"semantic_hits", &TOTALS.0[Counter::Hits as usize]),
        (c"semantic_maybes", &TOTALS.0[Counter::Maybes as usize]),
        (c"semantic_misses", &TOTALS.0[Counter::Misses as usize]),
        (c"semantic_stale", &TOTALS.0[Counter::Stale as usize]),
        (c"semantic_leases", &TOTALS.0[Counter::Leases as usize]),
        (c"semantic_waits", &TOTALS.0[Counter::Waits as usize]),
        (c"semantic_coalesced", &TOTALS.0[Counter::Coalesced as usize]),
        (c"semantic_expired_leases", &TOTALS.0[Counter::ExpiredLeases as usize]),
        (c"semantic_late_sets", &TOTALS.0[Counter::LateSets as usize]),
        (c"semantic_refused_sets", &TOTALS.0[Counter::RefusedSets as usize]),
        (c"semantic_saved_ms", &TOTALS.0[Counter::SavedMs as usize]),
        (c"semantic_entries_written", &TOTALS.0[Counter::EntriesWritten as usize]),
        (c"semantic_aliases", &TOTALS.0[Counter::Aliases as usize]),
        (c"semantic_entries_evicted", &TOTALS.0[Counter::EntriesEvicted as usize]),
        (c"semantic_open_leases", &LEASES),
        (c"semantic_past_leases", &PAST_LEASES),
        (c"semantic_lease_bytes", &LEASE_BYTES),
        (c"semantic_waiters", &WAITERS),
        (c"semantic_scanning", &SCANNING),
        (c"semantic_scans", &SCANS),
        (c"semantic_scans_given_up", &SCANS_GIVEN_UP),
    ],
};

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
