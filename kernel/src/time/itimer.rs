//! Interval timers: `alarm(2)`, `getitimer(2)`, `setitimer(2)`.

use alloc::boxed::Box;
use alloc::sync::Weak;

use super::clock::{Clock, Flavour};
use super::clock_timer::{ClockTimer, OnEvent, Start, TimerEvent};
use super::cpu_clock::{CpuKind, CpuTarget};
use super::cpu_timer::CpuTimer;
use super::layout::{ItimervalAbi, TimevalAbi};
use super::{NSEC_PER_SEC, ProcessTimers};
use crate::signal::{SigInfo, Signal, send};
use crate::syscall::Context;
use crate::task::Process;
use crate::user::UserPtr;
use crate::{Errno, Result};

/// The three interval timers of a process.
pub struct IntervalTimers {
    real: ClockTimer,
    user: CpuTimer,
    prof: CpuTimer,
}

impl IntervalTimers {
    /// Disarmed timers that send their signals to `owner`.
    pub fn new(owner: Weak<Process>) -> Self {
        let target = CpuTarget::Process(owner.clone());
        Self {
            real: ClockTimer::new(Clock::Monotonic(Flavour::Plain), announce(owner.clone(), Signal::ALRM)),
            user: CpuTimer::new(target.clone(), CpuKind::Virt, announce(owner.clone(), Signal::VTALRM)),
            prof: CpuTimer::new(target, CpuKind::Prof, announce(owner, Signal::PROF)),
        }
    }

    /// Stops all three.
    pub fn disarm(&self) {
        for which in [Which::Real, Which::Virtual, Which::Prof] {
            self.set(which, 0, 0);
        }
    }

    fn set(&self, which: Which, value: u64, interval: u64) -> (u64, u64) {
        match which {
            Which::Real => self.real.set(Start::Relative, value, interval),
            Which::Virtual => self.user.set(Start::Relative, value, interval),
            Which::Prof => self.prof.set(Start::Relative, value, interval),
        }
    }

    fn get(&self, which: Which) -> (u64, u64) {
        match which {
            Which::Real => self.real.get(),
            Which::Virtual => self.user.get(),
            Which::Prof => self.prof.get(),
        }
    }

    /// Time to the next `SIGALRM` and the interval, ns (`/proc/PID/stat` has it as 0 since 2.6.17, `/proc/PID/timers` does not show it).
    pub fn real(&self) -> (u64, u64) {
        self.real.get()
    }
}

/// A callback that sends `signal` to `owner`.
fn announce(owner: Weak<Process>, signal: Signal) -> OnEvent {
    Box::new(move |event| {
        if let (TimerEvent::Expired(_), Some(process)) = (event, owner.upgrade()) {
            send::to_process(&process, SigInfo::kernel(signal));
        }
    })
}

/// `ITIMER_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Real,
    Virtual,
    Prof,
}

impl Which {
    fn from_number(number: i32) -> Result<Self> {
        match number {
            0 => Ok(Which::Real),
            1 => Ok(Which::Virtual),
            2 => Ok(Which::Prof),
            _ => Err(Errno::EINVAL),
        }
    }
}

fn to_abi((value, interval): (u64, u64)) -> ItimervalAbi {
    // An armed timer must not read as disarmed: what is left is at least a microsecond.
    let value = if value == 0 { 0 } else { value.max(1000) };
    ItimervalAbi {
        interval: TimevalAbi::from_nanos(interval),
        value: TimevalAbi::from_nanos(value),
    }
}

/// `getitimer(2)`.
pub fn sys_getitimer(cx: &Context, which: i32, out: UserPtr<ItimervalAbi>) -> Result<usize> {
    let which = Which::from_number(which)?;
    let left = ProcessTimers::existing(cx.task().process()).map_or((0, 0), |timers| timers.interval.get(which));
    out.write(&to_abi(left))?;
    Ok(0)
}

/// `setitimer(2)`. A null `new` disarms, as Linux has always done (POSIX leaves it open).
pub fn sys_setitimer(
    cx: &Context,
    which: i32,
    new: UserPtr<ItimervalAbi>,
    old: UserPtr<ItimervalAbi>,
) -> Result<usize> {
    let setting = new.non_null().map(UserPtr::read).transpose()?.unwrap_or_default();
    let (value, interval) = (setting.value.to_nanos()?, setting.interval.to_nanos()?);
    let which = Which::from_number(which)?;
    let former = ProcessTimers::of(cx.task().process())
        .interval
        .set(which, value, interval);
    if let Some(old) = old.non_null() {
        old.write(&to_abi(former))?;
    }
    Ok(0)
}

/// `alarm(2)`: seconds that were left, rounded to the nearest but never to 0 while an alarm was due.
pub fn sys_alarm(cx: &Context, seconds: u32) -> Result<usize> {
    let timers = ProcessTimers::of(cx.task().process());
    let (left, _) = timers.interval.set(Which::Real, u64::from(seconds) * NSEC_PER_SEC, 0);
    Ok(seconds_left(left) as usize)
}

fn seconds_left(ns: u64) -> u64 {
    let rounded = ns.saturating_add(NSEC_PER_SEC / 2) / NSEC_PER_SEC;
    if rounded == 0 && ns > 0 { 1 } else { rounded }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarm_rounds_what_was_left_but_never_to_nothing() {
        assert_eq!(seconds_left(0), 0);
        assert_eq!(seconds_left(1), 1);
        assert_eq!(seconds_left(1_400_000_000), 1);
        assert_eq!(seconds_left(1_500_000_000), 2);
    }

    #[test]
    fn an_armed_interval_timer_never_reads_as_disarmed() {
        assert_eq!(to_abi((1, 0)).value, TimevalAbi { sec: 0, usec: 1 });
        assert_eq!(to_abi((0, 5_000)).value, TimevalAbi::default());
    }
}
