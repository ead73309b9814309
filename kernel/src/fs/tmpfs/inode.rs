//! Inodes of tmpfs: one type for all kinds, which is its own open file too.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;

use arch_um::sync::{RwLock, SpinLock, order};

use super::content::Content;
use super::directory::{FIRST, Names};
use super::options::Options;
use super::{PAGE, TmpFs};
use crate::io::{Sink, Source};
use crate::vfs::acl::{Acl, AclKind};
use crate::vfs::file::{Access, DirEntry, MapBacking, SeekTarget, WriteAt, Written};
use crate::vfs::inode::{AtimePolicy, Link, NewAttr, RenameFlags, XattrFlags};
use crate::vfs::{
    DevT, File, FileOps, FileSystem, FileType, Inode, InodeState, Metadata, Mode, NewNode, OpenFlags, SetAttr, Timespec,
};
use crate::{Errno, Result};

/// Bytes that a name adds to its directory's `st_size`, as on Linux.
const NAME_SIZE: u64 = 20;
/// Most bytes of names and values of extended attributes on one inode.
const XATTR_MAX: usize = 128 * 1024;
/// Names read per turn of the directory's lock.
const LIST_BATCH: usize = 64;

/// `F_SEAL_SEAL`: no more seals.
pub const SEAL_SEAL: u32 = 1;
/// `F_SEAL_SHRINK`.
pub const SEAL_SHRINK: u32 = 2;
/// `F_SEAL_GROW`.
pub const SEAL_GROW: u32 = 4;
/// `F_SEAL_WRITE`.
pub const SEAL_WRITE: u32 = 8;
/// `F_SEAL_FUTURE_WRITE`.
pub const SEAL_FUTURE_WRITE: u32 = 16;
/// `F_SEAL_EXEC`.
pub const SEAL_EXEC: u32 = 32;

/// A file, directory or anything else.
pub struct TmpInode {
    this: Weak<TmpInode>,
    fs: Arc<TmpFs>,
    ino: u64,
    kind: FileType,
    rdev: DevT,
    attr: SpinLock<Attr>,
    xattrs: SpinLock<BTreeMap<Vec<u8>, Vec<u8>>>,
    body: Body,
    state: InodeState,
}

struct Attr {
    mode: Mode,
    uid: u32,
    gid: u32,
    nlink: u32,
    seals: u32,
    atime: Timespec,
    mtime: Timespec,
    ctime: Timespec,
    btime: Timespec,
    /// The access and the default list.
    acls: [Option<Arc<Acl>>; 2],
}

enum Body {
    Regular(RwLock<Content>),
    Directory(SpinLock<Names>),
    Symlink(Box<[u8]>),
    /// Device, FIFO, socket.
    Special,
}

/// `mode` with other permission bits.
fn with_permissions(mode: Mode, permissions: Mode) -> Mode {
    (mode - Mode::from_bits_truncate(0o777)) | permissions
}

