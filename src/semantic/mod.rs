//! The semantic cache: answers to nearly the same question.
//!
//! A key holds vectors of one size, each leading to an answer, and is asked for those
//! nearest to another vector, by the cosine. `vector` is how a vector is kept and asked
//! with, `segment` many of them in the order that a scan goes through, `shelves` all of a
//! key, `best` what a scan has found; `table` is what a key holds, `change` what a write
//! changes in it, `codec` how both are saved and sent, `asked` what is counted: pure, no
//! server, no clock, no chance. `look` says what becomes of a look at a table, `scan` is one
//! by a thread, `searches` who waits for such, `leases` who computes a missing answer and
//! who waits for it, `stats` what is counted. `commands` has
//! a file for each command.

mod asked;
pub mod best;
pub mod change;
pub mod codec;
mod commands;
mod config;
mod datatype;
pub mod entry;
mod leases;
mod look;
mod scan;
mod searches;
pub mod segment;
pub mod shelves;
mod stats;
pub mod table;
pub mod vector;

use crate::server::TypeSpec;

pub use commands::{InForce, commands};
pub use config::CONFIGS;
pub use leases::{LISTENER, settle};
pub use stats::{INFO, STATS};

/// The data types of this domain.
pub const TYPES: &[TypeSpec] = &[TypeSpec::of::<Box<table::Table>>()];
