//! What a file system implements: [`FileSystemType`] (registered by name), [`FileSystem`] (a mounted instance), [`Inode`] (a file).
//!
//! The VFS has already done: permission checks, `EROFS`, name length, `.` and `..`, mount points, locking of the directory during name
//! changes. A file system does: existence (`EEXIST`, `ENOENT`), its own limits, its own storage.
//!
//! Identity: while anyone holds an inode, looking the same file up again yields the same `Arc` (record locks, FIFOs and sockets hang on it).

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::sync::atomic::Ordering;

use bitflags::bitflags;

use super::acl::{Acl, AclKind};
use super::attr::{DevT, FileType, Metadata, Mode, SetAttr, StatFs};
use super::file::{Claim, FileOps, OpenFlags};
use crate::task::Cred;
use crate::{Errno, Result};

bitflags! {
    /// What the VFS may assume of a file system.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct FsFlags: u32 {
        /// Names may change behind the kernel's back (hostfs, proc): a cached name is asked again with [`Inode::revalidate`], and
        /// "no such name" is never remembered.
        const VOLATILE_NAMES = 1;
        /// Needs a block device as source (`nodev` is absent in /proc/filesystems).
        const NEEDS_DEVICE = 2;
        /// No device files and no programs run from here (proc, sysfs).
        const NO_DEV_NO_EXEC = 4;
        /// The file system checks access itself on top of the mode bits ([`Inode::host_access`]).
        const OWN_ACCESS_CHECK = 8;
    }
}

/// A kind of file system, registered under its name (`vfs::registry`).
pub trait FileSystemType: Send + Sync {
    /// The name in `mount -t`.
    fn name(&self) -> &'static str;
    /// Its traits.
    fn flags(&self) -> FsFlags;
    /// Makes or finds the instance for `source` (the device or any text) and the mount options that are not the VFS's own (`ro`, `nosuid` … are
    /// already taken out): comma-separated text as of `mount(2)`, or gathered from `fsconfig(2)`.
    ///
    /// # Errors
    /// `EINVAL` for an unknown option, `ENODEV`/`ENOTBLK`/`ENOENT` for the source, what the disk says.
    fn mount(&self, source: &MountSource) -> Result<Arc<dyn FileSystem>>;
}

/// What `mount(2)` or the new mount API asked for.
#[derive(Clone, Debug, Default)]
pub struct MountSource {
    /// The source word (`/dev/ubda`, `none`, `tmpfs`).
    pub source: Vec<u8>,
    /// File-system specific options in order: `key` or `key=value`.
    pub options: Vec<MountOption>,
    /// The device behind `source`, already looked up and checked, for [`FsFlags::NEEDS_DEVICE`].
    pub device: Option<DevT>,
    /// `MS_RDONLY` was asked for.
    pub read_only: bool,
}

/// One mount option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountOption {
    /// What stands before `=`.
    pub key: Vec<u8>,
    /// What stands behind `=`, if it was there.
    pub value: Option<Vec<u8>>,
}

/// A mounted instance: Linux's super block.
pub trait FileSystem: Send + Sync {
    /// The type it was made by.
    fn fs_type(&self) -> &'static str;
    /// Traits, as of the type.
    fn flags(&self) -> FsFlags;
    /// The root directory.
    fn root(&self) -> Arc<dyn Inode>;
    /// `st_dev` of its files (anonymous ones from [`super::inode::anonymous_dev`]).
    fn dev(&self) -> DevT;
    /// `statfs(2)`.
    fn statfs(&self) -> Result<StatFs>;
    /// Writes everything dirty out (`syncfs(2)`); returns when it is on stable storage.
    fn sync(&self) -> Result<()> {
        Ok(())
    }
    /// Options for /proc/mounts, with a leading comma each (`,errors=continue`), without `ro`/`rw`.
    fn show_options(&self) -> String {
        String::new()
    }
    /// `mount -o remount`: new options; [`MountSource::read_only`] tells the wish for the whole instance.
    fn remount(&self, _options: &MountSource) -> Result<()> {
        Ok(())
    }
    /// A mount of it has been placed on `path`, as seen from the first root.
    fn placed(&self, _path: &[u8]) {}
    /// The last mount is gone: flush and let go. Later calls do not happen.
    fn unmount(&self) -> Result<()> {
        self.sync()
    }
}

/// What to make in a directory.
#[derive(Clone, Debug)]
pub enum NewNode<'a> {
    /// An empty regular file.
    Regular,
    /// An empty directory.
    Directory,
    /// A symbolic link to this text.
    Symlink(&'a [u8]),
    /// A character device.
    CharDevice(DevT),
    /// A block device.
    BlockDevice(DevT),
    /// A FIFO.
    Fifo,
    /// A bound AF_UNIX socket.
    Socket,
}

