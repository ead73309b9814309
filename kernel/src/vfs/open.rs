//! Opening: from a place to an open file (`open(2)`, `openat2(2)`).
//!
//! [`open`] is the whole story; [`open_path`] and [`open_exec`] are its forms for the kernel's own use. The walk is in `walk`, making the file in
//! `namei`.

use alloc::sync::Arc;
use core::any::Any;

use super::attr::{FileType, Mode, NewMode, SetAttr};
use super::file::{Access, Claim, File, FileOps, OpenFlags, SeekKind};
use super::inode::{Inode, NewNode};
use super::lease;
use super::lock::{LockKind, Patience};
use super::path::Path;
use super::permission::{self, May};
use super::walk::{Last, NAME_MAX, WalkContext, WalkFlags, Walker};
use super::{dentry::Dentry, namei, pipe};
use crate::syscall::Context;
use crate::{Errno, Result};

/// What to open it for, and how to get there.
#[derive(Clone, Copy, Debug)]
pub struct OpenHow {
    /// `O_*`.
    pub flags: OpenFlags,
    /// Mode of a file that is made.
    pub mode: NewMode,
    /// `RESOLVE_*`.
    pub resolve: WalkFlags,
}

impl OpenFlags {
    /// `O_TMPFILE`, which contains `O_DIRECTORY`.
    pub const TMPFILE: OpenFlags = OpenFlags::TMPFILE_BIT.union(OpenFlags::DIRECTORY);
    /// What `O_PATH` leaves of the others.
    const WITH_PATH: OpenFlags = OpenFlags::PATH
        .union(OpenFlags::DIRECTORY)
        .union(OpenFlags::NOFOLLOW)
        .union(OpenFlags::CLOEXEC);
}

/// Checks and reduces the flags. `EINVAL` for what contradicts itself.
fn normalize(how: &OpenHow) -> Result<OpenHow> {
    let mut how = *how;
    if how.flags.contains(OpenFlags::PATH) {
        how.flags &= OpenFlags::WITH_PATH;
    }
    if how.flags.contains(OpenFlags::TMPFILE_BIT) {
        let writable = how.flags.access().contains(Access::WRITE);
        if !how.flags.contains(OpenFlags::DIRECTORY) || !writable || how.flags.contains(OpenFlags::CREAT) {
            return Err(Errno::EINVAL);
        }
    } else if how.flags.contains(OpenFlags::CREAT | OpenFlags::DIRECTORY) {
        return Err(Errno::EINVAL);
    }
    Ok(how)
}

/// Opens what `text` names from `start` on. `cx` is the calling task's, for terminals and other devices that look at their opener.
///
/// # Errors
/// As of `open(2)`.
pub fn open(cx: Option<&Context>, walk: &WalkContext, start: &Path, text: &[u8], how: &OpenHow) -> Result<Arc<File>> {
    let how = normalize(how)?;
    let flags = how.flags;
    if flags.contains(OpenFlags::TMPFILE_BIT) {
        return open_unnamed(cx, walk, start, text, &how);
    }
    let mut resolve = how.resolve - (WalkFlags::FOLLOW | WalkFlags::DIRECTORY);
    if flags.contains(OpenFlags::DIRECTORY) {
        resolve |= WalkFlags::DIRECTORY;
    }
    let follow = !flags.contains(OpenFlags::NOFOLLOW);
    if flags.contains(OpenFlags::CREAT) {
        let (path, made) = find_or_make(walk, start, text, &how, resolve)?;
        return finish(cx, walk, path, flags, made);
    }
    if follow {
        resolve |= WalkFlags::FOLLOW;
    }
    let path = super::walk::lookup(walk, start, text, resolve)?;
    finish(cx, walk, path, flags, Made::No)
}

/// Whether the file is new: then its mode does not limit the opener.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Made {
    Yes,
    No,
}

