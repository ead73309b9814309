//! Inodes of pseudo file systems: a [`Node`] with an identity.

use alloc::sync::Arc;
use core::any::Any;

use super::dir_file::DirFile;
use super::instance::PseudoFs;
use super::{Attributes, Body, Node};
use crate::vfs::inode::{Link, NewAttr, NewNode};
use crate::vfs::{
    DevT, FileOps, FileSystem, FileType, Inode, InodeState, Metadata, Mode, OpenFlags, SetAttr, Timespec,
};
use crate::{Errno, Result};

/// A node that somebody holds.
pub struct PseudoInode {
    pub(super) fs: Arc<PseudoFs>,
    node: Node,
    born: Timespec,
    state: InodeState,
}

impl PseudoInode {
    pub(super) fn new(fs: Arc<PseudoFs>, node: Node) -> Arc<Self> {
        Arc::new(Self {
            fs,
            node,
            born: Timespec::now(),
            state: InodeState::default(),
        })
    }

    /// What it stands for.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Mode and owner now.
    fn attributes(&self) -> Attributes {
        if let Some(changed) = self.fs.changed_attributes(self.node.ino) {
            return changed;
        }
        let own = self.node.attributes;
        match &self.node.body {
            Body::Dir(dir) => dir.attributes().unwrap_or(own),
            Body::File(_) => own,
            Body::Link(link) => Attributes {
                mode: link.mode(),
                ..own
            },
        }
    }
}

impl Drop for PseudoInode {
    fn drop(&mut self) {
        self.fs.forget(self.node.ino, self.node.tag);
    }
}

impl Inode for PseudoInode {
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
        self.node.ino
    }

    fn kind(&self) -> FileType {
        self.node.body.kind()
    }

    fn metadata(&self) -> Result<Metadata> {
        let Attributes { mode, uid, gid } = self.attributes();
        let (nlink, size) = match &self.node.body {
            Body::Dir(dir) => (2 + dir.subdirectories(), 0),
            Body::File(file) => (1, file.size()),
            Body::Link(_) => (1, if self.fs.is_sysfs() { 0 } else { 64 }),
        };
        Ok(Metadata {
            dev: self.fs.dev(),
            ino: self.node.ino,
            kind: self.kind(),
            mode: Mode::from_bits_truncate(mode),
            nlink,
            uid,
            gid,
            rdev: DevT::default(),
            size,
            blksize: self.fs.block_size(),
            blocks: 0,
            atime: self.born,
            mtime: self.born,
            ctime: self.born,
            btime: None,
        })
    }

    /// Mode and owner of fixed entries may change (until the system ends); times and sizes are accepted and mean nothing.
    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        if change.mode.is_none() && change.uid.is_none() && change.gid.is_none() {
            return Ok(());
        }
        if self.node.tag != 0 || matches!(self.node.body, Body::Link(_)) {
            return Err(Errno::EPERM);
        }
        let Attributes { mode, uid, gid } = self.attributes();
        let mode = change.mode.map_or(mode, |mode| mode.bits());
        let changed = Attributes {
            mode,
            uid: change.uid.unwrap_or(uid),
            gid: change.gid.unwrap_or(gid),
        };
        self.fs.change_attributes(self.node.ino, changed);
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        match &self.node.body {
            Body::Dir(dir) => Ok(self.fs.intern(dir.lookup(name)?)),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn revalidate(&self, name: &[u8], inode: &Arc<dyn Inode>) -> bool {
        let Body::Dir(dir) = &self.node.body else { return false };
        let Some(known) = inode.as_any().downcast_ref::<PseudoInode>() else {
            return false;
        };
        dir.lookup(name)
            .is_ok_and(|node| (node.ino, node.tag) == (known.node.ino, known.node.tag))
    }

    /// Nobody makes files here. proc says that there is no such name to make, sysfs that it is not allowed.
    fn create(&self, _name: &[u8], _node: NewNode<'_>, _attr: NewAttr) -> Result<Arc<dyn Inode>> {
        Err(if self.fs.is_sysfs() {
            Errno::EPERM
        } else {
            Errno::ENOENT
        })
    }

    fn read_link(&self) -> Result<Link> {
        match &self.node.body {
            Body::Link(link) => link.follow(),
            _ => Err(Errno::EINVAL),
        }
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        match &self.node.body {
            Body::Dir(dir) => Ok(Arc::new(DirFile::new(dir.clone(), self.node.ino))),
            Body::File(file) => file.clone().open(flags),
            Body::Link(_) => Err(Errno::ELOOP),
        }
    }
}
