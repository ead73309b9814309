//! `fcntl(2)`, `flock(2)`.

use alloc::sync::Arc;

use crate::abi_struct;
use crate::fs::tmpfs::inode::{SEAL_EXEC, SEAL_FUTURE_WRITE, SEAL_GROW, SEAL_SEAL, SEAL_SHRINK, SEAL_WRITE, TmpInode};
use crate::signal::Signal;
use crate::syscall::Context;
use crate::task::Pid;
use crate::user::UserPtr;
use crate::vfs::fasync::{self, Target};
use crate::vfs::fd_table::{CloseOnExec, Fd};
use crate::vfs::file::{Access, File, OpenFlags};
use crate::vfs::lease;
use crate::vfs::lock::{self, END, LockKind, Owner, Patience, Record};
use crate::vfs::pipe::PipeEnd;
use crate::vfs::{FileType, permission};
use crate::{Errno, Result};

const F_DUPFD: u32 = 0;
const F_GETFD: u32 = 1;
const F_SETFD: u32 = 2;
const F_GETFL: u32 = 3;
const F_SETFL: u32 = 4;
const F_GETLK: u32 = 5;
const F_SETLK: u32 = 6;
const F_SETLKW: u32 = 7;
const F_SETOWN: u32 = 8;
const F_GETOWN: u32 = 9;
const F_SETSIG: u32 = 10;
const F_GETSIG: u32 = 11;
const F_SETOWN_EX: u32 = 15;
const F_GETOWN_EX: u32 = 16;
const F_OFD_GETLK: u32 = 36;
const F_OFD_SETLK: u32 = 37;
const F_OFD_SETLKW: u32 = 38;
const F_SETLEASE: u32 = 1024;
const F_GETLEASE: u32 = 1025;
const F_NOTIFY: u32 = 1026;
const F_DUPFD_QUERY: u32 = 1027;
const F_DUPFD_CLOEXEC: u32 = 1030;
const F_SETPIPE_SZ: u32 = 1031;
const F_GETPIPE_SZ: u32 = 1032;
const F_ADD_SEALS: u32 = 1033;
const F_GET_SEALS: u32 = 1034;

const F_RDLCK: i16 = 0;
const F_WRLCK: i16 = 1;
const F_UNLCK: i16 = 2;

/// What `F_SETFL` can change.
const SETTABLE: OpenFlags = OpenFlags::APPEND
    .union(OpenFlags::NONBLOCK)
    .union(OpenFlags::ASYNC)
    .union(OpenFlags::DIRECT)
    .union(OpenFlags::NOATIME);

abi_struct! {
    /// `struct flock`.
    pub struct RawFlock {
        kind: i16,
        whence: i16,
        pad: u32,
        start: i64,
        len: i64,
        pid: i32,
        pad2: u32,
    }
}

abi_struct! {
    /// `struct f_owner_ex`.
    pub struct OwnerEx {
        kind: i32,
        pid: i32,
    }
}

