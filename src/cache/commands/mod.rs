//! The commands of the cache: a file a command, with its row of the table, its
//! parser and its handler; `arguments`, `find`, `look` and `store` are what
//! several of them share, `part` what ML.SERVE has of them.

mod applyanswers;
mod applyversions;
mod arguments;
mod cachedrop;
mod cachefetch;
mod cacheget;
mod cacheinfo;
mod cachemfetch;
mod cachemget;
mod cachemset;
mod cacheset;
mod cacheversion;
mod cacheversionset;
mod find;
mod look;
mod part;
mod store;

pub use part::{ARGUMENTS as PART, CachePart, Left};

use super::answer::Answer;
use super::leases::Cache;
use crate::flights::{release, renew};
use crate::server::{Command, load_command};

/// The commands of this domain.
pub const COMMANDS: &[Command] = &[
    cacheget::COMMAND,
    cacheset::COMMAND,
    cachemget::COMMAND,
    cachemset::COMMAND,
    cachedrop::COMMAND,
    cachefetch::COMMAND,
    cachemfetch::COMMAND,
    renew::<Cache, Answer>(c"ML.CACHERENEW"),
    release::<Cache, Answer>(c"ML.CACHERELEASE"),
    cacheversion::COMMAND,
    cacheversionset::COMMAND,
    cacheinfo::COMMAND,
    applyanswers::COMMAND,
    applyversions::COMMAND,
    load_command::<Answer>(),
];
