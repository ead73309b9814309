//! Nodes: their heads and checksums, the way down to a leaf, storing them.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::SPACE;
use super::entry::{ENTRY, Entry};
use crate::buffer::Buffer;
use crate::inode::Inode;
use crate::instance::Ext4;
use crate::layout::checksum::crc32c;
use crate::layout::inode::BLOCK_LEN;
use crate::layout::{get16, get32, put16, put32};
use crate::transaction::Tx;
use crate::{Errno, Result};

const MAGIC: u16 = 0xf30a;
const HEAD: usize = 12;
pub(super) const MOST_DEPTH: u16 = 5;

/// One node on the way from the root, parsed.
pub(super) struct Level {
    /// None for the root, which lies in the inode.
    pub(super) buffer: Option<Arc<Buffer>>,
    pub(super) depth: u16,
    pub(super) most: usize,
    pub(super) entries: Vec<Entry>,
    /// Which child the way goes on to.
    pub(super) index: usize,
}

fn checksum_at(bytes: &[u8]) -> usize {
    HEAD + ENTRY * usize::from(get16(bytes, 4))
}

fn is_sealed(fs: &Ext4, inode: &Inode, bytes: &[u8]) -> bool {
    let at = checksum_at(bytes);
    bytes
        .get(..at)
        .is_some_and(|covered| crc32c(inode.seed(&fs.geometry), covered) == get32(bytes, at))
}

/// A child node's block, checked.
fn child(fs: &Ext4, inode: &Inode, block: u64) -> Result<Arc<Buffer>> {
    let buffer = fs.file_block(block)?;
    fs.check_once(&buffer, |bytes| is_sealed(fs, inode, bytes))?;
    Ok(buffer)
}

/// Checks the head of a node: its depth (any, for the root), how many entries it has and may have.
fn head(inode: &Inode, bytes: &[u8], expected: Option<u16>) -> Result<(u16, usize, usize)> {
    let (magic, count, most, depth) = (get16(bytes, 0), get16(bytes, 2), get16(bytes, 4), get16(bytes, 6));
    let room = (bytes.len() - HEAD) / ENTRY;
    let wrong = magic != MAGIC
        || count > most
        || usize::from(most) > room
        || most == 0
        || depth > MOST_DEPTH
        || expected.is_some_and(|expected| expected != depth || count == 0)
        || (depth > 0 && count == 0);
    if wrong {
        return Err(inode.error(format_args!(
            "bad header/extent: magic {magic:x}, entries {count}, max {most}, depth {depth}"
        )));
    }
    Ok((depth, usize::from(count), usize::from(most)))
}

#[track_caller]
pub(super) fn bad_extent(inode: &Inode, entry: &Entry) -> Errno {
    inode.error(format_args!(
        "bad extent {}: {} blocks at {}",
        entry.at, entry.len, entry.block
    ))
}

/// A node as it lies on the disk: its head is right, its entries are not looked at yet.
pub(super) struct Node {
    /// None for the root, which lies in the inode.
    buffer: Option<Arc<Buffer>>,
    bytes: Arc<Vec<u8>>,
    depth: u16,
    most: usize,
    pub(super) count: usize,
}

impl Node {
    pub(super) fn entry(&self, index: usize) -> Entry {
        Entry::parse(&self.bytes[HEAD + index * ENTRY..], self.depth == 0)
    }

