//! The prediction cache: answers of models, by key and model version.
//!
//! A key holds the answers of a few versions, so that two models can run side
//! by side. `lifetime`, `answer`, `early`, `codec`, `namespaces` and `flights`
//! are pure: no server, no clock, no chance. `state` keeps what lives beside the
//! keys: which versions are in force, who computes a missing answer, and who
//! waits for it. `commands` has a file for each command.

mod answer;
mod codec;
mod commands;
mod config;
mod datatype;
mod early;
mod flights;
mod lifetime;
mod namespaces;
mod reply;
mod state;
mod stats;
mod versions;

use crate::server::TypeSpec;

pub use commands::COMMANDS;
pub use config::CONFIGS;
pub use state::LISTENER;
pub use stats::INFO;

/// The data types of this domain.
pub const TYPES: &[TypeSpec] = &[TypeSpec::with_table::<answer::Answer>(&versions::TABLE)];
