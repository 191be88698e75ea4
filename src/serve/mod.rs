//! A request to a model in one call: whether it is let in, the answer if there is one, the
//! features to compute it from if there is none.
//!
//! It is composed of what [`crate::admission`], [`crate::cache`] and [`crate::features`]
//! have, each by its own rules and with its own words, and decides nothing of its own but
//! what of them is asked, and in which order.

mod command;
mod request;
mod stats;

use crate::server::Command;

pub use stats::INFO;

/// The commands of this domain.
pub const COMMANDS: &[Command] = &[command::COMMAND];
