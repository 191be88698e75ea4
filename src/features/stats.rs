//! What is counted.

use crate::metrics::{Counter, Gauge};
use crate::server::Section;

/// Fields that were asked for and there.
pub static FOUND: Counter = Counter::new();

/// Fields that were asked for and not there.
pub static MISSING: Counter = Counter::new();

/// Fields that were asked for and older than the call took them.
pub static TOO_OLD: Counter = Counter::new();

/// Rows written.
pub static WRITTEN: Counter = Counter::new();

/// Writes left out since the row held newer values.
pub static LATE: Counter = Counter::new();

/// Layouts in use.
pub static LAYOUTS: Gauge = Gauge::new();

/// Bytes that they take.
pub static LAYOUT_BYTES: Gauge = Gauge::new();

/// The section of INFO.
pub static INFO: Section = Section {
    name: c"features",
    fields: &[
        (c"features_found", &FOUND),
        (c"features_missing", &MISSING),
        (c"features_too_old", &TOO_OLD),
        (c"features_written", &WRITTEN),
        (c"features_late", &LATE),
        (c"features_layouts", &LAYOUTS),
        (c"features_layout_bytes", &LAYOUT_BYTES),
    ],
};
