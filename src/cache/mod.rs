//! The prediction cache: answers of models, by key and model version.
//!
//! An entry is one key and holds the answers of a few versions, so that two
//! models can run side by side. `commands` reads a call and answers it,
//! `entry` decides; all but `commands` and `datatype` is pure.

mod codec;
mod commands;
mod datatype;
mod entry;

pub use commands::{COMMANDS, CONFIGS, INFO, TYPES};
