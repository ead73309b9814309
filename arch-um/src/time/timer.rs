//! [`Timer`]: a callback at a moment.

use super::Instant;
use std::fmt;
use std::sync::Arc;

/// Calls back once at a moment, on the I/O thread. Dropping it cancels it.
pub struct Timer {
    callback: Arc<dyn Fn() + Send + Sync>,
}

impl Timer {
    /// A timer that is not armed. The callback may not sleep; it may set this or other timers.
    pub fn new(callback: Arc<dyn Fn() + Send + Sync>) -> Timer {
        Timer { callback }
    }

    /// Arms it (anew) for `deadline`; a moment in the past fires at once, on the I/O thread.
    pub fn set(&self, deadline: Instant) {
        let _ = (deadline, &self.callback);
    }

    /// Disarms it. True if it was armed: then the callback will not run for that arming. False: it has run, is running, or was never set.
    pub fn cancel(&self) -> bool {
        false
    }

    /// When it will fire, if armed.
    pub fn deadline(&self) -> Option<Instant> {
        None
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("deadline", &self.deadline()).finish()
    }
}
