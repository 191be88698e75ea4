//! Rate limits: who may go, and who waits how long.
//!
//! A limiter is one key. `commands` reads a call, `limiter` decides over its
//! windows (`window`) and reservations, and carries out the `change` that was
//! decided, on replicas too. The algorithms are `fixed`, `sliding` with its
//! `sliding_log`, and `gcra`, alike in what `meter` says. All but `commands` and
//! how a limiter lives in a server (`datatype`, `config`, `stats`) is pure: no
//! server, no clock, no chance.

mod by_namespace;
mod change;
mod codec;
mod commands;
mod config;
mod datatype;
mod fixed;
mod gcra;
mod limiter;
mod meter;
mod policy;
mod quota;
mod request;
mod reservation;
mod sliding;
mod sliding_log;
mod stats;
#[cfg(test)]
mod testing;
mod window;

pub use by_namespace::STATS;
pub use commands::{COMMANDS, TYPES};
pub use config::CONFIGS;
pub use stats::INFO;
