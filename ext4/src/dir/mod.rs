//! Directories: lists of entries in blocks, with an index over them when they are large.
//!
//! * [`entry`]: entries in a block.  * [`inline`]: small directories in their inode.  * [`hash`]: hashes of names.  * [`index`]: the tree of hashes.  * [`change`]: adding, removing, replacing names.
//! * [`names`]: the VFS's create, link, unlink, rename.  * [`list`]: `getdents64`.
//!
//! The VFS lets one change of a directory's names happen at a time; everything here runs under the metadata lock on top.

pub(crate) mod change;
pub(crate) mod entry;
pub(crate) mod hash;
pub(crate) mod index;
pub(crate) mod inline;
pub(crate) mod list;
pub(crate) mod names;

use alloc::sync::Arc;
use alloc::vec::Vec;

use self::entry::{Entry, TAIL};
use crate::buffer::Buffer;
use crate::inode::Inode;
use crate::instance::{Ext4, Meta};
use crate::layout::inode::Flags;
use crate::map::{self, Kind};
use crate::{Errno, Result};

/// A name in an entry: inode number, file type as stored, the name.
pub(crate) type Name = (u32, u8, Vec<u8>);

/// A leaf: its block, the bytes, the entries in them.
pub(crate) type Leaf = (Arc<Buffer>, Arc<Vec<u8>>, Vec<Entry>);

/// Where a name was found.
pub(crate) struct Found {
    pub ino: u32,
    pub entry: Entry,
    pub spot: Spot,
}

/// What an [`Entry`] lies in.
pub(crate) enum Spot {
    /// A block, and its number in the directory.
    Block(Arc<Buffer>, u64),
    /// The inode.
    Inline(inline::Part),
}

/// Bytes of a leaf that entries may use.
pub(crate) fn leaf_end(fs: &Ext4) -> usize {
    fs.geometry.block_size as usize - if fs.geometry.has_csum() { TAIL } else { 0 }
}

/// Blocks of a directory.
pub(crate) fn blocks(fs: &Ext4, dir: &Inode) -> u64 {
    dir.len_now() / fs.block_size()
}

/// A block of a directory, unchecked. None where there is a hole.
pub(crate) fn raw_block(fs: &Ext4, meta: &Meta, dir: &Inode, at: u64) -> Result<Option<Arc<Buffer>>> {
    let found = map::lookup(fs, meta, dir, at, 1)?;
    if found.kind != Kind::Written {
        return Ok(None);
    }
    fs.file_block(found.block).map(Some)
}

/// A leaf: its block and entries, checked. None where there is a hole.
pub(crate) fn leaf(fs: &Ext4, meta: &Meta, dir: &Inode, at: u64) -> Result<Option<Leaf>> {
    let Some(buffer) = raw_block(fs, meta, dir, at)? else {
        return Ok(None);
    };
    let seed = dir.seed(&fs.geometry);
    fs.check_once(&buffer, |bytes| entry::is_sealed(bytes, seed))?;
    let bytes = buffer.snapshot();
    match entry::parse(&bytes[..leaf_end(fs)], 0) {
        Some(entries) => Ok(Some((buffer, bytes, entries))),
        None => Err(dir.error(format_args!("block {at}: bad entry in directory"))),
    }
}

/// Finds a name.
pub(crate) fn find(fs: &Ext4, meta: &Meta, dir: &Inode, name: &[u8]) -> Result<Option<Found>> {
    if dir.has(Flags::INLINE_DATA) {
        return inline::find(dir, name);
    }
    if dir.has(Flags::INDEX) && name != b"." && name != b".." {
        match index::find(fs, meta, dir, name) {
            Err(Errno::EINVAL) => {}
            other => return other,
        }
    }
    for at in 0..blocks(fs, dir) {
        // The root of an index begins like a leaf with two entries; its inner nodes like an empty one.
        if at == 0 && dir.has(Flags::INDEX) {
            if let Some(found) = find_dots(fs, meta, dir, name)? {
                return Ok(Some(found));
            }
            continue;
        }
        if dir.has(Flags::INDEX) && index::is_node(fs, meta, dir, at)? {
            continue;
        }
        let Some((buffer, bytes, entries)) = leaf(fs, meta, dir, at)? else {
            continue;
        };
        if let Some(entry) = entries.iter().find(|entry| entry.is(&bytes, name)) {
            return Ok(Some(Found {
                ino: entry.ino,
                entry: *entry,
                spot: Spot::Block(buffer, at),
            }));
        }
    }
    Ok(None)
}

/// `.` and `..` at the start of an index's root.
fn find_dots(fs: &Ext4, meta: &Meta, dir: &Inode, name: &[u8]) -> Result<Option<Found>> {
    let Some(buffer) = raw_block(fs, meta, dir, 0)? else {
        return Ok(None);
    };
    let bytes = buffer.snapshot();
    let entries = entry::parse(&bytes, 0).unwrap_or_default();
    let found = entries.iter().take(2).find(|entry| entry.is(&bytes, name)).copied();
    Ok(found.map(|entry| Found {
        ino: entry.ino,
        entry,
        spot: Spot::Block(buffer, 0),
    }))
}

/// Every name of a directory without an index in the way: for emptiness and repair of small ones.
pub(crate) fn is_empty(fs: &Ext4, meta: &Meta, dir: &Inode) -> Result<bool> {
    if dir.has(Flags::INLINE_DATA) {
        return Ok(inline::names(dir)?.is_empty());
    }
    for at in 0..blocks(fs, dir) {
        if dir.has(Flags::INDEX) && (at == 0 || index::is_node(fs, meta, dir, at)?) {
            continue;
        }
        let Some((_, bytes, entries)) = leaf(fs, meta, dir, at)? else {
            continue;
        };
        let other = |entry: &&Entry| entry.ino != 0 && !entry.is(&bytes, b".") && !entry.is(&bytes, b"..");
        if entries.iter().any(|entry| other(&entry)) {
            return Ok(false);
        }
    }
    Ok(true)
}
