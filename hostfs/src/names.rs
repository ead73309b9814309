//! What a directory does with names: look up, make, link, remove, rename. One descriptor and one component each.

use std::sync::Arc;

use arch_um::Errno as HostErrno;
use arch_um::host::at::{self, HostRename};
use arch_um::host::statx::{self, Stat};
use arch_um::host::{AsFd, BorrowedFd, OwnedFd};
use kernel::vfs::inode::{NewAttr, RenameFlags};
use kernel::vfs::{DevT, FileType, NewNode};
use kernel::{Errno, Result};

use crate::inode::HostInode;
use crate::table::Key;

/// `unlink_at` or `rmdir_at`.
type Remove = fn(BorrowedFd<'_>, &[u8]) -> Result<(), HostErrno>;

impl HostInode {
    /// The file at `name` now.
    pub(crate) fn child(&self, name: &[u8]) -> Result<Arc<HostInode>> {
        let stat = statx::stat_at(self.anchor()?.as_fd(), name)?;
        self.adopt(name, &stat)
    }

    /// The inode of the file at `name`, which the host describes by `stat`.
    fn adopt(&self, name: &[u8], stat: &Stat) -> Result<Arc<HostInode>> {
        let (child, _) = self.host().inode(stat)?;
        child.saw(stat);
        child.set_place(&self.arc(), name)?;
        Ok(child)
    }

    /// Whether `name` is still `child`; refreshes what is known of it.
    pub(crate) fn still_leads_to(&self, name: &[u8], child: &HostInode) -> bool {
        let Ok(dir) = self.anchor() else { return false };
        match statx::stat_at(dir.as_fd(), name) {
            Ok(stat) if Key::of(&stat) == *child.key() => {
                child.saw(&stat);
                // The name may have come back by a rename on the host, or be another link than the one noted.
                child.set_place(&self.arc(), name).is_ok()
            }
            _ => false,
        }
    }

    /// Makes `name`.
    pub(crate) fn make(&self, name: &[u8], node: NewNode<'_>, attr: NewAttr) -> Result<Arc<HostInode>> {
        let dir = self.anchor()?;
        let mode = attr.mode.bits();
        let special = |kind: FileType, dev: DevT| {
            at::mknod_at(dir.as_fd(), name, kind.mode_bits() | mode, (dev.major, dev.minor))
        };
        match node {
            NewNode::Regular => {
                let fd = self
                    .host()
                    .anchors
                    .with_room(|| at::create_at(dir.as_fd(), name, mode))?;
                return self.made_regular(Arc::new(fd), attr, |stat| self.adopt(name, stat));
            }
            NewNode::Directory => at::mkdir_at(dir.as_fd(), name, mode)?,
            NewNode::Symlink(target) => at::symlink_at(target, dir.as_fd(), name)?,
            NewNode::CharDevice(dev) => special(FileType::CharDevice, dev)?,
            NewNode::BlockDevice(dev) => special(FileType::BlockDevice, dev)?,
            NewNode::Fifo => special(FileType::Fifo, DevT::default())?,
            NewNode::Socket => special(FileType::Socket, DevT::default())?,
        }
        let stat = statx::stat_at(dir.as_fd(), name)?;
        let made = self.adopt(name, &stat)?;
        if self.owner_differs(&stat, attr) || made_mode_differs(&stat, attr) {
            self.give(made.anchor()?.as_fd(), &stat, attr);
            made.saw(&statx::stat_fd(made.anchor()?.as_fd())?);
        }
        Ok(made)
    }

    /// Makes a file without a name (`O_TMPFILE`).
    pub(crate) fn make_unnamed(&self, attr: NewAttr) -> Result<Arc<HostInode>> {
        let dir = self.anchor()?;
        let fd = Arc::new(at::create_unnamed_in(dir.as_fd(), attr.mode.bits())?);
        self.made_regular(fd.clone(), attr, |stat| {
            let (made, _) = self.host().inode(stat)?;
            made.pin(fd);
            Ok(made)
        })
    }

    /// Completes a regular file made through `fd`.
    fn made_regular(
        &self,
        fd: Arc<OwnedFd>,
        attr: NewAttr,
        adopt: impl FnOnce(&Stat) -> Result<Arc<HostInode>>,
    ) -> Result<Arc<HostInode>> {
        let mut stat = statx::stat_fd(fd.as_fd())?;
        if self.owner_differs(&stat, attr) || made_mode_differs(&stat, attr) {
            self.give(fd.as_fd(), &stat, attr);
            stat = statx::stat_fd(fd.as_fd())?;
        }
        let made = adopt(&stat)?;
        made.saw(&stat);
        made.keep_fresh(fd);
        Ok(made)
    }

    /// Whether the host gave a new file another owner than the guest's, and would let this process change that.
    fn owner_differs(&self, stat: &Stat, attr: NewAttr) -> bool {
        let fs = self.host();
        fs.privileged() && stat.uid != attr.uid || (fs.privileged() || attr.uid == fs.host_uid) && stat.gid != attr.gid
    }

    /// Gives a new file the owner and the mode that the guest asked for, as far as the host lets this process: the file exists, and a host
    /// that keeps no owners (FAT, a squashed NFS) is no reason to fail.
    fn give(&self, fd: BorrowedFd<'_>, stat: &Stat, attr: NewAttr) {
        if self.owner_differs(stat, attr) {
            let uid = (stat.uid != attr.uid).then_some(attr.uid);
            if let Err(error) = at::chown_fd(fd, uid, Some(attr.gid)) {
                log::debug!("hostfs: new file stays with {}:{}: {error}", stat.uid, stat.gid);
            }
        }
        // After the owner, because a change of owner clears set-id bits.
        if stat.mode & 0o170000 != FileType::Symlink.mode_bits()
            && let Err(error) = at::chmod_fd(fd, attr.mode.bits())
        {
            log::debug!("hostfs: new file keeps mode {:o}: {error}", stat.mode & 0o7777);
        }
    }

    /// One more name for `target`.
    pub(crate) fn add_name(&self, name: &[u8], target: &Arc<HostInode>) -> Result<()> {
        let dir = self.anchor()?;
        match (
            at::link_fd_at(target.any_fd()?.as_fd(), dir.as_fd(), name),
            target.place(),
        ) {
            // A jail without /proc: by the old name, if that is still this file.
            (Err(Errno::ENOENT), Some(place)) => {
                let parent = place.parent.anchor()?;
                if Key::of(&statx::stat_at(parent.as_fd(), &place.name)?) != *target.key() {
                    return Err(Errno::ESTALE);
                }
                at::link_at(parent.as_fd(), &place.name, dir.as_fd(), name)?;
            }
            (result, _) => result?,
        }
        if target.place().is_none() {
            // It had no name: now the name leads to it, and the descriptor that held it (a writing one) can go.
            let fd = at::open_path_at(dir.as_fd(), name)?;
            if Key::of(&statx::stat_fd(fd.as_fd())?) == *target.key() {
                target.pin(Arc::new(fd));
                target.set_place(&self.arc(), name)?;
            }
        }
        Ok(())
    }

    /// What stands at `name`, held by a descriptor so that it outlives the name. None when nobody holds its inode, or nothing stands there.
    fn hold(&self, dir: &OwnedFd, name: &[u8]) -> Option<Arc<HostInode>> {
        let fd = at::open_path_at(dir.as_fd(), name).ok()?;
        let stat = statx::stat_fd(fd.as_fd()).ok()?;
        let inode = self.host().table.find(&Key::of(&stat))?;
        inode.pin(Arc::new(fd));
        Some(inode)
    }

    /// A held file's name is gone if it was `name` here: no more ways to it by place.
    fn lost_name(&self, inode: &HostInode, name: &[u8]) {
        let here = |place: &crate::inode::Place| std::ptr::eq(Arc::as_ptr(&place.parent), self) && *place.name == *name;
        if inode.place().as_ref().is_some_and(here) {
            inode.clear_place();
        } else {
            inode.unpin();
        }
    }

    /// Removes `name`. Who holds the file keeps it.
    pub(crate) fn remove_name(&self, name: &[u8], remove: Remove) -> Result<()> {
        if self.host().append {
            return Err(Errno::EPERM);
        }
        let dir = self.anchor()?;
        let held = self.hold(&dir, name);
        let result = remove(dir.as_fd(), name);
        if let Some(inode) = held {
            match result {
                Ok(()) => self.lost_name(&inode, name),
                Err(_) => inode.unpin(),
            }
        }
        result
    }

    /// Moves `old` here to `new` in `to`.
    pub(crate) fn move_name(&self, old: &[u8], to: &Arc<HostInode>, new: &[u8], flags: RenameFlags) -> Result<()> {
        let (from_fd, to_fd) = (self.anchor()?, to.anchor()?);
        let moved = self.host().table.find(&Key::of(&statx::stat_at(from_fd.as_fd(), old)?));
        let replaces = !flags.intersects(RenameFlags::NOREPLACE | RenameFlags::EXCHANGE);
        let other = match statx::stat_at(to_fd.as_fd(), new) {
            // An append-only tree loses no file to a rename either.
            Ok(_) if replaces && self.host().append => return Err(Errno::EPERM),
            Ok(stat) => self.host().table.find(&Key::of(&stat)),
            Err(_) => None,
        };
        // Two names of one file: the host does nothing at all.
        let same = matches!((&moved, &other), (Some(a), Some(b)) if Arc::ptr_eq(a, b));
        let victim = if replaces && !same && other.is_some() {
            to.hold(&to_fd, new)
        } else {
            None
        };
        let host_flags = HostRename::from_bits_retain(flags.bits());
        let result = at::rename_at(from_fd.as_fd(), old, to_fd.as_fd(), new, host_flags);
        if result.is_err() || same {
            if let Some(inode) = victim {
                inode.unpin();
            }
            return result;
        }
        if let Some(inode) = victim {
            to.lost_name(&inode, new);
        }
        if let Some(inode) = moved {
            inode.set_place(to, new)?;
        }
        if let (true, Some(inode)) = (flags.contains(RenameFlags::EXCHANGE), other) {
            inode.set_place(&self.arc(), old)?;
        }
        Ok(())
    }
}

/// Whether the host's umask or its rules for set-id bits changed the mode of a new file.
fn made_mode_differs(stat: &Stat, attr: NewAttr) -> bool {
    stat.mode & 0o170000 != FileType::Symlink.mode_bits() && stat.mode & 0o7777 != attr.mode.bits()
}
