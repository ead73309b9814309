//! The page cache: contents of a block device (or of a disk file) in memory, filled and written back on demand.
//!
//! A [`PageCache`] knows of each page whether it is valid, dirty, or in flight (busy). Data lies in a [`storage`]: in [`runs`] of bytes, or where guests
//! map it ([`PageSource`]) in a memory file; the owner of the contents is a [`Backing`]. Neighbours: `block::file` (device files), file systems.
//!
//! * [`pages`]: the state of pages.  * [`read`]: reading, and what is fetched for it.  * [`read_ahead`]: what a reader will want next.
//! * [`write`]: writing into the cache, limits of what is dirty.  * [`write_back`]: dirty pages on their way to the backing; errors of that
//!   ([`errors`]).  * [`truncate`], [`invalidate`]: contents that change below.  * [`reclaim`]: the memory of all caches has a bound.
//! * mappings ([`source`]).
//!
//! Lock order: `PageCache::pages` ([`order::PAGE_CACHE`]) is a short spin lock, never held over I/O or a copy. Pages in flight are marked busy and
//! waited for on `settled`. Who holds busy pages waits for no others.

pub(crate) mod buffers;
pub mod errors;
#[cfg(test)]
mod in_flight_tests;
mod invalidate;
mod pages;
mod read;
pub mod read_ahead;
pub mod reclaim;
mod runs;
mod source;
mod storage;
#[cfg(test)]
mod tests;
mod truncate;
pub(crate) mod write;
pub mod write_back;

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arch_um::sync::{Interruptible, SpinLock, WaitQueue, order};

use crate::vfs::file::PageSource;
use crate::{Errno, Result};

pub use errors::ErrorCursor;
pub use read_ahead::{Pattern, ReadAhead};
pub use storage::own_bytes;
pub use write::dirty_bytes;
pub use write_back::WriteBack;

use errors::Errors;
use pages::{BUSY, DIRTY, Mark, Pages, VALID};
use storage::Storage;

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Most bytes of one run read or written at the backing.
const WINDOW: u64 = 1 << 20;
/// Bytes of a read-ahead window, unless told otherwise (`BLKRASET`): what Linux has by default.
const READ_AHEAD: u64 = 128 << 10;

/// Takes what was read, on any host thread; may not sleep.
pub type ReadDone = Box<dyn FnOnce(Result<Vec<u8>>) + Send>;

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
    /// Starts a read that nobody waits for yet; `done` is called once, now or later. By default it is waited for.
    fn start_read(&self, at: u64, len: usize, done: ReadDone) {
        done(self.read_owned(at, len));
    }
    /// Somebody is about to store into these bytes through a mapping: afterwards writing them does not fail for want of space. `ENOSPC`, `EIO`.
    fn make_room(&self, _range: Range<u64>) -> Result<()> {
        Ok(())
    }
    /// As [`write`](Self::write) of several runs (first byte and data), ascending and apart, at once: what came of each.
    fn write_runs(&self, runs: Vec<(u64, Vec<u8>)>) -> Vec<Result<()>> {
        runs.iter().map(|(at, data)| self.write(*at, data)).collect()
    }
}

/// Cached contents.
pub struct PageCache {
    me: Weak<PageCache>,
    storage: Storage,
    backing: Arc<dyn Backing>,
    pages: SpinLock<Pages>,
    settled: WaitQueue,
    valid_pages: AtomicU64,
    dirty_pages: AtomicU64,
    read_ahead: AtomicU64,
    /// Of readers without a file of their own, and of faults.
    reader: ReadAhead,
    errors: Errors,
    /// The flusher has been asked to come.
    flush_asked: AtomicBool,
    /// What guests map: the cache itself and windows on parts of it, each with its first byte.
    sources: SpinLock<Vec<(u64, Weak<dyn PageSource>)>>,
}

impl PageCache {
    /// An empty cache over `backing`; `name` shows in the host's list of mappings once it is mapped.
    pub fn new(name: &str, backing: Arc<dyn Backing>) -> Arc<Self> {
        let cache = Arc::new_cyclic(|me: &Weak<Self>| {
            let whole: Weak<dyn PageSource> = me.clone();
            Self {
                me: me.clone(),
                storage: Storage::new(name),
                backing,
                pages: SpinLock::new(&order::PAGE_CACHE, Pages::default()),
                settled: WaitQueue::new(),
                valid_pages: AtomicU64::new(0),
                dirty_pages: AtomicU64::new(0),
                read_ahead: AtomicU64::new(READ_AHEAD),
                reader: ReadAhead::new(),
                errors: Errors::default(),
                flush_asked: AtomicBool::new(false),
                sources: SpinLock::new(&order::LEAF, vec![(0, whole)]),
            }
        });
        reclaim::register(&cache);
        cache
    }

