//! The super block's lasting part: sizes, counts, seeds, features. Read once at mount and checked, so that arithmetic on it is safe later. Only
//! [`Size`] changes, when the file system grows.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::checksum::{crc16, crc32c};
use super::features::{Compat, Incompat, RoCompat};
use super::size::{Counts, Size};
use super::{get_split, get8, get16, get32};

/// Where the first super block begins on the device, in bytes.
pub(crate) const SUPER_AT: u64 = 1024;
/// Its length.
pub(crate) const SUPER_LEN: usize = 1024;
/// `EXT4_SUPER_MAGIC`, the same for all three.
pub(crate) const MAGIC: u16 = 0xef53;

/// Sizes and features of one file system.
#[derive(Clone, Debug)]
pub(crate) struct Geometry {
    pub block_size: u32,
    pub size: Size,
    pub first_data_block: u32,
    pub blocks_per_group: u32,
    /// Blocks of a cluster; 1 without bigalloc.
    pub cluster_ratio: u32,
    pub inodes_per_group: u32,
    pub desc_size: u32,
    pub inode_size: u32,
    pub first_ino: u32,
    pub want_extra_isize: u16,
    pub compat: Compat,
    pub incompat: Incompat,
    pub ro_compat: RoCompat,
    pub uuid: [u8; 16],
    pub csum_seed: u32,
    pub hash_seed: [u32; 4],
    pub hash_version: u8,
    pub hash_unsigned: bool,
    pub first_meta_bg: u32,
    pub backup_groups: [u32; 2],
    pub journal_ino: u32,
    /// The number of the journal's own device, and what that has as its UUID.
    pub journal_dev: u32,
    pub journal_uuid: [u8; 16],
    pub orphan_file_ino: u32,
    pub default_resuid: u16,
    pub default_resgid: u16,
    pub default_mount_opts: u32,
    pub rev: u32,
    /// Groups whose bitmaps and tables lie together; 1 without `flex_bg`.
    pub flex: u32,
}

