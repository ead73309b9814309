//! Files of devpts: the directory, `ptmx`, the slaves.

use alloc::format;
use alloc::sync::{Arc, Weak};
use core::any::Any;

use arch_um::sync::{SpinLock, order};

use super::Instance;
use crate::task::Cred;
use crate::tty::pty;
use crate::vfs::file::{DirEntry, SeekKind};
use crate::vfs::inode::InodeState;
use crate::vfs::{DevT, File, FileOps, FileSystem, FileType, Inode, Metadata, Mode, OpenFlags, SetAttr, Timespec};
use crate::{Errno, Result};

/// Inode numbers: the root, `ptmx`, then slave 0.
const ROOT_INO: u64 = 1;
const PTMX_INO: u64 = 2;
const FIRST_SLAVE_INO: u64 = 3;

/// What a file of devpts is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The directory.
    Root,
    /// `ptmx`.
    Ptmx,
    /// The slave with this index.
    Slave(u32),
}

/// A file of devpts.
pub struct Node {
    fs: Weak<Instance>,
    place: Place,
    state: InodeState,
    attr: SpinLock<Attr>,
}

#[derive(Clone, Copy)]
struct Attr {
    mode: u32,
    uid: u32,
    gid: u32,
    atime: Timespec,
    mtime: Timespec,
    ctime: Timespec,
}

impl Node {
    pub(super) fn new(fs: Weak<Instance>, place: Place, mode: u32, uid: u32, gid: u32) -> Arc<Self> {
        let now = Timespec::now();
        let attr = Attr {
            mode,
            uid,
            gid,
            atime: now,
            mtime: now,
            ctime: now,
        };
        Arc::new(Self {
            fs,
            place,
            state: InodeState::default(),
            attr: SpinLock::new(&order::INODE_ATTR, attr),
        })
    }

    pub(super) fn set_mode(&self, mode: u32) {
        self.attr.lock().mode = mode;
    }

    fn instance(&self) -> Result<Arc<Instance>> {
        self.fs.upgrade().ok_or(Errno::ENODEV)
    }
}

impl Inode for Node {
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
        // Whoever holds a file holds its mount, and that holds the instance.
        self.fs.upgrade().expect("an inode in use keeps its mount")
    }

    fn ino(&self) -> u64 {
        match self.place {
            Place::Root => ROOT_INO,
            Place::Ptmx => PTMX_INO,
            Place::Slave(index) => FIRST_SLAVE_INO + u64::from(index),
        }
    }

    fn kind(&self) -> FileType {
        if self.place == Place::Root {
            FileType::Directory
        } else {
            FileType::CharDevice
        }
    }

    fn metadata(&self) -> Result<Metadata> {
        let attr = *self.attr.lock();
        let rdev = match self.place {
            Place::Root => DevT::default(),
            Place::Ptmx => DevT::new(5, 2),
            Place::Slave(index) => DevT::new(pty::SLAVE_MAJOR, index),
        };
        Ok(Metadata {
            dev: self.instance()?.dev(),
            ino: self.ino(),
            kind: self.kind(),
            mode: Mode::from_bits_retain(attr.mode),
            nlink: if self.place == Place::Root { 2 } else { 1 },
            uid: attr.uid,
            gid: attr.gid,
            rdev,
            size: 0,
            blksize: 1024,
            blocks: 0,
            atime: attr.atime,
            mtime: attr.mtime,
            ctime: attr.ctime,
            btime: None,
        })
    }

    fn set_attr(&self, new: &SetAttr) -> Result<()> {
        let mut attr = self.attr.lock();
        attr.mode = new.mode.map_or(attr.mode, |mode| mode.bits());
        attr.uid = new.uid.unwrap_or(attr.uid);
        attr.gid = new.gid.unwrap_or(attr.gid);
        attr.atime = new.atime.unwrap_or(attr.atime);
        attr.mtime = new.mtime.unwrap_or(attr.mtime);
        attr.ctime = Timespec::now();
        Ok(())
    }

    fn lookup(&self, name: &[u8]) -> Result<Arc<dyn Inode>> {
        if self.place != Place::Root {
            return Err(Errno::ENOTDIR);
        }
        let instance = self.instance()?;
        if name == b"ptmx" {
            return Ok(instance.ptmx.clone());
        }
        Ok(instance.slave(name).ok_or(Errno::ENOENT)?)
    }

    fn revalidate(&self, name: &[u8], inode: &Arc<dyn Inode>) -> bool {
        self.lookup(name).is_ok_and(|now| Arc::ptr_eq(&now, inode))
    }

    fn open_device(&self, cred: &Cred) -> Option<Result<Arc<dyn FileOps>>> {
        (self.place == Place::Ptmx).then(|| self.instance()?.open_master(cred))
    }

    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        if self.place == Place::Root {
            Ok(Arc::new(Directory(self)))
        } else {
            Err(Errno::ENXIO)
        }
    }
}

/// The open directory. Positions: 1 and 2 behind `.` and `..`, 3 behind `ptmx`, then 4 + index behind a slave.
struct Directory(Arc<Node>);

impl FileOps for Directory {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> SeekKind {
        SeekKind::Offset
    }

    fn read_dir(&self, _file: &File, pos: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        let instance = self.0.instance()?;
        let fixed = [
            (&b"."[..], ROOT_INO, FileType::Directory),
            (b"..", ROOT_INO, FileType::Directory),
            (b"ptmx", PTMX_INO, FileType::CharDevice),
        ];
        for (index, (name, ino, kind)) in fixed.into_iter().enumerate().skip(usize::try_from(pos).unwrap_or(3)) {
            if !emit(DirEntry {
                name,
                ino,
                kind: Some(kind),
                next: index as u64 + 1,
            }) {
                return Ok(());
            }
        }
        let first = u32::try_from(pos.saturating_sub(3)).unwrap_or(u32::MAX);
        let slaves: alloc::vec::Vec<u32> = instance.slaves.lock().range(first..).map(|(&index, _)| index).collect();
        for index in slaves {
            let name = format!("{index}");
            let ino = FIRST_SLAVE_INO + u64::from(index);
            let next = u64::from(index) + 4;
            if !emit(DirEntry {
                name: name.as_bytes(),
                ino,
                kind: Some(FileType::CharDevice),
                next,
            }) {
                return Ok(());
            }
        }
        Ok(())
    }
}
