//! Concurrency limits: how much may be in use at once, such as the slots of a
//! GPU or the requests in flight.
//!
//! The permits of one limit are one key. `permits` decides, and carries out the
//! `change` that was decided, on replicas too. All but `commands` and how permits
//! live in a server (`datatype`, `stats`) is pure: no server, no clock, no chance.
//! The commands that users call are those of [`crate::admission`].

mod change;
mod codec;
mod commands;
mod datatype;
mod permits;
mod stats;

pub(crate) use change::{Change, Step};
pub(crate) use commands::store;
pub use commands::{COMMANDS, TYPES};
pub(crate) use permits::{Decision, Permits, Request};
pub use stats::INFO;
pub(crate) use stats::{RELEASED, RENEWED};
