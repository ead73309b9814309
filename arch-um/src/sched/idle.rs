//! Idle CPUs: a short spin if the host has CPUs to spare, then sleep on a futex; a wake-up goes to exactly one.

use super::{pick, switch_to};
use crate::cpu::{self, Cpu, CpuMask};
use crate::sync::raw::{futex_wait, futex_wake};
use crate::thread::ThreadRef;
use crate::time::cycles;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

/// Runs a thread, or looks for one.
pub(crate) const BUSY: u32 = 0;
/// Looks at its queue again and again.
pub(crate) const SPINNING: u32 = 1;
/// Sleeps on its word.
pub(crate) const SLEEPING: u32 = 2;

/// How long an idle CPU spins: about what a sleep and a wake-up by the host cost.
const SPIN_NS: u64 = 20_000;

/// CPUs that spin or sleep. A hint: the word of each CPU is the truth.
static IDLE: AtomicU64 = AtomicU64::new(0);

pub(super) fn mask() -> CpuMask {
    CpuMask(IDLE.load(Ordering::Relaxed))
}

/// How many CPUs spin or sleep.
pub(crate) fn count() -> usize {
    IDLE.load(Ordering::SeqCst).count_ones() as usize
}

/// Wakes one idle CPU of `allowed`, so that it takes work from another's queue.
pub(super) fn kick_one(allowed: CpuMask) {
    let mut idle = mask().0 & allowed.0;
    while idle != 0 {
        let first = idle.trailing_zeros();
        if kick_idle(cpu::get(cpu::CpuId(first))) {
            return;
        }
        idle &= idle - 1;
    }
}

/// Ends `cpu`'s idleness after something was queued. False if it was not idle.
pub(crate) fn kick_idle(cpu: &Cpu) -> bool {
    // Pairs with the fence in `sleep`: either we see the word, or the CPU sees the queue.
    fence(Ordering::SeqCst);
    if cpu.idle_word().load(Ordering::Relaxed) == BUSY {
        return false;
    }
    match cpu.idle_word().swap(BUSY, Ordering::SeqCst) {
        BUSY => false,
        SPINNING => true,
        _ => {
            IDLE.fetch_and(!bit(cpu), Ordering::SeqCst);
            futex_wake(cpu.idle_word(), 1);
            true
        }
    }
}

fn bit(cpu: &Cpu) -> u64 {
    1 << cpu.id().0
}

/// The CPU's own context, on its host thread's stack: runs threads as long as there are any. `first` runs before all others.
pub(crate) fn idle_loop(cpu: &'static Cpu, mut first: Option<ThreadRef>) -> ! {
    loop {
        if let Some(next) = first
            .take()
            .or_else(|| pick(cpu, ptr::null()))
            .or_else(|| wait_for_work(cpu))
        {
            next.arrive(cpu.id());
            cpu.account_idle(cycles::now());
            switch_to(cpu, Arc::into_raw(next));
        }
    }
}

/// Spins, then sleeps, until something is queued somewhere. It is returned, or to be picked.
fn wait_for_work(cpu: &Cpu) -> Option<ThreadRef> {
    IDLE.fetch_or(bit(cpu), Ordering::SeqCst);
    let found = spin(cpu).or_else(|| sleep(cpu));
    cpu.idle_word().store(BUSY, Ordering::SeqCst);
    IDLE.fetch_and(!bit(cpu), Ordering::SeqCst);
    cpu::busy_again(cpu);
    found
}

fn spin(cpu: &Cpu) -> Option<ThreadRef> {
    if cpu::spare_host_cpus() == 0 {
        return None;
    }
    cpu.idle_word().store(SPINNING, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    // Whatever was queued before we said SPINNING tells us nothing.
    if let Some(next) = pick(cpu, ptr::null()) {
        return Some(next);
    }
    let start = cycles::now();
    while cpu.idle_word().load(Ordering::Acquire) == SPINNING {
        if cycles::to_ns(cycles::now() - start) > SPIN_NS {
            return None;
        }
        std::hint::spin_loop();
    }
    pick(cpu, ptr::null())
}

fn sleep(cpu: &Cpu) -> Option<ThreadRef> {
    cpu.idle_word().store(SLEEPING, Ordering::SeqCst);
    fence(Ordering::SeqCst);
    // Whatever was queued before we said SLEEPING has not woken us.
    if let Some(next) = pick(cpu, ptr::null()) {
        return Some(next);
    }
    while cpu.idle_word().load(Ordering::Acquire) == SLEEPING {
        futex_wait(cpu.idle_word(), SLEEPING);
    }
    None
}
