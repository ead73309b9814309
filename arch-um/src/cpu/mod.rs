//! Virtual CPUs: host threads that run kernel threads and, through [`enter_user`], user code.
//!
//! CPU 0 is the host thread that calls [`run`] (ptrace needs one thread for all its requests). What each CPU runs next is decided by
//! [`crate::sched`]; the switch itself is in [`crate::thread`].

use crate::time::Instant;
use std::sync::Arc;

/// The largest `ncpus=`.
pub const MAX_CPUS: usize = 64;

/// Number of a virtual CPU, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CpuId(pub u32);

/// A set of virtual CPUs, bit n is CPU n.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CpuMask(pub u64);

impl CpuMask {
    /// Every CPU.
    pub const ALL: CpuMask = CpuMask(u64::MAX);

    /// Is `cpu` in the set?
    pub const fn contains(self, cpu: CpuId) -> bool {
        self.0 >> cpu.0 & 1 == 1
    }
}

/// Ends a run of user code: the implementation makes the `f` of [`enter_user`] return soon.
///
/// May be called from any host thread, more than once, and shortly before or after the run; a kick that comes before `f` waits for user
/// code must end that run at once. May not sleep.
pub trait Kick: Send + Sync {
    /// Ends the run.
    fn kick(&self);
}

/// What a CPU has done so far, for `/proc/stat`. Times in nanoseconds.
#[derive(Clone, Copy, Default, Debug)]
pub struct CpuStats {
    /// In user code.
    pub user_ns: u64,
    /// In kernel threads, outside user code.
    pub system_ns: u64,
    /// With nothing to run.
    pub idle_ns: u64,
    /// Context switches.
    pub switches: u64,
    /// Kicks and ticks that asked this CPU to reschedule.
    pub interrupts: u64,
}

/// Number of virtual CPUs; 1 before [`run`].
pub fn count() -> usize {
    1
}

/// The CPU this code runs on; 0 on plain host threads. May be stale at once unless the caller cannot sleep.
pub fn current() -> CpuId {
    CpuId(0)
}

/// The host CPU that the current virtual CPU is pinned to, if it is pinned.
pub fn host_cpu() -> Option<usize> {
    None
}

/// Are there at least as many host CPUs as asked for by virtual CPUs plus one helper each, so that spinning costs nobody?
pub fn spare_host_cpus() -> usize {
    0
}

/// Starts `ncpus` virtual CPUs and runs `main` as the first kernel thread on CPU 0, which is the calling host thread.
///
/// Never returns: the process ends through [`crate::exit`]. When `main` returns the machine goes on with the other kernel threads.
pub fn run(ncpus: usize, main: Box<dyn FnOnce() + Send>) -> ! {
    let _ = (ncpus, main);
    unimplemented!()
}

/// Runs `f`, which runs user code, on this CPU.
///
/// `None`: `f` did not run, because a reschedule or an interrupt of the current thread is pending; look at signals, call
/// [`cond_resched`], try again. While `f` runs, a reschedule request and [`Thread::interrupt`](crate::thread::Thread::interrupt) from
/// anywhere call `kick`. The kick object is published before the flags are checked, so no kick is lost. `f` may not sleep in the
/// kernel's sense. The interrupt flag stays set until `clear_interrupt`.
pub fn enter_user<R>(kick: &Arc<dyn Kick>, f: impl FnOnce() -> R) -> Option<R> {
    let _ = kick;
    Some(f())
}

/// Has the scheduler asked this CPU to switch?
pub fn need_resched() -> bool {
    false
}

/// Yields if the scheduler asked for it. Long loops in the kernel call this; no spin lock may be held.
pub fn cond_resched() {}

/// Asks `cpu` to reschedule; kicks it out of user code.
pub fn resched(cpu: CpuId) {
    let _ = cpu;
}

/// Time `cpu` had nothing to run, in ns.
pub fn idle_ns(cpu: CpuId) -> u64 {
    stats(cpu).idle_ns
}

/// Counters of `cpu`.
pub fn stats(cpu: CpuId) -> CpuStats {
    let _ = (cpu, Instant::now());
    CpuStats::default()
}
