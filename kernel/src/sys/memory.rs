//! How the machine's memory (`mem=`) is used: what `sysinfo(2)`, /proc/meminfo and `free(1)` tell.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::page_cache::{self, reclaim};
use crate::task::table;

/// Memory by use, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// All of it.
    pub total: u64,
    /// In no use.
    pub free: u64,
    /// Cached pages of disks and of files on them.
    pub cached: u64,
    /// tmpfs and shared memory.
    pub shared: u64,
    /// Private memory of programs.
    pub anonymous: u64,
    /// Files that programs have mapped.
    pub mapped: u64,
    /// Cached pages that are not on their disk yet.
    pub dirty: u64,
    /// The kernel itself.
    pub kernel: u64,
}

/// The size of the machine when nobody set it.
const DEFAULT_TOTAL: u64 = 64 << 20;
static TOTAL: AtomicU64 = AtomicU64::new(DEFAULT_TOTAL);

/// Sets the size of the machine (`mem=`), bytes. Once, at boot.
pub fn set_total(bytes: u64) {
    TOTAL.store(bytes, Ordering::Relaxed);
}

/// The size of the machine, bytes.
pub fn total() -> u64 {
    TOTAL.load(Ordering::Relaxed)
}

impl Memory {
    /// Memory that a new program could have: free, or given up for the asking.
    pub fn available(&self) -> u64 {
        (self.free + self.cached.saturating_sub(self.dirty)).min(self.total)
    }

    fn with_free(mut self) -> Self {
        let used = [self.cached, self.shared, self.anonymous, self.kernel]
            .into_iter()
            .fold(0, u64::saturating_add);
        self.free = self.total.saturating_sub(used);
        self
    }
}

/// Bytes that the kernel uses itself. Caches, which lie in its process for the most part, count on their own.
pub fn kernel() -> u64 {
    arch_um::host::process::resident_memory().saturating_sub(page_cache::own_bytes())
}

/// How it is used now. Asks the host about every process.
pub fn usage() -> Memory {
    let mut memory = Memory {
        total: total(),
        kernel: kernel(),
        ..Memory::default()
    };
    for process in table::processes() {
        let Some(mm) = process.any_thread().and_then(|task| task.try_mm()) else {
            continue;
        };
        let resident = mm.space().memory_usage();
        memory.anonymous += resident.rss_anon;
        memory.mapped += resident.rss_file;
        memory.shared += resident.rss_shmem;
    }
    memory.cached = reclaim::cached_bytes();
    memory.dirty = page_cache::dirty_bytes();
    memory.with_free()
}

#[cfg(test)]
mod tests {
    use super::Memory;

    #[test]
    fn use_beyond_the_budget_leaves_nothing_free() {
        let memory = Memory {
            total: 100,
            anonymous: 90,
            kernel: 20,
            ..Memory::default()
        }
        .with_free();
        assert_eq!(memory.free, 0);
        let memory = Memory {
            total: 100,
            cached: 30,
            dirty: 10,
            kernel: 20,
            ..Memory::default()
        }
        .with_free();
        assert_eq!((memory.free, memory.available()), (50, 70));
    }
}
