//! Groups in memory: descriptors, bitmaps, and their way to the disk.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::bits::Bits;
use crate::buffer::Buffer;
use crate::instance::Ext4;
use crate::layout::checksum::crc32c;
use crate::layout::geometry::Geometry;
use crate::layout::group::{BLOCK_UNINIT, Desc, INODE_UNINIT};
use crate::layout::{get16, put16};
use crate::transaction::Tx;
use crate::{Errno, Result};

/// One group.
pub(crate) struct Group {
    pub desc: Desc,
    /// Blocks that cannot be taken; read when the group is first used.
    pub busy: Option<Bits>,
    /// Zeros of `busy`, or the descriptor's count before it is read.
    pub available: u32,
    /// Its bitmaps cannot be trusted: nothing is allocated here.
    pub broken: bool,
}

/// Reads all descriptors. The text says what is wrong.
pub(crate) fn read_all(
    geometry: &Geometry,
    mut read: impl FnMut(u64) -> Result<Arc<Buffer>>,
) -> core::result::Result<Vec<Group>, String> {
    let mut groups = Vec::new();
    let mut last: Option<(u64, Arc<Buffer>)> = None;
    for number in 0..geometry.size.groups() {
        let (block, at) = geometry.desc_place(number);
        let buffer = match &last {
            Some((known, buffer)) if *known == block => buffer.clone(),
            _ => read(block).map_err(|error| format!("can't read group descriptor {number}: {error}"))?,
        };
        let raw = buffer.read(|bytes| bytes[at..at + geometry.desc_size as usize].to_vec());
        last = Some((block, buffer));
        if geometry.has_group_csum() && get16(&raw, 0x1e) != geometry.desc_checksum(number, &raw) {
            return Err(format!(
                "ext4_check_descriptors: Checksum for group {number} failed ({}!={})",
                geometry.desc_checksum(number, &raw),
                get16(&raw, 0x1e)
            ));
        }
        let mut desc = Desc::parse(&raw);
        if !geometry.has_group_csum() {
            desc.flags &= !(BLOCK_UNINIT | INODE_UNINIT);
            desc.itable_unused = 0;
        }
        check(geometry, number, &desc)?;
        groups.push(Group {
            available: desc.free_blocks,
            desc,
            busy: None,
            broken: false,
        });
    }
    Ok(groups)
}

fn check(geometry: &Geometry, number: u32, desc: &Desc) -> core::result::Result<(), String> {
    let table = u64::from(table_blocks(geometry));
    for (what, block, count) in [
        ("Block bitmap", desc.block_bitmap, 1),
        ("Inode bitmap", desc.inode_bitmap, 1),
        ("Inode table", desc.inode_table, table),
    ] {
        if !geometry.holds(block, count) {
            return Err(format!(
                "ext4_check_descriptors: {what} for group {number} not in group (block {block})!"
            ));
        }
    }
    let clusters = geometry.group_len(number).div_ceil(geometry.cluster_ratio);
    if desc.free_blocks > clusters
        || desc.free_inodes > geometry.inodes_per_group
        || desc.itable_unused > geometry.inodes_per_group
    {
        return Err(format!(
            "ext4_check_descriptors: counts of group {number} are impossible"
        ));
    }
    Ok(())
}

/// Blocks of one group's part of the inode table.
pub(crate) fn table_blocks(geometry: &Geometry) -> u32 {
    geometry
        .inodes_per_group
        .div_ceil(geometry.block_size / geometry.inode_size)
}

/// Runs of blocks that hold the file system's own structures, sorted: nothing else may point there.
pub(crate) fn system_zones(geometry: &Geometry, groups: &[Group], journal: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut zones = journal.to_vec();
    for (number, group) in groups.iter().enumerate() {
        let start = geometry.group_start(number as u32);
        zones.push((start, start + u64::from(geometry.base_blocks(number as u32))));
        zones.push((group.desc.block_bitmap, group.desc.block_bitmap + 1));
        zones.push((group.desc.inode_bitmap, group.desc.inode_bitmap + 1));
        zones.push((
            group.desc.inode_table,
            group.desc.inode_table + u64::from(table_blocks(geometry)),
        ));
    }
    self::joined(zones)
}

