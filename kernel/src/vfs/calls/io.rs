//! `read(2)`, `write(2)`, their `p` and `v` relatives, `lseek(2)`.

use alloc::vec::Vec;

use crate::abi_struct;
use crate::syscall::Context;
use crate::user::{UserIo, UserPtr, UserSlice};
use crate::vfs::FileType;
use crate::vfs::fd_table::Fd;
use crate::vfs::file::{File, SeekKind, SeekTarget};
use crate::vfs::lock::END;
use crate::vfs::rw::{self, Append, At, MAX_RW_COUNT};
use crate::{Errno, Result};

abi_struct! {
    /// `struct iovec`.
    pub struct IoVec {
        /// First byte.
        pub base: u64,
        /// Bytes.
        pub len: u64,
    }
}

/// Most pieces of one call.
const IOV_MAX: usize = 1024;

fn bounded(buf: UserSlice) -> Result<UserSlice> {
    if buf.len > isize::MAX as usize {
        return Err(Errno::EINVAL);
    }
    Ok(UserSlice {
        len: buf.len.min(MAX_RW_COUNT),
        ..buf
    })
}

/// Reads the pieces of a vector; their sum is cut to `MAX_RW_COUNT`. `EINVAL` for too many or a negative length.
pub(crate) fn read_iovec(vec: UserPtr<IoVec>, count: usize) -> Result<Vec<UserSlice>> {
    if count > IOV_MAX {
        return Err(Errno::EINVAL);
    }
    let mut left = MAX_RW_COUNT;
    let mut slices = Vec::with_capacity(count);
    for piece in vec.read_many(count)? {
        let len = usize::try_from(piece.len)
            .ok()
            .filter(|&len| len <= isize::MAX as usize)
            .ok_or(Errno::EINVAL)?;
        let slice = UserSlice::new(piece.base, len.min(left));
        left -= slice.len;
        slices.push(slice);
    }
    Ok(slices)
}

fn offset(pos: i64) -> Result<At> {
    u64::try_from(pos).map(At::Offset).map_err(|_| Errno::EINVAL)
}

/// `read(2)`.
pub fn sys_read(cx: &Context, fd: Fd, buf: UserSlice) -> Result<usize> {
    let file = cx.files().get(fd)?;
    rw::read(&file, At::Position, &mut bounded(buf)?.writer())
}

/// `write(2)`.
pub fn sys_write(cx: &Context, fd: Fd, buf: UserSlice) -> Result<usize> {
    let file = cx.files().get(fd)?;
    rw::write(&file, At::Position, Append::AsOpened, &mut bounded(buf)?.reader())
}

/// `pread64(2)`. The buffer is not looked at before data is there.
pub fn sys_pread64(cx: &Context, fd: Fd, buf: UserSlice, pos: i64) -> Result<usize> {
    let at = offset(pos)?;
    let file = cx.files().get(fd)?;
    rw::read(&file, at, &mut bounded(buf)?.writer())
}

/// `pwrite64(2)`.
pub fn sys_pwrite64(cx: &Context, fd: Fd, buf: UserSlice, pos: i64) -> Result<usize> {
    let at = offset(pos)?;
    let file = cx.files().get(fd)?;
    rw::write(&file, at, Append::AsOpened, &mut bounded(buf)?.reader())
}

/// `readv(2)`.
pub fn sys_readv(cx: &Context, fd: Fd, vec: UserPtr<IoVec>, count: usize) -> Result<usize> {
    let file = cx.files().get(fd)?;
    rw::read(&file, At::Position, &mut UserIo::new(read_iovec(vec, count)?))
}

/// `writev(2)`.
pub fn sys_writev(cx: &Context, fd: Fd, vec: UserPtr<IoVec>, count: usize) -> Result<usize> {
    let file = cx.files().get(fd)?;
    rw::write(
        &file,
        At::Position,
        Append::AsOpened,
        &mut UserIo::new(read_iovec(vec, count)?),
    )
}

/// `preadv(2)`; the high half of the offset is unused on 64-bit machines.
pub fn sys_preadv(cx: &Context, fd: Fd, vec: UserPtr<IoVec>, count: usize, pos: i64) -> Result<usize> {
    let at = offset(pos)?;
    let file = cx.files().get(fd)?;
    rw::read(&file, at, &mut UserIo::new(read_iovec(vec, count)?))
}

