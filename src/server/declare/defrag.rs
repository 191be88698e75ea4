//! Active defragmentation: blocks are moved to where memory is used densely.

use crate::block::Block;
use crate::server::border::raw::RedisModuleDefragCtx;
use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// What moves blocks, while the server defragments a value.
pub struct Defrag {
    ctx: *mut RedisModuleDefragCtx,
}

impl Defrag {
    /// # Safety
    /// `ctx` is what the server passed to a defragmentation callback, and outlives
    /// this.
    pub(in crate::server) unsafe fn from_raw(ctx: *mut RedisModuleDefragCtx) -> Self {
        Self { ctx }
    }

    /// Moves a block, if it should be: where it is now. The old place is given
    /// back.
    ///
    /// # Safety
    /// `block` is a live block of the server's allocator, and nobody else points to
    /// it.
    pub(in crate::server) unsafe fn block(&self, block: *mut c_void) -> *mut c_void {
        // SAFETY: promised by the caller. Null: it stays where it is.
        let moved = unsafe { api!(RedisModule_DefragAlloc(self.ctx, block)) };
        if moved.is_null() { block } else { moved }
    }

    /// Moves a block that a value leads to.
    pub fn one<H>(&self, block: &mut Block<H>) {
        // SAFETY: the block is of this allocator, and this its only owner; it is
        // moved byte by byte, as any value may be.
        unsafe {
            if let Some(moved) = NonNull::new(self.block(block.address())) {
                block.moved_to(moved);
            }
        }
    }

    /// Moves the elements of a list.
    pub fn list<T>(&self, list: &mut Vec<T>) {
        const { assert!(align_of::<T>() <= 16, "such blocks are not from the server") }
        if list.capacity() == 0 || size_of::<T>() == 0 {
            return;
        }
        let mut parts = ManuallyDrop::new(std::mem::take(list));
        let (length, capacity) = (parts.len(), parts.capacity());
        // SAFETY: the block is the list's own, of this allocator, moved byte by byte
        // as any value may be; its length and capacity stay.
        *list = unsafe {
            let moved = self.block(parts.as_mut_ptr().cast());
            Vec::from_raw_parts(moved.cast(), length, capacity)
        };
    }
}
