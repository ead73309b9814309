//! [`Part`]: a partition that has a device file, and the device numbers of those that find no room behind their disk.
//!
//! Lock order: `MINORS_IN_USE` is a leaf.

use alloc::collections::BTreeSet;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arch_um::sync::{SpinLock, order};

use super::partition::Partition;
use super::stats::Counters;
use crate::page_cache::PageCache;
use crate::vfs::DevT;
use crate::vfs::file::PageSource;

/// The major number of partitions past a disk's own numbers.
pub const EXTENDED_MAJOR: u32 = 259;

/// A partition that has a device file.
pub struct Part {
    info: Partition,
    dev: DevT,
    len: AtomicU64,
    read_only: AtomicBool,
    counters: Arc<Counters>,
    /// What guests map: one for all of them, made at first use.
    window: spin::Once<Option<Arc<dyn PageSource>>>,
}

impl Part {
    /// A partition as its table has it, with its device number.
    pub(super) fn new(info: Partition, dev: DevT) -> Self {
        Self {
            dev,
            len: AtomicU64::new(info.len),
            read_only: AtomicBool::new(false),
            counters: Arc::default(),
            window: spin::Once::new(),
            info,
        }
    }

    /// Its number on the disk.
    pub fn number(&self) -> u32 {
        self.info.number
    }

    /// Another length; 0 when it is gone.
    pub(super) fn set_len(&self, len: u64) {
        self.len.store(len, Ordering::Relaxed);
    }

    /// Number, place and length now.
    pub fn info(&self) -> Partition {
        Partition {
            len: self.len.load(Ordering::Relaxed),
            ..self.info
        }
    }

    /// Its number.
    pub fn dev(&self) -> DevT {
        self.dev
    }

    /// Its own counters.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// Its pages in the disk's cache, to be mapped. None when it begins inside a page.
    pub(super) fn window(&self, cache: &Arc<PageCache>) -> Option<Arc<dyn PageSource>> {
        let info = self.info();
        let make = || cache.window(info.start..info.start + info.len);
        self.window.call_once(make).clone()
    }

    /// Whether it is protected, whatever its disk is.
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Relaxed)
    }

    /// Its own write protection (`BLKROSET` on a partition).
    pub(super) fn read_only(&self) -> &AtomicBool {
        &self.read_only
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if self.dev.major == EXTENDED_MAJOR {
            MINORS_IN_USE.lock().remove(&self.dev.minor);
        }
    }
}

/// Minors of [`EXTENDED_MAJOR`] in use.
static MINORS_IN_USE: SpinLock<BTreeSet<u32>> = SpinLock::new(&order::LEAF, BTreeSet::new());

/// A number of [`EXTENDED_MAJOR`] that nobody has; the [`Part`] made with it gives it back.
pub(super) fn extended_number() -> DevT {
    let mut used = MINORS_IN_USE.lock();
    let free = (0..).find(|minor| !used.contains(minor)).unwrap_or(0);
    used.insert(free);
    DevT::new(EXTENDED_MAJOR, free)
}
