//! The walk from a text to a place (`path_resolution(7)`, `openat2(2)`).
//!
//! A component costs one look into the parent's table of names and one reference: no allocation, no sleeping lock, while the names are cached.
//! Symlinks recurse, at most [`MAX_LINKS`] in one walk. `..` never leaves the walker's root. [`lookup`] gives the place, [`lookup_parent`] stops
//! before the last name for those who make or remove it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use bitflags::bitflags;

use super::FileType;
use super::dentry::Dentry;
use super::file::File;
use super::inode::Link;
use super::mount::{self, MountFlags};
use super::path::Path;
use super::permission::{self, May};
use crate::task::{Cred, Task};
use crate::{Errno, Result};

/// Most symlinks in one walk.
pub const MAX_LINKS: u32 = 40;
/// Longest name in a directory, in bytes.
pub const NAME_MAX: usize = 255;
/// Longest text, with its NUL.
pub const PATH_MAX: usize = 4096;

bitflags! {
    /// How to walk. The `RESOLVE_*` names hold for every component.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct WalkFlags: u32 {
        /// A symlink as last component is followed.
        const FOLLOW = 1;
        /// The result must be a directory.
        const DIRECTORY = 2;
        /// `RESOLVE_BENEATH`: `EXDEV` on leaving the start.
        const BENEATH = 4;
        /// `RESOLVE_IN_ROOT`: the start is the root.
        const IN_ROOT = 8;
        /// `RESOLVE_NO_XDEV`: `EXDEV` on a mount point.
        const NO_XDEV = 16;
        /// `RESOLVE_NO_MAGICLINKS`: `ELOOP` on one.
        const NO_MAGICLINKS = 32;
        /// `RESOLVE_NO_SYMLINKS`: `ELOOP` on any symlink.
        const NO_SYMLINKS = 64;
        /// `RESOLVE_CACHED`: `EAGAIN` where the file system would have to be asked.
        const CACHED = 128;
    }
}

/// Who walks, and what `/` is for him.
#[derive(Clone)]
pub struct WalkContext {
    /// Whose permissions count.
    pub cred: Arc<Cred>,
    /// His root.
    pub root: Path,
}

impl WalkContext {
    /// Of a task, with its file-access identity.
    pub fn of(task: &Task) -> Self {
        Self {
            cred: task.cred(),
            root: task.fs().root(),
        }
    }

    /// The kernel itself: the superuser at the root of the tree.
    pub fn kernel() -> Self {
        Self {
            cred: Cred::root(),
            root: mount::namespace_root(),
        }
    }
}

/// The last component of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Last {
    /// A name to look up, make or remove.
    Name(Vec<u8>),
    /// `.`.
    Dot,
    /// `..`.
    DotDot,
    /// The text was `/` or ended in a jump of its own.
    Root,
}

/// Where [`lookup_parent`] stopped.
pub struct Parent {
    /// The directory; the walker may pass through it.
    pub dir: Path,
    /// What comes next.
    pub last: Last,
    /// A slash follows the last name: it must be a directory.
    pub trailing_slash: bool,
}

/// How far a walk goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    /// To the end.
    End,
    /// Before the last component.
    Parent,
}

/// How a walk came to the place it ended at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The last step looked its name up: the file system has just been asked about it.
    ByName,
    /// It started there, or went up, over a mount or through a magic link.
    Otherwise,
}

/// A walk under way; `open(O_CREAT)` goes on with it from a final symlink.
pub struct Walker<'a> {
    context: &'a WalkContext,
    flags: WalkFlags,
    /// What `..` and `/` stop at.
    root: Path,
    at: Path,
    reached: Reached,
    links: u32,
}

/// The place that `text` names, from `start` on.
///
/// # Errors
/// `ENOENT`, `ENOTDIR`, `EACCES`, `ELOOP`, `ENAMETOOLONG`; `EXDEV` and `EAGAIN` by the flags.
pub fn lookup(context: &WalkContext, start: &Path, text: &[u8], flags: WalkFlags) -> Result<Path> {
    lookup_reached(context, start, text, flags).map(|(place, _)| place)
}

