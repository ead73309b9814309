//! A file's contents between its page cache and the disk.
//!
//! Reading translates file blocks and reads runs. Writing back goes by what a block is: one with contents is overwritten; an unwritten one is written
//! and then marked so; a promised one is taken, written, and then put into the map. A hole of which nothing was promised stays one if it is zero.

use alloc::sync::{Arc, Weak};
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::{AtomicU64, Ordering};

use kernel::page_cache::{Backing, PageCache};

use crate::device::BlockDevice;
use crate::inode::Inode;
use crate::instance::Ext4;
use crate::layout::inode::Flags;
use crate::map::{self, Kind};
use crate::transaction::Tx;
use crate::{Errno, Result};

/// Blocks that putting one run into a map can change.
pub(crate) const INSERT_CREDITS: u32 = 40;
/// Page caches of an instance that may stay when nobody uses them: each costs a descriptor of the host.
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
        let inode = self.inode()?;
        inode.write_disk(at, data).inspect_err(|&error| {
            if error == Errno::EIO && inode.fs.has_journal && inode.fs.options.lock().data_err_abort {
                inode.fs.abort(error, format_args!("data cannot be written"));
            }
        })
    }

    /// The one who syncs commits the journal, which flushes.
    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

/// A run of file blocks on its way to the disk.
struct Piece {
    blocks: Range<u64>,
    kind: Kind,
    block: u64,
}

impl Inode {
    /// Its page cache, made at first use. `EMFILE`: the host has no descriptor left.
    pub(crate) fn cache(&self) -> Result<Arc<PageCache>> {
        if let Some(cache) = self.pages.lock().as_ref() {
            return Ok(cache.clone());
        }
        let contents = Arc::new(Contents {
            inode: self.me.clone(),
            size: self.size.clone(),
        });
        let fresh = PageCache::new("ext4", contents)?;
        let cache = self.pages.lock().get_or_insert(fresh).clone();
        self.fs.bound_caches(&self.me);
        Ok(cache)
    }

    /// The page cache if there is one.
    pub(crate) fn cache_now(&self) -> Option<Arc<PageCache>> {
        self.pages.lock().clone()
    }

