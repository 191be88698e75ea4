//! Concurrency limits: how much may be in use at once, such as the slots of a
//! GPU or the requests in flight.
//!
//! The permits of one limit are one key. `commands` reads a call and answers
//! it, `permits` decides; all but `commands` and `datatype` is pure: no server,
//! no clock, no chance.

mod codec;
mod commands;
mod datatype;
mod permits;

pub use commands::{COMMANDS, INFO, TYPES};
