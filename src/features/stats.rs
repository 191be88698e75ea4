//! What is counted.

use crate::metrics::Counter;
use crate::server::Section;

/// Fields that were asked for and there.
pub static FOUND: Counter = Counter::new();

/// Fields that were asked for and not there.
pub static MISSING: Counter = Counter::new();

/// The section of INFO.
pub const INFO: Section = Section {
    name: c"features",
    fields: &[(c"features_found", &FOUND), (c"features_missing", &MISSING)],
};
