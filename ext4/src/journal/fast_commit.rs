//! Fast commits: what Linux writes between two full commits, as changes of inodes instead of blocks.
//!
//! We write none, but a disk may come with some. They are parsed here and handed to the file system, which alone can apply them
//! ([`Config::fast_commits`](super::Config::fast_commits)). The area is a
//! sequence of little-endian records (type, length, value); a `TAIL` with a checksum ends each commit, and what follows the last good tail is ignored.

use alloc::vec::Vec;

use super::Tid;
use super::area::Area;
use super::superblock::Extent;
use crate::layout::checksum::crc32c;
use crate::{Errno, Result};

/// Record types.
const ADD_RANGE: u16 = 1;
const DELETE_RANGE: u16 = 2;
const CREATE: u16 = 3;
const LINK: u16 = 4;
const UNLINK: u16 = 5;
const INODE: u16 = 6;
const PAD: u16 = 7;
const TAIL: u16 = 8;
const HEAD: u16 = 9;
/// Type and length.
const RECORD: usize = 4;

/// One record of the fast-commit area, in the order of writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FastCommit {
    /// A leaf extent joins an inode's tree.
    AddRange {
        /// The inode.
        inode: u32,
        /// `struct ext4_extent` as on disk: logical block, length (above 32768: unwritten), physical block.
        extent: [u8; 12],
    },
    /// Logical blocks of an inode are gone.
    DeleteRange {
        /// The inode.
        inode: u32,
        /// First logical block.
        first: u32,
        /// Number of blocks.
        count: u32,
    },
    /// A new inode gets its name.
    Create(Link),
    /// An inode gets one more name.
    Link(Link),
    /// A name is removed.
    Unlink(Link),
    /// The raw inode.
    Inode {
        /// The inode.
        inode: u32,
        /// Its bytes as in the inode table.
        raw: Vec<u8>,
    },
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The directory.
    pub parent: u32,
    /// The inode it names.
    pub inode: u32,
    /// The name, without a NUL.
    pub name: Vec<u8>,
}

/// The records of all complete fast commits on top of the full commits before `tid`. Writes nothing.
///
/// # Errors
/// `EOPNOTSUPP`: committed by a newer Linux with features or records that we do not know. `EIO`.
pub(super) fn scan(area: &Area, extent: Extent, block_size: usize, tid: Tid) -> Result<Vec<FastCommit>> {
    let mut reader = area.reader();
    let mut commits = Commits {
        tid,
        sum: 0,
        started: false,
        strange: false,
        pending: Vec::new(),
        complete: Vec::new(),
    };
    for block in extent.fast.0..extent.fast.1 {
        let bytes = reader.read(block)?;
        if let Goes::Stop = commits.block(&bytes[..block_size])? {
            break;
        }
    }
    Ok(commits.complete)
}

/// What has been read so far.
struct Commits {
    tid: Tid,
    sum: u32,
    /// A head has been seen since the last tail, or the area begins.
    started: bool,
    /// A record since the last tail could not be understood.
    strange: bool,
    pending: Vec<FastCommit>,
    complete: Vec<FastCommit>,
}

enum Goes {
    On,
    Stop,
}

impl Commits {
    fn block(&mut self, bytes: &[u8]) -> Result<Goes> {
        let mut at = 0;
        while at + RECORD <= bytes.len() {
            let kind = le16(bytes, at);
            let end = at + RECORD + usize::from(le16(bytes, at + 2));
            if end > bytes.len() || kind != HEAD && !self.started && self.complete.is_empty() {
                return Ok(Goes::Stop);
            }
            let (record, value) = (&bytes[at..end], &bytes[at + RECORD..end]);
            match kind {
                HEAD => {
                    if value.len() < 8 || le32(value, 4) != self.tid {
                        return Ok(Goes::Stop);
                    }
                    if le32(value, 0) != 0 {
                        return Err(Errno::EOPNOTSUPP);
                    }
                    self.started = true;
                    self.sum = crc32c(self.sum, record);
                }
                TAIL => {
                    // The length reaches to the end of the block; the checksum covers the record up to itself.
                    if value.len() < 8 || le32(value, 0) != self.tid {
                        return Ok(Goes::Stop);
                    }
                    if crc32c(self.sum, &record[..RECORD + 4]) != le32(value, 4) {
                        return Ok(Goes::Stop);
                    }
                    if self.strange {
                        // Committed, and lost if it were passed over.
                        return Err(Errno::EOPNOTSUPP);
                    }
                    self.sum = 0;
                    self.complete.append(&mut self.pending);
                }
                PAD => self.sum = crc32c(self.sum, record),
                _ => {
                    match parse(kind, value) {
                        Some(parsed) => self.pending.push(parsed),
                        None => self.strange = true,
                    }
                    self.sum = crc32c(self.sum, record);
                }
            }
            at = end;
        }
        Ok(Goes::On)
    }
}

