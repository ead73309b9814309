//! A file's contents: its page cache, reading from the disk, space. Writing is in [`super::write_out`].

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use kernel::page_cache::{Backing, PageCache, ReadDone};

use crate::device::BlockDevice;
use crate::inode::Inode;
use crate::instance::Ext4;
use crate::layout::inode::Flags;
use crate::map::{self, Kind};
use crate::{Errno, Result};

/// Page caches with memory files that an instance keeps when nobody uses them: each costs a descriptor of the host. Their bytes are bounded by
/// [`kernel::page_cache::reclaim`].
const CACHES: usize = 512;

/// What a page cache reads from and writes to.
struct Contents {
    inode: Weak<Inode>,
    size: Arc<AtomicU64>,
}

impl Contents {
    fn inode(&self) -> Result<Arc<Inode>> {
        self.inode.upgrade().ok_or(Errno::EIO)
    }
}

impl Backing for Contents {
    fn len(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        self.inode()?.read_disk(at, data)
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        self.write_runs(vec![(at, data.to_vec())])
            .pop()
            .unwrap_or(Err(Errno::EIO))
    }

    fn read_owned(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        let inode = self.inode()?;
        match inode.reads(at, len)? {
            Some(reads) if reads.is_one_run() => {
                let (start, count) = reads.runs[0];
                let mut data = inode.fs.device.read_owned(start, count)?;
                data.truncate(len);
                Ok(data)
            }
            _ => {
                let mut data = vec![0; len];
                inode.read_disk(at, &mut data)?;
                Ok(data)
            }
        }
    }

    fn start_read(&self, at: u64, len: usize, done: ReadDone) {
        let started = self.inode().and_then(|inode| Ok((inode.reads(at, len)?, inode)));
        match started {
            Ok((Some(reads), inode)) => {
                let runs = reads.runs.clone();
                let device = inode.fs.device.clone();
                device.start_reads(runs, Box::new(move |got| done(reads.put_together(got))));
            }
            Ok((None, _)) => done(self.read_owned(at, len)),
            Err(error) => done(Err(error)),
        }
    }

    fn make_room(&self, range: Range<u64>) -> Result<()> {
        self.inode()?.promise_for_store(range)
    }

    fn write_runs(&self, runs: Vec<(u64, Vec<u8>)>) -> Vec<Result<()>> {
        match self.inode() {
            Ok(inode) => inode.write_disk(runs),
            Err(error) => vec![Err(error); runs.len()],
        }
    }

    /// The one who syncs commits the journal, which flushes.
    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

/// A run of file blocks of one kind.
pub(super) struct Piece {
    pub blocks: Range<u64>,
    pub kind: Kind,
    pub block: u64,
}

/// What is to be read of the disk for a range of a file: whole blocks.
struct Reads {
    len: usize,
    /// First byte on the device and length.
    runs: Vec<(u64, usize)>,
    /// Where each run begins in the range; between them are zeros.
    places: Vec<usize>,
}

impl Reads {
    /// Whether one run is all of it.
    fn is_one_run(&self) -> bool {
        self.places == [0] && self.runs[0].1 >= self.len
    }

    /// The range, of what came of the runs.
    fn put_together(&self, mut got: Vec<Result<Vec<u8>>>) -> Result<Vec<u8>> {
        if self.is_one_run() {
            let mut data = got.pop().unwrap_or(Err(Errno::EIO))?;
            data.truncate(self.len);
            return Ok(data);
        }
        let mut whole = vec![0; self.len];
        for (place, data) in self.places.iter().zip(got) {
            let data = data?;
            let count = data.len().min(self.len - place);
            whole[*place..place + count].copy_from_slice(&data[..count]);
        }
        Ok(whole)
    }
}

impl Inode {
    /// Its page cache, made at first use.
    pub(crate) fn cache(&self) -> Arc<PageCache> {
        if let Some(cache) = self.pages.lock().as_ref() {
            return cache.clone();
        }
        let contents = Arc::new(Contents {
            inode: self.me.clone(),
            size: self.size.clone(),
        });
        let fresh = PageCache::new("ext4", contents);
        self.pages.lock().get_or_insert(fresh).clone()
    }

    /// The page cache if there is one.
    pub(crate) fn cache_now(&self) -> Option<Arc<PageCache>> {
        self.pages.lock().clone()
    }

