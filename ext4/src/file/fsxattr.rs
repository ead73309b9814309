//! `FS_IOC_FSGETXATTR` and `FS_IOC_FSSETXATTR`: flags under their common names, and the project that a file belongs to.

use kernel::user::UserAddr;
use kernel::vfs::FileType;

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
    /// Sets what [`get`] shows. `EOPNOTSUPP` for flags that ext4 does not have, and for a project where there are none.
    pub(crate) fn set_project_and_flags(&self, project: u32, common: u32, may: May) -> Result<()> {
        let known: u32 = FLAGS.iter().map(|(bit, _)| bit).sum();
        if common & !known != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let mut wanted = self.core.lock().flags & Flags::from_bits_retain(USER_MODIFIABLE);
        for (bit, flag) in FLAGS {
            wanted.set(flag, common & bit != 0);
        }
        if wanted.contains(Flags::PROJINHERIT) && self.kind != FileType::Directory {
            return Err(Errno::EINVAL);
        }
        self.require_project(project)?;
        set_flags(self, wanted.bits(), may)?;
        if self.core.lock().project == project {
            return Ok(());
        }
        let mut tx = Tx::begin(&self.fs, 2)?;
        self.core.lock().project = project;
        tx.write_inode(self)
    }

    fn require_project(&self, project: u32) -> Result<()> {
        let (now, extra_isize) = {
            let core = self.core.lock();
            (core.project, core.extra_isize)
        };
        if project == now {
            return Ok(());
        }
        let geometry = &self.fs.geometry;
        if !geometry.ro_compat.contains(RoCompat::PROJECT) || geometry.inode_size as usize <= OLD_SIZE {
            return Err(Errno::EOPNOTSUPP);
        }
        if OLD_SIZE + usize::from(extra_isize) < PROJECT_END {
            return Err(Errno::EOVERFLOW);
        }
        Ok(())
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
