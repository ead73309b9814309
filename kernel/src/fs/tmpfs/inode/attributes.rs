//! Access control lists and extended attributes of tmpfs, which are in memory only.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::TmpInode;
use crate::vfs::acl::{Acl, AclKind};
use crate::vfs::inode::XattrFlags;
use crate::vfs::{FileType, Inode, Mode, Timespec};
use crate::{Errno, Result};

/// Most bytes of names and values of extended attributes on one inode.
const XATTR_MAX: usize = 128 * 1024;

/// `mode` with other permission bits.
fn with_permissions(mode: Mode, permissions: Mode) -> Mode {
    (mode - Mode::from_bits_truncate(0o777)) | permissions
}

impl TmpInode {
    /// A new file of this directory: a directory inherits the default list, everything but a symlink gets it as access list, cut by the mode.
    pub(super) fn hand_down_acls(&self, inode: &TmpInode) {
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

    pub(super) fn set_acl(&self, kind: AclKind, acl: Option<Acl>) -> Result<()> {
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

    /// `getxattr(2)`.
    pub(super) fn xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        if let Some(kind) = AclKind::of_name(name) {
            let acl = self.acl(kind)?;
            return acl.map(|acl| acl.to_user()).ok_or(Errno::ENODATA);
        }
        self.xattrs.lock().get(name).cloned().ok_or(Errno::ENODATA)
    }

    /// `setxattr(2)`.
    pub(super) fn change_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
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

    /// `listxattr(2)`.
    pub(super) fn xattr_names(&self) -> Vec<Vec<u8>> {
        let mut names: Vec<Vec<u8>> = self.xattrs.lock().keys().cloned().collect();
        let attr = self.attr.lock();
        let lists = AclKind::ALL
            .into_iter()
            .filter(|kind| attr.acls[*kind as usize].is_some());
        names.extend(lists.map(|kind| kind.name().to_vec()));
        names
    }

    /// `removexattr(2)`.
    pub(super) fn drop_xattr(&self, name: &[u8]) -> Result<()> {
        if let Some(kind) = AclKind::of_name(name) {
            return self.set_acl(kind, None);
        }
        let removed = self.xattrs.lock().remove(name);
        removed.ok_or(Errno::ENODATA)?;
        self.add_links(0);
        Ok(())
    }
}
