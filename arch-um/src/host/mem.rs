//! [`SharedMemory`]: memory in a memfd, for tmpfs files and page caches. Stubs map its descriptor.

use crate::errno::Errno;
use crate::host::sys::{IntoErrno, cstring, retry, retry_owned};
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

/// Memory that can be mapped into guests: sparse, resizable, zero where never written.
///
/// The kernel reaches it with `pread`/`pwrite`, so what a guest writes at the same time can tear but never break a Rust rule.
#[derive(Debug)]
pub struct SharedMemory {
    fd: Arc<OwnedFd>,
}

impl SharedMemory {
    /// Empty memory; `name` shows in the host's `/proc/PID/maps`.
    ///
    /// # Errors
    /// `EMFILE`, `ENOMEM`, `EINVAL` for a name with a zero byte or too long.
    pub fn new(name: &str) -> Result<SharedMemory, Errno> {
        let name = cstring(name.as_bytes())?;
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: the name is a C string.
        let fd = retry_owned(|| unsafe { libc::memfd_create(name.as_ptr(), flags) })?;
        Ok(SharedMemory { fd: Arc::new(fd) })
    }

    fn with_file<R>(&self, f: impl FnOnce(&File) -> std::io::Result<R>) -> Result<R, Errno> {
        // SAFETY: the File borrows the descriptor for this call only and is forgotten, never closed.
        let file = std::mem::ManuallyDrop::new(unsafe { File::from_raw_fd(self.fd.as_raw_fd()) });
        f(&file).map_err(IntoErrno::into_errno)
    }

    /// Size in bytes.
    pub fn len(&self) -> u64 {
        self.with_file(|f| f.metadata()).map_or(0, |m| m.len())
    }

    /// Is the size zero?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Grows (sparse) or shrinks (freeing). Unmap a shrunk range from guests first, or they get SIGBUS.
    ///
    /// # Errors
    /// `EINVAL`, `EFBIG`.
    pub fn resize(&self, len: u64) -> Result<(), Errno> {
        self.with_file(|f| f.set_len(len))
    }

    /// Reads at `offset`; returns the bytes read, fewer than asked for only at the end.
    ///
    /// # Errors
    /// The host's.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize, Errno> {
        self.with_file(|f| f.read_at(buf, offset))
    }

    /// Writes all of `buf` at `offset`, growing the memory if needed.
    ///
    /// # Errors
    /// `ENOSPC` or `ENOMEM` when the host is out of memory.
    pub fn write_at(&self, buf: &[u8], offset: u64) -> Result<(), Errno> {
        self.with_file(|f| f.write_all_at(buf, offset))
    }

    /// Frees whole pages of `range` and zeroes the rest of it; the size stays. Unmap it from guests first if they must not see zeros.
    ///
    /// # Errors
    /// The host's.
    pub fn punch_hole(&self, range: Range<u64>) -> Result<(), Errno> {
        if range.is_empty() {
            return Ok(());
        }
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        self.fallocate(mode, range)
    }

    /// Makes sure that writes to `range` find memory; grows if needed.
    ///
    /// # Errors
    /// `ENOSPC`, `ENOMEM`.
    pub fn allocate(&self, range: Range<u64>) -> Result<(), Errno> {
        self.fallocate(0, range)
    }

    fn fallocate(&self, mode: i32, range: Range<u64>) -> Result<(), Errno> {
        let start = i64::try_from(range.start).map_err(|_| Errno::EFBIG)?;
        let len = i64::try_from(range.end - range.start).map_err(|_| Errno::EFBIG)?;
        // SAFETY: plain numbers.
        retry(|| unsafe { libc::fallocate(self.fd.as_raw_fd(), mode, start, len) })?;
        Ok(())
    }

    /// Bytes really allocated on the host.
    pub fn allocated(&self) -> u64 {
        self.with_file(|f| f.metadata()).map_or(0, |m| m.blocks() * 512)
    }

    /// The descriptor, to map it into a guest.
    pub fn fd(&self) -> Arc<OwnedFd> {
        self.fd.clone()
    }
}
