//! Concurrency limits: how much may be in use at once, such as the slots of a
//! GPU or the requests in flight.
//!
//! The permits of one limit are one key. `commands` reads a call and answers it,
//! `permits` decides, and carries out the `change` that was decided, on replicas
//! too. All but `commands` and how permits live in a server (`datatype`, `stats`)
//! is pure: no server, no clock, no chance.

mod change;
mod codec;
mod commands;
mod datatype;
mod permits;
mod stats;

pub use commands::{COMMANDS, TYPES};
pub use stats::INFO;
