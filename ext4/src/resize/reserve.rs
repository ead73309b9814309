//! Blocks kept for descriptors (ext4 disk layout, "Block and Inode Allocation Policy", `resize_inode`).
//!
//! Inode 7 maps them by its double indirect block: each of the blocks behind the descriptors is listed there, and holds itself the list of its copies in
//! the groups that have a copy of the super block. A block that becomes one of descriptors leaves the list; a new group with copies is added to each
//! that stays.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use crate::buffer::Buffer;
use crate::inode::Inode;
use crate::inode::load::Which;
use crate::instance::Ext4;
use crate::layout::inode::BLOCK_LEN;
use crate::layout::{get32, put32};
use crate::transaction::Tx;
use crate::{Errno, Result};

/// The resize inode.
const RESIZE: u32 = 7;
/// Where it keeps the double indirect block's number.
const DOUBLE: usize = BLOCK_LEN - 8;

/// What a batch changes there.
pub(super) struct Change {
    inode: Arc<Inode>,
    double: Arc<Buffer>,
    /// Blocks that become descriptors: where the double indirect block names them.
    used: Vec<usize>,
    /// Blocks that stay kept.
    kept: Vec<Arc<Buffer>>,
    /// Groups with copies, before this and by it.
    before: usize,
    groups: Vec<u32>,
}

impl Change {
    /// What has to happen when the descriptors' blocks `used` come into use, and `groups` get copies. `EUCLEAN` when the lists are not as they must be.
    pub(super) fn prepare(fs: &Ext4, used: Range<u32>, groups: Vec<u32>) -> Result<Option<Self>> {
        let geometry = &fs.geometry;
        let before = geometry.size.counts();
        if before.reserved_gdt == 0 || used.is_empty() && groups.is_empty() {
            return Ok(None);
        }
        let inode = fs.inode(RESIZE, Which::Any)?;
        let double = get32(&inode.core.lock().block, DOUBLE);
        let double = fs.buffers.get(fs.checked_block(u64::from(double))?)?;
        let room = geometry.block_size / 4;
        let copies: Vec<u32> = (1..before.groups).filter(|&group| geometry.has_super(group)).collect();
        if copies.len() + groups.len() > room as usize {
            return Err(Errno::EFBIG);
        }
        let mut change = Self {
            inode,
            used: Vec::new(),
            kept: Vec::new(),
            before: copies.len(),
            groups,
            double,
        };
        for index in geometry.desc_blocks()..geometry.desc_blocks() + before.reserved_gdt {
            let is_used = used.contains(&index);
            if !is_used && change.groups.is_empty() {
                break;
            }
            let block = geometry.super_place().0 + 1 + u64::from(index);
            let at = (index % room * 4) as usize;
            let named = change.double.read(|bytes| u64::from(get32(bytes, at)));
            let list = fs.buffers.get(block)?;
            let listed = |(place, &group): (usize, &u32)| {
                let copy = block + u64::from(group) * u64::from(geometry.blocks_per_group);
                list.read(|bytes| u64::from(get32(bytes, place * 4))) == copy
            };
            if named != block || !copies.iter().enumerate().all(listed) {
                return Err(change
                    .inode
                    .error(format_args!("reserved GDT block {block} is not listed as it must be")));
            }
            if is_used {
                change.used.push(at);
            } else {
                change.kept.push(list);
            }
        }
        Ok(Some(change))
    }

    /// Blocks that this changes.
    pub(super) fn credits(&self) -> u32 {
        2 + self.kept.len() as u32
    }

    pub(super) fn apply(&self, tx: &mut Tx<'_>) -> Result<()> {
        let geometry = &tx.fs.geometry;
        if !self.groups.is_empty() {
            for list in &self.kept {
                tx.modify(list, |bytes| {
                    for (place, &group) in (self.before..).zip(&self.groups) {
                        let copy = list.block() + u64::from(group) * u64::from(geometry.blocks_per_group);
                        put32(bytes, place * 4, copy as u32);
                    }
                })?;
            }
        }
        if !self.used.is_empty() {
            tx.modify(&self.double, |bytes| {
                self.used.iter().for_each(|&at| put32(bytes, at, 0))
            })?;
        }
        let more = self.kept.len() * self.groups.len();
        let fewer = self.used.len() * (self.before + 1);
        let sectors = u64::from(geometry.block_size / 512);
        {
            let mut core = self.inode.core.lock();
            core.sectors = (core.sectors + more as u64 * sectors).saturating_sub(fewer as u64 * sectors);
        }
        tx.write_inode(&self.inode)
    }
}

impl Ext4 {
    /// `EUCLEAN` unless files may own the block.
    fn checked_block(&self, block: u64) -> Result<u64> {
        if self.is_file_space(block, 1) {
            return Ok(block);
        }
        Err(self.error_of(RESIZE, format_args!("invalid block {block}")))
    }
}
