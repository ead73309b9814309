//! `inline_data`: small contents in the inode: the first 60 bytes in `i_block`, the rest in the attribute `system.data`, which is there even when it is
//! empty (ext4 disk layout, "Inline Data").
//!
//! A file begins in its inode when its first bytes fit there, and leaves it for blocks when it outgrows it or is mapped for writing; it does not come
//! back. Directories are in [`crate::dir::inline`].

use alloc::vec::Vec;

use super::SYSTEM;
use super::set::{self, Attribute, Set, Value};
use crate::device::BlockDevice;
use crate::file::write_out::INSERT_CREDITS;
use crate::inode::Inode;
use crate::inode::attributes::INODE_CREDITS;
use crate::layout::features::Incompat;
use crate::layout::inode::{BLOCK_LEN, Flags};
use crate::map::{self, Kind, extent};
use crate::space::blocks::Run;
use crate::transaction::Tx;
use crate::{Errno, Result};

const NAME: &[u8] = b"data";

/// Where a file's contents are to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    Inode,
    Blocks,
}

fn attribute(value: &[u8]) -> Attribute {
    Attribute {
        index: SYSTEM,
        name: NAME.to_vec(),
        value: Value::Here(value.to_vec()),
    }
}

impl Inode {
    /// The contents of a file that lies in its inode: `i_block`, then the attribute.
    pub(crate) fn inline_data(&self) -> Result<Vec<u8>> {
        let mut bytes = self.core.lock().block.to_vec();
        let (inner, outer) = self.attributes()?;
        if let Some(rest) = inner.find(SYSTEM, NAME).or_else(|| outer.find(SYSTEM, NAME)) {
            match &rest.value {
                Value::Here(rest) => bytes.extend_from_slice(rest),
                Value::Inode { .. } => return Err(self.bad_attributes()),
            }
        }
        Ok(bytes)
    }

    /// The same, if it lies there: for a reader who holds nothing that keeps it from moving.
    pub(crate) fn inline_contents(&self) -> Result<Option<Vec<u8>>> {
        if !self.has(Flags::INLINE_DATA) {
            return Ok(None);
        }
        let _meta = self.fs.meta.read();
        self.has(Flags::INLINE_DATA).then(|| self.inline_data()).transpose()
    }

    /// Most bytes of contents that fit into the inode beside its other attributes; 0 where the feature is off.
    pub(crate) fn inline_room(&self) -> Result<usize> {
        let geometry = &self.fs.geometry;
        if !geometry.incompat.contains(Incompat::INLINE_DATA) {
            return Ok(0);
        }
        let (mut inner, _) = self.attributes()?;
        inner.remove(SYSTEM, NAME);
        let used = inner.size() + attribute(b"").size();
        let room = set::inode_room(geometry, self.core.lock().extra_isize);
        Ok(room.checked_sub(used).map_or(0, |left| BLOCK_LEN + left / 4 * 4))
    }

    /// The contents in the inode become these; stores the inode. `ENOSPC` when they do not fit.
    pub(crate) fn put_inline(&self, tx: &mut Tx<'_>, contents: &[u8]) -> Result<()> {
        let (first, rest) = contents.split_at(contents.len().min(BLOCK_LEN));
        let (mut inner, _) = self.attributes()?;
        inner.remove(SYSTEM, NAME);
        inner.list.push(attribute(rest));
        {
            let mut core = self.core.lock();
            if inner.size() > set::inode_room(&self.fs.geometry, core.extra_isize) {
                return Err(Errno::ENOSPC);
            }
            core.block = [0; BLOCK_LEN];
            core.block[..first.len()].copy_from_slice(first);
            core.flags = (core.flags - Flags::EXTENTS) | Flags::INLINE_DATA;
        }
        self.map_changed(tx.handle.tid());
        tx.change_inode(self, |raw| set::store_inode(raw, &inner))
    }

    /// The contents leave the inode: it has an empty map, and is stored.
    pub(crate) fn take_inline(&self, tx: &mut Tx<'_>) -> Result<()> {
        let (mut inner, _) = self.attributes()?;
        inner.remove(SYSTEM, NAME);
        {
            let mut core = self.core.lock();
            core.flags -= Flags::INLINE_DATA;
            core.block = [0; BLOCK_LEN];
            if self.fs.geometry.has_extents() {
                core.flags |= Flags::EXTENTS;
                extent::init(&mut core.block);
            }
        }
        self.map_changed(tx.handle.tid());
        tx.change_inode(self, |raw| set::store_inode(raw, &inner))
    }

    /// Bytes of an inode's attributes that its contents will need beyond what they have there now.
    pub(super) fn inline_growth(&self, inner: &Set) -> usize {
        if !self.has(Flags::INLINE_DATA) {
            return 0;
        }
        let now = inner.find(SYSTEM, NAME).map_or(0, Attribute::size);
        let rest = (self.len_now() as usize).saturating_sub(BLOCK_LEN);
        (attribute(b"").size() + rest.next_multiple_of(4)).saturating_sub(now)
    }

