//! Fast commits brought into the file system (kernel documentation, ext4 "Journal", "Fast Commit Replay Idempotence").
//!
//! Linux logs what a change meant, not the blocks it changed: names, inodes, ranges of blocks. Here all of it is done again in one transaction, so that a
//! crash leaves either the fast commits or what they meant. What is not in the records follows from them: bitmaps and counts from the maps of the files
//! they touch, links of directories from their entries. Blocks for directories and trees are found anew, outside of what the records claim.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use kernel::vfs::FileType;

use crate::dir::{self, change, list};
use crate::inode::Inode;
use crate::inode::load::{ROOT, Which};
use crate::inode::orphan::ORPHAN_CREDITS;
use crate::instance::Ext4;
use crate::journal::{FastCommit, Freed, Link};
use crate::layout::features::Incompat;
use crate::layout::inode::{BLOCK_AT, BLOCK_LEN, Core, Flags, seal};
use crate::layout::put32;
use crate::map::{self, Kind, extent};
use crate::space::blocks::Run;
use crate::space::inodes::Directories;
use crate::transaction::Tx;
use crate::{Errno, Result};

/// Blocks that one step changes: a name is the most.
const CREDITS: u32 = change::ADD_CREDITS + 2 * ORPHAN_CREDITS + 24;
/// Where the fields behind the map begin.
const BEHIND_MAP: usize = BLOCK_AT + BLOCK_LEN;

/// Does what the records say, in the running transaction, which the caller commits. `fs` is a scaffold: nobody else knows it.
///
/// # Errors
/// `EUCLEAN`: a record speaks of what cannot be. `ENOSPC`, `EIO`. Nothing of it may be committed then.
pub(super) fn apply(fs: &Arc<Ext4>, records: &[FastCommit]) -> Result<()> {
    let mut replay = Replay {
        fs,
        files: BTreeSet::new(),
        directories: BTreeSet::new(),
        detached: Vec::new(),
    };
    fs.meta.write().orphans = fs.read_orphans()?.into_iter().rev().collect();
    for record in records {
        if let FastCommit::AddRange { extent, .. } = record {
            let (_, run, _) = extent::parse_leaf_entry(extent);
            fs.reserve(&mut fs.meta.write(), run)?;
        }
    }
    for record in records {
        match record {
            FastCommit::AddRange { inode, extent } => replay.add_range(*inode, extent)?,
            FastCommit::DeleteRange { inode, first, count } => replay.delete_range(*inode, *first, *count)?,
            FastCommit::Create(link) => replay.create(link)?,
            FastCommit::Link(link) => replay.link(link)?,
            FastCommit::Unlink(link) => replay.unlink(link)?,
            FastCommit::Inode { inode, raw } => replay.inode(*inode, raw)?,
        }
    }
    replay.finish()
}

struct Replay<'a> {
    fs: &'a Arc<Ext4>,
    /// Inodes whose fields or maps were changed.
    files: BTreeSet<u32>,
    /// Directories whose names were changed.
    directories: BTreeSet<u32>,
    /// Blocks that have left a map: free unless another file has them at the end.
    detached: Vec<(Run, Freed)>,
}

