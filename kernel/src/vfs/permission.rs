//! Who may do what to a file: mode bits, access control lists and capabilities (`path_resolution(7)`, `acl(5)`, `capabilities(7)`).

use alloc::sync::Arc;

use bitflags::bitflags;

use super::acl::{Acl, AclKind};
use super::attr::{FileType, Metadata, Mode, NewMode};
use super::file::Access;
use super::inode::{FsFlags, Inode, NewAttr};
use super::path::Path;
use crate::task::{Capabilities, Cred};
use crate::{Errno, Result};

bitflags! {
    /// What is asked for: the bits of `access(2)`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct May: u32 {
        /// Run a file, pass through a directory.
        const EXEC = 1;
        /// Change it.
        const WRITE = 2;
        /// Read it.
        const READ = 4;
    }
}

impl From<Access> for May {
    fn from(access: Access) -> May {
        let mut may = May::empty();
        may.set(May::READ, access.contains(Access::READ));
        may.set(May::WRITE, access.contains(Access::WRITE));
        may
    }
}

/// Checks mode bits, access list and capabilities, then what the file system itself says. `EACCES`.
pub fn inode(inode: &dyn Inode, kind: FileType, fs: FsFlags, cred: &Cred, may: May) -> Result<()> {
    mode_bits(inode, kind, cred, may)?;
    if fs.contains(FsFlags::OWN_ACCESS_CHECK) {
        inode.host_access(may.bits())?;
    }
    Ok(())
}

fn mode_bits(inode: &dyn Inode, kind: FileType, cred: &Cred, may: May) -> Result<()> {
    // Most walks are root's: the capabilities of a directory need no look at it.
    if kind == FileType::Directory {
        if cred.capable(Capabilities::DAC_OVERRIDE) {
            return Ok(());
        }
        if !may.contains(May::WRITE) && cred.capable(Capabilities::DAC_READ_SEARCH) {
            return Ok(());
        }
    } else {
        let reads = may == May::READ && cred.capable(Capabilities::DAC_READ_SEARCH);
        let overrides = !may.contains(May::EXEC) && cred.capable(Capabilities::DAC_OVERRIDE);
        if reads || overrides {
            return Ok(());
        }
    }
    let meta = inode.walk_metadata()?;
    let mode = meta.mode.bits();
    let allows = |granted: u32| may.bits() & !granted == 0;
    let is_granted = if meta.uid == cred.fsuid {
        allows(mode >> 6)
    } else if let Some(acl) = access_list(inode, meta.mode)? {
        acl.grants(meta.gid, cred, may)
    } else if cred.in_group(meta.gid) {
        allows(mode >> 3)
    } else {
        allows(mode)
    };
    if is_granted {
        return Ok(());
    }
    if kind != FileType::Directory && cred.capable(Capabilities::DAC_OVERRIDE) && mode & 0o111 != 0 {
        return Ok(());
    }
    Err(Errno::EACCES)
}

/// The access list of a file, unless the mode bits decide. Linux does not look where the group bits, which are the list's mask, are all gone.
fn access_list(inode: &dyn Inode, mode: Mode) -> Result<Option<Arc<Acl>>> {
    if mode.bits() & 0o070 == 0 {
        return Ok(None);
    }
    inode.acl(AclKind::Access)
}

/// Checks a place: the mount, the mode bits, the file system. `EROFS`, `EACCES`.
pub fn path(path: &Path, cred: &Cred, may: May) -> Result<()> {
    let dentry = &path.dentry;
    if may.contains(May::WRITE)
        && matches!(
            dentry.kind(),
            FileType::Regular | FileType::Directory | FileType::Symlink
        )
    {
        path.mount.require_writable()?;
    }
    if may.contains(May::EXEC) && dentry.kind() == FileType::Regular && !path.mount.allows_exec() {
        return Err(Errno::EACCES);
    }
    inode(&**dentry.inode(), dentry.kind(), dentry.fs_flags(), cred, may)
}

/// Whether `cred` owns the file or may act as its owner (`CAP_FOWNER`).
pub fn is_owner(cred: &Cred, meta: &Metadata) -> bool {
    cred.fsuid == meta.uid || cred.capable(Capabilities::FOWNER)
}

/// Whether the name of `victim` in the directory `dir` may be removed or replaced: write permission, the sticky bit.
///
/// # Errors
/// `EROFS`, `EACCES`; `EPERM` by the sticky bit.
pub fn may_delete(dir: &Path, victim: &dyn Inode, cred: &Cred) -> Result<()> {
    path(dir, cred, May::WRITE | May::EXEC)?;
    let parent = dir.dentry.inode().walk_metadata()?;
    if !parent.mode.contains(Mode::STICKY) || cred.capable(Capabilities::FOWNER) || parent.uid == cred.fsuid {
        return Ok(());
    }
    if victim.walk_metadata()?.uid == cred.fsuid {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// Owner and mode of a new file of `kind` in `dir`. A set-group-ID directory hands down its group. Where `dir` has a default list, that takes the
/// place of the umask; the file system applies it.
pub fn new_attr(dir: &dyn Inode, kind: FileType, mode: NewMode, cred: &Cred) -> Result<NewAttr> {
    let parent = dir.walk_metadata()?;
    let has_default = kind != FileType::Symlink && dir.acl(AclKind::Default)?.is_some();
    let mut attr = NewAttr {
        mode: if has_default {
            mode.wanted
        } else {
            mode.wanted - mode.umask
        },
        uid: cred.fsuid,
        gid: cred.fsgid,
    };
    if parent.mode.contains(Mode::SETGID) {
        attr.gid = parent.gid;
        if kind == FileType::Directory {
            attr.mode |= Mode::SETGID;
        }
    }
    let set_group_exec = Mode::SETGID | Mode::GROUP_EXEC;
    let foreign = !cred.in_group(attr.gid) && !cred.capable(Capabilities::FSETID);
    if kind != FileType::Directory && mode.wanted.contains(set_group_exec) && foreign {
        attr.mode -= Mode::SETGID;
    }
    Ok(attr)
}

/// The mode a file has left after someone without `CAP_FSETID` changed its contents; none when nothing goes.
pub fn without_set_id(mode: Mode) -> Option<Mode> {
    let mut lost = mode & Mode::SETUID;
    if mode.contains(Mode::SETGID | Mode::GROUP_EXEC) {
        lost |= Mode::SETGID;
    }
    (!lost.is_empty()).then_some(mode - lost)
}
