//! `rt_sigtimedwait(2)`: takes a signal without a handler.

use arch_um::sync::{Interruptible, WaitError, WaitQueue};
use arch_um::time::{Duration, Instant};

use super::deliver;
use super::info::{SigInfo, SigSet};
use super::mask::read_set;
use crate::syscall::Context;
use crate::task::Task;
use crate::user::{UserAddr, UserPtr};
use crate::{Errno, Result};

/// `rt_sigtimedwait(2)`. `EAGAIN` when the time is over, `EINTR` for a signal outside of the set, `EINVAL` for a strange time.
pub fn sys_rt_sigtimedwait(
    cx: &Context,
    set: UserPtr<u64>,
    info: UserAddr,
    timeout: UserPtr<[i64; 2]>,
    size: usize,
) -> Result<usize> {
    let set = read_set(set, size)?.minus(SigSet::UNBLOCKABLE);
    let timeout = timeout
        .non_null()
        .map(UserPtr::read)
        .transpose()?
        .map(duration)
        .transpose()?;
    let taken = wait(cx.task(), set, timeout)?;
    if !info.is_null() {
        info.write(&taken.to_siginfo())?;
    }
    Ok(taken.signal.number() as usize)
}

fn duration([seconds, nanos]: [i64; 2]) -> Result<Duration> {
    let nanos = u32::try_from(nanos)
        .ok()
        .filter(|&nanos| nanos < 1_000_000_000)
        .ok_or(Errno::EINVAL)?;
    let seconds = u64::try_from(seconds).map_err(|_| Errno::EINVAL)?;
    Ok(Duration::new(seconds, nanos))
}

fn wait(task: &Task, set: SigSet, timeout: Option<Duration>) -> Result<SigInfo> {
    if let Some(info) = deliver::dequeue(task, set) {
        return Ok(info);
    }
    if timeout == Some(Duration::ZERO) {
        return Err(Errno::EAGAIN);
    }
    let deadline = timeout.map(|timeout| Instant::now().saturating_add(timeout));
    // Awaited signals are unblocked while we sleep, so that they wake us; nobody else's delivery sees this mask.
    let old = {
        let mut own = task.signals.lock();
        own.awaited = set.intersect(own.blocked);
        own.blocked
    };
    task.set_blocked(old.minus(set));
    let nobody = WaitQueue::new();
    let woken = nobody.wait_until(Interruptible::Yes, deadline, || task.signal_pending().then_some(()));
    task.signals.lock().awaited = SigSet::EMPTY;
    task.set_blocked(old);
    match deliver::dequeue(task, set) {
        Some(info) => Ok(info),
        None if woken == Err(WaitError::TimedOut) => Err(Errno::EAGAIN),
        None => Err(Errno::EINTR),
    }
}
