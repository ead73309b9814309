//! [`Parker`]: whoever waits for a sleeping lock or on a wait queue, a kernel thread or a plain host thread.
//!
//! Host threads (the pool, tests, the time before `cpu::run`) may use sleeping locks too: they sleep on the host.

use super::lockdep;
use crate::thread::{self, ThreadRef};
use crate::time::Instant;

/// A thread that can be woken.
#[derive(Clone)]
pub(crate) enum Parker {
    Kernel(ThreadRef),
    Host(std::thread::Thread),
}

impl Parker {
    pub(crate) fn current() -> Parker {
        match thread::try_current() {
            Some(thread) => Parker::Kernel(thread),
            None => Parker::Host(std::thread::current()),
        }
    }

    pub(crate) fn unpark(&self) {
        match self {
            Parker::Kernel(thread) => thread.unpark(),
            Parker::Host(thread) => thread.unpark(),
        }
    }

    /// By a thread that is about to sleep.
    pub(crate) fn unpark_sync(&self) {
        match self {
            Parker::Kernel(thread) => thread.unpark_sync(),
            Parker::Host(thread) => thread.unpark(),
        }
    }

    /// Sleeps until unparked, or `deadline`, or for no reason. Only by the thread itself.
    pub(crate) fn park(&self, deadline: Option<Instant>) {
        match (self, deadline) {
            (Parker::Kernel(_), None) => thread::park(),
            (Parker::Kernel(thread), Some(deadline)) => thread.park_until(deadline),
            (Parker::Host(_), None) => {
                lockdep::may_sleep();
                std::thread::park();
            }
            (Parker::Host(_), Some(deadline)) => {
                lockdep::may_sleep();
                std::thread::park_timeout(deadline.saturating_duration_since(Instant::now()));
            }
        }
    }

    pub(crate) fn interrupted(&self) -> bool {
        matches!(self, Parker::Kernel(thread) if thread.interrupted())
    }

    pub(crate) fn thread(&self) -> Option<&ThreadRef> {
        match self {
            Parker::Kernel(thread) => Some(thread),
            Parker::Host(_) => None,
        }
    }
}