impl<'a> Replay<'a> {
    fn begin(&self) -> Result<Tx<'a>> {
        Tx::begin_anyway(self.fs, CREDITS)
    }

    /// An inode that records may speak of. None for one that is free: what they say of it was overtaken by its end.
    fn find(&self, ino: u32) -> Result<Option<Arc<Inode>>> {
        let geometry = &self.fs.geometry;
        if ino != ROOT && !(geometry.first_ino..=geometry.size.inodes()).contains(&ino) {
            log::error!("EXT4-fs ({}): fast commit of inode {ino}", self.fs.name);
            return Err(Errno::EUCLEAN);
        }
        if !self.begin()?.is_inode_used(ino)? {
            return Ok(None);
        }
        match self.fs.inode(ino, Which::Any) {
            Ok(inode) => Ok(Some(inode)),
            Err(Errno::ESTALE) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn directory(&self, ino: u32) -> Result<Option<Arc<Inode>>> {
        match self.find(ino)? {
            Some(dir) if dir.is_dir() => Ok(Some(dir)),
            Some(_) => Err(Errno::EUCLEAN),
            None => Ok(None),
        }
    }

    /// A raw inode: its map stays as it is here, the ranges come in records of their own.
    fn inode(&mut self, ino: u32, raw: &[u8]) -> Result<()> {
        let fs = self.fs;
        let size = fs.geometry.inode_size as usize;
        let mut whole = vec![0; size];
        whole.get_mut(..raw.len()).ok_or(Errno::EUCLEAN)?.copy_from_slice(raw);
        let fresh = Core::parse(&whole, &fs.geometry);
        let kind = FileType::from_mode(u32::from(fresh.mode)).ok_or(Errno::EUCLEAN)?;
        let before = self.find(ino)?;
        let same = before
            .as_ref()
            .filter(|old| old.kind == kind && old.core.lock().generation == fresh.generation);
        let mut dtime = if fresh.nlink > 0 { 0 } else { fresh.dtime };
        match (&before, same) {
            (_, Some(old)) if fs.meta.read().orphans.contains(&ino) => dtime = old.core.lock().dtime,
            (_, Some(_)) => {}
            (Some(other), None) => self.end(other)?,
            (None, None) => {}
        }
        let keeps_map = same.is_some_and(|old| {
            let flags = old.core.lock().flags;
            (flags ^ fresh.flags) & (Flags::EXTENTS | Flags::INLINE_DATA) == Flags::empty() && old.has_blocks()
        });
        let mut tx = self.begin()?;
        if same.is_none() {
            let more = match kind {
                FileType::Directory => Directories::OneMore,
                _ => Directories::AsBefore,
            };
            tx.claim_inode(ino, more)?;
        }
        let (block, at) = fs.table_place(ino)?;
        let buffer = fs.buffers.get(block)?;
        tx.modify(&buffer, |bytes| {
            let place = &mut bytes[at..at + size];
            place[..BLOCK_AT].copy_from_slice(&raw[..BLOCK_AT]);
            if !keeps_map {
                place[BLOCK_AT..BEHIND_MAP].copy_from_slice(&first_map(&fresh, kind));
            }
            // What lies behind the record (attributes) was not changed by it.
            place[BEHIND_MAP..raw.len()].copy_from_slice(&raw[BEHIND_MAP..]);
            put32(place, 0x14, dtime);
            seal(place, ino, &fs.geometry);
        })?;
        self.files.insert(ino);
        if kind == FileType::Directory {
            self.directories.insert(ino);
        }
        Ok(())
    }

    /// The file that had a number before another one got it: it is gone.
    fn end(&mut self, inode: &Inode) -> Result<()> {
        if inode.has_blocks() {
            self.detach(inode, 0, map::most_blocks(self.fs, inode))?;
        }
        let mut tx = self.begin()?;
        let block = core::mem::take(&mut inode.core.lock().xattr_block);
        if block != 0 {
            crate::xattr::block::release(&mut tx, inode, block)?;
        }
        tx.orphan_remove(inode)?;
        tx.write_inode(inode)?;
        self.files.remove(&inode.number());
        self.directories.remove(&inode.number());
        tx.free_inode(inode.number(), inode.is_dir())
    }

    /// Takes a range out of a map.
    fn detach(&mut self, inode: &Inode, from: u64, to: u64) -> Result<()> {
        let mut at = from;
        while at < to {
            let mut tx = self.begin()?;
            let (next, runs) = map::detach_some(&mut tx, inode, at, to)?;
            tx.write_inode(inode)?;
            let kind = inode.freed_kind();
            self.detached.extend(runs.into_iter().map(|run| (run, kind)));
            at = next;
        }
        Ok(())
    }

    fn mapped(&mut self, ino: u32) -> Result<Option<Arc<Inode>>> {
        let Some(inode) = self.find(ino)? else { return Ok(None) };
        if !inode.has_blocks() {
            return Err(Errno::EUCLEAN);
        }
        self.files.insert(ino);
        Ok(Some(inode))
    }

    fn add_range(&mut self, ino: u32, raw: &[u8; 12]) -> Result<()> {
        let Some(inode) = self.mapped(ino)? else { return Ok(()) };
        let (start, run, kind) = extent::parse_leaf_entry(raw);
        let end = start + u64::from(run.count);
        if end > map::most_blocks(self.fs, &inode) || kind == Kind::Unwritten && !inode.has(Flags::EXTENTS) {
            return Err(Errno::EUCLEAN);
        }
        self.begin()?.claim(run)?;
        let mut at = start;
        while at < end {
            let block = run.first + (at - start);
            let found = map::lookup(self.fs, &self.fs.meta.read(), &inode, at, end - at)?;
            if found.kind != Kind::Hole && found.block != block {
                self.detach(&inode, at, at + found.len)?;
                continue;
            }
            let mut tx = self.begin()?;
            at += if found.kind == kind {
                found.len
            } else if found.kind == Kind::Hole {
                let piece = Run {
                    first: block,
                    count: found.len as u32,
                };
                map::insert(&mut tx, &inode, at, piece, kind)?;
                found.len
            } else {
                extent::set_kind(&mut tx, &inode, at, found.len, kind)?
            };
            tx.write_inode(&inode)?;
        }
        Ok(())
    }

    fn delete_range(&mut self, ino: u32, first: u32, count: u32) -> Result<()> {
        let Some(inode) = self.mapped(ino)? else { return Ok(()) };
        let end = (u64::from(first) + u64::from(count)).min(map::most_blocks(self.fs, &inode));
        self.detach(&inode, u64::from(first), end)
    }

    /// The directory and the file of a link; none if one of them is gone.
    fn ends(&self, link: &Link) -> Result<Option<(Arc<Inode>, Arc<Inode>)>> {
        let name = &link.name[..];
        if name == b"." || name == b".." || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(Errno::EUCLEAN);
        }
        Ok(self.directory(link.parent)?.zip(self.find(link.inode)?))
    }

    fn create(&mut self, link: &Link) -> Result<()> {
        let Some((dir, file)) = self.ends(link)? else {
            return Ok(());
        };
        if file.is_dir() && !file.has(Flags::INLINE_DATA) {
            let first = map::lookup(self.fs, &self.fs.meta.read(), &file, 0, 1)?;
            if first.kind == Kind::Hole {
                let mut tx = self.begin()?;
                file.set_len(0);
                change::init(&mut tx, &file, dir.number())?;
                tx.write_inode(&file)?;
            }
        }
        self.enter(&dir, link, &file).map(drop)
    }

    fn link(&mut self, link: &Link) -> Result<()> {
        let Some((dir, file)) = self.ends(link)? else {
            return Ok(());
        };
        if self.enter(&dir, link, &file)? && !file.is_dir() {
            let mut tx = self.begin()?;
            file.core.lock().nlink += 1;
            tx.write_inode(&file)?;
        }
        Ok(())
    }

    /// Makes the name lead to the file; whether it did not before.
    fn enter(&mut self, dir: &Inode, link: &Link, file: &Inode) -> Result<bool> {
        let mut tx = self.begin()?;
        self.directories.insert(dir.number());
        self.files.insert(file.number());
        match dir::find(self.fs, &tx.meta, dir, &link.name)? {
            Some(found) if found.ino == file.number() => return Ok(false),
            Some(found) => change::replace(&mut tx, dir, &found, file.number(), file.kind)?,
            None => change::add(&mut tx, dir, &link.name, file.number(), file.kind)?,
        }
        tx.write_inode(dir)?;
        Ok(true)
    }

    fn unlink(&mut self, link: &Link) -> Result<()> {
        let Some((dir, file)) = self.ends(link)? else {
            return Ok(());
        };
        let mut tx = self.begin()?;
        let found = dir::find(self.fs, &tx.meta, &dir, &link.name)?;
        let Some(found) = found.filter(|found| found.ino == file.number()) else {
            return Ok(());
        };
        change::remove(&mut tx, &dir, &found)?;
        tx.write_inode(&dir)?;
        self.directories.insert(dir.number());
        self.files.insert(file.number());
        {
            let mut core = file.core.lock();
            core.nlink = if file.is_dir() { 0 } else { core.nlink.saturating_sub(1) };
        }
        if file.is_dir() {
            file.set_len(0);
        }
        tx.write_inode(&file)
    }

    /// Everything that follows from the records.
    fn finish(mut self) -> Result<()> {
        for ino in core::mem::take(&mut self.directories) {
            self.files.insert(ino);
            if let Some(dir) = self.directory(ino)?.filter(|dir| dir.nlink() > 0) {
                self.count_links(&dir)?;
            }
        }
        let mut used: Vec<(u64, u64)> = Vec::new();
        for &ino in &self.files {
            let Some(inode) = self.find(ino)? else { continue };
            let blocks = self.count_blocks(&inode, &mut used)?;
            let mut tx = self.begin()?;
            inode.core.lock().sectors = blocks * (self.fs.block_size() / 512);
            if inode.nlink() == 0 {
                tx.orphan_add(&inode)?;
            }
            tx.write_inode(&inode)?;
        }
        used.sort_unstable();
        let mut kinds: BTreeMap<bool, Vec<(u64, u64)>> = BTreeMap::new();
        for (run, kind) in &self.detached {
            let range = (run.first, run.first + u64::from(run.count));
            kinds.entry(*kind == Freed::Metadata).or_default().push(range);
        }
        for (is_metadata, mut ranges) in kinds {
            ranges.sort_unstable();
            let kind = if is_metadata { Freed::Metadata } else { Freed::Data };
            for (first, end) in without(&ranges, &used) {
                // Revoking takes room: in steps.
                let mut at = first;
                while at < end {
                    let upto = end.min(at + map::METADATA_STEP);
                    let credits = CREDITS + self.fs.journal.revoke_credits(upto - at);
                    Tx::begin_anyway(self.fs, credits)?.free(at, upto - at, kind)?;
                    at = upto;
                }
            }
        }
        let news = self.fs.news();
        self.begin()?.change_super(|raw| news.store(raw))
    }

    /// A directory's links: its own two, and one of each directory in it.
    fn count_links(&self, dir: &Arc<Inode>) -> Result<()> {
        let has_types = self.fs.geometry.incompat.contains(Incompat::FILETYPE);
        let mut count = 2;
        for (ino, kind, _) in list::all_names(dir)? {
            let is_dir = match kind {
                2 => true,
                _ if has_types => false,
                _ => self.find(ino)?.is_some_and(|inode| inode.is_dir()),
            };
            count += u32::from(is_dir);
        }
        let mut tx = self.begin()?;
        dir.core.lock().nlink = crate::dir::names::shown_links(count);
        tx.write_inode(dir)
    }

    /// The blocks that an inode uses; their ranges join `used`.
    fn count_blocks(&self, inode: &Inode, used: &mut Vec<(u64, u64)>) -> Result<u64> {
        let fs = self.fs;
        let has_block = inode.core.lock().xattr_block != 0;
        let mut count = u64::from(has_block) + inode.large_blocks_of_all()?;
        if !inode.has_blocks() {
            return Ok(count);
        }
        let structure = map::structure(fs, inode)?;
        count += structure.len() as u64;
        used.extend(structure.into_iter().map(|block| (block, block + 1)));
        let (mut at, most) = (0, map::most_blocks(fs, inode));
        while at < most {
            let found = map::lookup(fs, &fs.meta.read(), inode, at, most - at)?;
            at += found.len;
            if found.kind != Kind::Hole {
                count += found.len;
                used.push((found.block, found.block + found.len));
            }
        }
        Ok(count)
    }
}