/// The same blocks in order, neighbours together.
pub(crate) fn joined(mut zones: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    zones.retain(|(start, end)| start < end);
    zones.sort_unstable();
    let mut joined: Vec<(u64, u64)> = Vec::new();
    for (start, end) in zones {
        match joined.last_mut() {
            Some(last) if last.1 >= start => last.1 = last.1.max(end),
            _ => joined.push((start, end)),
        }
    }
    joined
}

/// The block bitmap of a group that has none on the disk yet.
fn fresh_block_bitmap(fs: &Ext4, number: u32) -> Vec<u8> {
    let start = fs.geometry.group_start(number);
    let len = fs.geometry.group_len(number);
    let zones = fs.system.within(start, start + u64::from(len));
    bitmap_with(fs.geometry.block_size, start, len, zones)
}

/// The block bitmap of a group of `len` blocks from `start` on, in which the blocks of `zones` are used.
pub(crate) fn bitmap_with(
    block_size: u32,
    start: u64,
    len: u32,
    zones: impl IntoIterator<Item = (u64, u64)>,
) -> Vec<u8> {
    let mut bytes = vec![0; block_size as usize];
    for (first, end) in zones {
        for block in first..end {
            set_bit(&mut bytes, (block - start) as u32, true);
        }
    }
    pad(&mut bytes, len);
    bytes
}

/// Sets the bits from `len` on.
pub(crate) fn pad(bytes: &mut [u8], len: u32) {
    for bit in len..bytes.len() as u32 * 8 {
        if bit.is_multiple_of(8) {
            bytes[(bit / 8) as usize..].fill(0xff);
            break;
        }
        set_bit(bytes, bit, true);
    }
}

pub(super) fn get_bit(bytes: &[u8], bit: u32) -> bool {
    bytes
        .get((bit / 8) as usize)
        .is_some_and(|byte| byte >> (bit % 8) & 1 == 1)
}

pub(crate) fn set_bit(bytes: &mut [u8], bit: u32, value: bool) {
    if let Some(byte) = bytes.get_mut((bit / 8) as usize) {
        let mask = 1 << (bit % 8);
        *byte = if value { *byte | mask } else { *byte & !mask };
    }
}

impl Ext4 {
    /// Reads the block bitmap of a group into memory, if it is not there. `EIO`, `EUCLEAN`: nothing can be taken from or given to it.
    pub(crate) fn load_group(&self, group: &mut Group, number: u32) -> Result<()> {
        if group.broken {
            return Err(Errno::EUCLEAN);
        }
        if group.busy.is_some() {
            return Ok(());
        }
        let geometry = &self.geometry;
        let len = geometry.group_len(number);
        let bits = if group.desc.flags & BLOCK_UNINIT != 0 {
            Bits::from_bytes(&fresh_block_bitmap(self, number), len)
        } else {
            let buffer = self.buffers.get(group.desc.block_bitmap)?;
            let (crc, bits) = buffer.read(|bytes| {
                (
                    self.bitmap_csum(bytes, geometry.blocks_per_group),
                    Bits::from_bytes(bytes, len),
                )
            });
            if geometry.has_csum() && !self.csum_matches(crc, group.desc.block_bitmap_csum) {
                group.broken = true;
                return Err(self.error(format_args!("bg {number}: bad block bitmap checksum")));
            }
            let start = geometry.group_start(number);
            let zones = self.system.within(start, start + u64::from(len));
            let unmarked = zones
                .into_iter()
                .any(|zone| (zone.0..zone.1).any(|block| !bits.get((block - start) as u32)));
            if unmarked {
                group.broken = true;
                return Err(self.error(format_args!(
                    "bg {number}: bad block bitmap: system blocks are not marked"
                )));
            }
            bits
        };
        let zeros = bits.zeros();
        self.counters.taken(i64::from(group.available) - i64::from(zeros));
        group.available = zeros;
        group.busy = Some(bits);
        Ok(())
    }

