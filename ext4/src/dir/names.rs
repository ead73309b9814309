//! What the VFS asks of a directory: make, link, unlink, rename. Each is one transaction.

use alloc::sync::Arc;

use kernel::vfs::inode::{NewAttr, NewNode, RenameFlags};
use kernel::vfs::{DevT, FileType, Mode, Timespec};

use super::{change, find, is_empty};
use crate::inode::Inode;
use crate::inode::load::Which;
use crate::inode::orphan::ORPHAN_CREDITS;
use crate::layout::features::{Incompat, RoCompat};
use crate::layout::inode::{BLOCK_LEN, Flags};
use crate::map::{self, Kind};
use crate::transaction::Tx;
use crate::{Errno, Result};

/// Most links of a file, and of a directory before its count stops counting.
const LINK_MAX: u32 = 65000;
/// How a directory's count of links is told: "too many to count" as one.
pub(crate) fn shown_links(count: u32) -> u32 {
    if count > LINK_MAX { 1 } else { count }
}

/// Blocks that making an inode changes beside the name.
const NEW_CREDITS: u32 = 20;

impl Inode {
    fn require_names_change(&self, removes: bool) -> Result<()> {
        if !self.fs.is_writable() {
            return Err(Errno::EROFS);
        }
        self.require_mutable()?;
        if removes && self.has(Flags::APPEND) {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// `EPERM` for a file whose names may not go.
    fn require_removable(&self) -> Result<()> {
        if self.core.lock().flags.intersects(Flags::IMMUTABLE | Flags::APPEND) {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    fn require_link_room(&self) -> Result<()> {
        let counts_on = self.fs.geometry.ro_compat.contains(RoCompat::DIR_NLINK);
        if self.nlink() >= LINK_MAX && !(self.is_dir() && counts_on) {
            return Err(Errno::EMLINK);
        }
        Ok(())
    }

    /// One subdirectory more.
    fn gain_link(&self) {
        let mut core = self.core.lock();
        if self.is_dir() && core.nlink == 1 {
            return;
        }
        core.nlink += 1;
        if self.is_dir() {
            core.nlink = shown_links(core.nlink);
        }
    }

    /// One subdirectory less.
    fn lose_subdirectory(&self) {
        let mut core = self.core.lock();
        if core.nlink > 2 {
            core.nlink -= 1;
        }
    }

    /// It lost a name; a directory loses its own two links at once.
    fn lose_name(&self, tx: &mut Tx<'_>) -> Result<()> {
        {
            let mut core = self.core.lock();
            core.ctime = Timespec::now();
            core.nlink = if self.is_dir() { 0 } else { core.nlink.saturating_sub(1) };
        }
        if self.nlink() == 0 {
            if self.is_dir() {
                self.set_len(0);
                self.size.store(0, core::sync::atomic::Ordering::Release);
            }
            tx.orphan_add(self)?;
        }
        tx.write_inode(self)
    }

    pub(crate) fn find_name(&self, name: &[u8]) -> Result<Arc<Inode>> {
        let ino = {
            let meta = self.fs.meta.read();
            find(&self.fs, &meta, self, name)?.map(|found| found.ino)
        };
        let ino = ino.ok_or(Errno::ENOENT)?;
        if ino == self.number() && name != b"." {
            return Err(self.error(format_args!(
                "'{}' linked to parent dir",
                alloc::string::String::from_utf8_lossy(name)
            )));
        }
        match self.fs.inode(ino, Which::Named) {
            Err(Errno::ESTALE) => Err(self.error(format_args!("deleted inode referenced: {ino}"))),
            other => other,
        }
    }

    pub(crate) fn make(&self, name: &[u8], node: NewNode<'_>, attr: NewAttr) -> Result<Arc<Inode>> {
        self.fs.bury()?;
        self.require_names_change(false)?;
        let is_dir = node.kind() == FileType::Directory;
        if is_dir {
            self.require_link_room()?;
        }
        if let NewNode::Symlink(text) = &node
            && text.len() as u64 >= self.fs.block_size()
        {
            return Err(Errno::ENAMETOOLONG);
        }
        self.fs.retry(|| {
            let mut tx = Tx::begin(&self.fs, change::ADD_CREDITS + NEW_CREDITS + ORPHAN_CREDITS)?;
            if self.nlink() == 0 {
                return Err(Errno::ENOENT);
            }
            if find(&self.fs, &tx.meta, self, name)?.is_some() {
                return Err(Errno::EEXIST);
            }
            let inode = tx.new_inode(self, &node, attr, if is_dir { 2 } else { 1 })?;
            let made = crate::xattr::acl::inherit(&mut tx, self, &inode)
                .and_then(|()| self.fill_node(&mut tx, &inode, &node))
                .and_then(|()| change::add(&mut tx, self, name, inode.number(), inode.kind));
            if let Err(error) = made {
                // What was made of it goes the way of all files without names.
                inode.core.lock().nlink = 0;
                tx.orphan_add(&inode)?;
                tx.write_inode(&inode)?;
                tx.write_inode(self)?;
                return Err(error);
            }
            if is_dir {
                self.gain_link();
            }
            self.touch();
            tx.write_inode(&inode)?;
            tx.write_inode(self)?;
            Ok(inode)
        })
    }

    fn fill_node(&self, tx: &mut Tx<'_>, inode: &Inode, node: &NewNode<'_>) -> Result<()> {
        match node {
            NewNode::Directory => change::init(tx, inode, self.number()),
            NewNode::Symlink(text) if text.len() >= BLOCK_LEN => {
                let goal = map::goal(&self.fs, &tx.meta, inode, 0);
                let run = tx.allocate_new(goal, 1)?;
                map::insert(tx, inode, 0, run, Kind::Written)?;
                let buffer = tx.handle.create(run.first)?;
                tx.modify(&buffer, |bytes| bytes[..text.len()].copy_from_slice(text))?;
                inode.set_len(text.len() as u64);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// `O_TMPFILE`.
    pub(crate) fn make_unnamed(&self, attr: NewAttr) -> Result<Arc<Inode>> {
        self.fs.bury()?;
        self.require_names_change(false)?;
        self.fs.retry(|| {
            let mut tx = Tx::begin(&self.fs, NEW_CREDITS + ORPHAN_CREDITS)?;
            let inode = tx.new_inode(self, &NewNode::Regular, attr, 0)?;
            let inherited = crate::xattr::acl::inherit(&mut tx, self, &inode);
            tx.orphan_add(&inode)?;
            tx.write_inode(&inode)?;
            inherited.map(|()| inode)
        })
    }

    pub(crate) fn link_name(&self, name: &[u8], target: &Inode) -> Result<()> {
        self.require_names_change(false)?;
        target.require_removable()?;
        self.require_same_project(target)?;
        target.require_link_room()?;
        self.fs.retry(|| {
            let mut tx = Tx::begin(&self.fs, change::ADD_CREDITS + ORPHAN_CREDITS)?;
            if self.nlink() == 0 {
                return Err(Errno::ENOENT);
            }
            if find(&self.fs, &tx.meta, self, name)?.is_some() {
                return Err(Errno::EEXIST);
            }
            if let Err(error) = change::add(&mut tx, self, name, target.number(), target.kind) {
                tx.write_inode(self)?;
                return Err(error);
            }
            if target.nlink() == 0 {
                tx.orphan_remove(target)?;
            }
            target.gain_link();
            target.core.lock().ctime = Timespec::now();
            self.touch();
            tx.write_inode(target)?;
            tx.write_inode(self)
        })
    }

    pub(crate) fn unlink_name(&self, name: &[u8]) -> Result<()> {
        self.require_names_change(true)?;
        let mut tx = Tx::begin(&self.fs, 6 + 2 * ORPHAN_CREDITS)?;
        let found = find(&self.fs, &tx.meta, self, name)?.ok_or(Errno::ENOENT)?;
        let victim = self.fs.inode(found.ino, Which::Named)?;
        if victim.is_dir() {
            return Err(Errno::EISDIR);
        }
        victim.require_removable()?;
        change::remove(&mut tx, self, &found)?;
        self.touch();
        victim.lose_name(&mut tx)?;
        tx.write_inode(self)
    }

    pub(crate) fn remove_directory(&self, name: &[u8]) -> Result<()> {
        self.require_names_change(true)?;
        let mut tx = Tx::begin(&self.fs, 6 + 2 * ORPHAN_CREDITS)?;
        let found = find(&self.fs, &tx.meta, self, name)?.ok_or(Errno::ENOENT)?;
        let victim = self.fs.inode(found.ino, Which::Named)?;
        if !victim.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        victim.require_removable()?;
        if !is_empty(&self.fs, &tx.meta, &victim)? {
            return Err(Errno::ENOTEMPTY);
        }
        change::remove(&mut tx, self, &found)?;
        self.lose_subdirectory();
        self.touch();
        victim.lose_name(&mut tx)?;
        tx.write_inode(self)
    }

    pub(crate) fn rename_name(&self, old: &[u8], to: &Inode, new: &[u8], flags: RenameFlags) -> Result<()> {
        self.require_names_change(true)?;
        to.require_names_change(false)?;
        if flags.contains(RenameFlags::EXCHANGE) {
            return self.exchange(old, to, new);
        }
        self.fs.retry(|| self.try_rename(old, to, new, flags))
    }

    fn try_rename(&self, old: &[u8], to: &Inode, new: &[u8], flags: RenameFlags) -> Result<()> {
        let fs = &self.fs;
        let same = self.number() == to.number();
        let mut tx = Tx::begin(fs, change::ADD_CREDITS + NEW_CREDITS + 3 * ORPHAN_CREDITS + 10)?;
        let found = find(fs, &tx.meta, self, old)?.ok_or(Errno::ENOENT)?;
        let moved = fs.inode(found.ino, Which::Named)?;
        moved.require_removable()?;
        to.require_same_project(&moved)?;
        let target = find(fs, &tx.meta, to, new)?;
        let victim = match &target {
            Some(_) if flags.contains(RenameFlags::NOREPLACE) => return Err(Errno::EEXIST),
            Some(target) => Some(fs.inode(target.ino, Which::Named)?),
            None => None,
        };
        if to.nlink() == 0 {
            return Err(Errno::ENOENT);
        }
        if let Some(victim) = &victim {
            if victim.number() == moved.number() {
                return Ok(());
            }
            victim.require_removable()?;
            match (moved.is_dir(), victim.is_dir()) {
                (true, false) => return Err(Errno::ENOTDIR),
                (false, true) => return Err(Errno::EISDIR),
                (true, true) if !is_empty(fs, &tx.meta, victim)? => return Err(Errno::ENOTEMPTY),
                _ => {}
            }
        } else if moved.is_dir() && !same {
            to.require_link_room()?;
        }
        let whiteout = if flags.contains(RenameFlags::WHITEOUT) {
            let attr = NewAttr {
                mode: Mode::empty(),
                uid: 0,
                gid: 0,
            };
            Some(tx.new_inode(self, &NewNode::CharDevice(DevT::default()), attr, 1)?)
        } else {
            None
        };
        let placed = match &target {
            Some(target) => change::replace(&mut tx, to, target, moved.number(), moved.kind),
            None => change::add(&mut tx, to, new, moved.number(), moved.kind),
        };
        if let Err(error) = placed {
            if let Some(whiteout) = whiteout {
                whiteout.core.lock().nlink = 0;
                tx.orphan_add(&whiteout)?;
                tx.write_inode(&whiteout)?;
            }
            tx.write_inode(to)?;
            return Err(error);
        }
        // The old entry may have moved to another leaf meanwhile.
        let found = find(fs, &tx.meta, self, old)?.ok_or(Errno::EUCLEAN)?;
        match &whiteout {
            Some(whiteout) => {
                change::replace(&mut tx, self, &found, whiteout.number(), whiteout.kind)?;
                tx.write_inode(whiteout)?;
            }
            None => change::remove(&mut tx, self, &found)?,
        }
        if moved.is_dir() && !same {
            change::set_parent(&mut tx, &moved, to.number())?;
            self.lose_subdirectory();
            to.gain_link();
        }
        if let Some(victim) = &victim {
            if victim.is_dir() {
                to.lose_subdirectory();
            }
            victim.lose_name(&mut tx)?;
        }
        moved.core.lock().ctime = Timespec::now();
        self.touch();
        tx.write_inode(&moved)?;
        tx.write_inode(self)?;
        if !same {
            to.touch();
            tx.write_inode(to)?;
        }
        Ok(())
    }

    fn exchange(&self, old: &[u8], to: &Inode, new: &[u8]) -> Result<()> {
        let fs = &self.fs;
        to.require_names_change(true)?;
        let mut tx = Tx::begin(fs, 40)?;
        let one = find(fs, &tx.meta, self, old)?.ok_or(Errno::ENOENT)?;
        let two = find(fs, &tx.meta, to, new)?.ok_or(Errno::ENOENT)?;
        let (first, second) = (fs.inode(one.ino, Which::Named)?, fs.inode(two.ino, Which::Named)?);
        if first.number() == second.number() {
            return Ok(());
        }
        first.require_removable()?;
        second.require_removable()?;
        to.require_same_project(&first)?;
        self.require_same_project(&second)?;
        let same = self.number() == to.number();
        if !same && first.is_dir() != second.is_dir() {
            if first.is_dir() { to } else { self }.require_link_room()?;
        }
        change::replace(&mut tx, self, &one, second.number(), second.kind)?;
        change::replace(&mut tx, to, &two, first.number(), first.kind)?;
        if !same {
            for (moved, from, into) in [(&first, self, to), (&second, to, self)] {
                if moved.is_dir() {
                    change::set_parent(&mut tx, moved, into.number())?;
                    from.lose_subdirectory();
                    into.gain_link();
                }
            }
        }
        let now = Timespec::now();
        first.core.lock().ctime = now;
        second.core.lock().ctime = now;
        self.touch();
        to.touch();
        for inode in [&*first, &*second, self, to] {
            tx.write_inode(inode)?;
        }
        Ok(())
    }

    pub(crate) fn link_text(&self) -> Result<alloc::vec::Vec<u8>> {
        let len = self.len_now() as usize;
        let (flags, sectors, xattr_block, block) = {
            let core = self.core.lock();
            (core.flags, core.sectors, core.xattr_block, core.block)
        };
        if flags.contains(Flags::ENCRYPT) {
            return Err(Errno::EOPNOTSUPP);
        }
        if len > 4096 {
            return Err(self.error(format_args!("symlink of {len} bytes")));
        }
        if flags.contains(Flags::INLINE_DATA) {
            let mut text = self.inline_data()?;
            text.truncate(len);
            return Ok(text);
        }
        let own = if xattr_block != 0 {
            self.fs.block_size() / 512
        } else {
            0
        };
        // Attributes may use space in inodes of their own.
        let is_short = len < BLOCK_LEN && self.fs.geometry.incompat.contains(Incompat::EA_INODE);
        if (sectors <= own || is_short) && !flags.contains(Flags::EXTENTS) {
            return block.get(..len).map(<[u8]>::to_vec).ok_or(Errno::EUCLEAN);
        }
        let meta = self.fs.meta.read();
        let mut text = alloc::vec::Vec::with_capacity(len);
        let size = self.fs.block_size() as usize;
        for at in 0..len.div_ceil(size) {
            let found = map::lookup(&self.fs, &meta, self, at as u64, 1)?;
            if found.kind != Kind::Written {
                return Err(self.error(format_args!("symlink without contents")));
            }
            text.extend_from_slice(&self.fs.file_block(found.block)?.snapshot());
        }
        text.truncate(len);
        Ok(text)
    }
}
