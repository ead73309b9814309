//! The descriptors that inodes hold ("anchors", mostly `O_PATH`), and the limit on them.
//!
//! A directory needs an anchor while names are looked up in it, a file only for what has no name-based call. Past the limit the anchor of an inode
//! that was not used lately is closed (the clock algorithm); it is opened again through the parent when needed, with a check of identity. Files
//! without a name (unlinked while held, `O_TMPFILE`) are pinned: nothing else leads to them.

use std::sync::{Arc, Weak};

use arch_um::sync::{SpinLock, order};
use kernel::{Errno, Result};

use crate::inode::HostInode;

/// Most anchors whatever the host allows: a descriptor costs the host a quarter of a KiB.
const MOST: usize = 16384;

/// Which inodes hold an anchor that may be closed.
pub(crate) struct Anchors {
    limit: usize,
    clock: SpinLock<Clock>,
}

#[derive(Default)]
struct Clock {
    slots: Vec<Weak<HostInode>>,
    free: Vec<usize>,
    hand: usize,
}

impl Clock {
    fn used(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl Anchors {
    /// With half of the host's limit on descriptors; the rest is for open files, devices and stubs.
    pub fn new() -> Self {
        let host = usize::try_from(arch_um::host::at::descriptor_limit() / 2).unwrap_or(MOST);
        Self::with_limit(host.clamp(16, MOST))
    }

    /// With a limit of `limit` anchors.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            clock: SpinLock::new(&order::LEAF, Clock::default()),
        }
    }

    /// `inode` holds an anchor from now on; returns its slot. Closes others past the limit.
    pub fn enter(&self, inode: Weak<HostInode>) -> usize {
        let (slot, excess) = {
            let mut clock = self.clock.lock();
            let slot = match clock.free.pop() {
                Some(slot) => {
                    clock.slots[slot] = inode;
                    slot
                }
                None => {
                    clock.slots.push(inode);
                    clock.slots.len() - 1
                }
            };
            (slot, clock.used().saturating_sub(self.limit))
        };
        if excess > 0 {
            // A few more than needed, so that the hand does not start for every single one.
            self.evict(excess + self.limit / 16);
        }
        slot
    }

    /// The inode in `slot` holds no anchor any more.
    pub fn leave(&self, slot: usize) {
        let old = {
            let mut clock = self.clock.lock();
            clock.free.push(slot);
            std::mem::take(&mut clock.slots[slot])
        };
        drop(old);
    }

    /// Closes up to `count` anchors that were not used since the hand came by last.
    pub fn evict(&self, count: usize) {
        let mut closed = 0;
        // Twice around: the first round may only clear the marks.
        let mut steps = 2 * self.clock.lock().slots.len();
        while closed < count && steps > 0 {
            steps -= 1;
            let candidate = {
                let mut clock = self.clock.lock();
                let Some(candidate) = clock.slots.get(clock.hand).map(Weak::upgrade) else {
                    clock.hand = 0;
                    continue;
                };
                clock.hand += 1;
                candidate
            };
            // Outside of the lock: this may be the last reference, and dropping an inode takes the lock again.
            if candidate.as_ref().is_some_and(HostInode::close_idle_anchor) {
                closed += 1;
            }
        }
    }

    /// Runs a call that opens a descriptor; when the process or the host has no room, closes half of the anchors and tries again.
    pub fn with_room<R>(&self, call: impl Fn() -> Result<R>) -> Result<R> {
        match call() {
            Err(Errno::EMFILE | Errno::ENFILE) => {
                self.evict(self.count() / 2 + 1);
                call()
            }
            result => result,
        }
    }

    /// How many anchors there are that could be closed.
    pub fn count(&self) -> usize {
        self.clock.lock().used()
    }
}

impl HostInode {
    /// Closes the anchor unless it was used since the last call, or is pinned. Whether it did.
    fn close_idle_anchor(self: &Arc<Self>) -> bool {
        let Some((slot, fds)) = self.take_idle_anchor() else {
            return false;
        };
        self.host().anchors.leave(slot);
        drop(fds);
        true
    }
}
