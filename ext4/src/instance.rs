//! [`Ext4`]: one mounted file system, and what all of its parts share.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use arch_um::sync::{LockClass, RwLock, SpinLock, WaitQueue, order};
use kernel::vfs::{DevT, Timespec};

use crate::buffer::{Buffer, BufferCache};
use crate::damage::{Culprit, ErrorLog};
use crate::device::Tracked;
use crate::inode::Inode;
use crate::journal::Journal;
use crate::layout::checksum::crc32c;
use crate::layout::features::Incompat;
use crate::layout::geometry::Geometry;
use crate::layout::{put, put32};
use crate::mount::options::{DataMode, Options};
use crate::space::blocks::Run;
use crate::space::counters::Counters;
use crate::space::groups::Group;
use crate::space::system::System;
use crate::{Errno, Result};

/// All metadata in memory. Outside of [`order::JOURNAL`] although it is taken inside a handle: a handle is no lock, and its calls are made under this.
static META: LockClass = LockClass::new("EXT4_META", 330);

/// The table of inodes: whether a block of the disk's is still the same is asked under it.
static INODES: LockClass = LockClass::new("EXT4_INODES", 890);

/// What the lock over metadata holds.
pub(crate) struct Meta {
    pub groups: Vec<Group>,
    /// The orphan list, its head last.
    pub orphans: Vec<u32>,
}

/// One mounted file system.
pub struct Ext4 {
    pub(crate) me: Weak<Ext4>,
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) dev: DevT,
    pub(crate) device: Arc<Tracked>,
    pub(crate) geometry: Geometry,
    pub(crate) system: System,
    pub(crate) buffers: Arc<BufferCache>,
    pub(crate) journal: Arc<Journal>,
    pub(crate) has_journal: bool,
    /// `data=journal`, which no remount changes.
    pub(crate) logs_data: bool,
    pub(crate) options: SpinLock<Options>,
    pub(crate) read_only: AtomicBool,
    /// An error was met and `errors=remount-ro` holds.
    pub(crate) stopped: AtomicBool,
    pub(crate) meta: RwLock<Meta>,
    pub(crate) counters: Counters,
    pub(crate) released: Arc<SpinLock<Vec<Run>>>,
    checked: SpinLock<BTreeSet<u64>>,
    pub(crate) inodes: SpinLock<BTreeMap<u32, Weak<Inode>>>,
    pub(crate) dirty: SpinLock<BTreeMap<u32, Arc<Inode>>>,
    /// Inodes without names whose last user is gone: their blocks wait to be freed.
    pub(crate) dead: SpinLock<Vec<u32>>,
    pub(crate) root: SpinLock<Option<Arc<Inode>>>,
    pub(crate) errors: SpinLock<ErrorLog>,
    pub(crate) worker: Arc<Worker>,
    /// The unmount has begun.
    pub(crate) ending: AtomicBool,
    pub(crate) unmounted: AtomicBool,
    pub(crate) generation: AtomicU32,
    /// It is growing.
    pub(crate) resizing: AtomicBool,
    /// Files with a page cache, oldest use first.
    pub(crate) cached: SpinLock<Vec<Weak<Inode>>>,
}

/// What the instance's kernel thread waits for, without keeping the instance.
#[derive(Default)]
pub(crate) struct Worker {
    pub queue: WaitQueue,
    /// Files without names wait to be freed.
    pub wanted: AtomicBool,
    pub ended: AtomicBool,
}

impl Worker {
    pub(crate) fn call(&self) {
        self.wanted.store(true, Ordering::Release);
        self.queue.wake_all();
    }

    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::Release);
        self.queue.wake_all();
    }
}

/// The parts of an instance that are made before it.
pub(crate) struct Parts {
    pub kind: &'static str,
    pub name: String,
    pub dev: DevT,
    pub device: Arc<Tracked>,
    pub geometry: Geometry,
    pub buffers: Arc<BufferCache>,
    pub journal: Arc<Journal>,
    pub has_journal: bool,
    pub options: Options,
    pub groups: Vec<Group>,
    pub zones: Vec<(u64, u64)>,
}

