//! [`HostFsType`]: what `mount -t hostfs` finds; [`HostFs`]: one mounted host directory.

use std::sync::{Arc, Weak};

use arch_um::host::at::{self, HostOpen};
use arch_um::host::statx::{self, Stat};
use arch_um::host::{AsFd, OwnedFd, file_io};
use arch_um::pool;
use arch_um::sync::{SpinLock, order};
use kernel::vfs::inode::{FsFlags, MountSource, anonymous_dev};
use kernel::vfs::{DevT, FileSystem, FileSystemType, Inode, StatFs, registry};
use kernel::{Errno, Result};

use crate::anchor::Anchors;
use crate::args::{HostfsArgs, MountOptions};
use crate::buffer::BufferPool;
use crate::inode::HostInode;
use crate::table::{InodeTable, Key, Origin};

/// UML's number for hostfs.
const HOSTFS_SUPER_MAGIC: u64 = 0x00c0_ffee;
/// The host's number for procfs (`statfs(2)`).
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

const FLAGS: FsFlags = FsFlags::VOLATILE_NAMES.union(FsFlags::OWN_ACCESS_CHECK);

/// The file system type `hostfs`.
pub struct HostFsType {
    args: HostfsArgs,
}

impl HostFsType {
    /// With what `hostfs=` said.
    pub fn new(args: HostfsArgs) -> Self {
        Self { args }
    }
}

/// Makes `mount -t hostfs` known, as `hostfs=` says.
pub fn register(args: HostfsArgs) {
    registry::register(Box::leak(Box::new(HostFsType::new(args))));
}

impl FileSystemType for HostFsType {
    fn name(&self) -> &'static str {
        "hostfs"
    }

    fn flags(&self) -> FsFlags {
        FLAGS
    }

    /// The source word means nothing. `ENOENT`, `ENOTDIR`, `EACCES` for the directory.
    fn mount(&self, source: &MountSource) -> Result<Arc<dyn FileSystem>> {
        let options = MountOptions::parse(source)?;
        let fs: Arc<dyn FileSystem> = HostFs::open(&self.args, options)?;
        Ok(fs)
    }
}

/// A mounted host directory.
pub struct HostFs {
    me: Weak<HostFs>,
    options: MountOptions,
    pub(crate) append: bool,
    pub(crate) host_uid: u32,
    pub(crate) table: InodeTable,
    pub(crate) anchors: Anchors,
    pub(crate) buffers: BufferPool,
    dev: DevT,
    devices: SpinLock<Vec<HostDevice>>,
    /// Given up at unmount: the root holds the instance and the instance the root.
    root: SpinLock<Option<Arc<HostInode>>>,
}

/// A host file system that files of this instance lie on. Each has a number of its own in the guest, or two files of the same inode number
/// would look like one (`find` would see loops, `tar` hard links).
#[derive(Clone, Copy)]
struct HostDevice {
    host: (u32, u32),
    guest: DevT,
    nature: Option<Nature>,
}

/// What matters about a host file system.
#[derive(Clone, Copy)]
struct Nature {
    speed: Speed,
    /// A procfs: its files are not data but handles on the host's processes.
    procfs: bool,
}

/// How long calls on a host file system may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speed {
    /// A disk or memory of this host.
    Local,
    /// Another machine or process answers: a virtual CPU does not wait for it.
    Remote,
}

impl HostFs {
    /// Opens the directory that `args` and `options` name together.
    pub(crate) fn open(args: &HostfsArgs, options: MountOptions) -> Result<Arc<Self>> {
        let fd = open_root(args, &options).inspect_err(|error| {
            let (root, path) = (
                String::from_utf8_lossy(&args.root),
                String::from_utf8_lossy(&options.path),
            );
            log::error!("hostfs: cannot open \"{path}\" below \"{root}/\" of the host: {error}");
        })?;
        Self::over(fd, args.append || options.append, options, Anchors::new())
    }

    /// The root of `hostfs=` as an instance that holds at most `limit` descriptors beside open files.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `EACCES`.
    pub fn with_anchor_limit(args: &HostfsArgs, limit: usize) -> Result<Arc<Self>> {
        let options = MountOptions::default();
        Self::over(
            open_root(args, &options)?,
            args.append,
            options,
            Anchors::with_limit(limit),
        )
    }

    /// An instance whose root is the directory behind `fd`.
    pub(crate) fn over(fd: OwnedFd, append: bool, options: MountOptions, anchors: Anchors) -> Result<Arc<Self>> {
        let stat = statx::stat_fd(fd.as_fd())?;
        let fs = Arc::new_cyclic(|me| Self {
            me: me.clone(),
            options,
            append,
            host_uid: statx::effective_ids().0,
            table: InodeTable::new(),
            anchors,
            buffers: BufferPool::new(),
            dev: anonymous_dev(),
            devices: SpinLock::new(&order::LEAF, Vec::new()),
            root: SpinLock::new(&order::LEAF, None),
        });
        let root = fs.inode(&stat)?.0;
        root.pin(Arc::new(fd));
        *fs.root.lock() = Some(root);
        Ok(fs)
    }

    /// The inode for a host file of these attributes.
    pub(crate) fn inode(&self, stat: &Stat) -> Result<(Arc<HostInode>, Origin)> {
        let key = Key::of(stat);
        let kind = key.kind().ok_or(Errno::EIO)?;
        let fs = self.me.upgrade().ok_or(Errno::ESTALE)?;
        let dev = self.guest_dev(key.dev());
        Ok(self
            .table
            .find_or_insert(key, || HostInode::new(fs, key, kind, dev, *stat)))
    }

