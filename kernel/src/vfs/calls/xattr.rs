//! Extended attributes (`xattr(7)`): `getxattr(2)` and its relatives, namespaces, permission.

use alloc::vec::Vec;

use super::at;
use crate::syscall::Context;
use crate::task::{Capabilities, Cred};
use crate::user::{UserAddr, UserSlice};
use crate::vfs::acl::AclKind;
use crate::vfs::attr::SetAttr;
use crate::vfs::fd_table::Fd;
use crate::vfs::inode::XattrFlags;
use crate::vfs::permission::{self, May};
use crate::vfs::{FileType, Mode, Path};
use crate::{Errno, Result};

const NAME_MAX: usize = 255;
const SIZE_MAX: usize = 65536;

/// What a caller wants with an attribute.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Intent {
    Read,
    Write,
}

fn read_name(at: UserAddr) -> Result<Vec<u8>> {
    match at.read_cstr(NAME_MAX + 1) {
        Ok(name) if name.is_empty() => Err(Errno::ERANGE),
        Err(Errno::ENAMETOOLONG) => Err(Errno::ERANGE),
        other => other,
    }
}

/// Whether `cred` may do that with an attribute of this namespace.
fn check(place: &Path, name: &[u8], intent: Intent, cred: &Cred) -> Result<()> {
    let write = intent == Intent::Write;
    if write {
        place.mount.require_writable()?;
    }
    if name.starts_with(b"trusted.") {
        let denied = if write { Errno::EPERM } else { Errno::ENODATA };
        return if cred.capable(Capabilities::SYS_ADMIN) {
            Ok(())
        } else {
            Err(denied)
        };
    }
    if name.starts_with(b"security.") {
        let needed = if name == b"security.capability" {
            Capabilities::SETFCAP
        } else {
            Capabilities::SYS_ADMIN
        };
        return if !write || cred.capable(needed) {
            Ok(())
        } else {
            Err(Errno::EPERM)
        };
    }
    if name.starts_with(b"user.") {
        let kind = place.dentry.kind();
        if !matches!(kind, FileType::Regular | FileType::Directory) {
            return Err(if write { Errno::EPERM } else { Errno::ENODATA });
        }
        if write && kind == FileType::Directory {
            let meta = place.dentry.inode().metadata()?;
            if meta.mode.contains(Mode::STICKY) && !permission::is_owner(cred, &meta) {
                return Err(Errno::EPERM);
            }
        }
        return permission::path(place, cred, if write { May::WRITE } else { May::READ });
    }
    if AclKind::of_name(name).is_some() && write && !permission::is_owner(cred, &place.dentry.inode().metadata()?) {
        return Err(Errno::EPERM);
    }
    if name.starts_with(b"system.") {
        Ok(())
    } else {
        Err(Errno::EOPNOTSUPP)
    }
}

fn set(cx: &Context, place: &Path, name: UserAddr, value: UserSlice, flags: u32) -> Result<usize> {
    let flags = XattrFlags::from_bits(flags)
        .filter(|flags| *flags != XattrFlags::all())
        .ok_or(Errno::EINVAL)?;
    let name = read_name(name)?;
    if value.len > SIZE_MAX {
        return Err(Errno::E2BIG);
    }
    let mut bytes = alloc::vec![0; value.len];
    value.addr.read(&mut bytes)?;
    let cred = cx.task().cred();
    check(place, &name, Intent::Write, &cred)?;
    let inode = place.dentry.inode();
    inode.set_xattr(&name, &bytes, flags)?;
    if AclKind::of_name(&name) == Some(AclKind::Access) {
        // The list changed the mode: as after chmod(2) by someone outside of the group.
        let meta = inode.metadata()?;
        let foreign = !cred.in_group(meta.gid) && !cred.capable(Capabilities::FSETID);
        if foreign && meta.mode.contains(Mode::SETGID) {
            inode.set_attr(&SetAttr {
                mode: Some(meta.mode - Mode::SETGID),
                ..SetAttr::default()
            })?;
        }
    }
    Ok(0)
}

/// Copies `bytes` out; without a buffer only their length is told.
fn give(bytes: &[u8], out: UserSlice) -> Result<usize> {
    if out.len == 0 {
        return Ok(bytes.len());
    }
    if bytes.len() > out.len {
        return Err(Errno::ERANGE);
    }
    out.addr.write(bytes)?;
    Ok(bytes.len())
}

