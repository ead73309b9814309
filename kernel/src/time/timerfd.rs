//! Timers as descriptors: `timerfd_create(2)`.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU32, Ordering};

use arch_um::sync::{Interruptible, SpinLock, WaitQueue, order};

use super::clock::{self, Clock, Flavour};
use super::clock_timer::{ClockTimer, Start};
use super::layout::{ItimerspecAbi, TimespecAbi};
use crate::io::Sink;
use crate::syscall::Context;
use crate::user::UserPtr;
use crate::vfs::fd_table::Fd;
use crate::vfs::file::SeekKind;
use crate::vfs::{File, FileOps, OpenFlags, PollEvents, PollTable};
use crate::{Errno, Result};

const TFD_TIMER_ABSTIME: i32 = 1;
const TFD_TIMER_CANCEL_ON_SET: i32 = 2;
/// `_IOW('T', 0, u64)`.
const TFD_IOC_SET_TICKS: u32 = 0x4008_5400;

/// A timer that is read.
pub struct TimerFd {
    clock: Clock,
    clock_id: i32,
    timer: ClockTimer,
    queue: Arc<WaitQueue>,
    flags: AtomicU32,
    /// `TFD_TIMER_CANCEL_ON_SET`: the count of jumps of the wall clock that has been seen.
    cancel: SpinLock<Option<u32>>,
}

impl TimerFd {
    fn new(clock: Clock, clock_id: i32) -> Arc<Self> {
        let queue = Arc::new(WaitQueue::new());
        let waker = queue.clone();
        // A jump of the wall clock wakes as well: the reader may have to say ECANCELED.
        let timer = ClockTimer::new(clock, Box::new(move |_| waker.wake_key(PollEvents::IN.bits())));
        let cancel = SpinLock::new(&order::TIMER, None);
        Arc::new(Self {
            clock,
            clock_id,
            timer,
            queue,
            flags: AtomicU32::new(0),
            cancel,
        })
    }

    /// Whether the wall clock jumped under a setting that wants to know. Says so once.
    fn take_canceled(&self) -> bool {
        let sets = clock::clock_sets();
        match self.cancel.lock().as_mut() {
            Some(seen) if *seen != sets => {
                *seen = sets;
                true
            }
            _ => false,
        }
    }

    fn is_canceled(&self) -> bool {
        self.cancel.lock().is_some_and(|seen| seen != clock::clock_sets())
    }

    fn set(&self, flags: i32, value: u64, interval: u64) -> Result<(u64, u64)> {
        let absolute = flags & TFD_TIMER_ABSTIME != 0;
        let on_real = matches!(self.clock, Clock::Real(_));
        let cancel = absolute && on_real && flags & TFD_TIMER_CANCEL_ON_SET != 0;
        *self.cancel.lock() = cancel.then(clock::clock_sets);
        self.flags.store(flags as u32, Ordering::Relaxed);
        self.timer.take_count();
        Ok(self.timer.set(
            if absolute { Start::Absolute } else { Start::Relative },
            value,
            interval,
        ))
    }
}

impl FileOps for TimerFd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> SeekKind {
        SeekKind::Stream
    }

    /// Accepted, and nothing moves.
    fn lseek(&self, _file: &File, _offset: i64, _whence: u32) -> Option<Result<u64>> {
        Some(Ok(0))
    }

    /// The expirations since the last read. `ECANCELED` after a jump of the wall clock.
    fn read_at(&self, file: &File, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        if dst.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let ready = || {
            if self.take_canceled() {
                self.timer.take_count();
                return Some(Err(Errno::ECANCELED));
            }
            match self.timer.take_count() {
                0 => None,
                count => Some(Ok(count)),
            }
        };
        let count = match ready() {
            Some(outcome) => outcome?,
            None if file.is_nonblocking() => return Err(Errno::EAGAIN),
            None => self.queue.wait_until(Interruptible::Yes, None, ready)??,
        };
        dst.write(&count.to_le_bytes())
    }

    fn announces(&self) -> bool {
        true
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.listen(&self.queue);
        }
        if self.timer.count() > 0 || self.is_canceled() {
            PollEvents::IN | PollEvents::RDNORM
        } else {
            PollEvents::empty()
        }
    }

    fn ioctl(&self, _cx: &Context, _file: &File, cmd: u32, arg: u64) -> Result<usize> {
        if cmd != TFD_IOC_SET_TICKS {
            return Err(Errno::ENOTTY);
        }
        let ticks = UserPtr::<u64>::new(arg).read()?;
        if ticks == 0 {
            return Err(Errno::EINVAL);
        }
        self.timer.set_count(ticks);
        self.queue.wake_all();
        Ok(0)
    }
}