/// One change; `None` for an unknown type or a value that is too short.
fn parse(kind: u16, value: &[u8]) -> Option<FastCommit> {
    let word = |index: usize| value.get(index * 4..index * 4 + 4).map(|bytes| le32(bytes, 0));
    let link = || {
        Some(Link {
            parent: word(0)?,
            inode: word(1)?,
            name: value
                .get(8..)
                .filter(|name| !name.is_empty() && name.len() <= 255)?
                .to_vec(),
        })
    };
    Some(match kind {
        ADD_RANGE => FastCommit::AddRange {
            inode: word(0)?,
            extent: value.get(4..16)?.try_into().ok()?,
        },
        DELETE_RANGE => FastCommit::DeleteRange {
            inode: word(0)?,
            first: word(1)?,
            count: word(2)?,
        },
        CREATE => FastCommit::Create(link()?),
        LINK => FastCommit::Link(link()?),
        UNLINK => FastCommit::Unlink(link()?),
        INODE => FastCommit::Inode {
            inode: word(0)?,
            raw: value.get(4..).filter(|raw| raw.len() >= 128)?.to_vec(),
        },
        _ => return None,
    })
}

fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn record(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((value.len() as u16).to_le_bytes());
        bytes.extend(value);
        bytes
    }

    /// A block with these records and a tail for `tid`.
    fn block(tid: Tid, records: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes: Vec<u8> = records.concat();
        let rest = 1024 - bytes.len() - RECORD;
        bytes.extend(TAIL.to_le_bytes());
        bytes.extend((rest as u16).to_le_bytes());
        bytes.extend(tid.to_le_bytes());
        let sum = crc32c(0, &bytes);
        bytes.extend(sum.to_le_bytes());
        bytes.resize(1024, 0);
        bytes
    }

    fn head(tid: Tid) -> Vec<u8> {
        record(HEAD, &[[0; 4], tid.to_le_bytes()].concat())
    }

    fn commits(tid: Tid) -> Commits {
        Commits {
            tid,
            sum: 0,
            started: false,
            strange: false,
            pending: Vec::new(),
            complete: Vec::new(),
        }
    }

    #[test]
    fn records_count_only_with_their_tail() {
        let unlink = record(
            UNLINK,
            &[2u32.to_le_bytes().as_slice(), &12u32.to_le_bytes(), b"name"].concat(),
        );
        let mut whole = block(7, &[head(7), unlink.clone()]);
        let want = FastCommit::Unlink(Link {
            parent: 2,
            inode: 12,
            name: b"name".to_vec(),
        });
        let mut seen = commits(7);
        assert!(matches!(seen.block(&whole), Ok(Goes::On)));
        assert_eq!(seen.complete, vec![want]);
        let mut other = commits(8);
        assert!(matches!(other.block(&whole), Ok(Goes::Stop)));
        assert!(other.complete.is_empty());
        whole[14] ^= 1;
        let mut torn = commits(7);
        assert!(matches!(torn.block(&whole), Ok(Goes::Stop)));
        assert!(torn.complete.is_empty());
    }

    #[test]
    fn a_committed_record_of_an_unknown_type_is_refused_and_an_uncommitted_one_is_not() {
        let records = [head(1), record(77, b"x")];
        let mut whole = block(1, &records);
        assert!(matches!(commits(1).block(&whole), Err(Errno::EOPNOTSUPP)));
        whole[records.concat().len() + 8] ^= 1;
        assert!(matches!(commits(1).block(&whole), Ok(Goes::Stop)));
    }
}
