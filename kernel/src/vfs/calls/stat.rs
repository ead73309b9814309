//! `stat(2)`, `statx(2)`, `statfs(2)` and their relatives, `access(2)`.

use alloc::sync::Arc;

use super::at;
use crate::abi_struct;
use crate::syscall::Context;
use crate::task::{Capabilities, Cred};
use crate::user::{UserAddr, UserPtr};
use crate::vfs::fd_table::Fd;
use crate::vfs::file::File;
use crate::vfs::mount::{Mount, MountFlags};
use crate::vfs::permission::{self, May};
use crate::vfs::walk::WalkContext;
use crate::vfs::{DevT, FileType, Metadata, Path, Timespec, anon, super_block};
use crate::{Errno, Result};

abi_struct! {
    /// `struct stat`.
    pub struct RawStat {
        /// Device.
        pub dev: u64,
        /// Inode number.
        pub ino: u64,
        /// Links.
        pub nlink: u64,
        /// Type and permission.
        pub mode: u32,
        /// Owner.
        pub uid: u32,
        /// Group.
        pub gid: u32,
        pad: u32,
        /// Device it stands for.
        pub rdev: u64,
        /// Bytes.
        pub size: i64,
        /// Preferred size of I/O.
        pub blksize: i64,
        /// Units of 512 bytes.
        pub blocks: i64,
        /// Last access.
        pub atime: [i64; 2],
        /// Last change of contents.
        pub mtime: [i64; 2],
        /// Last change of the inode.
        pub ctime: [i64; 2],
        unused: [i64; 3],
    }
}

abi_struct! {
    /// `struct statx_timestamp`.
    pub struct StatxTime {
        sec: i64,
        nsec: u32,
        reserved: i32,
    }
}

abi_struct! {
    /// `struct statx`.
    pub struct RawStatx {
        mask: u32,
        blksize: u32,
        attributes: u64,
        nlink: u32,
        uid: u32,
        gid: u32,
        mode: u16,
        spare0: u16,
        ino: u64,
        size: u64,
        blocks: u64,
        attributes_mask: u64,
        atime: StatxTime,
        btime: StatxTime,
        ctime: StatxTime,
        mtime: StatxTime,
        rdev_major: u32,
        rdev_minor: u32,
        dev_major: u32,
        dev_minor: u32,
        mnt_id: u64,
        dio_mem_align: u32,
        dio_offset_align: u32,
        spare3: [u64; 12],
    }
}

abi_struct! {
    /// `struct statfs`.
    pub struct RawStatFs {
        kind: i64,
        bsize: i64,
        blocks: u64,
        bfree: u64,
        bavail: u64,
        files: u64,
        ffree: u64,
        fsid: [i32; 2],
        namelen: i64,
        frsize: i64,
        flags: i64,
        spare: [i64; 4],
    }
}

abi_struct! {
    /// `struct ustat`.
    pub struct RawUstat {
        tfree: i32,
        pad: u32,
        tinode: u64,
        fname: [u8; 6],
        fpack: [u8; 6],
        pad2: u32,
    }
}

fn pair(time: Timespec) -> [i64; 2] {
    [time.sec, i64::from(time.nsec)]
}

/// The `st_mode` of the place: type and permission; no type for nameless objects.
fn mode_of(path: &Path, meta: &Metadata) -> u32 {
    let kind = if anon::is_typeless(path) {
        0
    } else {
        meta.kind.mode_bits()
    };
    kind | meta.mode.bits()
}

fn stat_of(path: &Path, meta: &Metadata) -> RawStat {
    RawStat {
        dev: meta.dev.encode(),
        ino: meta.ino,
        nlink: u64::from(meta.nlink),
        mode: mode_of(path, meta),
        uid: meta.uid,
        gid: meta.gid,
        pad: 0,
        rdev: meta.rdev.encode(),
        size: meta.size as i64,
        blksize: i64::from(meta.blksize),
        blocks: meta.blocks as i64,
        atime: pair(meta.atime),
        mtime: pair(meta.mtime),
        ctime: pair(meta.ctime),
        unused: [0; 3],
    }
}

