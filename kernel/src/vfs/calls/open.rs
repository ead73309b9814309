//! `open(2)`, `openat(2)`, `openat2(2)`, `creat(2)`, `pipe(2)`.

use super::at::Start;
use crate::abi::Abi;
use crate::abi_struct;
use crate::syscall::Context;
use crate::user::{UserAddr, UserPtr};
use crate::vfs::Mode;
use crate::vfs::fd_table::{CloseOnExec, Fd};
use crate::vfs::file::OpenFlags;
use crate::vfs::open::{self, OpenHow};
use crate::vfs::walk::WalkFlags;
use crate::{Errno, Result};

abi_struct! {
    /// `struct open_how`.
    pub struct RawOpenHow {
        /// `O_*`.
        pub flags: u64,
        /// Mode of a new file.
        pub mode: u64,
        /// `RESOLVE_*`.
        pub resolve: u64,
    }
}

const NO_XDEV: u64 = 1;
const NO_MAGICLINKS: u64 = 2;
const NO_SYMLINKS: u64 = 4;
const BENEATH: u64 = 8;
const IN_ROOT: u64 = 16;
const CACHED: u64 = 32;
/// Every flag of `open(2)` that has a meaning.
const KNOWN_FLAGS: u32 = 0o37777703;

fn open_with(cx: &Context, dir: Fd, path: UserAddr, how: OpenHow) -> Result<usize> {
    let text = path.read_path()?;
    let Start { walk, start } = Start::new(cx, dir, &text)?;
    let how = OpenHow {
        mode: cx.task().fs().masked(how.mode.wanted),
        ..how
    };
    let file = open::open(Some(cx), &walk, &start, &text, &how)?;
    let fd = cx.files().install(file, CloseOnExec::from(how.flags))?;
    Ok(fd.0 as usize)
}

/// `openat(2)`.
pub fn sys_openat(cx: &Context, dir: Fd, path: UserAddr, flags: u32, mode: u32) -> Result<usize> {
    let flags = OpenFlags::from_bits_retain(flags & KNOWN_FLAGS) | OpenFlags::LARGEFILE;
    open_with(
        cx,
        dir,
        path,
        OpenHow {
            flags,
            mode: Mode::from_bits_truncate(mode).into(),
            resolve: WalkFlags::empty(),
        },
    )
}

/// `open(2)`.
pub fn sys_open(cx: &Context, path: UserAddr, flags: u32, mode: u32) -> Result<usize> {
    sys_openat(cx, Fd::CWD, path, flags, mode)
}

/// `creat(2)`.
pub fn sys_creat(cx: &Context, path: UserAddr, mode: u32) -> Result<usize> {
    let flags = OpenFlags::CREAT | OpenFlags::WRONLY | OpenFlags::TRUNC;
    sys_openat(cx, Fd::CWD, path, flags.bits(), mode)
}

/// `openat2(2)`: unlike `open`, unknown flags are errors. `E2BIG` when a longer struct asks for what is not known.
pub fn sys_openat2(cx: &Context, dir: Fd, path: UserAddr, how: UserAddr, size: usize) -> Result<usize> {
    let raw: RawOpenHow = read_extensible(how, size)?;
    let flags = u32::try_from(raw.flags).map_err(|_| Errno::EINVAL)?;
    let makes = flags & (OpenFlags::CREAT | OpenFlags::TMPFILE_BIT).bits() != 0;
    let known = NO_XDEV | NO_MAGICLINKS | NO_SYMLINKS | BENEATH | IN_ROOT | CACHED;
    let both = BENEATH | IN_ROOT;
    let bad = flags & !KNOWN_FLAGS != 0 || raw.resolve & !known != 0 || raw.resolve & both == both;
    if bad || (!makes && raw.mode != 0) || raw.mode & !0o7777 != 0 {
        return Err(Errno::EINVAL);
    }
    let flags = OpenFlags::from_bits_retain(flags);
    let path_flags =
        OpenFlags::PATH | OpenFlags::DIRECTORY | OpenFlags::NOFOLLOW | OpenFlags::CLOEXEC | OpenFlags::LARGEFILE;
    if flags.contains(OpenFlags::PATH) && !path_flags.contains(flags) {
        return Err(Errno::EINVAL);
    }
    let mut resolve = WalkFlags::empty();
    for (bit, flag) in [
        (NO_XDEV, WalkFlags::NO_XDEV),
        (NO_MAGICLINKS, WalkFlags::NO_MAGICLINKS),
        (NO_SYMLINKS, WalkFlags::NO_SYMLINKS | WalkFlags::NO_MAGICLINKS),
        (BENEATH, WalkFlags::BENEATH),
        (IN_ROOT, WalkFlags::IN_ROOT),
        (CACHED, WalkFlags::CACHED),
    ] {
        if raw.resolve & bit != 0 {
            resolve |= flag;
        }
    }
    let changes = OpenFlags::CREAT | OpenFlags::TRUNC | OpenFlags::TMPFILE_BIT;
    if resolve.contains(WalkFlags::CACHED) && flags.intersects(changes) {
        return Err(Errno::EAGAIN);
    }
    let mode = Mode::from_bits_truncate(raw.mode as u32);
    open_with(
        cx,
        dir,
        path,
        OpenHow {
            flags: flags | OpenFlags::LARGEFILE,
            mode: mode.into(),
            resolve,
        },
    )
}

/// Reads a struct that grows over time: a shorter one is filled with zeros, the surplus of a longer one must be zero (`E2BIG`).
pub(crate) fn read_extensible<T: Abi>(at: UserAddr, size: usize) -> Result<T> {
    if size < T::SIZE {
        return Err(Errno::EINVAL);
    }
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    let mut bytes = alloc::vec![0; size];
    at.read(&mut bytes)?;
    if bytes[T::SIZE..].iter().any(|&byte| byte != 0) {
        return Err(Errno::E2BIG);
    }
    Ok(T::decode(&bytes[..T::SIZE]))
}

/// `pipe2(2)`.
pub fn sys_pipe2(cx: &Context, fds: UserPtr<[i32; 2]>, flags: u32) -> Result<usize> {
    let flags = OpenFlags::from_bits_retain(flags);
    // `O_NOTIFICATION_PIPE` shares `O_EXCL`'s bit and is left out of the configuration.
    if !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK | OpenFlags::DIRECT).contains(flags) {
        return Err(Errno::EINVAL);
    }
    let files = crate::vfs::pipe::pipe(flags, &cx.task().cred());
    let [reader, writer] = cx.files().install_pair(files, CloseOnExec::from(flags))?;
    fds.write(&[reader.0, writer.0]).inspect_err(|_| {
        let _ = cx.files().close(reader);
        let _ = cx.files().close(writer);
    })?;
    Ok(0)
}

/// `pipe(2)`.
pub fn sys_pipe(cx: &Context, fds: UserPtr<[i32; 2]>) -> Result<usize> {
    sys_pipe2(cx, fds, 0)
}