impl Geometry {
    /// Reads a super block. The text says what is wrong with it, in ext4's words where it has some.
    pub(crate) fn parse(raw: &[u8], device_len: u64) -> Result<Self, String> {
        let word = |at| get32(raw, at);
        if get16(raw, 0x38) != MAGIC {
            return Err("VFS: Can't find ext4 filesystem".to_string());
        }
        let rev = word(0x4c);
        if rev > 1 {
            return Err(format!("revision level too high ({rev})"));
        }
        let log = word(0x18);
        if log > 2 {
            return Err(format!("bad block size {}", 1024u64 << log.min(20)));
        }
        let block_size = 1024u32 << log;
        let (compat, incompat, ro_compat) = if rev == 0 {
            (Compat::empty(), Incompat::empty(), RoCompat::empty())
        } else {
            (
                Compat::from_bits_retain(word(0x5c)),
                Incompat::from_bits_retain(word(0x60)),
                RoCompat::from_bits_retain(word(0x64)),
            )
        };
        let wide = incompat.contains(Incompat::SIXTY_FOUR_BIT);
        let half = |low, high| {
            if wide {
                get_split(raw, low, high)
            } else {
                u64::from(get32(raw, low))
            }
        };
        let blocks = half(4, 0x150);
        let desc_size = if wide { u32::from(get16(raw, 0xfe)) } else { 32 };
        if !(32..=1024).contains(&desc_size) || !desc_size.is_power_of_two() || (wide && desc_size < 64) {
            return Err(format!("unsupported descriptor size {desc_size}"));
        }
        let inode_size = if rev == 0 { 128 } else { u32::from(get16(raw, 0x58)) };
        if inode_size < 128 || !inode_size.is_power_of_two() || inode_size > block_size {
            return Err(format!("unsupported inode size: {inode_size}"));
        }
        let bigalloc = ro_compat.contains(RoCompat::BIGALLOC);
        let cluster_log = word(0x1c);
        if bigalloc && (cluster_log < log || cluster_log > 16) {
            return Err(format!("Invalid log cluster size: {cluster_log}"));
        }
        let cluster_ratio = if bigalloc { 1 << (cluster_log - log) } else { 1 };
        let blocks_per_group = word(0x20);
        let most = u64::from(block_size) * 8 * u64::from(cluster_ratio);
        if blocks_per_group == 0 || u64::from(blocks_per_group) > most || blocks_per_group % (8 * cluster_ratio) != 0 {
            return Err(format!("#blocks per group too big: {blocks_per_group}"));
        }
        let inodes_per_group = word(0x28);
        let inodes_per_block = block_size / inode_size;
        if inodes_per_group < inodes_per_block || inodes_per_group > block_size * 8 {
            return Err(format!("invalid inodes per group: {inodes_per_group}"));
        }
        let first_data_block = word(0x14);
        let expected = u32::from(block_size == 1024 && !bigalloc);
        if first_data_block != expected && first_data_block != 0 || u64::from(first_data_block) >= blocks {
            return Err(format!(
                "bad geometry: first data block {first_data_block} is beyond end of filesystem ({blocks})"
            ));
        }
        if blocks > device_len / u64::from(block_size) {
            return Err(format!(
                "bad geometry: block count {blocks} exceeds size of device ({} blocks)",
                device_len / u64::from(block_size)
            ));
        }
        let groups = (blocks - u64::from(first_data_block)).div_ceil(u64::from(blocks_per_group));
        let inodes = word(0);
        let groups = u32::try_from(groups).map_err(|_| format!("groups count too large: {groups}"))?;
        if u64::from(groups) * u64::from(inodes_per_group) != u64::from(inodes) {
            return Err(format!(
                "inodes count not valid: {inodes} vs {}",
                u64::from(groups) * u64::from(inodes_per_group)
            ));
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&raw[0x68..0x78]);
        let mut journal_uuid = [0; 16];
        journal_uuid.copy_from_slice(&raw[0xd0..0xe0]);
        let csum_seed = if incompat.contains(Incompat::CSUM_SEED) {
            word(0x270)
        } else {
            crc32c(!0, &uuid)
        };
        if ro_compat.contains(RoCompat::METADATA_CSUM) {
            if get8(raw, 0x175) != 1 {
                return Err("VFS: Found ext4 filesystem with unknown checksum algorithm.".to_string());
            }
            if crc32c(!0, &raw[..0x3fc]) != word(0x3fc) {
                return Err("VFS: Found ext4 filesystem with invalid superblock checksum.  Run e2fsck?".to_string());
            }
        }
        let first_ino = if rev == 0 { 11 } else { word(0x54) };
        if first_ino < 11 || first_ino > inodes {
            return Err(format!("invalid first ino: {first_ino}"));
        }
        let flags = word(0x160);
        let desc_blocks = groups.div_ceil(block_size / desc_size);
        if incompat.contains(Incompat::META_BG) && word(0x104) > desc_blocks {
            return Err(format!(
                "first meta block group too large: {} (group descriptor block count {desc_blocks})",
                word(0x104)
            ));
        }
        Ok(Self {
            block_size,
            size: Size::new(Counts {
                blocks,
                groups,
                inodes,
                reserved_gdt: u32::from(get16(raw, 0xce)),
                reserved_blocks: half(8, 0x154).min(blocks),
            }),
            first_data_block,
            blocks_per_group,
            cluster_ratio,
            inodes_per_group,
            desc_size,
            inode_size,
            first_ino,
            want_extra_isize: get16(raw, 0x15e),
            compat,
            incompat,
            ro_compat,
            uuid,
            csum_seed,
            hash_seed: [word(0xec), word(0xf0), word(0xf4), word(0xf8)],
            hash_version: get8(raw, 0xfc),
            // Neither flag: mke2fs before the flags ran on a machine with signed characters, as ours is.
            hash_unsigned: flags & 2 != 0,
            first_meta_bg: word(0x104),
            backup_groups: [word(0x24c), word(0x250)],
            journal_ino: word(0xe0),
            journal_dev: word(0xe4),
            journal_uuid,
            orphan_file_ino: word(0x280),
            default_resuid: get16(raw, 0x50),
            default_resgid: get16(raw, 0x52),
            default_mount_opts: word(0x100),
            rev,
            flex: match get8(raw, 0x174) {
                log @ 0..=30 if incompat.contains(Incompat::FLEX_BG) => 1 << log,
                _ => 1,
            },
        })
    }

    pub(crate) fn has_csum(&self) -> bool {
        self.ro_compat.contains(RoCompat::METADATA_CSUM)
    }

    /// Whether group descriptors carry a checksum and bitmaps may be uninitialised.
    pub(crate) fn has_group_csum(&self) -> bool {
        self.ro_compat.intersects(RoCompat::METADATA_CSUM | RoCompat::GDT_CSUM)
    }

    pub(crate) fn has_extents(&self) -> bool {
        self.incompat.contains(Incompat::EXTENTS)
    }

    /// The block of the super block and its place in it.
    pub(crate) fn super_place(&self) -> (u64, usize) {
        let size = u64::from(self.block_size);
        (SUPER_AT / size, (SUPER_AT % size) as usize)
    }

    /// First block of a group.
    pub(crate) fn group_start(&self, group: u32) -> u64 {
        u64::from(self.first_data_block) + u64::from(group) * u64::from(self.blocks_per_group)
    }

    /// Blocks of a group; the last may be short.
    pub(crate) fn group_len(&self, group: u32) -> u32 {
        (self.size.blocks() - self.group_start(group)).min(u64::from(self.blocks_per_group)) as u32
    }

    /// The group of a block of this file system and the place in it.
    pub(crate) fn group_of(&self, block: u64) -> (u32, u32) {
        let at = block - u64::from(self.first_data_block);
        (
            (at / u64::from(self.blocks_per_group)) as u32,
            (at % u64::from(self.blocks_per_group)) as u32,
        )
    }

