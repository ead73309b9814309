//! Virtual CPUs on host CPUs: each is pinned to one of those the process may use, if there are enough.
//!
//! The first is chosen by the process id, so that many instances on one host do not all sit on its CPU 0. Host threads that are no
//! virtual CPU (and programs started from here) get the mask back that the process was started with: a thread inherits its maker's.

use super::CpuId;
use std::mem::{self, MaybeUninit};
use std::sync::OnceLock;

static PLACES: OnceLock<Places> = OnceLock::new();

struct Places {
    /// Host CPUs of the mask at start.
    allowed: Vec<usize>,
    ncpus: usize,
}

fn read_affinity() -> Vec<usize> {
    let mut set = MaybeUninit::<libc::cpu_set_t>::zeroed();
    // SAFETY: zero is a valid set; the call fills at most its size.
    let set = unsafe {
        if libc::sched_getaffinity(0, mem::size_of::<libc::cpu_set_t>(), set.as_mut_ptr()) != 0 {
            return Vec::new();
        }
        set.assume_init()
    };
    // SAFETY: the index is below CPU_SETSIZE.
    (0..libc::CPU_SETSIZE as usize)
        .filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) })
        .collect()
}

fn set_affinity(cpus: &[usize]) -> bool {
    // SAFETY: zero is a valid set; indices come from a set of the same size.
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        cpus.iter().for_each(|&cpu| libc::CPU_SET(cpu, &mut set));
        libc::sched_setaffinity(0, mem::size_of::<libc::cpu_set_t>(), &set) == 0
    }
}

pub(super) fn init(ncpus: usize) {
    PLACES.get_or_init(|| Places {
        allowed: read_affinity(),
        ncpus,
    });
}

/// Pins this host thread, which is `cpu`; returns the host CPU.
pub(super) fn pin(cpu: CpuId) -> Option<usize> {
    let places = PLACES.get()?;
    if places.ncpus > places.allowed.len() {
        return None;
    }
    let start = std::process::id() as usize;
    let host = places.allowed[(start + cpu.0 as usize) % places.allowed.len()];
    set_affinity(&[host]).then_some(host)
}

/// Gives this host thread all host CPUs that the process was started with.
pub(crate) fn unpin() {
    if let Some(places) = PLACES.get()
        && !places.allowed.is_empty()
    {
        set_affinity(&places.allowed);
    }
}

/// Host CPUs that this process may use beyond one for each virtual CPU: with none to spare, spinning takes time from whom one waits for.
pub fn spare_host_cpus() -> usize {
    PLACES
        .get()
        .map_or(0, |places| places.allowed.len().saturating_sub(places.ncpus))
}

/// How many host CPUs this process may use; 0 before `cpu::run`.
pub(super) fn host_cpus() -> usize {
    PLACES.get().map_or(0, |places| places.allowed.len())
}

/// The host CPUs that the process was started with.
pub fn initial_affinity() -> Vec<usize> {
    PLACES.get().map_or_else(read_affinity, |places| places.allowed.clone())
}
