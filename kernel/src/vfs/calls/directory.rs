//! `getdents64(2)`, `chdir(2)`, `chroot(2)`, `getcwd(2)`, `umask(2)`.

use alloc::vec::Vec;

use super::at::Start;
use crate::syscall::Context;
use crate::task::Capabilities;
use crate::user::{UserAddr, UserSlice};
use crate::vfs::fd_table::Fd;
use crate::vfs::file::{Access, DirEntry, File};
use crate::vfs::path::{Path, Reach};
use crate::vfs::permission::{self, May};
use crate::vfs::rw;
use crate::vfs::walk::WalkFlags;
use crate::{Errno, Result};

/// The two layouts of an entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// `struct linux_dirent`: the type is the last byte.
    Old,
    /// `struct linux_dirent64`.
    New,
}

impl Layout {
    fn record_len(self, name: &[u8]) -> usize {
        let (head, tail) = if self == Layout::Old { (18, 2) } else { (19, 1) };
        (head + name.len() + tail).next_multiple_of(8)
    }

    fn encode(self, entry: &DirEntry<'_>, out: &mut Vec<u8>) {
        let len = self.record_len(entry.name);
        let start = out.len();
        let kind = entry.kind.map_or(0, |kind| kind.dirent_type());
        out.extend_from_slice(&entry.ino.to_le_bytes());
        out.extend_from_slice(&entry.next.to_le_bytes());
        out.extend_from_slice(&(len as u16).to_le_bytes());
        if self == Layout::New {
            out.push(kind);
        }
        out.extend_from_slice(entry.name);
        out.resize(start + len, 0);
        if self == Layout::Old
            && let Some(last) = out.last_mut()
        {
            *last = kind;
        }
    }
}

/// Largest buffer that is filled in one call.
const BUFFER_MAX: usize = 256 * 1024;

fn list(file: &File, buf: UserSlice, layout: Layout) -> Result<usize> {
    file.require(Access::READ)?;
    let path = file.path().ok_or(Errno::ENOTDIR)?;
    if !path.dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    let room = buf.len.min(BUFFER_MAX);
    let mut out = Vec::with_capacity(room.min(32 * 1024));
    let mut too_small = false;
    let mut position = file.position();
    if path.dentry.is_deleted() {
        return Err(Errno::ENOENT);
    }
    let mut next = *position;
    let listed = file.ops().read_dir(file, *position, &mut |entry| {
        if out.len() + layout.record_len(entry.name) > room {
            too_small = out.is_empty();
            return false;
        }
        layout.encode(&entry, &mut out);
        next = entry.next;
        true
    });
    if out.is_empty() {
        listed?;
        if too_small {
            return Err(Errno::EINVAL);
        }
    }
    buf.addr.write(&out)?;
    *position = next;
    drop(position);
    rw::accessed(file);
    Ok(out.len())
}

/// `getdents64(2)`. `EINVAL` when not even one entry fits.
pub fn sys_getdents64(cx: &Context, fd: Fd, buf: UserSlice) -> Result<usize> {
    list(&*cx.files().get(fd)?, buf, Layout::New)
}

/// `getdents(2)`.
pub fn sys_getdents(cx: &Context, fd: Fd, buf: UserSlice) -> Result<usize> {
    list(&*cx.files().get(fd)?, buf, Layout::Old)
}

/// `chdir(2)`.
pub fn sys_chdir(cx: &Context, path: UserAddr) -> Result<usize> {
    let text = path.read_path()?;
    let start = Start::new(cx, Fd::CWD, &text)?;
    let place = start.lookup(&text, WalkFlags::FOLLOW | WalkFlags::DIRECTORY)?;
    enter(cx, &place)?;
    cx.task().fs().set_cwd(place);
    Ok(0)
}

/// `fchdir(2)`; also with an `O_PATH` descriptor.
pub fn sys_fchdir(cx: &Context, fd: Fd) -> Result<usize> {
    let file = cx.files().get_any(fd)?;
    let place = file.path().cloned().ok_or(Errno::ENOTDIR)?;
    if !place.dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    enter(cx, &place)?;
    cx.task().fs().set_cwd(place);
    Ok(0)
}

/// `chroot(2)`. The working directory stays where it is.
pub fn sys_chroot(cx: &Context, path: UserAddr) -> Result<usize> {
    let text = path.read_path()?;
    let start = Start::new(cx, Fd::CWD, &text)?;
    let place = start.lookup(&text, WalkFlags::FOLLOW | WalkFlags::DIRECTORY)?;
    enter(cx, &place)?;
    if !cx.task().cred().capable(Capabilities::SYS_CHROOT) {
        return Err(Errno::EPERM);
    }
    cx.task().fs().set_root(place);
    Ok(0)
}

fn enter(cx: &Context, place: &Path) -> Result<()> {
    permission::path(place, &cx.task().cred(), May::EXEC)
}

/// `getcwd(2)`: the length with the NUL. `ENOENT` when the directory was removed, `ERANGE` when the buffer is too short.
pub fn sys_getcwd(cx: &Context, buf: UserSlice) -> Result<usize> {
    let (root, cwd) = cx.task().fs().root_and_cwd();
    let (mut text, reach) = cwd.text(&root);
    match reach {
        Reach::Deleted => return Err(Errno::ENOENT),
        Reach::Unreachable => {
            text.splice(0..0, b"(unreachable)".iter().copied());
        }
        _ => {}
    }
    text.push(0);
    if text.len() > 4096 {
        return Err(Errno::ENAMETOOLONG);
    }
    if text.len() > buf.len {
        return Err(Errno::ERANGE);
    }
    buf.addr.write(&text)?;
    Ok(text.len())
}

/// `umask(2)`.
pub fn sys_umask(cx: &Context, mask: u32) -> Result<usize> {
    Ok(cx.task().fs().set_umask(mask) as usize)
}

/// The text of a symlink's place, for `readlink` on magic links.
pub(super) fn shown(cx: &Context, path: &Path) -> Vec<u8> {
    path.display(&cx.task().fs().root())
}
