//! The commands of the semantic cache: a file a command, with its row of the table, its
//! parser and its handler; `arguments` and `store` are what several of them share.

mod applysemantic;
pub(super) mod arguments;
mod semalias;
mod semdrop;
mod semfetch;
mod semget;
mod seminfo;
mod semset;
mod semthreshold;
mod store;

use super::leases::Semantic;
use super::table::Table;
use crate::flights::{release, renew};
use crate::server::{Command, Lock, load_command};

/// Which versions of a model may be read and filled.
pub trait InForce: 'static {
    /// Whether one is, under a key.
    fn admits(lock: &Lock, key: &[u8], version: &[u8]) -> bool;
}

/// The commands of this domain.
pub const fn commands<V: InForce>() -> [Command; 11] {
    [
        semset::command::<V>(),
        semget::command::<V>(),
        semfetch::command::<V>(),
        semalias::command::<V>(),
        renew::<Semantic, Box<Table>>(c"ML.SEMRENEW"),
        release::<Semantic, Box<Table>>(c"ML.SEMRELEASE"),
        semdrop::COMMAND,
        semthreshold::COMMAND,
        seminfo::COMMAND,
        applysemantic::COMMAND,
        load_command::<Box<Table>>(),
    ]
}
