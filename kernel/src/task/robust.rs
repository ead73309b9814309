//! Words in guest memory that live and die with a thread: `set_tid_address(2)` and the lists of robust futexes.

use crate::futex;
use crate::syscall::Context;
use crate::task::{Pid, table};
use crate::user::UserPtr;
use crate::{Errno, Result};

/// `sizeof(struct robust_list_head)`.
const HEAD_SIZE: usize = 24;

/// Wakes who waits for a thread's end on the futex at `addr`, in the current task's memory.
pub(super) fn wake_tid(addr: u64) {
    futex::wake_tid(addr);
}

/// Marks the robust futexes of the current task as left by a dead owner.
pub(super) fn exit_robust_list(task: &super::Task) {
    let (head, _) = task.with_attributes(|attributes| attributes.robust_list);
    futex::robust::exit(task, head);
}

/// `set_tid_address(2)`.
pub fn sys_set_tid_address(cx: &Context, addr: u64) -> Result<usize> {
    cx.task()
        .with_attributes(|attributes| attributes.clear_child_tid = addr);
    Ok(cx.task().tid().0 as usize)
}

/// `set_robust_list(2)`. `EINVAL` unless the length is that of the head.
pub fn sys_set_robust_list(cx: &Context, head: u64, len: usize) -> Result<usize> {
    if len != HEAD_SIZE {
        return Err(Errno::EINVAL);
    }
    cx.task()
        .with_attributes(|attributes| attributes.robust_list = (head, len));
    Ok(0)
}

/// `get_robust_list(2)`. `EPERM` for a thread that the caller may not look into.
pub fn sys_get_robust_list(cx: &Context, pid: Pid, head: UserPtr<u64>, len: UserPtr<u64>) -> Result<usize> {
    let task = match pid.0 {
        0 => cx.task().clone(),
        _ => table::task(pid).ok_or(Errno::ESRCH)?,
    };
    super::ptrace::may_access(cx.task(), &task)?;
    let (addr, _) = task.with_attributes(|attributes| attributes.robust_list);
    len.write(&(HEAD_SIZE as u64))?;
    head.write(&addr)?;
    Ok(0)
}
