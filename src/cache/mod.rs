//! The prediction cache: answers of models, by key and model version.
//!
//! An entry is one key and holds the answers of a few versions, so that two
//! models can run side by side. `term`, `entry`, `early`, `codec`, `namespaces`
//! and `flights` are pure: no server, no clock, no chance. `node` keeps what
//! lives beside the keys: which versions are in force, who computes a missing
//! answer, and who waits for it. `read`, `write`, `fetch` and `versions` run
//! what `commands` lists.

mod codec;
mod commands;
mod config;
mod datatype;
mod early;
mod entry;
mod fetch;
mod flights;
mod namespaces;
mod node;
mod parse;
mod read;
mod reply;
mod stats;
mod term;
mod versions;
mod write;

pub use commands::{COMMANDS, TYPES};
pub use config::CONFIGS;
pub use node::LISTENER;
pub use stats::INFO;
