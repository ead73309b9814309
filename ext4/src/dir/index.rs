//! The tree of hashes over a directory's leaves (ext4 disk layout, "Hash Tree Directories"); two levels below the root, three with `large_dir`.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::hash::{self, Hash};
use super::{Found, Name, Spot, change, entry, leaf, leaf_end, raw_block};
use crate::buffer::Buffer;
use crate::inode::Inode;
use crate::instance::{Ext4, Meta};
use crate::layout::checksum::crc32c;
use crate::layout::features::Incompat;
use crate::layout::inode::Flags;
use crate::layout::{get8, get16, get32, put, put16, put32};
use crate::transaction::Tx;
use crate::{Errno, Result};

/// Where the root's entries begin: behind `.`, `..` and eight bytes about the tree.
const ROOT_AT: usize = 0x20;
/// Where an inner node's entries begin: behind a pretended empty entry.
const NODE_AT: usize = 8;
const PAIR: usize = 8;

/// One node of the tree.
struct Node {
    buffer: Arc<Buffer>,
    at: usize,
    limit: usize,
    /// Lowest hash and block of each child; the first one's hash is not stored.
    entries: Vec<(u32, u32)>,
    /// Which child the way goes on to.
    index: usize,
}

/// The way to a leaf.
struct Way {
    nodes: Vec<Node>,
    version: u8,
}

impl Way {
    fn leaf(&self) -> u64 {
        let last = &self.nodes[self.nodes.len() - 1];
        u64::from(last.entries[last.index].1)
    }

    /// The hash the next leaf begins with, and moves there. None at the end.
    fn advance(&mut self, fs: &Ext4, meta: &Meta, dir: &Inode) -> Result<Option<u32>> {
        let Some(level) = (0..self.nodes.len())
            .rev()
            .find(|&level| self.nodes[level].index + 1 < self.nodes[level].entries.len())
        else {
            return Ok(None);
        };
        self.nodes[level].index += 1;
        let begins = self.nodes[level].entries[self.nodes[level].index].0;
        let depth = self.nodes.len();
        self.nodes.truncate(level + 1);
        while self.nodes.len() < depth {
            let below = self.leaf();
            self.nodes.push(node(fs, meta, dir, below, NODE_AT)?);
        }
        Ok(Some(begins))
    }
}

fn room(fs: &Ext4, at: usize) -> usize {
    let tail = if fs.geometry.has_csum() { 8 } else { 0 };
    (fs.geometry.block_size as usize - at - tail) / PAIR
}

fn most_levels(fs: &Ext4) -> usize {
    if fs.geometry.incompat.contains(Incompat::LARGEDIR) {
        3
    } else {
        2
    }
}

/// The checksum of a node with entries at `at`; its place is behind the limit.
fn checksum(bytes: &[u8], seed: u32, at: usize) -> Option<(usize, u32)> {
    let (limit, count) = (usize::from(get16(bytes, at)), usize::from(get16(bytes, at + 2)));
    let tail = at + limit * PAIR;
    let covered = bytes.get(..at + count * PAIR)?;
    let reserved = bytes.get(tail..tail + 4)?;
    let crc = crc32c(crc32c(crc32c(seed, covered), reserved), &[0; 4]);
    Some((tail + 4, crc))
}

fn is_sealed(bytes: &[u8], seed: u32, at: usize) -> bool {
    checksum(bytes, seed, at).is_some_and(|(place, crc)| get32(bytes, place) == crc)
}

#[track_caller]
fn damaged(dir: &Inode, what: &str) -> Errno {
    dir.error(format_args!("{what}"));
    Errno::EINVAL
}

fn node(fs: &Ext4, meta: &Meta, dir: &Inode, block: u64, at: usize) -> Result<Node> {
    let Some(buffer) = raw_block(fs, meta, dir, block)? else {
        return Err(damaged(dir, "Directory index points to a hole"));
    };
    let seed = dir.seed(&fs.geometry);
    fs.check_once(&buffer, |bytes| is_sealed(bytes, seed, at))?;
    let bytes = buffer.snapshot();
    let (limit, count) = (usize::from(get16(&bytes, at)), usize::from(get16(&bytes, at + 2)));
    if limit != room(fs, at) || count == 0 || count > limit {
        return Err(damaged(
            dir,
            &alloc::format!("dx entry: limit {limit} or count {count} is wrong"),
        ));
    }
    let entries: Vec<(u32, u32)> = (0..count)
        .map(|index| {
            let place = at + index * PAIR;
            (
                if index == 0 { 0 } else { get32(&bytes, place) },
                get32(&bytes, place + 4) & 0x0fff_ffff,
            )
        })
        .collect();
    if entries.windows(2).any(|pair| pair[0].0 > pair[1].0) {
        return Err(damaged(dir, "dx entries out of order"));
    }
    Ok(Node {
        buffer,
        at,
        limit,
        entries,
        index: 0,
    })
}