    /// Reads from the disk. Holes and unwritten blocks are zeros.
    fn read_disk(&self, at: u64, data: &mut [u8]) -> Result<()> {
        if self.has(Flags::INLINE_DATA) {
            let inline = self.inline_data()?;
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

    /// What the blocks of `range` are now.
    fn pieces(&self, range: Range<u64>) -> Result<Vec<Piece>> {
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

    /// Writes to the disk. The last block is filled up with zeros.
    fn write_disk(&self, at: u64, data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        if self.has(Flags::INLINE_DATA) {
            return Err(Errno::EIO);
        }
        let size = self.fs.block_size();
        let end = at + data.len() as u64;
        let padded: Vec<u8>;
        let bytes = if data.len().is_multiple_of(size as usize) {
            data
        } else {
            let mut copy = data.to_vec();
            copy.resize(data.len().next_multiple_of(size as usize), 0);
            padded = copy;
            &padded
        };
        let first = at / size;
        if self.logs_data() {
            return self.write_logged(first, bytes, end);
        }
        let part = |blocks: &Range<u64>| {
            &bytes[((blocks.start - first) * size) as usize..((blocks.end - first) * size) as usize]
        };
        for piece in self.pieces(first..end.div_ceil(size))? {
            match piece.kind {
                Kind::Written => self.fs.device.write(piece.block * size, part(&piece.blocks))?,
                Kind::Unwritten => {
                    self.fs.device.write(piece.block * size, part(&piece.blocks))?;
                    self.mark_written(piece.blocks.clone(), end)?;
                }
                Kind::Hole => self.fill_hole(piece.blocks.clone(), end, &part)?,
            }
            self.contents_written();
            self.reached((piece.blocks.end * size).min(end));
        }
        Ok(())
    }

    /// The contents are on the disk up to byte `end`: its size there may say so.
    pub(crate) fn reached(&self, end: u64) {
        let end = end.min(self.len_now());
        let mut core = self.core.lock();
        if core.disk_size < end {
            core.disk_size = end;
            drop(core);
            self.dirty.store(true, Ordering::Release);
        }
    }

    fn mark_written(&self, blocks: Range<u64>, end: u64) -> Result<()> {
        let mut at = blocks.start;
        while at < blocks.end {
            let mut tx = Tx::begin_anyway(&self.fs, INSERT_CREDITS)?;
            at += map::extent::set_kind(&mut tx, self, at, blocks.end - at, Kind::Written)?;
            self.reached((at * self.fs.block_size()).min(end));
            tx.write_inode(self)?;
        }
        Ok(())
    }

    /// Puts blocks below what was promised some, and below data that is not zero.
    fn fill_hole<'a>(&self, blocks: Range<u64>, end: u64, part: &impl Fn(&Range<u64>) -> &'a [u8]) -> Result<()> {
        let mut at = blocks.start;
        while at < blocks.end {
            let wanted = |block: u64| {
                self.promise.lock().contains(block) || part(&(block..block + 1)).iter().any(|&byte| byte != 0)
            };
            if !wanted(at) {
                at += 1;
                continue;
            }
            let mut upto = at + 1;
            while upto < blocks.end && wanted(upto) {
                upto += 1;
            }
            while at < upto {
                at += self.place(at..upto, end, part)?;
            }
        }
        Ok(())
    }

    /// Takes a run for the first of `blocks`, writes it, and makes the map point to it; how many blocks that were.
    fn place<'a>(&self, blocks: Range<u64>, end: u64, part: &impl Fn(&Range<u64>) -> &'a [u8]) -> Result<u64> {
        let fs = &self.fs;
        let size = fs.block_size();
        let run = fs.take_for_file(self, blocks.start, (blocks.end - blocks.start) as u32)?;
        let done = blocks.start..blocks.start + u64::from(run.count);
        let written = fs.device.write(run.first * size, part(&done));
        let mapped = written.and_then(|()| {
            let mut tx = Tx::begin_anyway(fs, INSERT_CREDITS)?;
            map::insert(&mut tx, self, done.start, run, Kind::Written)?;
            tx.mark_used(run)?;
            self.reached((done.end * size).min(end));
            tx.write_inode(self)
        });
        if let Err(error) = mapped {
            let found = map::lookup(fs, &fs.meta.read(), self, done.start, 1);
            if found.is_ok_and(|found| found.kind == Kind::Hole) {
                fs.give_back(&mut fs.meta.write(), run);
            }
            return Err(error);
        }
        let back = self.promise.lock().remove(done.clone());
        fs.counters.keep(back);
        Ok(done.end - done.start)
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
        let price = self.promise.lock().price(count);
        self.fs.promise(price)?;
        let mut promise = self.promise.lock();
        fresh.iter().for_each(|range| promise.insert(range.clone()));
        Ok(fresh)
    }

    /// Takes promises for the blocks `range` back.
    pub(crate) fn unpromise(&self, range: Range<u64>) {
        let back = self.promise.lock().remove(range);
        self.fs.counters.keep(back);
    }

    /// Writes dirty pages, then the fields.
    pub(crate) fn write_out(&self) -> Result<()> {
        if let Some(cache) = self.cache_now() {
            cache.write_back(0..u64::MAX)?;
            if cache.dirty_bytes() == 0 {
                self.reached(u64::MAX);
            }
        }
        self.store()
    }

    /// Stores the fields if they changed.
    pub(crate) fn store(&self) -> Result<()> {
        if self.dirty.load(Ordering::Acquire) && self.nlink() > 0 {
            let mut tx = Tx::begin_anyway(&self.fs, 2)?;
            tx.write_inode(self)?;
        }
        Ok(())
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
    fn set_aside(&self) -> u64 {
        (self.geometry.blocks / 50).min(4096)
    }

    /// Promises blocks to the caller; the last ones are for the superuser.
    pub(crate) fn promise(&self, count: u64) -> Result<()> {
        let keep = self.set_aside()
            + if self.may_use_reserve() {
                0
            } else {
                self.geometry.reserved_blocks
            };
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
        self.journal.commit(self.journal.running())?;
        self.absorb_released(&mut self.meta.write());
        Ok(())
    }

    /// `ENOSPC` unless there is space for something new: what may be taken of it.
    pub(crate) fn require_space(&self) -> Result<u64> {
        let keep = self.set_aside()
            + if self.may_use_reserve() {
                0
            } else {
                self.geometry.reserved_blocks
            };
        let left = || u64::try_from(self.counters.left()).unwrap_or(0).saturating_sub(keep);
        if left() < 4 {
            self.reclaim()?;
        }
        match left() {
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

    /// Gives up page caches that nobody uses when there are too many. Those with data still to be written are written first.
    fn bound_caches(&self, fresh: &Weak<Inode>) {
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
                    Some(cache) if Arc::strong_count(cache) == 1 && cache.dirty_bytes() == 0 => pages.take(),
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
