//! Access control lists (`acl(5)`): stored without the numbers that most entries do not need; mode bits and list are kept alike.

use alloc::vec::Vec;

use kernel::vfs::FileType;
use kernel::vfs::inode::XattrFlags;

use super::{ACL_ACCESS, ACL_DEFAULT};
use crate::inode::Inode;
use crate::layout::{get16, get32};
use crate::transaction::Tx;
use crate::{Errno, Result};

/// Version of the form on the disk and of that of `getxattr(2)`.
const DISK: u32 = 1;
const USER: u32 = 2;

const USER_OBJ: u16 = 0x01;
const NAMED_USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const NAMED_GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    tag: u16,
    perm: u16,
    id: u32,
}

impl Entry {
    fn is_named(&self) -> bool {
        matches!(self.tag, NAMED_USER | NAMED_GROUP)
    }
}

fn parse_disk(bytes: &[u8]) -> Option<Vec<Entry>> {
    if bytes.len() < 4 || get32(bytes, 0) != DISK {
        return None;
    }
    let mut entries = Vec::new();
    let mut at = 4;
    while at < bytes.len() {
        let mut entry = Entry {
            tag: get16(bytes, at),
            perm: get16(bytes, at + 2),
            id: u32::MAX,
        };
        let len = if entry.is_named() { 8 } else { 4 };
        if at + len > bytes.len() {
            return None;
        }
        if entry.is_named() {
            entry.id = get32(bytes, at + 4);
        }
        at += len;
        entries.push(entry);
    }
    Some(entries)
}

fn to_disk(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = DISK.to_le_bytes().to_vec();
    for entry in entries {
        bytes.extend_from_slice(&entry.tag.to_le_bytes());
        bytes.extend_from_slice(&entry.perm.to_le_bytes());
        if entry.is_named() {
            bytes.extend_from_slice(&entry.id.to_le_bytes());
        }
    }
    bytes
}

/// The list as `getxattr(2)` gives it. None when the stored one is not well formed.
pub(crate) fn to_user(stored: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = USER.to_le_bytes().to_vec();
    for entry in parse_disk(stored)? {
        bytes.extend_from_slice(&entry.tag.to_le_bytes());
        bytes.extend_from_slice(&entry.perm.to_le_bytes());
        bytes.extend_from_slice(&entry.id.to_le_bytes());
    }
    Some(bytes)
}

/// Reads the form of `setxattr(2)`: tags in order, the four basic ones at most once, a mask where there are named entries. `EINVAL`.
fn parse_user(bytes: &[u8]) -> Result<Vec<Entry>> {
    if bytes.len() < 4 || !(bytes.len() - 4).is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    if get32(bytes, 0) != USER {
        return Err(Errno::EOPNOTSUPP);
    }
    let entries: Vec<Entry> = bytes[4..]
        .chunks_exact(8)
        .map(|raw| Entry {
            tag: get16(raw, 0),
            perm: get16(raw, 2),
            id: get32(raw, 4),
        })
        .collect();
    let known = entries.iter().all(|entry| {
        matches!(
            entry.tag,
            USER_OBJ | NAMED_USER | GROUP_OBJ | NAMED_GROUP | MASK | OTHER
        ) && entry.perm & !7 == 0
    });
    let ordered = entries
        .windows(2)
        .all(|pair| pair[0].tag < pair[1].tag || (pair[0].tag == pair[1].tag && pair[0].is_named()));
    let has = |tag| entries.iter().any(|entry| entry.tag == tag);
    let named = entries.iter().any(Entry::is_named);
    if entries.is_empty() {
        return Ok(entries);
    }
    if known && ordered && has(USER_OBJ) && has(GROUP_OBJ) && has(OTHER) && (!named || has(MASK)) {
        Ok(entries)
    } else {
        Err(Errno::EINVAL)
    }
}

