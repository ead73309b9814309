//! Contents that become shorter or lose a range: what file systems need beyond [`PageCache::invalidate`], which writes back first.

use super::*;

impl PageCache {
    /// The contents end at byte `len` now (the backing says so already): pages behind it are gone, written back or not, and the rest of the last
    /// page is zero.
    pub fn truncated(&self, len: u64) -> Result<()> {
        let first = len.div_ceil(PAGE);
        self.drop_range(first..u64::MAX)?;
        if len.is_multiple_of(PAGE) {
            return Ok(());
        }
        self.claim(first - 1..first)?;
        let valid = self.pages.lock().get(first - 1).0;
        let zeroed = if valid {
            self.memory.punch_hole(len..first * PAGE)
        } else {
            Ok(())
        };
        self.pages.lock().mark(first - 1..first, BUSY, Mark::Clear);
        self.settled.wake_all();
        zeroed
    }

    /// The bytes `range` are zero now: whole pages are forgotten (the backing gives zeros), pages in part are zeroed, and dirty, if they are cached.
    pub fn zeroed(&self, range: Range<u64>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        self.drop_range(range.start.div_ceil(PAGE)..range.end / PAGE)?;
        let (first, last) = (range.start / PAGE, (range.end - 1) / PAGE);
        for page in [first, last] {
            let bytes = range.start.max(page * PAGE)..range.end.min((page + 1) * PAGE);
            let is_whole = bytes.end - bytes.start == PAGE;
            if is_whole {
                continue;
            }
            self.claim(page..page + 1)?;
            let valid = self.pages.lock().get(page).0;
            let zeroed = if valid { self.memory.punch_hole(bytes) } else { Ok(()) };
            let mut pages = self.pages.lock();
            pages.mark(page..page + 1, BUSY, Mark::Clear);
            if valid {
                let fresh = pages.mark(page..page + 1, DIRTY, Mark::Set);
                self.dirty_pages.fetch_add(fresh, Ordering::Relaxed);
            }
            drop(pages);
            self.settled.wake_all();
            zeroed?;
            if last == first {
                break;
            }
        }
        Ok(())
    }

    /// Forgets the pages `range` without writing them back.
    pub fn drop_range(&self, range: Range<u64>) -> Result<()> {
        let known = self
            .pages
            .lock()
            .chunks
            .keys()
            .next_back()
            .map_or(0, |last| (last + 1) * 64);
        let range = range.start..range.end.min(known);
        if range.is_empty() {
            return Ok(());
        }
        self.claim(range.clone())?;
        let punched = self.memory.punch_hole(range.start * PAGE..range.end * PAGE);
        let mut pages = self.pages.lock();
        pages.mark(range.clone(), VALID, Mark::Clear);
        let dropped = pages.mark(range.clone(), DIRTY, Mark::Clear);
        self.dirty_pages.fetch_sub(dropped, Ordering::Relaxed);
        pages.mark(range, BUSY, Mark::Clear);
        pages
            .chunks
            .retain(|_, chunk| chunk.valid | chunk.dirty | chunk.busy != 0);
        drop(pages);
        self.settled.wake_all();
        punched
    }
}
