//! `getdents64(2)`. A directory that has, or could get, an index is listed in the order of hashes, so that a position stays good while names come and
//! go and when the index is built; any other by place.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use kernel::page_cache::ErrorCursor;
use kernel::syscall::Context;
use kernel::vfs::file::DirEntry;
use kernel::vfs::{File, FileOps, FileType};

use super::entry::type_of;
use super::{Name, blocks, find, hash, index, inline, leaf};
use crate::inode::Inode;
use crate::inode::load::indexes_directories;
use crate::layout::inode::Flags;
use crate::{Errno, Result};

/// An open directory.
pub(crate) struct Ext4Dir {
    pub(crate) inode: Arc<Inode>,
}

/// Positions of `.` and `..`; all others lie behind.
const FIRST: u64 = 2;
/// Behind the last name.
const END: u64 = i64::MAX as u64;

/// Takes a name, its inode's number and type, and the position behind it.
type Send<'a> = dyn FnMut(&[u8], u32, Option<FileType>, u64) -> bool + 'a;

impl Inode {
    fn parent_number(&self) -> Result<u32> {
        if self.has(Flags::INLINE_DATA) {
            return Ok(inline::parent(self));
        }
        let meta = self.fs.meta.read();
        Ok(find(&self.fs, &meta, self, b"..")?.map_or(self.number(), |found| found.ino))
    }

    fn list(&self, pos: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        let mut send = |name: &[u8], ino: u32, kind: Option<FileType>, next: u64| {
            emit(DirEntry {
                name,
                ino: u64::from(ino),
                kind,
                next,
            })
        };
        let dir = Some(FileType::Directory);
        if pos == 0 && !send(b".", self.number(), dir, 1) {
            return Ok(());
        }
        if pos <= 1 && !send(b"..", self.parent_number()?, dir, FIRST) {
            return Ok(());
        }
        if pos >= END {
            return Ok(());
        }
        let small = self.has(Flags::INLINE_DATA) || blocks(&self.fs, self) == 1;
        let by_hash = indexes_directories(&self.fs) && (self.has(Flags::INDEX) || small);
        if by_hash {
            match self.list_by_hash(pos.max(FIRST), &mut send) {
                Err(Errno::EINVAL) => {}
                other => return other,
            }
        }
        self.list_by_place(pos.max(FIRST), &mut send)
    }

    /// The names of one leaf without the dots.
    fn names_in(&self, at: u64) -> Result<Vec<Name>> {
        let meta = self.fs.meta.read();
        if self.has(Flags::INLINE_DATA) {
            return inline::names(self);
        }
        let Some((_, bytes, entries)) = leaf(&self.fs, &meta, self, at)? else {
            return Ok(Vec::new());
        };
        let real = entries.iter().filter(|entry| entry.ino != 0).filter(|entry| {
            let name = entry.name(&bytes);
            name != b"." && name != b".."
        });
        Ok(real
            .map(|entry| (entry.ino, entry.kind, entry.name(&bytes).to_vec()))
            .collect())
    }

