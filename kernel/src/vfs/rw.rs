//! Reading and writing through a description: positions, limits, set-id bits, access times. What `read(2)` and its relatives, `sendfile` and
//! core dumps share.

use alloc::sync::Arc;

use super::attr::{FileType, SetAttr};
use super::file::{Access, File, OpenFlags, SeekKind, WriteAt};
use super::inode::AtimePolicy;
use super::lock::END;
use super::mount::MountFlags;
use super::{limits, permission};
use crate::io::{Sink, Source};
use crate::signal::Signal;
use crate::task::Capabilities;
use crate::{Errno, Result};

/// Most bytes of one call.
pub const MAX_RW_COUNT: usize = 0x7fff_f000;

/// Where a call reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// At the description's position, which moves.
    Position,
    /// At this offset; the position stays.
    Offset(u64),
}

/// A write's own wishes (`pwritev2(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Append {
    /// As the description says (`O_APPEND`).
    AsOpened,
    /// `RWF_APPEND`.
    Yes,
    /// `RWF_NOAPPEND`.
    No,
}

/// Reads into `dst`.
///
/// # Errors
/// `EBADF` unless open for reading, `ESPIPE` for an offset in a stream, `EINVAL`/`EOVERFLOW` past the largest offset.
pub fn read(file: &File, at: At, dst: &mut dyn Sink) -> Result<usize> {
    refuse_offset(file, at)?;
    file.require(Access::READ)?;
    let count = match (at, file.ops().seek_kind()) {
        (_, SeekKind::Stream) => file.ops().read_at(file, 0, dst)?,
        (At::Offset(pos), SeekKind::Offset) => {
            check_range(pos, dst.remaining())?;
            file.ops().read_at(file, pos, dst)?
        }
        (At::Position, SeekKind::Offset) => {
            let mut pos = file.position();
            check_range(*pos, dst.remaining())?;
            let count = file.ops().read_at(file, *pos, dst)?;
            *pos += count as u64;
            count
        }
    };
    accessed(file);
    Ok(count)
}

/// `ESPIPE` for an offset in a stream. Asked before whether the file is open for reading or writing at all, as on Linux.
fn refuse_offset(file: &File, at: At) -> Result<()> {
    match (at, file.ops().seek_kind()) {
        (At::Offset(_), SeekKind::Stream) => Err(Errno::ESPIPE),
        _ => Ok(()),
    }
}

/// The access time of what `file` was opened by may move.
pub fn accessed(file: &File) {
    if let Some(path) = file.path()
        && !file.flags().contains(OpenFlags::NOATIME)
    {
        touch_atime(path);
    }
}

/// The access time of `path` may move, by the mount's rules.
pub fn touch_atime(path: &super::Path) {
    let flags = path.mount.flags();
    let still = flags.contains(MountFlags::NOATIME) || (flags.contains(MountFlags::NODIRATIME) && path.dentry.is_dir());
    if still || path.mount.is_read_only() {
        return;
    }
    let policy = if flags.contains(MountFlags::RELATIME) {
        AtimePolicy::Relative
    } else {
        AtimePolicy::Strict
    };
    path.dentry.inode().touch_atime(policy);
}

/// Writes all of `src` that goes.
///
/// # Errors
/// `EBADF` unless open for writing; `EFBIG`, with `SIGXFSZ`, at `RLIMIT_FSIZE`.
pub fn write(file: &File, at: At, append: Append, src: &mut dyn Source) -> Result<usize> {
    refuse_offset(file, at)?;
    file.require(Access::WRITE)?;
    if file.ops().seek_kind() == SeekKind::Stream {
        return Ok(file.ops().write_at(file, WriteAt::Offset(0), src)?.count);
    }
    let to_end = match append {
        Append::AsOpened => file.flags().contains(OpenFlags::APPEND),
        Append::Yes => true,
        Append::No => false,
    };
    match at {
        At::Offset(pos) => {
            let target = if to_end { WriteAt::End } else { WriteAt::Offset(pos) };
            Ok(write_to(file, target, src)?.0)
        }
        At::Position => {
            let mut pos = file.position();
            let target = if to_end { WriteAt::End } else { WriteAt::Offset(*pos) };
            let (count, end) = write_to(file, target, src)?;
            if count > 0 {
                *pos = end;
            }
            Ok(count)
        }
    }
}

