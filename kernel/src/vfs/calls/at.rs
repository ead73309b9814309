//! Where the `*at` calls start, and what they end at.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::syscall::Context;
use crate::user::UserAddr;
use crate::vfs::Metadata;
use crate::vfs::fd_table::Fd;
use crate::vfs::file::File;
use crate::vfs::path::Path;
use crate::vfs::walk::{self, Parent, Reached, WalkContext, WalkFlags};
use crate::{Errno, Result};

/// `AT_SYMLINK_NOFOLLOW`.
pub const SYMLINK_NOFOLLOW: u32 = 0x100;
/// `AT_EACCESS`.
pub const EACCESS: u32 = 0x200;
/// `AT_REMOVEDIR` (the same number).
pub const REMOVEDIR: u32 = 0x200;
/// `AT_SYMLINK_FOLLOW`.
pub const SYMLINK_FOLLOW: u32 = 0x400;
/// `AT_NO_AUTOMOUNT`.
pub const NO_AUTOMOUNT: u32 = 0x800;
/// `AT_EMPTY_PATH`.
pub const EMPTY_PATH: u32 = 0x1000;
/// `AT_STATX_SYNC_TYPE`.
pub const STATX_SYNC_TYPE: u32 = 0x6000;

/// A walk of the calling task, ready to go.
pub struct Start {
    /// Who walks.
    pub walk: WalkContext,
    /// From where.
    pub start: Path,
}

impl Start {
    /// From `dir` for a relative `text`. `EBADF` for no descriptor, `ENOTDIR` for one of a file without a directory's place.
    pub fn new(cx: &Context, dir: Fd, text: &[u8]) -> Result<Self> {
        let task = cx.task();
        let (root, cwd) = task.fs().root_and_cwd();
        let walk = WalkContext {
            cred: task.cred(),
            root,
        };
        let start = if dir == Fd::CWD || text.first() == Some(&b'/') {
            cwd
        } else {
            let file = cx.files().get_any(dir)?;
            let path = file.path().ok_or(Errno::ENOTDIR)?;
            if !path.dentry.is_dir() && !text.is_empty() {
                return Err(Errno::ENOTDIR);
            }
            path.clone()
        };
        Ok(Self { walk, start })
    }

    /// The place that `text` names.
    pub fn lookup(&self, text: &[u8], flags: WalkFlags) -> Result<Path> {
        walk::lookup(&self.walk, &self.start, text, flags)
    }

    /// The directory of its last name.
    pub fn parent(&self, text: &[u8]) -> Result<Parent> {
        walk::lookup_parent(&self.walk, &self.start, text, WalkFlags::empty())
    }
}

/// Reads a path argument.
pub fn read_path(path: UserAddr) -> Result<Vec<u8>> {
    path.read_path()
}

/// Follows unless `AT_SYMLINK_NOFOLLOW`.
pub fn follow_unless(flags: u32) -> WalkFlags {
    if flags & SYMLINK_NOFOLLOW == 0 {
        WalkFlags::FOLLOW
    } else {
        WalkFlags::empty()
    }
}

/// The place that `dir` and `path` name, with `AT_EMPTY_PATH` and `AT_SYMLINK_NOFOLLOW` as in `flags`.
pub fn resolve(cx: &Context, dir: Fd, path: UserAddr, flags: u32) -> Result<(WalkContext, Path)> {
    resolve_reached(cx, dir, path, flags).map(|(walk, place, _)| (walk, place))
}

fn resolve_reached(cx: &Context, dir: Fd, path: UserAddr, flags: u32) -> Result<(WalkContext, Path, Reached)> {
    let text = match path.is_null() && flags & EMPTY_PATH != 0 {
        true => Vec::new(),
        false => path.read_path()?,
    };
    let Start { walk, start } = Start::new(cx, dir, &text)?;
    if text.is_empty() && flags & EMPTY_PATH != 0 {
        return Ok((walk, start, Reached::Otherwise));
    }
    let (place, reached) = walk::lookup_reached(&walk, &start, &text, follow_unless(flags))?;
    Ok((walk, place, reached))
}

/// As [`resolve`], with the metadata of the place. What the walk has just looked up is not asked for twice.
pub fn resolve_metadata(cx: &Context, dir: Fd, path: UserAddr, flags: u32) -> Result<(Path, Metadata)> {
    let (_, place, reached) = resolve_reached(cx, dir, path, flags)?;
    let inode = place.dentry.inode();
    let meta = match reached {
        Reached::ByName => inode.found_metadata(),
        Reached::Otherwise => inode.metadata(),
    }?;
    Ok((place, meta))
}

/// The place behind a descriptor, opened with `O_PATH` or not. `EBADF`.
pub fn path_of(cx: &Context, fd: Fd) -> Result<(Arc<File>, Path)> {
    let file = cx.files().get_any(fd)?;
    let path = file.path().cloned().ok_or(Errno::EBADF)?;
    Ok((file, path))
}

/// `EINVAL` for a flag outside of `known`.
pub fn check_flags(flags: u32, known: u32) -> Result<()> {
    if flags & !known == 0 {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}
