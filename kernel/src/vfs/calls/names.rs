//! `mkdir(2)`, `mknod(2)`, `link(2)`, `symlink(2)`, `unlink(2)`, `rmdir(2)`, `rename(2)`, `readlink(2)`.

use super::at::{self, Start};
use super::directory;
use crate::syscall::Context;
use crate::task::Capabilities;
use crate::user::{UserAddr, UserSlice};
use crate::vfs::fd_table::Fd;
use crate::vfs::file::File;
use crate::vfs::inode::{Link, RenameFlags};
use crate::vfs::walk::WalkFlags;
use crate::vfs::{DevT, FileType, Mode, NewNode, Path, namei, rw};
use crate::{Errno, Result};
use alloc::sync::Arc;

fn make(cx: &Context, dir: Fd, path: UserAddr, mode: u32, node: NewNode<'_>) -> Result<usize> {
    let text = path.read_path()?;
    let start = Start::new(cx, dir, &text)?;
    let parent = start.parent(&text)?;
    let name = namei::new_name(&parent, node.kind())?;
    let mode = match node {
        NewNode::Symlink(_) => Mode::from_bits_truncate(0o777).into(),
        // mkdir knows no set-id bits of its own.
        NewNode::Directory => cx.task().fs().masked(Mode::from_bits_truncate(mode & 0o1777)),
        _ => cx.task().fs().masked(Mode::from_bits_truncate(mode)),
    };
    namei::create(&parent.dir, name, node, mode, &start.walk.cred)?;
    Ok(0)
}

/// `mkdirat(2)`.
pub fn sys_mkdirat(cx: &Context, dir: Fd, path: UserAddr, mode: u32) -> Result<usize> {
    make(cx, dir, path, mode, NewNode::Directory)
}

/// `mkdir(2)`.
pub fn sys_mkdir(cx: &Context, path: UserAddr, mode: u32) -> Result<usize> {
    sys_mkdirat(cx, Fd::CWD, path, mode)
}

/// `mknodat(2)`. `EPERM` for a directory, `EINVAL` for a type there is not.
pub fn sys_mknodat(cx: &Context, dir: Fd, path: UserAddr, mode: u32, dev: u32) -> Result<usize> {
    let dev = DevT::decode(u64::from(dev));
    let node = match FileType::from_mode(mode) {
        None if mode & 0o170000 == 0 => NewNode::Regular,
        Some(FileType::Regular) => NewNode::Regular,
        Some(FileType::CharDevice) => NewNode::CharDevice(dev),
        Some(FileType::BlockDevice) => NewNode::BlockDevice(dev),
        Some(FileType::Fifo) => NewNode::Fifo,
        Some(FileType::Socket) => NewNode::Socket,
        Some(FileType::Directory) => return Err(Errno::EPERM),
        Some(FileType::Symlink) | None => return Err(Errno::EINVAL),
    };
    make(cx, dir, path, mode, node)
}

/// `mknod(2)`.
pub fn sys_mknod(cx: &Context, path: UserAddr, mode: u32, dev: u32) -> Result<usize> {
    sys_mknodat(cx, Fd::CWD, path, mode, dev)
}

/// `symlinkat(2)`. `ENOENT` for an empty target.
pub fn sys_symlinkat(cx: &Context, target: UserAddr, dir: Fd, path: UserAddr) -> Result<usize> {
    let target = target.read_path()?;
    if target.is_empty() {
        return Err(Errno::ENOENT);
    }
    make(cx, dir, path, 0o777, NewNode::Symlink(&target))
}

/// `symlink(2)`.
pub fn sys_symlink(cx: &Context, target: UserAddr, path: UserAddr) -> Result<usize> {
    sys_symlinkat(cx, target, Fd::CWD, path)
}

/// `linkat(2)`.
pub fn sys_linkat(cx: &Context, old_dir: Fd, old: UserAddr, new_dir: Fd, new: UserAddr, flags: u32) -> Result<usize> {
    at::check_flags(flags, at::SYMLINK_FOLLOW | at::EMPTY_PATH)?;
    let text = old.read_path()?;
    let start = Start::new(cx, old_dir, &text)?;
    let target = if text.is_empty() && flags & at::EMPTY_PATH != 0 {
        // The descriptor is proof enough only for who opened it with the same identity.
        let same = old_dir == Fd::CWD || Arc::ptr_eq(cx.files().get_any(old_dir)?.cred(), &start.walk.cred);
        if !same && !start.walk.cred.capable(Capabilities::DAC_READ_SEARCH) {
            return Err(Errno::ENOENT);
        }
        start.start.clone()
    } else {
        let follow = if flags & at::SYMLINK_FOLLOW != 0 {
            WalkFlags::FOLLOW
        } else {
            WalkFlags::empty()
        };
        start.lookup(&text, follow)?
    };
    let text = new.read_path()?;
    let start = Start::new(cx, new_dir, &text)?;
    let parent = start.parent(&text)?;
    let name = namei::new_name(&parent, target.dentry.kind())?;
    namei::link(&target, &parent.dir, name, &start.walk.cred)?;
    Ok(0)
}

