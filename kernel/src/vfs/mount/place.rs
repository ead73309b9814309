//! The base of the tree, and instances placed in it.

use alloc::sync::Arc;
use core::sync::atomic::Ordering;

use super::{Mount, MountFlags, change, cross, with_table};
use crate::vfs::inode::{FsFlags, MountSource};
use crate::vfs::path::Path;
use crate::vfs::super_block::SuperBlock;
use crate::vfs::{registry, walk};
use crate::{Errno, Result};

/// The topmost mount at the base of the tree: where a task without a root of its own starts. Makes the base (an empty `rootfs`) at first use.
pub fn namespace_root() -> Path {
    let mut path = Path::root_of(&base());
    cross(&mut path);
    path
}

fn base() -> Arc<Mount> {
    let find = || with_table(|table| table.list.first().cloned());
    if let Some(base) = find() {
        return base;
    }
    let change = change();
    if let Some(base) = find() {
        return base;
    }
    let fs = crate::fs::tmpfs::rootfs();
    let block = SuperBlock::of(fs, false);
    let root = block.root().clone();
    let mount = Mount::new(block, root, b"rootfs".to_vec(), MountFlags::empty());
    mount.attached.store(true, Ordering::Release);
    with_table(|table| table.list.push(mount.clone()));
    drop(change);
    mount
}

/// Mounts the root file system over the base of the tree, with relative access times as all mounts that ask for nothing else. Tasks made afterwards ([`crate::vfs::fs_context::FsContext::initial`]) start there.
///
/// # Errors
/// What the file system's type says.
pub fn mount_root(kind: &'static str, source: &MountSource, flags: MountFlags) -> Result<Arc<Mount>> {
    let at = namespace_root();
    mount_new(kind, source, flags | MountFlags::RELATIME, &at)
}

/// The kernel's own mount of `kind` on `path`, resolved from the root with symlinks; the root may be read-only (devtmpfs on /dev).
/// Access times are relative.
///
/// # Errors
/// `ENODEV` for an unknown kind, `ENOENT`, `ENOTDIR` for the place, what the file system says.
pub fn mount_at(kind: &str, source: &MountSource, flags: MountFlags, path: &[u8]) -> Result<Arc<Mount>> {
    let context = walk::WalkContext::kernel();
    let at = walk::lookup(
        &context,
        &context.root,
        path,
        walk::WalkFlags::FOLLOW | walk::WalkFlags::DIRECTORY,
    )?;
    mount_new(kind, source, flags | MountFlags::RELATIME, &at)
}

/// Makes an instance of `kind` and mounts it on `at`.
///
/// # Errors
/// As of [`mount_at`]; `EBUSY` where the same instance is what is topmost at `at`, and where another mount of it is read-only and this is not, or the reverse.
pub fn mount_new(kind: &str, source: &MountSource, flags: MountFlags, at: &Path) -> Result<Arc<Mount>> {
    let kind = registry::find(kind.as_bytes())?;
    let block = SuperBlock::of(kind.mount(source)?, source.read_only);
    if kind.flags().contains(FsFlags::NEEDS_DEVICE) && block.is_read_only() != source.read_only {
        return Err(Errno::EBUSY);
    }
    let mut top = at.clone();
    cross(&mut top);
    if Arc::ptr_eq(&block, &top.mount.block) && Arc::ptr_eq(top.mount.root(), &top.dentry) {
        return Err(Errno::EBUSY);
    }
    let root = block.root().clone();
    let mount = Mount::new(block, root, source.source.clone(), flags);
    place(&mount, at)?;
    Ok(mount)
}

/// Places `mount` on what is topmost at `at`.
///
/// # Errors
/// `ENOTDIR` when one is a directory and the other is not; `ENOENT` when the place was removed; `EINVAL` when it is in no tree.
pub fn place(mount: &Arc<Mount>, at: &Path) -> Result<()> {
    let change = change();
    let mut at = at.clone();
    cross(&mut at);
    check_place(mount, &at)?;
    change.attach(mount, &at);
    drop(change);
    mount.fs().placed(&at.text(&namespace_root()).0);
    Ok(())
}

/// Whether `mount` may be placed on `at`.
pub(in crate::vfs) fn check_place(mount: &Mount, at: &Path) -> Result<()> {
    if !at.mount.is_attached() {
        return Err(Errno::EINVAL);
    }
    if mount.root().is_dir() != at.dentry.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    if at.dentry.is_deleted() {
        return Err(Errno::ENOENT);
    }
    Ok(())
}
