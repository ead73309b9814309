//! A small disk with a journal that we format ourselves: blocks 0.. for metadata, the journal behind them. For tests that need thousands of disks;
//! real images are in `image`.

use std::sync::Arc;

use ext4::Result;
use ext4::buffer::BufferCache;
use ext4::fault::{FaultDevice, Image};
use ext4::journal::{Config, Features, Journal, Tid};

/// Bytes of a block.
pub const BLOCK: usize = 1024;
/// Length of the file system in blocks; the journal lies in it.
pub const FS_BLOCKS: u64 = 2048;
/// The journal's first block and length.
pub const JOURNAL_AT: u64 = 1000;
/// The shortest journal allowed.
pub const JOURNAL_BLOCKS: u32 = 1024;
/// The device is longer than the file system: nothing may be written behind it.
pub const DEVICE_BLOCKS: u64 = FS_BLOCKS + 64;

/// Where a journal block lies: in two pieces, the second before the first.
pub fn map(block: u32) -> Result<u64> {
    let half = JOURNAL_BLOCKS / 2;
    Ok(JOURNAL_AT + u64::from(if block < half { block + half } else { block - half }))
}

/// An image with an empty journal whose next transaction is about `sequence`.
pub fn formatted(sequence: Tid) -> Image {
    let mut superblock = vec![0; BLOCK];
    for (at, word) in [
        (0x00, 0xC03B_3998),
        (0x04, 4),
        (0x0C, BLOCK as u32),
        (0x10, JOURNAL_BLOCKS),
        (0x14, 1),
        (0x18, sequence),
        (0x40, 1),
    ] {
        superblock[at..at + 4].copy_from_slice(&u32::to_be_bytes(word));
    }
    superblock[0x30..0x40].copy_from_slice(b"a journal's uuid");
    let mut image = Image::new(DEVICE_BLOCKS * BLOCK as u64);
    image.write(map(0).unwrap() * BLOCK as u64, &superblock);
    image.write(FS_BLOCKS * BLOCK as u64, &[0x5A; 64 * BLOCK]);
    image
}

/// The configuration for such a disk.
pub fn config(features: Features) -> Config<'static> {
    let mut config = Config::new("test-8".into(), u64::from(JOURNAL_BLOCKS), FS_BLOCKS, &map);
    config.features = features;
    config
}

/// A loaded journal on a device.
pub fn load(device: &Arc<FaultDevice>, features: Features) -> Result<Arc<Journal>> {
    Journal::load(BufferCache::new(device.clone(), BLOCK), config(features))
}

/// A block of an image.
pub fn block(image: &Image, number: u64) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK];
    assert!(image.read(number * BLOCK as u64, &mut bytes));
    bytes
}

/// A word of the journal's superblock.
pub fn superblock_word(image: &Image, at: usize) -> u32 {
    let bytes = block(image, map(0).unwrap());
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// `s_start`.
pub const START: usize = 0x1C;
/// `s_errno`.
pub const ERROR: usize = 0x20;

/// Recognisable contents; every third stamp looks like a block of the journal's own.
pub fn stamped(stamp: u32) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..BLOCK / 4).flat_map(|_| stamp.to_be_bytes()).collect();
    if stamp.is_multiple_of(3) {
        bytes[..4].copy_from_slice(&0xC03B_3998u32.to_be_bytes());
        bytes[4..8].copy_from_slice(&(stamp % 5 + 1).to_be_bytes());
    }
    bytes
}

/// Changes a block to a stamp, in a handle of its own.
pub fn change(journal: &Journal, number: u64, stamp: u32) -> Result<Tid> {
    let mut handle = journal.begin(1)?;
    let buffer = journal.buffers().get(number)?;
    handle.modify(&buffer, |bytes| bytes.copy_from_slice(&stamped(stamp)))?;
    Ok(handle.tid())
}

/// All features of which one sort or the other is on real disks.
pub fn feature_sets() -> Vec<Features> {
    use ext4::journal::{Checksums, CommitOrder, Numbers};
    let mut sets = Vec::new();
    for numbers in [Numbers::Narrow, Numbers::Wide] {
        for checksums in [Checksums::None, Checksums::Commit, Checksums::V2, Checksums::V3] {
            sets.push(Features {
                numbers,
                checksums,
                commit: CommitOrder::AfterFlush,
            });
        }
        sets.push(Features {
            numbers,
            checksums: Checksums::Commit,
            commit: CommitOrder::Together,
        });
    }
    sets
}