/// The version of the index and the way to the leaf of `major`.
fn way(fs: &Ext4, meta: &Meta, dir: &Inode, target: impl FnOnce(u8) -> Option<u32>) -> Result<Way> {
    let root = node(fs, meta, dir, 0, ROOT_AT)?;
    let (version, info_len, levels, unused) = root.buffer.read(|bytes| {
        (
            get8(bytes, 0x1c),
            get8(bytes, 0x1d),
            usize::from(get8(bytes, 0x1e)),
            get8(bytes, 0x1f),
        )
    });
    if !hash::is_known(version) || info_len != 8 || unused & 1 != 0 {
        return Err(damaged(dir, &alloc::format!("Unrecognised inode hash code {version}")));
    }
    if levels >= most_levels(fs) {
        return Err(damaged(
            dir,
            &alloc::format!(
                "Directory (ino: {}) htree depth {levels:#x} exceeds supported value",
                dir.number()
            ),
        ));
    }
    let major = target(version).ok_or(Errno::EINVAL)?;
    let mut way = Way {
        nodes: alloc::vec![root],
        version,
    };
    for _ in 0..=levels {
        let last = way.nodes.len() - 1;
        let node_here = &mut way.nodes[last];
        node_here.index = node_here.entries.partition_point(|&(least, _)| least <= major).max(1) - 1;
        if last < levels {
            let below = way.leaf();
            if below == 0 {
                return Err(damaged(dir, "dx entry points to the root"));
            }
            way.nodes.push(node(fs, meta, dir, below, NODE_AT)?);
        }
    }
    Ok(way)
}

/// Finds a name. `EINVAL`: the index is damaged, the leaves must be searched.
pub(super) fn find(fs: &Ext4, meta: &Meta, dir: &Inode, name: &[u8]) -> Result<Option<Found>> {
    let major = |version| hash::of_name(&fs.geometry, version, name).map(|hash| hash.major);
    let mut way = way(fs, meta, dir, major)?;
    let major = major(way.version).ok_or(Errno::EINVAL)?;
    loop {
        let block = way.leaf();
        if let Some((buffer, bytes, entries)) = leaf(fs, meta, dir, block)?
            && let Some(entry) = entries.iter().find(|entry| entry.is(&bytes, name))
        {
            return Ok(Some(Found {
                ino: entry.ino,
                entry: *entry,
                spot: Spot::Block(buffer, block),
            }));
        }
        // Names of one hash may go on in the next leaf, whose key says so.
        match way.advance(fs, meta, dir)? {
            Some(begins) if begins == major | 1 => {}
            _ => return Ok(None),
        }
    }
}

/// Every leaf in the order of hashes, from the one that holds `from` on, as long as `visit` says true.
pub(super) fn walk(
    fs: &Ext4,
    meta: &Meta,
    dir: &Inode,
    from: u32,
    mut visit: impl FnMut(u64, u8) -> Result<bool>,
) -> Result<()> {
    let mut way = way(fs, meta, dir, |_| Some(from))?;
    // A collision that goes on from the leaf before: entries with this very hash may lie there too.
    loop {
        if !visit(way.leaf(), way.version)? || way.advance(fs, meta, dir)?.is_none() {
            return Ok(());
        }
    }
}

/// Whether a block of an indexed directory is an inner node: it looks like one empty entry over the whole block.
pub(super) fn is_node(fs: &Ext4, meta: &Meta, dir: &Inode, at: u64) -> Result<bool> {
    let Some(buffer) = raw_block(fs, meta, dir, at)? else {
        return Ok(false);
    };
    let size = fs.geometry.block_size;
    let limit = room(fs, NODE_AT);
    Ok(buffer.read(|bytes| {
        get32(bytes, 0) == 0
            && u32::from(get16(bytes, 4)) == size
            && usize::from(get16(bytes, NODE_AT)) == limit
            && usize::from(get16(bytes, NODE_AT + 2)) <= limit
    }))
}

