//! Broken invariants, which are loud.

/// Panics, into the guard around the entry point: the client reads `ERR internal
/// error`, the log says what broke, and no value is invented in its place. For
/// what only a mistake of this module can bring about.
#[cold]
#[allow(clippy::panic)]
pub fn bug(what: &str) -> ! {
    panic!("a broken invariant: {what}")
}
