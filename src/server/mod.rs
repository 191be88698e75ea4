//! The rooms that touch the Redis module API, and the only ones that hold
//! `unsafe` code. Nothing here knows what a rate limit, a cache entry or a
//! feature is: the domains describe themselves in tables ([`Module`]) and get
//! safe, typed access to arguments, keys and replies.
#![allow(unsafe_code)]

#[macro_use]
mod raw;

mod alarm;
mod alloc;
mod args;
mod block;
mod chance;
mod clock;
mod command;
mod config;
mod datatype;
#[cfg(debug_assertions)]
mod debug;
mod defrag;
mod entry;
mod error;
mod events;
#[cfg(debug_assertions)]
mod faults;
mod global;
mod guard;
mod info;
mod key;
mod load;
#[macro_use]
mod module;
mod number;
mod propagation;
mod reply;
mod waiting;

pub use alarm::Alarm;
pub use alloc::{ServerAllocator, heap_bytes};
pub use args::{Arg, Args, EXPIRIES, Options};
pub use block::Block;
pub use chance::{new_id, random_fraction};
pub use clock::{Monotonic, monotonic, now};
pub use command::{Argument, Call, Command, KeyAccess, Keys, handler};
pub use config::Config;
pub use datatype::{DataType, Digest, SideTable, TypeSlot, TypeSpec};
pub use defrag::Defrag;
pub use error::{Error, quoted, refuse};
pub use events::{Event, Listener};
pub use global::{Global, Lock};
pub use info::Section;
pub use key::{Hash, WriteKey};
pub use load::load_command;
pub use module::Module;
pub use number::parse_integer;
pub use propagation::effects_are_wanted;
pub use reply::Reply;
pub use waiting::{Waiter, Waits, wake};

/// What [`export_module`] expands to stands on.
pub mod exports {
    pub use super::module::{load, write_info};
    pub use super::raw::{RedisModuleCtx, RedisModuleInfoCtx, RedisModuleString};
    pub use std::ffi::c_int;
}
