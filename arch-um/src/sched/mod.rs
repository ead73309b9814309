//! The scheduler's mechanism: waking, picking, idling. The order of threads is a [`SchedPolicy`].

use crate::cpu::CpuId;
use crate::thread::{Thread, ThreadRef};

/// Why a thread becomes ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Enqueue {
    /// New.
    Spawn,
    /// Woken from a sleep.
    Wake,
    /// Still wants to run: it yielded or its time was up.
    Yield,
    /// Moved here because its affinity forbids the other CPU.
    Migrate,
}

/// What should happen on a CPU whose queue got a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preempt {
    /// The running thread goes on.
    No,
    /// The running thread should yield soon.
    Yes,
}

/// Orders the ready threads. All methods may be called from any host thread and may not sleep; locks are the policy's own, of rank
/// `SCHED_RQ` or below.
pub trait SchedPolicy: Send + Sync {
    /// Where a thread that becomes ready should go. `idle` are the CPUs with nothing to do.
    fn select_cpu(&self, thread: &Thread, idle: crate::cpu::CpuMask) -> CpuId;
    /// Puts a ready thread on `cpu`'s queue. `running` is what that CPU runs now.
    fn enqueue(&self, cpu: CpuId, thread: ThreadRef, why: Enqueue) -> Preempt;
    /// Takes the next thread for `cpu` from its own queue or, when that is empty, from another's. A thread for which
    /// [`Thread::is_running`] holds may be taken from its own CPU's queue only.
    fn pick_next(&self, cpu: CpuId) -> Option<ThreadRef>;
    /// `thread` has run on `cpu` for `ns` since the last call and leaves or goes on.
    fn account(&self, cpu: CpuId, thread: &Thread, ns: u64);
    /// 100 times a second while some queue is not empty: should `cpu` reschedule?
    fn tick(&self, cpu: CpuId) -> Preempt;
    /// Number of threads waiting on `cpu`'s queue; cheap, may be stale.
    fn queued(&self, cpu: CpuId) -> usize;
    /// The nice value of `thread` has changed.
    fn set_nice(&self, thread: &Thread, nice: i32);
}

/// Installs a policy in place of the default one ([fair](crate::sched)). Before `cpu::run`, once.
pub fn set_policy(policy: &'static dyn SchedPolicy) {
    let _ = policy;
}

/// Number of threads ready or running (the load average counts these).
pub fn nr_running() -> usize {
    1
}
