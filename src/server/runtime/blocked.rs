//! Clients that wait for their answer.
//!
//! A client is blocked on its key. It is answered when the module wakes it, when
//! its time is over, or by CLIENT UNBLOCK, all of which reach the server's
//! timeout callback: so there is one place that answers. That a value has entered
//! its key reaches another callback, which only makes a note of it. That it is the
//! key it waits for has the server redirect it when the slot moves to another
//! node.
//!
//! Redis 7.0 answers a client when it is woken, but still takes it for blocked
//! until the end of the event loop's turn; CLIENT UNBLOCK in between would
//! answer it again. There, clients are woken at the very end of the turn.

use super::global::{Global, Lock};
use super::slot::short_tag;
use super::user::ServerString;
use crate::server::border::callback::Callback;
use crate::server::border::guard::guard;
use crate::server::border::raw::{
    REDISMODULE_CTX_FLAGS_DENY_BLOCKING, REDISMODULE_ERR, REDISMODULE_EVENT_EVENTLOOP,
    REDISMODULE_OK, REDISMODULE_SUBEVENT_EVENTLOOP_BEFORE_SLEEP, RedisModuleBlockedClient,
    RedisModuleCtx, RedisModuleEvent, RedisModuleString,
};
use crate::server::call::Call;
use crate::server::call::error::Error;
use crate::server::call::reply::Reply;
use crate::time::Millis;
use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// A client that waits: the server's handle of it, and a number, because the
/// server may give the handle of one that is gone to another. Who came later is more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockedClient {
    number: u64,
    handle: usize,
}

/// What becomes of those who wait.
pub trait OnUnblock: 'static {
    /// Answers a client: it was woken, or its time is over. It waits no more.
    fn answer(lock: &Lock, client: BlockedClient, reply: Reply) -> Result<(), Error>;

    /// The client is gone, or was answered by the server. It waits no more.
    fn gone(lock: &Lock, client: BlockedClient);

    /// A value has entered the key that the client waits at. It waits on.
    fn ready(lock: &Lock, client: BlockedClient);
}

/// Those who wait, by their handles: only they can be woken.
static WAITING: Global<HashMap<usize, BlockedClient>> = Global::new();

/// The last number that one was given.
static NUMBERS: Global<u64> = Global::new();

/// Those to be woken at the end of the turn.
static AT_THE_END: Global<Vec<BlockedClient>> = Global::new();

/// Whether clients are to be woken at the end of the turn only. What is asked
/// for came with Redis 7.2, as did the better way.
fn wakes_at_the_end() -> bool {
    !offers!(RedisModule_BlockClientSetPrivateData)
}

/// Wakes a client, if it still waits.
pub fn wake(lock: &Lock, client: BlockedClient) {
    if wakes_at_the_end() {
        AT_THE_END.with(lock, |woken| woken.push(client));
    } else {
        unblock(lock, client);
    }
}

fn unblock(lock: &Lock, client: BlockedClient) {
    if WAITING.with(lock, |waiting| waiting.get(&client.handle) == Some(&client)) {
        let client = client.handle as *mut RedisModuleBlockedClient;
        // SAFETY: the server keeps the handle of a client until it has called
        // one of the callbacks that take it off the list.
        unsafe { api!(RedisModule_UnblockClient(client, null_mut())) };
    }
}

impl<'a> Call<'a> {
    /// Whether the client may be made to wait: not within MULTI or a script, or
    /// wherever else the server says so, nor in the call of another module, behind
    /// which there may be no user whose rights could be asked for.
    pub fn may_wait(&self) -> bool {
        self.context_flags() & REDISMODULE_CTX_FLAGS_DENY_BLOCKING == 0 && self.has_user()
    }

    /// Has the client wait for an answer about a key of this name, at most so long, or for
    /// as long as it takes (0); the call itself answers nothing. `None` where the server
    /// will not block it after all, as Valkey does on a connection with subscriptions.
    pub fn wait<W: OnUnblock>(
        &self,
        lock: &Lock,
        key: &[u8],
        at_most: Millis,
    ) -> Option<BlockedClient> {
        let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
        let name = ServerString::new(key);
        let mut keys = [name.0];
        // SAFETY: the context of the running command, one valid key; the
        // callbacks match their declarations.
        let client = unsafe {
            let client = api!(RedisModule_BlockClientOnKeys(
                self.context(),
                Some(became_ready::<W>),
                Some(time_is_over::<W>),
                Some(no_data),
                at_most,
                keys.as_mut_ptr(),
                1,
                null_mut()
            ));
            if client.is_null() {
                return None;
            }
            api!(RedisModule_SetDisconnectCallback(client, Some(disconnected::<W>)));
            client
        };
        let client = BlockedClient {
            handle: client as usize,
            number: NUMBERS.with(lock, |last| {
                *last += 1;
                *last
            }),
        };
        WAITING.with(lock, |waiting| waiting.insert(client.handle, client));
        self.watch_the_end();
        Some(client)
    }

