//! Names come, go, and lead elsewhere. The caller stores the directory's inode.

use alloc::sync::Arc;
use alloc::vec::Vec;

use kernel::vfs::FileType;

use super::entry::{self, Entry};
use super::{Found, Spot, blocks, find, index, inline, leaf, leaf_end};
use crate::buffer::Buffer;
use crate::inode::Inode;
use crate::inode::load::indexes_directories;
use crate::layout::features::Incompat;
use crate::layout::inode::Flags;
use crate::map::{self, Kind};
use crate::transaction::Tx;
use crate::{Errno, Result};

/// Blocks that adding one name can change: splits on three levels, and the map and bitmaps of the new blocks.
pub(crate) const ADD_CREDITS: u32 = 60;

/// The file type as entries of this file system tell it.
pub(super) fn type_byte(tx: &Tx<'_>, kind: FileType) -> u8 {
    if tx.fs.geometry.incompat.contains(Incompat::FILETYPE) {
        entry::type_number(kind)
    } else {
        0
    }
}

/// A new zeroed block at the end of a directory.
pub(super) fn append_block(tx: &mut Tx<'_>, dir: &Inode) -> Result<(u64, Arc<Buffer>)> {
    let number = blocks(tx.fs, dir);
    let goal = map::goal(tx.fs, &tx.meta, dir, number);
    let run = tx.allocate_new(goal, 1)?;
    if let Err(error) = map::insert(tx, dir, number, run, Kind::Written) {
        tx.free(run.first, 1, crate::journal::Freed::Metadata)?;
        return Err(error);
    }
    let buffer = tx.handle.create(run.first)?;
    dir.set_len((number + 1) * tx.fs.block_size());
    Ok((number, buffer))
}

/// Changes a leaf and its checksum.
fn change_leaf<R>(
    tx: &mut Tx<'_>,
    dir: &Inode,
    buffer: &Arc<Buffer>,
    change: impl FnOnce(&mut [u8]) -> R,
) -> Result<R> {
    let fs = tx.fs;
    let end = leaf_end(fs);
    let seed = dir.seed(&fs.geometry);
    let result = tx.modify(buffer, |bytes| {
        let result = change(&mut bytes[..end]);
        if fs.geometry.has_csum() {
            entry::seal(bytes, seed);
        }
        result
    })?;
    fs.set_checked(buffer.block());
    Ok(result)
}

/// Fills a leaf anew.
pub(super) fn store_leaf(
    tx: &mut Tx<'_>,
    dir: &Inode,
    buffer: &Arc<Buffer>,
    names: &[(u32, u8, Vec<u8>)],
) -> Result<()> {
    change_leaf(tx, dir, buffer, |bytes| entry::fill(bytes, bytes.len(), names))
}

pub(super) fn insert_into(
    tx: &mut Tx<'_>,
    dir: &Inode,
    buffer: &Arc<Buffer>,
    entries: &[Entry],
    ino: u32,
    name: &[u8],
    kind: u8,
) -> Result<()> {
    if change_leaf(tx, dir, buffer, |bytes| entry::insert(bytes, entries, ino, name, kind))? {
        Ok(())
    } else {
        Err(Errno::EUCLEAN)
    }
}

/// The first block of a new directory.
pub(crate) fn init(tx: &mut Tx<'_>, dir: &Inode, parent: u32) -> Result<()> {
    if inline::init(tx, dir, parent)? {
        return Ok(());
    }
    let kind = type_byte(tx, FileType::Directory);
    let (_, buffer) = append_block(tx, dir)?;
    change_leaf(tx, dir, &buffer, |bytes| {
        entry::store(bytes, 0, 12, dir.number(), b".", kind);
        entry::store(bytes, 12, bytes.len() - 12, parent, b"..", kind);
    })
}

/// Adds a name that is not there. `ENOSPC`.
pub(crate) fn add(tx: &mut Tx<'_>, dir: &Inode, name: &[u8], ino: u32, kind: FileType) -> Result<()> {
    let kind = type_byte(tx, kind);
    if dir.has(Flags::INLINE_DATA) {
        return inline::add(tx, dir, name, ino, kind);
    }
    add_entry(tx, dir, name, ino, kind)
}

/// The same in a directory of blocks.
pub(super) fn add_entry(tx: &mut Tx<'_>, dir: &Inode, name: &[u8], ino: u32, kind: u8) -> Result<()> {
    if dir.has(Flags::INDEX) {
        match index::add(tx, dir, name, ino, kind) {
            // As Linux: a damaged index is given up, the leaves stay. With checksums that would leave blocks of the wrong kind behind.
            Err(Errno::EINVAL) if !tx.fs.geometry.has_csum() => dir.core.lock().flags -= Flags::INDEX,
            Err(Errno::EINVAL) => return Err(Errno::EUCLEAN),
            other => return other,
        }
    }
    let count = blocks(tx.fs, dir);
    for at in 0..count {
        let Some((buffer, _, entries)) = leaf(tx.fs, &tx.meta, dir, at)? else {
            continue;
        };
        if entry::has_room(&entries, name.len()) {
            return insert_into(tx, dir, &buffer, &entries, ino, name, kind);
        }
    }
    if count == 1 && indexes_directories(tx.fs) {
        index::build(tx, dir)?;
        return index::add(tx, dir, name, ino, kind);
    }
    let (_, buffer) = append_block(tx, dir)?;
    store_leaf(tx, dir, &buffer, &[(ino, kind, name.to_vec())])
}

/// Removes a name that was found.
pub(crate) fn remove(tx: &mut Tx<'_>, dir: &Inode, found: &Found) -> Result<()> {
    let block = match found.spot {
        Spot::Block(_, block) => block,
        Spot::Inline(part) => return inline::remove(tx, dir, &found.entry, part),
    };
    let Some((buffer, _, entries)) = leaf(tx.fs, &tx.meta, dir, block)? else {
        return Err(Errno::EUCLEAN);
    };
    let which = entries
        .iter()
        .position(|entry| entry.at == found.entry.at)
        .ok_or(Errno::EUCLEAN)?;
    change_leaf(tx, dir, &buffer, |bytes| entry::remove(bytes, &entries, which))
}

/// Makes a name that was found lead to another inode.
pub(crate) fn replace(tx: &mut Tx<'_>, dir: &Inode, found: &Found, ino: u32, kind: FileType) -> Result<()> {
    let kind = type_byte(tx, kind);
    let (buffer, block) = match &found.spot {
        Spot::Block(buffer, block) => (buffer, *block),
        Spot::Inline(part) => return inline::replace(tx, dir, &found.entry, *part, ino, kind),
    };
    let at = found.entry.at;
    let change = |bytes: &mut [u8]| {
        crate::layout::put32(bytes, at, ino);
        crate::layout::put(bytes, at + 7, &[kind]);
    };
    if block == 0 && dir.has(Flags::INDEX) {
        index::check_root(tx.fs, &tx.meta, dir)?;
        tx.modify(buffer, change)?;
        return index::seal_root(tx, dir);
    }
    change_leaf(tx, dir, buffer, change)
}

/// The directory moves: its `..` leads to `parent`.
pub(crate) fn set_parent(tx: &mut Tx<'_>, dir: &Inode, parent: u32) -> Result<()> {
    if dir.has(Flags::INLINE_DATA) {
        return inline::set_parent(tx, dir, parent);
    }
    match find(tx.fs, &tx.meta, dir, b"..")? {
        Some(found) => replace(tx, dir, &found, parent, FileType::Directory),
        None => Err(dir.error(format_args!("no '..' in directory"))),
    }
}