impl TimerFd {
    /// What `/proc/PID/fdinfo` adds.
    pub fn fdinfo(&self) -> String {
        let (value, interval) = self.timer.get();
        let pair = |ns| {
            let time = TimespecAbi::from_nanos(ns);
            format!("({}, {})", time.sec, time.nsec)
        };
        format!(
            "clockid: {}\nticks: {}\nsettime flags: 0{:o}\nit_value: {}\nit_interval: {}\n",
            self.clock_id,
            self.timer.count(),
            self.flags.load(Ordering::Relaxed),
            pair(value),
            pair(interval)
        )
    }
}

/// `timerfd_create(2)`.
pub fn sys_timerfd_create(cx: &Context, clock_id: i32, flags: u32) -> Result<usize> {
    let flags = OpenFlags::from_bits_retain(flags);
    if !(flags - (OpenFlags::CLOEXEC | OpenFlags::NONBLOCK)).is_empty() {
        return Err(Errno::EINVAL);
    }
    let clock = match Clock::from_id(clock_id) {
        Ok(Clock::Real(Flavour::Coarse) | Clock::Monotonic(Flavour::Coarse)) => return Err(Errno::EINVAL),
        Ok(clock @ (Clock::Real(_) | Clock::Monotonic(_) | Clock::Boot(_))) => clock,
        _ => return Err(Errno::EINVAL),
    };
    clock.require_timers(cx)?;
    let file = File::new(
        TimerFd::new(clock, clock_id),
        None,
        OpenFlags::RDWR | flags & OpenFlags::NONBLOCK,
        cx.task().cred(),
    );
    Ok(cx.files().install(file, flags)?.0 as usize)
}

/// The timer behind `fd`. `EINVAL` when it is something else.
fn with_timer<R>(cx: &Context, fd: Fd, f: impl FnOnce(&TimerFd) -> Result<R>) -> Result<R> {
    let file = cx.files().get(fd)?;
    f(file.ops_as::<TimerFd>().ok_or(Errno::EINVAL)?)
}

fn to_abi((value, interval): (u64, u64)) -> ItimerspecAbi {
    ItimerspecAbi {
        interval: TimespecAbi::from_nanos(interval),
        value: TimespecAbi::from_nanos(value),
    }
}

/// `timerfd_settime(2)`.
pub fn sys_timerfd_settime(
    cx: &Context,
    fd: Fd,
    flags: i32,
    new: UserPtr<ItimerspecAbi>,
    old: UserPtr<ItimerspecAbi>,
) -> Result<usize> {
    let new = new.read()?;
    let (value, interval) = (new.value.to_nanos()?, new.interval.to_nanos()?);
    if flags & !(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let former = with_timer(cx, fd, |timer| timer.set(flags, value, interval))?;
    if let Some(old) = old.non_null() {
        old.write(&to_abi(former))?;
    }
    Ok(0)
}

/// `timerfd_gettime(2)`.
pub fn sys_timerfd_gettime(cx: &Context, fd: Fd, out: UserPtr<ItimerspecAbi>) -> Result<usize> {
    let left = with_timer(cx, fd, |timer| Ok(timer.timer.get()))?;
    out.write(&to_abi(left))?;
    Ok(0)
}
