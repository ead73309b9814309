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

use self::node::{bad_extent, descend};
use super::{Kind, Mapping};
use crate::Result;
use crate::inode::Inode;
use crate::instance::Ext4;

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
        Some(entry) if !fs.is_file_space(entry.block, u64::from(entry.len)) => Err(bad_extent(fs, inode, &entry)),
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
