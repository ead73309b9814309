//! [`Inode`]: a file in memory.
//!
//! * [`load`]: from the disk, and the table of those in memory.  * [`attributes`]: what `stat` and `setattr` see.
//! * [`orphan`], [`evict`]: the end of files.  * [`node`]: the VFS's view.
//!
//! Locks: `data` (contents and size; sleeping) is taken by the calls of a file; `core` is a short lock over the fields, never held over a call.

pub(crate) mod attributes;
pub(crate) mod evict;
pub(crate) mod load;
pub(crate) mod node;
pub(crate) mod orphan;

use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use core::time::Duration;

use arch_um::sync::{RwLock, SpinLock, order};
use kernel::page_cache::PageCache;
use kernel::vfs::{FileType, InodeState, Timespec};

use crate::Result;
use crate::device::Moment;
use crate::file::promise::Promise;
use crate::instance::Ext4;
use crate::journal::{Freed, Tid};
use crate::layout::geometry::Geometry;
use crate::layout::inode::{Core, Flags};

/// A file, directory, symlink or special node.
pub struct Inode {
    pub(crate) me: Weak<Inode>,
    pub(crate) fs: Arc<Ext4>,
    ino: u32,
    pub(crate) kind: FileType,
    generation: u32,
    pub(crate) core: SpinLock<Core>,
    /// The size programs see; the disk's follows when the data is there.
    pub(crate) size: Arc<AtomicU64>,
    pub(crate) data: RwLock<()>,
    pub(crate) pages: SpinLock<Option<Arc<PageCache>>>,
    pub(crate) promise: SpinLock<Promise>,
    pub(crate) state: InodeState,
    pub(crate) acls: SpinLock<crate::xattr::acl::Cache>,
    /// Fields changed that are not stored yet.
    pub(crate) dirty: AtomicBool,
    /// The transaction of its last stored change.
    pub(crate) last_tid: AtomicU32,
    /// The same for what `fdatasync` waits for: its map and its size.
    pub(crate) data_tid: AtomicU32,
    /// The size as it was stored last.
    pub(crate) stored_size: AtomicU64,
    /// When its contents were written to the device last, as [`Moment`].
    pub(crate) written: AtomicU64,
    /// Was mapped into a guest since its cache was made.
    pub(crate) mapped: AtomicBool,
    /// Somebody has asked for the times since they changed. With `core` held.
    times_seen: AtomicBool,
}

/// How long writes may leave times as they are that nobody has seen: a tick of Linux on servers, whose times of files have no more precision.
const TICK: Duration = Duration::from_millis(4);

/// Whether `time` is in the last [`TICK`] before `now`.
fn is_just_before(time: Timespec, now: Timespec) -> bool {
    let nanoseconds = |time: Timespec| i128::from(time.sec) * 1_000_000_000 + i128::from(time.nsec);
    let age = nanoseconds(now) - nanoseconds(time);
    (0..TICK.as_nanos() as i128).contains(&age)
}

impl Inode {
    pub(crate) fn new(fs: Arc<Ext4>, ino: u32, kind: FileType, core: Core) -> Arc<Self> {
        let core_size = core.disk_size;
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            ino,
            kind,
            generation: core.generation,
            size: Arc::new(AtomicU64::new(core.disk_size)),
            core: SpinLock::new(&order::LEAF, core),
            data: RwLock::new(&order::INODE, ()),
            pages: SpinLock::new(&order::LEAF, None),
            promise: SpinLock::new(&order::LEAF, Promise::default()),
            state: InodeState::default(),
            acls: SpinLock::new(&order::LEAF, crate::xattr::acl::Cache::default()),
            dirty: AtomicBool::new(false),
            last_tid: AtomicU32::new(fs.journal.running()),
            data_tid: AtomicU32::new(fs.journal.running()),
            stored_size: AtomicU64::new(core_size),
            // Another life of this inode may have written.
            written: AtomicU64::new(fs.device.now().0),
            mapped: AtomicBool::new(false),
            // Before it was last forgotten somebody may have.
            times_seen: AtomicBool::new(true),
            fs,
        })
    }

    pub(crate) fn number(&self) -> u32 {
        self.ino
    }

    pub(crate) fn arc(&self) -> Option<Arc<Inode>> {
        self.me.upgrade()
    }

    /// The seed of the checksums of this file's blocks.
    pub(crate) fn seed(&self, geometry: &Geometry) -> u32 {
        geometry.inode_seed(self.ino, self.generation)
    }

    pub(crate) fn has(&self, flag: Flags) -> bool {
        self.core.lock().flags.contains(flag)
    }

    pub(crate) fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    pub(crate) fn nlink(&self) -> u32 {
        self.core.lock().nlink
    }

    pub(crate) fn len_now(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// Sets both sizes.
    pub(crate) fn set_len(&self, size: u64) {
        self.size.store(size, Ordering::Release);
        self.core.lock().disk_size = size;
    }

    /// What its blocks are to the journal.
    pub(crate) fn freed_kind(&self) -> Freed {
        if self.kind == FileType::Regular && !self.has(Flags::EA_INODE) && !self.logs_data() {
            Freed::Data
        } else {
            Freed::Metadata
        }
    }

    /// The map has changed in this transaction: `fdatasync` waits for it.
    pub(crate) fn map_changed(&self, tid: Tid) {
        self.data_tid.store(tid, Ordering::Release);
    }

    /// Contents have been written to the device.
    pub(crate) fn contents_written(&self) {
        self.written.store(self.fs.device.now().0, Ordering::Release);
    }

    /// Transaction `tid` and the contents are on stable storage. Costs nothing when they are there.
    pub(crate) fn settle(&self, tid: Tid) -> Result<()> {
        let written = Moment(self.written.load(Ordering::Acquire));
        self.fs.journal.commit(tid)?;
        if self.fs.device.is_durable(written) {
            return Ok(());
        }
        self.fs.journal.flush()
    }

    /// Contents or fields changed: write-back will come by.
    pub(crate) fn mark_dirty(&self) {
        self.dirty.store(true, Ordering::Release);
        self.await_write_back();
    }

    fn await_write_back(&self) {
        if let Some(me) = self.arc() {
            self.fs.dirty.lock().insert(self.ino, me);
        }
    }

    /// Modification and change time are now.
    pub(crate) fn touch(&self) {
        self.touch_at(&mut self.core.lock(), Timespec::now());
    }

    fn touch_at(&self, core: &mut Core, now: Timespec) {
        core.mtime = now;
        core.ctime = now;
        core.version = core.version.wrapping_add(1);
        self.times_seen.store(false, Ordering::Relaxed);
    }

    /// Somebody is told the times.
    pub(crate) fn times_are_seen(&self, _core: &Core) {
        self.times_seen.store(true, Ordering::Relaxed);
    }

    /// A program wrote: write-back will come by, and the times follow, if they are older than [`TICK`] or somebody has seen them. So who writes and synchronizes in
    /// turns has the journal commit once a tick, as on Linux, whose times of files go by ticks; nobody can see a difference that is not there.
    pub(crate) fn written_to(&self) {
        let now = Timespec::now();
        let mut core = self.core.lock();
        let old = !is_just_before(core.mtime, now) || !is_just_before(core.ctime, now);
        if old || self.times_seen.load(Ordering::Relaxed) {
            self.touch_at(&mut core, now);
            self.dirty.store(true, Ordering::Release);
        }
        drop(core);
        self.await_write_back();
    }
}
