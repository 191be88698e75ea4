//! Features: what a model is given about entities.
//!
//! An entity is one key: a plain Redis hash, or a compact row. `parse` checks a
//! call. `get` reads entities through a `plan`; `tensor` and `json` put what was
//! read into one buffer. `write` changes rows: `row` knows their bytes, `layout`
//! the names of their fields, `interned` how rows share them, `merge` what a
//! write makes of a row, `codec` what leaves the server. All but `get`, `write`,
//! `plan`, `hash` and `datatype` are pure.

mod cells;
mod codec;
mod commands;
mod config;
mod datatype;
mod get;
mod hash;
mod interned;
mod json;
mod layout;
mod merge;
mod number;
mod parse;
mod plan;
mod row;
mod stats;
mod tensor;
mod value;
mod write;

pub use commands::{COMMANDS, TYPES};
pub use config::CONFIGS;
pub use stats::INFO;