    /// `first..first+count`, which lies inside, by groups: group, place in it, length.
    pub(crate) fn pieces(&self, first: u64, count: u64) -> impl Iterator<Item = (u32, u32, u32)> + use<'_> {
        let (mut at, end) = (first, first + count);
        core::iter::from_fn(move || {
            if at >= end {
                return None;
            }
            let (number, offset) = self.group_of(at);
            let len = (end - at).min(u64::from(self.group_len(number) - offset)) as u32;
            at += u64::from(len);
            Some((number, offset, len))
        })
    }

    /// Whether `first..first+count` lies inside.
    pub(crate) fn holds(&self, first: u64, count: u64) -> bool {
        first > u64::from(self.first_data_block)
            && first.checked_add(count).is_some_and(|end| end <= self.size.blocks())
    }

    pub(crate) fn descs_per_block(&self) -> u32 {
        self.block_size / self.desc_size
    }

    /// Blocks of one copy of the group descriptors.
    pub(crate) fn desc_blocks(&self) -> u32 {
        self.desc_blocks_for(self.size.groups())
    }

    /// The same if there were so many groups.
    pub(crate) fn desc_blocks_for(&self, groups: u32) -> u32 {
        groups.div_ceil(self.descs_per_block())
    }

    /// Whether a group begins with a copy of the super block.
    pub(crate) fn has_super(&self, group: u32) -> bool {
        if group == 0 {
            return true;
        }
        if self.compat.contains(Compat::SPARSE_SUPER2) {
            return self.backup_groups.contains(&group);
        }
        if group == 1 || !self.ro_compat.contains(RoCompat::SPARSE_SUPER) {
            return true;
        }
        [3u64, 5, 7].iter().any(|&base| {
            let mut power = base;
            while power < u64::from(group) {
                power *= base;
            }
            power == u64::from(group)
        })
    }

    /// The block of a group's descriptor and the place in it.
    pub(crate) fn desc_place(&self, group: u32) -> (u64, usize) {
        let index = group / self.descs_per_block();
        let at = (group % self.descs_per_block() * self.desc_size) as usize;
        let block = if !self.incompat.contains(Incompat::META_BG) || index < self.first_meta_bg {
            self.super_place().0 + 1 + u64::from(index)
        } else {
            let first = index * self.descs_per_block();
            self.group_start(first) + u64::from(self.has_super(first))
        };
        (block, at)
    }

    /// The blocks with copies of one of the blocks of descriptors.
    pub(crate) fn desc_copies(&self, index: u32) -> Vec<u64> {
        let groups = self.size.groups();
        let per = self.descs_per_block();
        if !self.incompat.contains(Incompat::META_BG) || index < self.first_meta_bg {
            let upto = match self.incompat.contains(Incompat::META_BG) {
                true => groups.min(self.first_meta_bg.saturating_mul(per)),
                false => groups,
            };
            let copies = (1..upto).filter(|&group| self.has_super(group));
            return copies
                .map(|group| self.group_start(group) + 1 + u64::from(index))
                .collect();
        }
        let first = index * per;
        [first + 1, first + per - 1]
            .into_iter()
            .filter(|&group| group < groups)
            .map(|group| self.group_start(group) + u64::from(self.has_super(group)))
            .collect()
    }

    /// Blocks at the start of a group that hold copies of the super block and of descriptors.
    pub(crate) fn base_blocks(&self, group: u32) -> u32 {
        let copy = u32::from(self.has_super(group));
        let per = self.descs_per_block();
        let meta_bg = self.incompat.contains(Incompat::META_BG);
        if !meta_bg || group / per < self.first_meta_bg {
            let tables = if meta_bg {
                self.first_meta_bg
            } else {
                self.desc_blocks()
            };
            return copy * (1 + tables + if meta_bg { 0 } else { self.size.reserved_gdt() });
        }
        let place = group % per;
        copy + u32::from(place == 0 || place == 1 || place == per - 1)
    }

    /// The seed of a file's own checksums.
    pub(crate) fn inode_seed(&self, ino: u32, generation: u32) -> u32 {
        crc32c(crc32c(self.csum_seed, &ino.to_le_bytes()), &generation.to_le_bytes())
    }

    /// The checksum of a group descriptor.
    pub(crate) fn desc_checksum(&self, group: u32, desc: &[u8]) -> u16 {
        let group = group.to_le_bytes();
        if self.has_csum() {
            let crc = crc32c(crc32c(self.csum_seed, &group), &desc[..0x1e]);
            crc32c(crc32c(crc, &[0; 2]), &desc[0x20..]) as u16
        } else {
            let crc = crc16(crc16(crc16(!0, &self.uuid), &group), &desc[..0x1e]);
            crc16(crc, &desc[0x20..])
        }
    }
}
