//! What is asked of the server between commands.

use super::global::Lock;
use super::propagation::assume_listeners;
use super::user::ServerString;
use crate::server::border::raw::{
    REDISMODULE_CTX_FLAGS_EVICT, REDISMODULE_CTX_FLAGS_MASTER, REDISMODULE_CTX_FLAGS_OOM,
    REDISMODULE_OK,
};
use crate::server::call::args::{Arg, Args};
use crate::server::call::key::{Keyspace, Looking, ReadKey};
use crate::server::declare::module::context;
use std::ffi::c_int;

fn flags() -> u32 {
    // SAFETY: the module's own context outlives the module. Flags are bits.
    unsafe { api!(RedisModule_GetContextFlags(context())) }.cast_unsigned()
}

/// Whether this server decides itself, rather than follow a primary.
pub fn is_primary(_lock: &Lock) -> bool {
    flags() & REDISMODULE_CTX_FLAGS_MASTER != 0
}

/// Whether more memory is in use than `maxmemory` allows.
pub fn is_over_maxmemory(_lock: &Lock) -> bool {
    flags() & REDISMODULE_CTX_FLAGS_OOM != 0
}

/// Whether the server may evict keys to have no more memory in use than `maxmemory`
/// allows.
pub fn may_evict(_lock: &Lock) -> bool {
    flags() & REDISMODULE_CTX_FLAGS_EVICT != 0
}

/// Whether nothing is to be replicated now: writes are paused, or the server
/// hands over to a replica. What would write by the clock has to wait.
pub fn avoids_replica_traffic(_lock: &Lock) -> bool {
    // SAFETY: takes no arguments and reads a state.
    unsafe { api!(RedisModule_AvoidReplicaTraffic()) != 0 }
}

/// Has what follows be about a database; whether there is such a one.
pub(super) fn select(_lock: &Lock, db: i32) -> bool {
    // SAFETY: the module's own context outlives the module.
    unsafe { api!(RedisModule_SelectDb(context(), db as c_int)) == REDISMODULE_OK as c_int }
}

/// Makes a call of earlier anew, outside of one: with its words, the name first, and
/// the keys of its database. What is committed there is replicated as it is by a
/// call. `None` where there is no such database.
pub fn call_again<R>(
    lock: &Lock,
    db: i32,
    words: &[&[u8]],
    work: impl for<'a> FnOnce(&mut Keyspace<'a>, Args<'a>) -> R,
) -> Option<R> {
    if !select(lock, db) {
        return None;
    }
    // What stands in for an effect that nobody wants is the call, and there is none.
    assume_listeners();
    let strings: Vec<_> = words.iter().map(|word| ServerString::new(word)).collect();
    let argv: Vec<_> = strings.iter().map(|string| string.0).collect();
    // SAFETY: the module's own context outlives the module, and the server calls
    // under its lock; the strings outlive the call.
    let (mut keys, args) = unsafe { (Keyspace::new(context()), Args::from_raw(&argv)) };
    Some(work(&mut keys, args))
}

/// Looks at a key of a database outside of a call, or beside one: while no key is
/// open for writing, or else that is a panic.
pub fn look_at<R>(lock: &Lock, db: i32, key: &[u8], look: impl FnOnce(&ReadKey) -> R) -> Option<R> {
    let name = ServerString::new(key);
    let _looking = Looking::begin();
    if !select(lock, db) {
        return None;
    }
    // SAFETY: the module's own context outlives the module, and the server calls
    // under its lock; the name outlives the open key. Nothing is written to while it
    // is looked at.
    unsafe {
        let keys = Keyspace::new(context());
        let open = keys.read(Arg::from_raw(name.0));
        Some(look(&open))
    }
}
