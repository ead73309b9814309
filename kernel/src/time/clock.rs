//! Which clocks there are, reading and setting them: `clock_gettime(2)`, `gettimeofday(2)`, `time(2)`.
//!
//! The guest never suspends, so `CLOCK_BOOTTIME` is `CLOCK_MONOTONIC`, and the coarse clocks read the exact ones: a file's time stamp is then
//! never ahead of a clock. Setting the wall clock changes the guest's offset to the host's clock, never the host.

use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use arch_um::sync::{SpinLock, WaitQueue, order};

use super::cpu_clock::CpuClock;
use super::layout::{TimespecAbi, TimevalAbi};
use super::{NSEC_PER_SEC, NSEC_PER_TICK};
use crate::abi_struct;
use crate::syscall::Context;
use crate::task::Capabilities;
use crate::user::UserPtr;
use crate::{Errno, Result};

/// A clock as `clockid_t` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// `CLOCK_REALTIME`, and its coarse and alarm forms.
    Real(Flavour),
    /// `CLOCK_MONOTONIC` and its coarse form.
    Monotonic(Flavour),
    /// `CLOCK_MONOTONIC_RAW`.
    Raw,
    /// `CLOCK_BOOTTIME` and its alarm form.
    Boot(Flavour),
    /// `CLOCK_TAI`.
    Tai,
    /// CPU time of a process or thread.
    Cpu(CpuClock),
}

/// Variants of a clock that differ in what may be done with them, not in what they read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// The clock itself.
    Plain,
    /// `*_COARSE`: for reading only.
    Coarse,
    /// `*_ALARM`: timers on it need `CAP_WAKE_ALARM`.
    Alarm,
}

impl Clock {
    /// The clock with this number. `EINVAL` for a number that names none; whether a process exists is found out at use.
    pub fn from_id(id: i32) -> Result<Clock> {
        Ok(match id {
            0 => Clock::Real(Flavour::Plain),
            1 => Clock::Monotonic(Flavour::Plain),
            2 => Clock::Cpu(CpuClock::OWN_PROCESS),
            3 => Clock::Cpu(CpuClock::OWN_THREAD),
            4 => Clock::Raw,
            5 => Clock::Real(Flavour::Coarse),
            6 => Clock::Monotonic(Flavour::Coarse),
            7 => Clock::Boot(Flavour::Plain),
            8 => Clock::Real(Flavour::Alarm),
            9 => Clock::Boot(Flavour::Alarm),
            11 => Clock::Tai,
            id if id < 0 => Clock::Cpu(CpuClock::from_id(id)?),
            _ => return Err(Errno::EINVAL),
        })
    }

    /// What it reads, ns. `EINVAL` for the CPU clock of a process that is not there.
    pub fn read(self, cx: &Context) -> Result<i64> {
        Ok(match self {
            Clock::Real(_) => realtime(),
            Clock::Monotonic(_) | Clock::Raw | Clock::Boot(_) => monotonic() as i64,
            Clock::Tai => realtime().saturating_add(i64::from(tai_offset()) * NSEC_PER_SEC as i64),
            Clock::Cpu(clock) => clock.read(cx)? as i64,
        })
    }

    /// Whether timers and sleeps may use it. `EOPNOTSUPP` for clocks that can only be read, `EPERM` for alarm clocks without the right.
    pub fn require_timers(self, cx: &Context) -> Result<()> {
        match self {
            Clock::Raw | Clock::Real(Flavour::Coarse) | Clock::Monotonic(Flavour::Coarse) => Err(Errno::EOPNOTSUPP),
            Clock::Real(Flavour::Alarm) | Clock::Boot(Flavour::Alarm) => {
                if cx.task().cred().capable(Capabilities::WAKE_ALARM) {
                    Ok(())
                } else {
                    Err(Errno::EPERM)
                }
            }
            _ => Ok(()),
        }
    }
}

