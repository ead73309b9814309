//! Reading host directories: `getdents64(2)` into a buffer that is walked entry by entry.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::sys::retry;
use crate::errno::Errno;

/// One entry of a host directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostEntry<'a> {
    /// Its name; `.` and `..` are among them.
    pub name: &'a [u8],
    /// Inode number.
    pub ino: u64,
    /// `d_type`; 0 for unknown.
    pub kind: u8,
    /// The position behind it: good for [`seek_entries`] as long as the directory is open, on most file systems for ever.
    pub next: u64,
}

/// Fills `buffer` with entries from the descriptor's position on; returns the bytes filled, 0 at the end.
///
/// # Errors
/// `ENOTDIR`, `ENOENT` for a removed directory, `EINVAL` for a buffer too small for the next entry.
pub fn read_entries(dir: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    let (data, len) = (buffer.as_mut_ptr(), buffer.len());
    // SAFETY: the host writes at most `len` bytes into the buffer.
    retry(|| unsafe { libc::syscall(libc::SYS_getdents64, dir.as_raw_fd(), data, len) }).map(|count| count as usize)
}

/// Moves the descriptor to a former [`HostEntry::next`], or to the start (0).
///
/// # Errors
/// `EINVAL` for a number the host's file system never gave out.
pub fn seek_entries(dir: BorrowedFd<'_>, position: u64) -> Result<(), Errno> {
    // SAFETY: numbers only. Some file systems use all 64 bits of the position: the number goes through unchanged.
    let result = unsafe { libc::lseek(dir.as_raw_fd(), position as i64, libc::SEEK_SET) };
    if result == -1 {
        Err(super::sys::last_errno())
    } else {
        Ok(())
    }
}

/// The entry at the start of `bytes` (what [`read_entries`] filled in) and the bytes behind it; none at the end.
pub fn split_entry(bytes: &[u8]) -> Option<(HostEntry<'_>, &[u8])> {
    // struct linux_dirent64: u64 ino, i64 off, u16 length, u8 type, then the name with a NUL and padding.
    const NAME: usize = 19;
    let word = |at: usize| {
        bytes
            .get(at..at + 8)
            .and_then(|raw| raw.try_into().ok())
            .map(u64::from_ne_bytes)
    };
    let (ino, next) = (word(0)?, word(8)?);
    let length = usize::from(u16::from_ne_bytes([*bytes.get(16)?, *bytes.get(17)?]));
    let kind = *bytes.get(18)?;
    let name = bytes.get(NAME..length)?;
    let name = &name[..name.iter().position(|&byte| byte == 0).unwrap_or(name.len())];
    Some((HostEntry { name, ino, kind, next }, &bytes[length..]))
}
