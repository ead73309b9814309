//! Where new groups keep what they need: with `flex_bg` bitmaps and tables of a batch together in front, else each group has its own.

use alloc::vec;
use alloc::vec::Vec;

use crate::instance::Ext4;
use crate::layout::geometry::Geometry;
use crate::layout::group::{Desc, INODE_UNINIT, ITABLE_ZEROED};
use crate::space::groups::{bitmap_with, pad, table_blocks};
use crate::space::system::Zone;
use crate::{Errno, Result};

/// Groups that come in one transaction, without `flex_bg` or with very large flexible groups.
const USUAL: u32 = 16;
const MOST: u32 = 256;

/// Groups that come together.
pub(super) struct Batch {
    pub groups: Vec<NewGroup>,
    /// Their own structures, sorted and apart.
    pub zones: Vec<Zone>,
    /// First block behind them: the new size.
    pub end: u64,
    /// Blocks of them for the superuser.
    pub reserved: u64,
}

/// A group that is to come.
pub(super) struct NewGroup {
    pub number: u32,
    pub start: u64,
    pub desc: Desc,
    /// Its block bitmap.
    pub bitmap: Vec<u8>,
}

/// Finds room in front of some groups, behind their copies of the super block.
struct Cursor<'a> {
    groups: &'a [Span],
    at: u64,
}

/// A group's blocks, and how many of them copies take.
#[derive(Clone, Copy)]
struct Span {
    number: u32,
    start: u64,
    len: u32,
    base: u32,
}

impl Span {
    fn end(&self) -> u64 {
        self.start + u64::from(self.len)
    }

    fn base_end(&self) -> u64 {
        self.start + u64::from(self.base)
    }
}

impl<'a> Cursor<'a> {
    fn new(groups: &'a [Span]) -> Self {
        Self {
            groups,
            at: groups.first().map_or(0, |group| group.start),
        }
    }

    /// The next `count` blocks in a row.
    fn take(&mut self, count: u32) -> Option<u64> {
        loop {
            let end = self.at + u64::from(count);
            if end > self.groups.last()?.end() {
                return None;
            }
            let hit = |group: &&Span| group.base > 0 && group.start < end && self.at < group.base_end();
            match self.groups.iter().find(hit) {
                Some(group) => self.at = group.base_end(),
                None => {
                    let first = self.at;
                    self.at = end;
                    return Some(first);
                }
            }
        }
    }

    /// Places for bitmaps and tables of `owners`: all bitmaps, then all tables.
    fn place(mut self, owners: usize, table: u32) -> Option<Vec<Desc>> {
        let mut descs = Vec::new();
        for _ in 0..owners {
            descs.push(Desc {
                block_bitmap: self.take(1)?,
                ..Desc::default()
            });
        }
        for desc in &mut descs {
            desc.inode_bitmap = self.take(1)?;
        }
        for desc in &mut descs {
            desc.inode_table = self.take(table)?;
        }
        Some(descs)
    }
}

impl Batch {
    /// The next groups on the way to `target` blocks: to the end of a flexible group.
    pub(super) fn next(fs: &Ext4, target: u64) -> Result<Self> {
        let geometry = &fs.geometry;
        let before = geometry.size.counts();
        let step = match geometry.flex {
            1 => USUAL,
            flex => flex.min(MOST),
        };
        let upto = (u64::from(before.groups / step) + 1) * u64::from(step);
        let spans: Vec<Span> = (u64::from(before.groups)..upto)
            .map_while(|number| span(geometry, number as u32, target))
            .collect();
        let table = table_blocks(geometry);
        let together = match geometry.flex {
            1 => None,
            _ => Cursor::new(&spans).place(spans.len(), table),
        };
        let each = || {
            let own = |span: &Span| Cursor::new(core::slice::from_ref(span)).place(1, table);
            spans.iter().map(|span| own(span)?.pop()).collect()
        };
        let descs = together.or_else(each).ok_or(Errno::ENOSPC)?;
        let end = spans.last().ok_or(Errno::ENOSPC)?.end();
        // The same part of the blocks as before, in percent.
        let reserved = (before.reserved_blocks * 100 / before.blocks) * (end - before.blocks) / 100;
        Ok(Self::with(fs, &spans, descs, reserved))
    }

