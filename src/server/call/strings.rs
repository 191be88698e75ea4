//! Strings of the server's own that outlive a call.

use super::args::Arg;
use crate::bug;
use crate::server::border::raw::RedisModuleString;
use std::any::Any;
use std::cell::OnceCell;
use std::marker::PhantomData;
use std::ptr::{self, null_mut};
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

    /// The string at a place.
    pub fn get(&self, place: usize) -> Option<Arg<'_>> {
        // SAFETY: it lives as long as this.
        self.0.get(place).map(|raw| unsafe { Arg::from_raw(*raw) })
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

/// What a call keeps until it ends: one thing, with strings that come in the place of
/// arguments.
#[derive(Default)]
pub struct Kept<'a> {
    thing: OnceCell<Arc<dyn Any + Send + Sync>>,
    runs: PhantomData<&'a ()>,
}

impl<'a> Kept<'a> {
    /// Keeps it.
    pub fn keep<T: Any + Send + Sync>(&self, thing: &Arc<T>) -> &'a T {
        let kept = self.thing.get_or_init(|| thing.clone());
        let Some(kept) = kept.downcast_ref::<T>().filter(|kept| ptr::eq(*kept, &**thing)) else {
            bug("a call that keeps two things")
        };
        // SAFETY: a handler works for any 'a, so that nothing of it is left when the handler
        // ends; this stands in the call, which ends after it, and never changes.
        unsafe { &*ptr::from_ref(kept) }
    }
}
