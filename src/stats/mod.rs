//! Statistics: what is counted of each namespace on this node, and ML.STATS that
//! tells it.
//!
//! A namespace is here the first part of a key (see [`crate::namespace`]). Of each
//! domain there is a [`Section`], which lib.rs lists; a domain counts through one
//! line in its handlers. `namespaces` and `space_saving` are pure: no server, no
//! clock, no chance.

mod commands;
mod config;
mod counts;
mod namespaces;
mod space_saving;

pub use commands::{Sections, command};
pub use config::CONFIGS;
pub(crate) use counts::counters;
pub use counts::{Counts, Totals, c_name};
pub use namespaces::Namespaces;
pub use space_saving::SpaceSaving;

use crate::server::{Lock, Reply};
use crate::time::Micros;

/// What a domain tells of its namespaces.
pub struct Section {
    /// Its keyword in ML.STATS; in lower case, its name in the reply.
    pub keyword: &'static str,
    /// Answers a map of the namespaces selected, each a map of counts, as they are now.
    pub report: fn(&Lock, Selection, Micros, Reply),
    /// Sets what was counted to 0, of the namespaces selected.
    pub reset: fn(&Lock, Selection),
}

/// The namespaces that a call is about: the one, or all.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a>(pub Option<&'a [u8]>);

impl Selection<'_> {
    /// Whether a namespace of this name is one of them.
    pub fn has(&self, name: &[u8]) -> bool {
        self.0.is_none_or(|selected| selected == name)
    }
}

/// How many namespaces are counted by name.
pub fn max_namespaces() -> usize {
    config::NAMESPACES.get_count()
}

/// A count, as it stands in a reply.
pub fn reply_count(reply: Reply, name: &str, count: u64) {
    reply.bytes(name.as_bytes());
    reply.integer(i64::try_from(count).unwrap_or(i64::MAX));
}
