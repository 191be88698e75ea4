//! The module API as C declares it, and one way to call it.

pub use redis_module::raw::*;

use std::ffi::{c_int, c_void};
use std::ptr::null_mut;
use std::sync::OnceLock;

/// Calls one function of the module API.
///
/// The API is a table of function pointers that the server fills when the
/// module loads. [`crate::server::declare::module::load`] refuses a server that lacks one this
/// module cannot do without, so the `None` arm is never met; it panics into
/// the guard of the entry point rather than jumping to address zero.
macro_rules! api {
    ($function:ident($($argument:expr),* $(,)?)) => {
        match $crate::server::border::raw::$function {
            Some(function) => function($($argument),*),
            None => $crate::server::border::raw::missing(stringify!($function)),
        }
    };
}

/// Whether the server offers a function of the module API. Ask for the
/// function, never for a version number: forks report each other's.
macro_rules! offers {
    ($function:ident) => {{
        // SAFETY: the pointers are written once, while the module loads, on
        // the thread that later runs every command.
        #[allow(unused_unsafe, clippy::redundant_pattern_matching)]
        let offered = matches!(unsafe { $crate::server::border::raw::$function }, Some(_));
        offered
    }};
}

/// Whether a user may call a command in a database; why not is written where the
/// last argument points to, unless that is null.
pub type AclCheckPermissions = unsafe extern "C" fn(
    *mut RedisModuleUser,
    *mut *mut RedisModuleString,
    c_int,
    c_int,
    *mut c_int,
) -> c_int;

/// A denial for the database.
pub const ACL_LOG_DB: c_int = 4;

/// What Valkey 9.1 has in place of `RedisModule_ACLCheckCommandPermissions`, which
/// knows no database and so refuses there whoever may not use all. The bindings
/// lack it: it is looked up by its name.
pub fn acl_check_permissions() -> Option<AclCheckPermissions> {
    static FOUND: OnceLock<Option<AclCheckPermissions>> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let name = c"ValkeyModule_ACLCheckPermissions";
        let mut found: *mut c_void = null_mut();
        // SAFETY: the server writes the function's address, or nothing, and has
        // declared it as the type does. Null is `None`.
        unsafe {
            api!(RedisModule_GetApi(name.as_ptr(), (&raw mut found).cast()));
            std::mem::transmute::<*mut c_void, Option<AclCheckPermissions>>(found)
        }
    })
}

#[cold]
#[allow(clippy::panic)]
pub fn missing(function: &str) -> ! {
    panic!("the server offers no {function}")
}
