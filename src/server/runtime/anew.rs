//! Whether a client that waits would be let in, if it called anew now: the door that
//! whoever wakes waiters asks before it grants one of them anything.
//!
//! The server decides that by itself: it is asked about the call, as scripts are about
//! theirs, without making it. It refuses what writes while it cannot save (MISCONF) or
//! has too few replicas (NOREPLICAS), on a replica, and about keys that are not, or
//! not all, served here.

use super::global::Lock;
use super::node::select;
use super::user::{ServerString, User};
use crate::bug;
use crate::server::border::raw::{REDISMODULE_REPLY_ERROR, RedisModuleCallReply};
use crate::server::call::error::Error;
use crate::server::declare::module::context;
use std::ffi::{CStr, CString};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Whether calls are asked about only: none of the module's is to run.
static ASKS: AtomicBool = AtomicBool::new(false);

/// Whether a call is asked about only.
pub fn only_asks() -> bool {
    ASKS.load(Relaxed)
}

/// Whether a command of the module, its name first and a key of it at a place among its
/// words, would be let in of a user's client in a database; otherwise what it would be answered. Of a user
/// that the server does not list, only the server's own reasons count. While no key is
/// open.
pub fn let_in_anew(
    lock: &Lock,
    user: Option<&User>,
    db: i32,
    command: &[&[u8]],
    key_at: usize,
) -> Result<(), Error> {
    if let Some(user) = user {
        user.may(lock, db, command, key_at)?;
    }
    if !select(lock, db) {
        bug("a client waits in a database that there is not");
    }
    let Some((name, arguments)) = command.split_first() else { bug("a call of no command") };
    let Ok(name) = CString::new(*name) else { bug("a command whose name has a NUL") };
    let strings: Vec<_> = arguments.iter().map(|word| ServerString::new(word)).collect();
    let argv: Vec<_> = strings.iter().map(|string| string.0).collect();
    ASKS.store(true, Relaxed);
    // SAFETY: the module's own context outlives the module; the name, the format and
    // the strings are valid, and so many.
    let (reply, reason) = unsafe {
        let reply =
            api!(RedisModule_Call(context(), name.as_ptr(), format(), argv.as_ptr(), argv.len()));
        (reply, std::io::Error::last_os_error().kind())
    };
    ASKS.store(false, Relaxed);
    // SAFETY: what the server answered, which is freed once, after its last use.
    unsafe {
        let error = error(reply, reason);
        if !reply.is_null() {
            api!(RedisModule_FreeCallReply(reply));
        }
        error.map_or(Ok(()), Err)
    }
}

/// How to call: as from a script, with an error as the reply, and the arguments in an
/// array. Where there is a dry run (it came with another function, in Redis 7.2), the
/// server ends the call; else its entry point does. Before 7.0.3, Redis crashes where a
/// script is not run by a client; what the module is loaded into is 7.0.5 at least, the
/// first with `SetAbsExpire`.
fn format() -> *const std::ffi::c_char {
    let format: &CStr =
        if offers!(RedisModule_BlockClientSetPrivateData) { c"SEDv" } else { c"SEv" };
    format.as_ptr()
}

/// The error of a reply, if it is one: in the server's words, but for what it says to
/// modules alone.
///
/// # Safety
/// The reply is null, or one that the server gave and that is not freed yet.
unsafe fn error(reply: *mut RedisModuleCallReply, reason: ErrorKind) -> Option<Error> {
    if reply.is_null() {
        return None;
    }
    // SAFETY: promised by the caller; a reply that is an error has a text.
    let text = unsafe {
        if api!(RedisModule_CallReplyType(reply)) != REDISMODULE_REPLY_ERROR as i32 {
            return None;
        }
        let mut length = 0;
        let start = api!(RedisModule_CallReplyStringPtr(reply, &raw mut length));
        std::slice::from_raw_parts(start.cast::<u8>(), length)
    };
    Some(Error::Server(match reason {
        ErrorKind::PermissionDenied => "TRYAGAIN The key is moving to another node".to_owned(),
        ErrorKind::ReadOnlyFilesystem | ErrorKind::NetworkDown => {
            "CLUSTERDOWN The cluster is down".to_owned()
        }
        _ => String::from_utf8_lossy(text).trim_end().to_owned(),
    }))
}