/// `O_CREAT`: goes through final symlinks until a name exists or can be made.
fn find_or_make(
    walk: &WalkContext,
    start: &Path,
    text: &[u8],
    how: &OpenHow,
    resolve: WalkFlags,
) -> Result<(Path, Made)> {
    let exclusive = how.flags.contains(OpenFlags::EXCL);
    let follow = !how.flags.contains(OpenFlags::NOFOLLOW) && !exclusive;
    let mut walker = Walker::new(walk, start, resolve);
    let (mut last, mut slash) = walker.run_to_parent(text)?;
    loop {
        let name = match last {
            Last::Name(name) => name,
            // `.`, `..` and `/` are there, and directories; a magic link has jumped to what is there.
            Last::Root if !walker.at().dentry.is_dir() && !exclusive => return Ok((walker.at().clone(), Made::No)),
            _ => return Err(if exclusive { Errno::EEXIST } else { Errno::EISDIR }),
        };
        if slash {
            return Err(Errno::EISDIR);
        }
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let dir = walker.at().clone();
        let child = match walker.child(&name) {
            Ok(child) => child,
            Err(Errno::ENOENT) => {
                let node = NewNode::Regular;
                match namei::create(&dir, &name, node, how.mode, &walk.cred) {
                    Ok(dentry) => {
                        return Ok((
                            Path {
                                mount: dir.mount,
                                dentry,
                            },
                            Made::Yes,
                        ));
                    }
                    // Someone was faster; that is no error here.
                    Err(Errno::EEXIST) if !exclusive => dir.dentry.lookup(&name)?,
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        };
        if exclusive {
            return Err(Errno::EEXIST);
        }
        if child.kind() != FileType::Symlink || !follow {
            walker.enter(child, false)?;
            return Ok((walker.at().clone(), Made::No));
        }
        (last, slash) = walker.follow_to_parent(&child)?;
    }
}

fn open_unnamed(
    cx: Option<&Context>,
    walk: &WalkContext,
    start: &Path,
    text: &[u8],
    how: &OpenHow,
) -> Result<Arc<File>> {
    let resolve = how.resolve | WalkFlags::DIRECTORY | WalkFlags::FOLLOW;
    let dir = super::walk::lookup(walk, start, text, resolve)?;
    let path = namei::create_unnamed(&dir, how.mode, &walk.cred)?;
    finish(cx, walk, path, how.flags - OpenFlags::TMPFILE, Made::Yes)
}

/// The end of every open: the place is known.
fn finish(cx: Option<&Context>, walk: &WalkContext, path: Path, flags: OpenFlags, made: Made) -> Result<Arc<File>> {
    let kind = path.dentry.kind();
    let cred = walk.cred.clone();
    if flags.contains(OpenFlags::DIRECTORY) && kind != FileType::Directory {
        return Err(Errno::ENOTDIR);
    }
    if flags.contains(OpenFlags::PATH) {
        return Ok(File::new(Arc::new(PathOnly), Some(path), flags, cred));
    }
    let access = flags.access();
    let mut may = May::from(access);
    if flags.contains(OpenFlags::TRUNC) {
        may |= May::WRITE;
    }
    if flags.bits() & 3 == 3 {
        may |= May::READ | May::WRITE;
    }
    match kind {
        FileType::Symlink => return Err(Errno::ELOOP),
        FileType::Directory if may.contains(May::WRITE) || flags.contains(OpenFlags::CREAT) => {
            return Err(Errno::EISDIR);
        }
        FileType::CharDevice | FileType::BlockDevice if !path.mount.allows_devices() => return Err(Errno::EACCES),
        _ => {}
    }
    if made == Made::No {
        permission::path(&path, &cred, may)?;
    }
    let inode = path.inode();
    if flags.contains(OpenFlags::NOATIME) && !permission::is_owner(&cred, &inode.metadata()?) {
        return Err(Errno::EPERM);
    }
    let claim = match kind {
        FileType::Regular if may.contains(May::WRITE) => Claim::Write,
        FileType::Regular if may.contains(May::READ) => Claim::Read,
        _ => Claim::None,
    };
    inode.state().claim(claim)?;
    let patience = if flags.contains(OpenFlags::NONBLOCK) {
        Patience::Now
    } else {
        Patience::Wait
    };
    let opened = break_leases(&*inode, claim, patience).and_then(|()| {
        let ops = open_inode(cx, &inode, kind, flags)?;
        if flags.contains(OpenFlags::TRUNC) && kind == FileType::Regular && made == Made::No {
            truncate(&*inode, &walk.cred)?;
        }
        Ok(ops)
    });
    match opened {
        Ok(ops) => Ok(File::with_claim(ops, Some(path), flags, cred, claim)),
        Err(error) => {
            inode.state().release(claim);
            Err(error)
        }
    }
}

/// Has those give way whose leases do not go with what was claimed.
fn break_leases(inode: &dyn Inode, claim: Claim, patience: Patience) -> Result<()> {
    match claim {
        Claim::None => Ok(()),
        Claim::Read | Claim::Execute => lease::break_for(inode, LockKind::Read, patience),
        Claim::Write => lease::break_for(inode, LockKind::Write, patience),
    }
}

fn truncate(inode: &dyn Inode, cred: &crate::task::Cred) -> Result<()> {
    let mut change = SetAttr {
        size: Some(0),
        ..SetAttr::default()
    };
    if !cred.capable(crate::task::Capabilities::FSETID) {
        change.mode = permission::without_set_id(inode.walk_metadata()?.mode);
    }
    inode.set_attr(&change)
}

fn open_inode(
    cx: Option<&Context>,
    inode: &Arc<dyn Inode>,
    kind: FileType,
    flags: OpenFlags,
) -> Result<Arc<dyn FileOps>> {
    match kind {
        FileType::Regular | FileType::Directory => inode.clone().open(flags),
        FileType::CharDevice => {
            let cx = cx.ok_or(Errno::ENXIO)?;
            match inode.open_device(&cx.task().cred()) {
                Some(opened) => opened,
                None => crate::device::open_char(cx, inode.metadata()?.rdev, flags),
            }
        }
        FileType::BlockDevice => crate::block::file::open(inode.metadata()?.rdev, flags),
        FileType::Fifo => pipe::open_fifo(inode, flags),
        FileType::Socket => Err(Errno::ENXIO),
        FileType::Symlink => Err(Errno::ELOOP),
    }
}

/// Opens `text` for the kernel itself: as the superuser from the root of the tree. Character devices need a task: `ENXIO`.
///
/// # Errors
/// As of `open(2)`.
pub fn open_path(text: &[u8], flags: OpenFlags, mode: Mode) -> Result<Arc<File>> {
    let walk = WalkContext::kernel();
    let how = OpenHow {
        flags,
        mode: mode.into(),
        resolve: WalkFlags::empty(),
    };
    open(None, &walk, &walk.root.clone(), text, &how)
}

/// Opens a program to run it: a regular file that the walker may execute, on a mount that allows it. While the description lives, the file
/// cannot be opened for writing.
///
/// # Errors
/// `EACCES`; `ETXTBSY` when someone writes it; those of the walk.
pub fn open_exec(walk: &WalkContext, start: &Path, text: &[u8], flags: WalkFlags) -> Result<Arc<File>> {
    let path = super::walk::lookup(walk, start, text, flags)?;
    open_exec_at(walk, path)
}

/// As [`open_exec`], of a place that is known (`execveat(2)` with `AT_EMPTY_PATH`).
pub fn open_exec_at(walk: &WalkContext, path: Path) -> Result<Arc<File>> {
    match path.dentry.kind() {
        FileType::Regular => {}
        FileType::Symlink => return Err(Errno::ELOOP),
        _ => return Err(Errno::EACCES),
    }
    if !path.mount.allows_exec() {
        return Err(Errno::EACCES);
    }
    permission::path(&path, &walk.cred, May::EXEC)?;
    let inode = path.inode();
    inode.state().claim(Claim::Execute)?;
    let opened =
        break_leases(&*inode, Claim::Execute, Patience::Wait).and_then(|()| inode.clone().open(OpenFlags::empty()));
    match opened {
        Ok(ops) => Ok(File::with_claim(
            ops,
            Some(path),
            OpenFlags::empty(),
            walk.cred.clone(),
            Claim::Execute,
        )),
        Err(error) => {
            inode.state().release(Claim::Execute);
            Err(error)
        }
    }
}

/// Opens a place that is known, with the checks of `open(2)`.
pub fn open_place(cx: Option<&Context>, walk: &WalkContext, path: Path, flags: OpenFlags) -> Result<Arc<File>> {
    finish(cx, walk, path, flags, Made::No)
}

/// What stands behind an `O_PATH` description: nothing that moves data.
struct PathOnly;

impl FileOps for PathOnly {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> SeekKind {
        SeekKind::Stream
    }
}

/// A name for what [`Dentry::unnamed`] shows.
pub(super) fn unnamed(parent: &Arc<Dentry>, inode: Arc<dyn Inode>) -> Arc<Dentry> {
    let name = alloc::format!("#{}", inode.ino());
    Dentry::unnamed(inode, parent, name.as_bytes())
}
