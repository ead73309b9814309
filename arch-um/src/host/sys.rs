//! From C results to `Result`.

use crate::errno::Errno;
use std::ffi::CString;
use std::os::fd::{FromRawFd, OwnedFd};

/// `errno` of this host thread.
pub(crate) fn last_errno() -> Errno {
    std::io::Error::last_os_error().into_errno()
}

/// What the host says as an [`Errno`].
pub(crate) trait IntoErrno {
    fn into_errno(self) -> Errno;
}

impl IntoErrno for std::io::Error {
    fn into_errno(self) -> Errno {
        // An error without a number is the library's own: a short write.
        self.raw_os_error().map_or(Errno::EIO, Errno::from_host)
    }
}

/// Results that say "error" by -1.
pub(crate) trait MinusOne: Copy {
    fn is_minus_one(self) -> bool;
}

impl MinusOne for i32 {
    fn is_minus_one(self) -> bool {
        self == -1
    }
}

impl MinusOne for i64 {
    fn is_minus_one(self) -> bool {
        self == -1
    }
}

impl MinusOne for isize {
    fn is_minus_one(self) -> bool {
        self == -1
    }
}

/// The result or `errno`.
pub(crate) fn check<T: MinusOne>(result: T) -> Result<T, Errno> {
    if result.is_minus_one() {
        Err(last_errno())
    } else {
        Ok(result)
    }
}

/// Calls until it is not interrupted.
pub(crate) fn retry<T: MinusOne>(mut call: impl FnMut() -> T) -> Result<T, Errno> {
    loop {
        match check(call()) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
}

/// Owns the new descriptor that a call returned.
pub(crate) fn owned(result: i32) -> Result<OwnedFd, Errno> {
    let fd = check(result)?;
    // SAFETY: the host has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Like [`owned`], repeated while interrupted.
pub(crate) fn retry_owned(call: impl FnMut() -> i32) -> Result<OwnedFd, Errno> {
    let fd = retry(call)?;
    // SAFETY: the host has just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A string for the host. `EINVAL` if it has a zero byte.
pub(crate) fn cstring(bytes: &[u8]) -> Result<CString, Errno> {
    CString::new(bytes).map_err(|_| Errno::EINVAL)
}

/// Writes everything, waiting where the descriptor does not block.
pub(crate) fn write_all_raw(fd: i32, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        // SAFETY: the slice is valid; a bad descriptor is an error.
        match retry(|| unsafe { libc::write(fd, bytes.as_ptr().cast(), bytes.len()) }) {
            Ok(n) => bytes = &bytes[n as usize..],
            Err(Errno::EAGAIN) => {
                let mut poll = libc::pollfd {
                    fd,
                    events: libc::POLLOUT,
                    revents: 0,
                };
                // SAFETY: one valid entry.
                retry(|| unsafe { libc::poll(&mut poll, 1, -1) })?;
            }
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
