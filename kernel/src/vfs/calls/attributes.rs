//! `chmod(2)`, `chown(2)`, `utimensat(2)` and their relatives.

use super::at;
use crate::syscall::Context;
use crate::task::{Capabilities, Cred};
use crate::user::{UserAddr, UserPtr};
use crate::vfs::fd_table::Fd;
use crate::vfs::permission::{self, May};
use crate::vfs::{FileType, Metadata, Mode, Path, SetAttr, TimesFrom, Timespec};
use crate::{Errno, Result};

fn change_mode(place: &Path, cred: &Cred, mode: u32) -> Result<usize> {
    place.mount.require_writable()?;
    if place.dentry.kind() == FileType::Symlink {
        return Err(Errno::EOPNOTSUPP);
    }
    let inode = place.inode();
    let meta = inode.metadata()?;
    if !permission::is_owner(cred, &meta) {
        return Err(Errno::EPERM);
    }
    let mut mode = Mode::from_bits_truncate(mode & 0o7777);
    // Set-group-ID is for members of the group.
    if !cred.in_group(meta.gid) && !cred.capable(Capabilities::FSETID) {
        mode -= Mode::SETGID;
    }
    inode.set_attr(&SetAttr {
        mode: Some(mode),
        ..SetAttr::default()
    })?;
    Ok(0)
}

/// `fchmodat2(2)`.
pub fn sys_fchmodat2(cx: &Context, dir: Fd, path: UserAddr, mode: u32, flags: u32) -> Result<usize> {
    at::check_flags(flags, at::SYMLINK_NOFOLLOW | at::EMPTY_PATH)?;
    let (walk, place) = at::resolve(cx, dir, path, flags)?;
    change_mode(&place, &walk.cred, mode)
}

/// `fchmodat(2)`: the old call without flags.
pub fn sys_fchmodat(cx: &Context, dir: Fd, path: UserAddr, mode: u32) -> Result<usize> {
    sys_fchmodat2(cx, dir, path, mode, 0)
}

/// `chmod(2)`.
pub fn sys_chmod(cx: &Context, path: UserAddr, mode: u32) -> Result<usize> {
    sys_fchmodat2(cx, Fd::CWD, path, mode, 0)
}

/// `fchmod(2)`.
pub fn sys_fchmod(cx: &Context, fd: Fd, mode: u32) -> Result<usize> {
    let file = cx.files().get(fd)?;
    let place = file.path().ok_or(Errno::EBADF)?;
    change_mode(place, &cx.task().cred(), mode)
}

fn id(raw: u32) -> Option<u32> {
    (raw != u32::MAX).then_some(raw)
}

fn change_owner(place: &Path, cred: &Cred, uid: u32, gid: u32) -> Result<usize> {
    place.mount.require_writable()?;
    let inode = place.inode();
    let meta = inode.metadata()?;
    let (uid, gid) = (id(uid), id(gid));
    let privileged = cred.capable(Capabilities::CHOWN);
    let owns = cred.fsuid == meta.uid;
    if uid.is_some_and(|uid| !(privileged || owns && uid == meta.uid)) {
        return Err(Errno::EPERM);
    }
    if gid.is_some_and(|gid| !(privileged || owns && (gid == meta.gid || cred.in_group(gid)))) {
        return Err(Errno::EPERM);
    }
    let mut change = SetAttr {
        uid,
        gid,
        ..SetAttr::default()
    };
    if place.dentry.kind() != FileType::Directory {
        change.mode = lost_by_chown(&meta);
    }
    inode.set_attr(&change)?;
    Ok(0)
}

/// Set-id bits go with a change of owner, even one of the superuser.
fn lost_by_chown(meta: &Metadata) -> Option<Mode> {
    permission::without_set_id(meta.mode)
}

/// `fchownat(2)`.
pub fn sys_fchownat(cx: &Context, dir: Fd, path: UserAddr, uid: u32, gid: u32, flags: u32) -> Result<usize> {
    at::check_flags(flags, at::SYMLINK_NOFOLLOW | at::EMPTY_PATH)?;
    let (walk, place) = at::resolve(cx, dir, path, flags)?;
    change_owner(&place, &walk.cred, uid, gid)
}

/// `chown(2)`.
pub fn sys_chown(cx: &Context, path: UserAddr, uid: u32, gid: u32) -> Result<usize> {
    sys_fchownat(cx, Fd::CWD, path, uid, gid, 0)
}

/// `lchown(2)`.
pub fn sys_lchown(cx: &Context, path: UserAddr, uid: u32, gid: u32) -> Result<usize> {
    sys_fchownat(cx, Fd::CWD, path, uid, gid, at::SYMLINK_NOFOLLOW)
}

