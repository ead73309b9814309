//! A thread's region: the memory a stub thread shares with the kernel.
//!
//! ```text
//! 0x000  the hand-off word, alone on its cache line
//! 0x040  header: what the stub reports, what the kernel commands (offsets below; `stub.s` uses the same)
//! 0x200  operations, 64 of 56 bytes
//! 0x1000 signal stack; the signal frame at its top is the thread's registers and FP state
//! ```
//!
//! The guest can write all of it at any time. Each value is read once, into a local, and checked by whoever uses it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use arch_um::Errno;

use crate::{Layout, host};

pub(crate) const SIGNAL: usize = 0x40;
pub(crate) const SIGINFO: usize = 0x44;
pub(crate) const UCONTEXT: usize = 0x48;
pub(crate) const STATUS: usize = 0x4c;
pub(crate) const ERROR: usize = 0x50;
pub(crate) const ACK: usize = 0x58;
pub(crate) const FS_BASE: usize = 0x60;
pub(crate) const GS_BASE: usize = 0x68;
pub(crate) const SPIN: usize = 0x70;
pub(crate) const CAPS: usize = 0x78;
pub(crate) const COMMAND: usize = 0x7c;
pub(crate) const COUNT: usize = 0x80;
pub(crate) const RECEIVE: usize = 0x84;
pub(crate) const CLOSE: usize = 0x88;
pub(crate) const SEQ: usize = 0x8c;
pub(crate) const ARG0: usize = 0x90;
pub(crate) const ARG1: usize = 0x98;
pub(crate) const RESULT: usize = 0xa8;
const MSGHDR: usize = 0xc0;
const IOV: usize = 0xf8;
const IOV_BYTE: usize = 0x108;
const CONTROL: usize = 0x110;
/// Where operations begin, and how many fit.
pub(crate) const OPS: usize = 0x200;
pub(crate) const MAX_OPS: usize = 64;
pub(crate) const OP_SIZE: usize = 56;
/// Where the signal stack begins.
pub(crate) const STACK: usize = 0x1000;

/// `CAPS`: the processor and host allow rdfsbase and friends.
pub(crate) const CAP_FSGSBASE: u32 = 1;
/// `CAPS`: stop with a breakpoint instead of handing the word over.
pub(crate) const CAP_PTRACE: u32 = 2;

/// `STATUS` values.
pub(crate) const STATUS_SIGNAL: u32 = 1;
pub(crate) const STATUS_DONE: u32 = 2;
pub(crate) const STATUS_FAILED: u32 = 3;

bitflags::bitflags! {
    /// What the stub does when it gets the word: one action, and perhaps things before it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Command: u32 {
        const RESUME = 0;
        const REPORT = 1;
        const FORK = 2;
        const THREAD = 3;
        const EXIT = 4;
        /// First run the operations.
        const BATCH = 0x10;
        /// Load fs and gs base before resuming.
        const BASES = 0x20;
    }
}

/// A region, mapped here and (at its slot's address) in one stub.
pub(crate) struct Region {
    base: *mut u8,
    size: usize,
    fd: OwnedFd,
    /// Its address in the stub.
    pub(crate) stub_addr: u64,
}

// SAFETY: the memory is only reached through atomics and byte copies that expect concurrent writers.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    pub(crate) fn new(layout: &Layout, slot: usize) -> Result<Region, Errno> {
        let size = layout.region_size as usize;
        let fd = host::memfd(c"skas-region", layout.region_size)?;
        // SAFETY: a fresh mapping aliases nothing; it is unmapped when the Region is dropped.
        let base = unsafe {
            let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
            libc::mmap(
                std::ptr::null_mut(),
                size,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                fd.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(host::errno());
        }
        Ok(Region {
            base: base.cast(),
            size,
            fd,
            stub_addr: layout.region(slot),
        })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// For use in another slot or process, once the old owner is gone.
    pub(crate) fn moved(mut self, layout: &Layout, slot: usize) -> Region {
        self.stub_addr = layout.region(slot);
        self
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// The hand-off word.
    pub(crate) fn word(&self) -> &AtomicU32 {
        self.atomic32(0)
    }

    pub(crate) fn atomic32(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.size);
        // SAFETY: in bounds and aligned; the mapping lives as long as `self`; all access is atomic.
        unsafe { AtomicU32::from_ptr(self.base.add(offset).cast()) }
    }

    fn atomic64(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.size);
        // SAFETY: as in atomic32.
        unsafe { AtomicU64::from_ptr(self.base.add(offset).cast()) }
    }

    pub(crate) fn get32(&self, offset: usize) -> u32 {
        self.atomic32(offset).load(Relaxed)
    }

    pub(crate) fn put32(&self, offset: usize, value: u32) {
        self.atomic32(offset).store(value, Relaxed);
    }

    pub(crate) fn get64(&self, offset: usize) -> u64 {
        self.atomic64(offset).load(Relaxed)
    }

    pub(crate) fn put64(&self, offset: usize, value: u64) {
        self.atomic64(offset).store(value, Relaxed);
    }

    /// Copies bytes out. `None` outside the region.
    pub(crate) fn copy_out(&self, offset: usize, buf: &mut [u8]) -> Option<()> {
        if offset.checked_add(buf.len())? > self.size {
            return None;
        }
        // SAFETY: in bounds; what a concurrent writer makes of the bytes is for the caller to check.
        unsafe { std::ptr::copy_nonoverlapping(self.base.add(offset), buf.as_mut_ptr(), buf.len()) };
        Some(())
    }

    /// Copies bytes in. `None` outside the region.
    pub(crate) fn copy_in(&self, offset: usize, buf: &[u8]) -> Option<()> {
        if offset.checked_add(buf.len())? > self.size {
            return None;
        }
        // SAFETY: in bounds; nothing in this process holds a reference into the mapping.
        unsafe { std::ptr::copy_nonoverlapping(buf.as_ptr(), self.base.add(offset), buf.len()) };
        Some(())
    }

    /// Prepares the message header with which the stub receives up to `MAX_FDS` descriptors.
    pub(crate) fn prepare_receive(&self, fds: usize) {
        self.put64(MSGHDR, 0);
        self.put64(MSGHDR + 8, 0);
        self.put64(MSGHDR + 16, self.stub_addr + IOV as u64);
        self.put64(MSGHDR + 24, 1);
        self.put64(MSGHDR + 32, self.stub_addr + CONTROL as u64);
        self.put64(MSGHDR + 40, 16 + (fds as u64 * 4).next_multiple_of(8));
        self.put64(MSGHDR + 48, 0);
        self.put64(IOV, self.stub_addr + IOV_BYTE as u64);
        self.put64(IOV + 8, 1);
    }

    /// Writes operation `index`.
    pub(crate) fn put_op(&self, index: usize, kind: u32, fd_slot: i32, args: &[u64; 6]) {
        let at = OPS + index * OP_SIZE;
        self.put32(at, kind);
        self.put32(at + 4, fd_slot as u32);
        for (i, arg) in args.iter().enumerate() {
            self.put64(at + 8 + 8 * i, *arg);
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: exactly the range mapped in `new`; no reference outlives `self`.
        unsafe { libc::munmap(self.base.cast(), self.size) };
    }
}
