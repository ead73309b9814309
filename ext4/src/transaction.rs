//! [`Tx`]: a change of metadata under way: a journal handle and the one lock over all metadata in memory.
//!
//! The handle comes first: waiting for room in the journal with the lock held would keep those from ending who make the room.

use core::sync::atomic::Ordering;

use arch_um::sync::RwLockWriteGuard;

use crate::buffer::Buffer;
use crate::inode::Inode;
use crate::instance::{Ext4, Meta};
use crate::journal::Handle;
use crate::layout::inode::seal;
use crate::{Errno, Result};
use alloc::sync::Arc;

/// A change of metadata. Ends when dropped.
pub(crate) struct Tx<'a> {
    // Dropped in this order: the lock before the handle.
    pub(crate) meta: RwLockWriteGuard<'a, Meta>,
    pub(crate) handle: Handle<'a>,
    pub(crate) fs: &'a Ext4,
}

impl<'a> Tx<'a> {
    /// Begins a change of at most `credits` blocks. `EROFS`. Not with another one open in this thread, and not with anything held that is taken
    /// inside one.
    pub(crate) fn begin(fs: &'a Ext4, credits: u32) -> Result<Self> {
        if !fs.is_writable() {
            return Err(Errno::EROFS);
        }
        Self::begin_anyway(fs, credits)
    }

    /// As [`begin`](Self::begin) on an instance that is not yet, or no longer, open for writing: recovery, the last words of an unmount.
    pub(crate) fn begin_anyway(fs: &'a Ext4, credits: u32) -> Result<Self> {
        let handle = fs.journal.begin(credits)?;
        let meta = fs.meta.write();
        Ok(Self { meta, handle, fs })
    }

    /// Changes a block that carries no checksum of its own, or whose checksum `change` puts in.
    pub(crate) fn modify<R>(&mut self, buffer: &Arc<Buffer>, change: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        self.handle.modify(buffer, change)
    }

    /// Stores the fields of an inode.
    pub(crate) fn write_inode(&mut self, inode: &Inode) -> Result<()> {
        self.change_inode(inode, |_| ())
    }

    /// Stores the fields of an inode, and lets `change` work on all of its bytes (attributes behind the fields).
    pub(crate) fn change_inode<R>(&mut self, inode: &Inode, change: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        inode.dirty.store(false, Ordering::Release);
        let core = inode.core.lock().clone();
        let geometry = &self.fs.geometry;
        let (block, at) = self.fs.inode_place(&self.meta, inode.number())?;
        let buffer = self.fs.buffers.get(block)?;
        let tid = self.handle.tid();
        inode.last_tid.store(tid, Ordering::Release);
        if inode.stored_size.swap(core.disk_size, Ordering::AcqRel) != core.disk_size {
            inode.data_tid.store(tid, Ordering::Release);
        }
        self.handle.modify(&buffer, |bytes| {
            let raw = &mut bytes[at..at + geometry.inode_size as usize];
            core.store(raw, geometry);
            let result = change(raw);
            seal(raw, inode.number(), geometry);
            result
        })
    }

    /// Changes fields of the super block.
    pub(crate) fn change_super(&mut self, change: impl FnOnce(&mut [u8])) -> Result<()> {
        let fs = self.fs;
        let (block, at) = fs.geometry.super_place();
        let buffer = fs.buffers.get(block)?;
        self.handle
            .modify(&buffer, |bytes| fs.edit_super(&mut bytes[at..at + 1024], change))
    }
}
