//! `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR`: flags under their common names, and the project that a file belongs to.

use kernel::user::UserAddr;
use kernel::vfs::{FileType, Timespec};

use super::ioctl::{May, set_flags};
use crate::inode::Inode;
use crate::layout::features::RoCompat;
use crate::layout::inode::{Flags, OLD_SIZE, USER_MODIFIABLE};
use crate::layout::{get32, put32};
use crate::transaction::Tx;
use crate::{Errno, Result};

/// Bytes of `struct fsxattr`: flags, extent size, extents, project, copy-on-write extent size, padding.
const LEN: usize = 28;
/// Where the project id is.
const PROJECT: usize = 12;
/// Where the i_projid field ends in an inode.
const PROJECT_END: usize = 0xa0;

/// Hints about the size of extents, of a file and for the files in a directory: ext4 has neither.
const EXTENT_SIZE: u32 = 0x800;
const EXTENT_SIZE_INHERIT: u32 = 0x1000;

/// Each common flag and ours.
const FLAGS: [(u32, Flags); 6] = [
    (0x08, Flags::IMMUTABLE),
    (0x10, Flags::APPEND),
    (0x20, Flags::SYNC),
    (0x40, Flags::NOATIME),
    (0x80, Flags::NODUMP),
    (0x200, Flags::PROJINHERIT),
];

pub(super) fn get(inode: &Inode, arg: u64) -> Result<usize> {
    let (flags, project) = {
        let core = inode.core.lock();
        (core.flags, core.project)
    };
    let common = FLAGS.iter().filter(|(_, flag)| flags.contains(*flag));
    let mut raw = [0; LEN];
    put32(&mut raw, 0, common.map(|(bit, _)| bit).sum());
    put32(&mut raw, PROJECT, project);
    UserAddr(arg).write(&raw)?;
    Ok(0)
}

/// The caller may change flags at all.
pub(super) fn set(inode: &Inode, arg: u64, may: May) -> Result<usize> {
    let mut raw = [0; LEN];
    UserAddr(arg).read(&mut raw)?;
    inode.set_project_and_flags(get32(&raw, PROJECT), get32(&raw, 0), may)?;
    Ok(0)
}

impl Inode {
    /// Sets what [`get`] shows: the flags first, and they stay when the project cannot be. Flags that ext4 does not have are not looked at.
    ///
    /// # Errors
    /// `EINVAL` for no project's number and for hints that a file of this kind cannot have, `EOPNOTSUPP` for a project where there are none.
    pub(crate) fn set_project_and_flags(&self, project: u32, common: u32, may: May) -> Result<()> {
        let is_alien = match self.kind {
            FileType::Regular => common & EXTENT_SIZE_INHERIT != 0,
            FileType::Directory => common & EXTENT_SIZE != 0,
            _ => common & (EXTENT_SIZE | EXTENT_SIZE_INHERIT) != 0,
        };
        if project == u32::MAX || is_alien {
            return Err(Errno::EINVAL);
        }
        let (before, extra_isize) = {
            let core = self.core.lock();
            (core.flags, core.extra_isize)
        };
        let mut wanted = before & Flags::from_bits_retain(USER_MODIFIABLE);
        for (bit, flag) in FLAGS {
            wanted.set(flag, common & bit != 0);
        }
        let geometry = &self.fs.geometry;
        let has_projects = geometry.ro_compat.contains(RoCompat::PROJECT);
        let moves = project != self.core.lock().project;
        if (before & wanted).contains(Flags::IMMUTABLE) && has_projects && moves {
            return Err(Errno::EPERM);
        }
        set_flags(self, wanted.bits(), may)?;
        if !moves {
            return Ok(());
        }
        if !has_projects || geometry.inode_size as usize <= OLD_SIZE {
            return Err(Errno::EOPNOTSUPP);
        }
        if OLD_SIZE + usize::from(extra_isize) < PROJECT_END {
            return Err(Errno::EOVERFLOW);
        }
        let mut tx = Tx::begin(&self.fs, 2)?;
        {
            let mut core = self.core.lock();
            core.project = project;
            core.ctime = Timespec::now();
        }
        tx.write_inode(self)
    }

    /// `EXDEV` for a name in a directory whose files belong to another project.
    pub(crate) fn require_same_project(&self, file: &Inode) -> Result<()> {
        let (flags, project) = {
            let core = self.core.lock();
            (core.flags, core.project)
        };
        if flags.contains(Flags::PROJINHERIT) && file.core.lock().project != project {
            return Err(Errno::EXDEV);
        }
        Ok(())
    }
}
