//! `INFO ml`: counters, a section a domain.

use super::entry::Entry;
use super::guard::guard;
use super::raw::{REDISMODULE_ERR, RedisModuleInfoCtx};
use std::ffi::{CStr, c_int};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A count since the module was loaded.
pub struct Counter(AtomicU64);

impl Counter {
    /// A counter at zero.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// One more.
    pub fn increment(&self) {
        self.add(1);
    }

    /// `count` more. Every command runs on the server's main thread, so that a
    /// load and a store lose nothing and cost less than a locked addition.
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A section of `INFO ml`.
pub struct Section {
    /// Its name; the server puts `ml_` in front.
    pub name: &'static CStr,
    /// Its fields.
    pub fields: &'static [(&'static CStr, &'static Counter)],
}

/// Writes the sections that the client asked for.
///
/// # Safety
/// `info` is what the server passed to the module's info callback.
pub unsafe fn write(info: *mut RedisModuleInfoCtx, sections: &[Section]) {
    guard(Entry::Info, || {
        for section in sections {
            // SAFETY: `info` is valid by the caller's promise, and the names
            // are C strings. The server answers ERR for a section that nobody
            // asked for.
            unsafe {
                let wanted = api!(RedisModule_InfoAddSection(info, section.name.as_ptr()));
                if wanted == REDISMODULE_ERR as c_int {
                    continue;
                }
                for (name, counter) in section.fields {
                    api!(RedisModule_InfoAddFieldULongLong(info, name.as_ptr(), counter.get()));
                }
            }
        }
    });
}