    fn list_by_hash(&self, pos: u64, send: &mut Send<'_>) -> Result<()> {
        let fs = &self.fs;
        let mut from = ((pos >> 32) as u32) << 1;
        let mut least = pos;
        let mut batch = 16;
        loop {
            // Some leaves at a time, so that the lock is not held while the names go out.
            let mut leaves: Vec<(u64, u8)> = Vec::new();
            let mut next = None;
            if self.has(Flags::INDEX) {
                let meta = fs.meta.read();
                let mut last_major = from;
                index::walk(fs, &meta, self, from, |block, version| {
                    leaves.push((block, version));
                    Ok(leaves.len() < batch)
                })?;
                if leaves.len() == batch {
                    // The next turn begins with the highest hash here: names of the same one may follow in the next leaf.
                    for &(block, version) in &leaves {
                        if let Some((_, bytes, entries)) = leaf(fs, &meta, self, block)? {
                            let majors = entries
                                .iter()
                                .filter(|entry| entry.ino != 0)
                                .filter_map(|entry| hash::of_name(&fs.geometry, version, entry.name(&bytes)));
                            last_major = majors.map(|hash| hash.major).fold(last_major, u32::max);
                        }
                    }
                    if last_major == from {
                        batch *= 4;
                        continue;
                    }
                    next = Some(last_major);
                }
            } else {
                let version = if hash::is_known(fs.geometry.hash_version) {
                    fs.geometry.hash_version
                } else {
                    1
                };
                leaves.push((0, version));
            }
            let mut names: Vec<(u64, Name)> = Vec::new();
            for (block, version) in leaves {
                for name in self.names_in(block)? {
                    let hash = hash::of_name(&fs.geometry, version, &name.2).ok_or(Errno::EINVAL)?;
                    names.push((u64::from(hash.major >> 1) << 32 | u64::from(hash.minor), name));
                }
            }
            names.sort();
            names.dedup();
            // Two names of one hash get positions of their own.
            let mut last = FIRST;
            for (position, _) in &mut names {
                *position = (*position).max(last + 1);
                last = *position;
            }
            let limit = next.map_or(END, |next| u64::from(next >> 1) << 32);
            names.retain(|(position, _)| *position >= least && *position < limit);
            for at in 0..names.len() {
                let behind = names.get(at + 1).map_or(names[at].0 + 1, |(position, _)| *position);
                let (ino, kind, name) = &names[at].1;
                let behind = if at + 1 == names.len() && next.is_none() {
                    END
                } else {
                    behind
                };
                if !send(name, *ino, type_of(*kind), behind) {
                    return Ok(());
                }
            }
            match next {
                Some(next) => {
                    from = next;
                    least = limit;
                }
                None => return Ok(()),
            }
        }
    }

    fn list_by_place(&self, pos: u64, send: &mut Send<'_>) -> Result<()> {
        let fs = &self.fs;
        let size = fs.block_size();
        let start = if pos == FIRST { 0 } else { pos };
        if self.has(Flags::INLINE_DATA) {
            for (behind, (ino, kind, name)) in inline::places(self)? {
                if behind > start && !send(&name, ino, type_of(kind), behind) {
                    break;
                }
            }
            return Ok(());
        }
        let mut at = start / size;
        while at < blocks(fs, self) {
            let entries = {
                let meta = fs.meta.read();
                if self.has(Flags::INDEX) && (at == 0 || index::is_node(fs, &meta, self, at)?) {
                    at += 1;
                    continue;
                }
                leaf(fs, &meta, self, at)?
            };
            if let Some((_, bytes, entries)) = entries {
                for found in entries.iter().filter(|found| found.ino != 0) {
                    let place = at * size + found.at as u64;
                    let name = found.name(&bytes);
                    if place < start || name == b"." || name == b".." {
                        continue;
                    }
                    if !send(name, found.ino, type_of(found.kind), place + found.len as u64) {
                        return Ok(());
                    }
                }
            }
            at += 1;
        }
        Ok(())
    }
}

/// All names of a directory but the dots, in no order.
pub(crate) fn all_names(dir: &Inode) -> Result<Vec<Name>> {
    if dir.has(Flags::INLINE_DATA) {
        return inline::names(dir);
    }
    let mut names = Vec::new();
    for at in 0..blocks(&dir.fs, dir) {
        if dir.has(Flags::INDEX) && (at == 0 || index::is_node(&dir.fs, &dir.fs.meta.read(), dir, at)?) {
            continue;
        }
        names.append(&mut dir.names_in(at)?);
    }
    Ok(names)
}

impl FileOps for Ext4Dir {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &File, _pos: u64, _dst: &mut dyn kernel::io::Sink) -> Result<usize> {
        Err(Errno::EISDIR)
    }

    fn read_dir(&self, _file: &File, pos: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        self.inode.list(pos, emit)
    }

    fn ioctl(&self, cx: &Context, file: &File, cmd: u32, arg: u64) -> Result<usize> {
        crate::file::ioctl::run(&self.inode, cx, file, cmd, arg)
    }

    fn sync(&self, _file: &File) -> Result<()> {
        // A directory has no contents of its own beside the journal.
        self.inode.sync(&ErrorCursor::default())
    }
}
