//! What is counted of all namespaces together, for INFO.

use super::namespaces::{Namespace, Statistic};
use crate::metrics::{Counter, Gauge};
use crate::server::Section;

static TOTALS: [Counter; Statistic::ALL.len()] = [const { Counter::new() }; Statistic::ALL.len()];

/// Leases open, and backoffs not over yet.
pub static LEASES: Gauge = Gauge::new();

/// Callers that wait.
pub static WAITERS: Gauge = Gauge::new();

/// The section of INFO.
#[allow(clippy::indexing_slicing)] // Checked when it is compiled.
pub const INFO: Section = Section {
    name: c"cache",
    fields: &[
        (c"cache_hits", &TOTALS[Statistic::Hits as usize]),
        (c"cache_misses", &TOTALS[Statistic::Misses as usize]),
        (c"cache_stale", &TOTALS[Statistic::Stale as usize]),
        (c"cache_leases", &TOTALS[Statistic::Leases as usize]),
        (c"cache_waits", &TOTALS[Statistic::OnUnblock as usize]),
        (c"cache_coalesced", &TOTALS[Statistic::Coalesced as usize]),
        (c"cache_expired_leases", &TOTALS[Statistic::ExpiredLeases as usize]),
        (c"cache_refused_sets", &TOTALS[Statistic::RefusedSets as usize]),
        (c"cache_saved_ms", &TOTALS[Statistic::SavedMs as usize]),
        (c"cache_entries_written", &TOTALS[Statistic::EntriesWritten as usize]),
        (c"cache_bytes_written", &TOTALS[Statistic::BytesWritten as usize]),
        (c"cache_open_leases", &LEASES),
        (c"cache_waiters", &WAITERS),
    ],
};

/// Counts so many more of something in a namespace, and of all.
pub fn count(namespace: &mut Namespace, statistic: Statistic, more: u64) {
    namespace.count(statistic, more);
    if let Some(total) = TOTALS.get(statistic as usize) {
        total.add(more);
    }
}
