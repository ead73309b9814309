//! [`ClockTimer`]: expiry driven by the monotonic or the wall clock. Behind `setitimer`, POSIX timers and timerfd.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};

use arch_um::sync::{SpinLock, order};
use arch_um::time::{Duration, Instant, Timer};

use super::NSEC_PER_SEC;
use super::clock::{self, Clock, OnClockSet};
use super::expiry::Expiry;

/// How a new setting is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// From now.
    Relative,
    /// At a moment of the clock (`TIMER_ABSTIME`).
    Absolute,
}

/// What happened to a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerEvent {
    /// It expired this many times.
    Expired(u64),
    /// The wall clock jumped.
    ClockSet,
}

/// The shortest time between two firings of one timer: a guest that asks for an interval of 1 ns gets the right count, not the I/O thread.
const SHORTEST_GAP: Duration = Duration::from_micros(50);

/// Called without locks; may not sleep; may set the timer again.
pub type OnEvent = Box<dyn Fn(TimerEvent) + Send + Sync>;

/// The clock a setting counts on. Relative settings of `CLOCK_REALTIME` do not follow its jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Base {
    Monotonic,
    Real,
}

impl Base {
    fn now(self) -> u64 {
        match self {
            Base::Monotonic => clock::monotonic(),
            Base::Real => u64::try_from(clock::realtime()).unwrap_or(0),
        }
    }

    fn instant(self, deadline: u64) -> Instant {
        match self {
            Base::Monotonic => clock::instant_of_monotonic(deadline),
            Base::Real => arch_um::time::instant_of_realtime(i64::try_from(deadline).unwrap_or(i64::MAX)),
        }
    }
}

/// A timer on a clock. Dropping it disarms it.
pub struct ClockTimer {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    state: SpinLock<State>,
    timer: spin::Once<Timer>,
    on_event: OnEvent,
}

struct State {
    base: Base,
    expiry: Expiry,
}

impl ClockTimer {
    /// A disarmed timer on `clock`, which is not a CPU clock.
    pub fn new(clock: Clock, on_event: OnEvent) -> Self {
        let state = State {
            base: Base::Monotonic,
            expiry: Expiry::default(),
        };
        let inner = Arc::new(Inner {
            clock,
            state: SpinLock::new(&order::TIMER, state),
            timer: spin::Once::new(),
            on_event,
        });
        let weak = Arc::downgrade(&inner);
        inner.timer.call_once(|| {
            Timer::new(Arc::new(move || {
                if let Some(inner) = weak.upgrade() {
                    inner.fire();
                }
            }))
        });
        if matches!(clock, Clock::Real(_) | Clock::Tai) {
            let listener: Weak<Inner> = Arc::downgrade(&inner);
            clock::on_clock_set(listener);
        }
        Self { inner }
    }

    /// Arms it for `value`, then every `interval` (ns); a value of 0 disarms it. Returns what was left and the former interval.
    pub fn set(&self, start: Start, value: u64, interval: u64) -> (u64, u64) {
        let inner = &self.inner;
        let mut state = inner.state.lock();
        let old = state.left();
        state.expiry = Expiry::default();
        if value == 0 {
            inner.timer.get().map(Timer::cancel);
            return old;
        }
        let (base, deadline) = match (start, inner.clock) {
            (Start::Absolute, Clock::Real(_)) => (Base::Real, value),
            (Start::Absolute, Clock::Tai) => (
                Base::Real,
                value.saturating_add_signed(-i64::from(clock::tai_offset()) * NSEC_PER_SEC as i64),
            ),
            (Start::Absolute, _) => (Base::Monotonic, value),
            (Start::Relative, _) => (Base::Monotonic, clock::monotonic().saturating_add(value)),
        };
        state.base = base;
        state.expiry = Expiry::at(deadline, interval);
        inner.arm(&state);
        old
    }

    /// Time left (0 when disarmed) and interval, ns.
    pub fn get(&self) -> (u64, u64) {
        self.inner.state.lock().left()
    }

    /// Expirations since the last call.
    pub fn take_count(&self) -> u64 {
        core::mem::take(&mut self.inner.state.lock().expiry.count)
    }

    /// Sets the number of expirations not taken yet (`TFD_IOC_SET_TICKS`).
    pub fn set_count(&self, count: u64) {
        self.inner.state.lock().expiry.count = count;
    }

    /// Expirations not taken yet.
    pub fn count(&self) -> u64 {
        self.inner.state.lock().expiry.count
    }
}

impl Drop for ClockTimer {
    fn drop(&mut self) {
        self.inner.timer.get().map(Timer::cancel);
    }
}

impl State {
    fn left(&self) -> (u64, u64) {
        (self.expiry.remaining(self.base.now()), self.expiry.interval)
    }
}

impl Inner {
    fn arm(&self, state: &State) {
        if let (Some(timer), Some(deadline)) = (self.timer.get(), state.expiry.deadline) {
            timer.set(state.base.instant(deadline));
        }
    }

    fn fire(&self) {
        let mut state = self.state.lock();
        let now = state.base.now();
        let new = state.expiry.advance(now);
        // Also when nothing expired: the setting changed while this call was on its way, or the wall clock went back.
        if let (Some(timer), Some(deadline)) = (self.timer.get(), state.expiry.deadline) {
            timer.set(state.base.instant(deadline).max(Instant::now() + SHORTEST_GAP));
        }
        drop(state);
        if new > 0 {
            (self.on_event)(TimerEvent::Expired(new));
        }
    }
}

impl OnClockSet for Inner {
    fn clock_was_set(&self) {
        let state = self.state.lock();
        if state.base == Base::Real {
            self.arm(&state);
        }
        drop(state);
        (self.on_event)(TimerEvent::ClockSet);
    }
}
