//! The commands of rate limits: a file a command, with its row of the table, its
//! parser and its handler; `arguments` and `store` are what several of them share,
//! and the calls on several keys.

mod applylimit;
pub mod arguments;
mod ratelimit;
pub mod store;

use super::limiter::Limiter;
use crate::server::{Command, TypeSpec, load_command};

/// The data types of this domain.
pub const TYPES: &[TypeSpec] = &[TypeSpec::of::<Box<Limiter>>()];

/// The commands of this domain.
pub const COMMANDS: &[Command] =
    &[ratelimit::COMMAND, applylimit::COMMAND, load_command::<Box<Limiter>>()];
