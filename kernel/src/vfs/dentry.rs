//! Names: the cached tree of directory entries of one file system instance.
//!
//! A [`Dentry`] is a name that exists. A directory's dentry knows its cached children by name, weakly; what nobody uses is kept alive by one
//! bounded clock ([`CACHE`]), so that walking a large tree costs neither memory nor host descriptors. "No such name" is remembered in the
//! parent's table, and only where the file system's names are stable; elsewhere each use of a cached name is asked again
//! ([`Inode::revalidate`]).
//!
//! Lock order: `Dentry::directory` (sleeping; held over every change of the directory's names) before `children` and `place` (short, never
//! nested in each other). A dentry is never dropped while a `children` lock is held: its end takes its parent's.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use arch_um::sync::{RwLock, SpinLock, order};
use hashbrown::HashMap;
use smallvec::SmallVec;

use super::attr::FileType;
use super::inode::{FileSystem, FsFlags, Inode};
use crate::{Errno, Result};

/// A name in a directory and the inode it leads to. The root of an instance has no parent.
pub struct Dentry {
    inode: Arc<dyn Inode>,
    kind: FileType,
    fs_flags: FsFlags,
    place: SpinLock<Place>,
    children: SpinLock<HashMap<Box<[u8]>, Child>>,
    directory: RwLock<()>,
    mounted: AtomicU32,
    state: AtomicU32,
    slot: AtomicUsize,
}

/// Where a dentry hangs; changes on rename.
struct Place {
    parent: Option<Arc<Dentry>>,
    name: Box<[u8]>,
}

/// What a directory remembers of a name.
enum Child {
    Present(Weak<Dentry>),
    Absent,
}

/// What the cache says about a name.
enum Cached {
    Present(Arc<Dentry>),
    Absent,
    Unknown,
}

/// The name was removed, or never was (`O_TMPFILE`).
const DELETED: u32 = 1;
/// Used since the clock's hand came by.
const REFERENCED: u32 = 2;
/// Not in any directory: the name says all (`pipe:[7]`).
const ANONYMOUS: u32 = 4;

/// No slot in the clock.
const NO_SLOT: usize = usize::MAX;
/// Most absent names that one directory remembers.
const ABSENT_MAX: usize = 512;

impl Dentry {
    fn make(inode: Arc<dyn Inode>, parent: Option<Arc<Dentry>>, name: &[u8], state: u32) -> Arc<Self> {
        let fs_flags = match &parent {
            Some(parent) => parent.fs_flags,
            None => inode.fs().flags(),
        };
        Arc::new(Self {
            kind: inode.kind(),
            inode,
            fs_flags,
            place: SpinLock::new(
                &order::DCACHE,
                Place {
                    parent,
                    name: name.into(),
                },
            ),
            children: SpinLock::new(&order::DCACHE, HashMap::new()),
            directory: RwLock::new(&order::DIRECTORY, ()),
            mounted: AtomicU32::new(0),
            state: AtomicU32::new(state),
            slot: AtomicUsize::new(NO_SLOT),
        })
    }

    /// A root.
    pub fn root(inode: Arc<dyn Inode>) -> Arc<Self> {
        Self::make(inode, None, b"", 0)
    }

    /// A file in no directory, whose name is only for the eye (`pipe:[7]`, `anon_inode:[eventfd]`).
    pub fn anonymous(inode: Arc<dyn Inode>, name: &[u8]) -> Arc<Self> {
        Self::make(inode, None, name, ANONYMOUS)
    }

    /// A file that was born without a name in `parent` (`O_TMPFILE`); shows as deleted.
    pub fn unnamed(inode: Arc<dyn Inode>, parent: &Arc<Dentry>, name: &[u8]) -> Arc<Self> {
        Self::make(inode, Some(parent.clone()), name, DELETED)
    }

    /// The inode it leads to; never changes.
    pub fn inode(&self) -> &Arc<dyn Inode> {
        &self.inode
    }

