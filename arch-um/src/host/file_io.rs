//! Data of host files at explicit offsets: `preadv2(2)`, `pwritev2(2)` and what changes a file's layout.

use std::os::fd::{AsRawFd, BorrowedFd};

use bitflags::bitflags;

use super::sys::{check, retry};
use crate::errno::Errno;

bitflags! {
    /// `RWF_*` for one call.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct IoFlags: i32 {
        /// `EAGAIN` instead of waiting for the disk; `EOPNOTSUPP` where the file system cannot tell.
        const NOWAIT = libc::RWF_NOWAIT;
        /// Data on stable storage before return.
        const DSYNC = libc::RWF_DSYNC;
        /// Data and metadata on stable storage before return.
        const SYNC = libc::RWF_SYNC;
    }
}

fn offset(position: u64) -> Result<i64, Errno> {
    i64::try_from(position).map_err(|_| Errno::EINVAL)
}

/// `preadv2(2)`: bytes read, 0 at the end.
///
/// # Errors
/// The host's; see [`IoFlags`].
pub fn read_at(fd: BorrowedFd<'_>, buffer: &mut [u8], position: u64, flags: IoFlags) -> Result<usize, Errno> {
    let position = offset(position)?;
    let (data, len) = (buffer.as_mut_ptr().cast(), buffer.len());
    let call = || {
        if flags.is_empty() {
            // SAFETY: the host writes at most `len` bytes into the buffer.
            unsafe { libc::pread64(fd.as_raw_fd(), data, len, position) }
        } else {
            let piece = libc::iovec {
                iov_base: data,
                iov_len: len,
            };
            // SAFETY: one iovec over the buffer.
            unsafe { libc::preadv2(fd.as_raw_fd(), &raw const piece, 1, position, flags.bits()) }
        }
    };
    retry(call).map(|count| count as usize)
}

/// `pwritev2(2)`: bytes written, may be fewer than given.
///
/// # Errors
/// `ENOSPC`, `EDQUOT`, `EFBIG`, `EIO`, …
pub fn write_at(fd: BorrowedFd<'_>, data: &[u8], position: u64, flags: IoFlags) -> Result<usize, Errno> {
    let position = offset(position)?;
    let call = || {
        if flags.is_empty() {
            // SAFETY: the host reads at most `data.len()` bytes of the slice.
            unsafe { libc::pwrite64(fd.as_raw_fd(), data.as_ptr().cast(), data.len(), position) }
        } else {
            pwritev2(fd, data, position, flags.bits())
        }
    };
    retry(call).map(|count| count as usize)
}

/// Writes at the end of the file, wherever it is, in one step (`RWF_APPEND`); returns the count and the position behind the data.
///
/// The descriptor's own position is used to learn where the data went: the caller lets nobody else append or [`seek_hole`] on the same
/// descriptor meanwhile.
///
/// # Errors
/// As [`write_at`].
pub fn append(fd: BorrowedFd<'_>, data: &[u8], flags: IoFlags) -> Result<(usize, u64), Errno> {
    match retry(|| pwritev2(fd, data, -1, flags.bits() | libc::RWF_APPEND)) {
        Ok(count) => Ok((count as usize, seek(fd, 0, libc::SEEK_CUR)?)),
        // Files without the newer calls (procfs and the like).
        Err(Errno::EOPNOTSUPP) => {
            let end = seek(fd, 0, libc::SEEK_END)?;
            let count = write_at(fd, data, end, IoFlags::empty())?;
            Ok((count, end + count as u64))
        }
        Err(error) => Err(error),
    }
}

fn pwritev2(fd: BorrowedFd<'_>, data: &[u8], position: i64, flags: i32) -> isize {
    let piece = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    // SAFETY: one iovec over the slice, which the host only reads.
    unsafe { libc::pwritev2(fd.as_raw_fd(), &raw const piece, 1, position, flags) }
}