/// `fcntl(2)`.
pub fn sys_fcntl(cx: &Context, fd: Fd, cmd: u32, arg: u64) -> Result<usize> {
    let files = cx.files();
    let file = files.get_any(fd)?;
    let path_only = file.is_path_only();
    match cmd {
        F_DUPFD | F_DUPFD_CLOEXEC => {
            let from = usize::try_from(arg as i32).map_err(|_| Errno::EINVAL)?;
            let cloexec = if cmd == F_DUPFD {
                CloseOnExec::No
            } else {
                CloseOnExec::Yes
            };
            Ok(files.install_from(from, file, cloexec)?.0 as usize)
        }
        F_DUPFD_QUERY => Ok(usize::from(
            files
                .get_any(Fd(arg as i32))
                .is_ok_and(|other| Arc::ptr_eq(&file, &other)),
        )),
        F_GETFD => Ok(usize::from(files.close_on_exec_of(fd)? == CloseOnExec::Yes)),
        F_SETFD => {
            files.set_close_on_exec(
                fd,
                if arg & 1 != 0 {
                    CloseOnExec::Yes
                } else {
                    CloseOnExec::No
                },
            )?;
            Ok(0)
        }
        F_GETFL => Ok(file.flags().bits() as usize),
        _ if path_only => Err(Errno::EBADF),
        F_SETFL => set_flags(cx, fd, &file, OpenFlags::from_bits_retain(arg as u32)),
        F_GETLK | F_OFD_GETLK => get_lock(cx, &file, UserPtr::new(arg), cmd == F_OFD_GETLK),
        F_SETLK | F_SETLKW | F_OFD_SETLK | F_OFD_SETLKW => set_lock(cx, fd, &file, UserPtr::new(arg), cmd),
        F_SETOWN => {
            let target = match arg as i32 {
                0 => Target::Nobody,
                pid @ 1.. => Target::Process(Pid(pid)),
                group => Target::Group(Pid(group.checked_neg().ok_or(Errno::EINVAL)?)),
            };
            fasync::set_owner(&file, target, cx.task().cred())?;
            Ok(0)
        }
        // A negative result is a process group, not an error.
        F_GETOWN => {
            let target = file.owner().lock().target;
            let number = match target {
                Target::Nobody => 0,
                Target::Thread(pid) | Target::Process(pid) => pid.0,
                Target::Group(group) => -group.0,
            };
            Ok(number as isize as usize)
        }
        F_SETOWN_EX => set_owner_ex(cx, &file, UserPtr::<OwnerEx>::new(arg).read()?),
        F_GETOWN_EX => {
            let target = file.owner().lock().target;
            let (kind, pid) = match target {
                Target::Nobody => (1, 0),
                Target::Thread(pid) => (0, pid.0),
                Target::Process(pid) => (1, pid.0),
                Target::Group(group) => (2, group.0),
            };
            let owner = OwnerEx { kind, pid };
            UserPtr::new(arg).write(&owner)?;
            Ok(0)
        }
        F_SETSIG => {
            if arg != 0 && Signal::new(arg as i32).is_none() {
                return Err(Errno::EINVAL);
            }
            file.owner().lock().signal = arg as u8;
            Ok(0)
        }
        F_GETSIG => Ok(usize::from(file.owner().lock().signal)),
        F_SETLEASE => {
            let wanted = match i16::try_from(arg as i32) {
                Ok(F_UNLCK) => None,
                Ok(raw) => Some(kind(raw)?),
                Err(_) => return Err(Errno::EINVAL),
            };
            lease::set(cx.task(), fd, &file, wanted)?;
            Ok(0)
        }
        F_GETLEASE => Ok(match lease::get(&file) {
            None => F_UNLCK,
            Some(LockKind::Read) => F_RDLCK,
            Some(LockKind::Write) => F_WRLCK,
        } as usize),
        F_NOTIFY => {
            arch_um::stub!("fcntl(F_NOTIFY)");
            Err(Errno::EINVAL)
        }
        F_SETPIPE_SZ => pipe_of(&file)?.set_capacity(arg as u32 as usize, &cx.task().cred()),
        F_GETPIPE_SZ => Ok(pipe_of(&file)?.capacity()),
        F_ADD_SEALS => add_seals(&file, arg as u32),
        F_GET_SEALS => Ok(sealable(&file)?.seals()? as usize),
        _ => Err(Errno::EINVAL),
    }
}

fn pipe_of(file: &File) -> Result<&PipeEnd> {
    file.ops_as::<PipeEnd>().ok_or(Errno::EBADF)
}

fn sealable(file: &File) -> Result<&TmpInode> {
    file.ops_as::<TmpInode>().ok_or(Errno::EINVAL)
}

fn add_seals(file: &File, seals: u32) -> Result<usize> {
    const KNOWN: u32 = SEAL_SEAL | SEAL_SHRINK | SEAL_GROW | SEAL_WRITE | SEAL_FUTURE_WRITE | SEAL_EXEC;
    let inode = sealable(file)?;
    if !file.access().contains(Access::WRITE) {
        return Err(Errno::EPERM);
    }
    if seals & !KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    inode.add_seals(seals)?;
    Ok(0)
}

fn set_flags(cx: &Context, fd: Fd, file: &Arc<File>, flags: OpenFlags) -> Result<usize> {
    let changed = file.flags() ^ flags;
    if changed.contains(OpenFlags::NOATIME)
        && flags.contains(OpenFlags::NOATIME)
        && let Some(inode) = file.inode()
        && !permission::is_owner(&cx.task().cred(), &inode.metadata()?)
    {
        return Err(Errno::EPERM);
    }
    let new = (file.flags() - SETTABLE) | (flags & SETTABLE);
    file.ops().flags_changed(file, new)?;
    file.set_flags(SETTABLE, flags);
    if changed.contains(OpenFlags::ASYNC) {
        file.follow_async(fd);
    }
    Ok(0)
}

fn set_owner_ex(cx: &Context, file: &File, owner: OwnerEx) -> Result<usize> {
    let pid = Pid(owner.pid);
    let target = match (owner.kind, owner.pid) {
        (0..=2, 0) => Target::Nobody,
        (0, _) => Target::Thread(pid),
        (1, _) => Target::Process(pid),
        (2, _) => Target::Group(pid),
        _ => return Err(Errno::EINVAL),
    };
    fasync::set_owner(file, target, cx.task().cred())?;
    Ok(0)
}

