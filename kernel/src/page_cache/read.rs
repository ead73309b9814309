//! Reading: what is missing is fetched, at once for who waits, and ahead for who will come.
//!
//! A fetch ahead is nobody's: when it fails its pages are missing as before, and whoever wants one of them fetches that himself and hears of the error.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;

use arch_um::sync::Interruptible;

use super::pages::{BUSY, Mark};
use super::read_ahead::{Missing, Pattern, ReadAhead};
use super::{PAGE, PageCache, WINDOW, reclaim};
use crate::io::Sink;
use crate::vfs::file::Advice;
use crate::{Errno, Result};

/// Bytes copied at a time: what lies in the processor's cache when it is copied on.
const STEP: u64 = 128 << 10;
/// Most bytes of one request ahead: the reader goes on when the first has come.
const REQUEST: u64 = 256 << 10;
/// The largest window is so many times what Linux's would be, for a request here has a longer way.
const WINDOWS: u64 = 4;
/// Most bytes that one word of a program (`readahead(2)`) starts.
const MOST_ADVISED: u64 = 16 << 20;

/// What a look at a range found.
enum Look {
    /// All of it is valid.
    Valid,
    /// These pages are missing and now busy: ours to fill.
    Claimed(Range<u64>),
    /// Another thread has one of them in flight.
    Wait,
}

/// Pages that are being fetched. However it ends, they do not stay busy.
struct Fetch {
    cache: Arc<PageCache>,
    range: Range<u64>,
}

impl Fetch {
    fn arrived(self, data: Vec<u8>) -> Result<()> {
        self.cache.storage.put(data, self.range.start * PAGE)?;
        self.cache.set_valid(&mut self.cache.pages.lock(), self.range.clone());
        Ok(())
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.cache.release(self.range.clone());
    }
}

impl PageCache {
    /// Reads from byte `at` on; 0 at the end.
    pub fn read(&self, at: u64, dst: &mut dyn Sink) -> Result<usize> {
        self.read_for(&self.reader, at, dst)
    }

    /// As [`read`](Self::read), for a reader whose habits are known.
    pub fn read_for(&self, reader: &ReadAhead, at: u64, dst: &mut dyn Sink) -> Result<usize> {
        let mut done = 0;
        let mut step = STEP;
        reclaim::balance();
        loop {
            let start = at + done as u64;
            let left = (dst.remaining() as u64).min(self.len().saturating_sub(start));
            // Steps end where pages do, so that no page is looked at twice.
            let count = left.min(step - start % step);
            if count == 0 {
                return Ok(done);
            }
            let pages = start / PAGE..(start + count).div_ceil(PAGE);
            self.look_ahead(reader, None, pages.clone(), (start + left).div_ceil(PAGE));
            let moved = match self.make_valid(pages) {
                // What comes before the page that cannot be read can be.
                Err(_) if step > PAGE => {
                    step = PAGE;
                    continue;
                }
                outcome => outcome.and_then(|()| self.storage.copy_out(start, count as usize, dst)),
            };
            match moved {
                Ok(moved) if moved as u64 == count => done += moved,
                Ok(moved) => return Ok(done + moved),
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads in what is missing of the pages `range`.
    pub(super) fn make_valid(&self, range: Range<u64>) -> Result<()> {
        if self.pages.lock().all_readable(&range) {
            return Ok(());
        }
        loop {
            let look = self
                .settled
                .wait_until(Interruptible::No, None, || match self.look(range.clone()) {
                    Look::Wait => None,
                    look => Some(look),
                })?;
            match look {
                Look::Claimed(missing) => self.fetch(missing)?,
                Look::Valid | Look::Wait => return Ok(()),
            }
        }
    }

    /// Finds the first missing run of `range` and claims it.
    fn look(&self, range: Range<u64>) -> Look {
        let mut pages = self.pages.lock();
        let closed = pages.is_closed();
        for page in range.clone() {
            let state = pages.get(page);
            if state.is_readable() {
                continue;
            }
            if state.busy || closed {
                return Look::Wait;
            }
            if let Some(run) = pages.missing_run(page..range.end, WINDOW / PAGE) {
                pages.mark(run.clone(), BUSY, Mark::Set);
                return Look::Claimed(run);
            }
        }
        Look::Valid
    }

    fn fetch_of(&self, range: Range<u64>) -> Option<Fetch> {
        let cache = self.me.upgrade()?;
        Some(Fetch { cache, range })
    }

    /// Reads claimed pages from the backing and waits for them.
    fn fetch(&self, range: Range<u64>) -> Result<()> {
        let (at, count) = self.bytes_of(&range);
        let fetch = self.fetch_of(range).ok_or(Errno::EIO)?;
        fetch.arrived(self.backing.read_owned(at, count)?)
    }

    /// A reader is at the pages `read` of a request up to page `wanted`: what it will want next is started. `said`: see [`ReadAhead::advance`].
    pub(super) fn look_ahead(&self, reader: &ReadAhead, said: Option<Pattern>, read: Range<u64>, wanted: u64) {
        let missing = if self.pages.lock().any_missing(&read) {
            Missing::Yes
        } else {
            Missing::No
        };
        let most = self.read_ahead.load(Ordering::Relaxed) / PAGE * WINDOWS;
        if let Some(window) = reader.advance(said, read.clone(), wanted, missing, most) {
            // What is missing of the read itself is fetched by who waits for it, which is quicker where the host has it in memory.
            self.start(window.start.max(read.end)..window.end);
        }
    }

    /// Starts fetching what is missing of `range`.
    fn start(&self, range: Range<u64>) {
        let mut range = range.start..range.end.min(self.last_page());
        if range.is_empty() {
            return;
        }
        while !range.is_empty() {
            let run = {
                let mut pages = self.pages.lock();
                if pages.is_closed() {
                    return;
                }
                let run = pages.missing_run(range.clone(), REQUEST / PAGE);
                let Some(mut run) = run else { return };
                // In the chunks of reclaim: memory is given back in those units.
                run.end = run.end.min((run.start + 1).next_multiple_of(REQUEST / PAGE));
                pages.mark(run.clone(), BUSY, Mark::Set);
                run
            };
            range.start = run.end;
            let (at, count) = self.bytes_of(&run);
            let Some(fetch) = self.fetch_of(run) else { return };
            if count == 0 {
                // The contents became shorter.
                return;
            }
            self.backing.start_read(
                at,
                count,
                Box::new(move |data| {
                    // Nobody waits for it: who wants the pages finds them missing.
                    let _ = data.and_then(|data| fetch.arrived(data));
                }),
            );
        }
    }

    /// A program says what it will do with the bytes `range` (`posix_fadvise(2)`, `readahead(2)`); `reader` is its own.
    pub fn advise(&self, reader: &ReadAhead, range: Range<u64>, advice: Advice) -> Result<()> {
        match advice {
            Advice::Pattern(pattern) => {
                reader.set_pattern(pattern);
                Ok(())
            }
            Advice::WillNeed => {
                reclaim::balance();
                let end = range.end.min(range.start.saturating_add(MOST_ADVISED));
                self.start(range.start / PAGE..end.div_ceil(PAGE));
                Ok(())
            }
            Advice::DontNeed => {
                // The last page counts as whole.
                let end = if range.end >= self.len() {
                    self.last_page()
                } else {
                    range.end / PAGE
                };
                self.drop_clean(range.start.div_ceil(PAGE)..end)
            }
        }
    }
}