    /// As [`Self::wait`], where nobody need be told that a value has entered the key: the
    /// server would ask all who wait at it, one by one, whenever it is created.
    pub fn wait_beside<W: OnUnblock>(
        &self,
        lock: &Lock,
        key: &[u8],
        at_most: Millis,
    ) -> Option<BlockedClient> {
        self.wait::<W>(lock, &beside(key), at_most)
    }

    /// Has those who are to be woken at the end of a turn woken. Watched from
    /// the first wait on, because it takes its time in every turn.
    fn watch_the_end(&self) {
        static WATCHES: AtomicBool = AtomicBool::new(false);
        if wakes_at_the_end() && !WATCHES.swap(true, Relaxed) {
            let event = RedisModuleEvent { id: REDISMODULE_EVENT_EVENTLOOP, dataver: 1 };
            // SAFETY: the context of the running command; the callback matches
            // its declaration.
            unsafe {
                api!(RedisModule_SubscribeToServerEvent(self.context(), event, Some(turn)));
            }
        }
    }
}

/// The name of a key that nobody uses, in the slot of another one.
fn beside(key: &[u8]) -> Vec<u8> {
    [b"{", short_tag(key).as_slice(), b"}", key, b"\0mlserve\0waits"].concat()
}

unsafe extern "C" fn turn(
    _ctx: *mut RedisModuleCtx,
    _event: RedisModuleEvent,
    subevent: u64,
    _data: *mut c_void,
) {
    if subevent == REDISMODULE_SUBEVENT_EVENTLOOP_BEFORE_SLEEP {
        // SAFETY: the server runs its callbacks under its lock.
        let lock = unsafe { Lock::held() };
        guard(Callback::Event, || {
            let woken = AT_THE_END.with(&lock, std::mem::take);
            woken.into_iter().for_each(|waiter| unblock(&lock, waiter));
        });
    }
}

unsafe extern "C" fn became_ready<W: OnUnblock>(
    ctx: *mut RedisModuleCtx,
    _argv: *mut *mut RedisModuleString,
    _argc: c_int,
) -> c_int {
    // SAFETY: the context of the blocked client; the server runs its callbacks
    // under its lock.
    let (client, lock) = unsafe { (api!(RedisModule_GetBlockedClientHandle(ctx)), Lock::held()) };
    let client = WAITING.with(&lock, |waiting| waiting.get(&(client as usize)).copied());
    if let Some(client) = client {
        guard(Callback::Ready, || W::ready(&lock, client));
    }
    // Keeps the client waiting.
    REDISMODULE_ERR as c_int
}

unsafe extern "C" fn no_data(_ctx: *mut RedisModuleCtx, _data: *mut c_void) {}

unsafe extern "C" fn time_is_over<W: OnUnblock>(
    ctx: *mut RedisModuleCtx,
    _argv: *mut *mut RedisModuleString,
    _argc: c_int,
) -> c_int {
    // SAFETY: the context of the blocked client; the server runs its callbacks
    // under its lock.
    let (client, lock, reply) = unsafe {
        (api!(RedisModule_GetBlockedClientHandle(ctx)), Lock::held(), Reply::from_raw(ctx))
    };
    if let Some(waiter) = waits_no_more(&lock, client) {
        let answered = guard(Callback::WaitEnd, || W::answer(&lock, waiter, reply));
        if let Err(error) = answered.unwrap_or(Err(Error::Internal)) {
            reply.error(&error);
            guard(Callback::WaitEnd, || W::gone(&lock, waiter));
        }
    }
    REDISMODULE_OK as c_int
}

unsafe extern "C" fn disconnected<W: OnUnblock>(
    _ctx: *mut RedisModuleCtx,
    client: *mut RedisModuleBlockedClient,
) {
    // SAFETY: the server runs its callbacks under its lock.
    let lock = unsafe { Lock::held() };
    if let Some(waiter) = waits_no_more(&lock, client) {
        guard(Callback::Disconnect, || W::gone(&lock, waiter));
    }
}

/// Takes a client off the list, whatever follows: its handle is not to be used
/// any more. Without a guard, because nothing here can panic: the list is not
/// in use while the server calls back.
fn waits_no_more(lock: &Lock, client: *mut RedisModuleBlockedClient) -> Option<BlockedClient> {
    WAITING.with(lock, |waiting| waiting.remove(&(client as usize)))
}

#[cfg(test)]
mod tests {
    use super::{beside, short_tag};
    use crate::namespace::hash_tag;

    #[test]
    fn what_is_beside_a_key_is_in_its_slot() {
        for key in
            ["", "a", "a:b", "{a}", "x{a}y{b}", "{{a}", "{a}}", "a{b", "{", "}", "a}{b", "{}"]
        {
            let key = key.as_bytes();
            assert_eq!(hash_tag(&beside(key)), short_tag(key));
            assert!(beside(key) != key);
        }
    }
}
