//! Features: what a model is given about an entity.
//!
//! An entity is one key, here a plain Redis hash, written by HSET or by
//! whatever writes features today.

mod commands;

pub use commands::{COMMANDS, INFO};
