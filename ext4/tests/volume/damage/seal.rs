//! Checksums made right again, so that damage gets past them (ext4 disk layout, "Checksums").

use super::anatomy::{Anatomy, JOURNAL_MAGIC, Part, Piece, le16, le32};
use crate::fast_area::crc32c;

fn put16(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 2].copy_from_slice(&(value as u16).to_le_bytes());
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// CRC-16 with the polynomial 0xA001, as `uninit_bg` takes it.
fn crc16(mut crc: u16, bytes: &[u8]) -> u16 {
    for byte in bytes {
        crc ^= u16::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0xA001 } else { crc >> 1 };
        }
    }
    crc
}

impl Anatomy {
    /// Makes the checksum of `piece` right, as far as this file system has one.
    pub fn seal(&self, image: &mut [u8], piece: &Piece) {
        let seed = self.seed;
        let bytes = piece.bytes.clone();
        match piece.part {
            Part::Super if self.has_csum => {
                let raw = &mut image[bytes];
                let crc = crc32c(!0, &raw[..0x3FC]);
                put32(raw, 0x3FC, crc);
            }
            Part::Descriptor(group) => self.seal_descriptor(image, group),
            Part::BlockBitmap(group) if self.has_csum && !self.is_unused(image, group, 2) => {
                let crc = crc32c(seed, &image[bytes][..self.blocks_per_group as usize / 8]);
                self.seal_bitmap(image, group, [0x18, 0x38], crc);
            }
            Part::InodeBitmap(group) if self.has_csum && !self.is_unused(image, group, 1) => {
                let crc = crc32c(seed, &image[bytes][..self.inodes_per_group as usize / 8]);
                self.seal_bitmap(image, group, [0x1A, 0x3A], crc);
            }
            Part::Inode(ino) if self.has_csum => {
                let raw = &mut image[bytes];
                put16(raw, 0x7C, 0);
                let has_high = raw.len() > 128 && le16(raw, 0x80) >= 4;
                if has_high {
                    put16(raw, 0x82, 0);
                }
                let crc = crc32c(inode_seed(seed, ino, raw), raw);
                put16(raw, 0x7C, crc);
                if has_high {
                    put16(raw, 0x82, crc >> 16);
                }
            }
            Part::Extents(ino) if self.has_csum => {
                let seed = self.seed_of(image, ino);
                let raw = &mut image[bytes];
                let end = 12 + 12 * le16(raw, 4) as usize;
                if end + 4 <= raw.len() {
                    let crc = crc32c(seed, &raw[..end]);
                    put32(raw, end, crc);
                }
            }
            Part::Names(ino) if self.has_csum => {
                let seed = self.seed_of(image, ino);
                let raw = &mut image[bytes];
                let end = raw.len() - 12;
                let crc = crc32c(seed, &raw[..end]);
                put32(raw, end + 8, crc);
            }
            Part::Index(ino) if self.has_csum => {
                let seed = self.seed_of(image, ino);
                let raw = &mut image[bytes];
                let counts = if le32(raw, 0) == 0 { 8 } else { 32 };
                let (limit, count) = (le16(raw, counts) as usize, le16(raw, counts + 2) as usize);
                let tail = counts + limit * 8;
                if tail + 8 <= raw.len() && count <= limit {
                    put32(raw, tail + 4, 0);
                    let crc = crc32c(seed, &raw[..counts + count * 8]);
                    let crc = crc32c(crc, &raw[tail..tail + 8]);
                    put32(raw, tail + 4, crc);
                }
            }
            Part::Xattrs if self.has_csum => {
                let block = (bytes.start / self.block) as u64;
                let raw = &mut image[bytes];
                put32(raw, 0x10, 0);
                let crc = crc32c(crc32c(seed, &block.to_le_bytes()), raw);
                put32(raw, 0x10, crc);
            }
            Part::JournalSuper if self.has_csum => {
                let raw = &mut image[bytes][..1024];
                put32(raw, 0xFC, 0);
                let crc = crc32c(!0, raw);
                raw[0xFC..0x100].copy_from_slice(&crc.to_be_bytes());
            }
            Part::Log if self.has_csum => self.seal_log(image, piece),
            _ => {}
        }
    }

    /// Whether a bitmap that counts for nothing has no checksum either.
    fn is_unused(&self, image: &[u8], group: u32, flag: u32) -> bool {
        le16(&image[self.descriptor(group)], 0x12) & flag != 0
    }

    fn seed_of(&self, image: &[u8], ino: u32) -> u32 {
        inode_seed(self.seed, ino, &image[self.inode(image, ino)])
    }

    fn seal_bitmap(&self, image: &mut [u8], group: u32, at: [usize; 2], crc: u32) {
        let raw = &mut image[self.descriptor(group)];
        put16(raw, at[0], crc);
        if raw.len() >= 64 {
            put16(raw, at[1], crc >> 16);
        }
        self.seal_descriptor(image, group);
    }

    fn seal_descriptor(&self, image: &mut [u8], group: u32) {
        let uuid = image[1024 + 0x68..1024 + 0x78].to_vec();
        let raw = &mut image[self.descriptor(group)];
        put16(raw, 0x1E, 0);
        if self.has_csum {
            let crc = crc32c(crc32c(self.seed, &group.to_le_bytes()), raw);
            put16(raw, 0x1E, crc);
        } else if self.has_gdt_csum {
            let crc = crc16(crc16(crc16(!0, &uuid), &group.to_le_bytes()), &raw[..0x1E]);
            let crc = if raw.len() > 32 { crc16(crc, &raw[0x20..]) } else { crc };
            put16(raw, 0x1E, u32::from(crc));
        }
    }

    /// Descriptor, revoke and commit blocks; what the last of these vouches for beyond itself stays as it is.
    fn seal_log(&self, image: &mut [u8], piece: &Piece) {
        let superblock = image
            .windows(4)
            .step_by(self.block)
            .position(|magic| magic == JOURNAL_MAGIC);
        let Some(superblock) = superblock.map(|block| block * self.block) else {
            return;
        };
        let seed = crc32c(!0, &image[superblock + 0x30..superblock + 0x40]);
        let raw = &mut image[piece.bytes.clone()];
        // A commit block's sum is in its header, the others' are at their end.
        let at = if raw[7] == 2 { 0x10 } else { raw.len() - 4 };
        put32(raw, at, 0);
        let crc = crc32c(seed, raw);
        raw[at..at + 4].copy_from_slice(&crc.to_be_bytes());
    }
}

fn inode_seed(seed: u32, ino: u32, raw: &[u8]) -> u32 {
    crc32c(crc32c(seed, &ino.to_le_bytes()), &raw[0x64..0x68])
}
