//! Open regular files and what moves their contents.
//!
//! * [`data`]: the page cache and reading.  * [`write_out`]: writing to the disk.  * [`logged`]: the same through the journal.
//! * [`promise`]: delayed allocation.  * [`size`]: truncation and holes.  * [`fallocate`]: preallocation,
//!   collapse, insert.  * [`seek`]: data and holes.  * [`ioctl`]: flags, extents, trimming.  * [`fsxattr`]: projects.

pub(crate) mod data;
pub(crate) mod fallocate;
pub(crate) mod fiemap;
pub(crate) mod fsxattr;
pub(crate) mod ioctl;
pub(crate) mod logged;
pub(crate) mod promise;
pub(crate) mod seek;
pub(crate) mod size;
pub(crate) mod write_out;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::ops::Range;
use core::sync::atomic::Ordering;

use kernel::io::{Sink, Source};
use kernel::page_cache::{ErrorCursor, PAGE, ReadAhead};
use kernel::syscall::Context;
use kernel::vfs::file::{Advice, MapBacking, SeekTarget, WriteAt, Written};
use kernel::vfs::rw::Bounded;
use kernel::vfs::{Access, File, FileOps, OpenFlags};

use crate::inode::Inode;
use crate::layout::inode::Flags;
use crate::xattr::inline::Home;
use crate::{Errno, Result};

/// Most bytes written before space is promised for the next.
const PIECE: usize = 1 << 20;
/// What `O_DIRECT` must be aligned to.
const DIRECT_ALIGN: u64 = 512;

/// An open regular file.
pub(crate) struct Ext4File {
    inode: Arc<Inode>,
    reader: ReadAhead,
    errors: ErrorCursor,
}

impl Ext4File {
    pub(crate) fn new(inode: Arc<Inode>) -> Self {
        Self {
            errors: ErrorCursor::new(inode.cache_now().as_deref()),
            reader: ReadAhead::new(),
            inode,
        }
    }
}