fn get(cx: &Context, place: &Path, name: UserAddr, out: UserSlice) -> Result<usize> {
    let name = read_name(name)?;
    check(place, &name, Intent::Read, &cx.task().cred())?;
    give(&place.dentry.inode().get_xattr(&name)?, out)
}

fn list(cx: &Context, place: &Path, out: UserSlice) -> Result<usize> {
    let trusted = cx.task().cred().capable(Capabilities::SYS_ADMIN);
    let mut bytes = Vec::new();
    for name in place.dentry.inode().list_xattr()? {
        if trusted || !name.starts_with(b"trusted.") {
            bytes.extend_from_slice(&name);
            bytes.push(0);
        }
    }
    give(&bytes, out)
}

fn remove(cx: &Context, place: &Path, name: UserAddr) -> Result<usize> {
    let name = read_name(name)?;
    check(place, &name, Intent::Write, &cx.task().cred())?;
    place.dentry.inode().remove_xattr(&name)?;
    Ok(0)
}

fn named(cx: &Context, path: UserAddr, flags: u32) -> Result<Path> {
    at::resolve(cx, Fd::CWD, path, flags).map(|(_, place)| place)
}

/// The place of a descriptor that is no `O_PATH` one.
fn opened(cx: &Context, fd: Fd) -> Result<Path> {
    cx.files().get(fd)?.path().cloned().ok_or(Errno::EOPNOTSUPP)
}

/// `setxattr(2)`.
pub fn sys_setxattr(cx: &Context, path: UserAddr, name: UserAddr, value: UserSlice, flags: u32) -> Result<usize> {
    set(cx, &named(cx, path, 0)?, name, value, flags)
}

/// `lsetxattr(2)`.
pub fn sys_lsetxattr(cx: &Context, path: UserAddr, name: UserAddr, value: UserSlice, flags: u32) -> Result<usize> {
    set(cx, &named(cx, path, at::SYMLINK_NOFOLLOW)?, name, value, flags)
}

/// `fsetxattr(2)`.
pub fn sys_fsetxattr(cx: &Context, fd: Fd, name: UserAddr, value: UserSlice, flags: u32) -> Result<usize> {
    set(cx, &opened(cx, fd)?, name, value, flags)
}

/// `getxattr(2)`.
pub fn sys_getxattr(cx: &Context, path: UserAddr, name: UserAddr, out: UserSlice) -> Result<usize> {
    get(cx, &named(cx, path, 0)?, name, out)
}

/// `lgetxattr(2)`.
pub fn sys_lgetxattr(cx: &Context, path: UserAddr, name: UserAddr, out: UserSlice) -> Result<usize> {
    get(cx, &named(cx, path, at::SYMLINK_NOFOLLOW)?, name, out)
}

/// `fgetxattr(2)`.
pub fn sys_fgetxattr(cx: &Context, fd: Fd, name: UserAddr, out: UserSlice) -> Result<usize> {
    get(cx, &opened(cx, fd)?, name, out)
}

/// `listxattr(2)`.
pub fn sys_listxattr(cx: &Context, path: UserAddr, out: UserSlice) -> Result<usize> {
    list(cx, &named(cx, path, 0)?, out)
}

/// `llistxattr(2)`.
pub fn sys_llistxattr(cx: &Context, path: UserAddr, out: UserSlice) -> Result<usize> {
    list(cx, &named(cx, path, at::SYMLINK_NOFOLLOW)?, out)
}

/// `flistxattr(2)`.
pub fn sys_flistxattr(cx: &Context, fd: Fd, out: UserSlice) -> Result<usize> {
    list(cx, &opened(cx, fd)?, out)
}

/// `removexattr(2)`.
pub fn sys_removexattr(cx: &Context, path: UserAddr, name: UserAddr) -> Result<usize> {
    remove(cx, &named(cx, path, 0)?, name)
}

/// `lremovexattr(2)`.
pub fn sys_lremovexattr(cx: &Context, path: UserAddr, name: UserAddr) -> Result<usize> {
    remove(cx, &named(cx, path, at::SYMLINK_NOFOLLOW)?, name)
}

/// `fremovexattr(2)`.
pub fn sys_fremovexattr(cx: &Context, fd: Fd, name: UserAddr) -> Result<usize> {
    remove(cx, &opened(cx, fd)?, name)
}
