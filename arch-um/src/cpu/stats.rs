//! What each CPU has done, for `/proc/stat` and `/proc/uptime`.

use super::{CpuId, get};
use crate::time::cycles;
use std::sync::atomic::Ordering;

/// What a CPU has done so far. Times in nanoseconds.
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
    /// Requests to reschedule (ticks, preempting wake-ups).
    pub interrupts: u64,
}

/// Counters of `cpu`, the running stretch included.
pub fn stats(cpu: CpuId) -> CpuStats {
    cycles::refresh();
    let cpu = get(cpu);
    let (mut busy, mut idle) = (cpu.busy.load(Ordering::Relaxed), cpu.idle.load(Ordering::Relaxed));
    if cpu.since.load(Ordering::Relaxed) != 0 {
        *(if cpu.is_idle() { &mut idle } else { &mut busy }) += cpu.running_cycles();
    }
    let user = cpu.user_cycles.load(Ordering::Relaxed);
    CpuStats {
        user_ns: cycles::to_ns(user),
        system_ns: cycles::to_ns(busy.saturating_sub(user)),
        idle_ns: cycles::to_ns(idle),
        switches: cpu.switches.load(Ordering::Relaxed),
        interrupts: cpu.interrupts.load(Ordering::Relaxed),
    }
}

/// Time `cpu` had nothing to run, in ns.
pub fn idle_ns(cpu: CpuId) -> u64 {
    stats(cpu).idle_ns
}
