//! Names: the cached tree of directory entries of one file system instance.

use alloc::sync::Arc;
use alloc::vec::Vec;

use arch_um::sync::{SpinLock, order};

use super::inode::Inode;

/// A name in a directory and the inode it leads to. The root of an instance has no parent.
pub struct Dentry {
    inode: Arc<dyn Inode>,
    place: SpinLock<Place>,
}

/// Where a dentry hangs; changes on rename.
struct Place {
    parent: Option<Arc<Dentry>>,
    name: Vec<u8>,
}

impl Dentry {
    /// A root.
    pub fn root(inode: Arc<dyn Inode>) -> Arc<Self> {
        Arc::new(Self {
            inode,
            place: SpinLock::new(
                &order::DCACHE,
                Place {
                    parent: None,
                    name: Vec::new(),
                },
            ),
        })
    }

    /// The inode it leads to; never changes.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// The directory above, none for a root.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.lock().parent.clone()
    }

    /// The name now, empty for a root.
    pub fn name(&self) -> Vec<u8> {
        self.place.lock().name.clone()
    }
}