    /// The number that files of a host device have in the guest. The first one seen (the root's) is the instance's own.
    pub(crate) fn guest_dev(&self, host: (u32, u32)) -> DevT {
        let mut devices = self.devices.lock();
        if let Some(known) = devices.iter().find(|device| device.host == host) {
            return known.guest;
        }
        let guest = if devices.is_empty() { self.dev } else { anonymous_dev() };
        devices.push(HostDevice {
            host,
            guest,
            nature: None,
        });
        guest
    }

    /// How long calls on the host file system of `fd`, a file on device `host`, may take.
    pub(crate) fn speed(&self, host: (u32, u32), fd: &OwnedFd) -> Speed {
        self.nature(host, fd).speed
    }

    /// Whether `fd`, a file on device `host`, lies on a procfs of the host.
    pub(crate) fn on_procfs(&self, host: (u32, u32), fd: &OwnedFd) -> bool {
        self.nature(host, fd).procfs
    }

    fn nature(&self, host: (u32, u32), fd: &OwnedFd) -> Nature {
        let known = self
            .devices
            .lock()
            .iter()
            .find(|device| device.host == host)
            .and_then(|device| device.nature);
        if let Some(nature) = known {
            return nature;
        }
        let nature = match statx::statfs_fd(fd.as_fd()) {
            Ok(stat) => Nature {
                speed: if stat.local { Speed::Local } else { Speed::Remote },
                procfs: stat.magic == PROC_SUPER_MAGIC,
            },
            // Not known: the careful answer, and asked again the next time.
            Err(_) => {
                return Nature {
                    speed: Speed::Remote,
                    procfs: true,
                };
            }
        };
        if let Some(device) = self.devices.lock().iter_mut().find(|device| device.host == host) {
            device.nature = Some(nature);
        }
        nature
    }

    /// Whether the host grants this process what it grants root.
    pub(crate) fn privileged(&self) -> bool {
        self.host_uid == 0
    }

    fn root_inode(&self) -> Arc<HostInode> {
        self.root
            .lock()
            .clone()
            .expect("no calls on an instance after its unmount")
    }

    /// Whether `inode` is the top of this instance.
    pub(crate) fn is_root(&self, inode: &HostInode) -> bool {
        self.root
            .lock()
            .as_ref()
            .is_some_and(|root| std::ptr::eq(Arc::as_ptr(root), inode))
    }

    /// Inodes in memory and anchors held, for tests and statistics.
    pub fn usage(&self) -> (usize, usize) {
        (self.table.len(), self.anchors.count())
    }
}

/// The directory `<root of hostfs=>/<option>`. What the option names, with its symlinks, cannot leave the root.
fn open_root(args: &HostfsArgs, options: &MountOptions) -> Result<OwnedFd> {
    let top: &[u8] = if args.root.is_empty() { b"/" } else { &args.root };
    let top_fd = at::open_dir_path(top)?;
    if options.path.iter().all(|&byte| byte == b'/') {
        return Ok(top_fd);
    }
    let found = match at::open_beneath(top_fd.as_fd(), &options.path) {
        // Hosts before Linux 5.6, and sandboxes that do not know the call: only the whole host can be resolved without it.
        Err(Errno::ENOSYS | Errno::EPERM) if args.root.iter().all(|&byte| byte == b'/') => {
            at::open_dir_path(&[b"/", options.path.as_slice()].concat())
        }
        result => result,
    }?;
    match Key::of(&statx::stat_fd(found.as_fd())?).kind() {
        Some(kernel::vfs::FileType::Directory) => Ok(found),
        _ => Err(Errno::ENOTDIR),
    }
}

impl FileSystem for HostFs {
    fn fs_type(&self) -> &'static str {
        "hostfs"
    }

    fn flags(&self) -> FsFlags {
        FLAGS
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root_inode()
    }

    fn dev(&self) -> DevT {
        self.dev
    }

    fn statfs(&self) -> Result<StatFs> {
        let host = statx::statfs_fd(self.root_inode().anchor()?.as_fd())?;
        Ok(StatFs {
            magic: HOSTFS_SUPER_MAGIC,
            bsize: host.bsize,
            blocks: host.blocks,
            bfree: host.bfree,
            bavail: host.bavail,
            files: host.files,
            ffree: host.ffree,
            fsid: self.dev.encode(),
            namelen: host.namelen,
            frsize: host.frsize,
        })
    }

    /// The host file system of the root directory; others below it are reached by `fsync(2)` only.
    fn sync(&self) -> Result<()> {
        let fd = at::open_entries(self.root_inode().anchor()?.as_fd(), HostOpen::empty())?;
        pool::run(|| file_io::sync_fs(fd.as_fd()))
    }

    fn show_options(&self) -> String {
        self.options.show()
    }

    /// Nothing can change but what the VFS keeps (`ro`, `rw`): another directory is `EINVAL`.
    fn remount(&self, source: &MountSource) -> Result<()> {
        let wanted = MountOptions::parse(source)?;
        if wanted.path.is_empty() || wanted.path == self.options.path {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// The host writes its own caches out in its own time, as it does for any of its programs: no sync.
    fn unmount(&self) -> Result<()> {
        let root = self.root.lock().take();
        drop(root);
        Ok(())
    }
}
