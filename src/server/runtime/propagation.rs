//! Whether anybody gets the effects of writes: a replica, the backlog, an AOF.
//!
//! Building an effect and having the server look its command up costs about as
//! much as a small write itself, for nothing on a server that replicates to
//! nobody and keeps no AOF. There is no call that asks. So a standalone server
//! is asked once a second whether it is such a one, and until it was found to
//! be, and again from anything that can change it, effects are sent.
//!
//! What begins to listen begins with a snapshot, and what came before that is in
//! it. The server takes one in a child, whose fork is an event, or by itself (SAVE,
//! DEBUG RELOAD, SHUTDOWN), which is an event too. The latter matters where a
//! replica has asked for all and waits: from then on there is a backlog, and a
//! snapshot names the place in it that whoever starts from it continues at. A
//! backlog counts as a listener; one that dies takes its name along, so that nobody
//! continues from before. In a cluster, where a slot can move to another node,
//! effects are always sent.

#[cfg(debug_assertions)]
use crate::server::border::faults;
use crate::server::border::raw::{
    self, REDISMODULE_CTX_FLAGS_CLUSTER, REDISMODULE_EVENT_CRON_LOOP, REDISMODULE_EVENT_FORK_CHILD,
    REDISMODULE_EVENT_PERSISTENCE, REDISMODULE_EVENT_REPLICA_CHANGE,
    REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED, REDISMODULE_OK, RedisModuleCtx,
};
use std::ffi::{CStr, c_int};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

static WANTED: AtomicBool = AtomicBool::new(true);
static LAST_ASKED_S: AtomicU64 = AtomicU64::new(0);

/// Whether somebody may get the effects of writes.
pub fn effects_are_wanted() -> bool {
    #[cfg(debug_assertions)]
    if faults::planted(faults::Fault::Effects) {
        return false;
    }
    WANTED.load(Relaxed)
}

/// Takes an event into account. In a cluster none is: effects are always sent.
///
/// # Safety
/// `ctx` is a valid context.
pub unsafe fn note(ctx: *mut RedisModuleCtx, event: u64) {
    match event {
        REDISMODULE_EVENT_FORK_CHILD
        | REDISMODULE_EVENT_PERSISTENCE
        | REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED
        | REDISMODULE_EVENT_REPLICA_CHANGE => assume_listeners(),
        REDISMODULE_EVENT_CRON_LOOP => {
            let now_s = crate::server::call::clock::now() / crate::time::MICROS_PER_SECOND;
            if LAST_ASKED_S.swap(now_s, Relaxed) != now_s {
                // SAFETY: the caller's promise is passed on.
                WANTED.store(unsafe { in_cluster(ctx) || somebody_listens(ctx) }, Relaxed);
            }
        }
        _ => {}
    }
}

/// Has effects sent until nobody is found to listen.
pub fn assume_listeners() {
    WANTED.store(true, Relaxed);
}

/// # Safety
/// `ctx` is a valid context.
unsafe fn in_cluster(ctx: *mut RedisModuleCtx) -> bool {
    // SAFETY: promised by the caller.
    let flags = unsafe { api!(RedisModule_GetContextFlags(ctx)) };
    flags & REDISMODULE_CTX_FLAGS_CLUSTER as c_int != 0
}

/// # Safety
/// `ctx` is a valid context.
unsafe fn somebody_listens(ctx: *mut RedisModuleCtx) -> bool {
    /// All 0 where nobody listens and nobody is about to.
    const SECTIONS: [(&CStr, &[&CStr]); 2] = [
        (c"replication", &[c"connected_slaves", c"repl_backlog_active"]),
        (
            c"persistence",
            &[
                c"aof_enabled",
                c"aof_rewrite_scheduled",
                c"aof_rewrite_in_progress",
                c"rdb_bgsave_in_progress",
                c"loading",
            ],
        ),
    ];
    SECTIONS.iter().any(|(section, fields)| {
        // SAFETY: `ctx` is valid by the caller's promise, the names are C
        // strings, and the data is freed once, after its last use.
        unsafe {
            let data = api!(RedisModule_GetServerInfo(ctx, section.as_ptr()));
            let listens = fields.iter().any(|field| is_set(data, field));
            api!(RedisModule_FreeServerInfo(ctx, data));
            listens
        }
    })
}

/// Whether a field is there and not 0; one that is missing counts as set.
///
/// # Safety
/// `data` is what the server answered.
unsafe fn is_set(data: *mut raw::RedisModuleServerInfoData, field: &CStr) -> bool {
    let mut error = 0;
    // SAFETY: promised by the caller.
    let value = unsafe {
        api!(RedisModule_ServerInfoGetFieldUnsigned(data, field.as_ptr(), &raw mut error))
    };
    error != REDISMODULE_OK as c_int || value != 0
}
