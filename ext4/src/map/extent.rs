//! Extent trees (ext4 disk layout, "Extent Tree").
//!
//! A change parses the nodes on the way to one leaf, edits them as lists, and stores those that changed. Room is made before anything is edited, so
//! that running out of space leaves a tree as it was.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::{Kind, Mapping};
use crate::buffer::Buffer;
use crate::inode::Inode;
use crate::instance::Ext4;
use crate::journal::Freed;
use crate::layout::checksum::crc32c;
use crate::layout::inode::BLOCK_LEN;
use crate::layout::{get16, get32, put16, put32};
use crate::space::blocks::Run;
use crate::transaction::Tx;
use crate::{Errno, Result};

const MAGIC: u16 = 0xf30a;
const HEAD: usize = 12;
const ENTRY: usize = 12;
/// Most blocks of a written extent; the length field's upper half means "unwritten".
const MOST_WRITTEN: u32 = 32768;
const MOST_UNWRITTEN: u32 = 32767;
const MOST_DEPTH: u16 = 5;

/// An entry: an extent in a leaf, a child in an inner node (`len` is 0 there).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    at: u32,
    len: u32,
    block: u64,
    unwritten: bool,
}

impl Entry {
    fn end(&self) -> u64 {
        u64::from(self.at) + u64::from(self.len)
    }

    fn parse(raw: &[u8], leaf: bool) -> Self {
        let at = get32(raw, 0);
        if leaf {
            let len = u32::from(get16(raw, 4));
            let unwritten = len > MOST_WRITTEN;
            Self {
                at,
                len: if unwritten { len - MOST_WRITTEN } else { len },
                block: u64::from(get32(raw, 8)) | u64::from(get16(raw, 6)) << 32,
                unwritten,
            }
        } else {
            Self {
                at,
                len: 0,
                block: u64::from(get32(raw, 4)) | u64::from(get16(raw, 8)) << 32,
                unwritten: false,
            }
        }
    }

    fn store(&self, raw: &mut [u8], leaf: bool) {
        put32(raw, 0, self.at);
        if leaf {
            let len = if self.unwritten {
                self.len + MOST_WRITTEN
            } else {
                self.len
            };
            put16(raw, 4, len as u16);
            put16(raw, 6, (self.block >> 32) as u16);
            put32(raw, 8, self.block as u32);
        } else {
            put32(raw, 4, self.block as u32);
            put16(raw, 8, (self.block >> 32) as u16);
            put16(raw, 10, 0);
        }
    }

    /// The part from file block `from` to `to`.
    fn cut(&self, from: u64, to: u64) -> Self {
        Self {
            at: from as u32,
            len: (to - from) as u32,
            block: self.block + (from - u64::from(self.at)),
            unwritten: self.unwritten,
        }
    }

    fn joins(&self, next: &Self) -> bool {
        let most = if self.unwritten { MOST_UNWRITTEN } else { MOST_WRITTEN };
        self.unwritten == next.unwritten
            && self.end() == u64::from(next.at)
            && self.block + u64::from(self.len) == next.block
            && self.len + next.len <= most
    }
}

/// One node on the way from the root.
struct Level {
    /// None for the root, which lies in the inode.
    buffer: Option<Arc<Buffer>>,
    depth: u16,
    most: usize,
    entries: Vec<Entry>,
    /// Which child the way goes on to.
    index: usize,
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
fn head(fs: &Ext4, inode: &Inode, bytes: &[u8], expected: Option<u16>) -> Result<(u16, usize, usize)> {
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
        return Err(fs.error(format_args!(
            "inode #{}: bad header/extent: magic {magic:x}, entries {count}, max {most}, depth {depth}",
            inode.number()
        )));
    }
    Ok((depth, usize::from(count), usize::from(most)))
}

