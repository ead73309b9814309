//! `ioctl(2)`: what every file knows; the rest goes to what stands behind it.

use super::stat;
use crate::syscall::Context;
use crate::user::UserPtr;
use crate::vfs::FileType;
use crate::vfs::fd_table::{CloseOnExec, Fd};
use crate::vfs::file::{File, OpenFlags};
use crate::vfs::ioctl::{
    FIBMAP, FICLONE, FICLONERANGE, FIDEDUPERANGE, FIGETBSZ, FIOASYNC, FIOCLEX, FIONBIO, FIONCLEX, FIONREAD, FIOQSIZE,
    FS_IOC_FIEMAP,
};
use crate::{Errno, Result};

/// `ioctl(2)`.
pub fn sys_ioctl(cx: &Context, fd: Fd, cmd: u32, arg: u64) -> Result<usize> {
    let files = cx.files();
    let file = files.get(fd)?;
    match cmd {
        FIOCLEX => files.set_close_on_exec(fd, CloseOnExec::Yes)?,
        FIONCLEX => files.set_close_on_exec(fd, CloseOnExec::No)?,
        FIONBIO => switch(&file, OpenFlags::NONBLOCK, arg)?,
        FIOASYNC => {
            switch(&file, OpenFlags::ASYNC, arg)?;
            file.follow_async(fd);
        }
        FIOQSIZE => UserPtr::<i64>::new(arg).write(&(stat::size_of(&file)? as i64))?,
        _ => return special(cx, &file, cmd, arg),
    }
    Ok(0)
}

fn switch(file: &File, flag: OpenFlags, arg: u64) -> Result<()> {
    let on = UserPtr::<i32>::new(arg).read()? != 0;
    let mut flags = file.flags();
    flags.set(flag, on);
    file.ops().flags_changed(file, flags)?;
    file.set_flags(flag, flags);
    Ok(())
}

fn special(cx: &Context, file: &File, cmd: u32, arg: u64) -> Result<usize> {
    let is_regular = file
        .path()
        .is_some_and(|path| path.dentry.kind() == FileType::Regular && !path.dentry.is_anonymous());
    match cmd {
        FIONREAD if is_regular => {
            let size = file
                .inode()
                .map_or(Ok(0), |inode| inode.metadata().map(|meta| meta.size))?;
            let left = size as i64 - *file.position() as i64;
            UserPtr::<i32>::new(arg).write(&(left as i32))?;
            Ok(0)
        }
        FIBMAP if is_regular => Err(Errno::EINVAL),
        // No file system here shares blocks.
        FICLONE if is_regular => clone_refused(cx, file, arg as u32 as i32),
        FICLONERANGE if is_regular => clone_refused(cx, file, UserPtr::<i64>::new(arg).read()? as i32),
        FIDEDUPERANGE if is_regular => Err(Errno::EOPNOTSUPP),
        FS_IOC_FIEMAP if is_regular => match file.ops().ioctl(cx, file, cmd, arg) {
            Err(Errno::ENOTTY) => Err(Errno::EOPNOTSUPP),
            told => told,
        },
        FIGETBSZ if is_regular => {
            let size = file
                .inode()
                .map_or(Ok(4096), |inode| inode.metadata().map(|meta| meta.blksize))?;
            UserPtr::<i32>::new(arg).write(&(size as i32))?;
            Ok(0)
        }
        _ => file.ops().ioctl(cx, file, cmd, arg),
    }
}

/// The answer of a file system without shared blocks. `EBADF`, `EXDEV` come first.
fn clone_refused(cx: &Context, file: &File, source: i32) -> Result<usize> {
    let source = cx.files().get(Fd(source))?;
    let dev = |file: &File| file.path().map(|path| path.mount.fs().dev());
    if dev(&source) != dev(file) {
        return Err(Errno::EXDEV);
    }
    Err(Errno::EOPNOTSUPP)
}
