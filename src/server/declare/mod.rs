//! What a module declares when it is loaded: its commands with their arguments
//! and keys, its data types, its configs, its sections of INFO, and what it wants
//! to be told of.

mod argument;
mod aux;
mod command;
mod config;
pub(in crate::server) mod datatype;
#[cfg(debug_assertions)]
mod debug;
mod defrag;
mod events;
mod info;
mod keyspec;
mod load;
#[macro_use]
pub(in crate::server) mod module;

pub use argument::Argument;
pub use aux::AuxTable;
pub use command::{Command, handler, handler_updating};
pub use config::Config;
pub use datatype::{DataType, Digest, RawValue, TypeHandle, TypeSpec};
pub use defrag::Defrag;
pub use events::{Event, KeyListener, Listener, announce};
pub use info::Section;
pub use keyspec::{KeyAccess, KeySpec};
pub use load::load_command;
pub use module::Module;