pub(crate) fn lookup(fs: &Ext4, inode: &Inode, at: u64) -> Result<Mapping> {
    let hole = |len: u64| Mapping {
        kind: Kind::Hole,
        block: 0,
        len: len.max(1),
    };
    let mut bytes: Arc<Vec<u8>> = Arc::new(inode.core.lock().block.to_vec());
    let mut expected = None;
    let mut bound = u64::from(u32::MAX) + 1;
    if at >= bound {
        return Ok(hole(1));
    }
    loop {
        let (depth, count, _) = head(fs, inode, &bytes, expected)?;
        let entry = |index: usize| Entry::parse(&bytes[HEAD + index * ENTRY..], depth == 0);
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = (low + high) / 2;
            if u64::from(entry(middle).at) <= at {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        if low < count {
            bound = bound.min(u64::from(entry(low).at));
        }
        if low == 0 {
            return Ok(hole(bound.saturating_sub(at)));
        }
        let found = entry(low - 1);
        if depth == 0 {
            if at >= found.end() {
                return Ok(hole(bound.saturating_sub(at)));
            }
            if !fs.is_file_space(found.block, u64::from(found.len)) {
                return Err(bad_extent(fs, inode, &found));
            }
            return Ok(Mapping {
                kind: if found.unwritten {
                    Kind::Unwritten
                } else {
                    Kind::Written
                },
                block: found.block + (at - u64::from(found.at)),
                len: found.end() - at,
            });
        }
        bytes = child(fs, inode, found.block)?.snapshot();
        expected = Some(depth - 1);
    }
}

fn bad_extent(fs: &Ext4, inode: &Inode, entry: &Entry) -> Errno {
    fs.error(format_args!(
        "inode #{}: bad extent {}: {} blocks at {}",
        inode.number(),
        entry.at,
        entry.len,
        entry.block
    ))
}

/// Parses a node whole; entries must be in order and inside.
fn parse(fs: &Ext4, inode: &Inode, bytes: &[u8], expected: Option<u16>) -> Result<(u16, usize, Vec<Entry>)> {
    let (depth, count, most) = head(fs, inode, bytes, expected)?;
    let mut entries: Vec<Entry> = Vec::with_capacity(count + 2);
    for index in 0..count {
        let entry = Entry::parse(&bytes[HEAD + index * ENTRY..], depth == 0);
        let in_order = entries
            .last()
            .is_none_or(|last| last.end() <= u64::from(entry.at) && (depth == 0 || last.at < entry.at));
        let right = if depth == 0 {
            entry.len > 0
                && entry.end() <= u64::from(u32::MAX) + 1
                && fs.is_file_space(entry.block, u64::from(entry.len))
        } else {
            fs.is_file_space(entry.block, 1)
        };
        if !in_order || !right {
            return Err(bad_extent(fs, inode, &entry));
        }
        entries.push(entry);
    }
    Ok((depth, most, entries))
}

/// The way from the root to the leaf that holds, or would hold, block `at`.
fn path(fs: &Ext4, inode: &Inode, at: u64) -> Result<Vec<Level>> {
    let root = inode.core.lock().block;
    let (depth, most, entries) = parse(fs, inode, &root, None)?;
    let mut levels = Vec::with_capacity(usize::from(depth) + 1);
    levels.push(Level {
        buffer: None,
        depth,
        most,
        entries,
        index: 0,
    });
    loop {
        let last = levels.len() - 1;
        let level = &mut levels[last];
        if level.depth == 0 {
            return Ok(levels);
        }
        level.index = level
            .entries
            .partition_point(|entry| u64::from(entry.at) <= at)
            .saturating_sub(1);
        let below = level.depth - 1;
        let buffer = child(fs, inode, level.entries[level.index].block)?;
        let (depth, most, entries) = parse(fs, inode, &buffer.snapshot(), Some(below))?;
        levels.push(Level {
            buffer: Some(buffer),
            depth,
            most,
            entries,
            index: 0,
        });
    }
}

/// Stores a node.
fn store(tx: &mut Tx<'_>, inode: &Inode, level: &Level) -> Result<()> {
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

fn node_room(fs: &Ext4) -> usize {
    // The checksum's place behind the entries is kept free whether it is used or not.
    (fs.geometry.block_size as usize - HEAD - 4) / ENTRY
}

/// A new node's block.
fn new_node(tx: &mut Tx<'_>, inode: &Inode, near: u64) -> Result<Arc<Buffer>> {
    let run = tx.allocate(near, 1)?;
    let buffer = tx.handle.create(run.first)?;
    inode.core.lock().sectors += tx.fs.block_size() / 512;
    Ok(buffer)
}

/// A way to the leaf of block `at` in which `slots` more entries fit.
fn path_with_room(tx: &mut Tx<'_>, inode: &Inode, at: u64, slots: usize) -> Result<Vec<Level>> {
    loop {
        let mut levels = path(tx.fs, inode, at)?;
        let leaf = levels.len() - 1;
        if levels[leaf].entries.len() + slots <= levels[leaf].most {
            return Ok(levels);
        }
        // The lowest inner node with a free entry takes the other half of its child.
        match (0..leaf)
            .rev()
            .find(|&level| levels[level].entries.len() < levels[level].most)
        {
            Some(parent) => split(tx, inode, &mut levels, parent, at)?,
            None => grow(tx, inode, &mut levels[0])?,
        }
    }
}

/// The root's entries move to a node of their own.
fn grow(tx: &mut Tx<'_>, inode: &Inode, root: &mut Level) -> Result<()> {
    if root.depth >= MOST_DEPTH {
        return Err(Errno::EFBIG);
    }
    let near = root.entries.first().map_or(0, |entry| entry.block);
    let buffer = new_node(tx, inode, near)?;
    let below = Level {
        buffer: Some(buffer.clone()),
        depth: root.depth,
        most: node_room(tx.fs),
        entries: core::mem::take(&mut root.entries),
        index: 0,
    };
    store(tx, inode, &below)?;
    root.depth += 1;
    root.entries.push(Entry {
        at: below.entries.first().map_or(0, |entry| entry.at),
        len: 0,
        block: buffer.block(),
        unwritten: false,
    });
    store(tx, inode, root)
}

fn split(tx: &mut Tx<'_>, inode: &Inode, levels: &mut [Level], parent: usize, at: u64) -> Result<()> {
    let near = levels[parent + 1].entries[0].block;
    let buffer = new_node(tx, inode, near)?;
    let full = &mut levels[parent + 1];
    // Files grow at their end: a full node there stays full.
    let appending = full.entries.last().is_some_and(|last| u64::from(last.at) < at);
    let keep = if appending {
        full.entries.len() - 1
    } else {
        full.entries.len() / 2
    };
    let other = Level {
        buffer: Some(buffer.clone()),
        depth: full.depth,
        most: node_room(tx.fs),
        entries: full.entries.split_off(keep.max(1)),
        index: 0,
    };
    let key = other.entries[0].at;
    store(tx, inode, &other)?;
    store(tx, inode, &levels[parent + 1])?;
    let place = levels[parent].index + 1;
    levels[parent].entries.insert(
        place,
        Entry {
            at: key,
            len: 0,
            block: buffer.block(),
            unwritten: false,
        },
    );
    store(tx, inode, &levels[parent])
}

/// Stores the edited leaf and makes the keys above it agree with its first entry.
fn store_leaf(tx: &mut Tx<'_>, inode: &Inode, levels: &mut [Level]) -> Result<()> {
    let leaf = levels.len() - 1;
    store(tx, inode, &levels[leaf])?;
    let Some(first) = levels[leaf].entries.first().map(|entry| entry.at) else {
        return Ok(());
    };
    for level in (0..leaf).rev() {
        let index = levels[level].index;
        if levels[level].entries[index].at == first {
            break;
        }
        levels[level].entries[index].at = first;
        store(tx, inode, &levels[level])?;
        if index > 0 {
            break;
        }
    }
    Ok(())
}

/// Joins the entries around `place` where they continue each other.
fn join(entries: &mut Vec<Entry>, place: usize) {
    let mut at = place.saturating_sub(1);
    let mut end = place + 2;
    while at + 1 < entries.len() && at < end {
        if entries[at].joins(&entries[at + 1]) {
            let next = entries.remove(at + 1);
            entries[at].len += next.len;
            end = end.saturating_sub(1);
        } else {
            at += 1;
        }
    }
}

pub(crate) fn insert(tx: &mut Tx<'_>, inode: &Inode, at: u64, run: Run, kind: Kind) -> Result<()> {
    let unwritten = kind == Kind::Unwritten;
    let most = if unwritten { MOST_UNWRITTEN } else { MOST_WRITTEN };
    let mut done = 0;
    while done < run.count {
        let fresh = Entry {
            at: u32::try_from(at + u64::from(done)).map_err(|_| Errno::EFBIG)?,
            len: (run.count - done).min(most),
            block: run.first + u64::from(done),
            unwritten,
        };
        insert_one(tx, inode, fresh)?;
        done += fresh.len;
    }
    Ok(())
}

fn insert_one(tx: &mut Tx<'_>, inode: &Inode, fresh: Entry) -> Result<()> {
    let mut levels = path(tx.fs, inode, u64::from(fresh.at))?;
    if let Some(leaf) = levels.last_mut() {
        let place = leaf.entries.partition_point(|entry| entry.at <= fresh.at);
        let joins_before = place > 0 && leaf.entries[place - 1].joins(&fresh);
        let joins_behind = leaf.entries.get(place).is_some_and(|next| fresh.joins(next));
        if !joins_before && !joins_behind && leaf.entries.len() >= leaf.most {
            levels = path_with_room(tx, inode, u64::from(fresh.at), 1)?;
        }
    }
    let Some(leaf) = levels.last_mut() else {
        return Err(Errno::EUCLEAN);
    };
    let place = leaf.entries.partition_point(|entry| entry.at <= fresh.at);
    let overlaps = (place > 0 && leaf.entries[place - 1].end() > u64::from(fresh.at))
        || leaf
            .entries
            .get(place)
            .is_some_and(|next| fresh.end() > u64::from(next.at));
    if overlaps {
        return Err(bad_extent(tx.fs, inode, &fresh));
    }
    leaf.entries.insert(place, fresh);
    join(&mut leaf.entries, place);
    store_leaf(tx, inode, &mut levels)
}

/// The first extent that ends behind `from`: the way to it and its place in the leaf.
fn find_from(fs: &Ext4, inode: &Inode, from: u64) -> Result<Option<(Vec<Level>, usize)>> {
    let mut at = from;
    loop {
        let levels = path(fs, inode, at)?;
        let leaf = &levels[levels.len() - 1];
        if let Some(place) = leaf.entries.iter().position(|entry| entry.end() > from) {
            return Ok(Some((levels, place)));
        }
        // The next leaf begins at the key behind the lowest one that has one.
        let next = levels[..levels.len() - 1]
            .iter()
            .rev()
            .find_map(|level| level.entries.get(level.index + 1))
            .map(|entry| u64::from(entry.at));
        match next {
            Some(next) if next > at => at = next,
            _ => return Ok(None),
        }
    }
}

pub(crate) fn remove_some(tx: &mut Tx<'_>, inode: &Inode, from: u64, to: u64, most: u64) -> Result<u64> {
    let Some((levels, place)) = find_from(tx.fs, inode, from)? else {
        return Ok(to);
    };
    let entry = levels[levels.len() - 1].entries[place];
    let (start, end) = (from.max(u64::from(entry.at)), to.min(entry.end()));
    if start >= end {
        return Ok(to);
    }
    let end = end.min(start.saturating_add(most));
    let gone = entry.cut(start, end);
    let mut rest: Vec<Entry> = Vec::new();
    if start > u64::from(entry.at) {
        rest.push(entry.cut(u64::from(entry.at), start));
    }
    if end < entry.end() {
        rest.push(entry.cut(end, entry.end()));
    }
    replace(tx, inode, &entry, &rest)?;
    tx.free(gone.block, u64::from(gone.len), inode.freed_kind())?;
    let sectors = u64::from(gone.len) * (tx.fs.block_size() / 512);
    {
        let mut core = inode.core.lock();
        core.sectors = core.sectors.saturating_sub(sectors);
    }
    Ok(end)
}

/// Puts `with` in the place of `entry`, which is in the tree.
fn replace(tx: &mut Tx<'_>, inode: &Inode, entry: &Entry, with: &[Entry]) -> Result<()> {
    let at = u64::from(entry.at);
    let mut levels = path_with_room(tx, inode, at, with.len().saturating_sub(1))?;
    let last = levels.len() - 1;
    let leaf = &mut levels[last];
    let place = leaf
        .entries
        .iter()
        .position(|other| other.at == entry.at)
        .ok_or(Errno::EUCLEAN)?;
    leaf.entries.splice(place..=place, with.iter().copied());
    for offset in (0..=with.len()).rev() {
        join(&mut leaf.entries, place + offset);
    }
    if leaf.entries.is_empty() && last > 0 {
        drop_node(tx, inode, &mut levels)?;
    } else {
        store_leaf(tx, inode, &mut levels)?;
    }
    merge_up(tx, inode, at)?;
    collapse(tx, inode)
}

/// The leaf is empty: it goes, and so do the nodes above that have nothing else.
fn drop_node(tx: &mut Tx<'_>, inode: &Inode, levels: &mut [Level]) -> Result<()> {
    let mut level = levels.len() - 1;
    while level > 0 && levels[level].entries.is_empty() {
        free_node(tx, inode, &levels[level])?;
        let index = levels[level - 1].index;
        levels[level - 1].entries.remove(index);
        level -= 1;
    }
    if level == 0 && levels[0].entries.is_empty() {
        levels[0].depth = 0;
    }
    store(tx, inode, &levels[level])?;
    let Some(first) = levels[level].entries.first().map(|entry| entry.at) else {
        return Ok(());
    };
    for above in (0..level).rev() {
        let index = levels[above].index;
        if levels[above].entries[index].at == first {
            break;
        }
        levels[above].entries[index].at = first;
        store(tx, inode, &levels[above])?;
        if index > 0 {
            break;
        }
    }
    Ok(())
}

fn free_node(tx: &mut Tx<'_>, inode: &Inode, level: &Level) -> Result<()> {
    if let Some(buffer) = &level.buffer {
        tx.free(buffer.block(), 1, Freed::Metadata)?;
        let mut core = inode.core.lock();
        core.sectors = core.sectors.saturating_sub(tx.fs.block_size() / 512);
    }
    Ok(())
}

/// A leaf that has become thin joins its right neighbour under the same parent.
fn merge_up(tx: &mut Tx<'_>, inode: &Inode, at: u64) -> Result<()> {
    let mut levels = path(tx.fs, inode, at)?;
    let last = levels.len() - 1;
    if last == 0 || levels[last].entries.len() > levels[last].most / 4 {
        return Ok(());
    }
    let parent = last - 1;
    let index = levels[parent].index;
    // The node is the right one of the pair if it has no right neighbour.
    let right = if index + 1 < levels[parent].entries.len() {
        index + 1
    } else {
        index
    };
    if right == 0 {
        return Ok(());
    }
    let side = if right == index { right - 1 } else { right };
    let buffer = child(tx.fs, inode, levels[parent].entries[side].block)?;
    let (depth, most, entries) = parse(tx.fs, inode, &buffer.snapshot(), Some(0))?;
    if entries.len() + levels[last].entries.len() > most / 2 {
        return Ok(());
    }
    let neighbour = Level {
        buffer: Some(buffer),
        depth,
        most,
        entries,
        index: 0,
    };
    let (mut left, gone) = if side > index {
        let here = levels.remove(last);
        (here, neighbour)
    } else {
        let here = levels.remove(last);
        (neighbour, here)
    };
    left.entries.extend(gone.entries.iter().copied());
    store(tx, inode, &left)?;
    free_node(tx, inode, &gone)?;
    levels[parent].entries.remove(right);
    store(tx, inode, &levels[parent])
}

/// A root with one child that fits into it takes the child's entries.
fn collapse(tx: &mut Tx<'_>, inode: &Inode) -> Result<()> {
    loop {
        let levels = path(tx.fs, inode, 0)?;
        if levels.len() < 2 || levels[0].entries.len() != 1 || levels[1].entries.len() > levels[0].most {
            return Ok(());
        }
        let below = &levels[1];
        let root = Level {
            buffer: None,
            depth: below.depth,
            most: levels[0].most,
            entries: below.entries.clone(),
            index: 0,
        };
        store(tx, inode, &root)?;
        free_node(tx, inode, below)?;
    }
}

/// Makes the part of an unwritten extent that covers `at..at+len` written; returns how many blocks were changed or were written already.
pub(crate) fn set_kind(tx: &mut Tx<'_>, inode: &Inode, at: u64, len: u64, kind: Kind) -> Result<u64> {
    let unwritten = kind == Kind::Unwritten;
    let levels = path(tx.fs, inode, at)?;
    let leaf = &levels[levels.len() - 1];
    let found = leaf
        .entries
        .iter()
        .find(|entry| u64::from(entry.at) <= at && at < entry.end());
    let Some(&entry) = found else {
        return Err(Errno::EUCLEAN);
    };
    let end = (at + len).min(entry.end());
    if entry.unwritten == unwritten {
        return Ok(end - at);
    }
    // An unwritten extent is one block shorter at most.
    let most = if unwritten {
        u64::from(MOST_UNWRITTEN)
    } else {
        u64::from(MOST_WRITTEN)
    };
    let end = end.min(at + most);
    let mut parts = Vec::new();
    if at > u64::from(entry.at) {
        parts.push(entry.cut(u64::from(entry.at), at));
    }
    parts.push(Entry {
        unwritten,
        ..entry.cut(at, end)
    });
    if end < entry.end() {
        parts.push(entry.cut(end, entry.end()));
    }
    replace(tx, inode, &entry, &parts)?;
    Ok(end - at)
}

/// What is left of a [`shift_some`]: the extents that begin in this range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shift {
    pub from: u64,
    pub end: u64,
    /// Blocks towards the end, or (negative) the beginning.
    pub by: i64,
}

/// Moves some of the extents of `what`, where the room they go to is a hole; returns what is left. At each step the tree is whole. `EFBIG`.
pub(crate) fn shift_some(tx: &mut Tx<'_>, inode: &Inode, what: Shift) -> Result<Option<Shift>> {
    let mut left = what;
    for _ in 0..8 {
        let entry = if what.by < 0 {
            match find_from(tx.fs, inode, left.from)? {
                Some((levels, place)) => levels[levels.len() - 1].entries[place],
                None => return Ok(None),
            }
        } else {
            match last_before(tx.fs, inode, left.end)? {
                Some(entry) if u64::from(entry.at) >= left.from => entry,
                _ => return Ok(None),
            }
        };
        let moved = Entry {
            at: u32::try_from(i64::from(entry.at) + what.by).map_err(|_| Errno::EFBIG)?,
            ..entry
        };
        if moved.end() > u64::from(u32::MAX) {
            return Err(Errno::EFBIG);
        }
        replace(tx, inode, &entry, &[])?;
        insert_one(tx, inode, moved)?;
        if what.by < 0 {
            left.from = entry.end();
        } else {
            left.end = u64::from(entry.at);
        }
    }
    Ok(Some(left))
}

/// The last extent that begins before `end`.
fn last_before(fs: &Ext4, inode: &Inode, end: u64) -> Result<Option<Entry>> {
    if end == 0 {
        return Ok(None);
    }
    let levels = path(fs, inode, end - 1)?;
    let leaf = &levels[levels.len() - 1];
    Ok(leaf
        .entries
        .iter()
        .rev()
        .find(|entry| u64::from(entry.at) < end)
        .copied())
}

/// Splits an extent at block `at`, so that one begins there (before a [`shift`]).
pub(crate) fn split_at(tx: &mut Tx<'_>, inode: &Inode, at: u64) -> Result<()> {
    let levels = path(tx.fs, inode, at)?;
    let leaf = &levels[levels.len() - 1];
    let across = leaf
        .entries
        .iter()
        .find(|entry| u64::from(entry.at) < at && at < entry.end())
        .copied();
    let Some(entry) = across else { return Ok(()) };
    let mut levels = path_with_room(tx, inode, u64::from(entry.at), 1)?;
    let last = levels.len() - 1;
    let leaf = &mut levels[last];
    let place = leaf
        .entries
        .iter()
        .position(|other| other.at == entry.at)
        .ok_or(Errno::EUCLEAN)?;
    // Not joined again: this is what it is for.
    leaf.entries.splice(
        place..=place,
        [entry.cut(u64::from(entry.at), at), entry.cut(at, entry.end())],
    );
    store_leaf(tx, inode, &mut levels)
}