impl Inode {
    fn write(&self, pos: WriteAt, src: &mut dyn Source, flags: OpenFlags) -> Result<Written> {
        if !self.fs.is_writable() {
            return Err(Errno::EROFS);
        }
        let _data = self.data.write();
        self.require_mutable()?;
        if self.has(Flags::APPEND) && pos != WriteAt::End {
            return Err(Errno::EPERM);
        }
        let start = match pos {
            WriteAt::Offset(at) => at,
            WriteAt::End => self.len_now(),
        };
        let most = self.most_bytes();
        if start >= most {
            return Err(Errno::EFBIG);
        }
        if flags.contains(OpenFlags::DIRECT) && !(start | src.remaining() as u64).is_multiple_of(DIRECT_ALIGN) {
            return Err(Errno::EINVAL);
        }
        let room = usize::try_from(most - start).unwrap_or(usize::MAX);
        let mut src = Bounded { inner: src, left: room };
        let mut at = start;
        let mut outcome = Ok(());
        while src.remaining() > 0 {
            let want = src.remaining().min(PIECE - (at % PIECE as u64) as usize);
            match self.write_piece(at, want, &mut src) {
                Ok(0) => break,
                Ok(count) => at += count as u64,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        if at == start {
            outcome?;
            return Ok(Written { count: 0, end: start });
        }
        self.written_to();
        if flags.contains(OpenFlags::DIRECT)
            && let Some(cache) = self.cache_now()
        {
            cache.write_back(start / PAGE..at.div_ceil(PAGE))?;
        }
        Ok(Written {
            count: (at - start) as usize,
            end: at,
        })
    }

    /// Writes up to `want` bytes at `at`: less when space runs out or the source does.
    fn write_piece(&self, at: u64, want: usize, src: &mut dyn Source) -> Result<usize> {
        let mut count = want;
        let home = self.settle_home(at + count as u64)?;
        let fresh = loop {
            if home == Home::Inode {
                break Vec::new();
            }
            match self.promise(at..at + count as u64) {
                Err(Errno::ENOSPC) if count as u64 > self.fs.block_size() => {
                    let half = at + (count / 2) as u64;
                    let aligned = half / self.fs.block_size() * self.fs.block_size();
                    count = if aligned > at {
                        (aligned - at) as usize
                    } else {
                        (self.fs.block_size() - at % self.fs.block_size()) as usize
                    };
                }
                other => break other?,
            }
        };
        let cache = self.cache();
        let old = self.len_now();
        if at > old {
            self.zero_behind(old)?;
        }
        let end = at + count as u64;
        if end > old {
            self.size.store(end, Ordering::Release);
        }
        let mut bounded = Bounded {
            inner: src,
            left: count,
        };
        let written = cache.write(at, &mut bounded);
        let reached = at + *written.as_ref().unwrap_or(&0) as u64;
        if reached < end {
            if end > old {
                self.size
                    .store(old.max(if reached > at { reached } else { old }), Ordering::Release);
            }
            let keep = if reached > at {
                reached.div_ceil(self.fs.block_size())
            } else {
                0
            };
            for range in fresh {
                self.unpromise(range.start.max(keep)..range.end.max(keep));
            }
        }
        if reached > old {
            self.memory_grew(old)?;
        }
        written
    }

    /// `fsync(2)`, for a file that has been told of the errors up to `errors`.
    pub(crate) fn sync(&self, errors: &ErrorCursor) -> Result<()> {
        self.sync_contents(errors)?;
        self.store()?;
        self.settle(self.last_tid.load(Ordering::Acquire))
    }

    /// `fdatasync(2)`: times and the like may wait.
    pub(crate) fn sync_data(&self, errors: &ErrorCursor) -> Result<()> {
        self.sync_contents(errors)?;
        if self.core.lock().disk_size != self.stored_size.load(Ordering::Acquire) {
            self.store()?;
        }
        self.settle(self.data_tid.load(Ordering::Acquire))
    }

    fn sync_contents(&self, errors: &ErrorCursor) -> Result<()> {
        let Some(cache) = self.cache_now() else {
            return Ok(());
        };
        let written = cache.write_back(0..u64::MAX);
        if cache.dirty_bytes() == 0 {
            self.reached(u64::MAX);
        }
        cache.take_error(errors)?;
        written
    }
}

impl FileOps for Ext4File {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, file: &File, pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        if file.flags().contains(OpenFlags::DIRECT) && !(pos | dst.remaining() as u64).is_multiple_of(DIRECT_ALIGN) {
            return Err(Errno::EINVAL);
        }
        if self.inode.has(Flags::ENCRYPT) {
            return Err(Errno::EOPNOTSUPP);
        }
        let _data = self.inode.data.read();
        if pos >= self.inode.len_now() {
            return Ok(0);
        }
        self.inode.cache().read_for(&self.reader, pos, dst)
    }

    fn write_at(&self, file: &File, pos: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let written = self.inode.write(pos, src, file.flags())?;
        if self.inode.has(Flags::SYNC) {
            self.inode.sync(&self.errors)?;
        }
        Ok(written)
    }

    fn seek(&self, pos: u64, target: SeekTarget) -> Result<u64> {
        self.inode.seek(pos, target)
    }

    fn ioctl(&self, cx: &Context, file: &File, cmd: u32, arg: u64) -> Result<usize> {
        ioctl::run(&self.inode, cx, file, cmd, arg)
    }

    fn map(&self, _file: &File, writable: Access) -> Result<MapBacking> {
        if self.inode.has(Flags::ENCRYPT) {
            return Err(Errno::ENODEV);
        }
        let _data = self.inode.data.write();
        if writable.contains(Access::WRITE) {
            self.inode.leave_inline()?;
        }
        let cache = self.inode.cache();
        self.inode.mapped.store(true, Ordering::Release);
        if !cache.is_shared() {
            cache.share()?;
            self.inode.fs.bound_caches(&self.inode.me);
        }
        cache.resized()?;
        if writable.contains(Access::WRITE) && self.inode.fs.is_writable() {
            // Guests write without telling the inode: write-back looks at it as long as it is mapped.
            self.inode.mark_dirty();
        }
        Ok(MapBacking::Cached(cache))
    }

    fn sync(&self, _file: &File) -> Result<()> {
        self.inode.sync(&self.errors)
    }

    fn advise(&self, _file: &File, range: Range<u64>, advice: Advice) -> Result<()> {
        // Nothing is read while somebody moves the contents.
        let _data = self.inode.data.read();
        match (self.inode.cache_now(), advice) {
            (Some(cache), _) => cache.advise(&self.reader, range, advice),
            (None, Advice::WillNeed) if !self.inode.has(Flags::ENCRYPT) => {
                self.inode.cache().advise(&self.reader, range, advice)
            }
            (None, Advice::Pattern(pattern)) => {
                self.reader.set_pattern(pattern);
                Ok(())
            }
            (None, _) => Ok(()),
        }
    }

    fn sync_data(&self, _file: &File) -> Result<()> {
        self.inode.sync_data(&self.errors)
    }

    fn fallocate(&self, _file: &File, mode: u32, offset: u64, len: u64) -> Result<()> {
        self.inode.fallocate(mode, offset, len)
    }
}
