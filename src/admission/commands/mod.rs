//! The commands of admission: a file a command, with its row of the table, its parser
//! and its handler; `held` is what those share that end or prolong a hold.

mod admit;
mod held;
mod limitinfo;
mod renew;
mod settle;

pub use admit::{ITEMS, admit};

use crate::server::Command;

/// The commands of this domain.
pub const COMMANDS: &[Command] =
    &[admit::COMMAND, settle::COMMAND, renew::COMMAND, limitinfo::COMMAND];
