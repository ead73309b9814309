//! [`HostInode`]: a host file by identity, where it is found, the descriptors it holds, its attributes.
//!
//! A file without an anchor is asked about through its parent's descriptor and its name. What comes back is compared with the identity: a
//! file that the host replaced gives `ESTALE` (the VFS walks again), never another file's data.

use std::any::Any;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use arch_um::host::at::{self, HostAccess};
use arch_um::host::statx::{self, Stat};
use arch_um::host::{AsFd, HostTime, OwnedFd, file_io, xattr};
use arch_um::sync::{Mutex, SpinLock, order};
use kernel::vfs::attr::Timespec;
use kernel::vfs::inode::{Link, NewAttr, RenameFlags, XattrFlags};
use kernel::vfs::{
    DevT, FileOps, FileSystem, FileType, Inode, InodeState, Metadata, Mode, NewNode, OpenFlags, SetAttr,
};
use kernel::{Errno, Result};

use crate::dir::HostDir;
use crate::file::HostFile;
use crate::fs::HostFs;
use crate::table::Key;

/// Links of a procfs to the process that looks.
const SELF: [&[u8]; 2] = [b"self", b"thread-self"];

/// A host file.
pub struct HostInode {
    pub(crate) me: Weak<HostInode>,
    pub(crate) fs: Arc<HostFs>,
    pub(crate) key: Key,
    pub(crate) kind: FileType,
    dev: DevT,
    state: InodeState,
    pub(crate) node: SpinLock<Node>,
    /// The anchor was used since the clock's hand came by.
    pub(crate) used: AtomicBool,
    /// Held over an append and over what moves the position of the shared write descriptor.
    pub(crate) append: Mutex<()>,
}

/// What changes about an inode.
pub(crate) struct Node {
    /// The directory and the name it was seen under last; none for the root and for files without a name.
    pub(crate) place: Option<Place>,
    /// A descriptor that means this file, whatever happens to its names.
    pub(crate) anchor: Option<Arc<OwnedFd>>,
    /// Its slot in [`crate::anchor::Anchors`]; none while there is no anchor or it is pinned.
    pub(crate) slot: Option<usize>,
    /// The descriptor that made the file, kept for the first open: the mode may allow no second one.
    pub(crate) fresh: Option<Arc<OwnedFd>>,
    /// Shared by the open files that only read.
    pub(crate) read: Weak<OwnedFd>,
    /// Shared by the open files that write; open for reading too unless the host forbids it.
    pub(crate) write: Weak<OwnedFd>,
    pub(crate) write_access: HostAccess,
    /// As of the last look at the host.
    pub(crate) seen: Stat,
    /// Which masks of `host_access` the host has granted, as bits, as long as `ctime` is this.
    pub(crate) granted: (HostTime, u8),
}

/// A name in a directory.
#[derive(Clone)]
pub(crate) struct Place {
    pub parent: Arc<HostInode>,
    pub name: Box<[u8]>,
}

