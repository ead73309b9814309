//! [`CpuTimer`]: expiry driven by the CPU time of a process or thread.
//!
//! While any is armed, one machine timer looks at all of them: at the earliest moment at which one could expire if its owner ran on every
//! virtual CPU from now on, and in short but growing steps when its owner sleeps. Nothing is asked of the paths in and out of user code.
//!
//! Lock order: the list of armed timers, then a timer's state (both of class `TIMER`). CPU time is read with neither held.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use arch_um::sync::{SpinLock, order};
use arch_um::time::{Duration, Instant, Timer};

use super::NSEC_PER_TICK;
use super::clock_timer::{OnEvent, Start, TimerEvent};
use super::cpu_clock::{CpuKind, CpuTarget};
use super::expiry::Expiry;

/// A timer on CPU time. Dropping it disarms it.
pub struct CpuTimer {
    inner: Arc<Inner>,
}

struct Inner {
    target: CpuTarget,
    kind: CpuKind,
    state: SpinLock<State>,
    on_event: OnEvent,
}

#[derive(Default)]
struct State {
    expiry: Expiry,
    /// CPU time at the last look, and how long to wait if it has not moved since.
    seen: u64,
    idle_step: u64,
}

/// Armed timers, in no order.
static ARMED: SpinLock<Vec<Weak<Inner>>> = SpinLock::new(&order::TIMER, Vec::new());
static LOOK: spin::Once<Timer> = spin::Once::new();
/// Shortest and longest time between two looks at a timer, ns.
const STEP: core::ops::Range<u64> = 1_000_000..NSEC_PER_TICK;

impl CpuTimer {
    /// A disarmed timer on the time of `kind` that `target` uses.
    pub fn new(target: CpuTarget, kind: CpuKind, on_event: OnEvent) -> Self {
        let state = SpinLock::new(&order::TIMER, State::default());
        Self {
            inner: Arc::new(Inner {
                target,
                kind,
                state,
                on_event,
            }),
        }
    }

    /// As [`super::clock_timer::ClockTimer::set`].
    pub fn set(&self, start: Start, value: u64, interval: u64) -> (u64, u64) {
        // The clock is read before the timer's lock is taken: reading takes locks of the process.
        let now = self.inner.now();
        let mut state = self.inner.state.lock();
        let old = (state.expiry.remaining(now), state.expiry.interval);
        state.expiry = Expiry::default();
        if value == 0 {
            return old;
        }
        let deadline = match start {
            Start::Absolute => value,
            Start::Relative => now.saturating_add(value),
        };
        *state = State {
            expiry: Expiry::at(deadline, interval),
            seen: now,
            idle_step: STEP.start,
        };
        drop(state);
        let mut armed = ARMED.lock();
        let this = Arc::downgrade(&self.inner);
        if !armed.iter().any(|other| other.ptr_eq(&this)) {
            armed.push(this);
        }
        drop(armed);
        look();
        old
    }

    /// CPU time left (0 when disarmed) and interval, ns.
    pub fn get(&self) -> (u64, u64) {
        let now = self.inner.now();
        let state = self.inner.state.lock();
        (state.expiry.remaining(now), state.expiry.interval)
    }
}

impl Drop for CpuTimer {
    fn drop(&mut self) {
        self.inner.state.lock().expiry = Expiry::default();
    }
}

impl Inner {
    /// CPU time of the owner; 0 once it is gone.
    fn now(&self) -> u64 {
        self.target.read(self.kind).unwrap_or(0)
    }

    /// Fires what has expired. Returns how long until the next look is due, none when disarmed.
    fn look(&self) -> Option<u64> {
        let Some(now) = self.target.read(self.kind) else {
            self.state.lock().expiry = Expiry::default();
            return None;
        };
        let mut state = self.state.lock();
        let new = state.expiry.advance(now);
        let step = state.expiry.deadline.map(|deadline| {
            let soonest = (deadline.saturating_sub(now) / arch_um::cpu::count().max(1) as u64).max(STEP.start);
            if now == state.seen {
                state.idle_step = (state.idle_step * 2).min(STEP.end);
            } else {
                state.idle_step = STEP.start;
            }
            soonest.max(state.idle_step)
        });
        state.seen = now;
        drop(state);
        if new > 0 {
            (self.on_event)(TimerEvent::Expired(new));
        }
        step
    }
}

/// Looks at every armed timer and sets the machine timer for the next time.
fn look() {
    let timers: Vec<Arc<Inner>> = {
        let mut armed = ARMED.lock();
        armed.retain(|timer| timer.strong_count() > 0);
        armed.iter().filter_map(Weak::upgrade).collect()
    };
    let mut next: Option<u64> = None;
    for timer in timers {
        match timer.look() {
            Some(step) => next = Some(next.map_or(step, |next| next.min(step))),
            None => {
                let idle = Arc::downgrade(&timer);
                // Somebody may have armed it again since: the deadline decides, under the list's lock.
                let mut armed = ARMED.lock();
                if timer.state.lock_nested().expiry.deadline.is_none() {
                    armed.retain(|other| !other.ptr_eq(&idle));
                }
            }
        }
    }
    if let Some(step) = next {
        LOOK.call_once(|| Timer::new(Arc::new(look)))
            .set(Instant::now() + Duration::from_nanos(step));
    }
}
