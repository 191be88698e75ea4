//! Strings of the server's own that outlive a call.

use super::args::Arg;
use crate::bug;
use crate::server::border::raw::RedisModuleString;
use std::cell::OnceCell;
use std::marker::PhantomData;
use std::ptr::{from_ref, null_mut};
use std::sync::Arc;

/// Strings of the server's own that outlive a call, for what may come in the place of
/// its arguments.
#[derive(Debug)]
pub struct Strings(Vec<*mut RedisModuleString>);

// SAFETY: a string that nobody else refers to may be given back by any thread, and read by
// whoever has a reference.
unsafe impl Send for Strings {}
// SAFETY: as above: nothing changes them.
unsafe impl Sync for Strings {}

impl Strings {
    /// Copies of these bytes.
    pub fn new<'b>(all: impl Iterator<Item = &'b [u8]>) -> Self {
        // SAFETY: without a context, the string is this one's own until it is freed.
        let copy = |bytes: &[u8]| unsafe {
            api!(RedisModule_CreateString(null_mut(), bytes.as_ptr().cast(), bytes.len()))
        };
        Self(all.map(copy).collect())
    }

    /// The strings.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Arg<'_>> {
        // SAFETY: they live as long as this.
        self.0.iter().map(|raw| unsafe { Arg::from_raw(*raw) })
    }
}

impl Drop for Strings {
    fn drop(&mut self) {
        // SAFETY: each was created by `new`, without a context.
        self.0.iter().for_each(|raw| unsafe { api!(RedisModule_FreeString(null_mut(), *raw)) });
    }
}

/// What a call keeps until it ends: strings that come in the place of arguments, once.
#[derive(Default)]
pub struct Kept<'a> {
    strings: OnceCell<Arc<Strings>>,
    runs: PhantomData<&'a ()>,
}

impl<'a> Kept<'a> {
    /// Keeps strings.
    pub fn keep(&self, strings: &Arc<Strings>) -> &'a Strings {
        let kept = self.strings.get_or_init(|| strings.clone());
        if !Arc::ptr_eq(kept, strings) {
            bug("a call that keeps strings twice")
        }
        // SAFETY: a handler works for any 'a, so that nothing of it is left when the handler
        // ends; this stands in the call, which ends after it, and never changes.
        unsafe { &*from_ref(&**kept) }
    }
}
