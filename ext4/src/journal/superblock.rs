//! The journal's superblock: block 0 of its file.

use alloc::vec::Vec;

use super::config::{Checksums, CommitOrder, Features, Numbers};
use super::layout::{Format, Header, SUPERBLOCK_V1, SUPERBLOCK_V2, be32, put_be32};
use super::{JBD2, Tid};
use crate::layout::checksum::crc32c;
use crate::{Errno, Result};

/// Offsets of the fields.
const BLOCK_SIZE: usize = 0x0C;
const BLOCKS: usize = 0x10;
const FIRST: usize = 0x14;
const SEQUENCE: usize = 0x18;
const START: usize = 0x1C;
const ERROR: usize = 0x20;
const COMPAT: usize = 0x24;
const INCOMPAT: usize = 0x28;
const RO_COMPAT: usize = 0x2C;
const UUID: usize = 0x30;
const USERS: usize = 0x40;
const CHECKSUM_TYPE: usize = 0x50;
const FAST_BLOCKS: usize = 0x54;
const HEAD: usize = 0x58;
const CHECKSUM: usize = 0xFC;
/// The checksum covers this much of the block.
const SIZE: usize = 1024;

/// Feature bits.
const COMPAT_CHECKSUM: u32 = 1;
const REVOKE: u32 = 1;
const WIDE: u32 = 2;
const ASYNC_COMMIT: u32 = 4;
const CSUM_V2: u32 = 8;
const CSUM_V3: u32 = 0x10;
const FAST_COMMIT: u32 = 0x20;
const KNOWN_INCOMPAT: u32 = REVOKE | WIDE | ASYNC_COMMIT | CSUM_V2 | CSUM_V3 | FAST_COMMIT;
/// CRC-32C in `s_checksum_type`.
const CRC32C: u8 = 4;

/// A log shorter than this holds no useful transaction (`JBD2_MIN_JOURNAL_BLOCKS`).
const SHORTEST: u32 = 1024;
/// Fast-commit blocks when the superblock says 0.
const DEFAULT_FAST_BLOCKS: u32 = 256;

/// A checked superblock. The bytes that we do not know stay as they are.
#[derive(Clone)]
pub(super) struct Superblock {
    raw: Vec<u8>,
}

/// Where the log and the fast commits lie in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// First block of the log.
    pub(super) first: u32,
    /// The block after its last.
    pub(super) end: u32,
    /// The fast commits' first block and the block after their last; empty without the feature.
    pub(super) fast: (u32, u32),
}

impl Extent {
    /// Blocks of the log.
    pub(super) fn size(&self) -> u32 {
        self.end - self.first
    }

    /// The log block `count` blocks after `at`.
    pub(super) fn after(&self, at: u32, count: u32) -> u32 {
        let next = u64::from(at) + u64::from(count);
        match next.checked_sub(u64::from(self.end)) {
            // A start behind the log (a hostile superblock) wraps like its end.
            Some(over) => self.first + (over % u64::from(self.size())) as u32,
            None => next as u32,
        }
    }
}

impl Superblock {
    /// Checks a superblock of a journal of `blocks` blocks. `EINVAL`: not one that we know; `EBADMSG`: a wrong checksum.
    pub(super) fn parse(raw: Vec<u8>, block_size: usize, blocks: u64) -> Result<Superblock> {
        let this = Superblock { raw };
        match Header::parse(&this.raw) {
            Some(Header {
                kind: SUPERBLOCK_V1 | SUPERBLOCK_V2,
                ..
            }) if this.word(BLOCK_SIZE) as usize == block_size => {}
            Some(_) => return Err(invalid("unrecognised superblock format ID")),
            None => return Err(invalid("no valid journal superblock found")),
        }
        if u64::from(this.word(BLOCKS)) > blocks {
            return Err(invalid("journal file too short"));
        }
        if this.word(FIRST) == 0 || this.word(FIRST) >= this.word(BLOCKS) {
            return Err(invalid("Invalid start block of journal"));
        }
        if this.incompat() & !KNOWN_INCOMPAT != 0 || this.feature(RO_COMPAT) != 0 {
            return Err(invalid("Unrecognised features on journal"));
        }
        let sums = [CSUM_V2, CSUM_V3]
            .iter()
            .filter(|&&bit| this.incompat() & bit != 0)
            .count();
        if sums > 1 || sums == 1 && this.feature(COMPAT) & COMPAT_CHECKSUM != 0 {
            return Err(invalid("Can't enable checksum v1, v2 and v3 at the same time!"));
        }
        if sums == 1 {
            if this.raw[CHECKSUM_TYPE] != CRC32C {
                return Err(invalid("Unknown checksum type"));
            }
            if this.checksum() != this.word(CHECKSUM) {
                log::error!("{JBD2}journal checksum error");
                return Err(Errno::EBADMSG);
            }
        }
        let extent = this.extent();
        if extent.end.saturating_sub(extent.first) < SHORTEST - 1 {
            return Err(invalid("Journal too short"));
        }
        let start = this.start();
        if start != 0 && !(extent.first..this.word(BLOCKS)).contains(&start) {
            return Err(invalid("Invalid start block of journal"));
        }
        Ok(this)
    }

    fn word(&self, at: usize) -> u32 {
        be32(&self.raw, at)
    }

    fn put(&mut self, at: usize, value: u32) {
        put_be32(&mut self.raw, at, value);
    }

    fn is_v1(&self) -> bool {
        self.word(4) == SUPERBLOCK_V1
    }

