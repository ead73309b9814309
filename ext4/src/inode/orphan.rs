//! The orphan list: inodes whose last change must be finished after a crash, because their names are gone or their truncation takes more than one
//! transaction. Its head is in the super block, each inode's `i_dtime` leads to the next.

use alloc::vec::Vec;

use super::Inode;
use super::load::Which;
use crate::Result;
use crate::instance::Ext4;
use crate::layout::features::{Compat, RoCompat};
use crate::layout::inode::{Flags, seal};
use crate::layout::{get16, get32, put32};
use crate::map;
use crate::transaction::Tx;

/// Blocks that adding to or taking from the list changes: the super block, the inode, the one before it.
pub(crate) const ORPHAN_CREDITS: u32 = 4;
/// Last word of a block of the orphan file.
const ORPHAN_FILE_MAGIC: u32 = 0x0b10_ca04;

impl Tx<'_> {
    /// Puts an inode on the list, if it is not there. The caller stores the inode.
    pub(crate) fn orphan_add(&mut self, inode: &Inode) -> Result<()> {
        if self.meta.orphans.contains(&inode.number()) {
            return Ok(());
        }
        let next = self.meta.orphans.last().copied().unwrap_or(0);
        inode.core.lock().dtime = next;
        self.meta.orphans.push(inode.number());
        self.change_super(|raw| put32(raw, 0xe8, inode.number()))
    }

    /// Takes an inode off the list. The caller stores the inode, with the `dtime` that is right now.
    pub(crate) fn orphan_remove(&mut self, inode: &Inode) -> Result<()> {
        let Some(at) = self.meta.orphans.iter().position(|&ino| ino == inode.number()) else {
            return Ok(());
        };
        let next = at.checked_sub(1).map_or(0, |below| self.meta.orphans[below]);
        let before = self.meta.orphans.get(at + 1).copied();
        self.meta.orphans.remove(at);
        inode.core.lock().dtime = 0;
        match before {
            None => self.change_super(|raw| put32(raw, 0xe8, next)),
            Some(before) => self.set_next(before, next),
        }
    }

    fn set_next(&mut self, ino: u32, next: u32) -> Result<()> {
        let fs = self.fs;
        let known = fs.inodes.lock().get(&ino).and_then(alloc::sync::Weak::upgrade);
        if let Some(inode) = known {
            inode.core.lock().dtime = next;
            self.write_inode(&inode)?;
            // Dropped by whoever else holds it; if that was us, its end is told to the instance, which is no call into it.
            drop(inode);
            return Ok(());
        }
        let (block, at) = fs.table_place(ino)?;
        let buffer = fs.buffers.get(block)?;
        let size = fs.geometry.inode_size as usize;
        self.modify(&buffer, |bytes| {
            let raw = &mut bytes[at..at + size];
            put32(raw, 0x14, next);
            seal(raw, ino, &fs.geometry);
        })
    }
}

impl Ext4 {
    /// What the list on the disk holds: the head first. Stops at nonsense.
    pub(crate) fn read_orphans(&self) -> Result<Vec<u32>> {
        let (block, at) = self.geometry.super_place();
        let mut next = self.buffers.get(block)?.read(|bytes| get32(bytes, at + 0xe8));
        let mut list = Vec::new();
        while next != 0 {
            if next < self.geometry.first_ino || next > self.geometry.size.inodes() || list.contains(&next) {
                self.error(format_args!("bad orphan inode {next}"));
                break;
            }
            list.push(next);
            next = match self.read_core(next) {
                Ok(core) => core.dtime,
                Err(_) => break,
            };
        }
        Ok(list)
    }

