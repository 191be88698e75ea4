//! What a handler is given: its arguments, open keys, one reply, the clock,
//! random numbers, and the errors that it answers.

pub(in crate::server) mod args;
pub(in crate::server) mod change;
pub(in crate::server) mod clock;
pub(in crate::server) mod error;
pub(in crate::server) mod key;
pub(in crate::server) mod random;
pub(in crate::server) mod reply;
pub(in crate::server) mod strings;

pub use args::{Arg, Args, DistinctKeys, EXPIRIES, Options};
pub use change::Changeable;
pub use clock::{monotonic, now};
pub use error::{Error, quoted, refuse};
pub use key::{
    Ends, Hash, HashField, Keyspace, Lives, OpenKeys, ReadKey, ValueRef, WriteKey, fetch,
};
pub use random::{new_id, random_fraction};
pub use reply::Reply;
pub use strings::{Kept, Strings};

use crate::server::border::raw::{self, RedisModuleCtx};
use crate::server::runtime::Lock;
use crate::server::runtime::propagation::effects_are_wanted;
use crate::time::Micros;
use std::ffi::CStr;
use std::marker::PhantomData;

/// A running command, as its handler sees it: the arguments, the keys, and the
/// one reply.
pub struct Call<'a> {
    /// The arguments, after the command's name.
    pub args: Args<'a>,
    /// The one reply.
    pub reply: Reply<'a>,
    /// The keys of the database that the client has selected.
    pub keys: Keyspace<'a>,
    /// What is kept until the call ends.
    pub kept: Kept<'a>,
    ctx: *mut RedisModuleCtx,
    runs: PhantomData<&'a ()>,
}

impl<'a> Call<'a> {
    /// # Safety
    /// `ctx` is the context of the running command, which lasts for all of `'a`,
    /// and this is the only `Call` made of it.
    pub(in crate::server) unsafe fn new(ctx: *mut RedisModuleCtx, args: Args<'a>) -> Self {
        // SAFETY: the caller's promise is passed on.
        let (reply, keys) = unsafe { (Reply::from_raw(ctx), Keyspace::new(ctx)) };
        Self { args, reply, keys, kept: Kept::default(), ctx, runs: PhantomData }
    }

    /// The time of the call. Read it once.
    pub fn now(&self) -> Micros {
        clock::now()
    }

    /// Proof that this call is all that runs.
    pub fn lock(&self) -> Lock<'a> {
        // SAFETY: the server runs a command under its lock, for all of 'a.
        unsafe { Lock::held() }
    }

    /// The database that the client has selected.
    pub fn db(&self) -> i32 {
        // SAFETY: the context is valid for the whole call.
        unsafe { api!(RedisModule_GetSelectedDb(self.ctx)) }
    }

    /// Whether the client speaks RESP3.
    pub fn speaks_resp3(&self) -> bool {
        self.context_flags() & raw::REDISMODULE_CTX_FLAGS_RESP3 != 0
    }

    pub(in crate::server) fn context_flags(&self) -> u32 {
        // SAFETY: the context is valid for the whole call. Flags are bits.
        unsafe { api!(RedisModule_GetContextFlags(self.ctx)) }.cast_unsigned()
    }

    pub(in crate::server) fn context(&self) -> *mut RedisModuleCtx {
        self.ctx
    }

    /// Commits a change of what belongs to no key: sends its effect, `command
    /// payload`, to replicas and the AOF.
    pub fn commit_keyless(&self, command: &CStr, payload: &[u8]) {
        if !effects_are_wanted() {
            self.keys.count_a_write();
            return;
        }
        let (start, length) = (payload.as_ptr(), payload.len());
        // SAFETY: the context is valid for the whole call; `b` stands for bytes
        // and their length.
        unsafe {
            api!(RedisModule_Replicate(self.ctx, command.as_ptr(), c"b".as_ptr(), start, length))
        };
    }
}
