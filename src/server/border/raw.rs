//! The module API as C declares it, and one way to call it.

pub use redis_module::raw::*;

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

#[cold]
#[allow(clippy::panic)]
pub fn missing(function: &str) -> ! {
    panic!("the server offers no {function}")
}
