//! `close(2)`, `close_range(2)`, `dup(2)` and its relatives.

use crate::syscall::Context;
use crate::vfs::fd_table::{CloseOnExec, Fd};
use crate::vfs::file::OpenFlags;
use crate::vfs::limits;
use crate::{Errno, Result};

/// `close(2)`. An interrupted flush is `EINTR`, never restarted: the descriptor is gone.
pub fn sys_close(cx: &Context, fd: Fd) -> Result<usize> {
    cx.files().close(fd).map_err(Errno::no_restart)?;
    Ok(0)
}

/// `dup(2)`.
pub fn sys_dup(cx: &Context, fd: Fd) -> Result<usize> {
    let files = cx.files();
    let new = files.install(files.get_any(fd)?, CloseOnExec::No)?;
    Ok(new.0 as usize)
}

/// `dup2(2)`.
pub fn sys_dup2(cx: &Context, old: Fd, new: Fd) -> Result<usize> {
    let files = cx.files();
    let file = files.get_any(old)?;
    if old != new {
        files.replace(new, file, CloseOnExec::No)?;
    }
    Ok(new.0 as usize)
}

/// `dup3(2)`.
pub fn sys_dup3(cx: &Context, old: Fd, new: Fd, flags: u32) -> Result<usize> {
    if flags & !OpenFlags::CLOEXEC.bits() != 0 || old == new {
        return Err(Errno::EINVAL);
    }
    let files = cx.files();
    files.replace(
        new,
        files.get_any(old)?,
        CloseOnExec::from(OpenFlags::from_bits_retain(flags)),
    )?;
    Ok(new.0 as usize)
}

const CLOSE_RANGE_UNSHARE: u32 = 2;
const CLOSE_RANGE_CLOEXEC: u32 = 4;

/// `close_range(2)`.
pub fn sys_close_range(cx: &Context, first: u32, last: u32, flags: u32) -> Result<usize> {
    if flags & !(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    if flags & CLOSE_RANGE_UNSHARE != 0 {
        limits::unshare_files(cx);
    }
    if flags & CLOSE_RANGE_CLOEXEC != 0 {
        cx.files().mark_range(first, last);
    } else {
        cx.files().close_range(first, last);
    }
    Ok(0)
}
