//! `sync(2)`, `fsync(2)`, `fallocate(2)`, `truncate(2)`, advice.

use alloc::sync::Arc;

use super::at;
use crate::page_cache::Pattern;
use crate::syscall::Context;
use crate::user::UserAddr;
use crate::vfs::fd_table::Fd;
use crate::vfs::file::{Access, Advice, File, OpenFlags, SeekKind};
use crate::vfs::lock::END;
use crate::vfs::open::open_place;
use crate::vfs::permission::{self, May};
use crate::vfs::{FileType, limits, rw, super_block};
use crate::{Errno, Result};

/// `sync(2)`: errors are not told.
pub fn sys_sync(_cx: &Context) -> Result<usize> {
    if let Err(error) = super_block::sync_all() {
        log::warn!("sync: {error}");
    }
    Ok(0)
}

/// `syncfs(2)`.
pub fn sys_syncfs(cx: &Context, fd: Fd) -> Result<usize> {
    let file = cx.files().get(fd)?;
    if let Some(path) = file.path() {
        path.mount.fs().sync()?;
    }
    Ok(0)
}

/// `fsync(2)`.
pub fn sys_fsync(cx: &Context, fd: Fd) -> Result<usize> {
    let file = cx.files().get(fd)?;
    file.ops().sync(&file)?;
    Ok(0)
}

/// `fdatasync(2)`.
pub fn sys_fdatasync(cx: &Context, fd: Fd) -> Result<usize> {
    let file = cx.files().get(fd)?;
    file.ops().sync_data(&file)?;
    Ok(0)
}

/// `sync_file_range(2)`: writes out more than asked for.
pub fn sys_sync_file_range(cx: &Context, fd: Fd, offset: i64, len: i64, flags: u32) -> Result<usize> {
    let file = cx.files().get(fd)?;
    if flags & !7 != 0 || offset < 0 || len < 0 || offset.checked_add(len).is_none() {
        return Err(Errno::EINVAL);
    }
    let kind = file.path().map(|path| path.dentry.kind());
    match kind {
        Some(FileType::Regular | FileType::Directory | FileType::BlockDevice | FileType::Symlink) => {}
        _ => return Err(Errno::ESPIPE),
    }
    if flags != 0 {
        file.ops().sync_data(&file)?;
    }
    Ok(0)
}

const KEEP_SIZE: u32 = 1;
const PUNCH_HOLE: u32 = 2;
const COLLAPSE_RANGE: u32 = 8;
const ZERO_RANGE: u32 = 16;
const INSERT_RANGE: u32 = 32;
const UNSHARE_RANGE: u32 = 64;

/// The combinations of mode bits that mean something.
fn check_mode(mode: u32) -> Result<()> {
    let known = KEEP_SIZE | PUNCH_HOLE | COLLAPSE_RANGE | ZERO_RANGE | INSERT_RANGE | UNSHARE_RANGE;
    if mode & !known != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    match mode & !KEEP_SIZE {
        0 | ZERO_RANGE | UNSHARE_RANGE => Ok(()),
        PUNCH_HOLE if mode & KEEP_SIZE != 0 => Ok(()),
        PUNCH_HOLE => Err(Errno::EOPNOTSUPP),
        COLLAPSE_RANGE | INSERT_RANGE if mode & KEEP_SIZE == 0 => Ok(()),
        _ => Err(Errno::EOPNOTSUPP),
    }
}

/// `fallocate(2)`.
pub fn sys_fallocate(cx: &Context, fd: Fd, mode: u32, offset: i64, len: i64) -> Result<usize> {
    let file = cx.files().get(fd)?;
    if offset < 0 || len <= 0 {
        return Err(Errno::EINVAL);
    }
    check_mode(mode)?;
    file.require(Access::WRITE)?;
    match file.path().map(|path| path.dentry.kind()) {
        Some(FileType::Fifo) => return Err(Errno::ESPIPE),
        Some(FileType::Directory) => return Err(Errno::EISDIR),
        Some(FileType::Regular | FileType::BlockDevice) => {}
        _ => return Err(Errno::ENODEV),
    }
    let end = (offset as u64)
        .checked_add(len as u64)
        .filter(|&end| end <= END)
        .ok_or(Errno::EFBIG)?;
    if mode & KEEP_SIZE == 0 && end > limits::file_size() {
        crate::vfs::raise(crate::signal::Signal::XFSZ);
        return Err(Errno::EFBIG);
    }
    rw::drop_set_id(&file)?;
    file.ops().fallocate(&file, mode, offset as u64, len as u64)?;
    Ok(0)
}

