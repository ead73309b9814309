//! What the host knows about a file: [`Stat`] (`statx(2)`), [`HostStatFs`] (`fstatfs(2)`).

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::name::with_name;
use super::sys::{check, retry};
use crate::errno::Errno;

/// A time as the host tells it: seconds since the epoch and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct HostTime {
    /// Seconds.
    pub sec: i64,
    /// Nanoseconds below 10⁹.
    pub nsec: u32,
}

/// The basic fields of `statx(2)` and the birth time.
#[derive(Clone, Copy, Debug)]
pub struct Stat {
    /// The host's device of the file: major, minor.
    pub dev: (u32, u32),
    /// Inode number.
    pub ino: u64,
    /// Type and permission bits, as `st_mode`.
    pub mode: u32,
    /// Hard links.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The device this file stands for: major, minor.
    pub rdev: (u32, u32),
    /// Bytes.
    pub size: u64,
    /// Preferred I/O size.
    pub blksize: u32,
    /// Units of 512 bytes in use.
    pub blocks: u64,
    /// Last access.
    pub atime: HostTime,
    /// Last change of contents.
    pub mtime: HostTime,
    /// Last change of the inode.
    pub ctime: HostTime,
    /// Birth, where the host's file system keeps it.
    pub btime: Option<HostTime>,
}

fn statx(dir: i32, path: &CStr, flags: i32) -> Result<Stat, Errno> {
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
    let mut out = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the path is a C string, the host writes at most one `struct statx`.
    retry(|| unsafe { libc::statx(dir, path.as_ptr(), flags, mask, out.as_mut_ptr()) })?;
    // SAFETY: zeroed before, plain numbers: every pattern is a value.
    let raw = unsafe { out.assume_init() };
    let time = |t: libc::statx_timestamp| HostTime {
        sec: t.tv_sec,
        nsec: t.tv_nsec,
    };
    Ok(Stat {
        dev: (raw.stx_dev_major, raw.stx_dev_minor),
        ino: raw.stx_ino,
        mode: u32::from(raw.stx_mode),
        nlink: raw.stx_nlink,
        uid: raw.stx_uid,
        gid: raw.stx_gid,
        rdev: (raw.stx_rdev_major, raw.stx_rdev_minor),
        size: raw.stx_size,
        blksize: raw.stx_blksize,
        blocks: raw.stx_blocks,
        atime: time(raw.stx_atime),
        mtime: time(raw.stx_mtime),
        ctime: time(raw.stx_ctime),
        btime: (raw.stx_mask & libc::STATX_BTIME != 0).then(|| time(raw.stx_btime)),
    })
}

/// The entry `name` of `dir` itself, never what a symlink leads to. Does not start an automount.
///
/// # Errors
/// `ENOENT`, `EACCES`, `EINVAL` for a name that is not one component.
pub fn stat_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Stat, Errno> {
    let flags = libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
    with_name(name, |name| statx(dir.as_raw_fd(), name, flags))
}

/// The file behind `fd`; an `O_PATH` descriptor is good enough.
///
/// # Errors
/// The host's.
pub fn stat_fd(fd: BorrowedFd<'_>) -> Result<Stat, Errno> {
    statx(fd.as_raw_fd(), c"", libc::AT_EMPTY_PATH)
}

/// `statfs(2)` as the host tells it.
#[derive(Clone, Copy, Debug)]
pub struct HostStatFs {
    /// Magic number of the host's file system.
    pub magic: u64,
    /// Block size in bytes.
    pub bsize: u64,
    /// Blocks in all.
    pub blocks: u64,
    /// Free blocks.
    pub bfree: u64,
    /// Blocks free for unprivileged users.
    pub bavail: u64,
    /// Inodes in all.
    pub files: u64,
    /// Free inodes.
    pub ffree: u64,
    /// Longest name.
    pub namelen: u64,
    /// Fragment size.
    pub frsize: u64,
    /// Whether it answers from memory or from a disk of this machine: not a network file system, not one run by a user process.
    pub local: bool,
}

/// Magic numbers of file systems whose calls may wait for another machine or another process (`statfs(2)`).
const REMOTE: [u64; 12] = [
    0x6969,
    0xff53_4d42,
    0xfe53_4d42,
    0x517b,
    0x0102_1997,
    0x6573_5546,
    0x00c3_6400,
    0x5346_414f,
    0x7375_7245,
    0x0bd0_0bd0,
    0x0187,
    0x786f_4256,
];

/// The file system that `fd` lies on; an `O_PATH` descriptor is good enough.
///
/// # Errors
/// The host's.
pub fn statfs_fd(fd: BorrowedFd<'_>) -> Result<HostStatFs, Errno> {
    let mut out = MaybeUninit::<libc::statfs64>::zeroed();
    // SAFETY: the host writes at most one `struct statfs64`.
    retry(|| unsafe { libc::fstatfs64(fd.as_raw_fd(), out.as_mut_ptr()) })?;
    // SAFETY: zeroed before, plain numbers.
    let raw = unsafe { out.assume_init() };
    let magic = raw.f_type as u64 & 0xffff_ffff;
    Ok(HostStatFs {
        magic,
        bsize: raw.f_bsize as u64,
        blocks: raw.f_blocks,
        bfree: raw.f_bfree,
        bavail: raw.f_bavail,
        files: raw.f_files,
        ffree: raw.f_ffree,
        namelen: raw.f_namelen as u64,
        frsize: raw.f_frsize as u64,
        local: !REMOTE.contains(&magic),
    })
}

/// The effective user and group of this process on the host.
pub fn effective_ids() -> (u32, u32) {
    // SAFETY: these calls cannot fail and touch no memory.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// `faccessat2(2)` with the effective ids, on the file behind `fd`: `mask` of R=4, W=2, X=1.
///
/// # Errors
/// `EACCES`; `EROFS` for writing on a read-only file system; `ENOSYS` on hosts before Linux 5.8.
pub fn access_fd(fd: BorrowedFd<'_>, mask: u32) -> Result<(), Errno> {
    let flags = libc::AT_EACCESS | libc::AT_EMPTY_PATH;
    // SAFETY: a constant C string and numbers.
    check(unsafe { libc::syscall(libc::SYS_faccessat2, fd.as_raw_fd(), c"".as_ptr(), mask & 7, flags) }).map(drop)
}

/// As [`access_fd`] for the entry `name` itself.
///
/// # Errors
/// As there; `ENOENT`.
pub fn access_at(dir: BorrowedFd<'_>, name: &[u8], mask: u32) -> Result<(), Errno> {
    let flags = libc::AT_EACCESS | libc::AT_SYMLINK_NOFOLLOW;
    with_name(name, |name| {
        // SAFETY: a C string and numbers.
        check(unsafe { libc::syscall(libc::SYS_faccessat2, dir.as_raw_fd(), name.as_ptr(), mask & 7, flags) }).map(drop)
    })
}
