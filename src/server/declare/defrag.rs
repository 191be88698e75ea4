//! Active defragmentation: blocks are moved to where memory is used densely.

use crate::block::Block;
use crate::server::border::raw::RedisModuleDefragCtx;
use std::collections::VecDeque;
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

    /// Moves the elements of a ring, which begins where its block does from then on.
    pub fn ring<T>(&self, ring: &mut VecDeque<T>) {
        let mut list = Vec::from(std::mem::take(ring));
        self.list(&mut list);
        *ring = list.into();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::border::raw;
    use std::alloc::{Layout, alloc, dealloc};
    use std::ptr::null_mut;

    /// The size of every block of the test.
    const SIZE: usize = 64;

    /// Moves a block of the test, as a server does: to another place, byte by byte,
    /// the old one given back.
    unsafe extern "C" fn moves(_: *mut RedisModuleDefragCtx, block: *mut c_void) -> *mut c_void {
        let layout = Layout::from_size_align(SIZE, 8).unwrap();
        // SAFETY: the block is of that layout, and used no more.
        unsafe {
            let to = alloc(layout);
            to.copy_from_nonoverlapping(block.cast(), SIZE);
            dealloc(block.cast(), layout);
            to.cast()
        }
    }

    #[test]
    fn what_is_moved_stays_what_it_is_and_is_freed_once() {
        // SAFETY: no other test moves blocks.
        unsafe { raw::RedisModule_DefragAlloc = Some(moves) };
        // SAFETY: `moves` does not look at it.
        let defrag = unsafe { Defrag::from_raw(null_mut()) };

        let text = "a head that owns a block of its own".to_owned();
        let bytes = vec![9; SIZE - size_of::<String>() - size_of::<u32>()];
        let mut block = Block::new(text.clone(), &[&bytes]).unwrap();
        let before = block.address();
        defrag.one(&mut block);
        assert!(block.address() != before && *block.head() == text && block.bytes() == bytes);
        block.head_mut().push('!');
        drop(block);

        let mut list = Vec::with_capacity(SIZE / size_of::<Box<u64>>());
        list.extend((0..5).map(Box::new));
        let before = list.as_ptr();
        defrag.list(&mut list);
        assert!(list.as_ptr() != before && list.iter().map(|one| **one).eq(0_u64..5));
        list.push(Box::new(5));
        assert_eq!((list.len(), list.capacity()), (6, 8));
        let mut empty: Vec<u64> = Vec::new();
        defrag.list(&mut empty);
        assert_eq!(empty.capacity(), 0);

        // A ring that goes over the end of its block.
        let mut ring = VecDeque::from_iter((0..SIZE / 8).map(Box::new));
        ring.rotate_left(3);
        let expected = ring.clone();
        defrag.ring(&mut ring);
        assert_eq!((&ring, ring.capacity()), (&expected, SIZE / 8));
    }
}
