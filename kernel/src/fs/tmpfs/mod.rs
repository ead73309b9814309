//! tmpfs: files in memory (`tmpfs(5)`).
//!
//! * [`content`]: the bytes of a file, in kernel memory until someone maps them, then in a memfd of their own.
//! * [`inode`]: files, directories and the rest.  * [`directory`]: names with stable positions.
//! * [`options`]: `size=`, `nr_inodes=`, `mode=` …  * [`shared`]: files without a name for `memfd_create(2)` and shared anonymous memory.
//!
//! An instance holds the tree strongly from its root; unmounting cuts the root off. Lock order: a directory's table (`FS`), attributes
//! (`INODE_ATTR`), limits (atomics). Contents are under a sleeping lock of class `INODE`, which is held over user copies.

pub mod content;
pub mod directory;
pub mod inode;
pub mod options;
pub mod shared;

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use arch_um::sync::{SpinLock, order};

use crate::vfs::inode::{FileSystemType, FsFlags, MountSource, anonymous_dev};
use crate::vfs::{DevT, FileSystem, Inode, StatFs, registry};
use crate::{Errno, Result};
use inode::TmpInode;
use options::Options;

const MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;
/// Unit of accounting.
pub const PAGE: u64 = 4096;

/// Guest memory in bytes, for the default limits.
static TOTAL_MEMORY: AtomicU64 = AtomicU64::new(1 << 30);

/// Tells how much memory the machine has: an instance takes at most half of it unless `size=` says otherwise.
pub fn set_total_memory(bytes: u64) {
    TOTAL_MEMORY.store(bytes, Ordering::Relaxed);
}

/// An instance.
pub struct TmpFs {
    kind: &'static str,
    magic: u64,
    dev: DevT,
    options: SpinLock<Options>,
    pages: AtomicU64,
    inodes: AtomicU64,
    next_ino: AtomicU64,
    root: SpinLock<Option<Arc<TmpInode>>>,
}

impl TmpFs {
    /// An empty instance that calls itself `kind`.
    pub fn new(kind: &'static str, options: Options) -> Arc<Self> {
        let magic = if kind == "ramfs" { RAMFS_MAGIC } else { MAGIC };
        let fs = Arc::new(Self {
            kind,
            magic,
            dev: anonymous_dev(),
            options: SpinLock::new(&order::FS, options.clone()),
            pages: AtomicU64::new(0),
            inodes: AtomicU64::new(1),
            next_ino: AtomicU64::new(1),
            root: SpinLock::new(&order::FS, None),
        });
        let root = TmpInode::root(&fs, &options);
        *fs.root.lock() = Some(root);
        fs
    }

    fn take_ino(&self) -> u64 {
        self.next_ino.fetch_add(1, Ordering::Relaxed)
    }

    /// Counts one more inode. `ENOSPC` at `nr_inodes=`.
    fn charge_inode(&self) -> Result<()> {
        let limit = self.options.lock().inodes.unwrap_or(u64::MAX);
        charge(&self.inodes, 1, limit)
    }

    fn uncharge_inode(&self) {
        self.inodes.fetch_sub(1, Ordering::Relaxed);
    }

    /// Counts `pages` more pages. `ENOSPC` at `size=`.
    fn charge_pages(&self, pages: u64) -> Result<()> {
        if pages == 0 {
            return Ok(());
        }
        let limit = self.options.lock().pages.unwrap_or(u64::MAX);
        charge(&self.pages, pages, limit)
    }

    fn uncharge_pages(&self, pages: u64) {
        self.pages.fetch_sub(pages, Ordering::Relaxed);
    }

    /// Counts pages that are there whatever the limit says (a guest wrote to a hole through a mapping).
    fn adjust_pages(&self, from: u64, to: u64) {
        self.pages.fetch_add(to.wrapping_sub(from), Ordering::Relaxed);
    }
}

fn charge(used: &AtomicU64, count: u64, limit: u64) -> Result<()> {
    let update = |now: u64| now.checked_add(count).filter(|&total| total <= limit);
    let done = used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update);
    done.map(|_| ()).map_err(|_| Errno::ENOSPC)
}

impl FileSystem for TmpFs {
    fn fs_type(&self) -> &'static str {
        self.kind
    }

    fn flags(&self) -> FsFlags {
        FsFlags::empty()
    }

    fn root(&self) -> Arc<dyn Inode> {
        let root = self.root.lock().clone();
        root.expect("an instance has its root until it is unmounted")
    }

    fn dev(&self) -> DevT {
        self.dev
    }

    fn statfs(&self) -> Result<StatFs> {
        let (pages, inodes) = {
            let options = self.options.lock();
            (options.pages.unwrap_or(0), options.inodes.unwrap_or(0))
        };
        let free_pages = pages.saturating_sub(self.pages.load(Ordering::Relaxed));
        Ok(StatFs {
            magic: self.magic,
            bsize: PAGE,
            blocks: pages,
            bfree: free_pages,
            bavail: free_pages,
            files: inodes,
            ffree: inodes.saturating_sub(self.inodes.load(Ordering::Relaxed)),
            fsid: self.dev.encode(),
            namelen: 255,
            frsize: PAGE,
        })
    }

    fn show_options(&self) -> String {
        self.options.lock().show()
    }

    fn remount(&self, source: &MountSource) -> Result<()> {
        let mut options = self.options.lock().clone();
        if self.kind == "tmpfs" {
            options.apply(&source.options)?;
        }
        let too_small =
            |limit: Option<u64>, used: &AtomicU64| limit.is_some_and(|limit| limit < used.load(Ordering::Relaxed));
        if too_small(options.pages, &self.pages) || too_small(options.inodes, &self.inodes) {
            return Err(Errno::EINVAL);
        }
        *self.options.lock() = options;
        Ok(())
    }

    fn unmount(&self) -> Result<()> {
        // The tree and the instance hold each other. A list, not a recursion: the tree may be deeper than a kernel stack.
        let root = self.root.lock().take();
        let mut rest: Vec<Arc<TmpInode>> = root.into_iter().collect();
        while let Some(inode) = rest.pop() {
            inode.empty_into(&mut rest);
        }
        Ok(())
    }
}

/// `tmpfs`, with limits and options.
struct TmpFsType;
/// `ramfs`: without limits, options ignored except `mode=`.
struct RamFsType;

impl FileSystemType for TmpFsType {
    fn name(&self) -> &'static str {
        "tmpfs"
    }

    fn flags(&self) -> FsFlags {
        FsFlags::empty()
    }

    fn mount(&self, source: &MountSource) -> Result<Arc<dyn FileSystem>> {
        let mut options = Options::with_defaults(TOTAL_MEMORY.load(Ordering::Relaxed));
        options.apply(&source.options)?;
        Ok(TmpFs::new("tmpfs", options))
    }
}

impl FileSystemType for RamFsType {
    fn name(&self) -> &'static str {
        "ramfs"
    }

    fn flags(&self) -> FsFlags {
        FsFlags::empty()
    }

    fn mount(&self, source: &MountSource) -> Result<Arc<dyn FileSystem>> {
        let mut options = Options::unlimited(0o755);
        options.apply_mode_only(&source.options)?;
        Ok(TmpFs::new("ramfs", options))
    }
}

/// The base of the mount tree: an empty, unlimited instance.
pub fn rootfs() -> Arc<dyn FileSystem> {
    TmpFs::new("rootfs", Options::unlimited(0o755))
}

/// Registers `tmpfs` and `ramfs`.
pub fn init() {
    registry::register(&TmpFsType);
    registry::register(&RamFsType);
}

#[cfg(test)]
mod tests;