fn write_to(file: &File, target: WriteAt, src: &mut dyn Source) -> Result<(usize, u64)> {
    let len = src.remaining();
    if let WriteAt::Offset(pos) = target {
        check_range(pos, len)?;
    }
    if len == 0 {
        return Ok((0, 0));
    }
    let is_regular = file.path().is_some_and(|path| path.dentry.kind() == FileType::Regular);
    if !is_regular {
        let written = file.ops().write_at(file, target, src)?;
        return Ok((written.count, written.end));
    }
    let limit = limits::file_size().min(END);
    let start = match target {
        WriteAt::Offset(pos) => pos,
        // Only a limit makes the end of file worth asking for.
        WriteAt::End if limit < END => file
            .inode()
            .map_or(Ok(0), |inode| inode.metadata().map(|meta| meta.size))?,
        WriteAt::End => 0,
    };
    if start >= limit {
        if limit < END {
            super::raise(Signal::XFSZ);
        }
        return Err(Errno::EFBIG);
    }
    drop_set_id(file)?;
    let mut bounded = Bounded {
        left: usize::try_from(limit - start).unwrap_or(usize::MAX).min(len),
        inner: src,
    };
    let written = file.ops().write_at(file, target, &mut bounded)?;
    if file.flags().contains(OpenFlags::SYNC_BIT) {
        file.ops().sync(file)?;
    } else if file.flags().contains(OpenFlags::DSYNC) {
        file.ops().sync_data(file)?;
    }
    Ok((written.count, written.end))
}

/// A source that ends earlier.
pub struct Bounded<'a> {
    /// Where the bytes come from.
    pub inner: &'a mut dyn Source,
    /// How many may still come.
    pub left: usize,
}

impl Source for Bounded<'_> {
    fn remaining(&self) -> usize {
        self.inner.remaining().min(self.left)
    }

    fn read(&mut self, data: &mut [u8]) -> Result<usize> {
        let want = data.len().min(self.left);
        let count = self.inner.read(&mut data[..want])?;
        self.left -= count;
        Ok(count)
    }
}

/// Offsets are signed in the interface: neither start nor end of a transfer may go past the largest. `EINVAL`.
pub fn check_range(pos: u64, len: usize) -> Result<()> {
    match pos.checked_add(len as u64) {
        Some(end) if pos <= END && end <= END + 1 => Ok(()),
        _ if pos > END => Err(Errno::EINVAL),
        _ => Err(Errno::EOVERFLOW),
    }
}

/// Contents change: set-id bits go, unless the writer has `CAP_FSETID`.
pub fn drop_set_id(file: &File) -> Result<()> {
    let Some(path) = file.path() else { return Ok(()) };
    let keeps = crate::task::try_current().is_none_or(|task| task.cred().capable(Capabilities::FSETID));
    if keeps {
        return Ok(());
    }
    let inode = path.dentry.inode();
    match permission::without_set_id(inode.walk_metadata()?.mode) {
        Some(mode) => inode.set_attr(&SetAttr {
            mode: Some(mode),
            ..SetAttr::default()
        }),
        None => Ok(()),
    }
}

/// Sets the length of a regular file (`ftruncate(2)`, `truncate(2)`): limit, set-id bits.
pub fn truncate(inode: &Arc<dyn super::Inode>, size: u64) -> Result<()> {
    if size > limits::file_size() && size > inode.metadata()?.size {
        super::raise(Signal::XFSZ);
        return Err(Errno::EFBIG);
    }
    let mut change = SetAttr {
        size: Some(size),
        ..SetAttr::default()
    };
    let keeps = crate::task::try_current().is_none_or(|task| task.cred().capable(Capabilities::FSETID));
    if !keeps {
        change.mode = permission::without_set_id(inode.walk_metadata()?.mode);
    }
    inode.set_attr(&change)
}