fn store(tx: &mut Tx<'_>, dir: &Inode, node: &Node) -> Result<()> {
    let fs = tx.fs;
    let seed = dir.seed(&fs.geometry);
    tx.modify(&node.buffer, |bytes| {
        for (index, &(least, block)) in node.entries.iter().enumerate() {
            let place = node.at + index * PAIR;
            if index > 0 {
                put32(bytes, place, least);
            }
            put32(bytes, place + 4, block);
        }
        put16(bytes, node.at, node.limit as u16);
        put16(bytes, node.at + 2, node.entries.len() as u16);
        if fs.geometry.has_csum()
            && let Some((place, crc)) = checksum(bytes, seed, node.at)
        {
            put32(bytes, place, crc);
        }
    })?;
    fs.set_checked(node.buffer.block());
    Ok(())
}

/// The root's checksum after a change of its first bytes (`..`).
pub(super) fn seal_root(tx: &mut Tx<'_>, dir: &Inode) -> Result<()> {
    let root = node(tx.fs, &tx.meta, dir, 0, ROOT_AT)?;
    store(tx, dir, &root)
}

/// Whether a change of the root's bytes was checked before: reads the root as an index.
pub(super) fn check_root(fs: &Ext4, meta: &Meta, dir: &Inode) -> Result<()> {
    node(fs, meta, dir, 0, ROOT_AT).map(drop)
}

/// Turns a directory of one full leaf into an index with one leaf.
pub(super) fn build(tx: &mut Tx<'_>, dir: &Inode) -> Result<()> {
    let fs = tx.fs;
    let Some((buffer, bytes, entries)) = leaf(fs, &tx.meta, dir, 0)? else {
        return Err(Errno::EUCLEAN);
    };
    if entries.len() < 2 || !entries[0].is(&bytes, b".") || !entries[1].is(&bytes, b"..") {
        return Err(dir.error(format_args!("invalid rec_len for '..'")));
    }
    let version = if hash::is_known(fs.geometry.hash_version) {
        fs.geometry.hash_version
    } else {
        1
    };
    let parent = entries[1].ino;
    let kind = (entries[0].kind, entries[1].kind);
    let moved: Vec<_> = entries[2..]
        .iter()
        .filter(|entry| entry.ino != 0)
        .map(|entry| (entry.ino, entry.kind, entry.name(&bytes).to_vec()))
        .collect();
    let (number, fresh) = change::append_block(tx, dir)?;
    change::store_leaf(tx, dir, &fresh, &moved)?;
    let size = fs.geometry.block_size as usize;
    tx.modify(&buffer, |bytes| {
        bytes.fill(0);
        entry::store(bytes, 0, 12, dir.number(), b".", kind.0);
        entry::store(bytes, 12, size - 12, parent, b"..", kind.1);
        put(bytes, 0x1c, &[version, 8, 0, 0]);
    })?;
    dir.core.lock().flags |= Flags::INDEX;
    store(
        tx,
        dir,
        &Node {
            buffer,
            at: ROOT_AT,
            limit: room(fs, ROOT_AT),
            entries: alloc::vec![(0, number as u32)],
            index: 0,
        },
    )
}

/// Adds a name. `EINVAL`: the index is damaged.
pub(super) fn add(tx: &mut Tx<'_>, dir: &Inode, name: &[u8], ino: u32, kind: u8) -> Result<()> {
    let fs = tx.fs;
    loop {
        let mut way = way(fs, &tx.meta, dir, |version| {
            hash::of_name(&fs.geometry, version, name).map(|hash| hash.major)
        })?;
        let Some((buffer, _, entries)) = leaf(fs, &tx.meta, dir, way.leaf())? else {
            return Err(damaged(dir, "Directory index points to a hole"));
        };
        if entry::has_room(&entries, name.len()) {
            return change::insert_into(tx, dir, &buffer, &entries, ino, name, kind);
        }
        match (0..way.nodes.len())
            .rev()
            .find(|&level| way.nodes[level].entries.len() < way.nodes[level].limit)
        {
            Some(level) if level + 1 == way.nodes.len() => split_leaf(tx, dir, &mut way)?,
            Some(level) => split_node(tx, dir, &mut way, level)?,
            None => deepen(tx, dir, &mut way)?,
        }
    }
}

