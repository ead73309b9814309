//! Names as C strings without a heap allocation, and what a name may be.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use super::sys::retry_owned;
use crate::errno::Errno;

/// Longest text that fits the buffer on the stack.
const SHORT: usize = 256;

/// As [`retry_owned`], for calls made by number.
pub(super) fn retry_fd(mut call: impl FnMut() -> i64) -> Result<OwnedFd, Errno> {
    retry_owned(|| call() as i32)
}

/// Runs `f` with `text` as a C string.
///
/// # Errors
/// `EINVAL` for a NUL inside; what `f` says.
pub(super) fn with_cstr<R>(text: &[u8], f: impl FnOnce(&CStr) -> Result<R, Errno>) -> Result<R, Errno> {
    if text.len() < SHORT {
        let mut buffer = [0u8; SHORT];
        buffer[..text.len()].copy_from_slice(text);
        f(CStr::from_bytes_with_nul(&buffer[..=text.len()]).map_err(|_| Errno::EINVAL)?)
    } else {
        f(&super::sys::cstring(text)?)
    }
}

/// As [`with_cstr`] for one component of a path.
///
/// # Errors
/// `EINVAL` for `/` or NUL inside and for the empty name; `.` and `..` are refused with `EINVAL` too, so that no walk leaves its directory.
pub(super) fn with_name<R>(name: &[u8], f: impl FnOnce(&CStr) -> Result<R, Errno>) -> Result<R, Errno> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
        return Err(Errno::EINVAL);
    }
    with_cstr(name, f)
}