impl HostInode {
    /// A file nobody held so far.
    pub(crate) fn new(fs: Arc<HostFs>, key: Key, kind: FileType, dev: DevT, seen: Stat) -> Arc<Self> {
        let node = Node {
            place: None,
            anchor: None,
            slot: None,
            fresh: None,
            read: Weak::new(),
            write: Weak::new(),
            write_access: HostAccess::Write,
            seen,
            granted: (seen.ctime, 0),
        };
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            fs,
            key,
            kind,
            dev,
            state: InodeState::default(),
            node: SpinLock::new(&order::LEAF, node),
            used: AtomicBool::new(false),
            append: Mutex::new(&order::INODE, ()),
        })
    }

    /// The instance.
    pub(crate) fn host(&self) -> &Arc<HostFs> {
        &self.fs
    }

    /// The identity.
    pub(crate) fn key(&self) -> &Key {
        &self.key
    }

    /// Itself, counted.
    pub(crate) fn arc(&self) -> Arc<HostInode> {
        self.me.upgrade().expect("a method runs on a living inode")
    }

    /// The directory and name it was seen under last.
    pub(crate) fn place(&self) -> Option<Place> {
        self.node.lock().place.clone()
    }

    /// It stands at `name` of `parent` now. Tells whether it could be noted: a directory that the host moved below itself, as far as the
    /// stale places above it say, must be pinned instead, or the two would hold each other for ever.
    pub(crate) fn set_place(&self, parent: &Arc<HostInode>, name: &[u8]) -> Result<()> {
        let same = |place: &Place| Arc::ptr_eq(&place.parent, parent) && *place.name == *name;
        if self.node.lock().place.as_ref().is_some_and(same) {
            return Ok(());
        }
        if self.kind == FileType::Directory {
            let mut above = Some(parent.clone());
            while let Some(dir) = above {
                if std::ptr::eq(Arc::as_ptr(&dir), self) {
                    let fd = at::open_dir_path_at(parent.anchor()?.as_fd(), name)?;
                    self.verify(&fd)?;
                    self.pin(Arc::new(fd));
                    return Ok(());
                }
                above = dir.place().map(|place| place.parent);
            }
        }
        let place = Place {
            parent: parent.clone(),
            name: name.into(),
        };
        let (old, pinned) = {
            let mut node = self.node.lock();
            (node.place.replace(place), node.anchor.is_some() && node.slot.is_none())
        };
        if old.is_none() && pinned {
            self.unpin();
        }
        Ok(())
    }

    /// Its last known name is gone (the caller has pinned it, or nothing needs it any more).
    pub(crate) fn clear_place(&self) {
        let old = self.node.lock().place.take();
        drop(old);
    }

    /// Notes what the host said about this file just now.
    pub(crate) fn saw(&self, stat: &Stat) {
        self.node.lock().seen = *stat;
    }

    /// What the host says now.
    fn stat(&self) -> Result<Stat> {
        if let Some(fd) = self.open_fd().or_else(|| self.held_anchor()) {
            let stat = statx::stat_fd(fd.as_fd())?;
            self.saw(&stat);
            return Ok(stat);
        }
        let place = self.place().ok_or(Errno::ESTALE)?;
        let stat = statx::stat_at(place.parent.anchor()?.as_fd(), &place.name)?;
        if Key::of(&stat) != self.key {
            return Err(Errno::ESTALE);
        }
        self.saw(&stat);
        Ok(stat)
    }

    fn truncate(&self, size: u64) -> Result<()> {
        if self.fs.append {
            return Err(Errno::EPERM);
        }
        let writer = {
            let node = self.node.lock();
            node.fresh.clone().or_else(|| node.write.upgrade())
        };
        match writer {
            Some(fd) => file_io::truncate(fd.as_fd(), size),
            None => match at::truncate_path_fd(self.anchor()?.as_fd(), size) {
                Err(Errno::ENOENT) => file_io::truncate(self.write_fd(HostAccess::Write)?.as_fd(), size),
                result => result,
            },
        }
    }

    fn to_metadata(&self, stat: &Stat) -> Metadata {
        let time = |time: HostTime| Timespec {
            sec: time.sec,
            nsec: time.nsec,
        };
        Metadata {
            dev: self.dev,
            ino: stat.ino,
            kind: self.kind,
            mode: Mode::from_bits_truncate(stat.mode),
            nlink: stat.nlink,
            uid: stat.uid,
            gid: stat.gid,
            rdev: DevT::new(stat.rdev.0, stat.rdev.1),
            size: stat.size,
            blksize: stat.blksize,
            blocks: stat.blocks,
            atime: time(stat.atime),
            mtime: time(stat.mtime),
            ctime: time(stat.ctime),
            btime: stat.btime.map(time),
        }
    }
}

impl Drop for HostInode {
    fn drop(&mut self) {
        self.fs.table.forget(&self.key);
        let node = self.node.get_mut();
        if let Some(slot) = node.slot.take() {
            self.fs.anchors.leave(slot);
        }
        // A directory may be held by nothing but its child, and that for many levels: one after the other, not one inside the other.
        let mut place = node.place.take();
        while let Some(Place { parent, .. }) = place {
            place = Arc::into_inner(parent).and_then(|mut parent| parent.node.get_mut().place.take());
        }
    }
}

/// The host inode behind an inode of the same instance; `EXDEV` for any other.
pub(crate) fn of_instance(inode: &Arc<dyn Inode>, fs: &Arc<HostFs>) -> Result<Arc<HostInode>> {
    let host = inode
        .clone()
        .as_any_arc()
        .downcast::<HostInode>()
        .map_err(|_| Errno::EXDEV)?;
    if Arc::ptr_eq(&host.fs, fs) {
        Ok(host)
    } else {
        Err(Errno::EXDEV)
    }
}

impl Inode for HostInode {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_arc(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }

    fn state(&self) -> &InodeState {
        &self.state
    }

    fn fs(&self) -> Arc<dyn FileSystem> {
        self.fs.clone()
    }

