//! POSIX timers: `timer_create(2)` and its relatives.
//!
//! A timer has at most one signal in a queue. Expirations that come while it is there are counted; the count goes out with the signal when it
//! is delivered ([`signal_delivered`]) and is what `timer_getoverrun` then reports.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};

use arch_um::sync::{SpinLock, order};

use super::clock::Clock;
use super::clock_timer::{ClockTimer, OnEvent, Start, TimerEvent};
use super::cpu_timer::CpuTimer;
use super::layout::{ItimerspecAbi, TimespecAbi};
use super::{ProcessTimers, sleep::TIMER_ABSTIME};
use crate::abi_struct;
use crate::signal::info::SigDetail;
use crate::signal::send::{self, Sent, TimerTarget};
use crate::signal::{SigInfo, Signal};
use crate::syscall::Context;
use crate::task::{Pid, Process, Task, table};
use crate::user::UserPtr;
use crate::{Errno, Result};

abi_struct! {
    /// `struct sigevent`.
    pub struct SigeventAbi {
        /// `sigval`.
        pub value: u64,
        /// Signal number.
        pub signo: i32,
        /// `SIGEV_*`.
        pub notify: i32,
        /// Thread for `SIGEV_THREAD_ID`.
        pub tid: i32,
        /// Unused.
        pub pad: [u32; 11],
    }
}

const SIGEV_SIGNAL: i32 = 0;
const SIGEV_NONE: i32 = 1;
const SIGEV_THREAD: i32 = 2;
const SIGEV_THREAD_ID: i32 = 4;
/// `si_code` of a timer's signal.
const SI_TIMER: i32 = -2;
/// Highest overrun count that is reported (`DELAYTIMER_MAX`).
const DELAYTIMER_MAX: u64 = i32::MAX as u64;
/// Timers a process may have; Linux counts them against `RLIMIT_SIGPENDING`.
const MAX_TIMERS: usize = 32768;

/// Who is told of an expiration.
#[derive(Clone)]
enum Notify {
    Nobody,
    Process(Signal),
    Thread(Signal, Weak<Task>),
}

/// One timer of a process.
pub struct PosixTimer {
    id: i32,
    clock: Clock,
    notify: Notify,
    value: u64,
    engine: spin::Once<Engine>,
    overrun: SpinLock<Overrun>,
}

/// What drives it.
enum Engine {
    Wall(ClockTimer),
    Cpu(CpuTimer),
}

/// Expirations beyond the one a signal stands for.
#[derive(Debug, Default)]
struct Overrun {
    /// Expirations since the signal in the queue was sent, not counting its own.
    since: u64,
    /// What went out with the last delivered signal.
    last: i32,
}

impl Overrun {
    /// `count` expirations met a queue: they stand behind a new signal, or behind the one that is there.
    fn expired(&mut self, count: u64, sent: Sent) {
        match sent {
            Sent::Queued => self.since = count.saturating_sub(1),
            Sent::Merged => self.since = self.since.saturating_add(count),
            Sent::Dropped => {}
        }
    }

    /// The signal is being delivered: the count that goes with it.
    fn delivered(&mut self) -> i32 {
        self.last = core::mem::take(&mut self.since).min(DELAYTIMER_MAX) as i32;
        self.last
    }
}

impl PosixTimer {
    fn set(&self, start: Start, value: u64, interval: u64) -> (u64, u64) {
        match self.engine.get() {
            Some(Engine::Wall(timer)) => timer.set(start, value, interval),
            Some(Engine::Cpu(timer)) => timer.set(start, value, interval),
            None => (0, 0),
        }
    }

    fn get(&self) -> (u64, u64) {
        match self.engine.get() {
            Some(Engine::Wall(timer)) => timer.get(),
            Some(Engine::Cpu(timer)) => timer.get(),
            None => (0, 0),
        }
    }

    /// Stops it: whoever still holds it hears no more of it.
    pub fn disarm(&self) {
        self.set(Start::Relative, 0, 0);
    }

