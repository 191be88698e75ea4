//! What happens to the server as a whole.

use crate::bug;
use crate::server::border::callback::Callback;
use crate::server::border::guard::{guard, log};
use crate::server::border::raw::{
    REDISMODULE_EVENT_CRON_LOOP, REDISMODULE_EVENT_FLUSHDB, REDISMODULE_EVENT_FORK_CHILD,
    REDISMODULE_EVENT_LOADING, REDISMODULE_EVENT_PERSISTENCE, REDISMODULE_EVENT_REPLICA_CHANGE,
    REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED, REDISMODULE_EVENT_SWAPDB, REDISMODULE_NOTIFY_ALL,
    REDISMODULE_OK, REDISMODULE_SUBEVENT_FLUSHDB_END, REDISMODULE_SUBEVENT_LOADING_ENDED,
    REDISMODULE_SUBEVENT_LOADING_FAILED, RedisModuleCtx, RedisModuleEvent, RedisModuleFlushInfo,
    RedisModuleString, RedisModuleSwapDbInfo,
};
use crate::server::call::Call;
use crate::server::call::args::Arg;
use crate::server::runtime::Lock;
use crate::server::runtime::propagation;
use std::ffi::{c_char, c_int, c_void};
use std::sync::OnceLock;

/// Something that happened to the server as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A database was emptied, or all of them.
    Flushed(Option<i32>),
    /// Two databases took each other's place.
    Swapped(i32, i32),
    /// A data set begins to be loaded: from a file, or from the primary.
    LoadingStarted,
    /// It was loaded.
    LoadingEnded,
    /// It was not, or not to its end.
    LoadingFailed,
    /// A primary became a replica, or the other way round.
    RoleChanged,
    /// The server's own clock has come round, which it does `hz` times a second
    /// whatever the wall clock says.
    Tick,
    /// A domain says that other answers may be served from now on. It is the one event
    /// that the server does not tell of.
    VersionsChanged,
}

/// What a domain does about it.
pub type Listener = fn(&Lock, Event);

/// What a domain does about a key that has changed, in whatever way: by a command of
/// the module or of the server's, or by itself. Keys may be open: nothing is opened.
pub type KeyListener = fn(&Lock, i32, &[u8]);

static KEY_LISTENER: OnceLock<KeyListener> = OnceLock::new();

impl Call<'_> {
    /// Has a listener told of every key that changes from now on. There is one; asking
    /// again changes nothing. Not before it is needed, because it takes its time at
    /// every write of the server.
    pub fn watch_keys(&self, listener: KeyListener) {
        if KEY_LISTENER.set(listener).is_ok() {
            let kinds = REDISMODULE_NOTIFY_ALL;
            // SAFETY: the context of the running command; the callback matches its
            // declaration.
            let watched = unsafe {
                api!(RedisModule_SubscribeToKeyspaceEvents(self.context(), kinds, Some(changed)))
            };
            if watched != REDISMODULE_OK as c_int {
                log("the server does not tell of keys that change");
            }
        }
    }
}

unsafe extern "C" fn changed(
    ctx: *mut RedisModuleCtx,
    _kind: c_int,
    _event: *const c_char,
    key: *mut RedisModuleString,
) -> c_int {
    guard(Callback::Event, || {
        // SAFETY: the server runs its callbacks under its lock, with a valid context and
        // the name of the key, which lives as long as the call.
        let (lock, db, key) =
            unsafe { (Lock::held(), api!(RedisModule_GetSelectedDb(ctx)), Arg::from_raw(key)) };
        if let Some(listener) = KEY_LISTENER.get() {
            listener(&lock, db, key.bytes());
        }
    });
    REDISMODULE_OK as c_int
}

static LISTENERS: OnceLock<&'static [Listener]> = OnceLock::new();

/// Has the listeners called from now on. Every server that the module loads on
/// knows these events, all since Redis 6.0.
///
/// # Safety
/// `ctx` is the context that the module is loaded with.
pub unsafe fn watch(ctx: *mut RedisModuleCtx, listeners: &'static [Listener]) {
    LISTENERS.get_or_init(|| listeners);
    for id in [
        REDISMODULE_EVENT_FORK_CHILD,
        REDISMODULE_EVENT_PERSISTENCE,
        REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED,
        REDISMODULE_EVENT_REPLICA_CHANGE,
        REDISMODULE_EVENT_FLUSHDB,
        REDISMODULE_EVENT_SWAPDB,
        REDISMODULE_EVENT_LOADING,
        // Last: without it effects are always sent, as they must be without one
        // of the others.
        REDISMODULE_EVENT_CRON_LOOP,
    ] {
        let event = RedisModuleEvent { id, dataver: 1 };
        // SAFETY: `ctx` is valid by the caller's promise, and the callback
        // matches its declaration.
        let watched =
            unsafe { api!(RedisModule_SubscribeToServerEvent(ctx, event, Some(happened))) };
        if watched != REDISMODULE_OK as c_int {
            log("the server does not tell all that happens to it");
            return;
        }
    }
}

/// Tells all domains of what one of them has done. Keys may be open.
pub fn announce(lock: &Lock, event: Event) {
    let Some(listeners) = LISTENERS.get() else { bug("an event before it is watched") };
    listeners.iter().for_each(|listener| listener(lock, event));
}

unsafe extern "C" fn happened(
    ctx: *mut RedisModuleCtx,
    event: RedisModuleEvent,
    subevent: u64,
    data: *mut c_void,
) {
    let answered = guard(Callback::Event, || {
        // SAFETY: the server runs its callbacks under its lock, with a context
        // of the module.
        let lock = unsafe {
            propagation::note(ctx, event.id);
            Lock::held()
        };
        // SAFETY: the server passes what the event is told with.
        if let Some(event) = unsafe { read(event.id, subevent, data) } {
            announce(&lock, event);
        }
    });
    if answered.is_none() {
        propagation::assume_listeners();
    }
}

/// # Safety
/// `data` is what the server passes with the event.
unsafe fn read(id: u64, subevent: u64, data: *mut c_void) -> Option<Event> {
    match id {
        REDISMODULE_EVENT_REPLICATION_ROLE_CHANGED => Some(Event::RoleChanged),
        REDISMODULE_EVENT_CRON_LOOP => Some(Event::Tick),
        REDISMODULE_EVENT_LOADING => Some(match subevent {
            REDISMODULE_SUBEVENT_LOADING_ENDED => Event::LoadingEnded,
            REDISMODULE_SUBEVENT_LOADING_FAILED => Event::LoadingFailed,
            _ => Event::LoadingStarted,
        }),
        REDISMODULE_EVENT_FLUSHDB if subevent == REDISMODULE_SUBEVENT_FLUSHDB_END => {
            // SAFETY: promised by the caller.
            let flushed = unsafe { data.cast::<RedisModuleFlushInfo>().as_ref() }?;
            Some(Event::Flushed(Some(flushed.dbnum).filter(|db| *db >= 0)))
        }
        REDISMODULE_EVENT_SWAPDB => {
            // SAFETY: promised by the caller.
            let swapped = unsafe { data.cast::<RedisModuleSwapDbInfo>().as_ref() }?;
            Some(Event::Swapped(swapped.dbnum_first, swapped.dbnum_second))
        }
        _ => None,
    }
}
