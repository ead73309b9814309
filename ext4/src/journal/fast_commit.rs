//! Fast commits: what Linux writes between two full commits, as changes of inodes instead of blocks.
//!
//! We write none, but a disk may come with some. They are parsed here and handed to the file system, which alone can apply them.

use alloc::vec::Vec;

use crate::Result;

/// One record of the fast-commit area, in the order of writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FastCommit {
    /// A leaf extent joins an inode's tree: logical block, length and physical block as in a leaf (an unwritten extent has a length above 32768).
    AddRange {
        /// The inode.
        inode: u32,
        /// `struct ext4_extent` as on disk.
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

/// Who can apply fast commits.
pub trait FastCommits {
    /// Applies the records in order; called once, after the ordinary replay, before the journal is marked clean. What it writes must be on
    /// the device (not necessarily flushed) when it returns; it may run again after a crash, so it must be idempotent.
    fn apply(&mut self, records: &[FastCommit]) -> Result<()>;
}
