//! `fallocate(2)`.

use kernel::page_cache::PAGE;

use super::write_out::INSERT_CREDITS;
use crate::inode::Inode;
use crate::inode::attributes::INODE_CREDITS;
use crate::layout::inode::Flags;
use crate::map::extent::{Shift, shift_some, split_at};
use crate::map::{self, Kind};
use crate::transaction::Tx;
use crate::{Errno, Result};

const KEEP_SIZE: u32 = 1;
const PUNCH_HOLE: u32 = 2;
const COLLAPSE_RANGE: u32 = 8;
const ZERO_RANGE: u32 = 16;
const INSERT_RANGE: u32 = 32;

/// Most blocks preallocated in one transaction: within one extent.
const STEP: u64 = 32767;

impl Inode {
    pub(crate) fn fallocate(&self, mode: u32, offset: u64, len: u64) -> Result<()> {
        if !self.fs.is_writable() {
            return Err(Errno::EROFS);
        }
        let _data = self.data.write();
        self.require_mutable()?;
        if self.has(Flags::APPEND) && mode & !KEEP_SIZE != 0 {
            return Err(Errno::EPERM);
        }
        self.leave_inline()?;
        let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
        let extents = self.has(Flags::EXTENTS);
        match mode & !KEEP_SIZE {
            PUNCH_HOLE => {
                if offset < self.len_now() || extents {
                    self.punch(offset..end)?;
                }
                self.stamp()
            }
            _ if !extents => Err(Errno::EOPNOTSUPP),
            _ if end > self.most_bytes() => Err(Errno::EFBIG),
            0 => self.preallocate(mode, offset, end),
            ZERO_RANGE => {
                self.punch(offset..end)?;
                self.preallocate(mode, offset, end)
            }
            COLLAPSE_RANGE => self.collapse(offset, len),
            INSERT_RANGE => self.make_room(offset, len),
            _ => Err(Errno::EOPNOTSUPP),
        }
    }

    fn stamp(&self) -> Result<()> {
        self.touch();
        let mut tx = Tx::begin(&self.fs, INODE_CREDITS)?;
        tx.write_inode(self)?;
        drop(tx);
        self.mark_dirty();
        Ok(())
    }

    fn settle_size(&self, mode: u32, end: u64) -> Result<()> {
        if mode & KEEP_SIZE == 0 && end > self.len_now() {
            self.grow_to(end)?;
        }
        self.stamp()
    }

    /// Puts unwritten blocks into the holes of `offset..end`. On `ENOSPC` what was found stays, as on Linux, and the size says so.
    fn preallocate(&self, mode: u32, offset: u64, end: u64) -> Result<()> {
        let size = self.fs.block_size();
        let mut at = offset / size;
        let outcome = self.fill_holes(&mut at, end.div_ceil(size));
        let reached = (at * size).min(end);
        if reached > offset || outcome.is_ok() {
            self.settle_size(mode, reached)?;
        }
        outcome
    }

    /// Puts unwritten blocks into the holes of the blocks `at..last`; `at` tells how far it came.
    fn fill_holes(&self, at: &mut u64, last: u64) -> Result<()> {
        let fs = &self.fs;
        while *at < last {
            let found = map::lookup(fs, &fs.meta.read(), self, *at, last - *at)?;
            if found.kind != Kind::Hole {
                *at += found.len;
                continue;
            }
            // A promised block will be taken with its data.
            let gap = self.promise.lock().missing(*at..*at + found.len).first().cloned();
            let Some(gap) = gap else {
                *at += found.len;
                continue;
            };
            *at = gap.start;
            let want = (gap.end - gap.start).min(STEP);
            // What others were promised stays theirs.
            if fs.counters.left() < want as i64 {
                fs.reclaim()?;
            }
            let left = fs.require_space()?;
            let run = fs.take_for_file(self, *at, want.min(left) as u32)?;
            let mut tx = Tx::begin(fs, INSERT_CREDITS)?;
            let placed = map::insert(&mut tx, self, *at, run, Kind::Unwritten);
            if let Err(error) = placed {
                fs.give_back(&mut tx.meta, run);
                return Err(error);
            }
            tx.mark_used(run)?;
            tx.write_inode(self)?;
            *at += u64::from(run.count);
        }
        Ok(())
    }

    /// Everything is on the disk and nothing from `from` on is cached any more.
    fn settle_cache(&self, from: u64) -> Result<()> {
        if let Some(cache) = self.cache_now() {
            cache.write_back(0..u64::MAX)?;
            cache.drop_range(from / PAGE..u64::MAX)?;
        }
        Ok(())
    }

    fn shift(&self, what: Shift) -> Result<()> {
        let mut left = Some(what);
        while let Some(step) = left {
            let mut tx = Tx::begin(&self.fs, 4 * INSERT_CREDITS)?;
            let moved = shift_some(&mut tx, self, step);
            tx.write_inode(self)?;
            left = moved?;
        }
        Ok(())
    }

    /// Takes `len` bytes at `offset` out; what follows moves up.
    fn collapse(&self, offset: u64, len: u64) -> Result<()> {
        let size = self.fs.block_size();
        if !offset.is_multiple_of(size) || !len.is_multiple_of(size) || offset + len >= self.len_now() {
            return Err(Errno::EINVAL);
        }
        self.settle_cache(offset)?;
        let (first, behind) = (offset / size, (offset + len) / size);
        self.unpromise(first..u64::MAX);
        self.cut_range(first, behind)?;
        self.shift(Shift {
            from: behind,
            end: u64::MAX,
            by: -((behind - first) as i64),
        })?;
        let shorter = self.len_now() - len;
        self.set_len(shorter);
        if let Some(cache) = self.cache_now() {
            cache.truncated(shorter)?;
        }
        self.stamp()
    }

    /// Makes a hole of `len` bytes at `offset`; what was there moves on.
    fn make_room(&self, offset: u64, len: u64) -> Result<()> {
        let size = self.fs.block_size();
        if !offset.is_multiple_of(size) || !len.is_multiple_of(size) || offset >= self.len_now() {
            return Err(Errno::EINVAL);
        }
        let longer = self
            .len_now()
            .checked_add(len)
            .filter(|&longer| longer <= self.most_bytes());
        let longer = longer.ok_or(Errno::EFBIG)?;
        self.settle_cache(offset)?;
        self.unpromise(offset / size..u64::MAX);
        self.set_len(longer);
        {
            let mut tx = Tx::begin(&self.fs, INSERT_CREDITS)?;
            split_at(&mut tx, self, offset / size)?;
            tx.write_inode(self)?;
        }
        self.shift(Shift {
            from: offset / size,
            end: u64::from(u32::MAX) + 1,
            by: (len / size) as i64,
        })?;
        self.memory_grew(longer - len)?;
        self.stamp()
    }
}