/// Sets or removes a list; the access list's basic entries become the mode.
pub(crate) fn set(tx: &mut Tx<'_>, inode: &Inode, index: u8, value: Option<&[u8]>) -> Result<()> {
    if index == ACL_DEFAULT && inode.kind != FileType::Directory {
        return Err(if value.is_some() { Errno::EACCES } else { Errno::ENODATA });
    }
    let entries = value.map(parse_user).transpose()?.unwrap_or_default();
    let mut stored = (!entries.is_empty()).then(|| to_disk(&entries));
    if index == ACL_ACCESS && !entries.is_empty() {
        let perm = |tag| {
            entries
                .iter()
                .find(|entry| entry.tag == tag)
                .map(|entry| entry.perm & 7)
        };
        let group = perm(MASK).or(perm(GROUP_OBJ)).unwrap_or(0);
        let bits = perm(USER_OBJ).unwrap_or(0) << 6 | group << 3 | perm(OTHER).unwrap_or(0);
        {
            let mut core = inode.core.lock();
            core.mode = core.mode & !0o777 | bits;
        }
        // What the mode says whole needs no list.
        if entries.len() == 3 {
            stored = None;
        }
    }
    match inode.put(tx, index, b"", stored.as_deref(), XattrFlags::empty()) {
        Err(Errno::ENODATA) if stored.is_none() => Ok(()),
        other => other,
    }
}

/// A new inode in a directory with a default list: a directory inherits it, everything but a symlink gets it as access list, cut by the mode
/// (from which the VFS has taken the umask).
pub(crate) fn inherit(tx: &mut Tx<'_>, dir: &Inode, inode: &Inode) -> Result<()> {
    if inode.kind == FileType::Symlink || !dir.fs.options.lock().acl {
        return Ok(());
    }
    let (inner, outer) = dir.attributes()?;
    let Some(found) = inner.find(ACL_DEFAULT, b"").or_else(|| outer.find(ACL_DEFAULT, b"")) else {
        return Ok(());
    };
    let stored = dir.value(found)?;
    let Some(mut entries) = parse_disk(&stored) else {
        return Err(dir.bad_attributes());
    };
    if inode.kind == FileType::Directory {
        inode.put(tx, ACL_DEFAULT, b"", Some(&stored), XattrFlags::empty())?;
    }
    let mode = inode.core.lock().mode;
    let group_tag = if entries.iter().any(|entry| entry.tag == MASK) {
        MASK
    } else {
        GROUP_OBJ
    };
    let mut bits = 0;
    for entry in &mut entries {
        let shift = match entry.tag {
            USER_OBJ => 6,
            OTHER => 0,
            tag if tag == group_tag => 3,
            _ => continue,
        };
        entry.perm &= mode >> shift & 7;
        bits |= entry.perm << shift;
    }
    {
        let mut core = inode.core.lock();
        core.mode = core.mode & !0o777 | bits;
    }
    if entries.len() > 3 {
        inode.put(tx, ACL_ACCESS, b"", Some(&to_disk(&entries)), XattrFlags::empty())?;
    }
    Ok(())
}

/// After `chmod(2)`: the access list, if there is one, follows the mode.
pub(crate) fn mode_changed(tx: &mut Tx<'_>, inode: &Inode) -> Result<()> {
    let (inner, outer) = inode.attributes()?;
    let Some(found) = inner.find(ACL_ACCESS, b"").or_else(|| outer.find(ACL_ACCESS, b"")) else {
        return Ok(());
    };
    let Some(mut entries) = parse_disk(&inode.value(found)?) else {
        return Err(inode.bad_attributes());
    };
    let mode = inode.core.lock().mode;
    let group_tag = if entries.iter().any(|entry| entry.tag == MASK) {
        MASK
    } else {
        GROUP_OBJ
    };
    for entry in &mut entries {
        match entry.tag {
            USER_OBJ => entry.perm = mode >> 6 & 7,
            OTHER => entry.perm = mode & 7,
            tag if tag == group_tag => entry.perm = mode >> 3 & 7,
            _ => {}
        }
    }
    inode.put(tx, ACL_ACCESS, b"", Some(&to_disk(&entries)), XattrFlags::empty())
}