    pub(crate) fn bitmap_csum(&self, bytes: &[u8], bits: u32) -> u32 {
        crc32c(self.geometry.csum_seed, &bytes[..(bits / 8) as usize])
    }

    fn csum_matches(&self, crc: u32, stored: u32) -> bool {
        if self.geometry.desc_size >= 64 {
            crc == stored
        } else {
            crc & 0xffff == stored & 0xffff
        }
    }
}

impl Tx<'_> {
    /// The buffer of a group's block bitmap, made if it is not on the disk yet.
    pub(crate) fn block_bitmap(&mut self, number: u32) -> Result<Arc<Buffer>> {
        let fs = self.fs;
        let desc = self.group(number)?.desc;
        if desc.flags & BLOCK_UNINIT == 0 {
            return fs.buffers.get(desc.block_bitmap);
        }
        let bytes = fresh_block_bitmap(fs, number);
        let buffer = self.handle.create(desc.block_bitmap)?;
        self.handle.modify(&buffer, |block| block.copy_from_slice(&bytes))?;
        self.group(number)?.desc.flags &= !BLOCK_UNINIT;
        Ok(buffer)
    }

    /// The same for the inode bitmap.
    pub(super) fn inode_bitmap(&mut self, number: u32) -> Result<Arc<Buffer>> {
        let fs = self.fs;
        let group = self.group(number)?;
        if group.broken {
            return Err(Errno::EUCLEAN);
        }
        let desc = group.desc;
        if desc.flags & INODE_UNINIT != 0 {
            let mut bytes = vec![0; fs.geometry.block_size as usize];
            pad(&mut bytes, fs.geometry.inodes_per_group);
            let buffer = self.handle.create(desc.inode_bitmap)?;
            self.handle.modify(&buffer, |block| block.copy_from_slice(&bytes))?;
            self.group(number)?.desc.flags &= !INODE_UNINIT;
            return Ok(buffer);
        }
        let buffer = fs.buffers.get(desc.inode_bitmap)?;
        let crc = buffer.read(|bytes| fs.bitmap_csum(bytes, fs.geometry.inodes_per_group));
        if fs.geometry.has_csum() && !fs.csum_matches(crc, desc.inode_bitmap_csum) {
            self.group(number)?.broken = true;
            return Err(fs.error(format_args!("bg {number}: Corrupt inode bitmap")));
        }
        Ok(buffer)
    }

    /// Stores a group's descriptor, with the checksums of the bitmaps given (changed now) and its own.
    pub(crate) fn store_desc(
        &mut self,
        number: u32,
        block_bitmap: Option<&Arc<Buffer>>,
        inode_bitmap: Option<&Arc<Buffer>>,
    ) -> Result<()> {
        let fs = self.fs;
        if fs.geometry.has_csum() {
            let sum = |buffer: &Arc<Buffer>, bits| buffer.read(|bytes| fs.bitmap_csum(bytes, bits));
            let blocks = block_bitmap.map(|buffer| sum(buffer, fs.geometry.blocks_per_group));
            let inodes = inode_bitmap.map(|buffer| sum(buffer, fs.geometry.inodes_per_group));
            let desc = &mut self.group(number)?.desc;
            desc.block_bitmap_csum = blocks.unwrap_or(desc.block_bitmap_csum);
            desc.inode_bitmap_csum = inodes.unwrap_or(desc.inode_bitmap_csum);
        }
        let desc = self.group(number)?.desc;
        let (block, at) = fs.geometry.desc_place(number);
        let buffer = fs.buffers.get(block)?;
        self.handle.modify(&buffer, |bytes| {
            let raw = &mut bytes[at..at + fs.geometry.desc_size as usize];
            desc.store(raw);
            if fs.geometry.has_group_csum() {
                let crc = fs.geometry.desc_checksum(number, raw);
                put16(raw, 0x1e, crc);
            }
        })
    }

    pub(crate) fn group(&mut self, number: u32) -> Result<&mut Group> {
        self.meta.groups.get_mut(number as usize).ok_or(Errno::EUCLEAN)
    }
}
