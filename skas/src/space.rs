//! Guest address spaces.

use arch_um::Errno;

use crate::{Backing, MapFlags, MemoryUsage, Prot};

/// A guest address space: one host process. Shared by its [`UserThread`](crate::UserThread)s as `Arc<AddressSpace>`.
pub struct AddressSpace {}

impl AddressSpace {
    /// Queues a mapping of `[addr, addr + len)`, replacing what was there. `EINVAL` for what is not page-aligned, `ENOMEM` beyond
    /// `Layout::task_size`. Errors of the host come later: from `flush` or as `Exit::QueueFailed`.
    pub fn map(&self, addr: u64, len: u64, prot: Prot, backing: Backing, flags: MapFlags) -> Result<(), Errno> {
        let _ = (addr, len, prot, backing, flags);
        Err(Errno::ENOSYS)
    }
    /// Queues `munmap(2)`.
    pub fn unmap(&self, addr: u64, len: u64) -> Result<(), Errno> {
        let _ = (addr, len);
        Err(Errno::ENOSYS)
    }
    /// Queues `mprotect(2)`. The range must be mapped.
    pub fn protect(&self, addr: u64, len: u64, prot: Prot) -> Result<(), Errno> {
        let _ = (addr, len, prot);
        Err(Errno::ENOSYS)
    }
    /// Queues `mremap(2)` with `MREMAP_MAYMOVE|MREMAP_FIXED`: moves pages, grows or shrinks. The old range must be one host mapping.
    /// In place (`new == old`) only the size changes.
    pub fn remap(&self, old: u64, old_len: u64, new: u64, new_len: u64) -> Result<(), Errno> {
        let _ = (old, old_len, new, new_len);
        Err(Errno::ENOSYS)
    }
    /// Queues `madvise(2)` with the host's `MADV_*` value.
    pub fn advise(&self, addr: u64, len: u64, advice: i32) -> Result<(), Errno> {
        let _ = (addr, len, advice);
        Err(Errno::ENOSYS)
    }
    /// Runs the queued changes now, on any stub thread of this space that is not running guest code.
    ///
    /// # Errors
    /// The host's errno of the first change that failed; `EAGAIN` when all its threads run guest code (kick one: its next run does it);
    /// `ESRCH` when the host process is gone.
    pub fn flush(&self) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
    /// Copies guest memory out. Queued changes are flushed first. On failure the number of bytes copied and `EFAULT` (`ESRCH`: process gone).
    pub fn read(&self, addr: u64, buf: &mut [u8]) -> Result<(), (usize, Errno)> {
        let _ = (addr, buf);
        Err((0, Errno::ENOSYS))
    }
    /// Copies into guest memory, respecting page protection. Otherwise like [`read`](Self::read).
    pub fn write(&self, addr: u64, buf: &[u8]) -> Result<(), (usize, Errno)> {
        let _ = (addr, buf);
        Err((0, Errno::ENOSYS))
    }
    /// Copies into guest memory whatever its protection: private pages are copied first, as `PTRACE_POKEDATA` does.
    pub fn write_forced(&self, addr: u64, buf: &[u8]) -> Result<(), (usize, Errno)> {
        let _ = (addr, buf);
        Err((0, Errno::ENOSYS))
    }
    /// Compare and exchange of a naturally aligned word, atomic for guest threads. Returns the value found (`old` if it was exchanged).
    /// `EFAULT`, `EINVAL` unaligned, `EAGAIN` when no stub thread is free.
    pub fn cmpxchg_u32(&self, addr: u64, old: u32, new: u32) -> Result<u32, Errno> {
        let _ = (addr, old, new);
        Err(Errno::ENOSYS)
    }
    /// Memory of the host process, 0 when it is gone.
    pub fn memory_usage(&self) -> MemoryUsage {
        MemoryUsage::default()
    }
    /// Which pages of a page-aligned range are in memory, one entry a page (`mincore(2)`).
    pub fn resident(&self, addr: u64, len: u64) -> Vec<bool> {
        let _ = addr;
        vec![true; (len / 4096) as usize]
    }
    /// The host's process id, for messages.
    pub fn host_pid(&self) -> i32 {
        0
    }
}
