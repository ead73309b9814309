//! Dirty pages on their way to the backing.
//!
//! A [`WriteBack`] holds runs of dirty pages of one cache, claimed and copied; the backing gets all of them at once. A file system that writes many
//! files takes one of each and gives the disk all of them.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::take;
use core::ops::Range;
use core::sync::atomic::Ordering;

use arch_um::sync::Interruptible;

use super::pages::{BUSY, Mark, WRITING};
use super::{ErrorCursor, PAGE, PageCache, WINDOW, buffers};
use crate::mm::cached::{self, Cleaned};
use crate::{Errno, Result};

/// Most bytes on their way at a time for one who writes back.
const BUDGET: u64 = 8 << 20;

/// Whether a page in flight is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    Yes,
    No,
}

/// Dirty pages in a row, taken.
struct Run {
    pages: Range<u64>,
    cleaned: Cleaned,
}

/// Runs of dirty pages that are being written: they are clean now, and busy until [`finish`](Self::finish).
#[must_use = "the pages are busy until it is finished"]
pub struct WriteBack {
    cache: Arc<PageCache>,
    runs: Vec<Run>,
    data: Vec<(u64, Vec<u8>)>,
}

impl WriteBack {
    /// Where each run begins, in bytes, and what it is; ascending. To be taken once.
    pub fn take_data(&mut self) -> Vec<(u64, Vec<u8>)> {
        take(&mut self.data)
    }

    /// Whether nothing was dirty.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The page behind the last one.
    fn end(&self) -> u64 {
        self.runs.last().map_or(u64::MAX, |run| run.pages.end)
    }

    /// What came of each run. Those that failed are dirty again, and the cache remembers the error for `fsync`.
    ///
    /// # Errors
    /// The first one.
    pub fn finish(mut self, outcomes: &[Result<()>]) -> Result<()> {
        let runs = take(&mut self.runs);
        let outcome = |index: usize| outcomes.get(index).copied().unwrap_or(Err(Errno::EIO));
        let mut first = Ok(());
        for (index, run) in runs.into_iter().enumerate() {
            first = first.and(self.cache.written(run, outcome(index)));
        }
        first
    }
}

impl Drop for WriteBack {
    fn drop(&mut self) {
        for run in take(&mut self.runs) {
            let _ = self.cache.written(run, Err(Errno::EIO));
        }
    }
}

impl PageCache {
    /// Writes everything dirty to the backing and has it flushed.
    ///
    /// # Errors
    /// What the backing says; the pages stay dirty.
    pub fn sync(&self) -> Result<()> {
        self.write_back(0..u64::MAX)?;
        self.backing.flush()
    }

    /// The same for an open file: `fsync(2)`.
    ///
    /// # Errors
    /// What the backing says, or said to a write-back that `cursor` has not been told of.
    pub fn sync_for(&self, cursor: &ErrorCursor) -> Result<()> {
        let written = self.write_back(0..u64::MAX);
        self.take_error(cursor)?;
        written?;
        self.backing.flush()
    }

    /// Writes the dirty pages of `range` (page numbers) to the backing, without a flush.
    ///
    /// # Errors
    /// The first one; all runs are tried.
    pub fn write_back(&self, range: Range<u64>) -> Result<()> {
        let mut from = range.start;
        let mut outcome = Ok(());
        while self.dirty_pages.load(Ordering::Relaxed) > 0 {
            let mut batch = self.begin_write_back(from..range.end, BUDGET)?;
            if batch.is_empty() {
                break;
            }
            from = batch.end();
            let outcomes = self.backing.write_runs(batch.take_data());
            outcome = outcome.and(batch.finish(&outcomes));
        }
        self.wait_written(&range)?;
        outcome
    }

    /// What others have begun to write counts as well: it was dirty when the caller asked.
    pub fn wait_written(&self, range: &Range<u64>) -> Result<()> {
        let written = || (!self.pages.lock().any(range, |chunk| chunk.writing)).then_some(());
        self.settled
            .wait_until(Interruptible::No, None, written)
            .map_err(Errno::from)
    }

