//! Names in a host directory: every call takes the directory's descriptor and one component, never a path, so that no symlink and no rename on
//! the host leads anywhere else. `.`, `..`, `/` and NUL are refused with `EINVAL`.
//!
//! The exception is [`open_beneath`], for the directory a user names at mount time: the host resolves it as if the given root were `/`.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use bitflags::bitflags;

use super::HostTime;
use super::name::{retry_fd, with_cstr, with_name};
use super::sys::{check, retry};
use crate::errno::Errno;

bitflags! {
    /// How a host file is opened beyond its access.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct HostOpen: i32 {
        /// Around the page cache.
        const DIRECT = libc::O_DIRECT;
        /// Without a new access time; `EPERM` for files of others.
        const NOATIME = libc::O_NOATIME;
    }

    /// `renameat2(2)`'s flags, Linux's numbers.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct HostRename: u32 {
        /// Fail with `EEXIST` when the new name exists.
        const NOREPLACE = libc::RENAME_NOREPLACE;
        /// Swap.
        const EXCHANGE = libc::RENAME_EXCHANGE;
        /// Leave a whiteout.
        const WHITEOUT = libc::RENAME_WHITEOUT;
    }
}

/// What a host descriptor may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostAccess {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Both.
    ReadWrite,
}

impl HostAccess {
    fn bits(self) -> i32 {
        match self {
            Self::Read => libc::O_RDONLY,
            Self::Write => libc::O_WRONLY,
            Self::ReadWrite => libc::O_RDWR,
        }
    }
}

/// Whatever stands at the name, it never waits (a FIFO without a writer), never becomes our terminal and never leaks into a child.
const SAFE: i32 = libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK;

fn openat(dir: i32, name: &CStr, flags: i32, mode: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: the name is a C string; nothing else of ours is touched.
    retry_fd(|| i64::from(unsafe { libc::openat(dir, name.as_ptr(), flags, mode) }))
}

/// An `O_PATH` descriptor of the entry `name` itself (of a symlink, not of its target).
///
/// # Errors
/// `ENOENT`, `EACCES`, `EMFILE`.
pub fn open_path_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    with_name(name, |name| {
        openat(
            dir.as_raw_fd(),
            name,
            libc::O_PATH | libc::O_NOFOLLOW | libc::O_CLOEXEC,
            0,
        )
    })
}

/// As [`open_path_at`] for what must be a directory; starts an automount there.
///
/// # Errors
/// `ENOTDIR` for anything else (symlinks too), `ENOENT`, `EACCES`, `EMFILE`.
pub fn open_dir_path_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    with_name(name, |name| openat(dir.as_raw_fd(), name, flags, 0))
}

/// Opens the regular file `name`. The caller compares the identity of what it got with what it expected.
///
/// # Errors
/// `ELOOP` for a symlink, `ENXIO` for a socket or a FIFO, `ETXTBSY`, `EACCES`, `EROFS`, …
pub fn open_at(dir: BorrowedFd<'_>, name: &[u8], access: HostAccess, how: HostOpen) -> Result<OwnedFd, Errno> {
    with_name(name, |name| {
        openat(
            dir.as_raw_fd(),
            name,
            access.bits() | how.bits() | libc::O_NOFOLLOW | SAFE,
            0,
        )
    })
}

