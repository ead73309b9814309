//! Writing into the cache, and how much of that may wait for its way to the backing.
//!
//! As in Linux, what is dirty in all caches has two limits, shares of the machine's memory: beyond the first the flusher comes, beyond the second a
//! writer writes back himself. A single cache calls the flusher earlier, so that a long stream is on its way while the program makes more of it.

use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use super::pages::{BUSY, Mark};
use super::{PAGE, PageCache, buffers, reclaim};
use crate::block::flusher;
use crate::io::Source;
use crate::{Errno, Result};

/// Bytes copied at a time.
const STEP: u64 = 128 << 10;
/// Dirty bytes of one cache with which the flusher is called.
const STREAM: u64 = 16 << 20;
/// Most dirty bytes of one cache: what `fsync` has to write is bounded.
const MOST_OF_ONE: u64 = 256 << 20;
/// Hundredths of the memory (`vm.dirty_background_ratio`, `vm.dirty_ratio`).
const BACKGROUND: u64 = 10;
const MOST: u64 = 20;

/// Dirty pages of all caches.
static DIRTY: AtomicU64 = AtomicU64::new(0);

pub(super) fn grew(pages: u64) {
    DIRTY.fetch_add(pages, Ordering::Relaxed);
}

pub(super) fn shrank(pages: u64) {
    DIRTY.fetch_sub(pages, Ordering::Relaxed);
}

/// Bytes of all caches that wait to be written back.
pub fn dirty_bytes() -> u64 {
    DIRTY.load(Ordering::Relaxed) * PAGE
}

/// Whether the flusher should write whatever there is.
pub(crate) fn is_over_background() -> bool {
    dirty_bytes() > crate::sys::memory::total() / 100 * BACKGROUND
}

impl PageCache {
    /// Writes at byte `at`; cut at the end of the contents, `ENOSPC` when nothing fits.
    pub fn write(&self, at: u64, src: &mut dyn Source) -> Result<usize> {
        let mut done = 0;
        reclaim::balance();
        while src.remaining() > 0 {
            let start = at + done as u64;
            let count = (src.remaining() as u64)
                .min(self.len().saturating_sub(start))
                .min(STEP - start % PAGE);
            if count == 0 {
                return if done > 0 { Ok(done) } else { Err(Errno::ENOSPC) };
            }
            self.hold_back()?;
            let mut buffer = buffers::take(count as usize);
            let step = src.read(&mut buffer).and_then(|got| {
                buffer.truncate(got);
                self.store(start, buffer).map(|()| got)
            });
            match step {
                Ok(0) => break,
                Ok(moved) => done += moved,
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// A writer that is too far ahead writes back before he goes on.
    fn hold_back(&self) -> Result<()> {
        let own = self.dirty_bytes();
        let most = crate::sys::memory::total() / 100 * MOST;
        if own > 0 && dirty_bytes() > most || own > MOST_OF_ONE.min(most) {
            self.write_back(0..u64::MAX)?;
        }
        if (own > STREAM || is_over_background())
            && !self.flush_asked.swap(true, Ordering::Relaxed)
            && let Some(me) = self.me.upgrade()
        {
            flusher::call(&me);
        }
        // What is dirty belongs to other files: the flusher is at it.
        if dirty_bytes() > most {
            flusher::pause(|| dirty_bytes() <= most);
        }
        Ok(())
    }

    /// The flusher comes.
    pub(crate) fn flush_begins(&self) {
        self.flush_asked.store(false, Ordering::Relaxed);
    }

    /// Puts `data` at byte `at` into the cache. Pages written only in part are read first.
    fn store(&self, at: u64, data: Vec<u8>) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let end = at + data.len() as u64;
        let range: Range<u64> = at / PAGE..end.div_ceil(PAGE);
        if !at.is_multiple_of(PAGE) {
            self.make_valid(range.start..range.start + 1)?;
        }
        if !end.is_multiple_of(PAGE) && end < self.len() {
            self.make_valid(range.end - 1..range.end)?;
        }
        self.claim(range.clone())?;
        let written = self.storage.put(data, at);
        let mut pages = self.pages.lock();
        pages.mark(range.clone(), BUSY, Mark::Clear);
        if written.is_ok() {
            self.set_valid(&mut pages, range.clone());
            self.set_dirty(&mut pages, range);
        }
        drop(pages);
        self.settled.wake_all();
        written
    }
}