/// As [`lookup`]; also tells how the place was reached.
///
/// # Errors
/// As there.
pub fn lookup_reached(context: &WalkContext, start: &Path, text: &[u8], flags: WalkFlags) -> Result<(Path, Reached)> {
    let mut walker = Walker::new(context, start, flags);
    walker.run(text)?;
    Ok((walker.at, walker.reached))
}

/// The directory of the last component of `text`.
///
/// # Errors
/// As of [`lookup`], for the part before the last component.
pub fn lookup_parent(context: &WalkContext, start: &Path, text: &[u8], flags: WalkFlags) -> Result<Parent> {
    let mut walker = Walker::new(context, start, flags);
    let (last, trailing_slash) = walker.run_to_parent(text)?;
    Ok(Parent {
        dir: walker.at,
        last,
        trailing_slash,
    })
}

impl<'a> Walker<'a> {
    /// A walk that starts at `start`.
    pub fn new(context: &'a WalkContext, start: &Path, flags: WalkFlags) -> Self {
        let confined = flags.intersects(WalkFlags::BENEATH | WalkFlags::IN_ROOT);
        let root = if confined { start.clone() } else { context.root.clone() };
        Self {
            context,
            flags,
            root,
            at: start.clone(),
            reached: Reached::Otherwise,
            links: 0,
        }
    }

    /// The place reached.
    pub fn at(&self) -> &Path {
        &self.at
    }

    /// Walks all of `text`.
    pub fn run(&mut self, text: &[u8]) -> Result<()> {
        check_text(text)?;
        self.text(text, Until::End, self.flags.contains(WalkFlags::FOLLOW))?;
        if self.flags.contains(WalkFlags::DIRECTORY) && !self.at.dentry.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        Ok(())
    }

    /// Walks `text` up to its last component, which is returned with whether slashes follow it.
    pub fn run_to_parent(&mut self, text: &[u8]) -> Result<(Last, bool)> {
        check_text(text)?;
        self.text(text, Until::Parent, false)
    }

    fn text(&mut self, text: &[u8], until: Until, follow: bool) -> Result<(Last, bool)> {
        let mut rest = text;
        if rest.first() == Some(&b'/') {
            self.jump_to_root()?;
            rest = skip_slashes(rest);
        }
        if rest.is_empty() {
            return Ok((Last::Root, false));
        }
        loop {
            self.check_passage()?;
            let end = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
            let (name, behind) = rest.split_at(end);
            let after = skip_slashes(behind);
            let is_last = after.is_empty();
            let slash = !behind.is_empty();
            if is_last && until == Until::Parent {
                return Ok((last_of(name)?, slash));
            }
            match name {
                b"." => {}
                b".." => self.up()?,
                _ => self.down(name, !is_last || slash || follow)?,
            }
            if is_last {
                if slash && !self.at.dentry.is_dir() {
                    return Err(Errno::ENOTDIR);
                }
                return Ok((Last::Root, slash));
            }
            rest = after;
        }
    }

    /// The present place must be a directory that may be passed through.
    #[inline]
    fn check_passage(&self) -> Result<()> {
        let dentry = &self.at.dentry;
        if !dentry.is_dir() {
            return Err(Errno::ENOTDIR);
        }
        permission::inode(
            &**dentry.inode(),
            FileType::Directory,
            dentry.fs_flags(),
            &self.context.cred,
            May::EXEC,
        )
    }

    fn jump_to_root(&mut self) -> Result<()> {
        if self.flags.contains(WalkFlags::BENEATH) {
            return Err(Errno::EXDEV);
        }
        self.jump(self.root.clone())
    }

    /// Goes to `place` without a walk.
    fn jump(&mut self, place: Path) -> Result<()> {
        if self.flags.contains(WalkFlags::NO_XDEV) && !Arc::ptr_eq(&place.mount, &self.at.mount) {
            return Err(Errno::EXDEV);
        }
        self.at = place;
        self.reached = Reached::Otherwise;
        Ok(())
    }