    /// One group as the caller wants it. `EINVAL` when its structures do not lie in it, or on each other.
    pub(super) fn given(fs: &Ext4, number: u32, places: Desc, blocks: u32, reserved: u16) -> Result<Self> {
        let geometry = &fs.geometry;
        let before = geometry.size.counts();
        let refused = |what: &str| {
            fs.warn(format_args!("{what}"));
            Err(Errno::EINVAL)
        };
        if number != before.groups {
            fs.warn(format_args!(
                "Cannot add at group {number} (only {} groups)",
                before.groups
            ));
            return Err(Errno::EINVAL);
        }
        if before.blocks != geometry.group_start(number) {
            return refused("Last group not full");
        }
        if u32::from(reserved) > blocks / 5 {
            return refused("Reserved blocks too high");
        }
        let table = u64::from(table_blocks(geometry));
        let end = before.blocks + u64::from(blocks);
        let Some(span) = span(geometry, number, end).filter(|span| span.end() == end) else {
            return refused("Bad blocks count");
        };
        let mut parts = [
            (span.start, span.base_end()),
            (places.block_bitmap, places.block_bitmap.saturating_add(1)),
            (places.inode_bitmap, places.inode_bitmap.saturating_add(1)),
            (places.inode_table, places.inode_table.saturating_add(table)),
        ];
        parts.sort_unstable();
        if parts.windows(2).any(|pair| pair[0].1 > pair[1].0) {
            return refused("Structures of the group overlap");
        }
        if parts.iter().any(|part| part.0 < span.start || part.1 > end) {
            return refused("Structures not in group");
        }
        Ok(Self::with(fs, &[span], vec![places], u64::from(reserved)))
    }

    fn with(fs: &Ext4, spans: &[Span], descs: Vec<Desc>, reserved: u64) -> Self {
        let geometry = &fs.geometry;
        let table = u64::from(table_blocks(geometry));
        let mut zones: Vec<Zone> = Vec::new();
        for (span, desc) in spans.iter().zip(&descs) {
            zones.push((span.start, span.base_end()));
            zones.push((desc.block_bitmap, desc.block_bitmap + 1));
            zones.push((desc.inode_bitmap, desc.inode_bitmap + 1));
            zones.push((desc.inode_table, desc.inode_table + table));
        }
        let zones = crate::space::groups::joined(zones);
        let groups = spans.iter().zip(descs).map(|(span, desc)| span.group(fs, desc, &zones));
        Self {
            groups: groups.collect(),
            end: spans.last().map_or(0, Span::end),
            zones,
            reserved,
        }
    }
}

/// An inode bitmap in which nothing is used.
pub(super) fn free_inodes(geometry: &Geometry) -> Vec<u8> {
    let mut bytes = vec![0; geometry.block_size as usize];
    pad(&mut bytes, geometry.inodes_per_group);
    bytes
}

/// The group `number` of a file system of `end` blocks, if it has that.
fn span(geometry: &Geometry, number: u32, end: u64) -> Option<Span> {
    let start = geometry.group_start(number);
    let len = end.checked_sub(start).filter(|&len| len > 0)?;
    let len = len.min(u64::from(geometry.blocks_per_group)) as u32;
    Some(Span {
        number,
        start,
        len,
        base: geometry.base_blocks(number),
    })
}

impl Span {
    /// The group with its descriptor filled in.
    fn group(&self, fs: &Ext4, places: Desc, zones: &[Zone]) -> NewGroup {
        let geometry = &fs.geometry;
        let cut = |zone: &Zone| (zone.0.max(self.start), zone.1.min(self.end()));
        let own: Vec<Zone> = zones.iter().map(cut).filter(|zone| zone.0 < zone.1).collect();
        let used: u64 = own.iter().map(|zone| zone.1 - zone.0).sum();
        let bitmap = bitmap_with(geometry.block_size, self.start, self.len, own);
        let mut desc = Desc {
            free_blocks: self.len.saturating_sub(used as u32),
            free_inodes: geometry.inodes_per_group,
            ..places
        };
        if geometry.has_group_csum() {
            desc.itable_unused = geometry.inodes_per_group;
            desc.flags = INODE_UNINIT;
            if !fs.options.lock().init_itable {
                desc.flags |= ITABLE_ZEROED;
            }
        }
        if geometry.has_csum() {
            // Who believes a copy of the descriptors believes no flag, and reads both bitmaps.
            desc.inode_bitmap_csum = fs.bitmap_csum(&free_inodes(geometry), geometry.inodes_per_group);
            desc.block_bitmap_csum = fs.bitmap_csum(&bitmap, geometry.blocks_per_group);
        }
        NewGroup {
            number: self.number,
            start: self.start,
            desc,
            bitmap,
        }
    }
}
