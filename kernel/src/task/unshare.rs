//! `unshare(2)` and `setns(2)`: descriptors and directories of one's own; there are no namespaces.

use super::clone::{CloneFlags, NAMESPACES};
use crate::syscall::Context;
use crate::vfs::fd_table::Fd;
use crate::{Errno, Result};

/// `unshare(2)`. `EINVAL` for namespaces, and for a thread that wants memory or handlers of its own.
pub fn sys_unshare(cx: &Context, flags: u64) -> Result<usize> {
    let flags = CloneFlags::from_bits_retain(flags);
    let shared_by_threads = CloneFlags::THREAD | CloneFlags::SIGHAND | CloneFlags::VM;
    let known = shared_by_threads | NAMESPACES | CloneFlags::FS | CloneFlags::FILES | CloneFlags::SYSVSEM;
    if !known.contains(flags) {
        return Err(Errno::EINVAL);
    }
    if flags.intersects(NAMESPACES) {
        arch_um::stub!("namespaces");
        return Err(Errno::EINVAL);
    }
    let task = cx.task();
    if flags.intersects(shared_by_threads) && task.process().thread_count() > 1 {
        return Err(Errno::EINVAL);
    }
    if flags.contains(CloneFlags::FS) {
        drop(task.set_fs(task.fs().fork()));
    }
    if flags.contains(CloneFlags::FILES) {
        drop(task.set_files(task.files().fork()));
    }
    Ok(0)
}

/// `setns(2)`: no descriptor is a namespace.
pub fn sys_setns(cx: &Context, fd: Fd) -> Result<usize> {
    cx.files().get(fd)?;
    arch_um::stub!("namespaces");
    Err(Errno::EINVAL)
}
