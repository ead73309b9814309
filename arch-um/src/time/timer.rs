//! [`Timer`]: a callback at a moment, with the host's nanoseconds.
//!
//! One ordered table; the I/O thread's timerfd is set to its first entry. Cancelling does not touch the timerfd: at worst it fires in
//! vain. The table's lock is a leaf; callbacks run without it.

use super::Instant;
use crate::sync::raw::{RawGuard, RawLock};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

type Callback = Arc<dyn Fn() + Send + Sync>;

/// Calls back once at a moment, on the I/O thread. Dropping it cancels it; a callback that is just running goes on.
pub struct Timer {
    id: u64,
    callback: Callback,
    /// Key in the table; `u64::MAX` when not armed. Changed under the table's lock.
    armed: Arc<AtomicU64>,
}

const NOT_ARMED: u64 = u64::MAX;

struct Table {
    /// By deadline and timer number: equal deadlines fire in the order of creation.
    entries: BTreeMap<(u64, u64), (Callback, Arc<AtomicU64>)>,
    /// What the timerfd is set to.
    programmed: u64,
}

static TABLE: RawLock<Table> = RawLock::new(Table {
    entries: BTreeMap::new(),
    programmed: u64::MAX,
});
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

impl Timer {
    /// A timer that is not armed. The callback may not sleep; it may set this or other timers.
    pub fn new(callback: Arc<dyn Fn() + Send + Sync>) -> Timer {
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        Timer {
            id,
            callback,
            armed: Arc::new(AtomicU64::new(NOT_ARMED)),
        }
    }

    /// Arms it (anew) for `deadline`; a moment in the past fires at once, on the I/O thread. [`Instant::FAR_FUTURE`] never fires.
    pub fn set(&self, deadline: Instant) {
        // One below the mark for "not armed".
        let at = deadline.as_nanos().min(NOT_ARMED - 1);
        let mut table = TABLE.lock();
        let old = self.take_off(&mut table);
        table
            .entries
            .insert((at, self.id), (self.callback.clone(), self.armed.clone()));
        self.armed.store(at, Ordering::Relaxed);
        if at < table.programmed && at != NOT_ARMED - 1 {
            table.programmed = at;
            crate::event::program_timer(at);
        }
        drop(table);
        drop(old);
    }

    /// Disarms it. True if it was armed: then the callback will not run for that arming. False: it has run, is running, or was never set.
    pub fn cancel(&self) -> bool {
        if self.armed.load(Ordering::Relaxed) == NOT_ARMED {
            return false;
        }
        let old = self.take_off(&mut TABLE.lock());
        old.is_some()
    }

    fn take_off(&self, table: &mut RawGuard<'_, Table>) -> Option<Callback> {
        let at = self.armed.swap(NOT_ARMED, Ordering::Relaxed);
        table.entries.remove(&(at, self.id)).map(|(callback, _)| callback)
    }

    /// When it will fire, if armed.
    pub fn deadline(&self) -> Option<Instant> {
        match self.armed.load(Ordering::Relaxed) {
            NOT_ARMED => None,
            at => Some(Instant::from_nanos(at)),
        }
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("deadline", &self.deadline()).finish()
    }
}

/// On the I/O thread: calls what is due, in order of deadline, and sets the timerfd to the next.
pub(crate) fn run_expired() {
    loop {
        let mut table = TABLE.lock();
        let first = table.entries.keys().next().copied();
        match first {
            Some(key) if key.0 <= Instant::now().as_nanos() => {
                let due = table.entries.remove(&key);
                if let Some((_, armed)) = &due {
                    armed.store(NOT_ARMED, Ordering::Relaxed);
                }
                drop(table);
                if let Some((callback, _)) = due {
                    callback();
                }
            }
            _ => {
                let next = first.map_or(u64::MAX, |key| key.0);
                table.programmed = next;
                if next < NOT_ARMED - 1 {
                    crate::event::program_timer(next);
                }
                return;
            }
        }
    }
}