/// Makes and opens a new regular file for reading and writing. The host's umask applies to `mode`.
///
/// # Errors
/// `EEXIST`, `EACCES`, `ENOSPC`, `EROFS`, `ENAMETOOLONG`, …
pub fn create_at(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<OwnedFd, Errno> {
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW | SAFE;
    with_name(name, |name| openat(dir.as_raw_fd(), name, flags, mode))
}

/// A new file without a name in the file system of `dir` (`O_TMPFILE`).
///
/// # Errors
/// `EOPNOTSUPP` where the host's file system cannot, `EACCES`, `ENOSPC`.
pub fn create_unnamed_in(dir: BorrowedFd<'_>, mode: u32) -> Result<OwnedFd, Errno> {
    openat(dir.as_raw_fd(), c".", libc::O_RDWR | libc::O_TMPFILE | SAFE, mode)
}

/// Opens the directory behind `dir` (an `O_PATH` descriptor) for reading its entries.
///
/// # Errors
/// `EACCES`, `ENOTDIR`.
pub fn open_entries(dir: BorrowedFd<'_>, how: HostOpen) -> Result<OwnedFd, Errno> {
    openat(
        dir.as_raw_fd(),
        c".",
        libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC | how.bits(),
        0,
    )
}

/// The name under which /proc shows an open descriptor: the file itself, wherever its names went.
fn magic_path(fd: BorrowedFd<'_>) -> Result<CString, Errno> {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(|_| Errno::EINVAL)
}

/// Runs `f` with a path that leads to the file behind `fd` through /proc; see `xattr`.
pub(super) fn with_magic_path<R>(fd: BorrowedFd<'_>, f: impl FnOnce(&CStr) -> Result<R, Errno>) -> Result<R, Errno> {
    f(&magic_path(fd)?)
}

/// Opens the file behind `fd` (any descriptor, `O_PATH` too) once more with other rights. Needs the host's /proc.
///
/// # Errors
/// `EACCES`, `EROFS`, `ETXTBSY`; `ELOOP` for a symlink.
pub fn reopen(fd: BorrowedFd<'_>, access: HostAccess, how: HostOpen) -> Result<OwnedFd, Errno> {
    with_magic_path(fd, |path| {
        openat(libc::AT_FDCWD, path, access.bits() | how.bits() | SAFE, 0)
    })
}

/// Resolves `path` as if `root` were the root directory: absolute symlinks and `..` stay inside. The result is an `O_PATH` descriptor.
///
/// # Errors
/// `ENOENT`, `EACCES`, `ELOOP`; `ENOSYS` on hosts before Linux 5.6.
pub fn open_beneath(root: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    #[repr(C)]
    struct OpenHow {
        flags: u64,
        mode: u64,
        resolve: u64,
    }
    let resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow {
        flags: (libc::O_PATH | libc::O_CLOEXEC) as u64,
        mode: 0,
        resolve,
    };
    let path = if path.is_empty() { b"." } else { path };
    with_cstr(path, |path| {
        retry_fd(|| {
            // SAFETY: the path is a C string, `how` is a `struct open_how` of the size given.
            unsafe {
                libc::syscall(
                    libc::SYS_openat2,
                    root.as_raw_fd(),
                    path.as_ptr(),
                    &raw const how,
                    size_of::<OpenHow>(),
                )
            }
        })
    })
}

/// An `O_PATH` descriptor of the directory at `path` as the host resolves it: for what the person who starts the kernel names.
///
/// # Errors
/// `ENOENT`, `ENOTDIR`, `EACCES`.
pub fn open_dir_path(path: &[u8]) -> Result<OwnedFd, Errno> {
    with_cstr(path, |path| {
        openat(
            libc::AT_FDCWD,
            path,
            libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC,
            0,
        )
    })
}

/// `mkdirat(2)`. The host's umask applies.
///
/// # Errors
/// `EEXIST`, `EACCES`, `ENOSPC`, `EROFS`, …
pub fn mkdir_at(dir: BorrowedFd<'_>, name: &[u8], mode: u32) -> Result<(), Errno> {
    with_name(name, |name| {
        // SAFETY: the name is a C string.
        retry(|| unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode) }).map(drop)
    })
}

/// `mknodat(2)`; `mode` carries the type, `rdev` is major and minor.
///
/// # Errors
/// `EPERM` for devices without the right, `EEXIST`, …
pub fn mknod_at(dir: BorrowedFd<'_>, name: &[u8], mode: u32, rdev: (u32, u32)) -> Result<(), Errno> {
    let rdev = libc::makedev(rdev.0, rdev.1);
    with_name(name, |name| {
        // SAFETY: the name is a C string.
        retry(|| unsafe { libc::mknodat(dir.as_raw_fd(), name.as_ptr(), mode, rdev) }).map(drop)
    })
}

/// `symlinkat(2)`: `name` in `dir` leads to `target`.
///
/// # Errors
/// `EEXIST`, `ENAMETOOLONG`, `EACCES`, …
pub fn symlink_at(target: &[u8], dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    with_cstr(target, |target| {
        with_name(name, |name| {
            // SAFETY: both are C strings.
            retry(|| unsafe { libc::symlinkat(target.as_ptr(), dir.as_raw_fd(), name.as_ptr()) }).map(drop)
        })
    })
}

