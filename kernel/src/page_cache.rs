//! The page cache: contents of a block device (or of a disk file) in a host memory file, filled and written back on demand.
//!
//! A [`PageCache`] knows of each page whether it is valid, dirty, or in flight (busy). Data lies in a [`SharedMemory`], which guests can map
//! ([`crate::vfs::file::PageSource`]); the owner of the contents is a [`Backing`]. Neighbours: `block::file` (device files), file systems.
//!
//! Lock order: `PageCache::pages` ([`order::PAGE_CACHE`]) is a short spin lock, never held over I/O or a copy. Pages in flight are marked busy and
//! waited for on `settled`.

mod shrink;

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use arch_um::host::OwnedFd;
use arch_um::host::mem::SharedMemory;
use arch_um::sync::{Interruptible, SpinLock, WaitQueue, order};

use crate::io::{Sink, Source};
use crate::mm::cached::{self, Cleaned};
use crate::vfs::file::PageSource;
use crate::{Errno, Result};

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Most bytes read or written at the backing in one call.
const WINDOW: u64 = 1 << 20;
/// Dirty bytes of one cache beyond which a writer writes back before it goes on, so that a fast writer cannot fill the host's memory.
const DIRTY_LIMIT: u64 = 64 << 20;
/// Least bytes a sequential miss reads ahead, unless told otherwise.
const READ_AHEAD: u64 = 128 << 10;

/// Where cached contents come from and go to.
pub trait Backing: Send + Sync {
    /// Length in bytes; what lies behind it in the last page is zero.
    fn len(&self) -> u64;
    /// Whether there is nothing.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Fills `data` from byte `at`. `EIO`.
    fn read(&self, at: u64, data: &mut [u8]) -> Result<()>;
    /// Stores `data` at byte `at`. `EIO`, `ENOSPC`, `EROFS`.
    fn write(&self, at: u64, data: &[u8]) -> Result<()>;
    /// Puts everything written on stable storage.
    fn flush(&self) -> Result<()>;
    /// As [`read`](Self::read), for those who have the data in a buffer of their own.
    fn read_owned(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        let mut data = vec![0; len];
        self.read(at, &mut data)?;
        Ok(data)
    }
    /// As [`write`](Self::write), for those who need the data in a buffer of their own.
    fn write_owned(&self, at: u64, data: Vec<u8>) -> Result<()> {
        self.write(at, &data)
    }
}

/// 64 pages in a row.
#[derive(Clone, Copy, Default)]
struct Chunk {
    valid: u64,
    dirty: u64,
    busy: u64,
    /// Busy because they are being written back.
    writing: u64,
}

impl Chunk {
    fn is_blank(&self) -> bool {
        self.valid | self.dirty | self.busy == 0
    }
}

/// Cached contents.
pub struct PageCache {
    memory: SharedMemory,
    backing: Arc<dyn Backing>,
    pages: SpinLock<Pages>,
    settled: WaitQueue,
    dirty_pages: AtomicU64,
    read_ahead: AtomicU64,
    /// What guests map: the cache itself and windows on parts of it, each with its first byte.
    sources: SpinLock<Vec<(u64, Weak<dyn PageSource>)>>,
}

#[derive(Default)]
struct Pages {
    chunks: BTreeMap<u64, Chunk>,
    /// Where a sequential reader would go on.
    next_read: u64,
    /// The first write-back failure nobody has been told of.
    error: Option<Errno>,
}

/// A set of page flags of one chunk.
type Flag = fn(&mut Chunk) -> &mut u64;
const VALID: Flag = |chunk| &mut chunk.valid;
const DIRTY: Flag = |chunk| &mut chunk.dirty;
const BUSY: Flag = |chunk| &mut chunk.busy;
const WRITING: Flag = |chunk| &mut chunk.writing;

impl Pages {
    fn get(&self, page: u64) -> (bool, bool, bool) {
        let chunk = self.chunks.get(&(page / 64)).copied().unwrap_or_default();
        let bit = 1 << (page % 64);
        (chunk.valid & bit != 0, chunk.dirty & bit != 0, chunk.busy & bit != 0)
    }

    /// Sets or clears one flag of all pages in `range`; the number of pages it changed.
    fn mark(&mut self, range: Range<u64>, flag: Flag, on: Mark) -> u64 {
        let mut changed = 0;
        let mut page = range.start;
        while page < range.end {
            let index = page / 64;
            let last = range.end.min((index + 1) * 64);
            let count = last - page;
            let mask = if count == 64 {
                u64::MAX
            } else {
                ((1 << count) - 1) << (page % 64)
            };
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
            page = last;
        }
        changed
    }
}

