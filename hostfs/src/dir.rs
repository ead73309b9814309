//! [`HostDir`]: an open directory. Positions are the host's own cookies, so `telldir(3)` and `seekdir(3)` work as they do there.

use std::any::Any;
use std::sync::Arc;

use arch_um::host::at::{self, HostOpen};
use arch_um::host::{AsFd, OwnedFd, dirent, file_io};
use arch_um::pool;
use arch_um::sync::{Mutex, order};
use kernel::Result;
use kernel::vfs::file::DirEntry;
use kernel::vfs::{File, FileOps, FileType, Inode, OpenFlags};

use crate::fs::Speed;
use crate::inode::HostInode;

/// Entries fetched at a time, in bytes.
const BUFFER: usize = 32 * 1024;

/// An open directory.
pub struct HostDir {
    inode: Arc<HostInode>,
    fd: OwnedFd,
    speed: Speed,
    fetched: Mutex<Fetched>,
}

/// What was read from the host and not handed out yet.
#[derive(Default)]
struct Fetched {
    entries: Vec<u8>,
    /// Bytes of `entries` handed out.
    consumed: usize,
    /// Bytes of `entries` filled.
    filled: usize,
    /// The position of the first entry not handed out.
    position: u64,
    /// The position of the host descriptor.
    host: u64,
}

impl HostDir {
    /// Opens `inode`. Each open directory has a descriptor of its own, because its position is.
    pub(crate) fn open(inode: Arc<HostInode>, flags: OpenFlags) -> Result<Self> {
        let mut how = HostOpen::empty();
        how.set(HostOpen::NOATIME, flags.contains(OpenFlags::NOATIME));
        let anchor = inode.anchor()?;
        let fd = inode
            .host()
            .anchors
            .with_room(|| at::open_entries(anchor.as_fd(), how))?;
        let speed = inode.host().speed(inode.key().dev(), &fd);
        Ok(Self {
            inode,
            fd,
            speed,
            fetched: Mutex::new(&order::INODE, Fetched::default()),
        })
    }

    /// Reads the next entries from the host. Whether there were any.
    fn fetch(&self, fetched: &mut Fetched) -> Result<bool> {
        fetched.entries.resize(BUFFER, 0);
        if fetched.host != fetched.position {
            dirent::seek_entries(self.fd.as_fd(), fetched.position)?;
            fetched.host = fetched.position;
        }
        (fetched.consumed, fetched.filled) = (0, 0);
        let entries = &mut fetched.entries;
        let mut call = || dirent::read_entries(self.fd.as_fd(), entries);
        fetched.filled = if self.speed == Speed::Remote {
            pool::run(call)
        } else {
            call()
        }?;
        let mut rest = &fetched.entries[..fetched.filled];
        while let Some((entry, behind)) = dirent::split_entry(rest) {
            fetched.host = entry.next;
            rest = behind;
        }
        Ok(fetched.filled > 0)
    }
}

impl FileOps for HostDir {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_dir(&self, _file: &File, pos: u64, emit: &mut dyn FnMut(DirEntry<'_>) -> bool) -> Result<()> {
        let mut guard = self.fetched.lock();
        let fetched = &mut *guard;
        // From the start means what is there now (`rewinddir(3)`).
        if pos == 0 || pos != fetched.position {
            (fetched.consumed, fetched.filled, fetched.position) = (0, 0, pos);
            if pos == 0 {
                fetched.host = u64::MAX;
            }
        }
        let top = self.inode.host().is_root(&self.inode);
        loop {
            while let Some((entry, rest)) = dirent::split_entry(&fetched.entries[fetched.consumed..fetched.filled]) {
                // What lies above the mounted directory is no business of the guest's.
                let ino = if top && entry.name == b".." {
                    self.inode.ino()
                } else {
                    entry.ino
                };
                let kind = FileType::from_mode(u32::from(entry.kind) << 12);
                if !emit(DirEntry {
                    name: entry.name,
                    ino,
                    kind,
                    next: entry.next,
                }) {
                    return Ok(());
                }
                fetched.position = entry.next;
                fetched.consumed = fetched.filled - rest.len();
            }
            if !self.fetch(fetched)? {
                return Ok(());
            }
        }
    }

    fn sync(&self, _file: &File) -> Result<()> {
        pool::run(|| file_io::sync(self.fd.as_fd()))
    }
}
