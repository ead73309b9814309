//! All caches together have a bound, a share of the machine's memory (`mem=`): beyond it clean pages that were not used lately are forgotten.
//!
//! A clock goes round over the caches, and in each over its chunks of 64 pages: a chunk that was looked at since the clock came by last stays once
//! more. Caches that guests map stay whole. What is dirty is the flusher's.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arch_um::host::process::trim_heap;
use arch_um::sync::{SpinLock, order};

use super::pages::{BUSY, Mark};
use super::{PAGE, PageCache, buffers};
use crate::sys::memory;

/// Valid pages of all caches.
static CACHED: AtomicU64 = AtomicU64::new(0);
/// Most bytes of all caches; 0 until the flusher has looked how the machine is used.
static BOUND: AtomicU64 = AtomicU64::new(0);
/// Least bytes of the kernel without its caches since the heap was trimmed.
static LEAST: AtomicU64 = AtomicU64::new(u64::MAX);
/// So much more may lie idle in the heap.
const IDLE: u64 = 16 << 20;
/// One reclaims at a time.
static RUNNING: AtomicBool = AtomicBool::new(false);
static CLOCK: SpinLock<Clock> = SpinLock::new(&order::LEAF, Clock::new());

struct Clock {
    caches: Vec<Weak<PageCache>>,
    hand: usize,
    /// How long the list may become before those that are gone are taken out.
    most: usize,
}

impl Clock {
    const fn new() -> Self {
        Self {
            caches: Vec::new(),
            hand: 0,
            most: 64,
        }
    }
}

pub(super) fn register(cache: &Arc<PageCache>) {
    let gone: Vec<Weak<PageCache>>;
    {
        let mut clock = CLOCK.lock();
        clock.caches.push(Arc::downgrade(cache));
        if clock.caches.len() < clock.most {
            return;
        }
        let (alive, dead) = core::mem::take(&mut clock.caches)
            .into_iter()
            .partition(|cache| cache.strong_count() > 0);
        (clock.caches, gone) = (alive, dead);
        clock.most = (clock.caches.len() * 2).max(64);
    }
    drop(gone);
}

pub(super) fn grew(pages: u64) {
    CACHED.fetch_add(pages, Ordering::Relaxed);
}

pub(super) fn shrank(pages: u64) {
    CACHED.fetch_sub(pages, Ordering::Relaxed);
}

/// Bytes of all caches.
pub fn cached_bytes() -> u64 {
    CACHED.load(Ordering::Relaxed) * PAGE
}

/// Most bytes of all caches: half of the memory, until it is known what programs need.
pub fn bound() -> u64 {
    match BOUND.load(Ordering::Relaxed) {
        0 => memory::total() / 2,
        bound => bound,
    }
}

/// Gives caches what programs leave, within reason. Asks the host about every process.
pub(crate) fn adjust() {
    let total = memory::total();
    if cached_bytes() < total / 4 {
        return;
    }
    let usage = memory::usage();
    let others = usage.anonymous.saturating_add(usage.shared);
    let bound = total.saturating_sub(others).saturating_sub(total / 8);
    BOUND.store(bound.clamp(total / 8, total / 4 * 3), Ordering::Relaxed);
    balance();
}

/// Returns to the host what caches have given up, if it is much: the heap keeps it for later.
pub(crate) fn give_back() {
    let kernel = memory::kernel();
    let least = LEAST.fetch_min(kernel, Ordering::Relaxed).min(kernel);
    if kernel - least > IDLE {
        release_idle();
        LEAST.store(memory::kernel(), Ordering::Relaxed);
    }
}

/// The host gets back what is in no use, also what is kept to be used again soon.
pub(crate) fn release_idle() {
    buffers::clear();
    trim_heap();
}

/// Every cache there is.
pub(crate) fn caches() -> Vec<Arc<PageCache>> {
    CLOCK.lock().caches.iter().filter_map(Weak::upgrade).collect()
}

/// Forgets all clean pages that no guest maps (`/proc/sys/vm/drop_caches`).
pub fn drop_caches() {
    for cache in caches() {
        // Pages that cannot be let go of stay.
        let _ = cache.drop_clean(0..cache.last_page());
    }
    release_idle();
}

/// Frees memory if caches have too much. With no page claimed and no lock held that ranks behind `INODE` but the file's own.
pub fn balance() {
    let (cached, bound) = (cached_bytes(), bound());
    if cached <= bound || RUNNING.swap(true, Ordering::Acquire) {
        return;
    }
    // Somewhat more than necessary, or every read would come here.
    let mut wanted = (cached - bound + bound / 32) / PAGE;
    let rounds = CLOCK.lock().caches.len() * 2 + 2;
    for _ in 0..rounds {
        let cache = {
            let mut clock = CLOCK.lock();
            let index = if clock.hand < clock.caches.len() { clock.hand } else { 0 };
            clock.hand = index + 1;
            clock.caches.get(index).and_then(Weak::upgrade)
        };
        if let Some(cache) = cache {
            wanted = wanted.saturating_sub(cache.reclaim(wanted));
        }
        if wanted == 0 {
            break;
        }
    }
    RUNNING.store(false, Ordering::Release);
}

impl PageCache {
    /// Forgets about `wanted` clean pages that were not used lately; how many it were.
    fn reclaim(&self, wanted: u64) -> u64 {
        let mut freed = 0;
        if self.is_mapped() {
            return 0;
        }
        while freed < wanted {
            let victim = {
                let mut pages = self.pages.lock();
                let victim = pages.victim();
                match victim {
                    Some((index, mask)) => {
                        runs_of(mask).for_each(|(from, to)| {
                            pages.mark(index * 64 + from..index * 64 + to, BUSY, Mark::Set);
                        });
                    }
                    None => pages.hand = 0,
                }
                victim
            };
            let Some((index, mask)) = victim else { break };
            // As in `drop_clean`: asked when the pages are claimed.
            let keep = self.is_mapped();
            for (from, to) in runs_of(mask) {
                let run = index * 64 + from..index * 64 + to;
                if !keep && self.storage.punch_hole(run.start * PAGE..run.end * PAGE).is_ok() {
                    self.set_invalid(&mut self.pages.lock(), run.clone());
                    freed += to - from;
                }
                self.release(run);
            }
            if keep {
                break;
            }
        }
        freed
    }
}

/// The runs of bits that are set.
fn runs_of(mask: u64) -> impl Iterator<Item = (u64, u64)> {
    let mut from = 0;
    core::iter::from_fn(move || {
        if from >= 64 || mask >> from == 0 {
            return None;
        }
        let start = from + u64::from((mask >> from).trailing_zeros());
        let end = start + u64::from((mask >> start).trailing_ones());
        from = end;
        Some((start, end))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_in_runs() {
        let runs = |mask| runs_of(mask).collect::<Vec<_>>();
        assert_eq!(runs(0), []);
        assert_eq!(runs(u64::MAX), [(0, 64)]);
        assert_eq!(runs(0b1011 | 1 << 63), [(0, 2), (3, 4), (63, 64)]);
    }
}