    /// Reads from the disk. Holes and unwritten blocks are zeros.
    fn read_disk(&self, at: u64, data: &mut [u8]) -> Result<()> {
        if let Some(inline) = self.inline_contents()? {
            data.fill(0);
            let from = (at as usize).min(inline.len());
            let count = data.len().min(inline.len() - from);
            data[..count].copy_from_slice(&inline[from..from + count]);
            return Ok(());
        }
        let size = self.fs.block_size();
        let end = at + data.len() as u64;
        let pieces = self.pieces(at / size..end.div_ceil(size))?;
        for piece in pieces {
            let from = (piece.blocks.start * size).max(at);
            let to = (piece.blocks.end * size).min(end);
            let part = &mut data[(from - at) as usize..(to - at) as usize];
            if piece.kind != Kind::Written {
                part.fill(0);
                continue;
            }
            let start = piece.block * size + (from - piece.blocks.start * size);
            if self.logs_data() {
                self.read_logged(start, part)?;
            } else if start.is_multiple_of(512) && part.len().is_multiple_of(512) {
                self.fs.device.read(start, part)?;
            } else {
                let first = start / size * size;
                let mut whole = vec![0; ((start + part.len() as u64).next_multiple_of(size) - first) as usize];
                self.fs.device.read(first, &mut whole)?;
                let skip = (start - first) as usize;
                part.copy_from_slice(&whole[skip..skip + part.len()]);
            }
        }
        Ok(())
    }

    /// What is to be read for bytes of the file. None if they are not in whole blocks of the disk, or may be in memory still.
    fn reads(&self, at: u64, len: usize) -> Result<Option<Reads>> {
        let size = self.fs.block_size();
        if self.has(Flags::INLINE_DATA) || self.logs_data() || !at.is_multiple_of(size) {
            return Ok(None);
        }
        let mut reads = Reads {
            len,
            runs: Vec::new(),
            places: Vec::new(),
        };
        let pieces = self.pieces(at / size..(at + len as u64).div_ceil(size))?;
        for piece in pieces.iter().filter(|piece| piece.kind == Kind::Written) {
            let bytes = (piece.blocks.end - piece.blocks.start) * size;
            reads.runs.push((piece.block * size, bytes as usize));
            reads.places.push((piece.blocks.start * size - at) as usize);
        }
        Ok(Some(reads))
    }

    /// What the blocks of `range` are now.
    pub(super) fn pieces(&self, range: Range<u64>) -> Result<Vec<Piece>> {
        let mut pieces: Vec<Piece> = Vec::new();
        let meta = self.fs.meta.read();
        let mut at = range.start;
        while at < range.end {
            let found = map::lookup(&self.fs, &meta, self, at, range.end - at)?;
            let blocks = at..at + found.len;
            at = blocks.end;
            match pieces.last_mut() {
                Some(last)
                    if last.kind == found.kind
                        && (found.kind == Kind::Hole
                            || last.block + (last.blocks.end - last.blocks.start) == found.block) =>
                {
                    last.blocks.end = blocks.end;
                }
                _ => pieces.push(Piece {
                    blocks,
                    kind: found.kind,
                    block: found.block,
                }),
            }
        }
        Ok(pieces)
    }

    /// Promises space to the blocks that hold bytes `range` and have none. What was promised now.
    pub(crate) fn promise(&self, range: Range<u64>) -> Result<Vec<Range<u64>>> {
        let size = self.fs.block_size();
        let blocks = range.start / size..range.end.div_ceil(size);
        if blocks.end > map::most_blocks(&self.fs, self) {
            return Err(Errno::EFBIG);
        }
        let missing = self.promise.lock().missing(blocks);
        let mut fresh = Vec::new();
        for gap in missing {
            let holes = self.pieces(gap)?.into_iter().filter(|piece| piece.kind == Kind::Hole);
            fresh.extend(holes.map(|piece| piece.blocks));
        }
        let count: u64 = fresh.iter().map(|range| range.end - range.start).sum();
        if count == 0 {
            return Ok(fresh);
        }
        let paid = self.promise.lock().price(count);
        self.fs.promise(paid)?;
        // Meanwhile others may have been promised some of them, and write-back may have needed some of what was promised.
        let (fresh, cost) = self.promise.lock().add(fresh);
        self.fs.counters.settle(paid, cost);
        Ok(fresh)
    }

    /// A program is about to store into these mapped bytes: the holes among them are promised space. Nothing keeps the size from changing.
    fn promise_for_store(&self, range: Range<u64>) -> Result<()> {
        let end = range.end.min(self.len_now());
        if range.start >= end || self.has(Flags::INLINE_DATA) {
            return Ok(());
        }
        let outcome = self.promise(range.start..end).map(|_| ());
        // Who cut the file before we came to it has taken no promise back.
        let len = self.len_now();
        if len < end {
            self.unpromise(len.div_ceil(self.fs.block_size())..u64::MAX);
        }
        outcome
    }

