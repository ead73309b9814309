//! Which CPUs a task may run on: `sched_setaffinity(2)`, `sched_getaffinity(2)`.
//!
//! A guest's mask has any length; bits beyond the machine's CPUs are dropped going in. The kernel's mask is 8 bytes going out.

use alloc::sync::Arc;

use arch_um::cpu::CpuMask;

use super::sched;
use crate::syscall::Context;
use crate::task::{Pid, Task, table};
use crate::user::UserAddr;
use crate::{Errno, Result};

/// Bytes of the kernel's CPU mask (`MAX_CPUS` is 64).
const MASK_BYTES: usize = 8;

/// The CPUs of the machine as a mask.
pub fn possible() -> u64 {
    match arch_um::cpu::count() {
        count if count >= 64 => u64::MAX,
        count => (1 << count) - 1,
    }
}

/// The CPUs `task` may run on.
pub fn of(task: &Task) -> u64 {
    task.thread().map_or(u64::MAX, |thread| thread.affinity().0) & possible()
}

/// The task with this id, 0 for the caller. `ESRCH`.
pub(super) fn find(cx: &Context, pid: Pid) -> Result<Arc<Task>> {
    match pid {
        Pid(0) => Ok(cx.task().clone()),
        Pid(id) if id < 0 => Err(Errno::EINVAL),
        pid => table::task(pid).ok_or(Errno::ESRCH),
    }
}

/// As [`find`]; no task has a negative number (`ESRCH`).
fn find_any(cx: &Context, pid: Pid) -> Result<Arc<Task>> {
    if pid.0 < 0 { Err(Errno::ESRCH) } else { find(cx, pid) }
}

/// `sched_setaffinity(2)`.
pub fn sys_sched_setaffinity(cx: &Context, pid: Pid, len: u32, mask: UserAddr) -> Result<usize> {
    let mut bytes = [0; MASK_BYTES];
    let len = (len as usize).min(MASK_BYTES);
    mask.read(&mut bytes[..len])?;
    let task = find_any(cx, pid)?;
    sched::require_control(cx, &task)?;
    let wanted = u64::from_le_bytes(bytes) & possible();
    if wanted == 0 {
        return Err(Errno::EINVAL);
    }
    let thread = task.thread().ok_or(Errno::ESRCH)?;
    thread.set_affinity(CpuMask(wanted))?;
    Ok(0)
}

/// `sched_getaffinity(2)`: bytes written. `EINVAL` for a length that is too short for the CPUs or no multiple of 8.
pub fn sys_sched_getaffinity(cx: &Context, pid: Pid, len: u32, mask: UserAddr) -> Result<usize> {
    if (len as usize).saturating_mul(8) < arch_um::cpu::count() || !len.is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    let task = find_any(cx, pid)?;
    let count = (len as usize).min(MASK_BYTES);
    mask.write(&of(&task).to_le_bytes()[..count])?;
    Ok(count)
}