    fn up(&mut self) -> Result<()> {
        loop {
            if self.at.same_as(&self.root) {
                return if self.flags.contains(WalkFlags::BENEATH) {
                    Err(Errno::EXDEV)
                } else {
                    Ok(())
                };
            }
            if !self.at.is_mount_root() {
                break;
            }
            match self.at.mount.mount_point() {
                Some(point) => self.jump(point)?,
                None => return Ok(()),
            }
        }
        if let Some(parent) = self.at.dentry.parent() {
            self.at.dentry = parent;
            self.reached = Reached::Otherwise;
        }
        self.cross()
    }

    fn cross(&mut self) -> Result<()> {
        if self.at.dentry.is_mount_point() {
            let mut place = self.at.clone();
            mount::cross(&mut place);
            if !place.same_as(&self.at) {
                return self.jump(place);
            }
        }
        Ok(())
    }

    /// Goes to `name` in the present directory; over a symlink when `follow`.
    fn down(&mut self, name: &[u8], follow: bool) -> Result<()> {
        if name.len() > NAME_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let child = self.child(name)?;
        self.enter(child, follow)
    }

    /// The dentry of `name` in the present directory.
    pub(super) fn child(&self, name: &[u8]) -> Result<Arc<Dentry>> {
        if self.flags.contains(WalkFlags::CACHED) {
            return self.at.dentry.lookup_cached(name).ok_or(Errno::EAGAIN);
        }
        self.at.dentry.lookup(name)
    }

    /// Goes to `child` of the present directory.
    pub(super) fn enter(&mut self, child: Arc<Dentry>, follow: bool) -> Result<()> {
        if child.kind() == FileType::Symlink && follow && !child.is_mount_point() {
            return self.follow(&child, Until::End).map(|_| ());
        }
        self.at.dentry = child;
        self.reached = Reached::ByName;
        self.cross()
    }

    /// Follows a final symlink `child` of the present directory up to the parent of what it names; none when it was a magic link and the
    /// walk is at its goal.
    pub(super) fn follow_to_parent(&mut self, child: &Arc<Dentry>) -> Result<(Last, bool)> {
        self.follow(child, Until::Parent)
    }

    fn follow(&mut self, link: &Arc<Dentry>, until: Until) -> Result<(Last, bool)> {
        self.links += 1;
        let forbidden =
            self.flags.contains(WalkFlags::NO_SYMLINKS) || self.at.mount.flags().contains(MountFlags::NOSYMFOLLOW);
        if self.links > MAX_LINKS || forbidden {
            return Err(Errno::ELOOP);
        }
        match link.inode().read_link()? {
            Link::Text(text) => {
                if text.is_empty() {
                    return Err(Errno::ENOENT);
                }
                self.text(&text, until, true)
            }
            Link::Object(object) => {
                if self.flags.contains(WalkFlags::NO_MAGICLINKS) {
                    return Err(Errno::ELOOP);
                }
                if self.flags.intersects(WalkFlags::BENEATH | WalkFlags::IN_ROOT) {
                    return Err(Errno::EXDEV);
                }
                let place = match object.downcast::<Path>() {
                    Ok(path) => *path,
                    Err(other) => match other.downcast::<Arc<File>>() {
                        Ok(file) => file.path().cloned().ok_or(Errno::ENXIO)?,
                        Err(_) => return Err(Errno::ELOOP),
                    },
                };
                self.jump(place)?;
                Ok((Last::Root, false))
            }
        }
    }
}

fn check_text(text: &[u8]) -> Result<()> {
    if text.is_empty() {
        return Err(Errno::ENOENT);
    }
    if text.len() >= PATH_MAX {
        return Err(Errno::ENAMETOOLONG);
    }
    Ok(())
}

fn skip_slashes(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&byte| byte != b'/').unwrap_or(text.len());
    &text[start..]
}

fn last_of(name: &[u8]) -> Result<Last> {
    Ok(match name {
        b"." => Last::Dot,
        b".." => Last::DotDot,
        _ if name.len() > NAME_MAX => return Err(Errno::ENAMETOOLONG),
        _ => Last::Name(name.to_vec()),
    })
}