/// `linkat(2)`: one more name for the file behind `fd`, `O_PATH` descriptors and `O_TMPFILE` files included. Needs the host's /proc.
///
/// # Errors
/// `EXDEV`, `EPERM` (directories, protected hard links), `ENOENT` for a file whose last name is gone, `EMLINK`, …
pub fn link_fd_at(fd: BorrowedFd<'_>, dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    with_magic_path(fd, |path| {
        with_name(name, |name| {
            let flags = libc::AT_SYMLINK_FOLLOW;
            // SAFETY: both are C strings.
            let call = || unsafe { libc::linkat(libc::AT_FDCWD, path.as_ptr(), dir.as_raw_fd(), name.as_ptr(), flags) };
            retry(call).map(drop)
        })
    })
}

/// `linkat(2)`: `name` in `dir` for what `old` in `old_dir` is; a symlink itself, not its target.
///
/// # Errors
/// As [`link_fd_at`].
pub fn link_at(old_dir: BorrowedFd<'_>, old: &[u8], dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    with_name(old, |old| {
        with_name(name, |name| {
            let (from, to) = (old_dir.as_raw_fd(), dir.as_raw_fd());
            // SAFETY: both are C strings.
            retry(|| unsafe { libc::linkat(from, old.as_ptr(), to, name.as_ptr(), 0) }).map(drop)
        })
    })
}

/// `unlinkat(2)` of a non-directory.
///
/// # Errors
/// `ENOENT`, `EISDIR`, `EACCES`, `EBUSY`, …
pub fn unlink_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    with_name(name, |name| {
        // SAFETY: the name is a C string.
        retry(|| unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), 0) }).map(drop)
    })
}

/// `unlinkat(2)` of an empty directory.
///
/// # Errors
/// `ENOTEMPTY`, `ENOTDIR`, `EBUSY`, …
pub fn rmdir_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    let flags = libc::AT_REMOVEDIR;
    with_name(name, |name| {
        // SAFETY: the name is a C string.
        retry(|| unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), flags) }).map(drop)
    })
}

/// `renameat2(2)`.
///
/// # Errors
/// `EXDEV`, `EEXIST`, `ENOTEMPTY`, `EINVAL` for a directory into itself or flags the host's file system lacks, …
pub fn rename_at(
    old_dir: BorrowedFd<'_>,
    old: &[u8],
    new_dir: BorrowedFd<'_>,
    new: &[u8],
    flags: HostRename,
) -> Result<(), Errno> {
    with_name(old, |old| {
        with_name(new, |new| {
            let (from, to) = (old_dir.as_raw_fd(), new_dir.as_raw_fd());
            // SAFETY: both are C strings.
            retry(|| unsafe { libc::renameat2(from, old.as_ptr(), to, new.as_ptr(), flags.bits()) }).map(drop)
        })
    })
}

/// `readlinkat(2)` of the symlink behind the `O_PATH` descriptor `fd`; targets up to 64 KiB.
///
/// # Errors
/// `EINVAL` or `ENOENT` when it is not a symlink.
pub fn read_link_fd(fd: BorrowedFd<'_>) -> Result<Vec<u8>, Errno> {
    read_link(fd.as_raw_fd(), c"")
}

/// `readlinkat(2)` of the entry `name`.
///
/// # Errors
/// `EINVAL` when it is not a symlink, `ENOENT`, `EACCES`.
pub fn read_link_at(dir: BorrowedFd<'_>, name: &[u8]) -> Result<Vec<u8>, Errno> {
    with_name(name, |name| read_link(dir.as_raw_fd(), name))
}

fn read_link(dir: i32, name: &CStr) -> Result<Vec<u8>, Errno> {
    let mut size = 256;
    loop {
        let mut text = vec![0u8; size];
        // SAFETY: the host writes at most `text.len()` bytes into the vector.
        let got = retry(|| unsafe { libc::readlinkat(dir, name.as_ptr(), text.as_mut_ptr().cast(), text.len()) })?;
        // A full buffer may have cut the text.
        if (got as usize) < size || size >= 65536 {
            text.truncate(got as usize);
            return Ok(text);
        }
        size *= 4;
    }
}

