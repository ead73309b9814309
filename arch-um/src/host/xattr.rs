//! Extended attributes of host files (`xattr(7)`), on any descriptor: the host refuses them on `O_PATH` ones, so these go through /proc, which
//! reaches symlinks themselves too.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::at::with_magic_path;
use super::name::with_cstr;
use super::sys::retry;
use crate::errno::Errno;

/// Largest value and largest list Linux allows.
const LIMIT: usize = 64 * 1024;

/// Runs a call that fills a buffer: asks for the size first, again when it grew in between.
fn gather(mut call: impl FnMut(*mut libc::c_void, usize) -> isize) -> Result<Vec<u8>, Errno> {
    let mut data = vec![0u8; 256];
    loop {
        match retry(|| call(data.as_mut_ptr().cast(), data.len())) {
            Ok(len) => {
                data.truncate(len as usize);
                return Ok(data);
            }
            Err(Errno::ERANGE) if data.len() < LIMIT => data.resize(LIMIT, 0),
            Err(error) => return Err(error),
        }
    }
}

/// `getxattr(2)`.
///
/// # Errors
/// `ENODATA` when absent, `EOPNOTSUPP`, `EPERM`.
pub fn get_xattr(fd: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>, Errno> {
    with_cstr(name, |name| {
        // SAFETY: `gather` hands a buffer of the length it says.
        match gather(|data, len| unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), data, len) }) {
            Err(Errno::EBADF) => with_magic_path(fd, |path| {
                // SAFETY: as above.
                gather(|data, len| unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), data, len) })
            }),
            result => result,
        }
    })
}

/// `setxattr(2)`; `flags` are `XATTR_CREATE` (1) and `XATTR_REPLACE` (2).
///
/// # Errors
/// `EEXIST`, `ENODATA`, `EOPNOTSUPP`, `EPERM`, `ENOSPC`, …
pub fn set_xattr(fd: BorrowedFd<'_>, name: &[u8], value: &[u8], flags: u32) -> Result<(), Errno> {
    let (data, len, flags) = (value.as_ptr().cast(), value.len(), flags as i32);
    with_cstr(name, |name| {
        // SAFETY: C strings and a slice with its own length.
        match retry(|| unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), data, len, flags) }) {
            Err(Errno::EBADF) => with_magic_path(fd, |path| {
                // SAFETY: as above.
                retry(|| unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), data, len, flags) }).map(drop)
            }),
            result => result.map(drop),
        }
    })
}

/// `listxattr(2)`: the names.
///
/// # Errors
/// `EOPNOTSUPP`.
pub fn list_xattr(fd: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    // SAFETY: `gather` hands a buffer of the length it says.
    let list = match gather(|data, len| unsafe { libc::flistxattr(fd.as_raw_fd(), data.cast(), len) }) {
        Err(Errno::EBADF) => with_magic_path(fd, |path| {
            // SAFETY: as above.
            gather(|data, len| unsafe { libc::listxattr(path.as_ptr(), data.cast(), len) })
        }),
        result => result,
    }?;
    Ok(list
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect())
}

/// `removexattr(2)`.
///
/// # Errors
/// `ENODATA`, `EOPNOTSUPP`, `EPERM`.
pub fn remove_xattr(fd: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    with_cstr(name, |name| {
        // SAFETY: a C string.
        match retry(|| unsafe { libc::fremovexattr(fd.as_raw_fd(), name.as_ptr()) }) {
            Err(Errno::EBADF) => with_magic_path(fd, |path| {
                // SAFETY: C strings.
                retry(|| unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) }).map(drop)
            }),
            result => result.map(drop),
        }
    })
}
