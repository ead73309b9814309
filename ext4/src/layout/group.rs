//! Group descriptors.

use super::{get16, get32, put16, put32};

/// Group flags.
pub(crate) const INODE_UNINIT: u16 = 1;
pub(crate) const BLOCK_UNINIT: u16 = 2;
pub(crate) const ITABLE_ZEROED: u16 = 4;

/// A descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Desc {
    pub block_bitmap: u64,
    pub inode_bitmap: u64,
    pub inode_table: u64,
    pub free_blocks: u32,
    pub free_inodes: u32,
    pub used_dirs: u32,
    pub flags: u16,
    pub itable_unused: u32,
    pub block_bitmap_csum: u32,
    pub inode_bitmap_csum: u32,
}

impl Desc {
    pub(crate) fn parse(raw: &[u8]) -> Self {
        let wide = raw.len() >= 64;
        let block = |low, high| u64::from(get32(raw, low)) | if wide { u64::from(get32(raw, high)) << 32 } else { 0 };
        let count = |low, high| u32::from(get16(raw, low)) | if wide { u32::from(get16(raw, high)) << 16 } else { 0 };
        Self {
            block_bitmap: block(0, 0x20),
            inode_bitmap: block(4, 0x24),
            inode_table: block(8, 0x28),
            free_blocks: count(0xc, 0x2c),
            free_inodes: count(0xe, 0x2e),
            used_dirs: count(0x10, 0x30),
            flags: get16(raw, 0x12),
            itable_unused: count(0x1c, 0x32),
            block_bitmap_csum: count(0x18, 0x38),
            inode_bitmap_csum: count(0x1a, 0x3a),
        }
    }

    /// Stores the places of bitmaps and table, once.
    pub(crate) fn place(&self, raw: &mut [u8]) {
        let wide = raw.len() >= 64;
        for (low, high, block) in [
            (0, 0x20, self.block_bitmap),
            (4, 0x24, self.inode_bitmap),
            (8, 0x28, self.inode_table),
        ] {
            put32(raw, low, block as u32);
            if wide {
                put32(raw, high, (block >> 32) as u32);
            }
        }
    }

    /// Stores what changes; the places of bitmaps and table never do.
    pub(crate) fn store(&self, raw: &mut [u8]) {
        let wide = raw.len() >= 64;
        let mut count = |low, high, value: u32| {
            put16(raw, low, value as u16);
            if wide {
                put16(raw, high, (value >> 16) as u16);
            }
        };
        count(0xc, 0x2c, self.free_blocks);
        count(0xe, 0x2e, self.free_inodes);
        count(0x10, 0x30, self.used_dirs);
        count(0x1c, 0x32, self.itable_unused);
        count(0x18, 0x38, self.block_bitmap_csum);
        count(0x1a, 0x3a, self.inode_bitmap_csum);
        put16(raw, 0x12, self.flags);
    }
}

/// Counts in the super block, as stored in it by `free_blocks_count` and `free_inodes_count`.
pub(crate) fn store_free(raw: &mut [u8], blocks: u64, inodes: u32, wide: bool) {
    put32(raw, 0xc, blocks as u32);
    if wide {
        put32(raw, 0x158, (blocks >> 32) as u32);
    }
    put32(raw, 0x10, inodes);
}