/// Half of the full leaf's names move to a new one.
fn split_leaf(tx: &mut Tx<'_>, dir: &Inode, way: &mut Way) -> Result<()> {
    let fs = tx.fs;
    let Some((buffer, bytes, entries)) = leaf(fs, &tx.meta, dir, way.leaf())? else {
        return Err(Errno::EUCLEAN);
    };
    let mut names: Vec<(Hash, Name)> = Vec::with_capacity(entries.len());
    for found in entries.iter().filter(|found| found.ino != 0) {
        let name = found.name(&bytes);
        let hash = hash::of_name(&fs.geometry, way.version, name).ok_or(Errno::EINVAL)?;
        names.push((hash, (found.ino, found.kind, name.to_vec())));
    }
    names.sort_by_key(|(hash, _)| hash.major);
    let half = leaf_end(fs) / 2;
    let mut used = 0;
    let mut keep = names
        .iter()
        .take_while(|(_, (_, _, name))| {
            used += entry::size(name.len());
            used <= half
        })
        .count();
    keep = keep.clamp(1, names.len().saturating_sub(1).max(1));
    if names.len() < 2 {
        return Err(Errno::ENOSPC);
    }
    let upper = names.split_off(keep);
    let goes_on = names[keep - 1].0.major == upper[0].0.major;
    let key = upper[0].0.major | u32::from(goes_on);
    let list = |names: Vec<(Hash, Name)>| names.into_iter().map(|(_, name)| name).collect::<Vec<_>>();
    let (number, fresh) = change::append_block(tx, dir)?;
    change::store_leaf(tx, dir, &fresh, &list(upper))?;
    change::store_leaf(tx, dir, &buffer, &list(names))?;
    let last = way.nodes.len() - 1;
    let node = &mut way.nodes[last];
    node.entries.insert(node.index + 1, (key, number as u32));
    store(tx, dir, &way.nodes[last])
}

/// A new inner node with these entries; the number of its block.
fn new_node(tx: &mut Tx<'_>, dir: &Inode, entries: Vec<(u32, u32)>) -> Result<u64> {
    let fs = tx.fs;
    let (number, buffer) = change::append_block(tx, dir)?;
    let size = fs.geometry.block_size as u16;
    tx.modify(&buffer, |bytes| put16(bytes, 4, size))?;
    store(
        tx,
        dir,
        &Node {
            buffer,
            at: NODE_AT,
            limit: room(fs, NODE_AT),
            entries,
            index: 0,
        },
    )?;
    Ok(number)
}

/// Half of the full node below `level` moves to a new one.
fn split_node(tx: &mut Tx<'_>, dir: &Inode, way: &mut Way, level: usize) -> Result<()> {
    let full = &way.nodes[level + 1];
    let half = full.entries.len() / 2;
    let upper = full.entries[half..].to_vec();
    let key = upper[0].0;
    let number = new_node(tx, dir, upper)?;
    way.nodes[level + 1].entries.truncate(half);
    store(tx, dir, &way.nodes[level + 1])?;
    let node = &mut way.nodes[level];
    node.entries.insert(node.index + 1, (key, number as u32));
    store(tx, dir, &way.nodes[level])
}

/// All nodes are full: the root's entries move one level down. `ENOSPC` when the tree may not grow.
fn deepen(tx: &mut Tx<'_>, dir: &Inode, way: &mut Way) -> Result<()> {
    let levels = way.nodes.len();
    if levels >= most_levels(tx.fs) {
        log::warn!(
            "EXT4-fs warning (device {}): Directory (ino: {}) index full, reach max htree level :{levels}",
            tx.fs.name,
            dir.number()
        );
        return Err(Errno::ENOSPC);
    }
    let entries = way.nodes[0].entries.clone();
    let number = new_node(tx, dir, entries)?;
    let root = &mut way.nodes[0];
    root.entries = alloc::vec![(0, number as u32)];
    let buffer = root.buffer.clone();
    tx.modify(&buffer, |bytes| put(bytes, 0x1e, &[levels as u8]))?;
    store(tx, dir, &way.nodes[0])
}