    /// The inode's type.
    pub fn kind(&self) -> FileType {
        self.kind
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    /// The traits of its file system.
    pub fn fs_flags(&self) -> FsFlags {
        self.fs_flags
    }

    /// The directory above, none for a root.
    pub fn parent(&self) -> Option<Arc<Dentry>> {
        self.place.lock().parent.clone()
    }

    /// The name now, empty for a root.
    pub fn name(&self) -> Vec<u8> {
        self.place.lock().name.to_vec()
    }

    /// Appends the name, last byte first, and returns the parent: one step of composing a path from its end.
    pub(super) fn push_reversed(&self, out: &mut Vec<u8>) -> Option<Arc<Dentry>> {
        let place = self.place.lock();
        out.extend(place.name.iter().rev());
        place.parent.clone()
    }

    /// Whether the name was removed; the file may live on.
    pub fn is_deleted(&self) -> bool {
        self.state.load(Ordering::Acquire) & DELETED != 0
    }

    /// Whether it hangs in no directory by nature.
    pub fn is_anonymous(&self) -> bool {
        self.state.load(Ordering::Relaxed) & ANONYMOUS != 0
    }

    /// Whether something is mounted on it, in any mount that shows it.
    pub fn is_mount_point(&self) -> bool {
        self.mounted.load(Ordering::Acquire) != 0
    }

    pub(super) fn mount_point_added(&self) {
        self.mounted.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn mount_point_removed(&self) {
        self.mounted.fetch_sub(1, Ordering::AcqRel);
    }

    /// The lock over the names in this directory: shared to look one up on the file system, exclusive to change one.
    pub(super) fn directory(&self) -> &RwLock<()> {
        &self.directory
    }

    /// Whether `self` is `other` or lies below it.
    pub fn is_within(self: &Arc<Self>, other: &Arc<Dentry>) -> bool {
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

    /// Finds `name` (not `.` or `..`): in the cache, else on the file system under the directory's lock.
    ///
    /// # Errors
    /// `ENOENT`; what the file system says.
    #[inline]
    pub fn lookup(self: &Arc<Self>, name: &[u8]) -> Result<Arc<Dentry>> {
        match self.known(name) {
            Cached::Present(child) => return Ok(child),
            Cached::Absent => return Err(Errno::ENOENT),
            Cached::Unknown => {}
        }
        let _names = self.directory.read();
        self.ask(name)
    }

    /// As [`lookup`](Self::lookup), for who holds the directory's lock.
    pub(super) fn lookup_locked(self: &Arc<Self>, name: &[u8]) -> Result<Arc<Dentry>> {
        match self.known(name) {
            Cached::Present(child) => Ok(child),
            Cached::Absent => Err(Errno::ENOENT),
            Cached::Unknown => self.ask(name),
        }
    }

    /// The child if the cache has it, without asking the file system.
    pub(super) fn lookup_cached(self: &Arc<Self>, name: &[u8]) -> Option<Arc<Dentry>> {
        match self.known(name) {
            Cached::Present(child) => Some(child),
            _ => None,
        }
    }

    #[inline]
    fn known(self: &Arc<Self>, name: &[u8]) -> Cached {
        let found = match self.children.lock().get(name) {
            Some(Child::Present(child)) => child.upgrade(),
            Some(Child::Absent) => return Cached::Absent,
            None => None,
        };
        let Some(child) = found else { return Cached::Unknown };
        if self.fs_flags.contains(FsFlags::VOLATILE_NAMES) && !self.inode.revalidate(name, &child.inode) {
            child.forget();
            return Cached::Unknown;
        }
        if child.state.load(Ordering::Relaxed) & REFERENCED == 0 {
            child.state.fetch_or(REFERENCED, Ordering::Relaxed);
        }
        Cached::Present(child)
    }

    fn ask(self: &Arc<Self>, name: &[u8]) -> Result<Arc<Dentry>> {
        if self.is_deleted() {
            return Err(Errno::ENOENT);
        }
        match self.inode.lookup(name) {
            Ok(inode) => Ok(self.adopt(name, inode)),
            Err(Errno::ENOENT) => {
                if !self.fs_flags.contains(FsFlags::VOLATILE_NAMES) {
                    let mut children = self.children.lock();
                    if children.len() < ABSENT_MAX && !children.contains_key(name) {
                        children.insert(name.into(), Child::Absent);
                    }
                }
                Err(Errno::ENOENT)
            }
            Err(error) => Err(error),
        }
    }

    /// Puts `name`, which leads to `inode`, into the cache; finds it when it is there already.
    pub(super) fn adopt(self: &Arc<Self>, name: &[u8], inode: Arc<dyn Inode>) -> Arc<Dentry> {
        let fresh = Self::make(inode, Some(self.clone()), name, REFERENCED);
        let displaced;
        {
            let mut children = self.children.lock();
            let present = match children.get(name) {
                Some(Child::Present(child)) => child.upgrade(),
                _ => None,
            };
            match present {
                Some(child) if Arc::ptr_eq(&child.inode, &fresh.inode) => {
                    drop(children);
                    return child;
                }
                other => displaced = other,
            }
            children.insert(name.into(), Child::Present(Arc::downgrade(&fresh)));
        }
        drop(displaced);
        CACHE.lock_and_insert(&fresh);
        fresh
    }

    /// Takes the name out of the cache without a judgement on the file: the next lookup asks the file system.
    pub(super) fn forget(self: &Arc<Self>) {
        self.unlist();
        CACHE.lock_and_remove(self);
    }

    /// The name was removed from its directory; the parent remembers its absence.
    pub(super) fn deleted(self: &Arc<Self>) {
        self.state.fetch_or(DELETED, Ordering::AcqRel);
        self.forget();
    }

    /// Another file of the same directory has this name now or the name is free: makes a later lookup ask.
    pub(super) fn forget_absence(&self, name: &[u8]) {
        let mut children = self.children.lock();
        if let Some(Child::Absent) = children.get(name) {
            children.remove(name);
        }
    }

    /// It was renamed to `name` in `parent`, which may have been its parent before.
    pub(super) fn renamed(self: &Arc<Self>, parent: &Arc<Dentry>, name: &[u8]) {
        self.unlist();
        let old = {
            let mut place = self.place.lock();
            place.name = name.into();
            place.parent.replace(parent.clone())
        };
        drop(old);
        self.state.fetch_and(!DELETED, Ordering::AcqRel);
        let displaced = parent
            .children
            .lock()
            .insert(name.into(), Child::Present(Arc::downgrade(self)));
        drop(displaced);
    }

    /// Takes the entry out of the parent's table, if it is this one.
    fn unlist(self: &Arc<Self>) {
        let (parent, name) = {
            let place = self.place.lock();
            (place.parent.clone(), place.name.clone())
        };
        let Some(parent) = parent else { return };
        let mut children = parent.children.lock();
        let is_this =
            matches!(children.get(&name), Some(Child::Present(child)) if Weak::as_ptr(child) == Arc::as_ptr(self));
        if is_this {
            children.remove(&name);
        }
    }

    /// The last reference is gone: leaves the parent's table, and hands the parent on.
    fn leave(&mut self) -> Option<Arc<Dentry>> {
        let place = self.place.get_mut();
        let parent = place.parent.take()?;
        {
            let mut children = parent.children.lock();
            if matches!(children.get(&place.name), Some(Child::Present(child)) if child.strong_count() == 0) {
                children.remove(&place.name);
            }
        }
        Some(parent)
    }
}

impl Drop for Dentry {
    fn drop(&mut self) {
        // A loop, not a recursion: a chain of directories may be deeper than a kernel stack.
        let mut next = self.leave();
        while let Some(parent) = next {
            next = Arc::into_inner(parent).and_then(|mut parent| parent.leave());
        }
    }
}

/// Names that are in no one's use but kept, and some that are: a clock over a bounded number of slots.
struct Clock {
    slots: Vec<Option<Arc<Dentry>>>,
    free: Vec<usize>,
    hand: usize,
    limit: usize,
}

struct Cache(SpinLock<Clock>);

/// The names that are kept. The lock is a leaf; what falls out is dropped after it.
static CACHE: Cache = Cache(SpinLock::new(
    &order::LEAF,
    Clock {
        slots: Vec::new(),
        free: Vec::new(),
        hand: 0,
        limit: 8192,
    },
));

impl Cache {
    fn lock_and_insert(&self, dentry: &Arc<Dentry>) {
        let evicted = self.0.lock().insert(dentry);
        drop(evicted);
    }

    fn lock_and_remove(&self, dentry: &Arc<Dentry>) {
        let removed = self.0.lock().remove(dentry);
        drop(removed);
    }
}

impl Clock {
    fn insert(&mut self, dentry: &Arc<Dentry>) -> Option<Arc<Dentry>> {
        if self.limit == 0 {
            return None;
        }
        let (slot, evicted) = if let Some(slot) = self.free.pop() {
            (slot, None)
        } else if self.slots.len() < self.limit {
            self.slots.push(None);
            (self.slots.len() - 1, None)
        } else {
            let slot = self.victim();
            (slot, self.slots[slot].take())
        };
        if let Some(old) = &evicted {
            old.slot.store(NO_SLOT, Ordering::Relaxed);
        }
        dentry.slot.store(slot, Ordering::Relaxed);
        self.slots[slot] = Some(dentry.clone());
        evicted
    }

    /// The slot to empty: the first that was not used since the hand last came by. Every slot is full.
    fn victim(&mut self) -> usize {
        for _ in 0..64 {
            self.hand = (self.hand + 1) % self.slots.len();
            let used = self.slots[self.hand]
                .as_ref()
                .map_or(0, |old| old.state.fetch_and(!REFERENCED, Ordering::Relaxed));
            if used & REFERENCED == 0 {
                break;
            }
        }
        self.hand
    }

    fn remove(&mut self, dentry: &Arc<Dentry>) -> Option<Arc<Dentry>> {
        let slot = dentry.slot.swap(NO_SLOT, Ordering::Relaxed);
        let removed = self.slots.get_mut(slot)?.take()?;
        self.free.push(slot);
        Some(removed)
    }

    fn take_where(&mut self, mut pick: impl FnMut(&Dentry) -> bool) -> SmallVec<[Arc<Dentry>; 16]> {
        let mut taken = SmallVec::new();
        for slot in 0..self.slots.len() {
            if self.slots[slot].as_ref().is_some_and(|dentry| pick(dentry))
                && let Some(dentry) = self.slots[slot].take()
            {
                dentry.slot.store(NO_SLOT, Ordering::Relaxed);
                self.free.push(slot);
                taken.push(dentry);
            }
        }
        taken
    }
}

/// Lets go of every cached name of `fs` that nobody uses: its last mount is gone.
pub(super) fn purge(fs: &Arc<dyn FileSystem>) {
    let kept: Vec<_> = CACHE.0.lock().slots.iter().flatten().cloned().collect();
    for dentry in kept {
        if Arc::ptr_eq(&dentry.inode.fs(), fs) {
            CACHE.lock_and_remove(&dentry);
        }
    }
}

/// Lets go of every kept name (`/proc/sys/vm/drop_caches`).
pub fn drop_caches() {
    let taken = CACHE.0.lock().take_where(|_| true);
    drop(taken);
}

/// Sets how many names are kept beyond those in use. Lowering it drops what is there.
pub fn set_cache_limit(limit: usize) {
    let taken = {
        let mut cache = CACHE.0.lock();
        let taken = cache.take_where(|_| true);
        cache.slots.clear();
        cache.free.clear();
        cache.hand = 0;
        cache.limit = limit;
        taken
    };
    drop(taken);
}
