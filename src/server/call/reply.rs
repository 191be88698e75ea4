//! Replies, written straight to the client: no tree of values is built first.

use super::error::Error;
use crate::server::border::raw::RedisModuleCtx;
use std::ffi::CString;
use std::marker::PhantomData;

/// Writes the reply of one call. A handler replies last, when nothing can fail
/// any more, so that a client never reads half an answer.
#[derive(Clone, Copy)]
pub struct Reply<'a> {
    ctx: *mut RedisModuleCtx,
    runs: PhantomData<&'a ()>,
}

impl Reply<'_> {
    /// # Safety
    /// `ctx` is the context of the running command and lasts for as long as the reply.
    pub(in crate::server) unsafe fn from_raw(ctx: *mut RedisModuleCtx) -> Self {
        Self { ctx, runs: PhantomData }
    }

    /// `OK`, as a simple string.
    pub fn ok(self) {
        // SAFETY: `ctx` is valid by construction, the text is a C string.
        unsafe { api!(RedisModule_ReplyWithSimpleString(self.ctx, c"OK".as_ptr())) };
    }

    /// An integer.
    pub fn integer(self, value: i64) {
        // SAFETY: `ctx` is valid by construction.
        unsafe { api!(RedisModule_ReplyWithLongLong(self.ctx, value)) };
    }

    /// A double of RESP3; RESP2 has none.
    pub fn double(self, value: f64) {
        // A NaN is sent without its sign, which some servers would print.
        let value = if value.is_nan() { f64::NAN } else { value };
        // SAFETY: `ctx` is valid by construction.
        unsafe { api!(RedisModule_ReplyWithDouble(self.ctx, value)) };
    }

    /// A bulk string of any bytes.
    pub fn bytes(self, bytes: &[u8]) {
        // SAFETY: `ctx` is valid by construction; the server copies the bytes.
        unsafe {
            api!(RedisModule_ReplyWithStringBuffer(self.ctx, bytes.as_ptr().cast(), bytes.len()))
        };
    }

    /// The null of the client's protocol: nil in RESP2, null in RESP3.
    pub fn null(self) {
        // SAFETY: `ctx` is valid by construction.
        unsafe { api!(RedisModule_ReplyWithNull(self.ctx)) };
    }

    /// The head of an array; exactly `length` replies must follow.
    pub fn array(self, length: usize) {
        // No reply is anywhere near 2^63 elements.
        let length = i64::try_from(length).unwrap_or(i64::MAX);
        // SAFETY: `ctx` is valid by construction.
        unsafe { api!(RedisModule_ReplyWithArray(self.ctx, length)) };
    }

    /// The head of a map, in RESP2 a flat array; exactly `pairs` pairs of
    /// replies must follow.
    pub fn map(self, pairs: usize) {
        let pairs = i64::try_from(pairs).unwrap_or(i64::MAX);
        // SAFETY: `ctx` is valid by construction.
        unsafe { api!(RedisModule_ReplyWithMap(self.ctx, pairs)) };
    }

    /// An error, in place of a reply.
    pub fn error(self, error: &Error) {
        if *error == Error::WrongArity {
            // SAFETY: `ctx` is valid by construction.
            unsafe { api!(RedisModule_WrongArity(self.ctx)) };
            return;
        }
        // Error texts quote arguments without their NUL bytes.
        let text = CString::new(error.to_string());
        let text = text.as_deref().unwrap_or(c"ERR internal error");
        // SAFETY: `ctx` is valid by construction, the text is a C string.
        unsafe { api!(RedisModule_ReplyWithError(self.ctx, text.as_ptr())) };
    }
}
