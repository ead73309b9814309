//! Mounts: file system instances placed in the tree (`mount_namespaces(7)`).
//!
//! One tree for all tasks. [`Mount`]s hang on places of their parents; [`cross`] is what a walk asks at each mount point. The base of the tree and what is placed in it
//! by the kernel are in `place`, the lines of /proc/self/mounts in `listing`, the system calls in `vfs::calls`, the option text in `mount_options`.
//!
//! Lock order: [`change`] (sleeping, one change of the tree at a time), then the directory locks of walks, then `TABLE` (short; nothing is dropped
//! under it).

mod listing;
mod place;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arch_um::sync::{LockClass, Mutex, MutexGuard, SpinLock, WaitQueue, order};
use bitflags::bitflags;
use hashbrown::HashMap;

use super::dentry::Dentry;
use super::inode::{FileSystem, FsFlags};
use super::path::Path;
use super::super_block::SuperBlock;
use crate::{Errno, Result};

pub use listing::{MountInfo, mounts};
pub(super) use place::check_place;
pub use place::{mount_at, mount_new, mount_root, namespace_root, place};

bitflags! {
    /// Flags of one mount, `mount(2)`'s numbers.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MountFlags: u32 {
        /// Nothing changes through it.
        const READ_ONLY = 1;
        /// Set-id bits have no effect.
        const NOSUID = 2;
        /// Device files cannot be opened.
        const NODEV = 4;
        /// Programs cannot be run.
        const NOEXEC = 8;
        /// Symlinks are not followed.
        const NOSYMFOLLOW = 256;
        /// Access times stay.
        const NOATIME = 1024;
        /// Access times of directories stay.
        const NODIRATIME = 2048;
        /// Access times move when they lie behind the last change or a day back.
        const RELATIME = 1 << 21;
    }
}

/// One placement of an instance (or of a subtree of it).
pub struct Mount {
    id: u32,
    block: Arc<SuperBlock>,
    root: Arc<Dentry>,
    source: Vec<u8>,
    flags: AtomicU32,
    point: SpinLock<Option<Path>>,
    /// 0 until `MNT_EXPIRE` comes by and finds it idle; then 1 and one more for each walk into it.
    expiring: AtomicU32,
    /// Was taken out of the tree, or never was in it.
    attached: AtomicBool,
}

/// `Mount::point` and `TABLE`: read by each walk over a mount point.
static POINT: LockClass = LockClass::new("MOUNT_POINT", 505);

/// The tree as walks and listings see it.
struct Table {
    /// Every mount, parents before children.
    list: Vec<Arc<Mount>>,
    /// By parent mount and dentry (addresses; both are held by the child's `point`).
    points: HashMap<(usize, usize), Arc<Mount>>,
}

static TABLE: SpinLock<Option<Table>> = SpinLock::new(&order::LEAF, None);
static CHANGE: Mutex<()> = Mutex::new(&order::MOUNTS, ());
static NEXT_ID: AtomicU32 = AtomicU32::new(1);
static EVENT: AtomicU64 = AtomicU64::new(1);
static EVENTS: WaitQueue = WaitQueue::new();

