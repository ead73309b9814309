//! Free and promised space in numbers.

use core::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};

use crate::{Errno, Result};

/// Counters of one file system. They are hints between threads; what is taken is decided under the lock of the groups.
#[derive(Default)]
pub(crate) struct Counters {
    /// Blocks that can be taken now.
    available: AtomicI64,
    /// Blocks promised to data that is not allocated yet.
    promised: AtomicI64,
    /// Blocks that are free as the disk will tell.
    free: AtomicU64,
    /// Free inodes.
    pub(crate) inodes: AtomicU32,
}

impl Counters {
    pub(crate) fn set(&self, free: u64, inodes: u32) {
        self.available.store(free as i64, Ordering::Relaxed);
        self.free.store(free, Ordering::Relaxed);
        self.inodes.store(inodes, Ordering::Relaxed);
    }

    /// Blocks became busy (positive) or takeable (negative).
    pub(crate) fn taken(&self, count: i64) {
        self.available.fetch_sub(count, Ordering::Relaxed);
    }

    /// Blocks were marked used (positive) or free (negative) on the disk.
    pub(crate) fn used(&self, count: i64) {
        let update = |free: u64| Some(free.saturating_add_signed(-count));
        let _ = self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    }

    pub(crate) fn free(&self) -> u64 {
        self.free.load(Ordering::Relaxed)
    }

    /// Whether more can be taken after a commit: blocks are free on the disk that cannot be taken yet, or data that has been promised some may need fewer.
    pub(crate) fn has_pending(&self) -> bool {
        self.free() as i64 > self.available.load(Ordering::Relaxed) || self.promised.load(Ordering::Relaxed) > 0
    }

    /// What may still be promised.
    pub(crate) fn left(&self) -> i64 {
        self.available.load(Ordering::Relaxed) - self.promised.load(Ordering::Relaxed)
    }

    /// Free blocks less those promised, for `statfs(2)`.
    pub(crate) fn shown_free(&self) -> u64 {
        self.free()
            .saturating_sub(self.promised.load(Ordering::Relaxed).max(0) as u64)
    }

    /// Promises `count` blocks, leaving at least `keep`. `ENOSPC`.
    pub(crate) fn promise(&self, count: u64, keep: u64) -> Result<()> {
        let count = i64::try_from(count).map_err(|_| Errno::ENOSPC)?;
        self.promised.fetch_add(count, Ordering::Relaxed);
        if self.left() < keep as i64 {
            self.promised.fetch_sub(count, Ordering::Relaxed);
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }

    /// What was promised as `paid` blocks has turned out to cost `cost`.
    pub(crate) fn settle(&self, paid: u64, cost: u64) {
        self.promised.fetch_add(cost as i64 - paid as i64, Ordering::Relaxed);
    }

    /// Takes a promise back.
    pub(crate) fn keep(&self, count: u64) {
        self.promised.fetch_sub(count as i64, Ordering::Relaxed);
    }
}
