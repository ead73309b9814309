//! Mounts: file system instances placed in the tree.

use alloc::sync::Arc;

use super::dentry::Dentry;
use super::inode::FileSystem;

/// One placement of an instance (or of a subtree of it).
pub struct Mount {
    fs: Arc<dyn FileSystem>,
    root: Arc<Dentry>,
}

impl Mount {
    /// The instance.
    pub fn fs(&self) -> &Arc<dyn FileSystem> {
        &self.fs
    }

    /// The directory of the instance that shows at the mount point.
    pub fn root(&self) -> &Arc<Dentry> {
        &self.root
    }
}
