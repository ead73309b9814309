//! The blocks of a journal as they lie on disk: headers, descriptor tags, commit and revoke blocks. All numbers are big-endian.
//!
//! Written from the kernel's documentation, "Ext4 disk layout, Journal (jbd2)". What depends on the journal's features is in [`Format`].

use alloc::vec;
use alloc::vec::Vec;

use super::Tid;
use super::checksum::crc32_be;
use super::config::{Checksums, Numbers};
use crate::layout::checksum::crc32c;

/// First word of every block of the journal's own.
pub(super) const MAGIC: u32 = 0xC03B_3998;
/// Bytes of the header: magic, type, transaction.
pub(super) const HEADER: usize = 12;

/// Types of blocks.
pub(super) const DESCRIPTOR: u32 = 1;
pub(super) const COMMIT: u32 = 2;
pub(super) const SUPERBLOCK_V1: u32 = 3;
pub(super) const SUPERBLOCK_V2: u32 = 4;
pub(super) const REVOKE: u32 = 5;

/// Tag flags: the data block began with [`MAGIC`], zeroed in the log.
pub(super) const ESCAPED: u32 = 1;
/// No UUID follows: it is that of the tag before.
pub(super) const SAME_UUID: u32 = 2;
/// The descriptor's last tag.
pub(super) const LAST_TAG: u32 = 8;
const UUID: usize = 16;

/// Checksum type of `journal_checksum` in the commit block, and its length.
const COMMIT_CRC32: u8 = 1;
const CRC32_SIZE: u8 = 4;
/// Offsets in the commit block.
const COMMIT_TYPE: usize = 0xC;
const COMMIT_SUM: usize = 0x10;
const COMMIT_SECONDS: usize = 0x30;
const COMMIT_NANOSECONDS: usize = 0x38;

/// A big-endian word; the caller knows that it lies inside.
pub(super) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Stores a big-endian word.
pub(super) fn put_be32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// What a block of the journal's own says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: u32,
    pub(super) tid: Tid,
}

impl Header {
    /// `None` without the magic.
    pub(super) fn parse(block: &[u8]) -> Option<Header> {
        (be32(block, 0) == MAGIC).then(|| Header {
            kind: be32(block, 4),
            tid: be32(block, 8),
        })
    }

    pub(super) fn store(self, block: &mut [u8]) {
        put_be32(block, 0, MAGIC);
        put_be32(block, 4, self.kind);
        put_be32(block, 8, self.tid);
    }
}

/// One data block in a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    /// Its home.
    pub(super) block: u64,
    pub(super) flags: u32,
    /// 32 bits with V3, 16 with V2.
    pub(super) checksum: u32,
}

/// How this journal's blocks look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Format {
    pub(super) block_size: usize,
    pub(super) numbers: Numbers,
    pub(super) checksums: Checksums,
    /// CRC-32C of the journal's UUID.
    pub(super) seed: u32,
    pub(super) uuid: [u8; UUID],
}

impl Format {
    pub(super) fn new(block_size: usize, numbers: Numbers, checksums: Checksums, uuid: [u8; UUID]) -> Format {
        Format {
            block_size,
            numbers,
            checksums,
            seed: crc32c(!0, &uuid),
            uuid,
        }
    }

    /// Whether each block carries a CRC-32C.
    pub(super) fn checks_blocks(&self) -> bool {
        matches!(self.checksums, Checksums::V2 | Checksums::V3)
    }

    /// Bytes of a tag. V2 added two bytes to the checksum's sixteen bits by mistake, and they stayed.
    fn tag_bytes(&self) -> usize {
        let wide = match self.numbers {
            Numbers::Wide => 4,
            Numbers::Narrow => 0,
        };
        match self.checksums {
            Checksums::V3 => 16,
            Checksums::V2 => 10 + wide,
            Checksums::None | Checksums::Commit => 8 + wide,
        }
    }

    /// Bytes at the end of descriptor and revoke blocks.
    fn tail_bytes(&self) -> usize {
        if self.checks_blocks() { 4 } else { 0 }
    }

