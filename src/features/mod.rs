//! Features: what a model is given about entities.
//!
//! An entity is one key: a plain Redis hash, or a compact row. `commands` has a
//! file for each command. A row is `row`, its bytes; `layout`, the names of its
//! fields; `shared_layout`, how rows share them; `value` and `number`, what stands
//! in it. `change` decides and makes changes of rows, `codec` is what leaves the
//! server. `feast` reads what Feast's own store wrote. `field_lists` is what names of
//! fields go by in calls. What is read of many entities is resolved by `resolved`, kept
//! in a `buffer`, and put together as a `tensor` or as `json`. All but `commands` and
//! `datatype` are pure.

mod buffer;
mod by_namespace;
mod change;
mod codec;
mod commands;
mod config;
mod datatype;
mod dtype;
mod event;
mod events;
mod feast;
mod field_lists;
mod form;
mod found;
mod json;
mod layout;
mod listing;
mod nested;
mod number;
mod numbering;
mod resolved;
mod row;
mod sequence;
mod shared_layout;
mod stats;
mod tensor;
mod value;
mod windows;

pub use by_namespace::STATS;
pub use commands::{ARGUMENTS, COMMANDS, Listed, Request, TYPES};
pub use config::CONFIGS;
pub use field_lists::LISTENER;
pub use stats::INFO;
