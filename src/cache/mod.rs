//! The prediction cache: answers of models, by key and model version.
//!
//! A key holds the answers of a few versions, so that two models can run side
//! by side. `answer`, `change`, `early`, `codec`, `in_force` and `counts`
//! are pure: no server, no clock, no chance. What lives beside the keys is kept by
//! `state`, which versions are in force and what is counted, and by `leases`, who
//! computes a missing answer and who waits for it. `commands` has a file for each
//! command.

mod answer;
mod change;
mod codec;
mod commands;
mod config;
mod counts;
mod datatype;
mod early;
mod in_force;
mod leases;
mod reply;
mod state;
mod stats;
mod versions;

use crate::server::TypeSpec;

pub use commands::{COMMANDS, CachePart, Left, PART};
pub use config::CONFIGS;
pub use counts::INFO;
pub use leases::{LISTENER as LEASES, settle};
pub use reply::{Fetched, reply_fetched};
pub use state::{LISTENER, admits};
pub use stats::STATS;

/// The data types of this domain.
pub const TYPES: &[TypeSpec] = &[TypeSpec::of::<answer::Answer>()];
