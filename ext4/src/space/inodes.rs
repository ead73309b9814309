//! Inode numbers: directories spread over the groups, files stay near their directory (after Orlov).

use core::sync::atomic::Ordering;

use alloc::sync::Arc;

use super::bits::Bits;
use super::groups::{get_bit, set_bit};
use crate::buffer::Buffer;
use crate::layout::group::{INODE_UNINIT, ITABLE_ZEROED};
use crate::layout::inode::OLD_SIZE;
use crate::transaction::Tx;
use crate::{Errno, Result};

/// Who wants an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Near {
    /// A directory right below the root: far from the others.
    TopDirectory,
    /// A directory below the one in this group.
    Directory(u32),
    /// Anything else in a directory in this group.
    File(u32),
}

/// Whether the group gets one more directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Directories {
    OneMore,
    AsBefore,
}

impl Directories {
    fn of(near: Near) -> Self {
        match near {
            Near::TopDirectory | Near::Directory(_) => Self::OneMore,
            Near::File(_) => Self::AsBefore,
        }
    }

    fn count(self) -> u32 {
        u32::from(self == Self::OneMore)
    }
}

impl Tx<'_> {
    fn choose_group(&mut self, near: Near) -> Result<u32> {
        let groups = self.meta.groups.len() as u32;
        let total_blocks: u64 = self
            .meta
            .groups
            .iter()
            .map(|group| u64::from(group.desc.free_blocks))
            .sum();
        let total_inodes: u64 = self
            .meta
            .groups
            .iter()
            .map(|group| u64::from(group.desc.free_inodes))
            .sum();
        let (average_blocks, average_inodes) = (total_blocks / u64::from(groups), total_inodes / u64::from(groups));
        let group = |number: u32| &self.meta.groups[number as usize % self.meta.groups.len()];
        let usable = |number: u32| !group(number).broken && group(number).desc.free_inodes > 0;
        let roomy = |number: u32| {
            usable(number)
                && u64::from(group(number).desc.free_inodes) >= average_inodes
                && u64::from(group(number).desc.free_blocks) >= average_blocks
        };
        let found = match near {
            Near::TopDirectory => (0..groups)
                .filter(|&number| roomy(number))
                .min_by_key(|&number| group(number).desc.used_dirs),
            Near::Directory(parent) => (0..groups).map(|step| (parent + step) % groups).find(|&number| {
                usable(number)
                    && u64::from(group(number).desc.free_inodes) >= average_inodes / 4
                    && u64::from(group(number).desc.free_blocks) >= average_blocks / 4
            }),
            Near::File(parent) => (0..groups)
                .map(|step| (parent + step) % groups)
                .find(|&number| usable(number) && group(number).desc.free_blocks > 0),
        };
        let start = match near {
            Near::TopDirectory => 0,
            Near::Directory(parent) | Near::File(parent) => parent,
        };
        found
            .or_else(|| {
                (0..groups)
                    .map(|step| (start + step) % groups)
                    .find(|&number| usable(number))
            })
            .ok_or(Errno::ENOSPC)
    }

    /// Takes a free inode number. `ENOSPC`.
    pub(crate) fn allocate_inode(&mut self, near: Near) -> Result<u32> {
        let per_group = self.fs.geometry.inodes_per_group;
        for _ in 0..self.meta.groups.len() {
            let number = self.choose_group(near)?;
            // Initialised together, as Linux does.
            self.fs.load_group(self.group(number)?, number).or_else(|_| {
                self.group(number)?.broken = true;
                Ok::<(), Errno>(())
            })?;
            let Ok(bitmap) = self.inode_bitmap(number) else {
                continue;
            };
            let reserved = if number == 0 { self.fs.geometry.first_ino - 1 } else { 0 };
            let free = bitmap.read(|bytes| Bits::from_bytes(bytes, per_group).first_zero(reserved));
            let Some(bit) = free else {
                self.fs
                    .error(format_args!("bg {number}: free inodes counted that are not there"));
                self.group(number)?.broken = true;
                continue;
            };
            self.mark_inode(number, bit, &bitmap, Directories::of(near))?;
            return Ok(number * per_group + bit + 1);
        }
        Err(Errno::ENOSPC)
    }

    /// Marks a free inode used; its place in the table becomes zero.
    fn mark_inode(&mut self, number: u32, bit: u32, bitmap: &Arc<Buffer>, more: Directories) -> Result<()> {
        let per_group = self.fs.geometry.inodes_per_group;
        self.handle.modify(bitmap, |bytes| set_bit(bytes, bit, true))?;
        let blocks = self.block_bitmap(number)?;
        let group = self.group(number)?;
        let used_before = per_group - group.desc.itable_unused;
        group.desc.free_inodes = group.desc.free_inodes.saturating_sub(1);
        group.desc.used_dirs += more.count();
        group.desc.itable_unused = group.desc.itable_unused.min(per_group - (bit + 1));
        self.store_desc(number, Some(&blocks), Some(bitmap))?;
        self.fs.counters.inodes.fetch_sub(1, Ordering::Relaxed);
        self.clear_table_entry(number, bit, used_before, number * per_group + bit + 1)
    }

    /// Whether the bitmap says that the inode, which exists, is in use.
    pub(crate) fn is_inode_used(&mut self, ino: u32) -> Result<bool> {
        let per_group = self.fs.geometry.inodes_per_group;
        let (number, bit) = ((ino - 1) / per_group, (ino - 1) % per_group);
        if self.group(number)?.desc.flags & INODE_UNINIT != 0 {
            return Ok(false);
        }
        let bitmap = self.inode_bitmap(number)?;
        Ok(bitmap.read(|bytes| get_bit(bytes, bit)))
    }

    /// Marks the number of a replayed file used, which it is not yet; its place in the table becomes zero.
    pub(crate) fn claim_inode(&mut self, ino: u32, more: Directories) -> Result<()> {
        let per_group = self.fs.geometry.inodes_per_group;
        let (number, bit) = ((ino - 1) / per_group, (ino - 1) % per_group);
        self.fs.load_group(self.group(number)?, number)?;
        let bitmap = self.inode_bitmap(number)?;
        self.mark_inode(number, bit, &bitmap, more)
    }

    /// The inode's place in the table becomes zero; a block of the table that was never used is not read.
    fn clear_table_entry(&mut self, number: u32, bit: u32, used_before: u32, ino: u32) -> Result<()> {
        let geometry = &self.fs.geometry;
        let per_block = geometry.block_size / geometry.inode_size;
        let desc = self.group(number)?.desc;
        let (block, at) = self.fs.inode_place(&self.meta, ino)?;
        let untouched = geometry.has_group_csum() && bit / per_block * per_block >= used_before;
        let buffer = if untouched && desc.flags & ITABLE_ZEROED == 0 {
            self.handle.create(block)?
        } else {
            self.fs.buffers.get(block)?
        };
        let size = geometry.inode_size as usize;
        debug_assert!(size >= OLD_SIZE);
        self.handle.modify(&buffer, |bytes| bytes[at..at + size].fill(0))
    }

    /// Gives an inode number back.
    pub(crate) fn free_inode(&mut self, ino: u32, is_dir: bool) -> Result<()> {
        let per_group = self.fs.geometry.inodes_per_group;
        if ino < self.fs.geometry.first_ino || ino > self.fs.geometry.size.inodes() {
            return Err(self.fs.error(format_args!("reserved or nonexistent inode {ino}")));
        }
        let (number, bit) = ((ino - 1) / per_group, (ino - 1) % per_group);
        let bitmap = self.inode_bitmap(number)?;
        if !bitmap.read(|bytes| get_bit(bytes, bit)) {
            return Err(self.fs.error(format_args!("bit already cleared for inode {ino}")));
        }
        self.handle.modify(&bitmap, |bytes| set_bit(bytes, bit, false))?;
        let desc = &mut self.group(number)?.desc;
        desc.free_inodes += 1;
        desc.used_dirs = desc.used_dirs.saturating_sub(u32::from(is_dir));
        self.store_desc(number, None, Some(&bitmap))?;
        self.fs.counters.inodes.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}
