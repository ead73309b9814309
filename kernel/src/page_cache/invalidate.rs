//! Contents that change at the backing, around the cache, and caches that are told to forget.

use core::ops::Range;

use super::pages::Chunk;
use super::{PAGE, PageCache, WINDOW};
use crate::Result;

impl PageCache {
    /// Whether a page of `range` (page numbers) is cached or on its way.
    fn holds(&self, range: &Range<u64>) -> bool {
        let any = |chunk: &Chunk| chunk.valid | chunk.dirty | chunk.busy;
        self.pages.lock().any(range, any)
    }

    /// Before the bytes `range` are read at the backing around the cache: what is newer here is written there.
    pub fn settle(&self, range: Range<u64>) -> Result<()> {
        let pages = range.start / PAGE..range.end.div_ceil(PAGE);
        if !self.holds(&pages) {
            return Ok(());
        }
        self.write_back(pages)
    }

    /// After the bytes `range` were written at the backing around the cache: clean pages of it are forgotten, or read again where guests map the
    /// cache, who must not see zeros.
    pub fn refresh(&self, range: Range<u64>) -> Result<()> {
        let pages = range.start / PAGE..range.end.div_ceil(PAGE).min(self.last_page());
        let mut outcome = Ok(());
        let mut from = pages.start;
        while from < pages.end {
            let part = from..pages.end.min(from + WINDOW / PAGE);
            if self.holds(&part) {
                self.claim(part.clone())?;
                let clean = self.pages.lock().clean_runs(part.clone());
                for run in clean {
                    outcome = outcome.and(self.renew(run));
                }
                self.release(part.clone());
            }
            from = part.end;
        }
        outcome
    }

    /// Makes claimed, clean pages true again.
    fn renew(&self, run: Range<u64>) -> Result<()> {
        let mut read = Ok(());
        if self.is_mapped() {
            let (at, count) = self.bytes_of(&run);
            let data = self.backing.read_owned(at, count);
            read = data.and_then(|data| self.storage.write_at(&data, at));
            if read.is_ok() {
                return Ok(());
            }
        }
        self.set_invalid(&mut self.pages.lock(), run.clone());
        read.and(self.storage.punch_hole(run.start * PAGE..run.end * PAGE))
    }

    /// Writes back and forgets the bytes `range`, so that the next reader asks the backing (`BLKFLSBUF`). While guests map the cache its pages stay.
    pub fn invalidate(&self, range: Range<u64>) -> Result<()> {
        let pages = range.start / PAGE..range.end.div_ceil(PAGE).min(self.last_page());
        if pages.is_empty() || !self.holds(&pages) {
            return Ok(());
        }
        self.write_back(pages.clone())?;
        self.drop_clean(pages)
    }

    /// Forgets the clean ones of `pages` that no guest maps.
    pub(super) fn drop_clean(&self, pages: Range<u64>) -> Result<()> {
        let mut from = pages.start;
        while let Some(part) = self.known(from..pages.end) {
            self.claim(part.clone())?;
            let mut outcome = Ok(());
            // Asked now that the pages are claimed: who maps them from now on waits and fills them anew.
            if !self.is_mapped() {
                let clean = self.pages.lock().clean_runs(part.clone());
                for run in clean {
                    self.set_invalid(&mut self.pages.lock(), run.clone());
                    outcome = outcome.and(self.storage.punch_hole(run.start * PAGE..run.end * PAGE));
                }
            }
            self.release(part.clone());
            outcome?;
            from = part.end;
        }
        Ok(())
    }

    /// The next pages of `range` that something may be known of.
    fn known(&self, range: Range<u64>) -> Option<Range<u64>> {
        if range.is_empty() {
            return None;
        }
        let pages = self.pages.lock();
        let (&index, _) = pages.chunks.range(range.start / 64..=(range.end - 1) / 64).next()?;
        Some(range.start.max(index * 64)..range.end.min((index + 1) * 64))
    }

    /// Forgets everything, dirty or not: the medium behind it is another one. Guests that map it see zeros.
    pub fn forget(&self) -> Result<()> {
        let last = self.pages.lock().chunks.keys().next_back().copied();
        match last {
            Some(last) => self.drop_pages(0..(last + 1) * 64),
            None => Ok(()),
        }
    }

    /// Forgets `pages`, dirty or not.
    pub(super) fn drop_pages(&self, pages: Range<u64>) -> Result<()> {
        self.claim(pages.clone())?;
        let punched = self.storage.punch_hole(pages.start * PAGE..pages.end * PAGE);
        let mut state = self.pages.lock();
        self.set_invalid(&mut state, pages.clone());
        self.set_clean(&mut state, pages.clone());
        drop(state);
        self.release(pages);
        punched
    }
}