    /// How many entries begin at or before block `at`.
    fn behind(&self, at: u64) -> usize {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = (low + high) / 2;
            if u64::from(self.entry(middle).at) <= at {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// All entries; they must be in order and inside.
    fn parse(self, fs: &Ext4, inode: &Inode) -> Result<Level> {
        let leaf = self.depth == 0;
        let mut entries: Vec<Entry> = Vec::with_capacity(self.count + 2);
        for index in 0..self.count {
            let entry = self.entry(index);
            let in_order = entries
                .last()
                .is_none_or(|last| last.end() <= u64::from(entry.at) && (leaf || last.at < entry.at));
            let right = if leaf {
                entry.len > 0 && entry.end() <= SPACE && fs.is_file_space(entry.block, u64::from(entry.len))
            } else {
                fs.is_file_space(entry.block, 1)
            };
            if !in_order || !right {
                return Err(bad_extent(inode, &entry));
            }
            entries.push(entry);
        }
        Ok(Level {
            buffer: self.buffer,
            depth: self.depth,
            most: self.most,
            entries,
            index: 0,
        })
    }
}

/// Goes from the root to the leaf that holds, or would hold, block `at`. `visit` sees each node, and how many of its entries begin at or before `at`; the
/// way goes on through the last of them, or the first entry if there is none.
pub(super) fn descend(
    fs: &Ext4,
    inode: &Inode,
    at: u64,
    mut visit: impl FnMut(Node, usize) -> Result<()>,
) -> Result<()> {
    let mut bytes: Arc<Vec<u8>> = Arc::new(inode.core.lock().block.to_vec());
    let mut buffer = None;
    let mut expected = None;
    loop {
        let (depth, count, most) = head(inode, &bytes, expected)?;
        let node = Node {
            buffer,
            bytes,
            depth,
            most,
            count,
        };
        let behind = node.behind(at);
        let next = (depth > 0).then(|| node.entry(behind.saturating_sub(1)).block);
        visit(node, behind)?;
        let Some(next) = next else { return Ok(()) };
        let below = child(fs, inode, next)?;
        bytes = below.snapshot();
        buffer = Some(below);
        expected = Some(depth - 1);
    }
}

/// The way from the root to the leaf that holds, or would hold, block `at`.
pub(super) fn path(fs: &Ext4, inode: &Inode, at: u64) -> Result<Vec<Level>> {
    let mut levels = Vec::new();
    descend(fs, inode, at, |node, behind| {
        let mut level = node.parse(fs, inode)?;
        level.index = behind.saturating_sub(1);
        levels.push(level);
        Ok(())
    })?;
    Ok(levels)
}

/// A node of its own, not on a way from the root.
pub(super) fn load(fs: &Ext4, inode: &Inode, block: u64, depth: u16) -> Result<Level> {
    let buffer = child(fs, inode, block)?;
    let bytes = buffer.snapshot();
    let (depth, count, most) = head(inode, &bytes, Some(depth))?;
    Node {
        buffer: Some(buffer),
        bytes,
        depth,
        most,
        count,
    }
    .parse(fs, inode)
}

/// Stores a node.
pub(super) fn store(tx: &mut Tx<'_>, inode: &Inode, level: &Level) -> Result<()> {
    let encode = |bytes: &mut [u8]| {
        put16(bytes, 0, MAGIC);
        put16(bytes, 2, level.entries.len() as u16);
        put16(bytes, 4, level.most as u16);
        put16(bytes, 6, level.depth);
        let (_, body) = bytes.split_at_mut(HEAD);
        for (entry, raw) in level.entries.iter().zip(body.chunks_exact_mut(ENTRY)) {
            entry.store(raw, level.depth == 0);
        }
    };
    inode.map_changed(tx.handle.tid());
    match &level.buffer {
        None => {
            encode(&mut inode.core.lock().block);
            Ok(())
        }
        Some(buffer) => {
            let fs = tx.fs;
            let seed = inode.seed(&fs.geometry);
            tx.modify(buffer, |bytes| {
                encode(bytes);
                if fs.geometry.has_csum() {
                    let at = checksum_at(bytes);
                    let crc = crc32c(seed, &bytes[..at]);
                    put32(bytes, at, crc);
                }
            })?;
            fs.set_checked(buffer.block());
            Ok(())
        }
    }
}

/// An empty tree in a new inode.
pub(crate) fn init(block: &mut [u8; BLOCK_LEN]) {
    block.fill(0);
    put16(block, 0, MAGIC);
    put16(block, 4, ((BLOCK_LEN - HEAD) / ENTRY) as u16);
}

pub(super) fn node_room(fs: &Ext4) -> usize {
    // The checksum's place behind the entries is kept free whether it is used or not.
    (fs.geometry.block_size as usize - HEAD - 4) / ENTRY
}
