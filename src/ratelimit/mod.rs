//! Rate limits: who may go, and who waits how long.
//!
//! A limiter is one key. `commands` reads a call, `limiter` decides over its
//! windows (`window`) and what is held of it (`ledger`), and carries out the `change` that was
//! decided, on replicas too. The algorithms are `fixed`, `sliding` with its
//! `sliding_log`, and `gcra`; windows that close at a moment are `closing`: all are
//! alike in what `meter` says. All but `commands` and
//! how a limiter lives in a server (`datatype`, `config`, `stats`) is pure: no
//! server, no clock, no chance.

pub(crate) mod by_namespace;
mod change;
mod closing;
mod codec;
mod commands;
mod common;
mod config;
mod datatype;
mod fixed;
mod gcra;
mod ledger;
mod limiter;
mod meter;
mod policy;
mod quota;
mod request;
mod seats;
mod sliding;
mod sliding_log;
mod stats;
#[cfg(test)]
mod testing;
mod window;

pub use by_namespace::STATS;
pub(crate) use change::Change;
pub use commands::{COMMANDS, TYPES};
pub(crate) use commands::{arguments, store};
pub use config::CONFIGS;
pub(crate) use limiter::Limiter;
pub(crate) use policy::Algorithm;
pub(crate) use request::{Decision, HoldRequest, Mode, Request};
pub use stats::INFO;
pub(crate) use stats::{RENEWED, SETTLED};
pub(crate) use window::Window;
