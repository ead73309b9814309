//! Kernel threads: switched stacks on virtual CPUs.

use crate::cpu::{CpuId, CpuMask};
use crate::errno::Errno;
use crate::sync::Interruptible;
use crate::sync::lockdep::HeldLocks;
use crate::time::Instant;
use std::any::Any;
use std::sync::Arc;

/// Shared reference to a kernel thread.
pub type ThreadRef = Arc<Thread>;

/// A kernel thread.
pub struct Thread {
    name: String,
}

/// Makes a kernel thread that runs `f`, ready to run.
///
/// # Errors
/// `EAGAIN` without memory for a stack.
pub fn spawn(name: &str, f: Box<dyn FnOnce() + Send>) -> Result<ThreadRef, Errno> {
    let _ = f;
    Ok(Arc::new(Thread { name: name.into() }))
}

/// The running kernel thread. Panics on plain host threads.
pub fn current() -> ThreadRef {
    try_current().expect("a kernel thread is running")
}

/// The running kernel thread; `None` on plain host threads (I/O thread, pool, tests).
pub fn try_current() -> Option<ThreadRef> {
    None
}

/// Calls `f` with the running kernel thread, without touching its reference count: the cheap way to find the current task.
/// `None` on plain host threads.
pub fn with_current<R>(f: impl FnOnce(Option<&Thread>) -> R) -> R {
    f(None)
}

/// All live kernel threads, by id.
pub fn list() -> Vec<ThreadRef> {
    Vec::new()
}

/// Sleeps until [`Thread::unpark`]; returns at once if that came before (the token does not add up). May return for no reason: callers
/// look at their condition in a loop. With the lock checker on, panics if a spin lock is held.
pub fn park() {}

/// Lets others run that are ready; returns at once if there are none.
pub fn yield_now() {}

/// Sleeps until `deadline`, uninterruptibly.
pub fn sleep_until(deadline: Instant) {
    let _ = deadline;
}

impl Thread {
    /// Ends the thread's [`park`], or its next one.
    pub fn unpark(&self) {}

    /// Sets the interrupt flag, ends an interruptible wait, and kicks the thread if it runs user code.
    pub fn interrupt(&self) {}

    /// Is the interrupt flag set?
    pub fn interrupted(&self) -> bool {
        false
    }

    /// Clears the interrupt flag. Look for signals after this, not before.
    pub fn clear_interrupt(&self) {}

    /// Unique number, never used again.
    pub fn id(&self) -> u64 {
        0
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.name.clone()
    }

    /// Renames it (`comm`).
    pub fn set_name(&self, name: &str) {
        let _ = name;
    }

    /// Time on a CPU so far, user and kernel, in ns.
    pub fn runtime_ns(&self) -> u64 {
        0
    }

    /// Time in user code so far, in ns.
    pub fn user_ns(&self) -> u64 {
        0
    }

    /// Sets the nice value; clamped to -20..=19.
    pub fn set_nice(&self, nice: i32) {
        let _ = nice;
    }

    /// The nice value.
    pub fn nice(&self) -> i32 {
        0
    }

    /// Limits it to some CPUs. Takes effect at its next switch; the caller's own at once.
    ///
    /// # Errors
    /// `EINVAL` if no existing CPU is in `mask`.
    pub fn set_affinity(&self, mask: CpuMask) -> Result<(), Errno> {
        let _ = mask;
        Ok(())
    }

    /// The CPUs it may run on.
    pub fn affinity(&self) -> CpuMask {
        CpuMask::ALL
    }

    /// Where it runs or ran last.
    pub fn last_cpu(&self) -> CpuId {
        CpuId(0)
    }

    /// Is it on a CPU now?
    pub fn is_running(&self) -> bool {
        false
    }

    /// Has its function returned?
    pub fn is_dead(&self) -> bool {
        false
    }

    /// State letter as in `/proc/PID/stat`: `R`, `S`, `D`, `X`.
    pub fn state_letter(&self) -> char {
        'R'
    }

    /// Context switches because it slept, and because it was made to yield.
    pub fn switches(&self) -> (u64, u64) {
        (0, 0)
    }

    /// Hangs the kernel's own data on the thread, once; a second value is dropped and `EBUSY` returned.
    pub fn set_local(&self, local: Arc<dyn Any + Send + Sync>) -> Result<(), Errno> {
        let _ = local;
        Ok(())
    }

    /// What [`set_local`](Self::set_local) put there.
    pub fn local(&self) -> Option<&Arc<dyn Any + Send + Sync>> {
        None
    }

    /// Waits until its function has returned.
    pub fn join(&self) {}

    pub(crate) fn park_until(&self, deadline: Instant) {
        let _ = deadline;
    }

    pub(crate) fn enter_wait(&self, how: Interruptible) -> impl Drop {
        let _ = how;
        WaitState
    }
}

struct WaitState;
impl Drop for WaitState {
    fn drop(&mut self) {}
}

pub(crate) fn with_held<R>(f: impl FnOnce(&mut HeldLocks) -> R) -> R {
    let mut held = HeldLocks::new();
    f(&mut held)
}
