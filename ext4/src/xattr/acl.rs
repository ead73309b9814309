//! Access control lists: their form on the disk, without the numbers that most entries do not need, and what is known of them in memory.
//! What they mean is the VFS's ([`kernel::vfs::acl`]).
//!
//! Lock: [`Cache`] is short, never held over a read. A change that comes while a list is read is seen by its count.

use alloc::sync::Arc;
use alloc::vec::Vec;

use kernel::vfs::acl::{Acl, AclKind, Entry, Tag};
use kernel::vfs::inode::XattrFlags;
use kernel::vfs::{FileType, Mode};

use super::{ACL_ACCESS, ACL_DEFAULT};
use crate::inode::Inode;
use crate::layout::{get16, get32};
use crate::transaction::Tx;
use crate::{Errno, Result};

/// Version of the form on the disk.
const DISK: u32 = 1;

/// The lists of an inode in memory: read once, also where there are none.
#[derive(Default)]
pub(crate) struct Cache {
    known: [Option<Option<Arc<Acl>>>; 2],
    /// Changes so far.
    changes: u64,
}

/// The list that is stored as the attribute `index`.
pub(super) fn kind(index: u8) -> Option<AclKind> {
    match index {
        ACL_ACCESS => Some(AclKind::Access),
        ACL_DEFAULT => Some(AclKind::Default),
        _ => None,
    }
}

fn index(kind: AclKind) -> u8 {
    match kind {
        AclKind::Access => ACL_ACCESS,
        AclKind::Default => ACL_DEFAULT,
    }
}

fn parse(bytes: &[u8]) -> Option<Acl> {
    if bytes.len() < 4 || get32(bytes, 0) != DISK {
        return None;
    }
    let mut entries = Vec::new();
    let mut at = 4;
    while at < bytes.len() {
        if at + 4 > bytes.len() {
            return None;
        }
        let mut entry = Entry {
            tag: Tag::of_number(get16(bytes, at))?,
            perm: get16(bytes, at + 2),
            id: u32::MAX,
        };
        let len = if entry.tag.is_named() { 8 } else { 4 };
        if at + len > bytes.len() {
            return None;
        }
        if entry.tag.is_named() {
            entry.id = get32(bytes, at + 4);
        }
        at += len;
        entries.push(entry);
    }
    Some(Acl::new(entries))
}

fn to_disk(acl: &Acl) -> Vec<u8> {
    let mut bytes = DISK.to_le_bytes().to_vec();
    for entry in acl.entries() {
        bytes.extend_from_slice(&(entry.tag as u16).to_le_bytes());
        bytes.extend_from_slice(&entry.perm.to_le_bytes());
        if entry.tag.is_named() {
            bytes.extend_from_slice(&entry.id.to_le_bytes());
        }
    }
    bytes
}

impl Inode {
    /// The list `kind`, if there is one and lists count.
    pub(crate) fn access_list(&self, kind: AclKind) -> Result<Option<Arc<Acl>>> {
        if self.kind == FileType::Symlink || !self.fs.options.lock().acl {
            return Ok(None);
        }
        let changes = {
            let cache = self.acls.lock();
            if let Some(known) = &cache.known[kind as usize] {
                return Ok(known.clone());
            }
            cache.changes
        };
        let (inner, outer) = self.attributes()?;
        let found = inner.find(index(kind), b"").or_else(|| outer.find(index(kind), b""));
        let acl = match found {
            Some(found) => Some(Arc::new(
                parse(&self.value(found)?).ok_or_else(|| self.bad_attributes())?,
            )),
            None => None,
        };
        let mut cache = self.acls.lock();
        if cache.changes == changes {
            cache.known[kind as usize] = Some(acl.clone());
        }
        Ok(acl)
    }

    /// What is known of the lists is out of date.
    pub(super) fn lists_changed(&self) {
        let mut cache = self.acls.lock();
        cache.changes += 1;
        cache.known = Default::default();
    }

    fn set_permissions(&self, mode: Mode) {
        let mut core = self.core.lock();
        core.mode = core.mode & !0o777 | mode.bits() as u16 & 0o777;
    }

    fn mode_now(&self) -> Mode {
        Mode::from_bits_truncate(self.core.lock().mode.into())
    }

    /// Stores the list `kind`; none removes it, also where there is none.
    fn put_list(&self, tx: &mut Tx<'_>, kind: AclKind, acl: Option<&Acl>) -> Result<()> {
        let stored = acl.map(to_disk);
        match self.put(tx, index(kind), b"", stored.as_deref(), XattrFlags::empty()) {
            Err(Errno::ENODATA) if stored.is_none() => Ok(()),
            other => other,
        }
    }
}

/// Sets or removes a list, in the form of `setxattr(2)`; the access list's basic entries become the mode.
pub(crate) fn set(tx: &mut Tx<'_>, inode: &Inode, kind: AclKind, value: Option<&[u8]>) -> Result<()> {
    if kind == AclKind::Default && inode.kind != FileType::Directory {
        return Err(if value.is_some() { Errno::EACCES } else { Errno::ENODATA });
    }
    let mut acl = value.map(Acl::from_user).transpose()?.flatten();
    if kind == AclKind::Access
        && let Some(list) = &acl
    {
        inode.set_permissions(list.mode());
        // What the mode says whole needs no list.
        acl = acl.filter(|list| !list.is_minimal());
    }
    inode.put_list(tx, kind, acl.as_ref())
}

/// A new inode in a directory with a default list: a directory inherits it, everything but a symlink gets it as access list, cut by the mode.
pub(crate) fn inherit(tx: &mut Tx<'_>, dir: &Inode, inode: &Inode) -> Result<()> {
    if inode.kind == FileType::Symlink {
        return Ok(());
    }
    let Some(default) = dir.access_list(AclKind::Default)? else {
        return Ok(());
    };
    if inode.kind == FileType::Directory {
        inode.put_list(tx, AclKind::Default, Some(&default))?;
    }
    let access = default.inherited(inode.mode_now());
    inode.set_permissions(access.mode());
    if !access.is_minimal() {
        inode.put_list(tx, AclKind::Access, Some(&access))?;
    }
    Ok(())
}

/// After `chmod(2)`: the access list, if there is one, follows the mode.
pub(crate) fn mode_changed(tx: &mut Tx<'_>, inode: &Inode) -> Result<()> {
    let Some(acl) = inode.access_list(AclKind::Access)? else {
        return Ok(());
    };
    let mut acl = Acl::clone(&acl);
    acl.follow(inode.mode_now());
    inode.put_list(tx, AclKind::Access, Some(&acl))
}