    fn ino(&self) -> u64 {
        self.key.ino()
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn metadata(&self) -> Result<Metadata> {
        Ok(self.to_metadata(&self.stat()?))
    }

    fn walk_metadata(&self) -> Result<Metadata> {
        let seen = self.node.lock().seen;
        Ok(self.to_metadata(&seen))
    }

    fn found_metadata(&self) -> Result<Metadata> {
        self.walk_metadata()
    }

    /// Size, owner, mode, times, in this order: a change of owner takes set-id bits away, which the mode may then set.
    fn set_attr(&self, attr: &SetAttr) -> Result<()> {
        if let Some(size) = attr.size {
            self.truncate(size)?;
        }
        if attr.uid.is_some() || attr.gid.is_some() {
            at::chown_fd(self.any_fd()?.as_fd(), attr.uid, attr.gid)?;
        }
        if let Some(mode) = attr.mode {
            self.with_fd(|fd| at::chmod_fd(fd, mode.bits()))?;
        }
        if attr.atime.is_some() || attr.mtime.is_some() {
            let time = |time: Timespec| HostTime {
                sec: time.sec,
                nsec: time.nsec,
            };
            self.with_fd(|fd| at::set_times_fd(fd, attr.atime.map(time), attr.mtime.map(time)))?;
        }
        if attr.mode.is_some() || attr.uid.is_some() || attr.gid.is_some() {
            // What a walk checks must be no older than what this task did. The change itself has succeeded.
            let _ = self.stat();
        }
        Ok(())
    }

    /// What the host grants this process. A grant is good until the inode changes; a refusal is asked again each time.
    fn host_access(&self, mask: u32) -> Result<()> {
        const WRITE: u32 = 2;
        if mask & 7 == 0 || self.kind == FileType::Symlink || self.fs.privileged() && mask & WRITE == 0 {
            return Ok(());
        }
        // Devices, FIFOs and sockets are the guest's own: only their modes come from the host, and the VFS has looked at those.
        if !matches!(self.kind, FileType::Regular | FileType::Directory) {
            return Ok(());
        }
        let bit = 1u8 << (mask & 7);
        let ctime = {
            let node = self.node.lock();
            if node.granted.0 == node.seen.ctime && node.granted.1 & bit != 0 {
                return Ok(());
            }
            node.seen.ctime
        };
        // A directory is about to be walked through or changed, which takes the anchor anyway; a file is asked about by name.
        let answer = match self.place() {
            Some(place) if self.kind == FileType::Regular => {
                statx::access_at(place.parent.anchor()?.as_fd(), &place.name, mask)
            }
            _ => statx::access_fd(self.any_fd()?.as_fd(), mask),
        };
        match answer {
            // Hosts before Linux 5.8: the operation itself will tell.
            Ok(()) | Err(Errno::ENOSYS | Errno::EINVAL) => {}
            Err(error) => return Err(error),
        }
        let mut node = self.node.lock();
        if node.granted.0 != ctime {
            node.granted = (ctime, 0);
        }
        node.granted.1 |= bit;
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        let found: Arc<dyn Inode> = self.child(name)?;
        Ok(found)
    }

    fn revalidate(&self, name: &[u8], inode: &Arc<dyn Inode>) -> bool {
        inode
            .as_any()
            .downcast_ref::<HostInode>()
            .is_some_and(|child| self.still_leads_to(name, child))
    }

    fn create(&self, name: &[u8], node: NewNode<'_>, attr: NewAttr) -> Result<Arc<dyn Inode>> {
        let made: Arc<dyn Inode> = self.make(name, node, attr)?;
        Ok(made)
    }

    fn create_unnamed(&self, attr: NewAttr) -> Result<Arc<dyn Inode>> {
        let made: Arc<dyn Inode> = self.make_unnamed(attr)?;
        Ok(made)
    }

    fn link(&self, name: &[u8], target: &Arc<dyn Inode>) -> Result<()> {
        self.add_name(name, &of_instance(target, &self.fs)?)
    }

    fn unlink(&self, name: &[u8]) -> Result<()> {
        self.remove_name(name, at::unlink_at)
    }

    fn rmdir(&self, name: &[u8]) -> Result<()> {
        self.remove_name(name, at::rmdir_at)
    }

    fn rename(&self, old: &[u8], dir: &Arc<dyn Inode>, new: &[u8], flags: RenameFlags) -> Result<()> {
        self.move_name(old, &of_instance(dir, &self.fs)?, new, flags)
    }

    /// The host's text as it is: an absolute target means the guest's tree.
    ///
    /// `self` and `thread-self` of the host's procfs lead nowhere (`ENOENT`): there they mean the kernel, and a program that finds itself by
    /// /proc/self/exe (busybox) would start another kernel.
    fn read_link(&self) -> Result<Link> {
        if self.kind != FileType::Symlink {
            return Err(Errno::EINVAL);
        }
        let text = match self.place() {
            Some(place) => {
                let parent = place.parent.anchor()?;
                if SELF.contains(&&*place.name) && self.fs.on_procfs(self.key.dev(), &parent) {
                    return Err(Errno::ENOENT);
                }
                at::read_link_at(parent.as_fd(), &place.name)
            }
            None => at::read_link_fd(self.anchor()?.as_fd()),
        };
        Ok(Link::Text(text?))
    }

    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        match self.kind {
            FileType::Directory => Ok(Arc::new(HostDir::open(self, flags)?)),
            FileType::Regular => Ok(Arc::new(HostFile::open(self, flags)?)),
            _ => Err(Errno::ENXIO),
        }
    }

    fn get_xattr(&self, name: &[u8]) -> Result<Vec<u8>> {
        self.with_fd(|fd| xattr::get_xattr(fd, name))
    }

    fn set_xattr(&self, name: &[u8], value: &[u8], flags: XattrFlags) -> Result<()> {
        self.with_fd(|fd| xattr::set_xattr(fd, name, value, flags.bits()))
    }

    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        self.with_fd(xattr::list_xattr)
    }

    fn remove_xattr(&self, name: &[u8]) -> Result<()> {
        self.with_fd(|fd| xattr::remove_xattr(fd, name))
    }
}
