//! The global allocator: inside a server, the server's own, so that
//! `used_memory`, `maxmemory` and active defragmentation see every byte; outside
//! one (unit tests, benchmarks, fuzzers) the system's.

use crate::block::Block;
use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_void;

/// What the server's `malloc` can be made to align to. A stricter layout (rare:
/// SIMD buffers, cache-line padding) goes to the system allocator, both ways, by
/// its layout.
const SERVER_ALIGNMENT: usize = 16;

/// Allocates from the Redis server that loaded the module.
///
/// Where the server offers an allocation that may fail (7.0 and later), a
/// failure reaches Rust as one, so that `try_reserve` can refuse a request
/// instead of the server aborting.
pub struct ServerAllocator;

/// Whether a block of this layout comes from the server.
fn from_server(layout: Layout) -> bool {
    layout.align() <= SERVER_ALIGNMENT && offers!(RedisModule_Alloc)
}

/// The size to ask the server for, so that the block is aligned as the layout
/// wants it. The jemalloc in Redis aligns a block of 24 or 56 bytes to 8 only;
/// one whose size is a multiple of 16 is aligned to 16 by every allocator that
/// servers are built with. Hash tables need that: they are searched 16 bytes at
/// a time.
fn server_size(size: usize, align: usize) -> usize {
    // What is too large when rounded up is too large as it is.
    size.checked_next_multiple_of(align).unwrap_or(size)
}

// SAFETY: every method hands the layout unchanged to one of two allocators,
// and the choice depends only on the layout: no Rust code of this library runs,
// and so nothing is allocated, before the server has filled its function table.
unsafe impl GlobalAlloc for ServerAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        counted(layout.size());
        // SAFETY: the caller's promise for `layout` is passed on.
        unsafe {
            if !from_server(layout) {
                System.alloc(layout)
            } else if offers!(RedisModule_TryAlloc) {
                api!(RedisModule_TryAlloc(server_size(layout.size(), layout.align()))).cast()
            } else {
                api!(RedisModule_Alloc(server_size(layout.size(), layout.align()))).cast()
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        counted(layout.size());
        // SAFETY: the caller's promise for `layout` is passed on.
        unsafe {
            if !from_server(layout) {
                System.alloc_zeroed(layout)
            } else if offers!(RedisModule_TryCalloc) {
                api!(RedisModule_TryCalloc(1, server_size(layout.size(), layout.align()))).cast()
            } else {
                api!(RedisModule_Calloc(1, server_size(layout.size(), layout.align()))).cast()
            }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        counted(size);
        uncounted(layout.size());
        // SAFETY: the caller's promise for `block` and `layout` is passed on;
        // `block` came from the allocator that `layout` chooses again.
        unsafe {
            if !from_server(layout) {
                System.realloc(block, layout, size)
            } else if offers!(RedisModule_TryRealloc) {
                api!(RedisModule_TryRealloc(block.cast(), server_size(size, layout.align()))).cast()
            } else {
                api!(RedisModule_Realloc(block.cast(), server_size(size, layout.align()))).cast()
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        uncounted(layout.size());
        // SAFETY: `block` came from the allocator that `layout` chooses again.
        unsafe {
            if from_server(layout) {
                api!(RedisModule_Free(block.cast::<c_void>()));
            } else {
                System.dealloc(block, layout);
            }
        }
    }
}

/// Has tests know of a block that is asked for, in debug builds.
fn counted(_size: usize) {
    #[cfg(debug_assertions)]
    super::work::allocated(_size);
}

/// Has tests know of a block that goes back, in debug builds.
fn uncounted(_size: usize) {
    #[cfg(debug_assertions)]
    super::work::freed(_size);
}

/// Bytes that the server's allocator really reserved for a block, its own overhead
/// included; 0 outside a server.
pub fn block_bytes<H>(block: &Block<H>) -> usize {
    // SAFETY: the block is a live one of this allocator.
    unsafe { bytes_at(block.address()) }
}

/// As [`block_bytes`], for a bare block.
///
/// # Safety
/// `block` is a live block of the server's allocator, or there is no server.
pub(in crate::server) unsafe fn bytes_at(block: *const c_void) -> usize {
    if !offers!(RedisModule_MallocSize) {
        return 0;
    }
    // SAFETY: promised by the caller.
    unsafe { api!(RedisModule_MallocSize(block.cast_mut())) }
}

#[cfg(test)]
mod tests {
    use super::{ServerAllocator, server_size};
    use std::alloc::{GlobalAlloc, Layout};

    #[test]
    fn blocks_of_every_alignment_are_had_grown_and_given_back() {
        for align in [1, 2, 8, 16, 32, 64, 4096] {
            for size in [1, 7, 8, 24, 56, 64, 1000, 70_000] {
                let layout = Layout::from_size_align(size, align).unwrap();
                // SAFETY: the sizes are not 0; each block is used within its size, and
                // given back once, with the layout it has then.
                unsafe {
                    let zeroed = ServerAllocator.alloc_zeroed(layout);
                    assert!(std::slice::from_raw_parts(zeroed, size).iter().all(|byte| *byte == 0));
                    ServerAllocator.dealloc(zeroed, layout);
                    let block = ServerAllocator.alloc(layout);
                    assert_eq!(block.addr() % align, 0);
                    block.write_bytes(7, size);
                    let block = ServerAllocator.realloc(block, layout, 2 * size);
                    assert_eq!(block.addr() % align, 0);
                    assert!(std::slice::from_raw_parts(block, size).iter().all(|byte| *byte == 7));
                    let larger = Layout::from_size_align(2 * size, align).unwrap();
                    let block = ServerAllocator.realloc(block, larger, 1);
                    assert_eq!(*block, 7);
                    ServerAllocator.dealloc(block, Layout::from_size_align(1, align).unwrap());
                }
            }
        }
    }

    #[test]
    fn a_block_is_as_large_as_its_alignment_asks() {
        for (size, align, asked) in
            [(24, 8, 24), (24, 16, 32), (36, 16, 48), (64, 16, 64), (5, 1, 5)]
        {
            assert_eq!(server_size(size, align), asked);
        }
        assert_eq!(server_size(usize::MAX, 16), usize::MAX);
    }
}