    /// Bytes a sequential reader is served ahead (`BLKRASET`).
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

    /// Bytes of memory in use, for accounting.
    pub fn cached_bytes(&self) -> u64 {
        self.storage.allocated()
    }

    /// Bytes that wait to be written back.
    pub fn dirty_bytes(&self) -> u64 {
        self.dirty_pages.load(Ordering::Relaxed) * PAGE
    }

    /// Whether it has a memory file, which costs a descriptor of the host.
    pub fn is_shared(&self) -> bool {
        self.storage.is_shared()
    }

    /// Moves the contents to a memory file, so that guests can map them. The caller holds no pages.
    ///
    /// # Errors
    /// `EMFILE`/`ENFILE`: the host has no descriptor left; `ENOSPC`/`ENOMEM`: no memory.
    pub fn share(&self) -> Result<()> {
        if self.storage.is_shared() {
            return Ok(());
        }
        let close = || self.pages.lock().close().then_some(());
        self.settled.wait_until(Interruptible::No, None, close)?;
        let idle = || self.pages.lock().is_idle().then_some(());
        let waited = self.settled.wait_until(Interruptible::No, None, idle);
        let shared = waited
            .map_err(Errno::from)
            .and_then(|()| self.storage.share(self.len().next_multiple_of(PAGE)))
            .and_then(|()| self.resized());
        self.pages.lock().open();
        self.settled.wake_all();
        shared
    }

    /// The size of the backing changed.
    pub fn resized(&self) -> Result<()> {
        self.storage.resize(self.len().next_multiple_of(PAGE))
    }

    /// The contents went up to byte `old` and go on now. Who may store into the rest of that page asks for room anew.
    pub fn grew(&self, old: u64) -> Result<()> {
        if !old.is_multiple_of(PAGE) {
            self.clean(old / PAGE * PAGE..old.next_multiple_of(PAGE));
        }
        self.resized()
    }

    /// Pages that hold bytes.
    fn last_page(&self) -> u64 {
        self.len().div_ceil(PAGE)
    }

    /// Bytes of the pages `range`, cut at the end of the contents.
    fn bytes_of(&self, range: &Range<u64>) -> (u64, usize) {
        let at = range.start * PAGE;
        (at, (range.end * PAGE).min(self.len()).saturating_sub(at) as usize)
    }

    /// Waits until no page of `range` is in flight and takes all of them.
    fn claim(&self, range: Range<u64>) -> Result<()> {
        self.settled
            .wait_until(Interruptible::No, None, || {
                let mut pages = self.pages.lock();
                if pages.is_closed() || pages.any(&range, |chunk| chunk.busy) {
                    return None;
                }
                pages.mark(range.clone(), BUSY, Mark::Set);
                Some(())
            })
            .map_err(Errno::from)
    }

    /// Gives claimed pages free.
    fn release(&self, range: Range<u64>) {
        let mut pages = self.pages.lock();
        pages.mark(range.clone(), BUSY, Mark::Clear);
        pages.prune(&range);
        drop(pages);
        self.settled.wake_all();
    }

    /// The pages have contents now.
    fn set_valid(&self, pages: &mut Pages, range: Range<u64>) {
        let fresh = pages.mark(range, VALID, Mark::Set);
        self.valid_pages.fetch_add(fresh, Ordering::Relaxed);
        reclaim::grew(fresh);
    }

    /// The pages have none any more.
    fn set_invalid(&self, pages: &mut Pages, range: Range<u64>) {
        let gone = pages.mark(range, VALID, Mark::Clear);
        self.valid_pages.fetch_sub(gone, Ordering::Relaxed);
        reclaim::shrank(gone);
    }

    /// The contents of the pages are newer than the backing's.
    fn set_dirty(&self, pages: &mut Pages, range: Range<u64>) {
        let fresh = pages.mark(range, DIRTY, Mark::Set);
        self.dirty_pages.fetch_add(fresh, Ordering::Relaxed);
        write::grew(fresh);
    }

    /// They are not, or nobody wants them.
    fn set_clean(&self, pages: &mut Pages, range: Range<u64>) {
        let gone = pages.mark(range, DIRTY, Mark::Clear);
        self.dirty_pages.fetch_sub(gone, Ordering::Relaxed);
        write::shrank(gone);
    }
}

impl Drop for PageCache {
    fn drop(&mut self) {
        reclaim::shrank(*self.valid_pages.get_mut());
        write::shrank(*self.dirty_pages.get_mut());
    }
}