/// Nanoseconds since boot: `CLOCK_MONOTONIC`.
pub fn monotonic() -> u64 {
    u64::try_from(arch_um::time::uptime().as_nanos()).unwrap_or(u64::MAX)
}

/// The moment at which `CLOCK_MONOTONIC` reads `ns`.
pub fn instant_of_monotonic(ns: u64) -> arch_um::time::Instant {
    arch_um::time::boot_instant().saturating_add(core::time::Duration::from_nanos(ns))
}

/// The guest's wall clock, ns since 1970.
pub fn realtime() -> i64 {
    arch_um::time::realtime_ns()
}

/// `CLOCK_TAI` minus `CLOCK_REALTIME`, seconds (`adjtimex(2)`).
pub fn tai_offset() -> i32 {
    TAI_OFFSET.load(Ordering::Relaxed)
}

/// Sets [`tai_offset`].
pub fn set_tai_offset(seconds: i32) {
    TAI_OFFSET.store(seconds, Ordering::Relaxed);
    clock_was_set();
}

static TAI_OFFSET: AtomicI32 = AtomicI32::new(0);
/// `struct timezone` of `settimeofday(2)`.
static MINUTES_WEST: AtomicI32 = AtomicI32::new(0);
static DST_TIME: AtomicI32 = AtomicI32::new(0);
static ZONE_WAS_SET: AtomicBool = AtomicBool::new(false);

static SETS: AtomicU32 = AtomicU32::new(0);
static SLEEPERS: WaitQueue = WaitQueue::new();
static LISTENERS: SpinLock<Vec<Weak<dyn OnClockSet>>> = SpinLock::new(&order::TIMER, Vec::new());

/// Who must hear when the wall clock jumps.
pub trait OnClockSet: Send + Sync {
    /// The wall clock was set. May not sleep.
    fn clock_was_set(&self);
}

/// Tells `listener` of every jump of the wall clock from now on, until it is dropped.
pub fn on_clock_set(listener: Weak<dyn OnClockSet>) {
    let mut listeners = LISTENERS.lock();
    listeners.retain(|old| old.strong_count() > 0);
    listeners.push(listener);
}

/// How often the wall clock jumped.
pub fn clock_sets() -> u32 {
    SETS.load(Ordering::Acquire)
}

/// Woken at each jump of the wall clock.
pub fn clock_set_queue() -> &'static WaitQueue {
    &SLEEPERS
}

fn clock_was_set() {
    SETS.fetch_add(1, Ordering::AcqRel);
    SLEEPERS.wake_all();
    let listeners: Vec<Arc<dyn OnClockSet>> = LISTENERS.lock().iter().filter_map(Weak::upgrade).collect();
    for listener in listeners {
        listener.clock_was_set();
    }
}

/// Sets the wall clock to `ns` since 1970 and tells everybody who waits for a moment of it. The caller has checked the right.
pub fn set_realtime(ns: i64) {
    arch_um::time::set_realtime(
        ns.div_euclid(NSEC_PER_SEC as i64),
        ns.rem_euclid(NSEC_PER_SEC as i64) as u32,
    );
    clock_was_set();
}

/// Seconds the wall clock may be set to: the clock must not overflow within the next 30 years.
const LAST_SETTABLE: i64 = i64::MAX / NSEC_PER_SEC as i64 - 30 * 365 * 24 * 3600;

fn set_from(cx: &Context, time: TimespecAbi) -> Result<usize> {
    let ns = time.to_nanos()?;
    if time.sec > LAST_SETTABLE {
        return Err(Errno::EINVAL);
    }
    require_set(cx)?;
    set_realtime(ns as i64);
    Ok(0)
}

