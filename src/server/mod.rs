//! The rooms that touch the Redis module API, and the only ones that hold
//! `unsafe` code, but for [`crate::block`] and [`crate::simd`]. Nothing here knows
//! what a rate limit, a cached answer or a feature is: the domains describe themselves
//! in tables ([`Module`]) and get safe, typed access to arguments, keys and replies.
//!
//! | room | what it is |
//! |---|---|
//! | `border` | the C border: the API, the allocator, the guard around callbacks |
//! | `call` | what a handler is given: arguments, keys, the reply, the clock, errors |
//! | `declare` | what a module declares: commands, types, configs, INFO, events |
//! | `runtime` | what runs by itself: clients that wait, timers, threads, propagation |
#![allow(unsafe_code)]

#[macro_use]
mod border;
mod call;
#[macro_use]
mod declare;
mod runtime;

pub use border::{ServerAllocator, block_bytes};
pub use call::{
    Arg, Args, Call, Changeable, DistinctKeys, EXPIRIES, Ends, Error, Hash, HashField, Kept,
    Keyspace, Lives, OpenKeys, Options, ReadKey, Reply, Strings, ValueRef, WriteKey, fetch,
    monotonic, new_id, now, quoted, random_fraction, refuse,
};
pub use declare::{
    Argument, AuxTable, Command, Config, DataType, Defrag, Digest, Event, KeyAccess, KeyListener,
    KeySpec, Listener, Module, RawValue, Section, TypeHandle, TypeSpec, announce, handler,
    handler_updating, load_command,
};
pub use runtime::{
    BlockedClient, Global, Lock, OnUnblock, Timer, User, Workers, avoids_replica_traffic,
    call_again, is_over_maxmemory, is_primary, let_in_anew, look_at, may_evict, wake,
};

/// What [`export_module`] expands to stands on.
pub mod exports {
    pub use super::border::raw::{RedisModuleCtx, RedisModuleInfoCtx, RedisModuleString};
    pub use super::declare::module::{load, write_info};
    pub use std::ffi::c_int;
}
