//! The signal mask: `rt_sigprocmask(2)`, `rt_sigpending(2)`, `rt_sigsuspend(2)`, `pause(2)`, and temporary masks for `ppoll(2)` and its kin.

use arch_um::sync::{Interruptible, WaitQueue};

use super::info::SigSet;
use crate::syscall::Context;
use crate::task::Task;
use crate::user::{UserAddr, UserPtr};
use crate::{Errno, Result};

/// `sizeof(sigset_t)` of the kernel.
pub const SIGSET_SIZE: usize = 8;

/// Reads a guest's set. `EINVAL` for a wrong size, before the pointer is used.
pub fn read_set(set: UserPtr<u64>, size: usize) -> Result<SigSet> {
    if size != SIGSET_SIZE {
        return Err(Errno::EINVAL);
    }
    set.read().map(SigSet)
}

/// Runs `f` under another mask, if one is given (`ppoll`, `pselect`, `epoll_pwait`).
///
/// When `f` was interrupted, the old mask comes back only after the signal's handler has been set up, so that a signal which only the
/// temporary mask lets in is delivered.
pub fn with_mask<R>(task: &Task, mask: Option<SigSet>, f: impl FnOnce() -> Result<R>) -> Result<R> {
    let Some(mask) = mask else { return f() };
    let old = task.blocked();
    task.set_blocked(mask);
    let result = f();
    match result {
        Err(Errno::EINTR | Errno::RestartSys | Errno::RestartNoIntr | Errno::RestartNoHand | Errno::RestartBlock)
            if task.signal_pending() =>
        {
            task.signals.lock().saved = Some(old);
        }
        _ => task.set_blocked(old),
    }
    result
}

/// `rt_sigprocmask(2)`.
pub fn sys_rt_sigprocmask(cx: &Context, how: i32, set: UserPtr<u64>, old: UserPtr<u64>, size: usize) -> Result<usize> {
    if size != SIGSET_SIZE {
        return Err(Errno::EINVAL);
    }
    let task = cx.task();
    let before = task.blocked();
    if let Some(set) = set.non_null() {
        let set = SigSet(set.read()?).minus(SigSet::UNBLOCKABLE);
        let new = match how {
            0 => before.union(set),
            1 => before.minus(set),
            2 => set,
            _ => return Err(Errno::EINVAL),
        };
        if new != before {
            task.set_blocked(new);
        }
    }
    if let Some(old) = old.non_null() {
        old.write(&before.0)?;
    }
    Ok(0)
}

/// `rt_sigpending(2)`: what is pending and blocked. A smaller set is filled as far as it goes.
pub fn sys_rt_sigpending(cx: &Context, set: UserAddr, size: usize) -> Result<usize> {
    if size > SIGSET_SIZE {
        return Err(Errno::EINVAL);
    }
    let task = cx.task();
    let pending = task.pending().intersect(task.blocked());
    set.write(&pending.0.to_le_bytes()[..size])?;
    Ok(0)
}

/// `rt_sigsuspend(2)`.
pub fn sys_rt_sigsuspend(cx: &Context, set: UserPtr<u64>, size: usize) -> Result<usize> {
    let mask = read_set(set, size)?;
    let task = cx.task();
    let old = task.blocked();
    task.signals.lock().saved = Some(old);
    task.set_blocked(mask);
    sleep_for_signal(task)
}

/// `pause(2)`.
pub fn sys_pause(cx: &Context) -> Result<usize> {
    sleep_for_signal(cx.task())
}

/// Sleeps until a signal is pending; goes on sleeping if no handler ran for it.
fn sleep_for_signal(task: &Task) -> Result<usize> {
    let nobody = WaitQueue::new();
    let _ = nobody.wait_until(Interruptible::Yes, None, || task.signal_pending().then_some(()));
    Err(Errno::RestartNoHand)
}
