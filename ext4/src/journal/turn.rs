//! [`Turn`]: one at a time through work that sleeps and calls out.
//!
//! Not a mutex with a class: a commit writes file data, which takes locks that are outer to everything here, so no lock may be held over it.

use arch_um::sync::{Interruptible, SpinLock, WaitQueue, order};

/// Free or taken.
pub(super) struct Turn {
    taken: SpinLock<bool>,
    left: WaitQueue,
}

impl Turn {
    pub(super) const fn new() -> Turn {
        Turn {
            taken: SpinLock::new(&order::LEAF, false),
            left: WaitQueue::new(),
        }
    }

    /// Waits until it is free and takes it.
    pub(super) fn take(&self) -> TurnGuard<'_> {
        let take = || (!core::mem::replace(&mut *self.taken.lock(), true)).then_some(());
        // Neither a deadline nor an interrupt ends this wait, only its condition.
        let _ = self.left.wait_until(Interruptible::No, None, take);
        TurnGuard(self)
    }
}

/// Gives the turn back when dropped.
#[must_use]
pub(super) struct TurnGuard<'a>(&'a Turn);

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        *self.0.taken.lock() = false;
        self.0.left.wake_all();
    }
}
