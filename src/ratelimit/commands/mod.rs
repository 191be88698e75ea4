//! The commands of rate limits: a file a command, with its row of the table, its
//! parser and its handler; `arguments` and `store` are what several of them
//! share.

mod applylimit;
mod arguments;
mod rateinfo;
mod ratelimit;
mod ratemulti;
mod ratesettle;
mod store;

use super::limiter::Limiter;
use crate::server::{Command, TypeSpec, load_command};

/// The data types of this domain.
pub const TYPES: &[TypeSpec] = &[TypeSpec::of::<Box<Limiter>>()];

/// The commands of this domain.
pub const COMMANDS: &[Command] = &[
    ratelimit::COMMAND,
    ratemulti::COMMAND,
    ratesettle::COMMAND,
    rateinfo::COMMAND,
    applylimit::COMMAND,
    load_command::<Box<Limiter>>(),
];
