//! Metadata as `stat(2)` shows it and `chmod`, `chown`, `utimensat` change it.

use kernel::vfs::inode::AtimePolicy;
use kernel::vfs::{DevT, FileType, Metadata, Mode, SetAttr, TimesFrom, Timespec};

use super::Inode;
use crate::layout::inode::Flags;
use crate::transaction::Tx;
use crate::{Errno, Result};

/// Blocks that storing an inode can change.
pub(crate) const INODE_CREDITS: u32 = 2;

impl Inode {
    pub(crate) fn stat(&self) -> Metadata {
        let promised = self.promise.lock().blocks() * (self.fs.block_size() / 512);
        let size = self.len_now();
        let core = self.core.lock();
        self.times_are_seen(&core);
        // So that nobody takes contents in the inode for a hole.
        let inline = if core.flags.contains(Flags::INLINE_DATA) && self.kind == FileType::Regular {
            size.div_ceil(512)
        } else {
            0
        };
        Metadata {
            dev: self.fs.dev,
            ino: u64::from(self.number()),
            kind: self.kind,
            mode: Mode::from_bits_truncate(u32::from(core.mode)),
            nlink: core.nlink,
            uid: core.uid,
            gid: core.gid,
            rdev: match self.kind {
                FileType::CharDevice | FileType::BlockDevice => core.device(),
                _ => DevT::default(),
            },
            size,
            blksize: self.fs.geometry.block_size,
            blocks: core.sectors + promised + inline,
            atime: core.atime,
            mtime: core.mtime,
            ctime: core.ctime,
            btime: core.crtime,
        }
    }

    pub(crate) fn accessed(&self, policy: AtimePolicy) {
        if !self.fs.is_writable() {
            return;
        }
        let now = Timespec::now();
        let moved = {
            let mut core = self.core.lock();
            let day_old = now.sec.saturating_sub(core.atime.sec) >= 24 * 60 * 60;
            let due = policy == AtimePolicy::Strict || core.atime <= core.mtime || core.atime <= core.ctime || day_old;
            let due = due && !core.flags.intersects(Flags::NOATIME | Flags::IMMUTABLE);
            if due {
                core.atime = now;
            }
            due
        };
        if moved {
            self.mark_dirty();
        }
    }

    /// `EPERM` for what may not be changed but by `chattr`.
    pub(crate) fn require_mutable(&self) -> Result<()> {
        if self.has(Flags::IMMUTABLE) {
            Err(Errno::EPERM)
        } else {
            Ok(())
        }
    }

    pub(crate) fn change(&self, attr: &SetAttr) -> Result<()> {
        if !self.fs.is_writable() {
            return Err(Errno::EROFS);
        }
        self.require_mutable()?;
        let others = attr.mode.is_some() || attr.uid.is_some() || attr.gid.is_some();
        let times = attr.atime.is_some() || attr.mtime.is_some();
        let chosen = times && attr.times == TimesFrom::Caller;
        if self.has(Flags::APPEND) && (others || chosen || attr.size.is_some()) {
            return Err(Errno::EPERM);
        }
        if let Some(size) = attr.size {
            if self.kind == FileType::Directory {
                return Err(Errno::EISDIR);
            }
            if self.kind != FileType::Regular {
                return Err(Errno::EINVAL);
            }
            self.set_size(size)?;
            if !others && !times {
                return Ok(());
            }
        }
        let mut tx = Tx::begin(&self.fs, INODE_CREDITS)?;
        {
            let mut core = self.core.lock();
            if let Some(mode) = attr.mode {
                core.mode = core.mode & !0o7777 | mode.bits() as u16;
            }
            core.uid = attr.uid.unwrap_or(core.uid);
            core.gid = attr.gid.unwrap_or(core.gid);
            core.atime = attr.atime.unwrap_or(core.atime);
            core.mtime = attr.mtime.unwrap_or(core.mtime);
            core.ctime = Timespec::now();
        }
        if attr.mode.is_some() {
            crate::xattr::acl::mode_changed(&mut tx, self)?;
        }
        tx.write_inode(self)
    }
}
