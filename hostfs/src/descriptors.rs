//! The descriptors of an inode: its anchor, and those that open files share.
//!
//! Reading and writing have separate descriptors, opened when first needed, so that none has more rights than its user. What is opened by name
//! is compared with the inode's identity before anyone gets it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arch_um::host::at::{self, HostAccess, HostOpen};
use arch_um::host::statx::{self, Stat};
use arch_um::host::{AsFd, BorrowedFd, OwnedFd};
use kernel::vfs::FileType;
use kernel::{Errno, Result};

use crate::inode::HostInode;
use crate::table::Key;

/// Files of procfs through which memory is read that does not belong to the guest.
const MEMORY: [&[u8]; 2] = [b"mem", b"kcore"];

impl HostInode {
    /// `ESTALE` unless `fd` is this file.
    pub(crate) fn verify(&self, fd: &OwnedFd) -> Result<Stat> {
        let stat = statx::stat_fd(fd.as_fd())?;
        if Key::of(&stat) != self.key {
            return Err(Errno::ESTALE);
        }
        self.saw(&stat);
        Ok(stat)
    }

    /// The anchor, opened if need be. For directories it is where their names are looked up.
    pub(crate) fn anchor(&self) -> Result<Arc<OwnedFd>> {
        if let Some(fd) = self.held_anchor() {
            return Ok(fd);
        }
        // Upwards to the first that holds one, then down again: a loop, because trees may be deeper than a kernel stack.
        let mut missing = vec![self.arc()];
        let mut fd = loop {
            let lowest = &missing[missing.len() - 1];
            let parent = lowest.place().ok_or(Errno::ESTALE)?.parent;
            if let Some(fd) = parent.held_anchor() {
                break fd;
            }
            missing.push(parent);
        };
        while let Some(inode) = missing.pop() {
            fd = inode.open_anchor(&fd)?;
        }
        Ok(fd)
    }

    pub(crate) fn held_anchor(&self) -> Option<Arc<OwnedFd>> {
        let fd = self.node.lock().anchor.clone()?;
        self.used.store(true, Ordering::Relaxed);
        Some(fd)
    }

    /// Opens the anchor through the parent's.
    fn open_anchor(&self, parent: &OwnedFd) -> Result<Arc<OwnedFd>> {
        let place = self.place().ok_or(Errno::ESTALE)?;
        let fd = self.fs.anchors.with_room(|| match self.kind {
            FileType::Directory => at::open_dir_path_at(parent.as_fd(), &place.name),
            _ => at::open_path_at(parent.as_fd(), &place.name),
        })?;
        self.verify(&fd)?;
        Ok(self.keep_anchor(Arc::new(fd)))
    }

    /// Makes a verified descriptor the anchor, unless somebody was faster.
    pub(crate) fn keep_anchor(&self, fd: Arc<OwnedFd>) -> Arc<OwnedFd> {
        self.used.store(true, Ordering::Relaxed);
        let slot = self.fs.anchors.enter(self.me.clone());
        let surplus = {
            let mut node = self.node.lock();
            match (&node.anchor, node.slot) {
                (Some(kept), _) => Some(kept.clone()),
                (None, None) => {
                    node.anchor = Some(fd.clone());
                    node.slot = Some(slot);
                    None
                }
                (None, Some(_)) => {
                    node.anchor = Some(fd.clone());
                    Some(fd.clone())
                }
            }
        };
        if let Some(kept) = surplus {
            self.fs.anchors.leave(slot);
            return kept;
        }
        fd
    }

    /// Holds the file by `fd` until it is dropped or gets a name: nothing else leads to it.
    pub(crate) fn pin(&self, fd: Arc<OwnedFd>) {
        let (slot, old) = {
            let mut node = self.node.lock();
            (node.slot.take(), node.anchor.replace(fd))
        };
        if let Some(slot) = slot {
            self.fs.anchors.leave(slot);
        }
        drop(old);
    }

    /// The pinned anchor may be closed again like any other: a name leads to the file.
    pub(crate) fn unpin(&self) {
        let slot = self.fs.anchors.enter(self.me.clone());
        let surplus = {
            let mut node = self.node.lock();
            let wanted = node.slot.is_none() && node.anchor.is_some();
            if wanted {
                node.slot = Some(slot);
            }
            !wanted
        };
        if surplus {
            self.fs.anchors.leave(slot);
        }
    }

    /// For the clock: the slot and the descriptors to close, unless the anchor was used lately or is pinned.
    pub(crate) fn take_idle_anchor(&self) -> Option<(usize, [Option<Arc<OwnedFd>>; 2])> {
        if self.used.swap(false, Ordering::Relaxed) {
            return None;
        }
        let mut node = self.node.lock();
        let slot = node.slot.take()?;
        Some((slot, [node.anchor.take(), node.fresh.take()]))
    }

    /// Keeps the descriptor that made the file until its first open. It is the anchor meanwhile, so that it counts against the limit.
    pub(crate) fn keep_fresh(&self, fd: Arc<OwnedFd>) {
        self.node.lock().fresh = Some(fd.clone());
        self.keep_anchor(fd);
    }