    /// A feature word; version 1 has none.
    fn feature(&self, at: usize) -> u32 {
        if self.is_v1() { 0 } else { self.word(at) }
    }

    fn incompat(&self) -> u32 {
        self.feature(INCOMPAT)
    }

    fn checksum(&self) -> u32 {
        let sum = crc32c(!0, &self.raw[..CHECKSUM]);
        let sum = crc32c(sum, &[0; 4]);
        crc32c(sum, &self.raw[CHECKSUM + 4..SIZE])
    }

    /// The block as it is to be written.
    pub(super) fn sealed(&mut self) -> &[u8] {
        if self.incompat() & (CSUM_V2 | CSUM_V3) != 0 {
            let sum = self.checksum();
            self.put(CHECKSUM, sum);
        }
        &self.raw
    }

    pub(super) fn uuid(&self) -> [u8; 16] {
        let mut uuid = [0; 16];
        if !self.is_v1() {
            uuid.copy_from_slice(&self.raw[UUID..UUID + 16]);
        }
        uuid
    }

    /// How blocks of the log look.
    pub(super) fn format(&self, block_size: usize) -> Format {
        let incompat = self.incompat();
        let numbers = if incompat & WIDE != 0 {
            Numbers::Wide
        } else {
            Numbers::Narrow
        };
        let checksums = if incompat & CSUM_V3 != 0 {
            Checksums::V3
        } else if incompat & CSUM_V2 != 0 {
            Checksums::V2
        } else if self.feature(COMPAT) & COMPAT_CHECKSUM != 0 {
            Checksums::Commit
        } else {
            Checksums::None
        };
        Format::new(block_size, numbers, checksums, self.uuid())
    }

    /// Whether a commit block may have reached the disk before what it vouches for.
    pub(super) fn commit_order(&self) -> CommitOrder {
        match self.incompat() & ASYNC_COMMIT {
            0 => CommitOrder::AfterFlush,
            _ => CommitOrder::Together,
        }
    }

    /// Where the log lies. Fast commits have the end of the journal, unless that left the log too little.
    pub(super) fn extent(&self) -> Extent {
        let (first, blocks) = (self.word(FIRST), self.word(BLOCKS));
        if self.incompat() & FAST_COMMIT == 0 {
            return Extent {
                first,
                end: blocks,
                fast: (0, 0),
            };
        }
        let fast = match self.word(FAST_BLOCKS) {
            0 => DEFAULT_FAST_BLOCKS,
            count => count,
        };
        let end = match blocks.checked_sub(fast) {
            Some(end) if end >= SHORTEST => end,
            _ => blocks,
        };
        Extent {
            first,
            end,
            // The block between the two belongs to neither.
            fast: (end.saturating_add(1).min(blocks), blocks),
        }
    }

    /// Length of the journal in blocks, this one included.
    pub(super) fn blocks(&self) -> u32 {
        self.word(BLOCKS)
    }

    /// Where replay begins; 0: nothing is to be replayed.
    pub(super) fn start(&self) -> u32 {
        self.word(START)
    }

    /// The transaction at [`start`](Self::start), or the next to be written.
    pub(super) fn sequence(&self) -> Tid {
        self.word(SEQUENCE)
    }

    /// Sets where replay begins and with which transaction; `head` is the next block to be written, told in a clean journal only.
    pub(super) fn set_tail(&mut self, start: u32, sequence: Tid, head: u32) {
        self.put(START, start);
        self.put(SEQUENCE, sequence);
        if !self.is_v1() {
            self.put(HEAD, if start == 0 { head } else { 0 });
        }
    }

    /// The recorded error: 0 or a negative errno.
    pub(super) fn error(&self) -> i32 {
        self.word(ERROR) as i32
    }

    pub(super) fn set_error(&mut self, error: i32) {
        self.put(ERROR, error as u32);
    }

    /// Keeps everything as it is, fast commits too, but for what the log needs to be written to.
    pub(super) fn keep(&mut self) {
        let incompat = self.incompat() | REVOKE;
        self.put(INCOMPAT, incompat);
    }

    /// Makes an empty journal one with these features. A journal of version 1 becomes version 2, as revoke records need.
    pub(super) fn adopt(&mut self, wanted: Features) {
        if self.is_v1() {
            self.put(4, SUPERBLOCK_V2);
            self.raw[COMPAT..SIZE].fill(0);
            self.put(USERS, 1);
        }
        let mut incompat = REVOKE;
        let mut compat = self.word(COMPAT) & !COMPAT_CHECKSUM;
        if wanted.numbers == Numbers::Wide {
            incompat |= WIDE;
        }
        match wanted.checksums {
            Checksums::None => {}
            Checksums::Commit => {
                compat |= COMPAT_CHECKSUM;
                // Only a checksum over the whole tells a torn transaction from a complete one.
                if wanted.commit == CommitOrder::Together {
                    incompat |= ASYNC_COMMIT;
                }
            }
            Checksums::V2 => incompat |= CSUM_V2,
            Checksums::V3 => incompat |= CSUM_V3,
        }
        self.put(COMPAT, compat);
        self.put(INCOMPAT, incompat);
        self.raw[CHECKSUM_TYPE] = match wanted.checksums {
            Checksums::V2 | Checksums::V3 => CRC32C,
            Checksums::None | Checksums::Commit => 0,
        };
        self.put(CHECKSUM, 0);
    }
}

fn invalid(what: &str) -> Errno {
    log::error!("{JBD2}{what}");
    Errno::EINVAL
}
