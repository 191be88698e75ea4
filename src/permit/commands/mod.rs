//! What commands do with permits: `store` decides on a call, for the commands of
//! [`crate::admission`], and `applypermit` makes on replicas what was decided.

mod applypermit;
pub mod store;

use super::permits::Permits;
use crate::server::{Command, TypeSpec, load_command};

/// The data types of this domain.
pub const TYPES: &[TypeSpec] = &[TypeSpec::of::<Box<Permits>>()];

/// The commands of this domain.
pub const COMMANDS: &[Command] = &[applypermit::COMMAND, load_command::<Box<Permits>>()];
