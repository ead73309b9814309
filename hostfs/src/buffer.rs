//! Memory that file data passes through between the host and a guest: bounded pieces, used again.

use arch_um::sync::{SpinLock, order};

/// Alignment that satisfies `O_DIRECT` everywhere.
const ALIGN: usize = 4096;
/// Buffers kept for the next call. A virtual CPU needs one at a time.
const KEPT: usize = 4;

/// Idle buffers.
pub(crate) struct BufferPool {
    idle: SpinLock<Vec<Vec<u8>>>,
}

/// One buffer on loan.
pub(crate) struct Buffer<'a> {
    data: Vec<u8>,
    start: usize,
    len: usize,
    pool: &'a BufferPool,
}

impl BufferPool {
    pub fn new() -> Self {
        Self {
            idle: SpinLock::new(&order::LEAF, Vec::new()),
        }
    }

    /// A buffer of `len` bytes at a page boundary; the contents are whatever they were.
    pub fn take(&self, len: usize) -> Buffer<'_> {
        let found = self.idle.lock().pop();
        let mut data = found.unwrap_or_default();
        if data.len() < len + ALIGN {
            // Dropped and made anew: growing would copy old contents.
            data = vec![0; len + ALIGN];
        }
        let start = data.as_ptr().align_offset(ALIGN).min(ALIGN);
        Buffer {
            data,
            start,
            len,
            pool: self,
        }
    }
}

impl Buffer<'_> {
    /// All of it.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.data[self.start..self.start + self.len]
    }
}

impl Drop for Buffer<'_> {
    fn drop(&mut self) {
        let data = std::mem::take(&mut self.data);
        let mut idle = self.pool.idle.lock();
        if idle.len() < KEPT {
            idle.push(data);
        }
    }
}
