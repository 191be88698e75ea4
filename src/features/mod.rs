//! Features: what a model is given about entities.
//!
//! An entity is one key, here a plain Redis hash, written by HSET or by
//! whatever writes features today. `request` checks a call, `row` reads entities
//! field by field, `tensor` and `json` put what was read into one buffer;
//! `number`, `tensor` and `json` are pure.

mod commands;
mod config;
mod get;
mod json;
mod number;
mod request;
mod row;
mod stats;
mod tensor;

pub use commands::COMMANDS;
pub use config::CONFIGS;
pub use stats::INFO;