/// `chmod(2)` of the file behind `fd`, an `O_PATH` descriptor is good enough. Needs the host's /proc for those.
///
/// # Errors
/// `EPERM` for files of others, `EROFS`, `EOPNOTSUPP` for symlinks.
pub fn chmod_fd(fd: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    // SAFETY: numbers only.
    match retry(|| unsafe { libc::fchmod(fd.as_raw_fd(), mode) }) {
        Err(Errno::EBADF) => with_magic_path(fd, |path| {
            // SAFETY: the path is a C string.
            retry(|| unsafe { libc::chmod(path.as_ptr(), mode) }).map(drop)
        }),
        result => result.map(drop),
    }
}

/// `chown(2)` of the file behind `fd` itself (a symlink, not its target); `None` leaves the id.
///
/// # Errors
/// `EPERM` without the right, `EROFS`, …
pub fn chown_fd(fd: BorrowedFd<'_>, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    let (uid, gid) = (uid.unwrap_or(u32::MAX), gid.unwrap_or(u32::MAX));
    // SAFETY: a constant C string and numbers.
    retry(|| unsafe { libc::fchownat(fd.as_raw_fd(), c"".as_ptr(), uid, gid, libc::AT_EMPTY_PATH) }).map(drop)
}

/// As [`chown_fd`] for the entry `name` itself.
///
/// # Errors
/// As there.
pub fn chown_at(dir: BorrowedFd<'_>, name: &[u8], uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    let (uid, gid, flags) = (
        uid.unwrap_or(u32::MAX),
        gid.unwrap_or(u32::MAX),
        libc::AT_SYMLINK_NOFOLLOW,
    );
    with_name(name, |name| {
        // SAFETY: the name is a C string.
        retry(|| unsafe { libc::fchownat(dir.as_raw_fd(), name.as_ptr(), uid, gid, flags) }).map(drop)
    })
}

/// `utimensat(2)` on the file behind `fd` itself; `None` leaves a time.
///
/// # Errors
/// `EPERM`, `EACCES`, `EROFS`.
pub fn set_times_fd(fd: BorrowedFd<'_>, atime: Option<HostTime>, mtime: Option<HostTime>) -> Result<(), Errno> {
    let spec = |time: Option<HostTime>| match time {
        Some(time) => libc::timespec {
            tv_sec: time.sec,
            tv_nsec: i64::from(time.nsec),
        },
        None => libc::timespec {
            tv_sec: 0,
            tv_nsec: libc::UTIME_OMIT,
        },
    };
    let times = [spec(atime), spec(mtime)];
    let call = |path: &CStr, dir: i32, flags: i32| {
        // SAFETY: a C string and two `struct timespec`. The raw call, because glibc refuses an empty path before the host sees it.
        retry(|| unsafe { libc::syscall(libc::SYS_utimensat, dir, path.as_ptr(), times.as_ptr(), flags) }).map(drop)
    };
    match call(c"", fd.as_raw_fd(), libc::AT_EMPTY_PATH) {
        // Hosts before Linux 5.8 know no empty path here.
        Err(Errno::EINVAL | Errno::ENOENT) => with_magic_path(fd, |path| call(path, libc::AT_FDCWD, 0)),
        result => result,
    }
}

/// `truncate(2)` of the file behind an `O_PATH` descriptor. Needs the host's /proc.
///
/// # Errors
/// `EACCES`, `EFBIG`, `EPERM` (append-only, immutable), `ETXTBSY`, …
pub fn truncate_path_fd(fd: BorrowedFd<'_>, size: u64) -> Result<(), Errno> {
    let size = i64::try_from(size).map_err(|_| Errno::EFBIG)?;
    with_magic_path(fd, |path| {
        // SAFETY: the name is a C string.
        retry(|| unsafe { libc::truncate(path.as_ptr(), size) }).map(drop)
    })
}

/// The soft limit on open descriptors of this process (`RLIMIT_NOFILE`).
pub fn descriptor_limit() -> u64 {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the host writes one `struct rlimit`.
    match check(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }) {
        Ok(_) => limit.rlim_cur,
        Err(_) => 1024,
    }
}
