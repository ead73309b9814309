//! Putting extents in: room first, then the entry.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::entry::{Entry, MOST_UNWRITTEN, MOST_WRITTEN};
use super::node::{Level, MOST_DEPTH, bad_extent, node_room, path, store};
use crate::buffer::Buffer;
use crate::inode::Inode;
use crate::map::Kind;
use crate::space::blocks::Run;
use crate::transaction::Tx;
use crate::{Errno, Result};

/// A new node's block.
fn new_node(tx: &mut Tx<'_>, inode: &Inode, near: u64) -> Result<Arc<Buffer>> {
    let run = tx.allocate(near, 1)?;
    let buffer = tx.handle.create(run.first)?;
    inode.core.lock().sectors += tx.fs.block_size() / 512;
    Ok(buffer)
}

/// A way to the leaf of block `at` in which `slots` more entries fit.
pub(super) fn path_with_room(tx: &mut Tx<'_>, inode: &Inode, at: u64, slots: usize) -> Result<Vec<Level>> {
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
pub(super) fn store_leaf(tx: &mut Tx<'_>, inode: &Inode, levels: &mut [Level]) -> Result<()> {
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
pub(super) fn join(entries: &mut Vec<Entry>, place: usize) {
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

pub(super) fn insert_one(tx: &mut Tx<'_>, inode: &Inode, fresh: Entry) -> Result<()> {
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
        return Err(bad_extent(inode, &fresh));
    }
    leaf.entries.insert(place, fresh);
    join(&mut leaf.entries, place);
    store_leaf(tx, inode, &mut levels)
}