    /// Contents are about to reach byte `end`: where they lie from now on. Contents are locked.
    pub(crate) fn settle_home(&self, end: u64) -> Result<Home> {
        let inline = self.has(Flags::INLINE_DATA);
        if !inline && (self.len_now() > 0 || !self.fs.geometry.incompat.contains(Incompat::INLINE_DATA)) {
            return Ok(Home::Blocks);
        }
        let room = self.inline_room()?;
        if inline {
            if end <= room as u64 {
                return Ok(Home::Inode);
            }
            self.leave_inline()?;
            return Ok(Home::Blocks);
        }
        let is_fresh = {
            let mapped = self.mapped.load(core::sync::atomic::Ordering::Acquire);
            !mapped && self.promise.lock().blocks() == 0 && !self.has(Flags::EA_INODE)
        };
        if room < BLOCK_LEN || end > room as u64 || !is_fresh {
            return Ok(Home::Blocks);
        }
        let first = map::lookup(&self.fs, &self.fs.meta.read(), self, 0, u64::MAX)?;
        if first.kind != Kind::Hole || first.len < map::most_blocks(&self.fs, self).min(1 << 20) {
            return Ok(Home::Blocks);
        }
        let mut tx = Tx::begin(&self.fs, INODE_CREDITS)?;
        self.put_inline(&mut tx, b"")?;
        Ok(Home::Inode)
    }

    /// Write-back of a file in its inode: all of its contents. They may have left it, or been cut, since the caller looked: then nothing, or less, is
    /// written; the answer says where they lie.
    pub(crate) fn write_inline(&self, contents: &[u8]) -> Result<Home> {
        let mut tx = Tx::begin_anyway(&self.fs, INODE_CREDITS)?;
        if !self.has(Flags::INLINE_DATA) {
            return Ok(Home::Blocks);
        }
        let len = self.len_now().min(contents.len() as u64);
        self.core.lock().disk_size = len;
        self.put_inline(&mut tx, &contents[..len as usize])?;
        Ok(Home::Inode)
    }

    /// The contents move into a block, if they are in the inode. Contents are locked.
    pub(crate) fn leave_inline(&self) -> Result<()> {
        if !self.has(Flags::INLINE_DATA) {
            return Ok(());
        }
        if let Some(cache) = self.cache_now() {
            cache.write_back(0..u64::MAX)?;
        }
        let fs = &self.fs;
        let is_empty = self.len_now() == 0;
        let run = if is_empty {
            None
        } else {
            Some(fs.take_for_file(self, u64::MAX, 1)?)
        };
        let moved = self.move_out(run);
        if let (Err(_), Some(run)) = (&moved, run)
            && self.has(Flags::INLINE_DATA)
        {
            fs.give_back(&mut fs.meta.write(), run);
        }
        moved
    }

    /// What the block of a file will hold that is in its inode now.
    fn inline_block(&self) -> Result<Vec<u8>> {
        let mut bytes = self.inline_data()?;
        bytes.truncate(self.core.lock().disk_size as usize);
        bytes.resize(self.fs.block_size() as usize, 0);
        Ok(bytes)
    }

    fn move_out(&self, run: Option<Run>) -> Result<()> {
        let fs = &self.fs;
        let logs = self.logs_data();
        let write = |run: Run, bytes: &[u8]| {
            fs.device.write(run.first * fs.block_size(), bytes)?;
            self.contents_written();
            Ok::<(), Errno>(())
        };
        let early = self.inline_block()?;
        if let Some(run) = run.filter(|_| !logs) {
            // On the disk before the inode forgets it.
            write(run, &early)?;
        }
        let mut tx = Tx::begin(fs, INSERT_CREDITS)?;
        let bytes = self.inline_block()?;
        self.take_inline(&mut tx)?;
        if let Some(run) = run {
            if logs {
                tx.handle.overwrite(run.first, &bytes)?;
            } else if bytes != early {
                // A write-back that was under way has just arrived.
                write(run, &bytes)?;
            }
            map::insert(&mut tx, self, 0, run, Kind::Written)?;
            tx.mark_used(run)?;
        }
        tx.write_inode(self)
    }

    /// `truncate(2)` of a file in its inode to a size that fits there. Contents are locked.
    pub(crate) fn resize_inline(&self, size: u64) -> Result<()> {
        let cache = self.cache_now();
        if let Some(cache) = &cache {
            cache.write_back(0..u64::MAX)?;
        }
        let mut bytes = self.inline_data()?;
        bytes.truncate(self.len_now().min(size) as usize);
        bytes.resize(size as usize, 0);
        {
            let mut tx = Tx::begin(&self.fs, INODE_CREDITS)?;
            self.touch();
            self.set_len(size);
            self.put_inline(&mut tx, &bytes)?;
        }
        if let Some(cache) = &cache {
            cache.truncated(size)?;
        }
        self.memory_grew(size)?;
        self.mark_dirty();
        Ok(())
    }
}