impl TmpInode {
    /// Makes an inode that is counted already.
    fn make(fs: &Arc<TmpFs>, kind: FileType, rdev: DevT, body: Body, attr: NewAttr, nlink: u32) -> Arc<Self> {
        let now = Timespec::now();
        let attr = Attr {
            mode: attr.mode,
            uid: attr.uid,
            gid: attr.gid,
            nlink,
            seals: SEAL_SEAL,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            acls: [None, None],
        };
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            fs: fs.clone(),
            ino: fs.take_ino(),
            kind,
            rdev,
            attr: SpinLock::new(&order::INODE_ATTR, attr),
            xattrs: SpinLock::new(&order::INODE_ATTR, BTreeMap::new()),
            body,
            state: InodeState::default(),
        })
    }

    fn directory_body(parent: Weak<TmpInode>) -> Body {
        Body::Directory(SpinLock::new(&order::FS, Names::new(parent)))
    }

    fn regular_body() -> Body {
        Body::Regular(RwLock::new(&order::INODE, Content::new()))
    }

    /// The root of `fs`.
    pub(super) fn root(fs: &Arc<TmpFs>, options: &Options) -> Arc<Self> {
        let attr = NewAttr {
            mode: options.mode,
            uid: options.uid,
            gid: options.gid,
        };
        let root = Self::make(
            fs,
            FileType::Directory,
            DevT::default(),
            Self::directory_body(Weak::new()),
            attr,
            2,
        );
        if let Body::Directory(names) = &root.body {
            names.lock().parent = root.this.clone();
        }
        root
    }

    /// A regular file without a name.
    pub(super) fn unnamed(fs: &Arc<TmpFs>, attr: NewAttr) -> Result<Arc<Self>> {
        fs.charge_inode()?;
        Ok(Self::make(
            fs,
            FileType::Regular,
            DevT::default(),
            Self::regular_body(),
            attr,
            0,
        ))
    }

    /// A new file of this directory: a directory inherits the default list, everything but a symlink gets it as access list, cut by the mode.
    fn hand_down_acls(&self, inode: &TmpInode) {
        let default = self.attr.lock().acls[AclKind::Default as usize].clone();
        let Some(default) = default.filter(|_| inode.kind != FileType::Symlink) else {
            return;
        };
        let mut attr = inode.attr.lock();
        let access = default.inherited(attr.mode);
        attr.mode = with_permissions(attr.mode, access.mode());
        if !access.is_minimal() {
            attr.acls[AclKind::Access as usize] = Some(Arc::new(access));
        }
        if inode.kind == FileType::Directory {
            attr.acls[AclKind::Default as usize] = Some(default);
        }
    }

    fn set_acl(&self, kind: AclKind, acl: Option<Acl>) -> Result<()> {
        if self.kind == FileType::Symlink {
            return Err(Errno::EOPNOTSUPP);
        }
        if kind == AclKind::Default && acl.is_some() && self.kind != FileType::Directory {
            return Err(Errno::EACCES);
        }
        let mut attr = self.attr.lock();
        attr.ctime = Timespec::now();
        let mut acl = acl;
        if kind == AclKind::Access
            && let Some(list) = &acl
        {
            attr.mode = with_permissions(attr.mode, list.mode());
            acl = acl.filter(|list| !list.is_minimal());
        }
        attr.acls[kind as usize] = acl.map(Arc::new);
        Ok(())
    }

    /// Moves what a directory holds to `out`: the end of the instance.
    pub(super) fn empty_into(&self, out: &mut Vec<Arc<TmpInode>>) {
        if let Body::Directory(names) = &self.body {
            let mut children = names.lock().drain();
            out.append(&mut children);
        }
    }

    fn names(&self) -> Result<&SpinLock<Names>> {
        match &self.body {
            Body::Directory(names) => Ok(names),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn content(&self) -> Result<&RwLock<Content>> {
        match &self.body {
            Body::Regular(content) => Ok(content),
            Body::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }

    /// A directory's names changed.
    fn names_changed(&self) {
        let now = Timespec::now();
        let mut attr = self.attr.lock();
        attr.mtime = now;
        attr.ctime = now;
    }

    fn add_links(&self, change: i32) {
        let mut attr = self.attr.lock();
        attr.nlink = attr.nlink.saturating_add_signed(change);
        attr.ctime = Timespec::now();
    }

    /// `F_GET_SEALS`; `EINVAL` for what is no regular file.
    pub fn seals(&self) -> Result<u32> {
        self.content()?;
        Ok(self.attr.lock().seals)
    }

    /// `F_ADD_SEALS`. `EPERM` when sealed against seals, `EBUSY` for a seal against writing while a mapping may write.
    pub fn add_seals(&self, seals: u32) -> Result<()> {
        // Under the contents' lock, so that no write is under way.
        let _content = self.content()?.write();
        let mut attr = self.attr.lock();
        if attr.seals & SEAL_SEAL != 0 {
            return Err(Errno::EPERM);
        }
        if seals & SEAL_WRITE != 0 && crate::mm::writers::writable_mappings(self) != 0 {
            return Err(Errno::EBUSY);
        }
        attr.seals |= seals;
        Ok(())
    }

    /// The file may be sealed (`MFD_ALLOW_SEALING`).
    pub(super) fn allow_seals(&self) {
        self.attr.lock().seals = 0;
    }

    fn check_resize(&self, from: u64, to: u64) -> Result<()> {
        let seals = self.attr.lock().seals;
        let forbidden = (to < from && seals & SEAL_SHRINK != 0) || (to > from && seals & SEAL_GROW != 0);
        if forbidden { Err(Errno::EPERM) } else { Ok(()) }
    }

    fn same_fs(inode: &Arc<dyn Inode>) -> Result<Arc<TmpInode>> {
        inode.clone().as_any_arc().downcast().map_err(|_| Errno::EXDEV)
    }

    /// Takes `victim`, whose name in this directory is gone, off its link count.
    fn unlinked(&self, victim: &TmpInode) {
        if victim.kind == FileType::Directory {
            victim.add_links(-2);
            self.add_links(-1);
        } else {
            victim.add_links(-1);
        }
        self.names_changed();
    }

    /// Whether `victim` may lose its name; an empty directory is closed for new ones by this.
    fn retire(victim: &TmpInode) -> Result<()> {
        if let Body::Directory(names) = &victim.body {
            let mut names = names.lock();
            if !names.is_empty() {
                return Err(Errno::ENOTEMPTY);
            }
            names.dead = true;
        }
        Ok(())
    }

    fn set_parent(&self, parent: &TmpInode) {
        if let Body::Directory(names) = &self.body {
            names.lock().parent = parent.this.clone();
        }
    }

    fn exchange(&self, old: &[u8], dir: &TmpInode, new: &[u8]) -> Result<()> {
        let find = |at: &TmpInode, name: &[u8]| at.names()?.lock().get(name).cloned().ok_or(Errno::ENOENT);
        let one = find(self, old)?;
        let two = find(dir, new)?;
        let displaced = self.names()?.lock().replace(old, two.clone());
        drop(displaced);
        let displaced = dir.names()?.lock().replace(new, one.clone());
        drop(displaced);
        if !core::ptr::eq(self, dir) {
            for (moved, from, to) in [(&one, self, dir), (&two, dir, self)] {
                if moved.kind == FileType::Directory {
                    moved.set_parent(to);
                    from.add_links(-1);
                    to.add_links(1);
                }
            }
        }
        one.add_links(0);
        two.add_links(0);
        self.names_changed();
        dir.names_changed();
        Ok(())
    }
}

impl Drop for TmpInode {
    fn drop(&mut self) {
        if let Body::Regular(content) = &mut self.body {
            content.get_mut().release(&self.fs);
        }
        self.fs.uncharge_inode();
    }
}

impl Inode for TmpInode {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_arc(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn state(&self) -> &InodeState {
        &self.state
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn ino(&self) -> u64 {
        self.ino
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn metadata(&self) -> Result<Metadata> {
        let (size, pages) = match &self.body {
            Body::Regular(content) => {
                let content = content.read();
                (content.size(), content.pages())
            }
            Body::Directory(names) => (names.lock().len() as u64 * NAME_SIZE + 2 * NAME_SIZE, 0),
            Body::Symlink(text) => (text.len() as u64, 0),
            Body::Special => (0, 0),
        };
        let mut meta = self.walk_metadata()?;
        meta.size = size;
        meta.blocks = pages * (PAGE / 512);
        Ok(meta)
    }

    fn walk_metadata(&self) -> Result<Metadata> {
        let attr = self.attr.lock();
        Ok(Metadata {
            dev: self.fs.dev,
            ino: self.ino,
            kind: self.kind,
            mode: attr.mode,
            nlink: attr.nlink,
            uid: attr.uid,
            gid: attr.gid,
            rdev: self.rdev,
            size: 0,
            blksize: PAGE as u32,
            blocks: 0,
            atime: attr.atime,
            mtime: attr.mtime,
            ctime: attr.ctime,
            btime: Some(attr.btime),
        })
    }

    fn touch_atime(&self, policy: AtimePolicy) {
        let now = Timespec::now();
        let mut attr = self.attr.lock();
        let day_old = now.sec.saturating_sub(attr.atime.sec) >= 24 * 60 * 60;
        if policy == AtimePolicy::Strict || attr.atime <= attr.mtime || attr.atime <= attr.ctime || day_old {
            attr.atime = now;
        }
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        let now = Timespec::now();
        let mut resized = false;
        if let Some(size) = change.size {
            let mut content = self.content()?.write();
            self.check_resize(content.size(), size)?;
            resized = content.size() != size;
            content.resize(&self.fs, size)?;
        }
        let mut attr = self.attr.lock();
        if let Some(mode) = change.mode {
            let exec = Mode::from_bits_truncate(0o111);
            if attr.seals & SEAL_EXEC != 0 && (attr.mode & exec) != (mode & exec) {
                return Err(Errno::EPERM);
            }
            attr.mode = mode;
            if let Some(list) = &mut attr.acls[AclKind::Access as usize] {
                Arc::make_mut(list).follow(mode);
            }
        }
        attr.uid = change.uid.unwrap_or(attr.uid);
        attr.gid = change.gid.unwrap_or(attr.gid);
        if resized || change.size.is_some() {
            attr.mtime = now;
        }
        attr.atime = change.atime.unwrap_or(attr.atime);
        attr.mtime = change.mtime.unwrap_or(attr.mtime);
        attr.ctime = now;
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let names = self.names()?.lock();
        names
            .get(name)
            .map(|inode| inode.clone() as Arc<dyn Inode>)
            .ok_or(Errno::ENOENT)
    }

    fn create(&self, name: &[u8], node: NewNode<'_>, attr: NewAttr) -> Result<Arc<dyn Inode>> {
        let names = self.names()?;
        if names.lock().get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        self.fs.charge_inode()?;
        let kind = node.kind();
        let nlink = if kind == FileType::Directory { 2 } else { 1 };
        let (rdev, body) = match node {
            NewNode::Regular => (DevT::default(), Self::regular_body()),
            NewNode::Directory => (DevT::default(), Self::directory_body(self.this.clone())),
            NewNode::Symlink(text) => (DevT::default(), Body::Symlink(text.into())),
            NewNode::CharDevice(dev) | NewNode::BlockDevice(dev) => (dev, Body::Special),
            NewNode::Fifo | NewNode::Socket => (DevT::default(), Body::Special),
        };
        let inode = Self::make(&self.fs, kind, rdev, body, attr, nlink);
        self.hand_down_acls(&inode);
        names.lock().insert(name, inode.clone())?;
        if kind == FileType::Directory {
            self.add_links(1);
        }
        self.names_changed();
        Ok(inode)
    }

    fn create_unnamed(&self, attr: NewAttr) -> Result<Arc<dyn Inode>> {
        let inode = Self::unnamed(&self.fs, attr)?;
        self.hand_down_acls(&inode);
        Ok(inode)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        let target = Self::same_fs(target)?;
        let mut names = self.names()?.lock();
        if names.get(name).is_some() {
            return Err(Errno::EEXIST);
        }
        names.insert(name, target.clone())?;
        drop(names);
        target.add_links(1);
        self.names_changed();
        Ok(())
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        let removed = {
            let mut names = self.names()?.lock();
            if names.get(name).ok_or(Errno::ENOENT)?.kind == FileType::Directory {
                return Err(Errno::EISDIR);
            }
            names.remove(name)
        };
        if let Some(victim) = removed {
            self.unlinked(&victim);
        }
        Ok(())
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        let victim = self.names()?.lock().get(name).cloned().ok_or(Errno::ENOENT)?;
        victim.names()?;
        Self::retire(&victim)?;
        let removed = self.names()?.lock().remove(name);
        self.unlinked(&victim);
        drop(removed);
        Ok(())
    }

    fn rename(&self, old: &[u8], dir: &Arc<dyn Inode>, new: &[u8], flags: RenameFlags) -> Result<()> {
        let dir = Self::same_fs(dir)?;
        if flags.contains(RenameFlags::EXCHANGE) {
            return self.exchange(old, &dir, new);
        }
        let source = self.names()?.lock().get(old).cloned().ok_or(Errno::ENOENT)?;
        let target = dir.names()?.lock().get(new).cloned();
        let whiteout = match flags.contains(RenameFlags::WHITEOUT) {
            true => {
                self.fs.charge_inode()?;
                let (uid, gid) = (self.attr.lock().uid, self.attr.lock().gid);
                let attr = NewAttr {
                    mode: Mode::empty(),
                    uid,
                    gid,
                };
                Some(Self::make(
                    &self.fs,
                    FileType::CharDevice,
                    DevT::new(0, 0),
                    Body::Special,
                    attr,
                    1,
                ))
            }
            false => None,
        };
        if let Some(target) = &target {
            Self::retire(target)?;
            let replaced = dir.names()?.lock().replace(new, source.clone());
            dir.unlinked(target);
            drop(replaced);
        } else {
            dir.names()?.lock().insert(new, source.clone())?;
        }
        let removed = match whiteout {
            Some(whiteout) => self.names()?.lock().replace(old, whiteout),
            None => self.names()?.lock().remove(old),
        };
        drop(removed);
        if source.kind == FileType::Directory && !core::ptr::eq(self, &*dir) {
            source.set_parent(&dir);
            self.add_links(-1);
            dir.add_links(1);
        }
        source.add_links(0);
        self.names_changed();
        dir.names_changed();
        Ok(())
    }

    fn read_link(&self) -> Result<Link> {
        match &self.body {
            Body::Symlink(text) => Ok(Link::Text(text.to_vec())),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        match &self.body {
            Body::Regular(_) | Body::Directory(_) => Ok(self),
            _ => Err(Errno::ENXIO),
        }
    }

    fn acl(&self, kind: AclKind) -> Result<Option<Arc<Acl>>> {
        Ok(self.attr.lock().acls[kind as usize].clone())
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        if let Some(kind) = AclKind::of_name(name) {
            let acl = self.acl(kind)?;
            return acl.map(|acl| acl.to_user()).ok_or(Errno::ENODATA);
        }
        self.xattrs.lock().get(name).cloned().ok_or(Errno::ENODATA)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        if let Some(kind) = AclKind::of_name(name) {
            return self.set_acl(kind, Acl::from_user(value)?);
        }
        let known = [&b"user."[..], b"trusted.", b"security."]
            .iter()
            .any(|prefix| name.starts_with(prefix));
        if !known {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut xattrs = self.xattrs.lock();
        let exists = xattrs.contains_key(name);
        if exists && flags.contains(XattrFlags::CREATE) {
            return Err(Errno::EEXIST);
        }
        if !exists && flags.contains(XattrFlags::REPLACE) {
            return Err(Errno::ENODATA);
        }
        let others: usize = xattrs
            .iter()
            .filter(|(other, _)| *other != name)
            .map(|(name, value)| name.len() + value.len())
            .sum();
        if others + name.len() + value.len() > XATTR_MAX {
            return Err(Errno::ENOSPC);
        }
        xattrs.insert(name.to_vec(), value.to_vec());
        drop(xattrs);
        self.add_links(0);
        Ok(())
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        let mut names: Vec<Vec<u8>> = self.xattrs.lock().keys().cloned().collect();
        let attr = self.attr.lock();
        let lists = AclKind::ALL
            .into_iter()
            .filter(|kind| attr.acls[*kind as usize].is_some());
        names.extend(lists.map(|kind| kind.name().to_vec()));
        Ok(names)
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        if let Some(kind) = AclKind::of_name(name) {
            return self.set_acl(kind, None);
        }
        let removed = self.xattrs.lock().remove(name);
        removed.ok_or(Errno::ENODATA)?;
        self.add_links(0);
        Ok(())
    }
}

impl FileOps for TmpInode {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &File, pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        self.content()?.read().read(pos, dst)
    }

    fn write_at(&self, _file: &File, pos: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let mut content = self.content()?.write();
        let pos = match pos {
            WriteAt::Offset(pos) => pos,
            WriteAt::End => content.size(),
        };
        let seals = self.attr.lock().seals;
        if seals & (SEAL_WRITE | SEAL_FUTURE_WRITE) != 0 {
            return Err(Errno::EPERM);
        }
        let grows = pos.saturating_add(src.remaining() as u64) > content.size();
        if grows && seals & SEAL_GROW != 0 {
            return Err(Errno::EPERM);
        }
        let count = content.write(&self.fs, pos, src)?;
        drop(content);
        if count > 0 {
            self.names_changed();
        }
        Ok(Written {
            count,
            end: pos + count as u64,
        })
    }

    fn read_dir(&self, _file: &File, pos: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        let names = self.names()?;
        let directory = Some(FileType::Directory);
        if pos == 0
            && !emit(DirEntry {
                name: b".",
                ino: self.ino,
                kind: directory,
                next: 1,
            })
        {
            return Ok(());
        }
        if pos <= 1 {
            let parent = names.lock().parent.upgrade();
            let ino = parent.map_or(self.ino, |parent| parent.ino);
            if !emit(DirEntry {
                name: b"..",
                ino,
                kind: directory,
                next: FIRST,
            }) {
                return Ok(());
            }
        }
        let mut at = pos.max(FIRST);
        loop {
            let batch = names.lock().list(at, LIST_BATCH);
            if batch.is_empty() {
                return Ok(());
            }
            for (position, name, inode) in batch {
                let entry = DirEntry {
                    name: &name,
                    ino: inode.ino,
                    kind: Some(inode.kind),
                    next: position + 1,
                };
                if !emit(entry) {
                    return Ok(());
                }
                at = position + 1;
            }
        }
    }

    fn seek(&self, pos: u64, target: SeekTarget) -> Result<u64> {
        self.content()?.read().seek(pos, target)
    }

    fn map(&self, _file: &File, writable: Access) -> Result<MapBacking> {
        let mut content = self.content().map_err(|_| Errno::ENODEV)?.write();
        let sealed = self.attr.lock().seals & (SEAL_WRITE | SEAL_FUTURE_WRITE) != 0;
        if sealed && writable.contains(Access::WRITE) {
            return Err(Errno::EPERM);
        }
        Ok(MapBacking::Host {
            fd: content.host_memory(&self.fs)?,
            base: 0,
        })
    }

    fn sync(&self, _file: &File) -> Result<()> {
        Ok(())
    }

    fn fallocate(&self, _file: &File, mode: u32, offset: u64, len: u64) -> Result<()> {
        const KEEP_SIZE: u32 = 1;
        const PUNCH_HOLE: u32 = 2;
        if mode & !(KEEP_SIZE | PUNCH_HOLE) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut content = self.content().map_err(|_| Errno::ENODEV)?.write();
        let end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
        let seals = self.attr.lock().seals;
        if mode & PUNCH_HOLE != 0 {
            if seals & (SEAL_WRITE | SEAL_FUTURE_WRITE) != 0 {
                return Err(Errno::EPERM);
            }
            content.punch(&self.fs, offset, end)?;
        } else {
            let grows = mode & KEEP_SIZE == 0 && end > content.size();
            if grows && seals & SEAL_GROW != 0 {
                return Err(Errno::EPERM);
            }
            if grows {
                // First the size, then the pages: a memfd has pages only below it.
                let old = content.size();
                content.resize(&self.fs, end)?;
                if let Err(error) = content.allocate(&self.fs, offset, end) {
                    content.resize(&self.fs, old)?;
                    return Err(error);
                }
            } else {
                content.allocate(&self.fs, offset, end)?;
            }
        }
        drop(content);
        self.names_changed();
        Ok(())
    }
}
