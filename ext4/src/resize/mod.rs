//! Growing while mounted: `EXT4_IOC_RESIZE_FS`, and the two older calls that do it piece by piece.
//!
//! The last group gets what is missing to a whole one, then whole groups follow in batches ([`layout`]): what they need is written where no file system is
//! yet, and one transaction makes it part of this one ([`add`]), with blocks for descriptors taken from those kept for that ([`reserve`]). So a crash
//! leaves a smaller file system, never a broken one. The copies of super block and descriptors follow when everything is home ([`backup`]).
//!
//! One grows at a time (`Ext4::resizing`); what changes in memory changes under the lock over metadata.

mod add;
mod backup;
mod ioctl;
mod layout;
mod reserve;

use core::sync::atomic::Ordering;

use layout::Batch;

use crate::device::BlockDevice;
use crate::instance::Ext4;
use crate::layout::features::{Compat, Incompat};
use crate::space::groups::table_blocks;
use crate::{Errno, Result};

pub(crate) use ioctl::{add_group, extend_group, resize};

/// The right to change the size, until it is dropped.
struct Growing<'a> {
    fs: &'a Ext4,
    /// Blocks when it began.
    before: u64,
}

impl Growing<'_> {
    /// What has grown goes home, so that who reads the device finds the new size; then the copies. `outcome` goes before what comes of that.
    fn settle(self, outcome: Result<()>) -> Result<()> {
        let fs = self.fs;
        if fs.geometry.size.blocks() == self.before || !fs.is_writable() {
            return outcome;
        }
        outcome.and(fs.journal.sync().and_then(|()| fs.write_backups()))
    }
}

impl Drop for Growing<'_> {
    fn drop(&mut self) {
        self.fs.resizing.store(false, Ordering::Release);
    }
}

impl Ext4 {
    /// Grows to `blocks` blocks, less when the last group would be too short for its own structures.
    ///
    /// # Errors
    /// Of [`may_grow`](Self::may_grow); `ENOSPC` when the device is shorter; `EINVAL` for less than there is or more than can be counted; `EPERM` when there
    /// are too few blocks for descriptors; `EROFS`, `EIO`: it has grown as far as it came.
    pub fn grow(&self, blocks: u64) -> Result<()> {
        let growing = self.may_grow()?;
        let grown = self.grow_to(blocks);
        growing.settle(grown)
    }

    fn warn(&self, what: core::fmt::Arguments<'_>) {
        log::warn!("EXT4-fs warning (device {}): {what}", self.name);
    }

    /// `EUCLEAN`, `EPERM` after errors or with a super block that is not the first, `EOPNOTSUPP` with two backups at free places, `EBUSY` while
    /// another one is at it.
    fn may_grow(&self) -> Result<Growing<'_>> {
        let geometry = &self.geometry;
        if geometry.size.reserved_gdt() > 0 && !geometry.compat.contains(Compat::RESIZE_INODE) {
            return Err(self.error(format_args!("resize_inode disabled but reserved GDT blocks non-zero")));
        }
        let super_block = self.options.lock().super_block;
        if super_block != 1 {
            self.warn(format_args!("won't resize using backup superblock at {super_block}"));
            return Err(Errno::EPERM);
        }
        if self.has_errors() {
            self.warn(format_args!(
                "There are errors in the filesystem, so online resizing is not allowed"
            ));
            return Err(Errno::EPERM);
        }
        if geometry.compat.contains(Compat::SPARSE_SUPER2) {
            log::error!(
                "EXT4-fs ({}): Online resizing not supported with sparse_super2",
                self.name
            );
            return Err(Errno::EOPNOTSUPP);
        }
        if self.resizing.swap(true, Ordering::AcqRel) {
            return Err(Errno::EBUSY);
        }
        Ok(Growing {
            fs: self,
            before: geometry.size.blocks(),
        })
    }

    fn grow_to(&self, wanted: u64) -> Result<()> {
        let geometry = &self.geometry;
        let before = geometry.size.counts();
        self.require_on_device(wanted)?;
        let mut target = wanted;
        loop {
            log::info!(
                "EXT4-fs ({}): resizing filesystem from {} to {target} blocks",
                self.name,
                before.blocks
            );
            if target < before.blocks {
                self.warn(format_args!("can't shrink FS - resize aborted"));
                return Err(Errno::EINVAL);
            }
            if target == before.blocks {
                return Ok(());
            }
            let (last, _) = geometry.group_of(target - 1);
            let start = geometry.group_start(last);
            let need = u64::from(geometry.base_blocks(last)) + 3 + u64::from(table_blocks(geometry));
            if last < before.groups || start + need < target {
                break;
            }
            target = start;
        }
        let groups = self.groups_for(target)?;
        if geometry.desc_blocks_for(groups) > geometry.desc_blocks() + before.reserved_gdt
            && !geometry.incompat.contains(Incompat::META_BG)
        {
            self.warn(format_args!("No reserved GDT blocks, can't resize"));
            return Err(Errno::EPERM);
        }
        let grown = self.grow_by_steps(geometry.group_start(before.groups).min(target), target);
        if let Err(error) = grown {
            self.warn(format_args!(
                "error ({}) occurred during file system resize",
                -error.code()
            ));
        }
        log::info!(
            "EXT4-fs ({}): resized filesystem to {}",
            self.name,
            geometry.size.blocks()
        );
        grown
    }

    /// First to the end of the last group, or of what is wanted.
    fn grow_by_steps(&self, whole: u64, target: u64) -> Result<()> {
        if whole > self.geometry.size.blocks() {
            self.extend_last(whole)?;
        }
        while self.geometry.size.blocks() < target {
            self.bring(&Batch::next(self, target)?)?;
        }
        Ok(())
    }

    /// How many groups `blocks` blocks are. `EINVAL` when they, or their inodes, cannot be counted.
    fn groups_for(&self, blocks: u64) -> Result<u32> {
        let geometry = &self.geometry;
        if blocks > u64::from(u32::MAX) && !geometry.incompat.contains(Incompat::SIXTY_FOUR_BIT) {
            self.warn(format_args!("blocks_count overflow"));
            return Err(Errno::EINVAL);
        }
        let groups = (blocks - u64::from(geometry.first_data_block)).div_ceil(u64::from(geometry.blocks_per_group));
        match u32::try_from(groups) {
            Ok(groups) if groups.checked_mul(geometry.inodes_per_group).is_some() => Ok(groups),
            _ => {
                self.warn(format_args!("resize would cause inodes_count overflow"));
                Err(Errno::EINVAL)
            }
        }
    }

    /// `ENOSPC` unless the device has `blocks` blocks.
    fn require_on_device(&self, blocks: u64) -> Result<()> {
        if blocks > self.device.len() / self.block_size() {
            self.warn(format_args!("can't read last block, resize aborted"));
            return Err(Errno::ENOSPC);
        }
        Ok(())
    }
}