impl Mount {
    /// A mount of `block`'s subtree `root`, not in the tree yet.
    pub fn new(block: Arc<SuperBlock>, root: Arc<Dentry>, source: Vec<u8>, flags: MountFlags) -> Arc<Self> {
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            block,
            root,
            source,
            flags: AtomicU32::new(flags.bits()),
            point: SpinLock::new(&POINT, None),
            expiring: AtomicU32::new(0),
            attached: AtomicBool::new(false),
        })
    }

    /// A mount of the whole of `fs` that never enters the tree (pipes, anonymous shared memory).
    pub fn internal(fs: Arc<dyn FileSystem>) -> Arc<Self> {
        let source = fs.fs_type().as_bytes().to_vec();
        let block = SuperBlock::of(fs, false);
        let root = block.root().clone();
        Self::new(block, root, source, MountFlags::NOSUID | MountFlags::NODEV)
    }

    /// Its number in /proc/self/mountinfo and `statx(2)`.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The instance.
    pub fn fs(&self) -> &Arc<dyn FileSystem> {
        self.block.fs()
    }

    /// The instance as the VFS keeps it.
    pub fn block(&self) -> &Arc<SuperBlock> {
        &self.block
    }

    /// The directory (or file) of the instance that shows at the mount point.
    pub fn root(&self) -> &Arc<Dentry> {
        &self.root
    }

    /// What was named as the source.
    pub fn source(&self) -> &[u8] {
        &self.source
    }

    /// The flags now.
    pub fn flags(&self) -> MountFlags {
        MountFlags::from_bits_retain(self.flags.load(Ordering::Relaxed))
    }

    /// Replaces the flags (`MS_REMOUNT | MS_BIND`, `mount_setattr(2)`).
    pub fn set_flags(&self, flags: MountFlags) {
        self.flags.store(flags.bits(), Ordering::Relaxed);
    }

    /// Whether the mount or its whole instance is read-only.
    pub fn is_read_only(&self) -> bool {
        self.flags().contains(MountFlags::READ_ONLY) || self.block.is_read_only()
    }

    /// `EROFS` unless files may be changed through it.
    pub fn require_writable(&self) -> Result<()> {
        if self.is_read_only() { Err(Errno::EROFS) } else { Ok(()) }
    }

    /// The place it covers; none for the first mount and for those not in the tree.
    pub fn mount_point(&self) -> Option<Path> {
        self.point.lock().clone()
    }

    /// Whether it is in the tree.
    pub fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Acquire)
    }

    /// Whether device files may be opened through it.
    pub fn allows_devices(&self) -> bool {
        !self.flags().contains(MountFlags::NODEV) && !self.root.fs_flags().contains(FsFlags::NO_DEV_NO_EXEC)
    }

    /// Whether programs may be run through it.
    pub fn allows_exec(&self) -> bool {
        !self.flags().contains(MountFlags::NOEXEC) && !self.root.fs_flags().contains(FsFlags::NO_DEV_NO_EXEC)
    }

    /// Whether set-id bits count.
    pub fn allows_set_id(&self) -> bool {
        !self.flags().contains(MountFlags::NOSUID)
    }

    /// For `MNT_EXPIRE`: whether nobody walked into it since the last mark but the one who asks; else marks it.
    pub(super) fn mark_expiring(&self) -> bool {
        let only_the_asker = self.expiring.load(Ordering::Acquire) == 2;
        if !only_the_asker {
            self.expiring.store(1, Ordering::Release);
        }
        only_the_asker
    }

    /// Somebody walks into it.
    fn used(&self) {
        if self.expiring.load(Ordering::Relaxed) != 0 {
            let _ = self
                .expiring
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, |uses| uses.checked_add(1));
        }
    }

    /// A copy of its own that shows `root`.
    pub(super) fn copy(&self, root: Arc<Dentry>) -> Arc<Self> {
        Self::new(self.block.clone(), root, self.source.clone(), self.flags())
    }

    fn parent(&self) -> Option<Arc<Mount>> {
        self.point.lock().as_ref().map(|point| point.mount.clone())
    }

    /// Whether `self` is `other` or hangs below it.
    pub(super) fn is_within(self: &Arc<Self>, other: &Arc<Mount>) -> bool {
        let mut at = self.clone();
        loop {
            if Arc::ptr_eq(&at, other) {
                return true;
            }
            match at.parent() {
                Some(parent) => at = parent,
                None => return false,
            }
        }
    }
}

fn key(mount: &Arc<Mount>, dentry: &Arc<Dentry>) -> (usize, usize) {
    (Arc::as_ptr(mount) as usize, Arc::as_ptr(dentry) as usize)
}

fn with_table<R>(f: impl FnOnce(&mut Table) -> R) -> R {
    let mut table = TABLE.lock();
    f(table.get_or_insert_with(|| Table {
        list: Vec::new(),
        points: HashMap::new(),
    }))
}

/// Held over a change of the tree.
#[must_use]
pub struct Change {
    _one_at_a_time: MutexGuard<'static, ()>,
}

impl Drop for Change {
    fn drop(&mut self) {
        EVENT.fetch_add(1, Ordering::AcqRel);
        EVENTS.wake_all();
    }
}

/// Begins a change of the tree; whoever polls /proc/self/mounts hears when it ends.
pub fn change() -> Change {
    Change {
        _one_at_a_time: CHANGE.lock(),
    }
}

/// A number that grows with each change of the tree, and the queue that tells (`poll(2)` on /proc/self/mounts).
pub fn events() -> (u64, &'static WaitQueue) {
    (EVENT.load(Ordering::Acquire), &EVENTS)
}

