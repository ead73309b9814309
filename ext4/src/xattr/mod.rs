//! Extended attributes (ext4 disk layout, "Extended Attributes"): behind the fields of the inode, and in one block that inodes may share.
//!
//! * [`set`]: the attributes of one place as a list.  * [`block`]: the shared block.  * [`acl`]: access control lists, which are stored in a form of
//!   their own.  * [`inline`]: small contents kept as an attribute.  * [`large`]: values in inodes of their own.

pub(crate) mod acl;
pub(crate) mod block;
pub(crate) mod inline;
mod large;
pub(crate) mod set;

use alloc::vec::Vec;

use kernel::vfs::Timespec;
use kernel::vfs::inode::XattrFlags;

use self::large::Refer;
use self::set::{Attribute, Set, Value};
use crate::inode::Inode;
use crate::layout::features::Compat;
use crate::transaction::Tx;
use crate::{Errno, Result};

/// The namespaces by their numbers on the disk; the ACLs are whole names.
const PREFIXES: [(u8, &[u8]); 7] = [
    (1, b"user."),
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
    (8, b"system.richacl"),
    (7, b"system."),
];
/// `system.data`: contents of the file itself.
pub(crate) const SYSTEM: u8 = 7;
pub(crate) const ACL_ACCESS: u8 = 2;
pub(crate) const ACL_DEFAULT: u8 = 3;
/// Blocks that changing an attribute can change, beside the value in an inode of its own.
const SET_CREDITS: u32 = 24;

/// The number and rest of a name. `EOPNOTSUPP` for an unknown namespace.
fn split(name: &[u8]) -> Result<(u8, &[u8])> {
    let (index, rest) = PREFIXES
        .iter()
        .find_map(|(index, prefix)| name.strip_prefix(*prefix).map(|rest| (*index, rest)))
        .ok_or(Errno::EOPNOTSUPP)?;
    let is_whole = matches!(index, ACL_ACCESS | ACL_DEFAULT | 8);
    if is_whole != rest.is_empty() {
        return Err(if is_whole { Errno::EOPNOTSUPP } else { Errno::EINVAL });
    }
    if index == SYSTEM {
        return Err(Errno::EOPNOTSUPP);
    }
    Ok((index, rest))
}

impl Inode {
    /// All attributes: first those in the inode, then those in the block.
    pub(crate) fn attributes(&self) -> Result<(Set, Set)> {
        let raw = self.fs.raw_inode(self.number())?;
        let inner = match set::inode_area(&raw) {
            Some(area) => Set::parse_inode(area).ok_or_else(|| self.bad_attributes())?,
            None => Set::default(),
        };
        let block = self.core.lock().xattr_block;
        let outer = if block == 0 {
            Set::default()
        } else {
            block::read(self, block)?.1
        };
        Ok((inner, outer))
    }

    #[track_caller]
    pub(crate) fn bad_attributes(&self) -> Errno {
        self.error(format_args!("corrupted xattr entries"))
    }

    /// The bytes of a value, wherever they are.
    pub(crate) fn value(&self, attribute: &Attribute) -> Result<Vec<u8>> {
        match &attribute.value {
            Value::Here(bytes) => Ok(bytes.clone()),
            Value::Inode { ino, len, .. } => self.large_value(*ino, *len),
        }
    }

    fn allowed(&self, index: u8) -> Result<()> {
        let options = self.fs.options.lock();
        let off = match index {
            1 => !options.user_xattr,
            ACL_ACCESS | ACL_DEFAULT => !options.acl || self.kind == kernel::vfs::FileType::Symlink,
            _ => false,
        };
        if off
            || !self.fs.geometry.compat.contains(Compat::EXT_ATTR)
                && !self.fs.geometry.has_csum()
                && self.fs.geometry.rev == 0
        {
            return Err(Errno::EOPNOTSUPP);
        }
        Ok(())
    }

    pub(crate) fn attribute(&self, name: &[u8]) -> Result<Vec<u8>> {
        let (index, rest) = split(name)?;
        self.allowed(index)?;
        if let Some(kind) = acl::kind(index) {
            return self.access_list(kind)?.map(|acl| acl.to_user()).ok_or(Errno::ENODATA);
        }
        let (inner, outer) = self.attributes()?;
        let found = inner
            .find(index, rest)
            .or_else(|| outer.find(index, rest))
            .ok_or(Errno::ENODATA)?;
        let value = self.value(found)?;
        Ok(value)
    }