/// `truncate(2)`.
pub fn sys_truncate(cx: &Context, path: UserAddr, size: i64) -> Result<usize> {
    let size = u64::try_from(size).map_err(|_| Errno::EINVAL)?;
    let (walk, place) = at::resolve(cx, Fd::CWD, path, 0)?;
    match place.dentry.kind() {
        FileType::Regular => {}
        FileType::Directory => return Err(Errno::EISDIR),
        _ => return Err(Errno::EINVAL),
    }
    permission::path(&place, &walk.cred, May::WRITE)?;
    // Opened for the time of the change: a running program cannot be cut.
    let file = open_place(Some(cx), &walk, place, OpenFlags::WRONLY | OpenFlags::LARGEFILE)?;
    set_size(&file, size)
}

/// `ftruncate(2)`.
pub fn sys_ftruncate(cx: &Context, fd: Fd, size: i64) -> Result<usize> {
    let size = u64::try_from(size).map_err(|_| Errno::EINVAL)?;
    let file = cx.files().get(fd)?;
    let is_regular = file
        .path()
        .is_some_and(|path| path.dentry.kind() == FileType::Regular && !path.dentry.is_anonymous());
    if !is_regular || !file.access().contains(Access::WRITE) {
        return Err(Errno::EINVAL);
    }
    set_size(&file, size)
}

fn set_size(file: &Arc<File>, size: u64) -> Result<usize> {
    let inode = file.inode().ok_or(Errno::EINVAL)?;
    rw::truncate(&inode, size)?;
    Ok(0)
}

/// `fadvise64(2)`: the page cache heeds it, other files need no advice.
pub fn sys_fadvise64(cx: &Context, fd: Fd, offset: i64, len: i64, advice: u32) -> Result<usize> {
    let file = cx.files().get(fd)?;
    if file.path().is_some_and(|path| path.dentry.kind() == FileType::Fifo) {
        return Err(Errno::ESPIPE);
    }
    if len < 0 || advice > 5 {
        return Err(Errno::EINVAL);
    }
    let advice = match advice {
        0 => Advice::Pattern(Pattern::Normal),
        1 => Advice::Pattern(Pattern::Random),
        2 => Advice::Pattern(Pattern::Sequential),
        3 => Advice::WillNeed,
        4 => Advice::DontNeed,
        // POSIX_FADV_NOREUSE says nothing that we could use.
        _ => return Ok(0),
    };
    // A negative offset names nothing before the file; no length is all that follows.
    let start = offset.max(0) as u64;
    let end = match len {
        0 => u64::MAX,
        len => start.saturating_add(len as u64),
    };
    // Advice is a hint: what cannot be had now is found out by who reads it.
    let _ = file.ops().advise(&file, start..end, advice);
    Ok(0)
}

/// `readahead(2)`.
pub fn sys_readahead(cx: &Context, fd: Fd, offset: i64, count: usize) -> Result<usize> {
    let file = cx.files().get(fd)?;
    file.require(Access::READ)?;
    let is_file = file
        .path()
        .is_some_and(|path| matches!(path.dentry.kind(), FileType::Regular | FileType::BlockDevice));
    if !is_file || file.ops().seek_kind() == SeekKind::Stream {
        return Err(Errno::EINVAL);
    }
    let start = offset.max(0) as u64;
    let range = start..start.saturating_add(count as u64);
    let _ = file.ops().advise(&file, range, Advice::WillNeed);
    Ok(0)
}
