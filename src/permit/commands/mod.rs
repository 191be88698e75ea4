//! The commands of permits: a file a command, with its row of the table, its
//! parser and its handler; `store` is what those share that change permits.

mod applypermit;
mod permitacquire;
mod permitinfo;
mod permitrelease;
mod permitrenew;
mod store;

use super::permits::Permits;
use crate::server::{Command, TypeSpec, load_command};

/// The data types of this domain.
pub const TYPES: &[TypeSpec] = &[TypeSpec::of::<Box<Permits>>()];

/// The commands of this domain.
pub const COMMANDS: &[Command] = &[
    permitacquire::COMMAND,
    permitrenew::COMMAND,
    permitrelease::COMMAND,
    permitinfo::COMMAND,
    applypermit::COMMAND,
    load_command::<Box<Permits>>(),
];