    pub(crate) fn attribute_names(&self) -> Result<Vec<Vec<u8>>> {
        let (inner, outer) = self.attributes()?;
        let mut names = Vec::new();
        for attribute in inner.list.iter().chain(&outer.list) {
            if attribute.index == SYSTEM || self.allowed(attribute.index).is_err() {
                continue;
            }
            if let Some((_, prefix)) = PREFIXES.iter().find(|(index, _)| *index == attribute.index) {
                names.push([prefix, attribute.name.as_slice()].concat());
            }
        }
        Ok(names)
    }

    /// Sets (or, without a value, removes) an attribute by its full name.
    pub(crate) fn set_attribute(&self, name: &[u8], value: Option<&[u8]>, flags: XattrFlags) -> Result<()> {
        if !self.fs.is_writable() {
            return Err(Errno::EROFS);
        }
        let (index, rest) = split(name)?;
        self.allowed(index)?;
        if self
            .core
            .lock()
            .flags
            .intersects(crate::layout::inode::Flags::IMMUTABLE | crate::layout::inode::Flags::APPEND)
        {
            return Err(Errno::EPERM);
        }
        self.fs.retry(|| {
            let large = self.large_credits(value.map_or(0, <[u8]>::len));
            let mut tx = Tx::begin(&self.fs, SET_CREDITS + large)?;
            if let Some(kind) = acl::kind(index) {
                acl::set(&mut tx, self, kind, value)?;
            } else {
                self.put(&mut tx, index, rest, value, flags)?;
            }
            self.core.lock().ctime = Timespec::now();
            tx.write_inode(self)
        })
    }

    /// The same by number, inside a transaction. The caller stores the inode.
    pub(crate) fn put(
        &self,
        tx: &mut Tx<'_>,
        index: u8,
        name: &[u8],
        value: Option<&[u8]>,
        flags: XattrFlags,
    ) -> Result<()> {
        let (mut inner, mut outer) = self.attributes()?;
        let exists = inner.find(index, name).or_else(|| outer.find(index, name));
        if exists.is_some() && flags.contains(XattrFlags::CREATE) {
            return Err(Errno::EEXIST);
        }
        if exists.is_none() && (value.is_none() || flags.contains(XattrFlags::REPLACE)) {
            return Err(Errno::ENODATA);
        }
        let replaced = match exists.map(|attribute| &attribute.value) {
            Some(Value::Inode { ino, len, .. }) => Some((*ino, *len)),
            _ => None,
        };
        let was_inner = inner.remove(index, name);
        let was_outer = outer.remove(index, name);
        let room = set::inode_room(&self.fs.geometry, self.core.lock().extra_isize);
        let mut changes_inner = was_inner;
        let mut changes_outer = was_outer;
        if let Some(value) = value {
            let mut attribute = Attribute {
                index,
                name: name.to_vec(),
                value: Value::Here(value.to_vec()),
            };
            let growth = self.inline_growth(&inner);
            let fits_inner =
                |inner: &Set, attribute: &Attribute| room > 0 && inner.size() + growth + attribute.size() <= room;
            let fits_outer = |outer: &Set, attribute: &Attribute| {
                outer.size() + attribute.size() + block::HEAD <= self.fs.geometry.block_size as usize
            };
            if !fits_inner(&inner, &attribute) && !fits_outer(&outer, &attribute) {
                attribute.value = self.make_large(tx, value)?;
            }
            if fits_inner(&inner, &attribute) {
                self.charge_for(&attribute);
                inner.list.push(attribute);
                changes_inner = true;
            } else if fits_outer(&outer, &attribute) {
                self.charge_for(&attribute);
                outer.insert(attribute);
                changes_outer = true;
            } else {
                if let Value::Inode { ino, .. } = attribute.value {
                    self.refer(tx, ino, Refer::Less)?;
                }
                return Err(Errno::ENOSPC);
            }
        }
        if changes_outer {
            block::replace(tx, self, &outer)?;
        }
        if changes_inner {
            tx.change_inode(self, |raw| set::store_inode(raw, &inner))?;
        }
        if acl::kind(index).is_some() {
            self.lists_changed();
        }
        match replaced {
            Some((ino, len)) => {
                self.charge(len, Refer::Less);
                self.refer(tx, ino, Refer::Less)
            }
            None => Ok(()),
        }
    }
}