    /// Takes promises for the blocks `range` back.
    pub(crate) fn unpromise(&self, range: Range<u64>) {
        let back = self.promise.lock().remove(range);
        self.fs.counters.keep(back);
    }
}

impl Ext4 {
    /// Blocks for file block `at`: what commits can free is waited for before `ENOSPC`.
    pub(crate) fn take_for_file(&self, inode: &Inode, at: u64, want: u32) -> Result<crate::space::blocks::Run> {
        for attempt in 0..2 {
            {
                let mut meta = self.meta.write();
                let goal = map::goal(self, &meta, inode, at);
                match self.take(&mut meta, goal, want) {
                    Err(Errno::ENOSPC) if attempt == 0 => {}
                    other => return other,
                }
            }
            self.journal.commit(self.journal.running())?;
        }
        Err(Errno::ENOSPC)
    }

    /// Blocks that only changes of what exists may use, so that a hole can be punched into an extent on a full disk.
    pub(crate) fn set_aside(&self) -> u64 {
        if self.geometry.has_extents() {
            (self.geometry.size.blocks() / 50).min(4096)
        } else {
            0
        }
    }

    /// Blocks that the caller may not take for anything new; the last ones are for the superuser.
    fn kept(&self) -> u64 {
        let reserved = if self.may_use_reserve() {
            0
        } else {
            self.geometry.size.reserved_blocks()
        };
        self.set_aside() + reserved
    }

    /// Blocks that the caller may take for something new.
    pub(crate) fn left_for_new(&self) -> u64 {
        u64::try_from(self.counters.left())
            .unwrap_or(0)
            .saturating_sub(self.kept())
    }

    /// Promises blocks to the caller.
    pub(crate) fn promise(&self, count: u64) -> Result<()> {
        let keep = self.kept();
        if self.counters.promise(count, keep).is_ok() {
            return Ok(());
        }
        self.reclaim()?;
        self.counters.promise(count, keep)
    }

    /// Makes everything available that is free but for a commit, or belongs to files without names whose data has not been written yet.
    pub(crate) fn reclaim(&self) -> Result<()> {
        self.drop_nameless_dirt();
        self.bury()?;
        self.wait_for_space()
    }

    /// Tries again, once, when space ran out and more has become available. Not inside a transaction.
    pub(crate) fn retry<T>(&self, mut attempt: impl FnMut() -> Result<T>) -> Result<T> {
        match attempt() {
            Err(Errno::ENOSPC) => {
                self.reclaim()?;
                attempt()
            }
            other => other,
        }
    }

    /// Makes what was freed available: it is when a commit has written that.
    pub(crate) fn wait_for_space(&self) -> Result<()> {
        if !self.counters.has_pending() {
            return Ok(());
        }
        self.journal.commit(self.journal.running())?;
        self.absorb_released(&mut self.meta.write());
        Ok(())
    }

    /// What may be taken for something new, after all has been made available. `ENOSPC` for nothing.
    pub(crate) fn require_space(&self) -> Result<u64> {
        if self.left_for_new() < 4 {
            self.reclaim()?;
        }
        match self.left_for_new() {
            0 => Err(Errno::ENOSPC),
            left => Ok(left),
        }
    }

    fn may_use_reserve(&self) -> bool {
        let (uid, gid) = {
            let options = self.options.lock();
            (options.resuid, options.resgid)
        };
        kernel::task::try_current().is_none_or(|task| {
            let cred = task.cred();
            cred.capable(kernel::task::Capabilities::SYS_RESOURCE)
                || cred.fsuid == uid
                || (gid != 0 && cred.fsgid == gid)
        })
    }

    /// Gives up page caches with memory files that nobody uses when there are too many; `fresh` is a new one. Those with data still to be written are written first.
    pub(super) fn bound_caches(&self, fresh: &Weak<Inode>) {
        let surplus = {
            let mut cached = self.cached.lock();
            cached.push(fresh.clone());
            cached.retain(|inode| inode.strong_count() > 0);
            if cached.len() <= CACHES {
                return;
            }
            let count = cached.len() - CACHES * 3 / 4;
            cached.drain(..count).collect::<Vec<_>>()
        };
        for weak in surplus {
            let Some(inode) = weak.upgrade() else { continue };
            if core::ptr::eq(Arc::as_ptr(&inode), fresh.as_ptr()) {
                self.cached.lock().push(weak);
                continue;
            }
            // An error is kept by the cache and told to the next `fsync`.
            let _ = inode.write_out();
            let idle = {
                let mut pages = inode.pages.lock();
                match pages.as_ref() {
                    Some(cache)
                        if Arc::strong_count(cache) == 1 && cache.dirty_bytes() == 0 && !cache.has_untold_error() =>
                    {
                        pages.take()
                    }
                    _ => None,
                }
            };
            if idle.is_none() {
                self.cached.lock().push(weak);
            }
            drop(idle);
        }
    }
}