/// The map of a file that had none here.
fn first_map(core: &Core, kind: FileType) -> [u8; BLOCK_LEN] {
    let mut map = [0; BLOCK_LEN];
    if core.flags.contains(Flags::EXTENTS) {
        extent::init(&mut map);
        return map;
    }
    let has_pointers = !core.flags.contains(Flags::INLINE_DATA)
        && match kind {
            FileType::Regular | FileType::Directory => true,
            FileType::Symlink => core.disk_size >= BLOCK_LEN as u64,
            _ => false,
        };
    if !has_pointers {
        // The text of a symlink, the number of a device, contents.
        map = core.block;
    }
    map
}

/// The parts of `ranges` outside of `other`; both sorted by their starts, and `ranges` may overlap each other.
fn without(ranges: &[(u64, u64)], other: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut out: Vec<(u64, u64)> = Vec::new();
    let mut covered = 0;
    let mut next = other.iter().peekable();
    let mut blocked = 0;
    for &(start, end) in ranges {
        let mut at = start.max(covered);
        covered = covered.max(end);
        while at < end {
            while let Some(&&(from, to)) = next.peek() {
                if from > at {
                    break;
                }
                blocked = blocked.max(to);
                next.next();
            }
            if blocked > at {
                at = blocked;
                continue;
            }
            let upto = next.peek().map_or(end, |&&(from, _)| from.min(end));
            out.push((at, upto));
            at = upto;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::without;

    #[test]
    fn what_others_use_is_not_freed_and_nothing_is_freed_twice() {
        let ranges = [(10, 20), (12, 15), (18, 30), (40, 50)];
        let used = [(5, 12), (8, 11), (25, 26), (45, 60)];
        assert_eq!(without(&ranges, &used), [(12, 20), (20, 25), (26, 30), (40, 45)]);
        assert_eq!(without(&ranges, &[]), [(10, 20), (20, 30), (40, 50)]);
        assert_eq!(without(&ranges, &[(0, 100)]), []);
    }
}
