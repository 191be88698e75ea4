//! What is counted.

use crate::metrics::{Counter, Gauge};
use crate::server::Section;

/// Permits of all keys.
pub static HELD: Gauge = Gauge::new();

/// Permits granted.
pub static GRANTED: Counter = Counter::new();

/// Calls that were denied one.
pub static DENIED: Counter = Counter::new();

/// Permits whose time started anew.
pub static RENEWED: Counter = Counter::new();

/// Permits given back.
pub static RELEASED: Counter = Counter::new();

/// The section of INFO.
pub static INFO: Section = Section {
    name: c"permit",
    fields: &[
        (c"permit_granted", &GRANTED),
        (c"permit_denied", &DENIED),
        (c"permit_renewed", &RENEWED),
        (c"permit_released", &RELEASED),
        (c"permit_held", &HELD),
    ],
};
