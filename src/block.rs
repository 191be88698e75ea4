//! A value that is one block: a head of fixed size, and bytes after it. A key
//! that holds one is read with a single further step: no pointer leads from the
//! head to the bytes, and nothing but their length stands between.
#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ffi::c_void;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// A head, and bytes.
pub struct Block<H> {
    start: NonNull<Start<H>>,
    owns: PhantomData<H>,
}

/// What a block begins with. The bytes follow right after the length, where the
/// alignment of the head may have left room.
#[repr(C)]
struct Start<H> {
    head: H,
    length: u32,
}

// SAFETY: a block owns its head and bytes, and shares nothing.
unsafe impl<H: Send> Send for Block<H> {}
// SAFETY: as above; a shared block is only read.
unsafe impl<H: Sync> Sync for Block<H> {}

impl<H> Block<H> {
    const BYTES_AT: usize = std::mem::offset_of!(Start<H>, length) + size_of::<u32>();

    /// A block of these bytes, put together; `None` when there is no memory for
    /// it, or when they are 4 GiB or more.
    pub fn new(head: H, parts: &[&[u8]]) -> Option<Self> {
        let bytes = parts.iter().try_fold(0, |sum: usize, part| sum.checked_add(part.len()))?;
        let length = u32::try_from(bytes).ok()?;
        let layout = Self::shape(bytes)?;
        // SAFETY: the layout is not of size 0: the start is not.
        let start = NonNull::new(unsafe { alloc(layout) })?.cast::<Start<H>>();
        // SAFETY: the block is large enough for the start and all parts, aligned
        // for the start, and ours alone.
        unsafe {
            start.write(Start { head, length });
            let mut end = start.cast::<u8>().add(Self::BYTES_AT);
            for part in parts {
                end.copy_from_nonoverlapping(NonNull::from(*part).cast(), part.len());
                end = end.add(part.len());
            }
        }
        Some(Self { start, owns: PhantomData })
    }

    /// A block without bytes. As for a box, there is always memory for it.
    pub fn bare(head: H) -> Self {
        Self::new(head, &[]).unwrap_or_else(|| handle_alloc_error(Layout::new::<Start<H>>()))
    }

    fn shape(bytes: usize) -> Option<Layout> {
        // No less than the start, which is written as a whole.
        let size = Self::BYTES_AT.checked_add(bytes)?.max(size_of::<Start<H>>());
        Layout::from_size_align(size, align_of::<Start<H>>()).ok()
    }

    /// The head.
    pub fn head(&self) -> &H {
        // SAFETY: the block lives as long as its owner.
        unsafe { &self.start.as_ref().head }
    }

    /// The head, to be changed.
    pub fn head_mut(&mut self) -> &mut H {
        // SAFETY: the block lives as long as its owner, which is borrowed alone.
        unsafe { &mut self.start.as_mut().head }
    }

    /// The head and the bytes, to be changed.
    pub fn parts_mut(&mut self) -> (&mut H, &mut [u8]) {
        // SAFETY: the block lives as long as its owner, which is borrowed alone.
        unsafe { Self::parts_at(self.address()) }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: as many bytes follow the start, in the same block.
        unsafe {
            let length = self.start.as_ref().length as usize;
            let bytes = self.start.cast::<u8>().add(Self::BYTES_AT);
            std::slice::from_raw_parts(bytes.as_ptr(), length)
        }
    }

    /// Where the block is.
    pub fn address(&self) -> *mut c_void {
        self.start.as_ptr().cast()
    }

    /// Takes note that the block was moved.
    ///
    /// # Safety
    /// The block of this owner now is at `address`, byte by byte, and nowhere
    /// else.
    pub unsafe fn moved_to(&mut self, address: NonNull<c_void>) {
        self.start = address.cast();
    }

    /// Gives the block away as a pointer.
    pub fn into_raw(self) -> *mut c_void {
        ManuallyDrop::new(self).address()
    }

    /// Takes it back.
    ///
    /// # Safety
    /// `raw` came from `into_raw` of this type, and nobody else takes it back.
    pub unsafe fn from_raw(raw: *mut c_void) -> Self {
        // SAFETY: promised by the caller.
        let start = unsafe { NonNull::new_unchecked(raw.cast()) };
        Self { start, owns: PhantomData }
    }

    /// The head of a block that was given away.
    ///
    /// # Safety
    /// `raw` came from `into_raw` of this type and is not taken back, and the
    /// block not looked at otherwise, for all of `'a`.
    pub unsafe fn head_at<'a>(raw: *mut c_void) -> &'a mut H {
        // SAFETY: promised by the caller.
        unsafe { &mut (*raw.cast::<Start<H>>()).head }
    }

    /// The same with the bytes.
    ///
    /// # Safety
    /// As for [`head_at`](Self::head_at).
    pub unsafe fn parts_at<'a>(raw: *mut c_void) -> (&'a mut H, &'a mut [u8]) {
        let start = raw.cast::<Start<H>>();
        // SAFETY: promised by the caller. As many bytes follow the length, in the same
        // block, and the head is none of them.
        unsafe {
            let bytes = raw.cast::<u8>().add(Self::BYTES_AT);
            let bytes = std::slice::from_raw_parts_mut(bytes, (*start).length as usize);
            (&mut (*start).head, bytes)
        }
    }
}

impl<H: std::fmt::Debug> std::fmt::Debug for Block<H> {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.debug_tuple("Block").field(self.head()).field(&self.bytes()).finish()
    }
}

impl<H> Drop for Block<H> {
    fn drop(&mut self) {
        let layout = Self::shape(self.bytes().len());
        // SAFETY: the head is dropped once, and the block given back with the
        // layout it was allocated with, which there is: it was allocated.
        unsafe {
            self.start.drop_in_place();
            if let Some(layout) = layout {
                dealloc(self.start.as_ptr().cast(), layout);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_keeps_its_head_and_all_parts_of_its_bytes() {
        let mut block = Block::new(String::from("head"), &[b"", b"ab", b"c"]).unwrap();
        assert_eq!((block.head().as_str(), block.bytes()), ("head", b"abc".as_slice()));
        let (head, bytes) = block.parts_mut();
        head.push('!');
        bytes.copy_from_slice(b"cab");
        let raw = block.into_raw();
        // SAFETY: the pointer is used once as the owner, after it was looked at.
        let block = unsafe {
            assert_eq!(Block::<String>::head_at(raw), "head!");
            Block::<String>::from_raw(raw)
        };
        assert_eq!(block.bytes(), b"cab");
        assert_eq!(Block::bare(()).bytes(), b"");
    }

    #[test]
    fn a_length_is_all_that_stands_between_head_and_bytes() {
        assert_eq!(Block::<u64>::shape(212).unwrap(), Layout::from_size_align(224, 8).unwrap());
        assert_eq!(Block::<u64>::shape(0).unwrap().size(), 16);
        assert_eq!(Block::<u8>::shape(3).unwrap().size(), 11);
    }
}
