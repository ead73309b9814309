//! Extents that change their kind or their place in the file.

use alloc::vec::Vec;

use super::entry::{Entry, MOST_UNWRITTEN, MOST_WRITTEN};
use super::insert::{insert_one, path_with_room, store_leaf};
use super::node::path;
use super::remove::{find_from, replace};
use crate::inode::Inode;
use crate::instance::Ext4;
use crate::map::Kind;
use crate::transaction::Tx;
use crate::{Errno, Result};

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
