//! Sleeping for a time or until a moment: `nanosleep(2)`, `clock_nanosleep(2)`.
//!
//! A relative sleep that a signal ends writes what is left and is continued by `restart_syscall(2)` until the same moment; an absolute one is
//! simply called again.

use alloc::boxed::Box;
use alloc::sync::Arc;

use arch_um::sync::{Interruptible, WaitError, WaitQueue};

use super::NSEC_PER_SEC;
use super::clock::{self, Clock, Flavour};
use super::clock_timer::{Start, TimerEvent};
use super::cpu_clock::Scope;
use super::cpu_timer::CpuTimer;
use super::layout::TimespecAbi;
use crate::syscall::Context;
use crate::user::UserPtr;
use crate::{Errno, Result};

/// `TIMER_ABSTIME`.
pub const TIMER_ABSTIME: i32 = 1;
const CLOCK_THREAD_CPUTIME_ID: i32 = 3;

/// `nanosleep(2)`. On the monotonic clock, as on Linux.
pub fn sys_nanosleep(cx: &Context, time: UserPtr<TimespecAbi>, left: UserPtr<TimespecAbi>) -> Result<usize> {
    let time = time.read()?.to_nanos()?;
    relative(cx, clock::monotonic().saturating_add(time), left)
}

/// `clock_nanosleep(2)`. `EOPNOTSUPP` for a clock that nobody can sleep on, `CLOCK_THREAD_CPUTIME_ID` among them.
pub fn sys_clock_nanosleep(
    cx: &Context,
    id: i32,
    flags: i32,
    time: UserPtr<TimespecAbi>,
    left: UserPtr<TimespecAbi>,
) -> Result<usize> {
    let clock = Clock::from_id(id)?;
    clock.require_timers(cx)?;
    if id == CLOCK_THREAD_CPUTIME_ID {
        return Err(Errno::EOPNOTSUPP);
    }
    let time = time.read()?.to_nanos()?;
    let start = if flags & TIMER_ABSTIME != 0 {
        Start::Absolute
    } else {
        Start::Relative
    };
    match (clock, start) {
        (Clock::Cpu(_), _) => on_cpu_time(cx, clock, start, time, left),
        (_, Start::Relative) => relative(cx, clock::monotonic().saturating_add(time), left),
        (Clock::Real(Flavour::Plain | Flavour::Alarm) | Clock::Tai, Start::Absolute) => {
            until_wall_clock(cx, clock, time)
        }
        (_, Start::Absolute) => until(time).map_err(|_| Errno::RestartNoHand),
    }
}

/// Sleeps until `CLOCK_MONOTONIC` reads `deadline`.
fn until(deadline: u64) -> Result<usize, WaitError> {
    let queue = WaitQueue::new();
    match queue.wait_until(Interruptible::Yes, Some(clock::instant_of_monotonic(deadline)), || {
        None::<()>
    }) {
        Err(WaitError::Interrupted) => Err(WaitError::Interrupted),
        _ => Ok(0),
    }
}

/// Sleeps until `deadline`; interrupted, leaves word how to go on.
fn relative(cx: &Context, deadline: u64, left: UserPtr<TimespecAbi>) -> Result<usize> {
    if until(deadline).is_ok() {
        return Ok(0);
    }
    let rest = deadline.saturating_sub(clock::monotonic());
    if rest == 0 {
        return Ok(0);
    }
    if let Some(left) = left.non_null() {
        left.write(&TimespecAbi::from_nanos(rest))?;
    }
    cx.task().set_restart(Box::new(move |cx| relative(cx, deadline, left)));
    Err(Errno::RestartBlock)
}

/// Sleeps until the wall clock reads `time` (ns), however often it is set meanwhile.
fn until_wall_clock(cx: &Context, clock: Clock, time: u64) -> Result<usize> {
    loop {
        let sets = clock::clock_sets();
        let now = u64::try_from(clock.read(cx)?).unwrap_or(0);
        let Some(left) = time.checked_sub(now).filter(|&left| left > 0) else {
            return Ok(0);
        };
        let deadline = clock::instant_of_monotonic(clock::monotonic().saturating_add(left));
        let jumped = || (clock::clock_sets() != sets).then_some(());
        match clock::clock_set_queue().wait_until(Interruptible::Yes, Some(deadline), jumped) {
            Err(WaitError::Interrupted) => return Err(Errno::RestartNoHand),
            // Looks at the clock again in both cases: it may run slower than the machine's.
            Ok(()) | Err(WaitError::TimedOut) => {}
        }
    }
}

/// Sleeps until a process has used CPU time. `EINVAL` for the caller's own thread: it would sleep forever.
fn on_cpu_time(cx: &Context, clock: Clock, start: Start, time: u64, left: UserPtr<TimespecAbi>) -> Result<usize> {
    let Clock::Cpu(cpu) = clock else {
        return Err(Errno::EINVAL);
    };
    if cpu.scope == Scope::Thread && (cpu.pid.0 == 0 || cpu.pid == cx.task().tid()) {
        return Err(Errno::EINVAL);
    }
    let target = cpu.target(cx)?;
    let now = target.read(cpu.kind).ok_or(Errno::EINVAL)?;
    let deadline = match start {
        Start::Absolute => time,
        Start::Relative => now.saturating_add(time),
    };
    if deadline <= now {
        return Ok(0);
    }
    let queue = Arc::new(WaitQueue::new());
    let waker = queue.clone();
    let timer = CpuTimer::new(
        target.clone(),
        cpu.kind,
        Box::new(move |event| {
            if matches!(event, TimerEvent::Expired(_)) {
                waker.wake_all();
            }
        }),
    );
    timer.set(Start::Absolute, deadline, 0);
    // The owner may die: its time then stands still, and nothing but a signal ends the wait, unless somebody looks.
    let done = || (target.read(cpu.kind).is_none_or(|now| now >= deadline)).then_some(());
    let rest = loop {
        let look = clock::instant_of_monotonic(clock::monotonic().saturating_add(NSEC_PER_SEC));
        match queue.wait_until(Interruptible::Yes, Some(look), done) {
            Ok(()) => return Ok(0),
            Err(WaitError::TimedOut) => {}
            Err(WaitError::Interrupted) => break deadline.saturating_sub(target.read(cpu.kind).unwrap_or(deadline)),
        }
    };
    if start == Start::Absolute {
        return Err(Errno::RestartNoHand);
    }
    if let Some(left) = left.non_null() {
        left.write(&TimespecAbi::from_nanos(rest))?;
    }
    cx.task().set_restart(Box::new(move |cx| {
        on_cpu_time(cx, clock, Start::Absolute, deadline, left)
    }));
    Err(Errno::RestartBlock)
}