impl Pages {
    /// Whether a page of `range` has one of the flags that `flags` picks.
    fn any(&self, range: &Range<u64>, flags: fn(&Chunk) -> u64) -> bool {
        let first = range.start / 64;
        let mut chunks = self.chunks.range(first..range.end.div_ceil(64).max(first));
        chunks.any(|(&index, chunk)| {
            let from = range.start.saturating_sub(index * 64);
            let to = (range.end - index * 64).min(64);
            let mask = (u64::MAX << from) & (u64::MAX >> (64 - to));
            flags(chunk) & mask != 0
        })
    }

    /// The pages of `range` that are valid and not dirty, in runs.
    fn clean_runs(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut runs: Vec<Range<u64>> = Vec::new();
        for page in range {
            if !matches!(self.get(page), (true, false, _)) {
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
    fn prune(&mut self, range: &Range<u64>) {
        for index in range.start / 64..range.end.div_ceil(64) {
            if self.chunks.get(&index).is_some_and(Chunk::is_blank) {
                self.chunks.remove(&index);
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Mark {
    Set,
    Clear,
}

/// What a look at a range found.
enum Look {
    /// All of it is valid.
    Valid,
    /// These pages are missing and now busy: ours to fill.
    Claimed(Range<u64>),
    /// Another thread has one of them in flight.
    Wait,
}

impl PageCache {
    /// An empty cache over `backing`; `name` shows in the host's list of mappings.
    ///
    /// # Errors
    /// `EMFILE`/`ENFILE`: the host has no descriptor left.
    pub fn new(name: &str, backing: Arc<dyn Backing>) -> Result<Arc<Self>> {
        let memory = SharedMemory::new(name)?;
        memory.resize(backing.len().next_multiple_of(PAGE))?;
        Ok(Arc::new_cyclic(|me: &Weak<Self>| {
            let whole: Weak<dyn PageSource> = me.clone();
            Self {
                memory,
                backing,
                pages: SpinLock::new(&order::PAGE_CACHE, Pages::default()),
                settled: WaitQueue::new(),
                dirty_pages: AtomicU64::new(0),
                read_ahead: AtomicU64::new(READ_AHEAD),
                sources: SpinLock::new(&order::LEAF, vec![(0, whole)]),
            }
        }))
    }

    /// The bytes `range` as something to map: a partition. `None` unless it begins with a page.
    pub fn window(self: &Arc<Self>, range: Range<u64>) -> Option<Arc<dyn PageSource>> {
        if !range.start.is_multiple_of(PAGE) {
            return None;
        }
        let (base, len) = (range.start, range.end - range.start);
        let window: Arc<dyn PageSource> = Arc::new(Window {
            cache: self.clone(),
            base,
            len,
        });
        let mut sources = self.sources.lock();
        sources.retain(|(_, source)| source.strong_count() > 0);
        sources.push((base, Arc::downgrade(&window)));
        Some(window)
    }

    /// Bytes a sequential reader is served ahead.
    pub fn set_read_ahead(&self, bytes: u64) {
        self.read_ahead.store(bytes.min(WINDOW), Ordering::Relaxed);
    }

    /// Length of the contents in bytes.
    pub fn len(&self) -> u64 {
        self.backing.len()
    }

    /// Whether there are no contents.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of host memory in use, for accounting.
    pub fn cached_bytes(&self) -> u64 {
        self.memory.allocated()
    }

    /// Bytes that wait to be written back.
    pub fn dirty_bytes(&self) -> u64 {
        self.dirty_pages.load(Ordering::Relaxed) * PAGE
    }

    /// Reads from byte `at` on; 0 at the end.
    pub fn read(&self, at: u64, dst: &mut dyn Sink) -> Result<usize> {
        let mut buffer = vec![];
        let mut done = 0;
        loop {
            let start = at + done as u64;
            let count = (dst.remaining() as u64)
                .min(self.len().saturating_sub(start))
                .min(WINDOW);
            if count == 0 {
                return Ok(done);
            }
            let step = self
                .make_valid(start / PAGE..(start + count).div_ceil(PAGE))
                .and_then(|()| {
                    buffer.resize(count as usize, 0);
                    self.memory.read_at(&mut buffer, start)?;
                    dst.write(&buffer)
                });
            match step {
                Ok(moved) => {
                    done += moved;
                    if (moved as u64) < count {
                        return Ok(done);
                    }
                }
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes at byte `at`; cut at the end of the contents, `ENOSPC` when nothing fits.
    pub fn write(&self, at: u64, src: &mut dyn Source) -> Result<usize> {
        let mut buffer = vec![];
        let mut done = 0;
        while src.remaining() > 0 {
            let start = at + done as u64;
            let count = (src.remaining() as u64)
                .min(self.len().saturating_sub(start))
                .min(WINDOW);
            if count == 0 {
                return if done > 0 { Ok(done) } else { Err(Errno::ENOSPC) };
            }
            buffer.resize(count as usize, 0);
            if self.dirty_bytes() > DIRTY_LIMIT {
                self.write_back(0..u64::MAX)?;
            }
            let step = src
                .read(&mut buffer)
                .and_then(|got| self.store(start, &buffer[..got]).map(|()| got));
            match step {
                Ok(0) => break,
                Ok(moved) => done += moved,
                Err(_) if done > 0 => return Ok(done),
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Puts `data` at byte `at` into the cache. Pages written only in part are read first.
    fn store(&self, at: u64, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let end = at + data.len() as u64;
        let (first, behind) = (at / PAGE, end.div_ceil(PAGE));
        if !at.is_multiple_of(PAGE) {
            self.make_valid(first..first + 1)?;
        }
        if !end.is_multiple_of(PAGE) && end < self.len() {
            self.make_valid(behind - 1..behind)?;
        }
        self.claim(first..behind)?;
        let written = self.memory.write_at(data, at);
        let mut pages = self.pages.lock();
        pages.mark(first..behind, BUSY, Mark::Clear);
        if written.is_ok() {
            pages.mark(first..behind, VALID, Mark::Set);
            let fresh = pages.mark(first..behind, DIRTY, Mark::Set);
            self.dirty_pages.fetch_add(fresh, Ordering::Relaxed);
        }
        drop(pages);
        self.settled.wake_all();
        written
    }

    /// Waits until no page of `range` is in flight and takes all of them.
    fn claim(&self, range: Range<u64>) -> Result<()> {
        self.settled
            .wait_until(Interruptible::No, None, || {
                let mut pages = self.pages.lock();
                if range.clone().any(|page| pages.get(page).2) {
                    return None;
                }
                pages.mark(range.clone(), BUSY, Mark::Set);
                Some(())
            })
            .map_err(Errno::from)
    }

    /// Reads in what is missing of the pages `range`.
    fn make_valid(&self, range: Range<u64>) -> Result<()> {
        loop {
            let look = self
                .settled
                .wait_until(Interruptible::No, None, || match self.look(range.clone()) {
                    Look::Wait => None,
                    look => Some(look),
                })?;
            match look {
                Look::Claimed(missing) => self.fill(missing)?,
                Look::Valid | Look::Wait => return Ok(()),
            }
        }
    }

    /// Finds the first missing run of `range` and claims it, stretched for a sequential reader.
    fn look(&self, range: Range<u64>) -> Look {
        let mut pages = self.pages.lock();
        let mut start = None;
        for page in range.clone() {
            let (valid, _, busy) = pages.get(page);
            if busy {
                return Look::Wait;
            }
            if !valid {
                start = Some(page);
                break;
            }
        }
        let sequential = pages.next_read == range.start;
        pages.next_read = range.end;
        let Some(start) = start else { return Look::Valid };
        let last = self.len().div_ceil(PAGE);
        let wanted = if sequential {
            range.end.max(start + self.read_ahead.load(Ordering::Relaxed) / PAGE)
        } else {
            range.end
        };
        let limit = wanted.min(start + WINDOW / PAGE).min(last);
        let mut end = start;
        while end < limit {
            let (valid, _, busy) = pages.get(end);
            if valid || busy {
                break;
            }
            end += 1;
        }
        pages.mark(start..end, BUSY, Mark::Set);
        Look::Claimed(start..end)
    }

    /// Reads claimed pages from the backing.
    fn fill(&self, range: Range<u64>) -> Result<()> {
        let at = range.start * PAGE;
        let count = (range.end * PAGE).min(self.len()).saturating_sub(at);
        let read = self
            .backing
            .read_owned(at, count as usize)
            .and_then(|data| self.memory.write_at(&data, at));
        let mut pages = self.pages.lock();
        pages.mark(range.clone(), BUSY, Mark::Clear);
        if read.is_ok() {
            pages.mark(range, VALID, Mark::Set);
        }
        drop(pages);
        self.settled.wake_all();
        read
    }

    /// Writes everything dirty to the backing and has it flushed: `fsync(2)`.
    ///
    /// # Errors
    /// What the backing said, now or to a write-back nobody has been told of; the pages stay dirty.
    pub fn sync(&self) -> Result<()> {
        self.write_back(0..u64::MAX)?;
        let earlier = self.pages.lock().error.take();
        self.backing.flush()?;
        earlier.map_or(Ok(()), Err)
    }

    /// Writes the dirty pages of `range` (page numbers) to the backing, without a flush. An error is also kept for the next [`sync`](Self::sync).
    pub fn write_back(&self, range: Range<u64>) -> Result<()> {
        let mut from = range.start;
        while self.dirty_pages.load(Ordering::Relaxed) > 0 {
            let run = self
                .settled
                .wait_until(Interruptible::No, None, || self.claim_dirty(from..range.end))?;
            let Some(run) = run else { break };
            let at = run.start * PAGE;
            let count = (run.end * PAGE).min(self.len()).saturating_sub(at);
            let cleaned = self.clean(at..at + count);
            let mut data = vec![0; count as usize];
            let written = match self.memory.read_at(&mut data, at) {
                // The contents became shorter.
                _ if count == 0 => Ok(()),
                read => read.and_then(|_| self.backing.write_owned(at, data)),
            };
            let mut pages = self.pages.lock();
            pages.mark(run.clone(), BUSY, Mark::Clear);
            pages.mark(run.clone(), WRITING, Mark::Clear);
            if written.is_err() || cleaned == Cleaned::NotYet {
                let again = pages.mark(run.clone(), DIRTY, Mark::Set);
                self.dirty_pages.fetch_add(again, Ordering::Relaxed);
            }
            if let Err(error) = written {
                pages.error.get_or_insert(error);
            }
            drop(pages);
            self.settled.wake_all();
            written?;
            from = run.end;
        }
        // What others have begun to write counts as well: it was dirty when the caller asked.
        let written = || (!self.pages.lock().any(&range, |chunk| chunk.writing)).then_some(());
        self.settled
            .wait_until(Interruptible::No, None, written)
            .map_err(Errno::from)
    }

    /// Takes the right to write the bytes `range` away from guests that map them, so that the next write tells.
    fn clean(&self, range: Range<u64>) -> Cleaned {
        let mut cleaned = Cleaned::Yes;
        for (base, source) in self.sources() {
            let part = range.start.saturating_sub(base)..range.end.saturating_sub(base);
            if !part.is_empty() && cached::clean(&source, part) == Cleaned::NotYet {
                cleaned = Cleaned::NotYet;
            }
        }
        cleaned
    }

    fn sources(&self) -> Vec<(u64, Arc<dyn PageSource>)> {
        let sources = self.sources.lock();
        let alive = sources
            .iter()
            .filter_map(|(base, source)| Some((*base, source.upgrade()?)));
        alive.collect()
    }

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
        let pages = range.start / PAGE..range.end.div_ceil(PAGE).min(self.len().div_ceil(PAGE));
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
                let mut state = self.pages.lock();
                state.mark(part.clone(), BUSY, Mark::Clear);
                state.prune(&part);
                drop(state);
                self.settled.wake_all();
            }
            from = part.end;
        }
        outcome
    }

    /// Makes claimed, clean pages true again.
    fn renew(&self, run: Range<u64>) -> Result<()> {
        let at = run.start * PAGE;
        let count = (run.end * PAGE).min(self.len()).saturating_sub(at);
        let mut read = Ok(());
        if self.is_mapped() {
            let data = self.backing.read_owned(at, count as usize);
            read = data.and_then(|data| self.memory.write_at(&data, at));
            if read.is_ok() {
                return Ok(());
            }
        }
        self.pages.lock().mark(run.clone(), VALID, Mark::Clear);
        read.and(self.memory.punch_hole(at..run.end * PAGE))
    }

    /// The first dirty run at or behind `range.start`, marked busy and clean. `Some(None)`: there is none. `None`: wait for one in flight.
    fn claim_dirty(&self, range: Range<u64>) -> Option<Option<Range<u64>>> {
        let mut pages = self.pages.lock();
        let mut found = None;
        'search: for (&index, chunk) in pages.chunks.range(range.start / 64..) {
            if index * 64 >= range.end {
                break;
            }
            for bit in 0..64 {
                let page = index * 64 + bit;
                if chunk.dirty & 1 << bit != 0 && range.contains(&page) {
                    found = Some(page);
                    break 'search;
                }
            }
        }
        let Some(start) = found else { return Some(None) };
        if pages.get(start).2 {
            return None;
        }
        let limit = range.end.min(start + WINDOW / PAGE);
        let mut end = start;
        while end < limit && matches!(pages.get(end), (_, true, false)) {
            end += 1;
        }
        let cleaned = pages.mark(start..end, DIRTY, Mark::Clear);
        self.dirty_pages.fetch_sub(cleaned, Ordering::Relaxed);
        pages.mark(start..end, BUSY, Mark::Set);
        pages.mark(start..end, WRITING, Mark::Set);
        Some(Some(start..end))
    }

    /// Writes back and forgets the bytes `range`, so that the next reader asks the backing (`BLKFLSBUF`, `POSIX_FADV_DONTNEED`). While guests map
    /// the cache its pages stay.
    pub fn invalidate(&self, range: Range<u64>) -> Result<()> {
        let pages = range.start / PAGE..range.end.div_ceil(PAGE).min(self.len().div_ceil(PAGE));
        if pages.is_empty() || !self.holds(&pages) {
            return Ok(());
        }
        self.write_back(pages.clone())?;
        if self.is_mapped() {
            return Ok(());
        }
        self.drop_pages(pages)
    }

    /// Forgets everything, dirty or not: the medium behind it is another one. Guests that map it see zeros.
    pub fn forget(&self) -> Result<()> {
        let last = self.pages.lock().chunks.keys().next_back().copied();
        match last {
            Some(last) => self.drop_pages(0..(last + 1) * 64),
            None => Ok(()),
        }
    }

    fn is_mapped(&self) -> bool {
        self.sources().iter().any(|(_, source)| cached::is_mapped(source))
    }

    fn drop_pages(&self, pages: Range<u64>) -> Result<()> {
        self.claim(pages.clone())?;
        let punched = self.memory.punch_hole(pages.start * PAGE..pages.end * PAGE);
        let mut state = self.pages.lock();
        state.mark(pages.clone(), VALID, Mark::Clear);
        let dropped = state.mark(pages.clone(), DIRTY, Mark::Clear);
        self.dirty_pages.fetch_sub(dropped, Ordering::Relaxed);
        state.mark(pages, BUSY, Mark::Clear);
        state.chunks.retain(|_, chunk| !chunk.is_blank());
        drop(state);
        self.settled.wake_all();
        punched
    }

    fn fill_pages(&self, start: u64, end: u64) -> Result<u64> {
        let end = end.min(self.len().next_multiple_of(PAGE));
        if start < end {
            self.make_valid(start / PAGE..end / PAGE)?;
        }
        Ok(end)
    }

    /// The size of the backing changed.
    pub fn resized(&self) -> Result<()> {
        self.memory.resize(self.len().next_multiple_of(PAGE))
    }
}

impl PageSource for PageCache {
    fn memory(&self) -> (Arc<OwnedFd>, u64) {
        (self.memory.fd(), 0)
    }

    fn fill(&self, start: u64, end: u64) -> Result<u64> {
        self.fill_pages(start, end)
    }

    fn dirtied(&self, start: u64, end: u64) {
        let range = start / PAGE..end.div_ceil(PAGE).min(self.len().div_ceil(PAGE));
        if !range.is_empty() {
            let fresh = self.pages.lock().mark(range, DIRTY, Mark::Set);
            self.dirty_pages.fetch_add(fresh, Ordering::Relaxed);
        }
    }
}

/// Part of a cache as something to map.
struct Window {
    cache: Arc<PageCache>,
    base: u64,
    len: u64,
}

impl PageSource for Window {
    fn memory(&self) -> (Arc<OwnedFd>, u64) {
        (self.cache.memory.fd(), self.base)
    }

    fn fill(&self, start: u64, end: u64) -> Result<u64> {
        let end = end.min(self.len.next_multiple_of(PAGE));
        if start >= end {
            return Ok(end);
        }
        let filled = self.cache.fill_pages(self.base + start, self.base + end)?;
        Ok(filled.saturating_sub(self.base))
    }

    fn dirtied(&self, start: u64, end: u64) {
        self.cache
            .dirtied(self.base + start, self.base + end.min(self.len.next_multiple_of(PAGE)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{SliceSink, SliceSource};

    struct Disk {
        data: SpinLock<Vec<u8>>,
        fail: AtomicU64,
    }

    impl Backing for Disk {
        fn len(&self) -> u64 {
            self.data.lock().len() as u64
        }
        fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
            data.copy_from_slice(&self.data.lock()[at as usize..][..data.len()]);
            Ok(())
        }
        fn write(&self, at: u64, data: &[u8]) -> Result<()> {
            if self.fail.load(Ordering::Relaxed) != 0 {
                return Err(Errno::EIO);
            }
            self.data.lock()[at as usize..][..data.len()].copy_from_slice(data);
            Ok(())
        }
        fn flush(&self) -> Result<()> {
            Ok(())
        }
    }

    fn disk(len: usize) -> (Arc<Disk>, Arc<PageCache>) {
        let data = (0..len).map(|at| (at / 7) as u8).collect();
        let disk = Arc::new(Disk {
            data: SpinLock::new(&order::LEAF, data),
            fail: AtomicU64::new(0),
        });
        let cache = PageCache::new("test", disk.clone()).expect("a memory file");
        (disk, cache)
    }

    #[test]
    fn reads_see_the_backing_and_earlier_writes() {
        let (_, cache) = disk(300_000);
        assert_eq!(cache.write(5000, &mut SliceSource::new(b"hello")), Ok(5));
        let mut data = vec![0; 300_000];
        assert_eq!(cache.read(0, &mut SliceSink::new(&mut data)), Ok(300_000));
        assert_eq!(&data[5000..5005], b"hello");
        assert!(
            data.iter()
                .enumerate()
                .all(|(at, &byte)| (5000..5005).contains(&at) || byte == (at / 7) as u8)
        );
    }

    #[test]
    fn sync_writes_each_dirty_page_and_nothing_past_the_end() {
        let (disk, cache) = disk(10_001);
        assert_eq!(cache.write(9_990, &mut SliceSource::new(&[1; 100])), Ok(11));
        assert_eq!(cache.write(10_001, &mut SliceSource::new(&[1])), Err(Errno::ENOSPC));
        assert_eq!(cache.dirty_bytes(), PAGE);
        cache.sync().expect("it is written");
        assert_eq!(cache.dirty_bytes(), 0);
        assert_eq!(disk.data.lock()[9_990..], [1; 11]);
    }

    #[test]
    fn a_failed_write_back_is_reported_and_tried_again() {
        let (disk, cache) = disk(8192);
        cache.write(0, &mut SliceSource::new(&[9; 4096])).expect("it is cached");
        disk.fail.store(1, Ordering::Relaxed);
        assert_eq!(cache.sync(), Err(Errno::EIO));
        disk.fail.store(0, Ordering::Relaxed);
        let _ = cache.sync();
        assert_eq!(disk.data.lock()[..4096], [9; 4096]);
    }

    #[test]
    fn a_write_back_waits_for_the_one_that_is_under_way() {
        let (_, cache) = disk(8192);
        cache.write(0, &mut SliceSource::new(&[9; 4096])).expect("it is cached");
        let run = cache.claim_dirty(0..u64::MAX);
        assert_eq!(run, Some(Some(0..1)));
        assert_eq!(cache.dirty_bytes(), 0);
        assert!(cache.pages.lock().any(&(0..u64::MAX), |chunk| chunk.writing));
        assert!(!cache.pages.lock().any(&(1..u64::MAX), |chunk| chunk.writing));
        cache.write_back(1..u64::MAX).expect("nothing is written there");
    }

    #[test]
    fn invalidated_pages_are_read_again() {
        let (disk, cache) = disk(8192);
        let mut byte = [0];
        cache.read(4096, &mut SliceSink::new(&mut byte)).expect("a byte");
        disk.data.lock()[4096] = 77;
        cache.invalidate(0..8192).expect("nothing is dirty");
        cache.read(4096, &mut SliceSink::new(&mut byte)).expect("a byte");
        assert_eq!(byte, [77]);
    }
}
