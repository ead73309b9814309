//! The heap of this program: the C library's, but large blocks begin at a cache line.
//!
//! Hosts copy with `rep movsb`. On AMD's processors that is four to five times slower when the destination lies 1 to 31 bytes behind the source,
//! counted modulo 4096 (Zen 3: 85 and 400 µs/MiB). The C library puts a large block 16 bytes behind the start of a page, and what a host copies from is
//! mostly whole pages: each `pread` into such a block was a slow one. Behind a cache line's start it is never, from pages or from such blocks of guests.
//!
//! The place is chosen here, in a block that is somewhat larger: `memalign(3)` before glibc 2.38 does not take what it gave back for the same size again,
//! and caches that come and go left hundreds of megabytes of holes.

use std::alloc::{GlobalAlloc, Layout, System};

/// Blocks from so many bytes on hold data for the host to copy; for smaller ones chance is good enough.
const LARGE: usize = 16 << 10;
/// Bytes of a cache line.
const LINE: usize = 64;
/// What the C library aligns to: room enough before a line for where its block begins.
const WORD: usize = 16;

/// Blocks from so many bytes on are mapped one by one, so that the host has them back as soon as they are freed. Those that hold data are shorter: the
/// host's making of their pages costs more than the data's copy. The C library would raise this limit with each block.
const MAPPED: libc::c_int = 4 << 20;

#[global_allocator]
static HEAP: Heap = Heap;

/// Sets the limit. Once, early; before, the C library's own rule holds.
pub(crate) fn init() {
    // SAFETY: a number for the C library, which locks what it changes.
    unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED) };
}

struct Heap;

/// The block of the C library in which one of this layout is placed at a cache line; `None` for what it places itself.
fn around(layout: Layout) -> Option<Layout> {
    if layout.size() < LARGE || layout.align() > LINE {
        return None;
    }
    Layout::from_size_align(layout.size().checked_add(LINE)?, WORD).ok()
}

/// The first cache line behind the beginning of such a block, which is noted before it.
///
/// # Safety
/// `whole` is null, or a block of a layout that [`around`] has made.
unsafe fn place(whole: *mut u8) -> *mut u8 {
    if whole.is_null() {
        return whole;
    }
    let skip = LINE - whole.addr() % LINE;
    // SAFETY: `skip` is a multiple of `WORD`, as the address is, and at most `LINE`: the block has so many bytes more than was asked for, and the
    // word before the place lies in it.
    unsafe {
        let place = whole.add(skip);
        place.cast::<usize>().sub(1).write(skip);
        place
    }
}

// SAFETY: every block comes from `System` and goes back to it with the layout that it was taken with, for `around` depends on the caller's layout alone.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises; the block around is one of its own layout.
        unsafe {
            match around(layout) {
                Some(whole) => place(System.alloc(whole)),
                None => System.alloc(layout),
            }
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`; what is noted lies before the caller's block.
        unsafe {
            match around(layout) {
                Some(whole) => place(System.alloc_zeroed(whole)),
                None => System.alloc_zeroed(layout),
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the block was taken with this layout, and where it was placed the word before it tells how far behind the beginning.
        unsafe {
            match around(layout) {
                Some(whole) => {
                    let skip = block.cast::<usize>().sub(1).read();
                    System.dealloc(block.sub(skip), whole);
                }
                None => System.dealloc(block, layout),
            }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that the size is right for this alignment.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        if around(layout).is_none() && around(new).is_none() {
            // SAFETY: neither of the two is placed: a matter of the C library alone.
            return unsafe { System.realloc(block, layout, size) };
        }
        // SAFETY: the layout is the caller's; the blocks are two, and valid for so many bytes. The old one is given back only when there is a new one.
        unsafe {
            let moved = self.alloc(new);
            if !moved.is_null() {
                moved.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

#[cfg(test)]
mod tests {
    /// Whether the host copies whole pages into it, or from it, at full speed.
    fn is_placed_well(block: &[u8]) -> bool {
        block.as_ptr().addr().is_multiple_of(super::LINE)
    }

    #[test]
    fn large_blocks_begin_at_a_cache_line() {
        let blocks: Vec<Vec<u8>> = (0..8).map(|shift| vec![0; super::LARGE << shift]).collect();
        assert!(blocks.iter().all(|block| is_placed_well(block)));
        assert!(blocks.iter().flatten().all(|&byte| byte == 0));
    }

    #[test]
    fn a_block_that_grows_and_shrinks_keeps_its_bytes() {
        let mut block: Vec<u8> = Vec::new();
        for byte in 0..(super::LARGE * 5) as u32 {
            block.push(byte as u8);
        }
        assert!(is_placed_well(&block));
        for len in [super::LARGE * 3, super::LARGE, 100] {
            block.truncate(len);
            block.shrink_to_fit();
            assert!(block.iter().enumerate().all(|(index, &byte)| byte == index as u8));
        }
    }
}