fn seek(fd: BorrowedFd<'_>, position: i64, whence: i32) -> Result<u64, Errno> {
    // SAFETY: numbers only.
    check(unsafe { libc::lseek64(fd.as_raw_fd(), position, whence) }).map(|position| position as u64)
}

/// `SEEK_HOLE`. `ENXIO` past the end.
///
/// # Errors
/// The host's.
pub fn seek_hole(fd: BorrowedFd<'_>, position: u64) -> Result<u64, Errno> {
    seek(fd, offset(position)?, libc::SEEK_HOLE)
}

/// `SEEK_DATA`. `ENXIO` when no data comes any more.
///
/// # Errors
/// The host's.
pub fn seek_data(fd: BorrowedFd<'_>, position: u64) -> Result<u64, Errno> {
    seek(fd, offset(position)?, libc::SEEK_DATA)
}

/// `ftruncate(2)`.
///
/// # Errors
/// `EFBIG`, `EPERM`, `EINVAL` for a descriptor that cannot write.
pub fn truncate(fd: BorrowedFd<'_>, size: u64) -> Result<(), Errno> {
    let size = i64::try_from(size).map_err(|_| Errno::EFBIG)?;
    // SAFETY: numbers only.
    retry(|| unsafe { libc::ftruncate64(fd.as_raw_fd(), size) }).map(drop)
}

/// `fallocate(2)` with the host's mode bits, which are the guest's.
///
/// # Errors
/// `EOPNOTSUPP`, `ENOSPC`, `EINVAL`, …
pub fn fallocate(fd: BorrowedFd<'_>, mode: u32, position: u64, len: u64) -> Result<(), Errno> {
    let (start, len) = (offset(position)?, i64::try_from(len).map_err(|_| Errno::EFBIG)?);
    // SAFETY: numbers only.
    retry(|| unsafe { libc::fallocate64(fd.as_raw_fd(), mode as i32, start, len) }).map(drop)
}

/// `fsync(2)`. May take long: call it through [`crate::pool`].
///
/// # Errors
/// `EIO`, `ENOSPC`, `EDQUOT`; `EINVAL` for files that cannot be synchronized.
pub fn sync(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: a number only.
    retry(|| unsafe { libc::fsync(fd.as_raw_fd()) }).map(drop)
}

/// `fdatasync(2)`, as [`sync`].
///
/// # Errors
/// As there.
pub fn sync_data(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: a number only.
    retry(|| unsafe { libc::fdatasync(fd.as_raw_fd()) }).map(drop)
}

/// `syncfs(2)`: everything of the file system `fd` lies on. May take long.
///
/// # Errors
/// `EIO`, `ENOSPC`.
pub fn sync_fs(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: a number only.
    retry(|| unsafe { libc::syncfs(fd.as_raw_fd()) }).map(drop)
}

/// `copy_file_range(2)`: bytes copied inside the host, 0 at the end of the source.
///
/// # Errors
/// `EXDEV`, `EOPNOTSUPP`, `EINVAL` for overlapping ranges of one file, …
pub fn copy_range(
    from: BorrowedFd<'_>,
    from_position: u64,
    to: BorrowedFd<'_>,
    to_position: u64,
    len: usize,
) -> Result<usize, Errno> {
    let (mut start, mut target) = (offset(from_position)?, offset(to_position)?);
    let (from, to) = (from.as_raw_fd(), to.as_raw_fd());
    // SAFETY: both offsets are our own words.
    retry(|| unsafe { libc::copy_file_range(from, &raw mut start, to, &raw mut target, len, 0) }).map(|n| n as usize)
}

/// Closes a duplicate: a network file system reports failed writes there (`close(2)`).
///
/// # Errors
/// `EIO`, `ENOSPC`, `EDQUOT`.
pub fn flush(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: the duplicate is ours and closed exactly once, here.
    unsafe {
        let copy = retry(|| libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0))?;
        check(libc::close(copy)).map(drop)
    }
}
