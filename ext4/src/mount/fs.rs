//! The instance as the VFS sees it.

use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::Ordering;
use core::time::Duration;

use arch_um::sync::Interruptible;
use arch_um::time::Instant;
use kernel::vfs::inode::{FsFlags, MountOption, MountSource};
use kernel::vfs::{DevT, FileSystem, Inode, StatFs};

use super::features;
use crate::device::BlockDevice;
use crate::instance::{Ext4, Worker};
use crate::journal::Recovery;
use crate::layout::geometry::MAGIC;
use crate::{Errno, Result};

/// How long dirty data may wait.
const PERIOD: Duration = Duration::from_secs(5);

impl Ext4 {
    /// What the mount brought home from the journal.
    pub fn recovery(&self) -> Recovery {
        self.journal.recovery()
    }

    /// Blocks that hold the file system's own structures: `statfs` does not count them, unless `minixdf`.
    pub(crate) fn overhead(&self) -> u64 {
        self.system.total() + u64::from(self.geometry.first_data_block)
    }
}

/// Writes dirty data back and frees what died, until the instance ends. The body of a kernel thread.
pub(super) fn work(fs: &Weak<Ext4>, worker: &Worker) {
    let mut due = Instant::now().saturating_add(PERIOD);
    while !worker.ended.load(Ordering::Acquire) {
        let wake = || {
            let wanted = worker.wanted.swap(false, Ordering::AcqRel);
            (wanted || worker.ended.load(Ordering::Acquire)).then_some(())
        };
        let woken = worker.queue.wait_until(Interruptible::No, Some(due), wake);
        let Some(fs) = fs.upgrade().filter(|_| !worker.ended.load(Ordering::Acquire)) else {
            return;
        };
        let done = if woken.is_ok() {
            fs.bury().and(fs.tell_errors())
        } else {
            due = Instant::now().saturating_add(PERIOD);
            if fs.is_writable() { fs.write_all() } else { Ok(()) }
        };
        if let Err(error) = done {
            log::error!("EXT4-fs ({}): delayed write failed: {error}", fs.name);
        }
    }
}

impl FileSystem for Ext4 {
    fn fs_type(&self) -> &'static str {
        self.kind
    }

    fn flags(&self) -> FsFlags {
        FsFlags::NEEDS_DEVICE
    }

    fn root(&self) -> Arc<dyn Inode> {
        self.root
            .lock()
            .clone()
            .expect("no calls on an instance after its unmount")
    }

    fn dev(&self) -> DevT {
        self.dev
    }

    fn statfs(&self) -> Result<StatFs> {
        if self.is_writable() {
            self.drop_nameless_dirt();
            // What cannot be freed is in the log.
            let _ = self.bury();
        }
        let minix = self.options.lock().minix_df;
        let free = self.counters.shown_free();
        let uuid = &self.geometry.uuid;
        let half = |at: usize| u64::from(u32::from_le_bytes([uuid[at], uuid[at + 1], uuid[at + 2], uuid[at + 3]]));
        Ok(StatFs {
            magic: u64::from(MAGIC),
            bsize: self.block_size(),
            blocks: self.geometry.size.blocks()
                - if minix {
                    0
                } else {
                    self.overhead().min(self.geometry.size.blocks())
                },
            bfree: free,
            bavail: free.saturating_sub(self.geometry.size.reserved_blocks() + self.set_aside()),
            files: u64::from(self.geometry.size.inodes()),
            ffree: u64::from(self.counters.inodes.load(Ordering::Relaxed)),
            fsid: (half(0) ^ half(8)) | (half(4) ^ half(12)) << 32,
            namelen: 255,
            frsize: self.block_size(),
        })
    }

    fn sync(&self) -> Result<()> {
        self.sync_all()
    }

    fn show_options(&self) -> String {
        let mut shown = self.options.lock().show(&self.geometry);
        if self.stopped.load(Ordering::Acquire) {
            shown.push_str(",emergency_ro");
        }
        shown
    }

    fn remount(&self, source: &MountSource) -> Result<()> {
        let names_journal = |option: &MountOption| matches!(&option.key[..], b"journal_dev" | b"journal_path");
        if source.options.iter().any(names_journal) {
            log::error!("EXT4-fs: Cannot specify journal on remount");
            return Err(Errno::EINVAL);
        }
        let mut options = self.options.lock().clone();
        let before = core::mem::take(&mut options.abort);
        options.apply(source, &self.geometry, &self.name)?;
        let was_read_only = self.read_only.load(Ordering::Acquire);
        if options.abort {
            self.abort(Errno::ESHUTDOWN, format_args!("Abort forced by user"));
            *self.options.lock() = options;
            return Ok(());
        }
        options.abort = before;
        if options.data != self.options.lock().data {
            log::error!("EXT4-fs ({}): Cannot change data mode on remount", self.name);
            return Err(Errno::EINVAL);
        }
        if self.stopped.load(Ordering::Acquire) && !source.read_only {
            log::error!("EXT4-fs ({}): Abort forced by user", self.name);
            return Err(Errno::EROFS);
        }
        self.journal
            .set_commit_interval(Duration::from_secs(u64::from(options.commit)));
        *self.options.lock() = options;
        match (was_read_only, source.read_only) {
            (true, false) => {
                if self.device.is_read_only() {
                    return Err(Errno::EACCES);
                }
                features::check_writable(&self.geometry, &self.name)?;
                self.start_writing()?;
            }
            (false, true) => self.stop_writing()?,
            _ => {}
        }
        let access = if source.read_only { "ro" } else { "r/w" };
        log::info!("EXT4-fs ({}): re-mounted {access}. Quota mode: none.", self.name);
        Ok(())
    }

    fn placed(&self, path: &[u8]) {
        if let Err(error) = self.note_mount_point(path) {
            log::warn!(
                "EXT4-fs ({}): the place of the mount is not recorded: {error}",
                self.name
            );
        }
    }

    fn unmount(&self) -> Result<()> {
        self.ending.store(true, Ordering::Release);
        let outcome = if self.read_only.load(Ordering::Acquire) {
            Ok(())
        } else {
            self.stop_writing()
        };
        self.unmounted.store(true, Ordering::Release);
        self.worker.end();
        let root = self.root.lock().take();
        drop(root);
        let dirty = core::mem::take(&mut *self.dirty.lock());
        drop(dirty);
        let outcome = match self.journal.close() {
            // It stopped long ago, and the super block says why.
            Err(_) if self.stopped.load(Ordering::Acquire) => outcome,
            closed => outcome.and(closed),
        };
        if self.has_errors() {
            log::warn!("EXT4-fs ({}): error count since last fsck is not zero", self.name);
        }
        log::info!("EXT4-fs ({}): unmounting filesystem.", self.name);
        super::types::ended(self);
        outcome
    }
}
