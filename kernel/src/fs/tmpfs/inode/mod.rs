//! Inodes of tmpfs: one type for all kinds, which is its own open file too.
//!
//! Here is the type, its making and what [`Inode`] asks of it; [`file`] is the open file, [`rename`] moves names, [`attributes`] are lists and extended
//! attributes, [`seals`] what `memfd_create(2)` can forbid.

mod attributes;
mod file;
mod rename;
mod seals;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;

use arch_um::sync::{RwLock, SpinLock, order};

use super::content::Content;
use super::directory::Names;
use super::options::Options;
use super::{PAGE, TmpFs};
use crate::vfs::acl::{Acl, AclKind};
use crate::vfs::inode::{AtimePolicy, Link, NewAttr, RenameFlags, XattrFlags};
use crate::vfs::{
    DevT, FileOps, FileSystem, FileType, Inode, InodeState, Metadata, Mode, NewNode, OpenFlags, SetAttr, Timespec,
};
use crate::{Errno, Result};

pub use seals::{SEAL_EXEC, SEAL_FUTURE_WRITE, SEAL_GROW, SEAL_SEAL, SEAL_SHRINK, SEAL_WRITE};

/// Bytes that a name adds to its directory's `st_size`, as on Linux.
const NAME_SIZE: u64 = 20;

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

    fn same_fs(inode: &Arc<dyn Inode>) -> Result<Arc<TmpInode>> {
        inode.clone().as_any_arc().downcast().map_err(|_| Errno::EXDEV)
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
        self.move_name(old, &*Self::same_fs(dir)?, new, flags)
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
        self.xattr(name)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        self.change_xattr(name, value, flags)
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        Ok(self.xattr_names())
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.drop_xattr(name)
    }
}
