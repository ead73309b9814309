//! Files without a directory: pipes, sockets, eventfds. They have an inode (so that `fstat` and /proc/pid/fd work) on a mount that is in no tree.

use alloc::format;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU64, Ordering};

use arch_um::sync::{SpinLock, order};

use super::attr::{DevT, FileType, Metadata, Mode, SetAttr, StatFs, Timespec};
use super::dentry::Dentry;
use super::file::{File, FileOps, OpenFlags};
use super::inode::{self, FileSystem, FsFlags, Inode, InodeState};
use super::mount::Mount;
use super::path::Path;
use crate::Result;
use crate::task::Cred;

/// One of the file systems that nobody mounts.
struct AnonFs {
    name: &'static str,
    magic: u64,
    dev: DevT,
    next_ino: AtomicU64,
}

/// A file without a directory.
pub struct AnonInode {
    fs: Arc<AnonFs>,
    ino: u64,
    kind: FileType,
    attr: SpinLock<Attr>,
    state: InodeState,
}

#[derive(Clone, Copy)]
struct Attr {
    mode: Mode,
    uid: u32,
    gid: u32,
    born: Timespec,
    atime: Timespec,
    mtime: Timespec,
}

static PIPES: spin::Once<Arc<Mount>> = spin::Once::new();
static SOCKETS: spin::Once<Arc<Mount>> = spin::Once::new();
static OTHERS: spin::Once<(Arc<Mount>, Arc<dyn Inode>)> = spin::Once::new();

fn mount(name: &'static str, magic: u64) -> Arc<Mount> {
    let fs = AnonFs {
        name,
        magic,
        dev: inode::anonymous_dev(),
        next_ino: AtomicU64::new(1),
    };
    Mount::internal(Arc::new(Shared(Arc::new(fs))))
}

/// The file system behind a shared reference that its inodes can hold.
struct Shared(Arc<AnonFs>);

impl FileSystem for Shared {
    fn fs_type(&self) -> &'static str {
        self.0.name
    }

    fn flags(&self) -> FsFlags {
        FsFlags::NO_DEV_NO_EXEC
    }

    fn root(&self) -> Arc<dyn Inode> {
        AnonInode::new(
            &self.0,
            FileType::Directory,
            Mode::from_bits_truncate(0o555),
            &Cred::root(),
        )
    }

    fn dev(&self) -> DevT {
        self.0.dev
    }

    fn statfs(&self) -> Result<StatFs> {
        Ok(StatFs {
            magic: self.0.magic,
            bsize: 4096,
            namelen: 255,
            ..StatFs::default()
        })
    }
}

impl AnonInode {
    fn new(fs: &Arc<AnonFs>, kind: FileType, mode: Mode, cred: &Cred) -> Arc<Self> {
        let now = Timespec::now();
        let ino = fs.next_ino.fetch_add(1, Ordering::Relaxed);
        let attr = Attr {
            mode,
            uid: cred.fsuid,
            gid: cred.fsgid,
            born: now,
            atime: now,
            mtime: now,
        };
        let attr = SpinLock::new(&order::INODE_ATTR, attr);
        Arc::new(Self {
            fs: fs.clone(),
            ino,
            kind,
            attr,
            state: InodeState::default(),
        })
    }
}

impl Inode for AnonInode {
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
        Arc::new(Shared(self.fs.clone()))
    }

    fn ino(&self) -> u64 {
        self.ino
    }

    fn kind(&self) -> FileType {
        self.kind
    }

    fn metadata(&self) -> Result<Metadata> {
        let attr = *self.attr.lock();
        Ok(Metadata {
            dev: self.fs.dev,
            ino: self.ino,
            kind: self.kind,
            mode: attr.mode,
            nlink: 1,
            uid: attr.uid,
            gid: attr.gid,
            rdev: DevT::default(),
            size: 0,
            blksize: 4096,
            blocks: 0,
            atime: attr.atime,
            mtime: attr.mtime,
            ctime: attr.born,
            btime: None,
        })
    }

    fn set_attr(&self, change: &SetAttr) -> Result<()> {
        let mut attr = self.attr.lock();
        attr.mode = change.mode.unwrap_or(attr.mode);
        attr.uid = change.uid.unwrap_or(attr.uid);
        attr.gid = change.gid.unwrap_or(attr.gid);
        attr.atime = change.atime.unwrap_or(attr.atime);
        attr.mtime = change.mtime.unwrap_or(attr.mtime);
        Ok(())
    }
}

fn numbered(mount: &Arc<Mount>, kind: FileType, mode: u32, label: &str, cred: &Cred) -> Path {
    let root = mount.root().inode().clone().as_any_arc().downcast::<AnonInode>();
    let fs = root
        .expect("the root of an anonymous file system is of its own type")
        .fs
        .clone();
    let inode = AnonInode::new(&fs, kind, Mode::from_bits_truncate(mode), cred);
    let name = format!("{label}:[{}]", inode.ino);
    Path {
        mount: mount.clone(),
        dentry: Dentry::anonymous(inode, name.as_bytes()),
    }
}

/// A new pipe's place: a FIFO inode called `pipe:[n]`.
pub fn pipe_path(cred: &Cred) -> Path {
    numbered(
        PIPES.call_once(|| mount("pipefs", 0x5049_5045)),
        FileType::Fifo,
        0o600,
        "pipe",
        cred,
    )
}

/// A new socket's place, `socket:[n]`.
pub fn socket_path(cred: &Cred) -> Path {
    numbered(
        SOCKETS.call_once(|| mount("sockfs", 0x534f_434b)),
        FileType::Socket,
        0o777,
        "socket",
        cred,
    )
}

/// A description over `ops` that shows as `anon_inode:LABEL` (`[eventfd]`, `[eventpoll]`).
pub fn file(ops: Arc<dyn FileOps>, label: &str, flags: OpenFlags, cred: Arc<Cred>) -> Arc<File> {
    let (mount, inode) = OTHERS.call_once(|| {
        let mount = mount("anon_inodefs", 0x0904_1934);
        let inode = numbered(&mount, FileType::Regular, 0o600, "anon_inode", &Cred::root()).inode();
        (mount, inode)
    });
    let dentry = Dentry::anonymous(inode.clone(), format!("anon_inode:{label}").as_bytes());
    File::new(
        ops,
        Some(Path {
            mount: mount.clone(),
            dentry,
        }),
        flags,
        cred,
    )
}

/// Whether `path` is one of [`file`]'s: `stat` shows no file type for it, as on Linux.
pub fn is_typeless(path: &Path) -> bool {
    path.dentry.is_anonymous() && path.dentry.kind() == FileType::Regular
}