    /// Data blocks one descriptor can describe.
    pub(super) fn tags_per_descriptor(&self) -> usize {
        (self.block_size - HEADER - UUID - self.tail_bytes()) / self.tag_bytes()
    }

    fn record_bytes(&self) -> usize {
        match self.numbers {
            Numbers::Wide => 8,
            Numbers::Narrow => 4,
        }
    }

    /// Revoked blocks one revoke block can name.
    pub(super) fn revokes_per_block(&self) -> usize {
        (self.block_size - HEADER - 4 - self.tail_bytes()) / self.record_bytes()
    }

    /// The tags of a descriptor block, to the last or to the end of the block, whatever comes first.
    pub(super) fn tags(&self, block: &[u8]) -> Vec<Tag> {
        let (end, size) = (self.block_size - self.tail_bytes(), self.tag_bytes());
        let mut tags = Vec::new();
        let mut at = HEADER;
        while at + size <= end {
            let tag = self.tag(&block[at..at + size]);
            tags.push(tag);
            at += size;
            if tag.flags & SAME_UUID == 0 {
                at += UUID;
            }
            if tag.flags & LAST_TAG != 0 {
                break;
            }
        }
        tags
    }

    fn tag(&self, bytes: &[u8]) -> Tag {
        let low = u64::from(be32(bytes, 0));
        let (flags, checksum) = match self.checksums {
            Checksums::V3 => (be32(bytes, 4), be32(bytes, 12)),
            _ => {
                let word = be32(bytes, 4);
                (word & 0xffff, word >> 16)
            }
        };
        let high = match self.numbers {
            Numbers::Wide => u64::from(be32(bytes, 8)),
            Numbers::Narrow => 0,
        };
        Tag {
            block: high << 32 | low,
            flags,
            checksum,
        }
    }

    /// A descriptor block for at most [`tags_per_descriptor`](Self::tags_per_descriptor) data blocks; the flags but [`ESCAPED`] are made here.
    pub(super) fn descriptor(&self, tid: Tid, tags: &[Tag]) -> Vec<u8> {
        let mut block = vec![0; self.block_size];
        Header { kind: DESCRIPTOR, tid }.store(&mut block);
        let mut at = HEADER;
        for (index, tag) in tags.iter().enumerate() {
            let mut flags = tag.flags & ESCAPED;
            if index > 0 {
                flags |= SAME_UUID;
            }
            if index + 1 == tags.len() {
                flags |= LAST_TAG;
            }
            self.put_tag(&mut block[at..], Tag { flags, ..*tag });
            at += self.tag_bytes();
            if index == 0 {
                block[at..at + UUID].copy_from_slice(&self.uuid);
                at += UUID;
            }
        }
        self.seal(&mut block);
        block
    }

    fn put_tag(&self, bytes: &mut [u8], tag: Tag) {
        put_be32(bytes, 0, tag.block as u32);
        match self.checksums {
            Checksums::V3 => {
                put_be32(bytes, 4, tag.flags);
                put_be32(bytes, 12, tag.checksum);
            }
            _ => put_be32(bytes, 4, tag.checksum << 16 | tag.flags),
        }
        if self.numbers == Numbers::Wide {
            put_be32(bytes, 8, (tag.block >> 32) as u32);
        }
    }

    /// What a tag says of a data block as it lies in the log; 0 without checksums.
    pub(super) fn tag_checksum(&self, tid: Tid, data: &[u8]) -> u32 {
        let sum = || crc32c(crc32c(self.seed, &tid.to_be_bytes()), data);
        match self.checksums {
            Checksums::V3 => sum(),
            Checksums::V2 => sum() & 0xffff,
            Checksums::None | Checksums::Commit => 0,
        }
    }

    /// Whether a data block in the log is what its tag says.
    pub(super) fn tag_is_true(&self, tag: &Tag, tid: Tid, data: &[u8]) -> bool {
        !self.checks_blocks() || self.tag_checksum(tid, data) == tag.checksum
    }

    /// Puts the checksum at the end of a descriptor or revoke block.
    pub(super) fn seal(&self, block: &mut [u8]) {
        if self.checks_blocks() {
            let at = self.block_size - 4;
            put_be32(block, at, 0);
            let sum = crc32c(self.seed, block);
            put_be32(block, at, sum);
        }
    }

