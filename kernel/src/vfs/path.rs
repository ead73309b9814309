//! [`Path`]: a place in the mount tree, a name in a mount. Walks are in `walk`, mounts in `mount`, names in `dentry`.

use alloc::sync::Arc;

use super::dentry::Dentry;
use super::inode::Inode;
use super::mount::Mount;

/// A dentry as seen through one mount.
#[derive(Clone)]
pub struct Path {
    /// The mount it is seen through.
    pub mount: Arc<Mount>,
    /// The name.
    pub dentry: Arc<Dentry>,
}

impl Path {
    /// The file it names.
    pub fn inode(&self) -> Arc<dyn Inode> {
        self.dentry.inode().clone()
    }

    /// Whether both are the same place.
    pub fn same_as(&self, other: &Path) -> bool {
        Arc::ptr_eq(&self.mount, &other.mount) && Arc::ptr_eq(&self.dentry, &other.dentry)
    }
}