/// Owner and mode of a new file: the umask is already applied (unless the directory has a default list, which the file system applies), set-group-ID
/// inheritance is done.
#[derive(Clone, Copy, Debug)]
pub struct NewAttr {
    /// Permission bits.
    pub mode: Mode,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

bitflags! {
    /// `renameat2(2)`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RenameFlags: u32 {
        /// Fail with `EEXIST` when the new name exists.
        const NOREPLACE = 1;
        /// Swap the two names.
        const EXCHANGE = 2;
        /// Leave a whiteout behind.
        const WHITEOUT = 4;
    }
    /// `setxattr(2)`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct XattrFlags: u32 {
        /// Fail with `EEXIST` when it exists.
        const CREATE = 1;
        /// Fail with `ENODATA` when it does not.
        const REPLACE = 2;
    }
}

/// When reading moves the access time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtimePolicy {
    /// Each time.
    Strict,
    /// When it is not behind the last change, or a day old (`relatime`).
    Relative,
}

/// Where a magic link (`/proc/self/fd/3`) or a plain symlink leads.
pub enum Link {
    /// Text to walk.
    Text(Vec<u8>),
    /// The object itself, without a walk (`/proc/pid/{fd,cwd,root,exe}`).
    Object(Box<dyn Any + Send + Sync>),
}

/// A file, by identity. The defaults are those of "a file that cannot do that".
pub trait Inode: Send + Sync {
    /// For file systems to find their own type again.
    fn as_any(&self) -> &dyn Any;
    /// For file systems to find their own type again, with ownership.
    fn as_any_arc(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
    /// The kernel's own state of this inode.
    fn state(&self) -> &InodeState;
    /// The instance it belongs to.
    fn fs(&self) -> Arc<dyn FileSystem>;
    /// Inode number.
    fn ino(&self) -> u64;
    /// Its type.
    fn kind(&self) -> FileType;
    /// `stat(2)`; fresh at each call.
    fn metadata(&self) -> Result<Metadata>;
    /// The attributes for permission checks on a walk (mode, owner, group, type): may be as old as the last [`Inode::lookup`] or
    /// [`Inode::revalidate`] that gave this inode, so that a walk asks a [`FsFlags::VOLATILE_NAMES`] file system once a component.
    fn walk_metadata(&self) -> Result<Metadata> {
        self.metadata()
    }
    /// `stat(2)` right after this system call found the file by name: no older than that [`Inode::lookup`] or [`Inode::revalidate`].
    fn found_metadata(&self) -> Result<Metadata> {
        self.metadata()
    }
    /// The access time may move now, by `policy`. For file systems that keep access times themselves; the default leaves them be.
    fn touch_atime(&self, _policy: AtimePolicy) {}
    /// Changes attributes. A new size reaches mappings: pages past the end are gone.
    fn set_attr(&self, _attr: &SetAttr) -> Result<()> {
        Err(Errno::EPERM)
    }
    /// The list that the VFS enforces, `None` where the mode bits say it all. Asked on each walk: parsed and cached. [`FsFlags::OWN_ACCESS_CHECK`] file
    /// systems leave lists to whom they ask.
    fn acl(&self, _kind: AclKind) -> Result<Option<Arc<Acl>>> {
        Ok(None)
    }
    /// The additional check of [`FsFlags::OWN_ACCESS_CHECK`]: `mask` of R=4, W=2, X=1.
    fn host_access(&self, _mask: u32) -> Result<()> {
        Ok(())
    }

    /// Finds `name` (never `.`, `..` or empty). `ENOENT` when it is not there.
    fn lookup(&self, _name: &[u8]) -> Result<Arc<dyn Inode>> {
        Err(Errno::ENOTDIR)
    }
    /// Whether `name` still leads to `inode`, for [`FsFlags::VOLATILE_NAMES`].
    fn revalidate(&self, _name: &[u8], _inode: &Arc<dyn Inode>) -> bool {
        true
    }
    /// Makes `name`. `EEXIST` when it is there.
    fn create(&self, _name: &[u8], _node: NewNode<'_>, _attr: NewAttr) -> Result<Arc<dyn Inode>> {
        Err(Errno::EPERM)
    }
    /// `O_TMPFILE`: a file without a name; `link` can give it one.
    fn create_unnamed(&self, _attr: NewAttr) -> Result<Arc<dyn Inode>> {
        Err(Errno::EOPNOTSUPP)
    }
    /// One more name for `target`, an inode of the same instance.
    fn link(&self, _name: &[u8], _target: &Arc<dyn Inode>) -> Result<()> {
        Err(Errno::EPERM)
    }
    /// Removes a name of a non-directory. The file lives on while it is open.
    fn unlink(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::EPERM)
    }
    /// Removes an empty directory (`ENOTEMPTY`).
    fn rmdir(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::EPERM)
    }
    /// Moves `old` of this directory to `new` of `dir` (same instance), replacing what stands there as `rename(2)` allows.
    fn rename(&self, _old: &[u8], _dir: &Arc<dyn Inode>, _new: &[u8], _flags: RenameFlags) -> Result<()> {
        Err(Errno::EPERM)
    }
    /// Where a symlink leads.
    fn read_link(&self) -> Result<Link> {
        Err(Errno::EINVAL)
    }

    /// Opens a regular file or directory. Devices, FIFOs and sockets are opened by the VFS and never get here. Truncation by `O_TRUNC` is
    /// asked for with `set_attr`.
    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        Err(Errno::ENXIO)
    }

    /// Opens a device file that finds its driver by itself, not by number: the `ptmx` inside a devpts. None for all others.
    fn open_device(&self, _cred: &Cred) -> Option<Result<Arc<dyn FileOps>>> {
        None
    }

    /// `getxattr(2)`. `ENODATA` when absent.
    fn get_xattr(&self, _name: &[u8]) -> Result<Vec<u8>> {
        Err(Errno::EOPNOTSUPP)
    }
    /// `setxattr(2)`.
    fn set_xattr(&self, _name: &[u8], _value: &[u8], _flags: XattrFlags) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    /// `listxattr(2)`.
    fn list_xattr(&self) -> Result<Vec<Vec<u8>>> {
        Ok(Vec::new())
    }
    /// `removexattr(2)`.
    fn remove_xattr(&self, _name: &[u8]) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
}