impl Ext4 {
    pub(crate) fn assemble(parts: Parts) -> Arc<Self> {
        let counters = Counters::default();
        let blocks = parts.groups.iter().map(|group| u64::from(group.desc.free_blocks)).sum();
        let inodes = parts.groups.iter().map(|group| group.desc.free_inodes).sum();
        counters.set(blocks, inodes);
        let tables = parts.groups.iter().map(|group| group.desc.inode_table).collect();
        let system = System::new(parts.zones, tables, parts.geometry.size.blocks());
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            kind: parts.kind,
            name: parts.name,
            dev: parts.dev,
            device: parts.device,
            geometry: parts.geometry,
            system,
            buffers: parts.buffers,
            journal: parts.journal,
            has_journal: parts.has_journal,
            logs_data: parts.options.data == DataMode::Journal,
            options: SpinLock::new(&order::LEAF, parts.options),
            read_only: AtomicBool::new(true),
            stopped: AtomicBool::new(false),
            meta: RwLock::new(
                &META,
                Meta {
                    groups: parts.groups,
                    orphans: Vec::new(),
                },
            ),
            counters,
            released: Arc::new(SpinLock::new(&order::LEAF, Vec::new())),
            checked: SpinLock::new(&order::LEAF, BTreeSet::new()),
            inodes: SpinLock::new(&INODES, BTreeMap::new()),
            dirty: SpinLock::new(&order::LEAF, BTreeMap::new()),
            dead: SpinLock::new(&order::LEAF, Vec::new()),
            root: SpinLock::new(&order::LEAF, None),
            errors: SpinLock::new(&order::LEAF, ErrorLog::default()),
            worker: Arc::new(Worker::default()),
            ending: AtomicBool::new(false),
            unmounted: AtomicBool::new(false),
            generation: AtomicU32::new(Timespec::now().nsec ^ Timespec::now().sec as u32),
            resizing: AtomicBool::new(false),
            cached: SpinLock::new(&order::LEAF, Vec::new()),
        })
    }

    pub(crate) fn block_size(&self) -> u64 {
        u64::from(self.geometry.block_size)
    }

    pub(crate) fn is_writable(&self) -> bool {
        !self.read_only.load(Ordering::Acquire) && !self.stopped.load(Ordering::Acquire)
    }

    /// The number of a new file's life.
    pub(crate) fn next_generation(&self) -> u32 {
        self.generation.fetch_add(0x9e37_79b1, Ordering::Relaxed)
    }

    /// The block of the inode table that holds `ino`, and the place in it. `EUCLEAN` when there is no such number.
    pub(crate) fn inode_place(&self, _meta: &Meta, ino: u32) -> Result<(u64, usize)> {
        self.table_place(ino)
    }

    pub(crate) fn table_place(&self, ino: u32) -> Result<(u64, usize)> {
        let geometry = &self.geometry;
        if ino == 0 || ino > geometry.size.inodes() {
            return Err(self.error(format_args!("bad inode number: {ino}")));
        }
        let (group, index) = (
            (ino - 1) / geometry.inodes_per_group,
            (ino - 1) % geometry.inodes_per_group,
        );
        let per_block = geometry.block_size / geometry.inode_size;
        let table = self.system.table(group).ok_or(Errno::EUCLEAN)?;
        let at = (index % per_block * geometry.inode_size) as usize;
        Ok((table + u64::from(index / per_block), at))
    }

    /// A metadata block of a file, read at need. `EUCLEAN` for a number that no file can own.
    pub(crate) fn file_block(&self, block: u64) -> Result<Arc<Buffer>> {
        if !self.is_file_space(block, 1) {
            return Err(self.error(format_args!("invalid block {block} in a file's metadata")));
        }
        self.buffers.get(block)
    }

    /// Runs `check` on a block the first time it is met. `EBADMSG` (Linux's `EFSBADCRC`) when it says no.
    pub(crate) fn check_once(&self, buffer: &Arc<Buffer>, check: impl FnOnce(&[u8]) -> bool) -> Result<()> {
        if !self.geometry.has_csum() || self.checked.lock().contains(&buffer.block()) {
            return Ok(());
        }
        let bytes = buffer.snapshot();
        if !check(&bytes) {
            let culprit = Culprit {
                ino: 0,
                block: buffer.block(),
            };
            return Err(self.report(culprit, Errno::EBADMSG, format_args!("checksum invalid")));
        }
        self.checked.lock().insert(buffer.block());
        Ok(())
    }

    /// The block has been written by us: its checksum is right by construction.
    pub(crate) fn set_checked(&self, block: u64) {
        if self.geometry.has_csum() {
            self.checked.lock().insert(block);
        }
    }

    /// Freed blocks are not what they were checked as.
    pub(crate) fn forget_checked(&self, run: Run) {
        let mut checked = self.checked.lock();
        if run.count < 64 {
            (run.first..run.first + u64::from(run.count)).for_each(|block| {
                checked.remove(&block);
            });
        } else {
            checked.retain(|&block| block < run.first || block >= run.first + u64::from(run.count));
        }
    }

    /// Changes the super block's bytes and its checksum.
    pub(crate) fn edit_super(&self, raw: &mut [u8], change: impl FnOnce(&mut [u8])) {
        change(raw);
        if self.geometry.has_csum() {
            let crc = crc32c(!0, &raw[..0x3fc]);
            put32(raw, 0x3fc, crc);
        }
    }

    /// What the super block is to be told now. Errors are told once.
    pub(crate) fn news(&self) -> News {
        News {
            free: self.counters.free(),
            inodes: self.counters.inodes.load(Ordering::Relaxed),
            wide: self.geometry.incompat.contains(Incompat::SIXTY_FOUR_BIT),
            errors: core::mem::take(&mut *self.errors.lock()),
        }
    }
}

/// Counts, times and errors on their way to the super block.
pub(crate) struct News {
    free: u64,
    inodes: u32,
    wide: bool,
    errors: ErrorLog,
}

impl News {
    pub(crate) fn store(&self, raw: &mut [u8]) {
        crate::layout::group::store_free(raw, self.free, self.inodes, self.wide);
        let now = Timespec::now().sec;
        put32(raw, 0x30, now as u32);
        put(raw, 0x274, &[(now >> 32) as u8]);
        self.errors.store(raw);
    }
}
