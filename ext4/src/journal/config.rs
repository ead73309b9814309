//! What the file system says about its journal when it loads it.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use super::fast_commit::FastCommit;
use crate::device::BlockDevice;
use crate::{Errno, Result};

/// Linux's default for `commit=`.
pub const DEFAULT_COMMIT_INTERVAL: Duration = Duration::from_secs(5);

/// Everything [`Journal::load`](super::Journal::load) has to know.
pub struct Config<'a> {
    /// What messages call it, as Linux does: `ubda1-8` for inode 8 on ubda1.
    pub name: String,
    /// A journal of its own device; `None`: it lies in a file (inode 8) on the file system's device.
    pub device: Option<Arc<dyn BlockDevice>>,
    /// Length of the journal's file or device in file-system blocks.
    pub blocks: u64,
    /// The journal block with its superblock: 0 in a file.
    pub superblock: u32,
    /// Journal block to block of the device. Asked once for each block while loading; an answer outside the device is refused.
    pub map: &'a dyn Fn(u32) -> Result<u64>,
    /// Length of the file system in blocks: replay writes nowhere else. A driver that can grow a file system while it is mounted passes the device's
    /// length, because the log may be ahead of the superblock.
    pub fs_blocks: u64,
    /// What the journal shall use from now on.
    pub features: Features,
    /// Whether the device is asked to flush (`barrier`, `nobarrier`).
    pub barrier: Barrier,
    /// How long a change may wait for its commit (`commit=`).
    pub commit_interval: Duration,
    /// What happens when ordered data cannot be written (`data_err=`).
    pub data_errors: DataErrors,
    /// Where fast commits found in the journal go, in the order of writing. `None`: such a journal is refused before anything is written.
    ///
    /// Who gets some applies them in handles and then commits: the first transaction takes the place of the fast commits, which stay in the journal until
    /// then. So all of them or none are there after a crash; that transaction may fill the whole log and is never committed to make room.
    pub fast_commits: Option<&'a mut Vec<FastCommit>>,
    /// Told once when the journal aborts by itself, by the thread that noticed, with no lock of the journal held: `errors=` is the file system's affair. It may
    /// not wait for the journal.
    pub on_abort: Box<dyn Fn(Errno) + Send + Sync>,
}

impl<'a> Config<'a> {
    /// A journal in a file of `blocks` blocks, with Linux's defaults: barriers, five seconds, no checksums, 32-bit block numbers.
    pub fn new(name: String, blocks: u64, fs_blocks: u64, map: &'a dyn Fn(u32) -> Result<u64>) -> Self {
        Config {
            name,
            device: None,
            blocks,
            superblock: 0,
            map,
            fs_blocks,
            features: Features::default(),
            barrier: Barrier::Flush,
            commit_interval: DEFAULT_COMMIT_INTERVAL,
            data_errors: DataErrors::Ignore,
            fast_commits: None,
            on_abort: Box::new(|_| ()),
        }
    }
}

/// The on-disk features a file system wants its journal to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Block numbers of 64 bits: with the file system's `64bit`.
    pub numbers: Numbers,
    /// Checksums: `V3` with `metadata_csum`, `Commit` with the mount option `journal_checksum`.
    pub checksums: Checksums,
    /// When the commit block is written.
    pub commit: CommitOrder,
}

/// Width of block numbers in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Numbers {
    /// 32 bits.
    #[default]
    Narrow,
    /// 64 bits (`JBD2_FEATURE_INCOMPAT_64BIT`).
    Wide,
}

/// What is checksummed in the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksums {
    /// Nothing.
    #[default]
    None,
    /// The blocks of a transaction together, in the commit block (`JBD2_FEATURE_COMPAT_CHECKSUM`).
    Commit,
    /// Every block, 16 bits of it for data blocks (`JBD2_FEATURE_INCOMPAT_CSUM_V2`): only for images that have it.
    V2,
    /// Every block (`JBD2_FEATURE_INCOMPAT_CSUM_V3`).
    V3,
}

/// When the commit block is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CommitOrder {
    /// After a flush of everything it vouches for.
    #[default]
    AfterFlush,
    /// Together with it (`journal_async_commit`): a checksum of the whole must tell a torn transaction.
    Together,
}

/// Whether the device has a cache that must be flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Barrier {
    /// Ask for flushes where order matters.
    Flush,
    /// The user says that none are needed (`nobarrier`).
    None,
}

/// What happens when ordered data cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataErrors {
    /// A message; the transaction commits (`data_err=ignore`).
    Ignore,
    /// The journal aborts (`data_err=abort`).
    Abort,
}
