//! Files without a name: `memfd_create(2)`, shared anonymous mappings, System V shared memory.

use alloc::sync::Arc;

use super::options::Options;
use super::{TmpFs, inode::TmpInode};
use crate::Result;
use crate::task::Cred;
use crate::vfs::dentry::Dentry;
use crate::vfs::file::{File, OpenFlags};
use crate::vfs::inode::{FileSystem, NewAttr};
use crate::vfs::mount::Mount;
use crate::vfs::{Mode, Path};

/// Which seals a new file may get (`F_ADD_SEALS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealing {
    /// `MFD_ALLOW_SEALING`.
    Allowed,
    /// It is sealed against seals.
    Forbidden,
}

/// The instance they live on, which is in no tree.
fn home() -> &'static (Arc<TmpFs>, Arc<Mount>) {
    static HOME: spin::Once<(Arc<TmpFs>, Arc<Mount>)> = spin::Once::new();
    HOME.call_once(|| {
        let fs = TmpFs::new("tmpfs", Options::unlimited(0o1777));
        let mount = Mount::internal(fs.clone() as Arc<dyn FileSystem>);
        (fs, mount)
    })
}

/// A new empty file that shows as `/NAME (deleted)` (`memfd:x`, `dev/zero`, `SYSV00000000`), open for reading and writing.
///
/// # Errors
/// `ENOSPC`.
pub fn file(name: &[u8], mode: Mode, sealing: Sealing, cred: Arc<Cred>) -> Result<Arc<File>> {
    let (fs, mount) = home();
    let attr = NewAttr {
        mode,
        uid: cred.fsuid,
        gid: cred.fsgid,
    };
    let inode = TmpInode::unnamed(fs, attr)?;
    if sealing == Sealing::Allowed {
        inode.allow_seals();
    }
    let dentry = Dentry::unnamed(inode.clone(), mount.root(), name);
    let path = Path {
        mount: mount.clone(),
        dentry,
    };
    Ok(File::new(inode, Some(path), OpenFlags::RDWR, cred))
}
