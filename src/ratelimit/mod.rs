//! Rate limits: who may go, and who waits how long.
//!
//! A limiter is one key. `parse` reads a call, `limiter` decides over its
//! windows (`slot`) and reservations, `handlers` act and answer. The algorithms
//! are `fixed`, `sliding` with its `charges`, and `gcra`, alike in what `window`
//! says. From `limiter` down all is pure: no server, no clock.

mod charges;
mod codec;
mod commands;
mod config;
mod datatype;
mod fixed;
mod gcra;
mod handlers;
mod limiter;
mod parse;
mod policy;
mod request;
mod reservation;
mod sliding;
mod slot;
mod stats;
#[cfg(test)]
mod testing;
mod window;

pub use commands::{COMMANDS, TYPES};
pub use config::CONFIGS;
pub use stats::INFO;