    /// Whether a descriptor or revoke block's checksum is right.
    pub(super) fn is_sealed(&self, block: &[u8]) -> bool {
        !self.checks_blocks() || self.sum_without(block, self.block_size - 4) == be32(block, self.block_size - 4)
    }

    /// CRC-32C of a block with the word at `at` taken as zero.
    fn sum_without(&self, block: &[u8], at: usize) -> u32 {
        let sum = crc32c(crc32c(self.seed, &block[..at]), &[0; 4]);
        crc32c(sum, &block[at + 4..])
    }

    /// A revoke block for at most [`revokes_per_block`](Self::revokes_per_block) blocks.
    pub(super) fn revoke(&self, tid: Tid, revoked: &[u64]) -> Vec<u8> {
        let mut block = vec![0; self.block_size];
        Header { kind: REVOKE, tid }.store(&mut block);
        let mut at = HEADER + 4;
        for number in revoked {
            match self.numbers {
                Numbers::Wide => block[at..at + 8].copy_from_slice(&number.to_be_bytes()),
                Numbers::Narrow => put_be32(&mut block, at, *number as u32),
            }
            at += self.record_bytes();
        }
        put_be32(&mut block, HEADER, at as u32);
        self.seal(&mut block);
        block
    }

    /// The blocks a revoke block names; `None` if it is longer than a block.
    pub(super) fn revoked(&self, block: &[u8]) -> Option<Vec<u64>> {
        let end = be32(block, HEADER) as usize;
        if end > self.block_size - self.tail_bytes() {
            return None;
        }
        let records = block.get(HEADER + 4..end).unwrap_or(&[]);
        let number = |record: &[u8]| record.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        Some(records.chunks_exact(self.record_bytes()).map(number).collect())
    }

    /// A commit block. `blocks` is the CRC-32 over the transaction's blocks, used with [`Checksums::Commit`].
    pub(super) fn commit(&self, tid: Tid, (seconds, nanoseconds): (i64, u32), blocks: u32) -> Vec<u8> {
        let mut block = vec![0; self.block_size];
        Header { kind: COMMIT, tid }.store(&mut block);
        block[COMMIT_SECONDS..COMMIT_SECONDS + 8].copy_from_slice(&seconds.to_be_bytes());
        put_be32(&mut block, COMMIT_NANOSECONDS, nanoseconds);
        match self.checksums {
            Checksums::None => {}
            Checksums::Commit => {
                block[COMMIT_TYPE] = COMMIT_CRC32;
                block[COMMIT_TYPE + 1] = CRC32_SIZE;
                put_be32(&mut block, COMMIT_SUM, blocks);
            }
            Checksums::V2 | Checksums::V3 => {
                let sum = crc32c(self.seed, &block);
                put_be32(&mut block, COMMIT_SUM, sum);
            }
        }
        block
    }

    /// Whether a commit block is right and, with [`Checksums::Commit`], vouches for blocks whose CRC-32 is `blocks`.
    pub(super) fn commit_is_true(&self, block: &[u8], blocks: u32) -> bool {
        let found = be32(block, COMMIT_SUM);
        match self.checksums {
            Checksums::None => true,
            Checksums::V2 | Checksums::V3 => self.sum_without(block, COMMIT_SUM) == found,
            Checksums::Commit => match (block[COMMIT_TYPE], block[COMMIT_TYPE + 1]) {
                (COMMIT_CRC32, CRC32_SIZE) => found == blocks,
                // Written before checksums were turned on.
                (0, 0) => found == 0,
                _ => false,
            },
        }
    }

    /// When a transaction was committed: seconds since 1970.
    pub(super) fn commit_time(block: &[u8]) -> u64 {
        u64::from(be32(block, COMMIT_SECONDS)) << 32 | u64::from(be32(block, COMMIT_SECONDS + 4))
    }

    /// Adds a block to a transaction's CRC-32.
    pub(super) fn add_to_sum(&self, sum: u32, block: &[u8]) -> u32 {
        match self.checksums {
            Checksums::Commit => crc32_be(sum, block),
            _ => sum,
        }
    }
}
