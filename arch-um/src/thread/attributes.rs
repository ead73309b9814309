//! What can be asked of a kernel thread and set on it: name, times, nice value, affinity, state, the kernel's own data.

use super::{DEAD, NOTIFIED, PARKED, RUNNABLE, Thread, with_current, yield_now};
use crate::cpu::{CpuId, CpuMask};
use crate::errno::Errno;
use crate::sched;
use crate::time::cycles;
use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// In place of the start of a run of user code: it has ended and is being added.
const BETWEEN: u64 = 1;

impl Thread {
    /// Unique number, never used again.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.name.lock().clone()
    }

    /// Renames it (`comm`).
    pub fn set_name(&self, name: &str) {
        *self.name.lock() = name.into();
    }

    /// Time on a CPU so far, user and kernel, in ns. Up to date at its last switch.
    pub fn runtime_ns(&self) -> u64 {
        let ran = sched::running_for(self);
        cycles::to_ns(self.runtime.load(Ordering::Relaxed) + ran)
    }

    /// Time in user code so far, in ns, that of a run which has not ended included: a program that only computes never enters the kernel by itself.
    pub fn user_ns(&self) -> u64 {
        loop {
            let since = self.user_since.load(Ordering::Acquire);
            let user = self.user.load(Ordering::Acquire);
            if since == BETWEEN || since != self.user_since.load(Ordering::Acquire) {
                std::hint::spin_loop();
                continue;
            }
            let run = if since == 0 {
                0
            } else {
                cycles::now().saturating_sub(since)
            };
            return cycles::to_ns(user + run);
        }
    }

    pub(crate) fn add_runtime(&self, cycles: u64) {
        // Only the CPU that runs it writes: no read-modify-write needed.
        self.runtime
            .store(self.runtime.load(Ordering::Relaxed) + cycles, Ordering::Relaxed);
    }

    /// A run of user code begins at `now`, in cycles.
    pub(crate) fn enters_user(&self, now: u64) {
        self.user_since.store(now, Ordering::Release);
    }

    /// And has ended after so many cycles. Who reads meanwhile counts it once.
    pub(crate) fn left_user(&self, cycles: u64) {
        self.user_since.store(BETWEEN, Ordering::Release);
        self.user
            .store(self.user.load(Ordering::Relaxed) + cycles, Ordering::Release);
        self.user_since.store(0, Ordering::Release);
    }

    pub(crate) fn count_involuntary(&self) {
        self.involuntary.fetch_add(1, Ordering::Relaxed);
    }

    /// Sets the nice value; clamped to -20..=19.
    pub fn set_nice(&self, nice: i32) {
        let nice = nice.clamp(-20, 19);
        self.nice.store(nice, Ordering::Relaxed);
        sched::policy().set_nice(self, nice);
    }

    /// The nice value.
    pub fn nice(&self) -> i32 {
        self.nice.load(Ordering::Relaxed)
    }

    /// Limits it to some CPUs. The caller's own takes effect at once, another's at its next switch or kick.
    ///
    /// # Errors
    /// `EINVAL` if no existing CPU is in `mask`.
    pub fn set_affinity(&self, mask: CpuMask) -> Result<(), Errno> {
        if mask.0 & CpuMask::first(crate::cpu::count()).0 == 0 {
            return Err(Errno::EINVAL);
        }
        self.affinity.store(mask.0, Ordering::SeqCst);
        if !mask.contains(self.last_cpu()) {
            match with_current(|t| t.is_some_and(|t| std::ptr::eq(t, self))) {
                true => yield_now(),
                false if self.is_running() => crate::cpu::resched(self.last_cpu()),
                false => {}
            }
        }
        Ok(())
    }

    /// The CPUs it may run on.
    pub fn affinity(&self) -> CpuMask {
        CpuMask(self.affinity.load(Ordering::Relaxed))
    }

    /// Where it runs or ran last.
    pub fn last_cpu(&self) -> CpuId {
        CpuId(self.cpu.load(Ordering::SeqCst))
    }

    /// Is it on a CPU now (or just leaving it)?
    pub fn is_running(&self) -> bool {
        self.on_cpu.load(Ordering::Acquire)
    }

    /// Has its function returned?
    pub fn is_dead(&self) -> bool {
        self.state.load(Ordering::Acquire) == DEAD
    }

    /// State letter as in `/proc/PID/stat`: `R`, `S`, `D`, `X`.
    pub fn state_letter(&self) -> char {
        match self.state.load(Ordering::Acquire) {
            RUNNABLE | NOTIFIED => 'R',
            PARKED => char::from(self.wait.load(Ordering::Relaxed)),
            _ => 'X',
        }
    }

    /// Context switches because it slept, and because it was made to yield.
    pub fn switches(&self) -> (u64, u64) {
        (
            self.voluntary.load(Ordering::Relaxed),
            self.involuntary.load(Ordering::Relaxed),
        )
    }

    /// Hangs the kernel's own data on the thread, once. It is dropped with the thread's last reference, so it must not own that (keep a
    /// `Weak<Thread>` inside, or clear the way back when the task ends).
    ///
    /// # Errors
    /// `EBUSY` if there is one already.
    pub fn set_local(&self, local: Arc<dyn Any + Send + Sync>) -> Result<(), Errno> {
        self.local.set(local).map_err(|_| Errno::EBUSY)
    }

    /// What [`set_local`](Self::set_local) put there.
    #[inline]
    pub fn local(&self) -> Option<&Arc<dyn Any + Send + Sync>> {
        self.local.get()
    }
}
