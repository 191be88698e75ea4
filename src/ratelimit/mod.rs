//! Rate limits: who may go, and who waits how long.
//!
//! A limiter is one key. `commands` reads a call and answers it, `limiter`
//! decides, and each algorithm has a file of its name. All but `commands` and
//! `datatype` is pure: no server, no clock.

mod codec;
mod commands;
mod datatype;
mod fixed;
mod limiter;
mod policy;

pub use commands::{COMMANDS, INFO, TYPES};
pub use fixed::Fixed;
pub use limiter::{Limiter, Outcome};
pub use policy::{Cost, Policy, Reading};