/// `pwritev(2)`.
pub fn sys_pwritev(cx: &Context, fd: Fd, vec: UserPtr<IoVec>, count: usize, pos: i64) -> Result<usize> {
    let at = offset(pos)?;
    let file = cx.files().get(fd)?;
    rw::write(&file, at, Append::AsOpened, &mut UserIo::new(read_iovec(vec, count)?))
}

const RWF_HIPRI: u32 = 1;
const RWF_DSYNC: u32 = 2;
const RWF_SYNC: u32 = 4;
const RWF_NOWAIT: u32 = 8;
const RWF_APPEND: u32 = 16;
const RWF_NOAPPEND: u32 = 32;

/// The position of the `v2` calls: -1 is the description's own.
fn offset_v2(pos: i64) -> Result<At> {
    if pos == -1 { Ok(At::Position) } else { offset(pos) }
}

/// `RWF_NOWAIT` on what may block is refused, as file systems without support for it do on Linux.
fn check_nowait(file: &File, flags: u32) -> Result<()> {
    let ready = file.is_nonblocking() || file.path().is_some_and(|path| path.dentry.kind() == FileType::Regular);
    if flags & RWF_NOWAIT != 0 && !ready {
        Err(Errno::EOPNOTSUPP)
    } else {
        Ok(())
    }
}

/// `preadv2(2)`.
pub fn sys_preadv2(
    cx: &Context,
    fd: Fd,
    vec: UserPtr<IoVec>,
    count: usize,
    pos: i64,
    _high: u64,
    flags: u32,
) -> Result<usize> {
    if flags & !(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let at = offset_v2(pos)?;
    let file = cx.files().get(fd)?;
    check_nowait(&file, flags)?;
    rw::read(&file, at, &mut UserIo::new(read_iovec(vec, count)?))
}

/// `pwritev2(2)`.
pub fn sys_pwritev2(
    cx: &Context,
    fd: Fd,
    vec: UserPtr<IoVec>,
    count: usize,
    pos: i64,
    _high: u64,
    flags: u32,
) -> Result<usize> {
    if flags & !(RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND | RWF_NOAPPEND) != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let append = match flags & (RWF_APPEND | RWF_NOAPPEND) {
        0 => Append::AsOpened,
        RWF_APPEND => Append::Yes,
        RWF_NOAPPEND => Append::No,
        _ => return Err(Errno::EINVAL),
    };
    let at = offset_v2(pos)?;
    let file = cx.files().get(fd)?;
    check_nowait(&file, flags)?;
    let written = rw::write(&file, at, append, &mut UserIo::new(read_iovec(vec, count)?))?;
    if flags & RWF_SYNC != 0 {
        file.ops().sync(&file)?;
    } else if flags & RWF_DSYNC != 0 {
        file.ops().sync_data(&file)?;
    }
    Ok(written)
}

/// `lseek(2)`.
pub fn sys_lseek(cx: &Context, fd: Fd, offset: i64, whence: u32) -> Result<usize> {
    let file = cx.files().get(fd)?;
    if file.ops().seek_kind() == SeekKind::Stream {
        // Nothing is positioned, so nothing is locked: a reader that waits does not hold up the answer.
        let special = file.ops().lseek(&file, offset, whence).unwrap_or(Err(Errno::ESPIPE))?;
        return Ok(special as usize);
    }
    let mut position = file.position();
    if let Some(special) = file.ops().lseek(&file, offset, whence) {
        *position = special?;
        return Ok(*position as usize);
    }
    let target = match whence {
        0 => offset,
        1 => (*position as i64).checked_add(offset).ok_or(Errno::EOVERFLOW)?,
        2 => (file.ops().end(&file)? as i64)
            .checked_add(offset)
            .ok_or(Errno::EOVERFLOW)?,
        3 | 4 => {
            let from = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
            let target = if whence == 3 {
                SeekTarget::Data
            } else {
                SeekTarget::Hole
            };
            seek_extent(&file, from, target)? as i64
        }
        _ => return Err(Errno::EINVAL),
    };
    let target = u64::try_from(target).map_err(|_| Errno::EINVAL)?;
    if target > END {
        return Err(Errno::EINVAL);
    }
    *position = target;
    Ok(target as usize)
}

fn seek_extent(file: &File, from: u64, target: SeekTarget) -> Result<u64> {
    match file.ops().seek(from, target) {
        // A file system that does not know holes has none: all is data up to the end.
        Err(Errno::EINVAL) => {
            let size = file.ops().end(file)?;
            if from >= size {
                return Err(Errno::ENXIO);
            }
            Ok(if target == SeekTarget::Data { from } else { size })
        }
        other => other,
    }
}