    /// Finishes what a crash interrupted: deletes files without names, ends truncations.
    pub(crate) fn process_orphans(&self) -> Result<()> {
        let list = self.read_orphans()?;
        let in_file = self.orphans_in_file()?;
        if list.is_empty() && in_file.is_empty() {
            return Ok(());
        }
        let state = {
            let (block, at) = self.geometry.super_place();
            self.buffers.get(block)?.read(|bytes| get16(bytes, at + 0x3a))
        };
        if state & 2 != 0 {
            log::warn!("EXT4-fs ({}): Errors on filesystem, clearing orphan list.", self.name);
            let mut tx = Tx::begin_anyway(self, ORPHAN_CREDITS)?;
            return tx.change_super(|raw| put32(raw, 0xe8, 0));
        }
        self.meta.write().orphans = list.iter().rev().copied().collect();
        let (mut deleted, mut truncated) = (0, 0);
        for ino in list.into_iter().chain(in_file.iter().copied()) {
            let inode = match self.inode(ino, Which::Any) {
                Ok(inode) => inode,
                Err(error) => {
                    log::warn!("EXT4-fs ({}): orphan inode {ino}: {error}", self.name);
                    continue;
                }
            };
            if inode.nlink() == 0 {
                drop(inode);
                deleted += 1;
            } else {
                inode.finish_truncate()?;
                truncated += 1;
            }
            self.bury()?;
        }
        // Whatever could not be loaded is forgotten.
        let mut tx = Tx::begin_anyway(self, ORPHAN_CREDITS)?;
        if !tx.meta.orphans.is_empty() {
            tx.meta.orphans.clear();
            tx.change_super(|raw| put32(raw, 0xe8, 0))?;
        }
        drop(tx);
        self.clear_orphan_file()?;
        let plural = |count: u32| if count == 1 { "" } else { "s" };
        if deleted > 0 {
            log::info!(
                "EXT4-fs ({}): {deleted} orphan inode{} deleted",
                self.name,
                plural(deleted)
            );
        }
        if truncated > 0 {
            log::info!(
                "EXT4-fs ({}): {truncated} truncate{} cleaned up",
                self.name,
                plural(truncated)
            );
        }
        Ok(())
    }

    fn orphan_file_blocks(&self) -> Result<Vec<u64>> {
        let geometry = &self.geometry;
        if !geometry.compat.contains(Compat::ORPHAN_FILE) || !geometry.ro_compat.contains(RoCompat::ORPHAN_PRESENT) {
            return Ok(Vec::new());
        }
        let file = self.inode(geometry.orphan_file_ino, Which::Any)?;
        let meta = self.meta.read();
        let mut blocks = Vec::new();
        let count = (file.len_now() / self.block_size()).min(512);
        for at in 0..count {
            let found = map::lookup(self, &meta, &file, at, 1)?;
            if found.kind != map::Kind::Hole {
                blocks.push(found.block);
            }
        }
        Ok(blocks)
    }

    fn orphans_in_file(&self) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        for block in self.orphan_file_blocks()? {
            let bytes = self.buffers.get(block)?.snapshot();
            let end = bytes.len() - 8;
            if get32(&bytes, end) != ORPHAN_FILE_MAGIC {
                return Err(self.error(format_args!("orphan file block {block}: bad magic")));
            }
            let inodes = bytes[..end]
                .chunks_exact(4)
                .map(|raw| get32(raw, 0))
                .filter(|&ino| ino != 0);
            found.extend(inodes.filter(|&ino| ino >= self.geometry.first_ino && ino <= self.geometry.size.inodes()));
        }
        Ok(found)
    }

    fn clear_orphan_file(&self) -> Result<()> {
        let blocks = self.orphan_file_blocks()?;
        if blocks.is_empty() {
            return Ok(());
        }
        let ino = self.geometry.orphan_file_ino;
        let seed = self.inode(ino, Which::Any)?.seed(&self.geometry);
        for block in blocks {
            let mut tx = Tx::begin_anyway(self, 2)?;
            let buffer = self.buffers.get(block)?;
            tx.modify(&buffer, |bytes| {
                let end = bytes.len() - 8;
                bytes[..end].fill(0);
                if self.geometry.has_csum() {
                    let crc = crate::layout::checksum::crc32c(seed, &block.to_le_bytes());
                    let crc = crate::layout::checksum::crc32c(crc, &bytes[..end]);
                    put32(bytes, end + 4, crc);
                }
            })?;
        }
        let mut tx = Tx::begin_anyway(self, 1)?;
        tx.change_super(|raw| {
            let flags = get32(raw, 0x64);
            put32(raw, 0x64, flags & !RoCompat::ORPHAN_PRESENT.bits());
        })
    }
}

impl Inode {
    /// Whether its contents lie in blocks that must be freed.
    pub(crate) fn has_blocks(&self) -> bool {
        use kernel::vfs::FileType;
        let core = self.core.lock();
        match self.kind {
            FileType::Regular | FileType::Directory => !core.flags.contains(Flags::INLINE_DATA),
            FileType::Symlink => core.flags.contains(Flags::EXTENTS) || (core.disk_size >= 60 && core.sectors > 0),
            _ => false,
        }
    }

    /// Frees what lies behind the size: the rest of a truncation that a crash interrupted.
    fn finish_truncate(&self) -> Result<()> {
        if self.has_blocks() {
            self.cut_blocks(self.len_now().div_ceil(self.fs.block_size()))?;
        }
        let mut tx = Tx::begin_anyway(&self.fs, ORPHAN_CREDITS + 2)?;
        tx.orphan_remove(self)?;
        tx.write_inode(self)
    }
}
