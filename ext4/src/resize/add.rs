//! What has been prepared becomes part of the file system.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use super::layout::{Batch, NewGroup, free_inodes};
use super::reserve::Change;
use crate::buffer::Buffer;
use crate::device::BlockDevice;
use crate::instance::Ext4;
use crate::layout::features::Incompat;
use crate::layout::group::{ITABLE_ZEROED, store_free};
use crate::layout::size::Counts;
use crate::layout::{put16, put32};
use crate::space::groups::{Group, table_blocks};
use crate::transaction::Tx;
use crate::{Errno, Result};

/// Where the super block says what structures take.
const OVERHEAD: usize = 0x248;

impl Ext4 {
    /// The last group grows, to `blocks` blocks in all.
    pub(super) fn extend_last(&self, blocks: u64) -> Result<()> {
        let mut tx = Tx::begin(self, 4)?;
        let before = self.geometry.size.counts();
        let number = before.groups - 1;
        let old_len = self.geometry.group_len(number);
        let more = blocks - before.blocks;
        let new_len = old_len + more as u32;
        self.load_group(tx.group(number)?, number)?;
        let bitmap = tx.block_bitmap(number)?;
        tx.modify(&bitmap, |bytes| {
            for bit in old_len..new_len {
                crate::space::groups::set_bit(bytes, bit, false);
            }
        })?;
        let after = Counts { blocks, ..before };
        tx.group(number)?.desc.free_blocks += more as u32;
        tx.store_desc(number, Some(&bitmap), None)?;
        tx.store_size(after, more, 0, 0)?;
        let group = tx.group(number)?;
        if let Some(busy) = group.busy.as_mut() {
            busy.grow(new_len);
        }
        group.available += more as u32;
        self.counters.used(-(more as i64));
        self.counters.taken(-(more as i64));
        self.geometry.size.grow(after);
        Ok(())
    }

    /// Writes what the groups of a batch need and makes them part of the file system.
    pub(super) fn bring(&self, batch: &Batch) -> Result<()> {
        self.write_structures(batch)?;
        self.enlist(batch)
    }

    /// On the disk, where no file system is yet: around the journal, which a commit follows.
    fn write_structures(&self, batch: &Batch) -> Result<()> {
        let size = self.block_size();
        for zone in &batch.zones {
            (zone.0..zone.1).for_each(|block| self.buffers.forget(block));
        }
        let mut runs = Vec::new();
        for group in &batch.groups {
            let base = self.geometry.base_blocks(group.number);
            if base > 0 {
                self.device.write_zeroes(group.start * size, u64::from(base) * size)?;
            }
            runs.push((group.desc.block_bitmap * size, group.bitmap.clone()));
            runs.push((group.desc.inode_bitmap * size, free_inodes(&self.geometry)));
            if !self.geometry.has_group_csum() || group.desc.flags & ITABLE_ZEROED != 0 {
                let len = u64::from(table_blocks(&self.geometry)) * size;
                self.device.write_zeroes(group.desc.inode_table * size, len)?;
            }
        }
        self.device.write_runs(runs).into_iter().collect::<Result<()>>()?;
        self.device.flush()
    }

    fn enlist(&self, batch: &Batch) -> Result<()> {
        let geometry = &self.geometry;
        let before = geometry.size.counts();
        let count = batch.groups.len() as u32;
        let groups = before.groups + count;
        let has_reserve = !geometry.incompat.contains(Incompat::META_BG);
        let used = match has_reserve {
            true => geometry.desc_blocks()..geometry.desc_blocks_for(groups),
            false => 0..0,
        };
        let copies = (before.groups..groups).filter(|&group| has_reserve && geometry.has_super(group));
        let change = Change::prepare(self, used.clone(), copies.collect())?;
        let credits = 4 + count / geometry.descs_per_block() + change.as_ref().map_or(0, Change::credits);
        let after = Counts {
            blocks: batch.end,
            groups,
            inodes: before.inodes + count * geometry.inodes_per_group,
            reserved_gdt: before.reserved_gdt - used.len() as u32,
            reserved_blocks: before.reserved_blocks + batch.reserved,
        };
        let mut tx = Tx::begin(self, credits)?;
        if let Some(change) = &change {
            change.apply(&mut tx)?;
        }
        tx.write_descs(&batch.groups)?;
        let free: u64 = batch.groups.iter().map(|group| u64::from(group.desc.free_blocks)).sum();
        let inodes = count * geometry.inodes_per_group;
        let overhead = batch.zones.iter().map(|zone| zone.1 - zone.0).sum();
        tx.store_size(after, free, inodes, overhead)?;
        // Nothing fails from here on.
        let tables: Vec<u64> = batch.groups.iter().map(|group| group.desc.inode_table).collect();
        self.system.add(&batch.zones, &tables);
        tx.meta.groups.extend(batch.groups.iter().map(|group| Group {
            desc: group.desc,
            busy: None,
            available: group.desc.free_blocks,
            broken: false,
        }));
        self.counters.used(-(free as i64));
        self.counters.taken(-(free as i64));
        self.counters.inodes.fetch_add(inodes, Ordering::Relaxed);
        geometry.size.grow(after);
        Ok(())
    }
}

impl Tx<'_> {
    /// The super block says how large it is now, and what has become free.
    fn store_size(&mut self, after: Counts, free: u64, inodes: u32, overhead: u64) -> Result<()> {
        let fs = self.fs;
        let wide = fs.geometry.incompat.contains(Incompat::SIXTY_FOUR_BIT);
        let free = fs.counters.free() + free;
        let inodes = fs.counters.inodes.load(Ordering::Relaxed) + inodes;
        let overhead = fs.overhead() + overhead;
        self.change_super(|raw| {
            put32(raw, 0, after.inodes);
            put32(raw, 4, after.blocks as u32);
            put32(raw, 8, after.reserved_blocks as u32);
            if wide {
                put32(raw, 0x150, (after.blocks >> 32) as u32);
                put32(raw, 0x154, (after.reserved_blocks >> 32) as u32);
            }
            put16(raw, 0xce, after.reserved_gdt as u16);
            put32(raw, OVERHEAD, overhead as u32);
            store_free(raw, free, inodes, wide);
        })
    }

    /// Writes the descriptors of new groups.
    fn write_descs(&mut self, groups: &[NewGroup]) -> Result<()> {
        let fs = self.fs;
        let geometry = &fs.geometry;
        let per = geometry.descs_per_block();
        let mut current: Option<Arc<Buffer>> = None;
        for group in groups {
            let (block, at) = geometry.desc_place(group.number);
            let buffer = match current.take() {
                Some(buffer) if buffer.block() == block => buffer,
                // A block of descriptors begins, where anything may have been.
                _ if group.number.is_multiple_of(per) => self.handle.create(block)?,
                _ => fs.buffers.get(block)?,
            };
            self.modify(&buffer, |bytes| {
                let raw = &mut bytes[at..at + geometry.desc_size as usize];
                raw.fill(0);
                group.desc.place(raw);
                group.desc.store(raw);
                if geometry.has_group_csum() {
                    let crc = geometry.desc_checksum(group.number, raw);
                    put16(raw, 0x1e, crc);
                }
            })?;
            current = Some(buffer);
        }
        current.map(drop).ok_or(Errno::EINVAL)
    }
}
