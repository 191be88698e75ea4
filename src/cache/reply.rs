//! The answers of ML.CACHEFETCH: `[status, value|nil, token|nil, ms]`.

use crate::id::Id;
use crate::server::Reply;
use crate::time::Millis;

/// What a caller of ML.CACHEFETCH is answered at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fetched<'a> {
    /// A fresh answer, and how long it holds.
    Hit(&'a [u8], Millis),
    /// A stale answer, and how long it may be served still.
    Stale(&'a [u8], Millis),
    /// The caller computes: its token, how long it has, and what to serve
    /// meanwhile, if there is something.
    Lease(Id, Millis, Option<&'a [u8]>),
    /// Another caller computes, for so long at most.
    Busy(Millis),
    /// The version is not in force.
    Retired,
}

/// Answers a row.
pub fn reply_fetched(reply: Reply, fetched: &Fetched) {
    let (status, value, token, ms) = match *fetched {
        Fetched::Hit(value, ttl_ms) => ("HIT", Some(value), None, ttl_ms),
        Fetched::Stale(value, left_ms) => ("STALE", Some(value), None, left_ms),
        Fetched::Lease(token, lease_ms, stale) => ("LEASE", stale, Some(token), lease_ms),
        Fetched::Busy(left_ms) => ("BUSY", None, None, left_ms),
        Fetched::Retired => ("RETIRED", None, None, 0),
    };
    reply.array(4);
    reply.bytes(status.as_bytes());
    match value {
        Some(value) => reply.bytes(value),
        None => reply.null(),
    }
    match token {
        Some(token) => reply.bytes(&token.text()),
        None => reply.null(),
    }
    reply.integer(i64::try_from(ms).unwrap_or(i64::MAX));
}
