//! The commands of this room: one.

mod stats;

pub use stats::{Sections, command};
