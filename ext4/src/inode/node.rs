//! The VFS's view of a file.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;

use kernel::vfs::acl::{Acl, AclKind};
use kernel::vfs::file::FileOps;
use kernel::vfs::inode::{AtimePolicy, Link, NewAttr, NewNode, RenameFlags, XattrFlags};
use kernel::vfs::{FileSystem, FileType, InodeState, Metadata, OpenFlags, SetAttr};

use super::Inode;
use crate::dir::list::Ext4Dir;
use crate::file::Ext4File;
use crate::layout::inode::Flags;
use crate::{Errno, Result};

impl Inode {
    fn require_dir(&self) -> Result<()> {
        if !self.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        if self.has(Flags::ENCRYPT) {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(())
    }

    fn own(inode: &Arc<dyn kernel::vfs::Inode>) -> Result<Arc<Inode>> {
        inode.clone().as_any_arc().downcast().map_err(|_| Errno::EXDEV)
    }
}

impl kernel::vfs::Inode for Inode {
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
        u64::from(self.number())
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(self.stat())
    }

    fn touch_atime(&self, policy: AtimePolicy) {
        self.accessed(policy);
    }

    fn set_attr(&self, attr: &SetAttr) -> Result<()> {
        self.change(attr)
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn kernel::vfs::Inode>> {
        self.require_dir()?;
        Ok(self.find_name(name)?)
    }

    fn create(&self, name: &[u8], node: NewNode<'_>, attr: NewAttr) -> Result<Arc<dyn kernel::vfs::Inode>> {
        self.require_dir()?;
        Ok(self.make(name, node, attr)?)
    }

    fn create_unnamed(&self, attr: NewAttr) -> Result<Arc<dyn kernel::vfs::Inode>> {
        self.require_dir()?;
        Ok(self.make_unnamed(attr)?)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn kernel::vfs::Inode>) -> Result<()> {
        self.require_dir()?;
        self.link_name(name, &*Self::own(target)?)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.require_dir()?;
        self.unlink_name(name)
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.require_dir()?;
        self.remove_directory(name)
    }

    fn rename(&self, old: &[u8], dir: &Arc<dyn kernel::vfs::Inode>, new: &[u8], flags: RenameFlags) -> Result<()> {
        self.require_dir()?;
        let to = Self::own(dir)?;
        to.require_dir()?;
        self.rename_name(old, &to, new, flags)
    }

    fn read_link(&self) -> Result<Link> {
        if self.kind != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        Ok(Link::Text(self.link_text()?))
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        let writes = flags.access().contains(kernel::vfs::Access::WRITE) || flags.contains(OpenFlags::TRUNC);
        if writes {
            self.require_mutable()?;
            if self.has(Flags::APPEND) && (!flags.contains(OpenFlags::APPEND) || flags.contains(OpenFlags::TRUNC)) {
                return Err(Errno::EPERM);
            }
            if self.has(Flags::VERITY) {
                return Err(Errno::EPERM);
            }
        }
        match self.kind {
            FileType::Regular => Ok(Arc::new(Ext4File::new(self))),
            FileType::Directory => {
                self.require_dir()?;
                Ok(Arc::new(Ext4Dir { inode: self }))
            }
            _ => Err(Errno::ENXIO),
        }
    }

    fn acl(&self, kind: AclKind) -> Result<Option<Arc<Acl>>> {
        self.access_list(kind)
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.attribute(name)
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        self.set_attribute(name, Some(value), flags)
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        self.attribute_names()
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.set_attribute(name, None, XattrFlags::empty())
    }
}
