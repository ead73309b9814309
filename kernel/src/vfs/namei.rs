//! Changing names: make, link, remove, rename. Here are the rules; the system calls are in `link`, the storage is the file system's.
//!
//! Lock order: `RENAME` (one cross-directory rename at a time) before the directories' locks; two directories: the ancestor first, else by
//! address.

use alloc::sync::Arc;

use arch_um::sync::{Mutex, order};

use super::attr::{FileType, NewMode};
use super::dentry::Dentry;
use super::inode::{NewNode, RenameFlags};
use super::path::Path;
use super::permission::{self, May};
use super::walk::{Last, Parent};
use crate::task::{Capabilities, Cred};
use crate::{Errno, Result};

/// One cross-directory rename at a time: the shape of the tree holds still for the ancestor checks.
static RENAME: Mutex<()> = Mutex::new(&order::RENAME, ());

impl NewNode<'_> {
    /// The type it will have.
    pub fn kind(&self) -> FileType {
        match self {
            NewNode::Regular => FileType::Regular,
            NewNode::Directory => FileType::Directory,
            NewNode::Symlink(_) => FileType::Symlink,
            NewNode::CharDevice(_) => FileType::CharDevice,
            NewNode::BlockDevice(_) => FileType::BlockDevice,
            NewNode::Fifo => FileType::Fifo,
            NewNode::Socket => FileType::Socket,
        }
    }
}

/// The name to make from the end of a walk. `EEXIST` for `.`, `..` and `/`; `ENOENT` for a slash behind the name of a non-directory.
pub fn new_name(parent: &Parent, kind: FileType) -> Result<&[u8]> {
    match &parent.last {
        Last::Name(_) if parent.trailing_slash && kind != FileType::Directory => {
            let Last::Name(name) = &parent.last else {
                return Err(Errno::ENOENT);
            };
            // An existing name wins over the slash.
            match parent.dir.dentry.lookup(name) {
                Ok(_) => Err(Errno::EEXIST),
                Err(error) => Err(error),
            }
        }
        Last::Name(name) => Ok(name),
        _ => Err(Errno::EEXIST),
    }
}

/// Makes `name` in `dir`.
///
/// # Errors
/// `EEXIST`, `EROFS`, `EACCES`, `ENOENT` for a removed directory, `EPERM` for a device without `CAP_MKNOD`.
pub fn create(
    dir: &Path,
    name: &[u8],
    node: NewNode<'_>,
    mode: impl Into<NewMode>,
    cred: &Cred,
) -> Result<Arc<Dentry>> {
    let parent = &dir.dentry;
    let _names = parent.directory().write();
    match parent.lookup_locked(name) {
        Ok(_) => return Err(Errno::EEXIST),
        Err(Errno::ENOENT) => {}
        Err(error) => return Err(error),
    }
    dir.mount.require_writable()?;
    if parent.is_deleted() {
        return Err(Errno::ENOENT);
    }
    permission::path(dir, cred, May::WRITE | May::EXEC)?;
    let is_device = matches!(node, NewNode::CharDevice(_) | NewNode::BlockDevice(_));
    // The whiteout of overlays, device 0:0, is for everyone.
    let whiteout = matches!(node, NewNode::CharDevice(dev) if dev.major == 0 && dev.minor == 0);
    if is_device && !whiteout && !cred.capable(Capabilities::MKNOD) {
        return Err(Errno::EPERM);
    }
    let attr = permission::new_attr(&**parent.inode(), node.kind(), mode.into(), cred)?;
    let inode = parent.inode().create(name, node, attr)?;
    parent.forget_absence(name);
    Ok(parent.adopt(name, inode))
}

/// `O_TMPFILE`: a file in no directory, on the file system of `dir`.
pub fn create_unnamed(dir: &Path, mode: NewMode, cred: &Cred) -> Result<Path> {
    dir.mount.require_writable()?;
    permission::path(dir, cred, May::WRITE | May::EXEC)?;
    let parent = &dir.dentry;
    let attr = permission::new_attr(&**parent.inode(), FileType::Regular, mode, cred)?;
    let inode = parent.inode().create_unnamed(attr)?;
    Ok(Path {
        mount: dir.mount.clone(),
        dentry: super::open::unnamed(parent, inode),
    })
}

