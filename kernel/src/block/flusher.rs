//! The flusher: a kernel thread that writes dirty pages back by themselves, as Linux's does, so that a guest that never says `sync` loses little, and
//! one that writes a lot finds its data on the way.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::time::Duration;

use arch_um::sync::{Interruptible, SpinLock, WaitQueue, order};
use arch_um::time::Instant;

use super::disk::disks;
use crate::page_cache::{PageCache, reclaim, write};

/// How long a dirty block may wait (`vm.dirty_writeback_centisecs`).
const PERIOD: Duration = Duration::from_secs(5);

/// Caches with so much dirty that somebody called.
static CALLED: SpinLock<Vec<Weak<PageCache>>> = SpinLock::new(&order::LEAF, Vec::new());
static CALLS: WaitQueue = WaitQueue::new();
/// Writers that wait for us.
static RELIEF: WaitQueue = WaitQueue::new();

/// Longest wait of a writer: a loop device's thread may be one, and it is what we wait for.
const PAUSE: Duration = Duration::from_millis(100);

/// Starts the flusher. Without dirty blocks a turn costs nothing worth counting.
pub fn start() {
    if let Err(error) = crate::task::init::spawn_kernel_thread("kflushd", run) {
        log::error!("the flusher cannot be started: {error}; dirty blocks are written by sync alone");
    }
}

/// Has `cache` written back soon. An error is kept there for `fsync`.
pub(crate) fn call(cache: &Arc<PageCache>) {
    CALLED.lock().push(Arc::downgrade(cache));
    CALLS.wake_all();
}

/// Sleeps until `enough` has been written back, or a moment.
pub(crate) fn pause(enough: impl Fn() -> bool) {
    let until = Instant::now().saturating_add(PAUSE);
    let _ = RELIEF.wait_until(Interruptible::No, Some(until), || enough().then_some(()));
}

fn run() {
    let mut due = Instant::now().saturating_add(PERIOD);
    loop {
        let called = || {
            let called = core::mem::take(&mut *CALLED.lock());
            (!called.is_empty()).then_some(called)
        };
        match CALLS.wait_until(Interruptible::No, Some(due), called) {
            Ok(called) => called.iter().filter_map(Weak::upgrade).for_each(flush),
            Err(_) => {
                due = Instant::now().saturating_add(PERIOD);
                write_disks();
                reclaim::adjust();
                reclaim::give_back();
            }
        }
    }
}

/// Writes a cache back, and others as long as there is too much in all of them.
fn flush(cache: Arc<PageCache>) {
    cache.flush_begins();
    // The cache keeps the error.
    let _ = cache.write_back(0..u64::MAX);
    drop(cache);
    RELIEF.wake_all();
    if write::is_over_background() {
        for cache in reclaim::caches().iter().filter(|cache| cache.dirty_bytes() > 0) {
            let _ = cache.write_back(0..u64::MAX);
            RELIEF.wake_all();
            if !write::is_over_background() {
                break;
            }
        }
    }
}

fn write_disks() {
    for disk in disks().iter().filter(|disk| disk.cache().dirty_bytes() > 0) {
        if let Err(error) = disk.cache().write_back(0..u64::MAX) {
            log::error!(
                "Buffer I/O error on dev {}, lost async page write: {error}",
                disk.name()
            );
        }
    }
}
