//! Inodes by identity: while anyone holds the inode of a host file, looking that file up again gives the same one.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use arch_um::host::HostTime;
use arch_um::host::statx::Stat;
use arch_um::sync::{SpinLock, order};
use kernel::vfs::FileType;

use crate::inode::HostInode;

/// What makes a host file this file. The birth time and the type tell a new file from an old one whose number it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    dev: (u32, u32),
    ino: u64,
    btime: Option<HostTime>,
    format: u32,
}

impl Key {
    pub fn of(stat: &Stat) -> Self {
        Self {
            dev: stat.dev,
            ino: stat.ino,
            btime: stat.btime,
            format: stat.mode & 0o170000,
        }
    }

    pub fn dev(&self) -> (u32, u32) {
        self.dev
    }

    pub fn ino(&self) -> u64 {
        self.ino
    }

    /// None for a type Linux does not define.
    pub fn kind(&self) -> Option<FileType> {
        FileType::from_mode(self.format)
    }
}

/// The inodes somebody holds.
pub(crate) struct InodeTable {
    inodes: SpinLock<HashMap<Key, Weak<HostInode>>>,
}

impl InodeTable {
    pub fn new() -> Self {
        Self {
            inodes: SpinLock::new(&order::LEAF, HashMap::new()),
        }
    }

    /// The inode of this identity, if anyone holds it.
    pub fn find(&self, key: &Key) -> Option<Arc<HostInode>> {
        self.inodes.lock().get(key).and_then(Weak::upgrade)
    }

    /// The inode of this identity; `make` it if nobody holds it. `make` takes no lock.
    pub fn find_or_insert(&self, key: Key, make: impl FnOnce() -> Arc<HostInode>) -> (Arc<HostInode>, Origin) {
        let mut inodes = self.inodes.lock();
        if let Some(found) = inodes.get(&key).and_then(Weak::upgrade) {
            return (found, Origin::Known);
        }
        let made = make();
        inodes.insert(key, Arc::downgrade(&made));
        (made, Origin::New)
    }

    /// The inode of this identity is gone; a successor under the same key stays.
    pub fn forget(&self, key: &Key) {
        let mut inodes = self.inodes.lock();
        if inodes.get(key).is_some_and(|inode| inode.strong_count() == 0) {
            inodes.remove(key);
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.inodes.lock().len()
    }
}

/// Where an inode of the table came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Somebody held it.
    Known,
    /// Made now.
    New,
}
