//! Taking extents out, and what becomes of a tree that gets thin.

use alloc::vec::Vec;

use super::entry::Entry;
use super::insert::{join, path_with_room, store_leaf};
use super::node::{Level, load, path, store};
use crate::inode::Inode;
use crate::instance::Ext4;
use crate::journal::Freed;
use crate::space::blocks::Run;
use crate::transaction::Tx;
use crate::{Errno, Result};

/// The first extent that ends behind `from`: the way to it and its place in the leaf.
pub(super) fn find_from(fs: &Ext4, inode: &Inode, from: u64) -> Result<Option<(Vec<Level>, usize)>> {
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

/// Takes the first extent of `from..to`, or `most` blocks of it, out of the tree: where to go on, and the blocks, which are the caller's now.
pub(crate) fn remove_some(tx: &mut Tx<'_>, inode: &Inode, from: u64, to: u64, most: u64) -> Result<(u64, Option<Run>)> {
    let Some((levels, place)) = find_from(tx.fs, inode, from)? else {
        return Ok((to, None));
    };
    let entry = levels[levels.len() - 1].entries[place];
    let (start, end) = (from.max(u64::from(entry.at)), to.min(entry.end()));
    if start >= end {
        return Ok((to, None));
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
    let run = Run {
        first: gone.block,
        count: gone.len,
    };
    Ok((end, Some(run)))
}

/// Puts `with` in the place of `entry`, which is in the tree.
pub(super) fn replace(tx: &mut Tx<'_>, inode: &Inode, entry: &Entry, with: &[Entry]) -> Result<()> {
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
    let neighbour = load(tx.fs, inode, levels[parent].entries[side].block, 0)?;
    if neighbour.entries.len() + levels[last].entries.len() > neighbour.most / 2 {
        return Ok(());
    }
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