/// First and last byte of a lock. `EINVAL` before byte 0, `EOVERFLOW` behind the last.
fn range(file: &File, raw: &RawFlock) -> Result<(u64, u64)> {
    let base = match raw.whence {
        0 => 0,
        1 => *file.position() as i64,
        2 => file
            .inode()
            .map_or(Ok(0), |inode| inode.metadata().map(|meta| meta.size as i64))?,
        _ => return Err(Errno::EINVAL),
    };
    let start = base.checked_add(raw.start).ok_or(Errno::EOVERFLOW)?;
    let (first, last) = match raw.len {
        0 => (start, END as i64),
        len if len > 0 => (start, start.checked_add(len - 1).ok_or(Errno::EOVERFLOW)?),
        len => (start.checked_add(len).ok_or(Errno::EINVAL)?, start - 1),
    };
    let first = u64::try_from(first).map_err(|_| Errno::EINVAL)?;
    let last = u64::try_from(last).map_err(|_| Errno::EINVAL)?;
    Ok((first, last))
}

fn owner(cx: &Context, file: &File, is_ofd: bool) -> (Owner, i32) {
    match is_ofd {
        true => (Owner::Description(file.id()), -1),
        false => (Owner::Process(cx.files().id()), cx.task().process().pid().0),
    }
}

fn kind(raw: i16) -> Result<LockKind> {
    match raw {
        F_RDLCK => Ok(LockKind::Read),
        F_WRLCK => Ok(LockKind::Write),
        _ => Err(Errno::EINVAL),
    }
}

fn get_lock(cx: &Context, file: &File, at: UserPtr<RawFlock>, is_ofd: bool) -> Result<usize> {
    let mut raw = at.read()?;
    if is_ofd && raw.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let kind = kind(raw.kind)?;
    let (start, end) = range(file, &raw)?;
    let (owner, pid) = owner(cx, file, is_ofd);
    let inode = file.inode().ok_or(Errno::EBADF)?;
    match lock::test(
        &*inode,
        &Record {
            owner,
            kind,
            start,
            end,
            pid,
        },
    ) {
        None => raw.kind = F_UNLCK,
        Some(held) => {
            raw.kind = if held.kind == LockKind::Read { F_RDLCK } else { F_WRLCK };
            raw.whence = 0;
            raw.start = held.start as i64;
            raw.len = if held.end == END {
                0
            } else {
                (held.end - held.start + 1) as i64
            };
            raw.pid = held.pid;
        }
    }
    at.write(&raw)?;
    Ok(0)
}

fn set_lock(cx: &Context, fd: Fd, file: &Arc<File>, at: UserPtr<RawFlock>, cmd: u32) -> Result<usize> {
    let raw = at.read()?;
    let is_ofd = matches!(cmd, F_OFD_SETLK | F_OFD_SETLKW);
    if is_ofd && raw.pid != 0 {
        return Err(Errno::EINVAL);
    }
    let (start, end) = range(file, &raw)?;
    let (owner, pid) = owner(cx, file, is_ofd);
    let inode = file.inode().ok_or(Errno::EBADF)?;
    if raw.kind == F_UNLCK {
        lock::release(&*inode, owner, start, end);
        return Ok(0);
    }
    let kind = kind(raw.kind)?;
    file.require(if kind == LockKind::Read {
        Access::READ
    } else {
        Access::WRITE
    })?;
    let patience = if matches!(cmd, F_SETLKW | F_OFD_SETLKW) {
        Patience::Wait
    } else {
        Patience::Now
    };
    lock::acquire(
        &*inode,
        Record {
            owner,
            kind,
            start,
            end,
            pid,
        },
        patience,
    )?;
    // Another thread may have closed the descriptor meanwhile: then nobody would ever give the lock back.
    let still = cx.files().get_any(fd).is_ok_and(|now| Arc::ptr_eq(&now, file));
    if !still && !is_ofd {
        lock::release(&*inode, owner, start, end);
        return Err(Errno::EBADF);
    }
    Ok(0)
}

/// `flock(2)`.
pub fn sys_flock(cx: &Context, fd: Fd, operation: u32) -> Result<usize> {
    const LOCK_SH: u32 = 1;
    const LOCK_EX: u32 = 2;
    const LOCK_NB: u32 = 4;
    const LOCK_UN: u32 = 8;
    let kind = match operation & !LOCK_NB {
        LOCK_SH => Some(LockKind::Read),
        LOCK_EX => Some(LockKind::Write),
        LOCK_UN => None,
        _ => return Err(Errno::EINVAL),
    };
    let file = cx.files().get(fd)?;
    let inode = file.inode().ok_or(Errno::EBADF)?;
    let owner = Owner::Flock(file.id());
    let Some(kind) = kind else {
        lock::release(&*inode, owner, 0, END);
        return Ok(0);
    };
    if inode.kind() == FileType::Symlink {
        return Err(Errno::EBADF);
    }
    let patience = if operation & LOCK_NB != 0 {
        Patience::Now
    } else {
        Patience::Wait
    };
    let pid = cx.task().process().pid().0;
    lock::acquire(
        &*inode,
        Record {
            owner,
            kind,
            start: 0,
            end: END,
            pid,
        },
        patience,
    )?;
    Ok(0)
}