    fn expired(&self, owner: &Arc<Process>, count: u64) {
        let info = |signal| SigInfo {
            signal,
            code: SI_TIMER,
            errno: 0,
            detail: SigDetail::Timer {
                id: self.id,
                overrun: 0,
                value: self.value,
            },
        };
        let sent = match &self.notify {
            Notify::Nobody => return,
            Notify::Process(signal) => send::timer(TimerTarget::Process(owner), info(*signal)),
            Notify::Thread(signal, task) => match task.upgrade() {
                Some(task) => send::timer(TimerTarget::Task(&task), info(*signal)),
                None => return,
            },
        };
        self.overrun.lock().expired(count, sent);
    }

    /// A line group of `/proc/PID/timers`.
    pub fn describe(&self, owner: Pid) -> alloc::string::String {
        let (signal, how, tid) = match &self.notify {
            Notify::Nobody => (0, "none/pid", owner),
            Notify::Process(signal) => (signal.number(), "signal/pid", owner),
            Notify::Thread(signal, task) => (
                signal.number(),
                "signal/tid",
                task.upgrade().map_or(Pid(0), |task| task.tid()),
            ),
        };
        let clock = match self.clock {
            Clock::Real(_) => 0,
            Clock::Monotonic(_) => 1,
            Clock::Raw => 4,
            Clock::Boot(_) => 7,
            Clock::Tai => 11,
            Clock::Cpu(clock) if clock == super::cpu_clock::CpuClock::OWN_PROCESS => 2,
            Clock::Cpu(clock) if clock == super::cpu_clock::CpuClock::OWN_THREAD => 3,
            Clock::Cpu(_) => -6,
        };
        alloc::format!(
            "ID: {}\nsignal: {}/{:016x}\nnotify: {}.{}\nClockID: {}\n",
            self.id,
            signal,
            self.value,
            how,
            tid.0,
            clock
        )
    }
}

/// The signal of timer `id` of `process` leaves its queue: the overrun count that goes into its `si_overrun`.
pub fn signal_delivered(process: &Arc<Process>, id: i32) -> i32 {
    let timer = ProcessTimers::existing(process).and_then(|timers| timers.posix.lock().get(&id).cloned());
    timer.map_or(0, |timer| timer.overrun.lock().delivered())
}

/// Timer `id` of the caller. `EINVAL` when there is none.
fn find(cx: &Context, id: i32) -> Result<Arc<PosixTimer>> {
    let timers = ProcessTimers::existing(cx.task().process()).ok_or(Errno::EINVAL)?;
    let found = timers.posix.lock().get(&id).cloned();
    found.ok_or(Errno::EINVAL)
}

/// Who is told, as `event` says. `EINVAL` for a bad signal, kind, or a thread of another process.
fn notify_of(cx: &Context, event: &SigeventAbi) -> Result<Notify> {
    let signal = || Signal::new(event.signo).ok_or(Errno::EINVAL);
    match event.notify {
        SIGEV_NONE => Ok(Notify::Nobody),
        SIGEV_SIGNAL | SIGEV_THREAD => Ok(Notify::Process(signal()?)),
        SIGEV_THREAD_ID => {
            let task = table::task(Pid(event.tid)).ok_or(Errno::EINVAL)?;
            if !Arc::ptr_eq(task.process(), cx.task().process()) {
                return Err(Errno::EINVAL);
            }
            Ok(Notify::Thread(signal()?, Arc::downgrade(&task)))
        }
        _ => Err(Errno::EINVAL),
    }
}

/// The lowest id at or behind the place where the last search ended, as ids should not be reused at once.
fn free_id(timers: &BTreeMap<i32, Arc<PosixTimer>>) -> i32 {
    match timers.last_key_value() {
        Some((&last, _)) if last < i32::MAX => last + 1,
        None => 0,
        Some(_) => (0..).find(|id| !timers.contains_key(id)).unwrap_or(0),
    }
}