/// `EPERM` without `CAP_SYS_TIME`.
pub(super) fn require_set(cx: &Context) -> Result<()> {
    if cx.task().cred().capable(Capabilities::SYS_TIME) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// `clock_gettime(2)`.
pub fn sys_clock_gettime(cx: &Context, id: i32, out: UserPtr<TimespecAbi>) -> Result<usize> {
    let now = Clock::from_id(id)?.read(cx)?;
    out.write(&TimespecAbi::from_signed_nanos(now))?;
    Ok(0)
}

/// `clock_settime(2)`: only `CLOCK_REALTIME` can be set.
pub fn sys_clock_settime(cx: &Context, id: i32, time: UserPtr<TimespecAbi>) -> Result<usize> {
    match Clock::from_id(id)? {
        Clock::Real(Flavour::Plain) => set_from(cx, time.read()?),
        Clock::Cpu(clock) => {
            clock.target(cx)?;
            Err(Errno::EPERM)
        }
        _ => Err(Errno::EINVAL),
    }
}

/// `clock_getres(2)`. The answer may be asked for with a null pointer.
pub fn sys_clock_getres(cx: &Context, id: i32, out: UserPtr<TimespecAbi>) -> Result<usize> {
    let resolution = match Clock::from_id(id)? {
        Clock::Real(Flavour::Coarse) | Clock::Monotonic(Flavour::Coarse) => NSEC_PER_TICK,
        Clock::Cpu(clock) => {
            clock.target(cx)?;
            1
        }
        _ => 1,
    };
    if let Some(out) = out.non_null() {
        out.write(&TimespecAbi::from_nanos(resolution))?;
    }
    Ok(0)
}

abi_struct! {
    /// `struct timezone`.
    pub struct TimezoneAbi {
        /// Minutes west of Greenwich.
        pub minutes_west: i32,
        /// Kind of summer time.
        pub dst_time: i32,
    }
}

/// `gettimeofday(2)`.
pub fn sys_gettimeofday(_cx: &Context, time: UserPtr<TimevalAbi>, zone: UserPtr<TimezoneAbi>) -> Result<usize> {
    if let Some(time) = time.non_null() {
        let now = TimespecAbi::from_signed_nanos(realtime());
        time.write(&TimevalAbi {
            sec: now.sec,
            usec: now.nsec / 1000,
        })?;
    }
    if let Some(zone) = zone.non_null() {
        let (minutes_west, dst_time) = (MINUTES_WEST.load(Ordering::Relaxed), DST_TIME.load(Ordering::Relaxed));
        zone.write(&TimezoneAbi { minutes_west, dst_time })?;
    }
    Ok(0)
}

/// `settimeofday(2)`. The first call with a zone and no time moves a clock that was kept in local time to UTC, as `hwclock --systz` expects.
pub fn sys_settimeofday(cx: &Context, time: UserPtr<TimevalAbi>, zone: UserPtr<TimezoneAbi>) -> Result<usize> {
    let time = time.non_null().map(UserPtr::read).transpose()?;
    let zone = zone.non_null().map(UserPtr::read).transpose()?;
    if let Some(time) = time {
        time.to_nanos()?;
    }
    require_set(cx)?;
    if let Some(zone) = zone {
        if !(-15 * 60..=15 * 60).contains(&zone.minutes_west) {
            return Err(Errno::EINVAL);
        }
        MINUTES_WEST.store(zone.minutes_west, Ordering::Relaxed);
        DST_TIME.store(zone.dst_time, Ordering::Relaxed);
        let first = !ZONE_WAS_SET.swap(true, Ordering::Relaxed);
        if first && time.is_none() && zone.minutes_west != 0 {
            set_realtime(realtime().saturating_add(i64::from(zone.minutes_west) * 60 * NSEC_PER_SEC as i64));
        }
    }
    match time {
        Some(time) => set_from(
            cx,
            TimespecAbi {
                sec: time.sec,
                nsec: time.usec * 1000,
            },
        ),
        None => Ok(0),
    }
}

/// `time(2)`.
pub fn sys_time(_cx: &Context, out: UserPtr<i64>) -> Result<usize> {
    let seconds = realtime().div_euclid(NSEC_PER_SEC as i64);
    if let Some(out) = out.non_null() {
        out.write(&seconds)?;
    }
    Ok(seconds as usize)
}