/// `link(2)`: a symlink as source is linked itself.
pub fn sys_link(cx: &Context, old: UserAddr, new: UserAddr) -> Result<usize> {
    sys_linkat(cx, Fd::CWD, old, Fd::CWD, new, 0)
}

/// `unlinkat(2)`.
pub fn sys_unlinkat(cx: &Context, dir: Fd, path: UserAddr, flags: u32) -> Result<usize> {
    at::check_flags(flags, at::REMOVEDIR)?;
    let text = path.read_path()?;
    let start = Start::new(cx, dir, &text)?;
    let parent = start.parent(&text)?;
    if flags & at::REMOVEDIR != 0 {
        namei::rmdir(&parent, &start.walk.cred)?;
    } else {
        namei::unlink(&parent, &start.walk.cred)?;
    }
    Ok(0)
}

/// `unlink(2)`.
pub fn sys_unlink(cx: &Context, path: UserAddr) -> Result<usize> {
    sys_unlinkat(cx, Fd::CWD, path, 0)
}

/// `rmdir(2)`.
pub fn sys_rmdir(cx: &Context, path: UserAddr) -> Result<usize> {
    sys_unlinkat(cx, Fd::CWD, path, at::REMOVEDIR)
}

/// `renameat2(2)`.
pub fn sys_renameat2(
    cx: &Context,
    old_dir: Fd,
    old: UserAddr,
    new_dir: Fd,
    new: UserAddr,
    flags: u32,
) -> Result<usize> {
    let flags = RenameFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    let text = old.read_path()?;
    let start = Start::new(cx, old_dir, &text)?;
    let from = start.parent(&text)?;
    let text = new.read_path()?;
    let start = Start::new(cx, new_dir, &text)?;
    let to = start.parent(&text)?;
    if flags.contains(RenameFlags::WHITEOUT) && !start.walk.cred.capable(Capabilities::MKNOD) {
        return Err(Errno::EPERM);
    }
    namei::rename(&from, &to, flags, &start.walk.cred)?;
    Ok(0)
}

/// `renameat(2)`.
pub fn sys_renameat(cx: &Context, old_dir: Fd, old: UserAddr, new_dir: Fd, new: UserAddr) -> Result<usize> {
    sys_renameat2(cx, old_dir, old, new_dir, new, 0)
}

/// `rename(2)`.
pub fn sys_rename(cx: &Context, old: UserAddr, new: UserAddr) -> Result<usize> {
    sys_renameat2(cx, Fd::CWD, old, Fd::CWD, new, 0)
}

/// `readlinkat(2)`: not ended by a NUL, cut to the buffer. An empty path reads the symlink behind an `O_PATH` descriptor.
pub fn sys_readlinkat(cx: &Context, dir: Fd, path: UserAddr, buf: UserSlice) -> Result<usize> {
    if buf.len == 0 || buf.len > i32::MAX as usize {
        return Err(Errno::EINVAL);
    }
    let text = path.read_path()?;
    let start = Start::new(cx, dir, &text)?;
    let empty = text.is_empty();
    let place = if empty && dir != Fd::CWD {
        start.start.clone()
    } else {
        start.lookup(&text, WalkFlags::empty())?
    };
    if place.dentry.kind() != FileType::Symlink {
        return Err(if empty { Errno::ENOENT } else { Errno::EINVAL });
    }
    rw::touch_atime(&place);
    let text = match place.inode().read_link()? {
        Link::Text(text) => text,
        Link::Object(object) => match object.downcast::<Path>() {
            Ok(path) => directory::shown(cx, &path),
            Err(other) => match other.downcast::<Arc<File>>() {
                Ok(file) => file
                    .path()
                    .map_or_else(|| b"anon_inode:[unknown]".to_vec(), |path| directory::shown(cx, path)),
                Err(_) => return Err(Errno::EINVAL),
            },
        },
    };
    let count = text.len().min(buf.len);
    buf.addr.write(&text[..count])?;
    Ok(count)
}

/// `readlink(2)`.
pub fn sys_readlink(cx: &Context, path: UserAddr, buf: UserSlice) -> Result<usize> {
    sys_readlinkat(cx, Fd::CWD, path, buf)
}
