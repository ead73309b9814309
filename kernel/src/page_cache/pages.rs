//! What a cache knows of its pages: valid, dirty, in flight; 64 pages a [`Chunk`].

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

/// 64 pages in a row.
#[derive(Clone, Copy, Default)]
pub(super) struct Chunk {
    pub valid: u64,
    pub dirty: u64,
    /// In flight: being read, changed or written.
    pub busy: u64,
    /// Busy because they are being written back.
    pub writing: u64,
    /// Looked at since the reclaim clock came by last.
    pub used: bool,
}

impl Chunk {
    pub fn is_blank(&self) -> bool {
        self.valid | self.dirty | self.busy == 0
    }
}

/// A set of page flags of one chunk.
pub(super) type Flag = fn(&mut Chunk) -> &mut u64;
pub(super) const VALID: Flag = |chunk| &mut chunk.valid;
pub(super) const DIRTY: Flag = |chunk| &mut chunk.dirty;
pub(super) const BUSY: Flag = |chunk| &mut chunk.busy;
pub(super) const WRITING: Flag = |chunk| &mut chunk.writing;

#[derive(Clone, Copy)]
pub(super) enum Mark {
    Set,
    Clear,
}

/// One page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub valid: bool,
    pub dirty: bool,
    pub busy: bool,
    pub writing: bool,
}

impl Page {
    /// Nothing is known of it and nobody fetches it.
    pub fn is_missing(self) -> bool {
        !self.valid && !self.busy
    }

    /// Its contents do not change under a reader: it is at rest, or written back.
    pub fn is_readable(self) -> bool {
        self.valid && (!self.busy || self.writing)
    }
}

/// All pages of a cache of which there is something to say.
#[derive(Default)]
pub(super) struct Pages {
    pub chunks: BTreeMap<u64, Chunk>,
    /// Chunk the reclaim clock looks at next.
    pub hand: u64,
    /// Nobody may take a page.
    closed: bool,
}

/// The bits of chunk `index` that lie in `range`, which touches it.
fn mask_of(index: u64, range: &Range<u64>) -> u64 {
    let from = range.start.saturating_sub(index * 64).min(63);
    let to = (range.end - index * 64).min(64);
    (u64::MAX << from) & (u64::MAX >> (64 - to))
}

impl Pages {
    /// Keeps everybody from taking pages from now on; false if another one does so already. Those that are in flight are still to be waited for.
    pub fn close(&mut self) -> bool {
        !core::mem::replace(&mut self.closed, true)
    }

    /// Whether no page is in flight.
    pub fn is_idle(&self) -> bool {
        self.chunks.values().all(|chunk| chunk.busy == 0)
    }

    /// Pages may be taken again.
    pub fn open(&mut self) {
        self.closed = false;
    }

    /// Whether no page may be taken now.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    pub fn get(&self, page: u64) -> Page {
        let chunk = self.chunks.get(&(page / 64)).copied().unwrap_or_default();
        let bit = 1 << (page % 64);
        Page {
            valid: chunk.valid & bit != 0,
            dirty: chunk.dirty & bit != 0,
            busy: chunk.busy & bit != 0,
            writing: chunk.writing & bit != 0,
        }
    }

    /// Sets or clears one flag of all pages in `range`; the number of pages it changed.
    pub fn mark(&mut self, range: Range<u64>, flag: Flag, on: Mark) -> u64 {
        let mut changed = 0;
        let mut page = range.start;
        while page < range.end {
            let index = page / 64;
            let mask = mask_of(index, &range);
            let word = flag(self.chunks.entry(index).or_default());
            match on {
                Mark::Set => {
                    changed += u64::from((mask & !*word).count_ones());
                    *word |= mask;
                }
                Mark::Clear => {
                    changed += u64::from((mask & *word).count_ones());
                    *word &= !mask;
                }
            }
            page = (index + 1) * 64;
        }
        changed
    }

    /// Whether a page of `range` has one of the flags that `flags` picks.
    pub fn any(&self, range: &Range<u64>, flags: fn(&Chunk) -> u64) -> bool {
        if range.is_empty() {
            return false;
        }
        let mut chunks = self.chunks.range(range.start / 64..=(range.end - 1) / 64);
        chunks.any(|(&index, chunk)| flags(chunk) & mask_of(index, range) != 0)
    }

    /// Whether a page of `range` is missing.
    pub fn any_missing(&self, range: &Range<u64>) -> bool {
        let mut page = range.start;
        while page < range.end {
            let index = page / 64;
            let there = self.chunks.get(&index).map_or(0, |chunk| chunk.valid | chunk.busy);
            if mask_of(index, range) & !there != 0 {
                return true;
            }
            page = (index + 1) * 64;
        }
        false
    }

    /// Whether all pages of `range` can be read. They count as used.
    pub fn all_readable(&mut self, range: &Range<u64>) -> bool {
        let mut page = range.start;
        while page < range.end {
            let index = page / 64;
            let mask = mask_of(index, range);
            let Some(chunk) = self.chunks.get_mut(&index) else {
                return false;
            };
            chunk.used = true;
            if chunk.valid & mask != mask || chunk.busy & !chunk.writing & mask != 0 {
                return false;
            }
            page = (index + 1) * 64;
        }
        true
    }

    /// The first page of `range` that is dirty.
    pub fn first_dirty(&self, range: &Range<u64>) -> Option<u64> {
        if range.is_empty() {
            return None;
        }
        let mut chunks = self.chunks.range(range.start / 64..=(range.end - 1) / 64);
        chunks.find_map(|(&index, chunk)| {
            let dirty = chunk.dirty & mask_of(index, range);
            (dirty != 0).then(|| index * 64 + u64::from(dirty.trailing_zeros()))
        })
    }

    /// The first run of at most `most` pages of `range` that are missing.
    pub fn missing_run(&self, range: Range<u64>, most: u64) -> Option<Range<u64>> {
        let start = range.clone().find(|&page| self.get(page).is_missing())?;
        let limit = range.end.min(start.saturating_add(most));
        let end = (start..limit)
            .find(|&page| !self.get(page).is_missing())
            .unwrap_or(limit);
        Some(start..end)
    }

    /// The pages of `range` that are valid and not dirty, in runs.
    pub fn clean_runs(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for page in range {
            let state = self.get(page);
            if !state.valid || state.dirty {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == page => run.end += 1,
                _ => runs.push(page..page + 1),
            }
        }
        runs
    }

    /// Forgets chunks of `range` that say nothing.
    pub fn prune(&mut self, range: &Range<u64>) {
        for index in range.start / 64..range.end.div_ceil(64) {
            if self.chunks.get(&index).is_some_and(Chunk::is_blank) {
                self.chunks.remove(&index);
            }
        }
    }

    /// The next chunk of the clock that was not used since it came by, and its clean pages nobody has in flight; None at the end of a round. Those
    /// that were used have had their second chance.
    pub fn victim(&mut self) -> Option<(u64, u64)> {
        if self.closed {
            return None;
        }
        loop {
            let (&index, chunk) = self.chunks.range_mut(self.hand..).next()?;
            self.hand = index + 1;
            let clean = chunk.valid & !chunk.dirty & !chunk.busy;
            if !core::mem::take(&mut chunk.used) && clean != 0 {
                return Some((index, clean));
            }
        }
    }
}
