//! `ioctl(2)` on files and directories: flags, generation, trimming; the map of a file is in [`super::fiemap`].

use alloc::sync::Arc;

use kernel::syscall::Context;
use kernel::task::Capabilities;
use kernel::user::UserPtr;
use kernel::vfs::ioctl::FS_IOC_FIEMAP;
use kernel::vfs::{File, FileType};

use crate::inode::Inode;
use crate::layout::inode::{DIRECTORY_ONLY, Flags, OF_ALL, USER_MODIFIABLE, USER_VISIBLE};
use crate::resize;
use crate::transaction::Tx;
use crate::{Errno, Result};

const FS_IOC_GETFLAGS: u32 = 0x8008_6601;
const FS_IOC_SETFLAGS: u32 = 0x4008_6602;
const FS_IOC_GETVERSION: u32 = 0x8008_7601;
const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;
const EXT4_IOC_GROUP_EXTEND: u32 = 0x4008_6607;
const EXT4_IOC_GROUP_ADD: u32 = 0x4028_6608;
const EXT4_IOC_RESIZE_FS: u32 = 0x4008_6610;
const FITRIM: u32 = 0xc018_5879;

pub(crate) fn run(inode: &Arc<Inode>, cx: &Context, file: &File, cmd: u32, arg: u64) -> Result<usize> {
    match cmd {
        FS_IOC_GETFLAGS => {
            let flags = inode.core.lock().flags.bits() & USER_VISIBLE;
            UserPtr::<i32>::new(arg).write(&(flags as i32))?;
            Ok(0)
        }
        FS_IOC_SETFLAGS => {
            let wanted = UserPtr::<i32>::new(arg).read()? as u32;
            let may = require_changer(inode, cx, file)?;
            set_flags(inode, wanted, may)?;
            Ok(0)
        }
        FS_IOC_GETVERSION => {
            let generation = inode.core.lock().generation;
            UserPtr::<i32>::new(arg).write(&(generation as i32))?;
            Ok(0)
        }
        FS_IOC_FSGETXATTR => super::fsxattr::get(inode, arg),
        FS_IOC_FSSETXATTR => {
            let may = require_changer(inode, cx, file)?;
            super::fsxattr::set(inode, arg, may)
        }
        FS_IOC_FIEMAP => super::fiemap::run(inode, arg),
        FITRIM => {
            if !cx.task().cred().capable(Capabilities::SYS_ADMIN) {
                return Err(Errno::EPERM);
            }
            let request = UserPtr::<u64>::new(arg).read_many(3)?;
            let trimmed = inode.fs.trim(request[0], request[1], request[2])?;
            UserPtr::<u64>::new(arg).nth(1).write(&trimmed)?;
            Ok(0)
        }
        EXT4_IOC_GROUP_EXTEND => resize::extend_group(&inode.fs, cx, file, arg),
        EXT4_IOC_GROUP_ADD => resize::add_group(&inode.fs, cx, file, arg),
        EXT4_IOC_RESIZE_FS => resize::resize(&inode.fs, cx, file, arg),
        _ => Err(Errno::ENOTTY),
    }
}

/// Whether the caller may change flags at all, and which of the special ones.
fn require_changer(inode: &Inode, cx: &Context, file: &File) -> Result<May> {
    if let Some(path) = file.path() {
        path.mount.require_writable()?;
    }
    let cred = cx.task().cred();
    if cred.fsuid != inode.stat().uid && !cred.capable(Capabilities::FOWNER) {
        return Err(Errno::EPERM);
    }
    Ok(May {
        bind: cred.capable(Capabilities::LINUX_IMMUTABLE).into(),
        log: cred.capable(Capabilities::SYS_RESOURCE).into(),
    })
}

/// `chattr`: what may change changes, the rest must stay. `EOPNOTSUPP` for what this file system, or a file of this kind, cannot have.
pub(crate) fn set_flags(inode: &Inode, wanted: u32, may: May) -> Result<()> {
    if wanted & !USER_VISIBLE != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let wanted = Flags::from_bits_retain(wanted & USER_MODIFIABLE);
    let alien = match inode.kind {
        FileType::Directory => Flags::empty(),
        FileType::Regular => wanted & DIRECTORY_ONLY,
        _ => wanted - OF_ALL,
    };
    if !alien.is_empty() {
        return Err(Errno::EOPNOTSUPP);
    }
    let changed = (inode.core.lock().flags ^ wanted) & Flags::from_bits_retain(USER_MODIFIABLE);
    if changed.intersects(Flags::IMMUTABLE | Flags::APPEND) && may.bind == Allowed::No
        || changed.contains(Flags::JOURNAL_DATA) && may.log == Allowed::No
    {
        return Err(Errno::EPERM);
    }
    if changed.intersects(Flags::EXTENTS | Flags::CASEFOLD) {
        return Err(Errno::EOPNOTSUPP);
    }
    // Nothing else changes on a file that is immutable and stays so.
    if wanted.contains(Flags::IMMUTABLE) && !changed.contains(Flags::IMMUTABLE) && !changed.is_empty() {
        return Err(Errno::EPERM);
    }
    let _data = inode.data.write();
    if changed.contains(Flags::JOURNAL_DATA) && inode.kind == FileType::Regular && inode.fs.has_journal {
        inode.leave_journal()?;
    }
    let mut tx = Tx::begin(&inode.fs, 2)?;
    {
        let mut core = inode.core.lock();
        core.flags = (core.flags - Flags::from_bits_retain(USER_MODIFIABLE)) | wanted;
        core.ctime = kernel::vfs::Timespec::now();
    }
    tx.write_inode(inode)
}

/// What the caller of [`set_flags`] may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct May {
    /// Immutable and append-only: `CAP_LINUX_IMMUTABLE`.
    pub bind: Allowed,
    /// Data through the journal: `CAP_SYS_RESOURCE`.
    pub log: Allowed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Allowed {
    Yes,
    No,
}

impl From<bool> for Allowed {
    fn from(may: bool) -> Self {
        if may { Self::Yes } else { Self::No }
    }
}
