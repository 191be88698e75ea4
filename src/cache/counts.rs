//! What is counted of the cache: of all keys, of each namespace, and of each
//! version in force.

use crate::stats;

/// One of the things counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Fresh answers served.
    Hits,
    /// Reads that found no fresh answer.
    Misses,
    /// Stale answers served in place of fresh ones.
    Stale,
    /// Leases granted.
    Leases,
    /// Callers that waited for another's answer.
    Waits,
    /// Answers got by waiting.
    Coalesced,
    /// Leases that ran out unfilled.
    ExpiredLeases,
    /// Sets taken of a holder whose lease had run out.
    LateSets,
    /// Sets refused: of a lease that had passed, of a version not in force.
    RefusedSets,
    /// What computing the answers of all hits had taken, in milliseconds.
    SavedMs,
    /// Answers written.
    EntriesWritten,
    /// Bytes of the answers written.
    BytesWritten,
}

impl Counter {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Hits,
        Self::Misses,
        Self::Stale,
        Self::Leases,
        Self::Waits,
        Self::Coalesced,
        Self::ExpiredLeases,
        Self::LateSets,
        Self::RefusedSets,
        Self::SavedMs,
        Self::EntriesWritten,
        Self::BytesWritten,
    ];

    /// Its name in ML.STATS.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hits => "hits",
            Self::Misses => "misses",
            Self::Stale => "stale",
            Self::Leases => "leases",
            Self::Waits => "waits",
            Self::Coalesced => "coalesced",
            Self::ExpiredLeases => "expired_leases",
            Self::LateSets => "late_sets",
            Self::RefusedSets => "refused_sets",
            Self::SavedMs => "saved_ms",
            Self::EntriesWritten => "entries_written",
            Self::BytesWritten => "bytes_written",
        }
    }
}

/// How much was counted of each.
pub type Counts = stats::Counts<{ Counter::ALL.len() }>;
