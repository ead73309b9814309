//! Stacks of kernel threads: 256 KiB of address space each, backed by memory as far as used, with a guard below. Used ones are kept.

use crate::errno::Errno;
use crate::sync::raw::RawLock;
use std::ptr;

/// Usable size.
pub(crate) const STACK_SIZE: usize = 256 << 10;
/// Never accessible; as large as the largest frame that C code without stack probes may have.
pub(crate) const GUARD_SIZE: usize = 64 << 10;
/// More unused stacks than this go back to the host.
const POOLED: usize = 64;

static POOL: RawLock<Vec<Stack>> = RawLock::new(Vec::new());

/// One stack; unmapped when dropped.
pub(crate) struct Stack {
    /// Start of the guard.
    base: usize,
}

impl Stack {
    /// A pooled or new stack. `EAGAIN` when the host gives no more.
    pub(crate) fn new() -> Result<Stack, Errno> {
        if let Some(stack) = POOL.lock().pop() {
            return Ok(stack);
        }
        // SAFETY: a fresh mapping at an address the host chooses aliases nothing.
        let base = unsafe {
            libc::mmap(
                ptr::null_mut(),
                GUARD_SIZE + STACK_SIZE,
                libc::PROT_NONE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_STACK,
                -1,
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(Errno::EAGAIN);
        }
        let stack = Stack { base: base as usize };
        // SAFETY: inside the mapping just made; its guard part stays without access.
        let rc = unsafe {
            libc::mprotect(
                (stack.base + GUARD_SIZE) as *mut _,
                STACK_SIZE,
                libc::PROT_READ | libc::PROT_WRITE,
            )
        };
        if rc != 0 {
            return Err(Errno::EAGAIN);
        }
        Ok(stack)
    }

    /// Gives a stack that nobody runs on back to the pool.
    pub(crate) fn recycle(self) {
        let mut pool = POOL.lock();
        if pool.len() < POOLED {
            pool.push(self);
        }
    }

    /// One past the highest byte, 16-byte aligned.
    pub(crate) fn top(&self) -> usize {
        self.base + GUARD_SIZE + STACK_SIZE
    }

    /// Is `addr` in the guard, or just above it (a probe may hit the first page)?
    pub(crate) fn guard_contains(&self, addr: usize) -> bool {
        (self.base..self.base + GUARD_SIZE).contains(&addr)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and nobody runs on it.
        unsafe { libc::munmap(self.base as *mut _, GUARD_SIZE + STACK_SIZE) };
    }
}
