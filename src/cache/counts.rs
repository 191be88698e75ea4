//! What is counted of the cache: of all keys, of each namespace, and of each
//! version in force.

use crate::flights::Gauges;
use crate::stats::counters;

/// The flights to answers.
pub static FLIGHTS: Gauges = Gauges::new();

counters! {
    "cache":
    /// Fresh answers served.
    Hits = "hits",
    /// Reads that found no fresh answer.
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
    /// Answers written.
    EntriesWritten = "entries_written",
    /// Bytes of the answers written.
    BytesWritten = "bytes_written",
    with
    "open_leases" = &FLIGHTS.open,
    "past_leases" = &FLIGHTS.past,
    "lease_bytes" = &FLIGHTS.bytes,
    "waiters" = &FLIGHTS.waiters,
}