    /// Takes dirty pages of `range` (page numbers), `budget` bytes at most. Waits for a page in flight only as long as it has taken none.
    ///
    /// # Errors
    /// The host's, for the memory.
    fn begin_write_back(&self, range: Range<u64>, budget: u64) -> Result<WriteBack> {
        self.take_dirty(range, budget, Patience::Yes)
    }

    /// Takes dirty pages, `budget` bytes at most, as far as that goes without waiting for pages in flight: for who holds such of other caches.
    ///
    /// # Errors
    /// The host's, for the memory.
    pub fn try_write_back(&self, budget: u64) -> Result<WriteBack> {
        self.take_dirty(0..u64::MAX, budget, Patience::No)
    }

    fn take_dirty(&self, range: Range<u64>, budget: u64, patience: Patience) -> Result<WriteBack> {
        let cache = self.me.upgrade().ok_or(Errno::EIO)?;
        let mut batch = WriteBack {
            cache,
            runs: Vec::new(),
            data: Vec::new(),
        };
        let (mut from, mut left) = (range.start, budget / PAGE);
        while left > 0 {
            let run = if batch.is_empty() && patience == Patience::Yes {
                self.settled
                    .wait_until(Interruptible::No, None, || self.claim_dirty(from..range.end, left))?
            } else {
                self.claim_dirty(from..range.end, left).flatten()
            };
            let Some(run) = run else { break };
            from = run.end;
            left -= run.end - run.start;
            let (at, count) = self.bytes_of(&run);
            batch.runs.push(Run {
                cleaned: self.clean(at..at + count as u64),
                pages: run,
            });
            let mut data = buffers::take(count);
            self.storage.read_at(&mut data, at)?;
            batch.data.push((at, data));
        }
        Ok(batch)
    }

    fn written(&self, run: Run, outcome: Result<()>) -> Result<()> {
        if let Err(error) = outcome {
            self.errors.record(error);
        }
        let mut pages = self.pages.lock();
        pages.mark(run.pages.clone(), BUSY, Mark::Clear);
        pages.mark(run.pages.clone(), WRITING, Mark::Clear);
        if outcome.is_err() || run.cleaned == Cleaned::NotYet {
            self.set_dirty(&mut pages, run.pages);
        }
        drop(pages);
        self.settled.wake_all();
        outcome
    }

    /// Takes the right to write the bytes `range` away from guests that map them, so that the next write tells.
    pub(super) fn clean(&self, range: Range<u64>) -> Cleaned {
        let mut cleaned = Cleaned::Yes;
        if !self.storage.is_shared() {
            return cleaned;
        }
        for (base, source) in self.sources() {
            let part = range.start.saturating_sub(base)..range.end.saturating_sub(base);
            if !part.is_empty() && cached::clean(&source, part) == Cleaned::NotYet {
                cleaned = Cleaned::NotYet;
            }
        }
        cleaned
    }

    /// The first dirty run at or behind `range.start`, marked busy and clean. `Some(None)`: there is none. `None`: wait for one in flight.
    pub(super) fn claim_dirty(&self, range: Range<u64>, most: u64) -> Option<Option<Range<u64>>> {
        let mut pages = self.pages.lock();
        let Some(start) = pages.first_dirty(&range) else {
            return Some(None);
        };
        if pages.is_closed() || pages.get(start).busy {
            return None;
        }
        let limit = range.end.min(start + most.min(WINDOW / PAGE));
        let takes = |page| {
            let state = pages.get(page);
            state.dirty && !state.busy
        };
        let end = (start..limit).find(|&page| !takes(page)).unwrap_or(limit);
        self.set_clean(&mut pages, start..end);
        pages.mark(start..end, BUSY, Mark::Set);
        pages.mark(start..end, WRITING, Mark::Set);
        Some(Some(start..end))
    }
}
