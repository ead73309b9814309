//! [`SuperBlock`]: what the VFS keeps for one file system instance, however often it is mounted.
//!
//! Found by the instance's identity, so that mounting the same instance twice shows one tree of names. When the last mount and the last open
//! file let go, the instance is unmounted. Lock order: the list is a leaf.

use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use arch_um::sync::{SpinLock, order};

use super::dentry::{self, Dentry};
use super::inode::{FileSystem, FsFlags, MountSource};
use crate::Result;

/// One instance in use.
pub struct SuperBlock {
    fs: Arc<dyn FileSystem>,
    root: Arc<Dentry>,
    read_only: AtomicBool,
}

/// Every instance in use.
static ALL: SpinLock<Vec<Weak<SuperBlock>>> = SpinLock::new(&order::LEAF, Vec::new());

impl SuperBlock {
    /// The super block of `fs`, made if this is its first use, with `read_only` then.
    pub fn of(fs: Arc<dyn FileSystem>, read_only: bool) -> Arc<Self> {
        if let Some(found) = all().into_iter().find(|block| Arc::ptr_eq(&block.fs, &fs)) {
            return found;
        }
        let root = Dentry::root(fs.root());
        let made = Arc::new(Self {
            fs,
            root,
            read_only: AtomicBool::new(read_only),
        });
        let mut list = ALL.lock();
        list.retain(|block| block.strong_count() > 0);
        list.push(Arc::downgrade(&made));
        made
    }

    /// The instance.
    pub fn fs(&self) -> &Arc<dyn FileSystem> {
        &self.fs
    }

    /// The root of its names.
    pub fn root(&self) -> &Arc<Dentry> {
        &self.root
    }

    /// Whether nothing on it may change.
    pub fn is_read_only(&self) -> bool {
        self.read_only.load(Ordering::Acquire)
    }

    /// Changes that (`mount -o remount,ro`); the file system has agreed.
    pub fn set_read_only(&self, read_only: bool) {
        self.read_only.store(read_only, Ordering::Release);
    }
}

impl Drop for SuperBlock {
    fn drop(&mut self) {
        dentry::purge(&self.fs);
        if let Err(error) = self.fs.unmount() {
            log::error!("VFS: unmount of {} failed: {error}", self.fs.fs_type());
        }
    }
}

/// Every instance in use now.
pub fn all() -> Vec<Arc<SuperBlock>> {
    ALL.lock().iter().filter_map(Weak::upgrade).collect()
}

/// Makes every instance on a block device read-only, whoever writes to it (sysrq `u`). What a file system says against it is logged.
pub fn freeze_all() {
    let on_disk = |block: &Arc<SuperBlock>| block.fs.flags().contains(FsFlags::NEEDS_DEVICE);
    for block in all().into_iter().filter(on_disk) {
        if block.is_read_only() {
            continue;
        }
        let wish = MountSource {
            read_only: true,
            ..MountSource::default()
        };
        match block.fs.remount(&wish) {
            Ok(()) => block.set_read_only(true),
            Err(error) => log::error!("VFS: {} stays writable: {error}", block.fs.fs_type()),
        }
    }
}

/// `sync(2)`: writes out every instance, then every disk; the first error is reported after all were tried.
pub fn sync_all() -> Result<()> {
    let mut result = Ok(());
    for block in all() {
        let done = block.fs.sync();
        if result.is_ok() {
            result = done;
        }
    }
    result.and(crate::block::disk::sync_all())
}