/// What is mounted on `path`, topmost: moves `path` there. Cheap where nothing is mounted.
#[inline]
pub fn cross(path: &mut Path) {
    while path.dentry.is_mount_point() {
        let Some(mount) = mounted_on(path) else { return };
        mount.used();
        let dentry = mount.root().clone();
        *path = Path { mount, dentry };
    }
}

/// The mount whose mount point is exactly `path`.
pub fn mounted_on(path: &Path) -> Option<Arc<Mount>> {
    with_table(|table| table.points.get(&key(&path.mount, &path.dentry)).cloned())
}

impl Change {
    /// Places `mount` on `at`, which nothing covers yet.
    pub fn attach(&self, mount: &Arc<Mount>, at: &Path) {
        at.dentry.mount_point_added();
        *mount.point.lock() = Some(at.clone());
        mount.attached.store(true, Ordering::Release);
        with_table(|table| {
            table.points.insert(key(&at.mount, &at.dentry), mount.clone());
            table.list.push(mount.clone());
        });
    }

    /// Takes `mount` out of the tree; the mounts below it lose their way up.
    pub fn detach(&self, mount: &Arc<Mount>) -> Option<Path> {
        let point = mount.point.lock().take();
        mount.attached.store(false, Ordering::Release);
        let removed = with_table(|table| {
            let covered = point
                .as_ref()
                .and_then(|point| table.points.remove(&key(&point.mount, &point.dentry)));
            let at = table.list.iter().position(|listed| Arc::ptr_eq(listed, mount));
            (covered, at.map(|at| table.list.remove(at)))
        });
        drop(removed);
        if let Some(point) = &point {
            point.dentry.mount_point_removed();
        }
        point
    }

    /// Moves `mount` with all below it to `at`.
    pub fn move_to(&self, mount: &Arc<Mount>, at: &Path) {
        let below = below(mount);
        self.detach(mount);
        self.attach(mount, at);
        // Parents come before children in the listing.
        with_table(|table| {
            table
                .list
                .retain(|listed| !below.iter().any(|child| Arc::ptr_eq(child, listed)));
            table.list.extend(below.iter().cloned());
        });
    }

    /// Copies of the mount at `source`, showing `source`, and with `Deep::Yes` of all below it, joined but not in the tree.
    /// The first is the top; each other comes with the place in an earlier copy that it belongs on.
    pub fn copy_tree(&self, source: &Path, deep: Deep) -> Vec<(Arc<Mount>, Option<Path>)> {
        let top = source.mount.copy(source.dentry.clone());
        let mut pairs: Vec<(Arc<Mount>, Arc<Mount>)> = alloc::vec![(source.mount.clone(), top.clone())];
        let mut copies = alloc::vec![(top, None)];
        if deep == Deep::No {
            return copies;
        }
        for mount in below(&source.mount) {
            let Some(point) = mount.mount_point() else { continue };
            let Some((_, parent)) = pairs.iter().find(|(from, _)| Arc::ptr_eq(from, &point.mount)).cloned() else {
                continue;
            };
            if !point.dentry.is_within(parent.root()) {
                continue;
            }
            let copy = mount.copy(mount.root().clone());
            copies.push((
                copy.clone(),
                Some(Path {
                    mount: parent,
                    dentry: point.dentry,
                }),
            ));
            pairs.push((mount, copy));
        }
        copies
    }
}

/// Whether the mounts below come along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deep {
    /// `MS_REC`, `AT_RECURSIVE`.
    Yes,
    /// This mount only.
    No,
}

/// Every mount below `mount`, parents first, without itself.
pub fn below(mount: &Arc<Mount>) -> Vec<Arc<Mount>> {
    let list = with_table(|table| table.list.clone());
    list.into_iter()
        .filter(|other| !Arc::ptr_eq(other, mount) && other.is_within(mount))
        .collect()
}

/// Every mount, parents first.
pub fn all() -> Vec<Arc<Mount>> {
    with_table(|table| table.list.clone())
}

/// Whether someone uses `mount` beyond the tree itself and `held` references of the caller: open files, working directories, mounts below.
pub(super) fn is_busy(mount: &Arc<Mount>, held: usize) -> bool {
    // One in the list, one in the table of points.
    Arc::strong_count(mount) > held + 2
}
