//! What is counted of all namespaces together, for INFO.

use super::namespaces::{Figure, Namespace};
use crate::metrics::{Counter, Gauge};
use crate::server::Section;

static TOTALS: [Counter; Figure::ALL.len()] = [const { Counter::new() }; Figure::ALL.len()];

/// Leases open, and backoffs not over yet.
pub static LEASES: Gauge = Gauge::new();

/// Callers that wait.
pub static WAITERS: Gauge = Gauge::new();

/// The section of INFO.
#[allow(clippy::indexing_slicing)] // Checked when it is compiled.
pub const INFO: Section = Section {
    name: c"cache",
    fields: &[
        (c"cache_hits", &TOTALS[Figure::Hits as usize]),
        (c"cache_misses", &TOTALS[Figure::Misses as usize]),
        (c"cache_stale", &TOTALS[Figure::Stale as usize]),
        (c"cache_leases", &TOTALS[Figure::Leases as usize]),
        (c"cache_waits", &TOTALS[Figure::OnUnblock as usize]),
        (c"cache_coalesced", &TOTALS[Figure::Coalesced as usize]),
        (c"cache_expired_leases", &TOTALS[Figure::ExpiredLeases as usize]),
        (c"cache_refused_sets", &TOTALS[Figure::RefusedSets as usize]),
        (c"cache_saved_ms", &TOTALS[Figure::SavedMs as usize]),
        (c"cache_entries_written", &TOTALS[Figure::EntriesWritten as usize]),
        (c"cache_bytes_written", &TOTALS[Figure::BytesWritten as usize]),
        (c"cache_open_leases", &LEASES),
        (c"cache_waiters", &WAITERS),
    ],
};

/// Counts so many more of something in a namespace, and of all.
pub fn count(namespace: &mut Namespace, figure: Figure, more: u64) {
    namespace.count(figure, more);
    if let Some(total) = TOTALS.get(figure as usize) {
        total.add(more);
    }
}