/// The kernel's own state of an inode, embedded by every file system: what hangs on a file's identity and is not on its disk.
///
/// `slots` holds at most one value of each type: the pipe of a FIFO, the record locks, the bound socket, inotify marks.
#[derive(Default)]
pub struct InodeState {
    slots: spin::Mutex<Vec<Arc<dyn Any + Send + Sync>>>,
    /// How many writable opens (positive) or executions (negative) there are: `ETXTBSY`.
    pub writers: core::sync::atomic::AtomicI32,
    /// How many opens there are that only read, executions among them.
    readers: core::sync::atomic::AtomicI32,
}

impl InodeState {
    /// The value of type `T`, made at first use.
    pub fn get_or_init<T: Any + Send + Sync>(&self, init: impl FnOnce() -> T) -> Arc<T> {
        let mut slots = self.slots.lock();
        if let Some(found) = slots.iter().find_map(|slot| slot.clone().downcast::<T>().ok()) {
            return found;
        }
        let made = Arc::new(init());
        slots.push(made.clone());
        made
    }

    /// The value of type `T`, if it was made.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.slots
            .lock()
            .iter()
            .find_map(|slot| slot.clone().downcast::<T>().ok())
    }

    /// Announces an open; [`release`](Self::release) takes it back. `ETXTBSY` for a writer and an execution at a time.
    pub fn claim(&self, claim: Claim) -> Result<()> {
        let step = match claim {
            Claim::None => return Ok(()),
            Claim::Read => {
                self.readers.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
            Claim::Write => 1,
            Claim::Execute => -1,
        };
        let update = |count: i32| {
            if count.signum() == -step {
                None
            } else {
                count.checked_add(step)
            }
        };
        let done = self.writers.fetch_update(Ordering::SeqCst, Ordering::Acquire, update);
        done.map_err(|_| Errno::ETXTBSY)?;
        if claim == Claim::Execute {
            self.readers.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Whether `claim` is all that there is.
    pub fn is_claimed_alone(&self, claim: Claim) -> bool {
        let (writers, readers) = match claim {
            Claim::None => (0, 0),
            Claim::Read => (0, 1),
            Claim::Write => (1, 0),
            Claim::Execute => (-1, 1),
        };
        self.writers.load(Ordering::SeqCst) == writers && self.readers.load(Ordering::SeqCst) == readers
    }

    /// Takes a [`claim`](Self::claim) back.
    pub fn release(&self, claim: Claim) {
        match claim {
            Claim::None => 0,
            Claim::Read => self.readers.fetch_sub(1, Ordering::AcqRel),
            Claim::Write => self.writers.fetch_sub(1, Ordering::AcqRel),
            Claim::Execute => {
                self.readers.fetch_sub(1, Ordering::AcqRel);
                self.writers.fetch_add(1, Ordering::AcqRel)
            }
        };
    }

    /// Forgets the value of type `T`.
    pub fn remove<T: Any + Send + Sync>(&self) {
        self.slots.lock().retain(|slot| !slot.is::<T>());
    }
}

/// A device number for a file system without a device (major 0), never given out twice.
pub fn anonymous_dev() -> DevT {
    static NEXT: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(1);
    DevT::new(0, NEXT.fetch_add(1, core::sync::atomic::Ordering::Relaxed))
}
