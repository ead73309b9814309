//! Whether the host has a CPU for user code beside the one for its virtual CPU.
//!
//! A virtual CPU and the user code it runs take turns. With two host CPUs they may both spin for their turn, which is several times
//! faster than sleeping on one; idle virtual CPUs leave theirs to others. Because moving user code to another host CPU and back costs more
//! than some turns gain, the host must have been wide enough for a while; when it no longer is, everybody goes back at once.

use super::{Cpu, count, get, pin, this_cpu};
use crate::sched;
use crate::time::cycles;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};

/// How long there must have been enough host CPUs, ns.
const CALM_NS: u64 = 1_000_000;

/// When there were last too few, in cycles.
static SCARCE: AtomicU64 = AtomicU64::new(0);

/// Two host CPUs for each virtual CPU that is not idle.
fn enough() -> bool {
    2 * (count() - sched::idle_count().min(count())) <= pin::host_cpus()
}

/// Whether the user code that this virtual CPU runs next has a host CPU of its own. False on other host threads.
pub fn has_helper() -> bool {
    let Some(cpu) = this_cpu() else { return false };
    let helped = cpu.helped.load(Ordering::Relaxed);
    // Most of the time nothing has changed.
    let now = if !enough() {
        SCARCE.store(cycles::now(), Ordering::Relaxed);
        false
    } else {
        let calm = || cycles::now().saturating_sub(SCARCE.load(Ordering::Relaxed));
        helped || SCARCE.load(Ordering::Relaxed) == 0 || cycles::to_ns(calm()) >= CALM_NS
    };
    if now != helped {
        cpu.helped.store(now, Ordering::SeqCst);
    }
    now
}

/// `cpu` is not idle any more: its host CPU is its own again.
pub(crate) fn busy_again(cpu: &Cpu) {
    if count() == 1 || enough() {
        return;
    }
    SCARCE.store(cycles::now(), Ordering::Relaxed);
    for other in (0..count() as u32).map(|id| get(super::CpuId(id))) {
        if !ptr::eq(other, cpu) && other.helped.load(Ordering::SeqCst) {
            other.user.kick(ptr::null());
        }
    }
}