/// `newfstatat(2)`.
pub fn sys_newfstatat(cx: &Context, dir: Fd, path: UserAddr, out: UserPtr<RawStat>, flags: u32) -> Result<usize> {
    at::check_flags(
        flags,
        at::SYMLINK_NOFOLLOW | at::NO_AUTOMOUNT | at::EMPTY_PATH | at::STATX_SYNC_TYPE,
    )?;
    let (place, meta) = at::resolve_metadata(cx, dir, path, flags)?;
    out.write(&stat_of(&place, &meta))?;
    Ok(0)
}

/// `stat(2)`.
pub fn sys_stat(cx: &Context, path: UserAddr, out: UserPtr<RawStat>) -> Result<usize> {
    sys_newfstatat(cx, Fd::CWD, path, out, 0)
}

/// `lstat(2)`.
pub fn sys_lstat(cx: &Context, path: UserAddr, out: UserPtr<RawStat>) -> Result<usize> {
    sys_newfstatat(cx, Fd::CWD, path, out, at::SYMLINK_NOFOLLOW)
}

/// `fstat(2)`; also on `O_PATH` descriptors.
pub fn sys_fstat(cx: &Context, fd: Fd, out: UserPtr<RawStat>) -> Result<usize> {
    let (_file, path) = at::path_of(cx, fd)?;
    let meta = path.dentry.inode().metadata()?;
    out.write(&stat_of(&path, &meta))?;
    Ok(0)
}

const STATX_BASIC_STATS: u32 = 0x7ff;
const STATX_BTIME: u32 = 0x800;
const STATX_MNT_ID: u32 = 0x1000;
const STATX_RESERVED: u32 = 0x8000_0000;
const STATX_ATTR_MOUNT_ROOT: u64 = 0x2000;

fn statx_time(time: Timespec) -> StatxTime {
    StatxTime {
        sec: time.sec,
        nsec: time.nsec,
        reserved: 0,
    }
}

/// `statx(2)`: everything that is known is given, whatever `mask` asks for.
pub fn sys_statx(
    cx: &Context,
    dir: Fd,
    path: UserAddr,
    flags: u32,
    mask: u32,
    out: UserPtr<RawStatx>,
) -> Result<usize> {
    if mask & STATX_RESERVED != 0 || flags & at::STATX_SYNC_TYPE == at::STATX_SYNC_TYPE {
        return Err(Errno::EINVAL);
    }
    at::check_flags(
        flags,
        at::SYMLINK_NOFOLLOW | at::NO_AUTOMOUNT | at::EMPTY_PATH | at::STATX_SYNC_TYPE,
    )?;
    let (place, meta) = at::resolve_metadata(cx, dir, path, flags)?;
    let has_birth = if meta.btime.is_some() { STATX_BTIME } else { 0 };
    out.write(&RawStatx {
        mask: STATX_BASIC_STATS | STATX_MNT_ID | has_birth,
        blksize: meta.blksize,
        attributes: if place.is_mount_root() {
            STATX_ATTR_MOUNT_ROOT
        } else {
            0
        },
        attributes_mask: STATX_ATTR_MOUNT_ROOT,
        nlink: meta.nlink,
        uid: meta.uid,
        gid: meta.gid,
        mode: mode_of(&place, &meta) as u16,
        ino: meta.ino,
        size: meta.size,
        blocks: meta.blocks,
        atime: statx_time(meta.atime),
        btime: statx_time(meta.btime.unwrap_or_default()),
        ctime: statx_time(meta.ctime),
        mtime: statx_time(meta.mtime),
        rdev_major: meta.rdev.major,
        rdev_minor: meta.rdev.minor,
        dev_major: meta.dev.major,
        dev_minor: meta.dev.minor,
        mnt_id: u64::from(place.mount.id()),
        ..RawStatx::default()
    })?;
    Ok(0)
}

/// The flags of `statfs(2)`, which differ from those of `mount(2)` here and there.
fn statfs_flags(mount: &Mount) -> i64 {
    const ST_VALID: i64 = 0x20;
    let flags = mount.flags();
    let mut out = ST_VALID;
    for (flag, bit) in [
        (MountFlags::NOSUID, 2),
        (MountFlags::NODEV, 4),
        (MountFlags::NOEXEC, 8),
        (MountFlags::NOATIME, 1024),
        (MountFlags::NODIRATIME, 2048),
        (MountFlags::RELATIME, 4096),
        (MountFlags::NOSYMFOLLOW, 8192),
    ] {
        if flags.contains(flag) {
            out |= bit;
        }
    }
    if mount.is_read_only() { out | 1 } else { out }
}