/// One more name for `target`, `name` in `dir`.
///
/// # Errors
/// `EXDEV` over mounts, `EPERM` for directories, `EMLINK`, `EEXIST`, `EROFS`, `EACCES`.
pub fn link(target: &Path, dir: &Path, name: &[u8], cred: &Cred) -> Result<()> {
    let parent = &dir.dentry;
    let _names = parent.directory().write();
    match parent.lookup_locked(name) {
        Ok(_) => return Err(Errno::EEXIST),
        Err(Errno::ENOENT) => {}
        Err(error) => return Err(error),
    }
    if !Arc::ptr_eq(&target.mount, &dir.mount) {
        return Err(Errno::EXDEV);
    }
    dir.mount.require_writable()?;
    if parent.is_deleted() {
        return Err(Errno::ENOENT);
    }
    permission::path(dir, cred, May::WRITE | May::EXEC)?;
    if target.dentry.is_dir() {
        return Err(Errno::EPERM);
    }
    let inode = target.inode();
    parent.inode().link(name, &inode)?;
    parent.forget_absence(name);
    parent.adopt(name, inode);
    Ok(())
}

/// Removes the name of a non-directory.
///
/// # Errors
/// `EISDIR`, `EBUSY` for a mount point, `ENOTDIR` for a slash behind it, `EROFS`, `EACCES`, `EPERM` by the sticky bit.
pub fn unlink(parent: &Parent, cred: &Cred) -> Result<()> {
    let Last::Name(name) = &parent.last else {
        return Err(Errno::EISDIR);
    };
    let dir = &parent.dir;
    let _names = dir.dentry.directory().write();
    let victim = dir.dentry.lookup_locked(name)?;
    if parent.trailing_slash {
        return Err(if victim.is_dir() { Errno::EISDIR } else { Errno::ENOTDIR });
    }
    dir.mount.require_writable()?;
    permission::may_delete(dir, &**victim.inode(), cred)?;
    if victim.is_dir() {
        return Err(Errno::EISDIR);
    }
    if victim.is_mount_point() {
        return Err(Errno::EBUSY);
    }
    dir.dentry.inode().unlink(name)?;
    victim.deleted();
    Ok(())
}

/// Removes an empty directory.
///
/// # Errors
/// `ENOTDIR`, `ENOTEMPTY`, `EINVAL` for `.`, `EBUSY` for a mount point or the root.
pub fn rmdir(parent: &Parent, cred: &Cred) -> Result<()> {
    let name = match &parent.last {
        Last::Name(name) => name,
        Last::Dot => return Err(Errno::EINVAL),
        Last::DotDot => return Err(Errno::ENOTEMPTY),
        Last::Root => return Err(Errno::EBUSY),
    };
    let dir = &parent.dir;
    let _names = dir.dentry.directory().write();
    let victim = dir.dentry.lookup_locked(name)?;
    dir.mount.require_writable()?;
    permission::may_delete(dir, &**victim.inode(), cred)?;
    if !victim.is_dir() {
        return Err(Errno::ENOTDIR);
    }
    if victim.is_mount_point() {
        return Err(Errno::EBUSY);
    }
    // The victim is a child: its lock comes behind its parent's. Nothing is made in it any more.
    let _inner = victim.directory().write_nested();
    dir.dentry.inode().rmdir(name)?;
    victim.deleted();
    Ok(())
}

/// One side of a rename.
struct Side<'a> {
    dir: &'a Path,
    name: &'a [u8],
    slash: bool,
}

impl<'a> Side<'a> {
    fn of(parent: &'a Parent) -> Result<Self> {
        match &parent.last {
            Last::Name(name) => Ok(Self {
                dir: &parent.dir,
                name,
                slash: parent.trailing_slash,
            }),
            _ => Err(Errno::EBUSY),
        }
    }
}

/// `renameat2(2)`.
///
/// # Errors
/// As there.
pub fn rename(old: &Parent, new: &Parent, flags: RenameFlags, cred: &Cred) -> Result<()> {
    let exchange = flags.contains(RenameFlags::EXCHANGE);
    if exchange && flags.intersects(RenameFlags::NOREPLACE | RenameFlags::WHITEOUT) {
        return Err(Errno::EINVAL);
    }
    if !Arc::ptr_eq(&old.dir.mount, &new.dir.mount) {
        return Err(Errno::EXDEV);
    }
    let from = Side::of(old)?;
    let to = match Side::of(new) {
        Ok(side) => side,
        Err(_) if flags.contains(RenameFlags::NOREPLACE) => return Err(Errno::EEXIST),
        Err(error) => return Err(error),
    };
    old.dir.mount.require_writable()?;
    if Arc::ptr_eq(&from.dir.dentry, &to.dir.dentry) {
        let _names = from.dir.dentry.directory().write();
        return rename_locked(&from, &to, flags, cred);
    }
    let _one = RENAME.lock();
    let (first, second) = lock_order(&from.dir.dentry, &to.dir.dentry);
    let _first = first.directory().write();
    // The ancestor comes first, else the lower address; RENAME keeps that stable.
    let _second = second.directory().write_nested();
    rename_locked(&from, &to, flags, cred)
}

