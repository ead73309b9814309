//! Extent trees (ext4 disk layout, "Extent Tree").
//!
//! * [`entry`]: entries of nodes.  * [`node`]: nodes, and the way down to a leaf.  * [`insert`]: room, and extents put into it.  * [`remove`]: the
//!   reverse.  * [`shift`]: extents that change their kind or their place in the file.
//!
//! A change parses the nodes on the way to one leaf, edits them as lists, and stores those that changed. Room is made before anything is edited, so
//! that running out of space leaves a tree as it was.

mod entry;
mod insert;
mod node;
mod remove;
mod shift;

pub(crate) use insert::insert;
pub(crate) use node::init;
pub(crate) use remove::remove_some;
pub(crate) use shift::{Shift, set_kind, shift_some, split_at};

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use self::entry::{ENTRY, Entry};
use self::node::{bad_extent, descend, load, path};
use super::{Kind, Mapping};
use crate::Result;
use crate::inode::Inode;
use crate::instance::Ext4;
use crate::space::blocks::Run;

/// Logical blocks there can be.
const SPACE: u64 = 1 << 32;

/// What block `at` is, and how far that goes.
pub(crate) fn lookup(fs: &Ext4, inode: &Inode, at: u64) -> Result<Mapping> {
    let mut bound = SPACE;
    let mut found = None;
    if at < bound {
        descend(fs, inode, at, |node, behind| {
            if behind < node.count {
                bound = bound.min(u64::from(node.entry(behind).at));
            }
            found = behind.checked_sub(1).map(|index| node.entry(index));
            Ok(())
        })?;
    }
    match found.filter(|entry| at < entry.end()) {
        Some(entry) if !fs.is_file_space(entry.block, u64::from(entry.len)) => Err(bad_extent(inode, &entry)),
        Some(entry) => Ok(Mapping {
            kind: if entry.unwritten {
                Kind::Unwritten
            } else {
                Kind::Written
            },
            block: entry.block + (at - u64::from(entry.at)),
            len: entry.end() - at,
        }),
        None => Ok(Mapping {
            kind: Kind::Hole,
            block: 0,
            len: bound.saturating_sub(at).max(1),
        }),
    }
}

/// An extent as a leaf holds it: first block in the file, the blocks, whether they are written.
pub(crate) fn parse_leaf_entry(raw: &[u8; ENTRY]) -> (u64, Run, Kind) {
    let entry = Entry::parse(raw, true);
    let run = Run {
        first: entry.block,
        count: entry.len,
    };
    let kind = if entry.unwritten {
        Kind::Unwritten
    } else {
        Kind::Written
    };
    (u64::from(entry.at), run, kind)
}

/// The blocks of all nodes below the root. `EUCLEAN` for a tree that meets itself.
pub(crate) fn nodes(fs: &Ext4, inode: &Inode) -> Result<BTreeSet<u64>> {
    let mut seen = BTreeSet::new();
    let root = path(fs, inode, 0)?.swap_remove(0);
    let mut open: Vec<_> = (root.depth > 0).then_some(root).into_iter().collect();
    while let Some(level) = open.pop() {
        for entry in &level.entries {
            if !seen.insert(entry.block) {
                return Err(bad_extent(inode, entry));
            }
            if level.depth > 1 {
                open.push(load(fs, inode, entry.block, level.depth - 1)?);
            }
        }
    }
    Ok(seen)
}