/// `timer_create(2)`. Without an event the timer sends `SIGALRM` with its id as value.
pub fn sys_timer_create(cx: &Context, clock: i32, event: UserPtr<SigeventAbi>, out: UserPtr<i32>) -> Result<usize> {
    let clock = Clock::from_id(clock)?;
    clock.require_timers(cx)?;
    let target = match clock {
        Clock::Cpu(cpu) => Some((cpu.target(cx)?, cpu.kind)),
        _ => None,
    };
    let event = event.non_null().map(UserPtr::read).transpose()?;
    let notify = match &event {
        Some(event) => notify_of(cx, event)?,
        None => Notify::Process(Signal::ALRM),
    };
    let process = cx.task().process();
    let timers = ProcessTimers::of(process);
    let timer = {
        let mut all = timers.posix.lock();
        if all.len() >= MAX_TIMERS {
            return Err(Errno::EAGAIN);
        }
        let id = free_id(&all);
        let value = event.map_or(id as u64, |event| event.value);
        let overrun = SpinLock::new(&order::TIMER, Overrun::default());
        let timer = Arc::new(PosixTimer {
            id,
            clock,
            notify,
            value,
            engine: spin::Once::new(),
            overrun,
        });
        all.insert(id, timer.clone());
        timer
    };
    timer.engine.call_once(|| {
        let on_event = report(Arc::downgrade(&timer), Arc::downgrade(process));
        match target {
            Some((target, kind)) => Engine::Cpu(CpuTimer::new(target, kind, on_event)),
            None => Engine::Wall(ClockTimer::new(clock, on_event)),
        }
    });
    if let Err(fault) = out.write(&timer.id) {
        let dead = timers.posix.lock().remove(&timer.id);
        drop(dead);
        return Err(fault);
    }
    Ok(0)
}

fn report(timer: Weak<PosixTimer>, owner: Weak<Process>) -> OnEvent {
    Box::new(move |event| {
        if let (TimerEvent::Expired(count), Some(timer), Some(owner)) = (event, timer.upgrade(), owner.upgrade()) {
            timer.expired(&owner, count);
        }
    })
}

fn to_abi((value, interval): (u64, u64)) -> ItimerspecAbi {
    ItimerspecAbi {
        interval: TimespecAbi::from_nanos(interval),
        value: TimespecAbi::from_nanos(value),
    }
}

/// `timer_settime(2)`.
pub fn sys_timer_settime(
    cx: &Context,
    id: i32,
    flags: i32,
    new: UserPtr<ItimerspecAbi>,
    old: UserPtr<ItimerspecAbi>,
) -> Result<usize> {
    let new = new.non_null().ok_or(Errno::EINVAL)?.read()?;
    let (value, interval) = (new.value.to_nanos()?, new.interval.to_nanos()?);
    let timer = find(cx, id)?;
    let start = if flags & TIMER_ABSTIME != 0 {
        Start::Absolute
    } else {
        Start::Relative
    };
    let former = timer.set(start, value, interval);
    timer.overrun.lock().since = 0;
    if let Some(old) = old.non_null() {
        old.write(&to_abi(former))?;
    }
    Ok(0)
}

/// `timer_gettime(2)`.
pub fn sys_timer_gettime(cx: &Context, id: i32, out: UserPtr<ItimerspecAbi>) -> Result<usize> {
    out.write(&to_abi(find(cx, id)?.get()))?;
    Ok(0)
}

/// `timer_getoverrun(2)`: of the last delivered signal.
pub fn sys_timer_getoverrun(cx: &Context, id: i32) -> Result<usize> {
    let timer = find(cx, id)?;
    let last = timer.overrun.lock().last;
    Ok(last as usize)
}

/// `timer_delete(2)`.
pub fn sys_timer_delete(cx: &Context, id: i32) -> Result<usize> {
    let timers = ProcessTimers::existing(cx.task().process()).ok_or(Errno::EINVAL)?;
    let dead = timers.posix.lock().remove(&id).ok_or(Errno::EINVAL)?;
    dead.disarm();
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::{Overrun, Sent};

    #[test]
    fn one_signal_stands_for_all_expirations_until_it_is_delivered() {
        let mut overrun = Overrun::default();
        overrun.expired(1, Sent::Queued);
        overrun.expired(3, Sent::Merged);
        overrun.expired(1, Sent::Merged);
        overrun.expired(9, Sent::Dropped);
        assert_eq!(overrun.delivered(), 4);
        overrun.expired(2, Sent::Queued);
        assert_eq!(overrun.delivered(), 1);
        assert_eq!(overrun.last, 1);
    }
}