fn lock_order<'a>(a: &'a Arc<Dentry>, b: &'a Arc<Dentry>) -> (&'a Arc<Dentry>, &'a Arc<Dentry>) {
    if a.is_within(b) {
        (b, a)
    } else if b.is_within(a) || Arc::as_ptr(a) < Arc::as_ptr(b) {
        (a, b)
    } else {
        (b, a)
    }
}

fn rename_locked(from: &Side<'_>, to: &Side<'_>, flags: RenameFlags, cred: &Cred) -> Result<()> {
    let exchange = flags.contains(RenameFlags::EXCHANGE);
    let source = from.dir.dentry.lookup_locked(from.name)?;
    let target = match to.dir.dentry.lookup_locked(to.name) {
        Ok(_) if flags.contains(RenameFlags::NOREPLACE) => return Err(Errno::EEXIST),
        Ok(target) => Some(target),
        Err(Errno::ENOENT) if exchange => return Err(Errno::ENOENT),
        Err(Errno::ENOENT) => None,
        Err(error) => return Err(error),
    };
    if !source.is_dir() && (from.slash || (to.slash && !exchange)) {
        return Err(Errno::ENOTDIR);
    }
    if exchange && to.slash && target.as_ref().is_some_and(|target| !target.is_dir()) {
        return Err(Errno::ENOTDIR);
    }
    if to.dir.dentry.is_within(&source) {
        return Err(Errno::EINVAL);
    }
    if let Some(target) = &target
        && from.dir.dentry.is_within(target)
    {
        return Err(if exchange { Errno::EINVAL } else { Errno::ENOTEMPTY });
    }
    if to.dir.dentry.is_deleted() {
        return Err(Errno::ENOENT);
    }
    check_rights(from, to, &source, target.as_ref(), exchange, cred)?;
    if let Some(target) = &target {
        if Arc::ptr_eq(source.inode(), target.inode()) {
            // Two names of one file: POSIX wants that nothing happens.
            return Ok(());
        }
        match (source.is_dir(), target.is_dir()) {
            (true, false) if !exchange => return Err(Errno::ENOTDIR),
            (false, true) if !exchange => return Err(Errno::EISDIR),
            _ => {}
        }
    }
    if source.is_mount_point() || target.as_ref().is_some_and(|target| target.is_mount_point()) {
        return Err(Errno::EBUSY);
    }
    from.dir
        .dentry
        .inode()
        .rename(from.name, to.dir.dentry.inode(), to.name, flags)?;
    settle(from, to, &source, target, flags);
    Ok(())
}

fn check_rights(
    from: &Side<'_>,
    to: &Side<'_>,
    source: &Dentry,
    target: Option<&Arc<Dentry>>,
    swap: bool,
    cred: &Cred,
) -> Result<()> {
    permission::may_delete(from.dir, &**source.inode(), cred)?;
    match target {
        Some(target) => permission::may_delete(to.dir, &**target.inode(), cred)?,
        None => permission::path(to.dir, cred, May::WRITE | May::EXEC)?,
    }
    if Arc::ptr_eq(&from.dir.dentry, &to.dir.dentry) {
        return Ok(());
    }
    // A directory that moves gets another "..".
    let moved = |dentry: &Dentry| match dentry.is_dir() {
        true => permission::inode(
            &**dentry.inode(),
            FileType::Directory,
            dentry.fs_flags(),
            cred,
            May::WRITE,
        ),
        false => Ok(()),
    };
    moved(source)?;
    match target {
        Some(target) if swap => moved(target),
        _ => Ok(()),
    }
}

/// The file system has renamed: the cache follows.
fn settle(from: &Side<'_>, to: &Side<'_>, source: &Arc<Dentry>, target: Option<Arc<Dentry>>, flags: RenameFlags) {
    if flags.contains(RenameFlags::EXCHANGE) {
        if let Some(target) = target {
            target.forget();
            source.renamed(&to.dir.dentry, to.name);
            target.renamed(&from.dir.dentry, from.name);
        }
        return;
    }
    if let Some(target) = target {
        target.deleted();
    }
    source.renamed(&to.dir.dentry, to.name);
    from.dir.dentry.forget_absence(from.name);
}