    /// The descriptor that made the file, if it was not opened yet.
    fn take_fresh(&self) -> Option<Arc<OwnedFd>> {
        let mut node = self.node.lock();
        let fresh = node.fresh.take()?;
        // As an anchor it would keep the file open for writing. A pinned one must stay: there is no other.
        let was_anchor = node.anchor.as_ref().is_some_and(|anchor| Arc::ptr_eq(anchor, &fresh));
        let slot = if was_anchor { node.slot.take() } else { None };
        let anchor = if slot.is_some() { node.anchor.take() } else { None };
        drop(node);
        if let Some(slot) = slot {
            self.fs.anchors.leave(slot);
        }
        drop(anchor);
        Some(fresh)
    }

    /// Any descriptor of this file: of an open file, or the anchor.
    pub(crate) fn any_fd(&self) -> Result<Arc<OwnedFd>> {
        match self.open_fd() {
            Some(fd) => Ok(fd),
            None => self.anchor(),
        }
    }

    /// Runs `call` with a descriptor of this file. On an anchor some calls go through the host's /proc; in a jail without one (`ENOENT`, which
    /// these calls never say otherwise) the file is opened for it.
    pub(crate) fn with_fd<R>(&self, call: impl Fn(BorrowedFd<'_>) -> Result<R>) -> Result<R> {
        match call(self.any_fd()?.as_fd()) {
            Err(Errno::ENOENT) => match self.kind {
                FileType::Directory => call(at::open_entries(self.anchor()?.as_fd(), HostOpen::empty())?.as_fd()),
                FileType::Regular => call(self.read_fd().or_else(|_| self.write_fd(HostAccess::Write))?.as_fd()),
                _ => Err(Errno::EOPNOTSUPP),
            },
            result => result,
        }
    }

    pub(crate) fn open_fd(&self) -> Option<Arc<OwnedFd>> {
        let node = self.node.lock();
        node.fresh
            .clone()
            .or_else(|| node.write.upgrade())
            .or_else(|| node.read.upgrade())
    }

    /// A descriptor for reading, shared with other open files.
    pub(crate) fn read_fd(&self) -> Result<Arc<OwnedFd>> {
        if let Some(fd) = self.node.lock().read.upgrade() {
            return Ok(fd);
        }
        let fd = Arc::new(self.open_host(HostAccess::Read, HostOpen::empty())?);
        let mut node = self.node.lock();
        node.read = Arc::downgrade(&fd);
        Ok(fd)
    }

    /// A descriptor for writing, and for reading too if `access` says so, shared with other open files. Taken from the maker of the file
    /// where it is not opened yet.
    pub(crate) fn write_fd(&self, access: HostAccess) -> Result<Arc<OwnedFd>> {
        {
            let fresh = self.take_fresh();
            let mut node = self.node.lock();
            if let Some(fd) = fresh {
                node.write = Arc::downgrade(&fd);
                node.write_access = HostAccess::ReadWrite;
                return Ok(fd);
            }
            if let Some(fd) = node.write.upgrade()
                && (access == HostAccess::Write || node.write_access == HostAccess::ReadWrite)
            {
                return Ok(fd);
            }
        }
        let (fd, got) = match self.open_host(HostAccess::ReadWrite, HostOpen::empty()) {
            Err(Errno::EACCES) if access == HostAccess::Write => {
                (self.open_host(HostAccess::Write, HostOpen::empty())?, HostAccess::Write)
            }
            result => (result?, HostAccess::ReadWrite),
        };
        let fd = Arc::new(fd);
        let mut node = self.node.lock();
        node.write = Arc::downgrade(&fd);
        node.write_access = got;
        Ok(fd)
    }

    /// Nobody opened the file since it was made, and whoever opens it now does not want to write: a writing descriptor left open would
    /// keep the host from executing the file.
    pub(crate) fn drop_fresh(&self) {
        drop(self.take_fresh());
    }

    /// Opens the host file: by its name if it is still there, else through the anchor.
    ///
    /// A procfs of the host is read-only (`EROFS`), and the memory of its processes is closed (`EACCES`): both would give a guest the kernel it
    /// runs on, and through it everything its user may do, even where that user confined it to one directory or mounted it read-only.
    pub(crate) fn open_host(&self, access: HostAccess, how: HostOpen) -> Result<OwnedFd> {
        let fd = self.open_unchecked(access, how)?;
        if self.fs.on_procfs(self.key.dev(), &fd) {
            let memory = |place: crate::inode::Place| MEMORY.contains(&&*place.name);
            if access != HostAccess::Read {
                return Err(Errno::EROFS);
            }
            if self.place().is_none_or(memory) {
                return Err(Errno::EACCES);
            }
        }
        Ok(fd)
    }

    fn open_unchecked(&self, access: HostAccess, how: HostOpen) -> Result<OwnedFd> {
        // Anything else that stands at a name is the guest's own (devices, FIFOs, sockets): never opened on the host.
        if self.kind != FileType::Regular {
            return Err(Errno::ENXIO);
        }
        if let Some(place) = self.place() {
            let parent = place.parent.anchor()?;
            match self
                .fs
                .anchors
                .with_room(|| at::open_at(parent.as_fd(), &place.name, access, how))
            {
                Ok(fd) if self.verify(&fd).is_ok() => return Ok(fd),
                Ok(_) | Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO | Errno::EISDIR) => {}
                Err(error) => return Err(error),
            }
        }
        let fd = self.open_fd().or_else(|| self.held_anchor()).ok_or(Errno::ESTALE)?;
        self.fs.anchors.with_room(|| at::reopen(fd.as_fd(), access, how))
    }
}
