//! Who am I: `getpid(2)`, `gettid(2)`, `getppid(2)`.

use super::table;
use crate::Result;
use crate::syscall::Context;

/// `getpid(2)`.
pub fn sys_getpid(cx: &Context) -> Result<usize> {
    Ok(cx.task().process().pid().0 as usize)
}

/// `gettid(2)`.
pub fn sys_gettid(cx: &Context) -> Result<usize> {
    Ok(cx.task().tid().0 as usize)
}

/// `getppid(2)`: 0 for init.
pub fn sys_getppid(cx: &Context) -> Result<usize> {
    Ok(cx.task().process().parent().0 as usize)
}

/// `sched_yield(2)`.
pub fn sys_sched_yield(_cx: &Context) -> Result<usize> {
    arch_um::thread::yield_now();
    Ok(0)
}

/// `rseq(2)`: configured out; libraries do without.
pub fn sys_rseq(_cx: &Context) -> Result<usize> {
    Err(crate::Errno::ENOSYS)
}

/// `kcmp(2)`: configured out.
pub fn sys_kcmp(_cx: &Context) -> Result<usize> {
    arch_um::stub!("kcmp");
    Err(crate::Errno::ENOSYS)
}

/// Tasks there are and tasks ever made, for `sysinfo(2)` and /proc.
pub fn counts() -> (usize, u64) {
    (table::task_count(), table::fork_count())
}