/// `fchown(2)`.
pub fn sys_fchown(cx: &Context, fd: Fd, uid: u32, gid: u32) -> Result<usize> {
    let file = cx.files().get(fd)?;
    let place = file.path().ok_or(Errno::EBADF)?;
    change_owner(place, &cx.task().cred(), uid, gid)
}

/// What to do with one of the two times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum NewTime {
    Now,
    Omit,
    At(Timespec),
}

const UTIME_NOW: i64 = 0x3fff_ffff;
const UTIME_OMIT: i64 = 0x3fff_fffe;

fn from_timespec(raw: [i64; 2]) -> Result<NewTime> {
    match raw[1] {
        UTIME_NOW => Ok(NewTime::Now),
        UTIME_OMIT => Ok(NewTime::Omit),
        nsec @ 0..1_000_000_000 => Ok(NewTime::At(Timespec {
            sec: raw[0],
            nsec: nsec as u32,
        })),
        _ => Err(Errno::EINVAL),
    }
}

fn from_timeval(raw: [i64; 2]) -> Result<NewTime> {
    match raw[1] {
        usec @ 0..1_000_000 => Ok(NewTime::At(Timespec {
            sec: raw[0],
            nsec: usec as u32 * 1000,
        })),
        _ => Err(Errno::EINVAL),
    }
}

fn change_times(place: &Path, cred: &Cred, times: [NewTime; 2]) -> Result<usize> {
    if times == [NewTime::Omit; 2] {
        return Ok(0);
    }
    place.mount.require_writable()?;
    let inode = place.inode();
    let meta = inode.metadata()?;
    if !permission::is_owner(cred, &meta) {
        // "Now" is for everyone who may write; any other time is the owner's.
        if times != [NewTime::Now; 2] {
            return Err(Errno::EPERM);
        }
        permission::path(place, cred, May::WRITE)?;
    }
    let now = Timespec::now();
    let value = |time| match time {
        NewTime::Now => Some(now),
        NewTime::Omit => None,
        NewTime::At(time) => Some(time),
    };
    inode.set_attr(&SetAttr {
        atime: value(times[0]),
        mtime: value(times[1]),
        times: if times == [NewTime::Now; 2] {
            TimesFrom::Clock
        } else {
            TimesFrom::Caller
        },
        ..SetAttr::default()
    })?;
    Ok(0)
}

fn set_times(cx: &Context, dir: Fd, path: UserAddr, times: [NewTime; 2], flags: u32) -> Result<usize> {
    let (walk, place) = at::resolve(cx, dir, path, flags)?;
    change_times(&place, &walk.cred, times)
}

/// `utimensat(2)`; without a path on the descriptor itself (`futimens(3)`).
pub fn sys_utimensat(
    cx: &Context,
    dir: Fd,
    path: UserAddr,
    times: UserPtr<[[i64; 2]; 2]>,
    flags: u32,
) -> Result<usize> {
    at::check_flags(flags, at::SYMLINK_NOFOLLOW | at::EMPTY_PATH)?;
    let times = match times.non_null() {
        Some(times) => times.read()?.map(from_timespec),
        None => [Ok(NewTime::Now); 2],
    };
    let times = [times[0]?, times[1]?];
    if path.is_null() && dir != Fd::CWD {
        if flags & at::SYMLINK_NOFOLLOW != 0 {
            return Err(Errno::EINVAL);
        }
        let file = cx.files().get(dir)?;
        let place = file.path().ok_or(Errno::EBADF)?;
        return change_times(place, &cx.task().cred(), times);
    }
    set_times(cx, dir, path, times, flags)
}

/// `futimesat(2)`: microseconds.
pub fn sys_futimesat(cx: &Context, dir: Fd, path: UserAddr, times: UserPtr<[[i64; 2]; 2]>) -> Result<usize> {
    let times = match times.non_null() {
        Some(times) => times.read()?.map(from_timeval),
        None => [Ok(NewTime::Now); 2],
    };
    set_times(cx, dir, path, [times[0]?, times[1]?], 0)
}

/// `utimes(2)`.
pub fn sys_utimes(cx: &Context, path: UserAddr, times: UserPtr<[[i64; 2]; 2]>) -> Result<usize> {
    sys_futimesat(cx, Fd::CWD, path, times)
}

/// `utime(2)`: seconds.
pub fn sys_utime(cx: &Context, path: UserAddr, times: UserPtr<[i64; 2]>) -> Result<usize> {
    let times = match times.non_null() {
        Some(times) => times.read()?.map(|sec| NewTime::At(Timespec { sec, nsec: 0 })),
        None => [NewTime::Now; 2],
    };
    set_times(cx, Fd::CWD, path, times, 0)
}