fn statfs_of(mount: &Arc<Mount>) -> Result<RawStatFs> {
    let stat = mount.fs().statfs()?;
    Ok(RawStatFs {
        kind: stat.magic as i64,
        bsize: stat.bsize as i64,
        blocks: stat.blocks,
        bfree: stat.bfree,
        bavail: stat.bavail,
        files: stat.files,
        ffree: stat.ffree,
        fsid: [stat.fsid as i32, (stat.fsid >> 32) as i32],
        namelen: stat.namelen as i64,
        frsize: if stat.frsize == 0 { stat.bsize } else { stat.frsize } as i64,
        flags: statfs_flags(mount),
        spare: [0; 4],
    })
}

/// `statfs(2)`.
pub fn sys_statfs(cx: &Context, path: UserAddr, out: UserPtr<RawStatFs>) -> Result<usize> {
    let (_, place) = at::resolve(cx, Fd::CWD, path, 0)?;
    out.write(&statfs_of(&place.mount)?)?;
    Ok(0)
}

/// `fstatfs(2)`; also on `O_PATH` descriptors.
pub fn sys_fstatfs(cx: &Context, fd: Fd, out: UserPtr<RawStatFs>) -> Result<usize> {
    let (_file, path) = at::path_of(cx, fd)?;
    out.write(&statfs_of(&path.mount)?)?;
    Ok(0)
}

/// `ustat(2)`: by device number; `EINVAL` when nothing of it is mounted.
pub fn sys_ustat(_cx: &Context, dev: u32, out: UserPtr<RawUstat>) -> Result<usize> {
    let dev = DevT::decode(u64::from(dev));
    let block = super_block::all()
        .into_iter()
        .find(|block| block.fs().dev() == dev)
        .ok_or(Errno::EINVAL)?;
    let stat = block.fs().statfs()?;
    out.write(&RawUstat {
        tfree: stat.bfree as i32,
        tinode: stat.ffree,
        ..RawUstat::default()
    })?;
    Ok(0)
}

/// The identity that `access(2)` asks for: the real ids, and capabilities only as far as they go with them.
fn real_identity(cred: &Cred) -> Arc<Cred> {
    let mut real = cred.clone();
    real.fsuid = cred.uid;
    real.fsgid = cred.gid;
    real.effective = if cred.uid == 0 {
        cred.permitted
    } else {
        Capabilities::empty()
    };
    Arc::new(real)
}

/// `faccessat2(2)`.
pub fn sys_faccessat2(cx: &Context, dir: Fd, path: UserAddr, mode: u32, flags: u32) -> Result<usize> {
    at::check_flags(flags, at::EACCESS | at::SYMLINK_NOFOLLOW | at::EMPTY_PATH)?;
    if mode & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    let text = if path.is_null() && flags & at::EMPTY_PATH != 0 {
        Default::default()
    } else {
        path.read_path()?
    };
    let mut start = at::Start::new(cx, dir, &text)?;
    if flags & at::EACCESS == 0 {
        start.walk = WalkContext {
            cred: real_identity(&start.walk.cred),
            ..start.walk
        };
    }
    let place = match text.is_empty() && flags & at::EMPTY_PATH != 0 {
        true => start.start.clone(),
        false => start.lookup(&text, at::follow_unless(flags))?,
    };
    let may = May::from_bits_truncate(mode);
    if may.is_empty() {
        return Ok(0);
    }
    permission::path(&place, &start.walk.cred, may)?;
    Ok(0)
}

/// `faccessat(2)`: the old call without flags.
pub fn sys_faccessat(cx: &Context, dir: Fd, path: UserAddr, mode: u32) -> Result<usize> {
    sys_faccessat2(cx, dir, path, mode, 0)
}

/// `access(2)`.
pub fn sys_access(cx: &Context, path: UserAddr, mode: u32) -> Result<usize> {
    sys_faccessat2(cx, Fd::CWD, path, mode, 0)
}

/// `FIOQSIZE`: the size of a file, directory or symlink.
pub(super) fn size_of(file: &File) -> Result<u64> {
    let inode = file.inode().ok_or(Errno::ENOTTY)?;
    match inode.kind() {
        FileType::Regular | FileType::Directory | FileType::Symlink => Ok(inode.metadata()?.size),
        _ => Err(Errno::ENOTTY),
    }
}
