//! What of a geometry changes when a file system grows while it is mounted.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How much there is, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub blocks: u64,
    pub groups: u32,
    pub inodes: u32,
    /// Blocks kept for group descriptors to come.
    pub reserved_gdt: u32,
    /// Blocks for the superuser.
    pub reserved_blocks: u64,
}

/// [`Counts`] that grow, under the lock over metadata, while others look at them without it.
#[derive(Debug)]
pub(crate) struct Size {
    blocks: AtomicU64,
    groups: AtomicU32,
    inodes: AtomicU32,
    reserved_gdt: AtomicU32,
    reserved_blocks: AtomicU64,
}

impl Size {
    pub(crate) fn new(counts: Counts) -> Self {
        Self {
            blocks: AtomicU64::new(counts.blocks),
            groups: AtomicU32::new(counts.groups),
            inodes: AtomicU32::new(counts.inodes),
            reserved_gdt: AtomicU32::new(counts.reserved_gdt),
            reserved_blocks: AtomicU64::new(counts.reserved_blocks),
        }
    }

    /// All of them. They belong together only under the lock.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            blocks: self.blocks.load(Ordering::Acquire),
            groups: self.groups.load(Ordering::Acquire),
            inodes: self.inodes.load(Ordering::Acquire),
            reserved_gdt: self.reserved_gdt.load(Ordering::Acquire),
            reserved_blocks: self.reserved_blocks.load(Ordering::Acquire),
        }
    }

    /// Whoever sees the new number of blocks or inodes finds what belongs to them: the groups are told before.
    pub(crate) fn grow(&self, counts: Counts) {
        self.reserved_gdt.store(counts.reserved_gdt, Ordering::Release);
        self.reserved_blocks.store(counts.reserved_blocks, Ordering::Release);
        self.groups.store(counts.groups, Ordering::Release);
        self.inodes.store(counts.inodes, Ordering::Release);
        self.blocks.store(counts.blocks, Ordering::Release);
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.blocks.load(Ordering::Acquire)
    }

    pub(crate) fn groups(&self) -> u32 {
        self.groups.load(Ordering::Acquire)
    }

    pub(crate) fn inodes(&self) -> u32 {
        self.inodes.load(Ordering::Acquire)
    }

    pub(crate) fn reserved_gdt(&self) -> u32 {
        self.reserved_gdt.load(Ordering::Acquire)
    }

    pub(crate) fn reserved_blocks(&self) -> u64 {
        self.reserved_blocks.load(Ordering::Acquire)
    }
}

impl Clone for Size {
    fn clone(&self) -> Self {
        Self::new(self.counts())
    }
}
