//! The border to C: the module API and its types, the allocator, the guard
//! around every entry point, and what tests break on purpose.

#[macro_use]
pub(in crate::server) mod raw;

pub(in crate::server) mod alloc;
pub(in crate::server) mod callback;
#[cfg(debug_assertions)]
pub(in crate::server) mod faults;
pub(in crate::server) mod guard;
#[cfg(debug_assertions)]
pub(in crate::server) mod work;

pub use alloc::{ServerAllocator, block_bytes};
