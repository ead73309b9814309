//! /dev/ubda as an open file: buffered through the page cache, direct with `O_DIRECT`. Its `ioctl`s are in [`super::ioctl`].

use alloc::sync::Arc;
use alloc::vec;
use core::any::Any;
use core::ops::Range;

use super::claim::Claim;
use super::device::BlockDevice;
use crate::io::{Sink, Source};
use crate::page_cache::{ErrorCursor, ReadAhead};
use crate::syscall::Context;
use crate::vfs::file::{Advice, MapBacking, PageSource, WriteAt, Written};
use crate::vfs::{Access, DevT, File, FileOps, OpenFlags};
use crate::{Errno, Result};

/// Most bytes of one step of direct I/O: several requests at once.
const DIRECT_WINDOW: u64 = 4 << 20;

const FALLOC_KEEP_SIZE: u32 = 1;
const FALLOC_PUNCH_HOLE: u32 = 2;
const FALLOC_ZERO_RANGE: u32 = 16;

/// An open disk or partition.
pub struct BlockFile {
    device: Arc<BlockDevice>,
    reader: ReadAhead,
    errors: ErrorCursor,
}

/// Opens the block device `dev`; with `O_EXCL` it is claimed.
///
/// # Errors
/// `ENXIO` without such a device, `EBUSY` when another one has claimed it. A read-only device opens for writing too, as on Linux; its writes give
/// `EPERM`.
pub fn open(dev: DevT, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    super::probe(dev);
    let claim = if flags.contains(OpenFlags::EXCL) {
        Claim::Exclusive
    } else {
        Claim::Shared
    };
    let device = BlockDevice::open(dev, claim)?;
    Ok(Arc::new(BlockFile {
        errors: ErrorCursor::new(Some(device.disk().cache())),
        reader: ReadAhead::new(),
        device,
    }))
}

impl BlockFile {
    /// What it is open on.
    pub fn device(&self) -> &Arc<BlockDevice> {
        &self.device
    }

    fn read_direct(&self, mut pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        let end = pos + dst.remaining() as u64;
        self.device.place(pos, 0)?;
        if !end.is_multiple_of(self.device.limits().logical_block.into()) {
            return Err(Errno::EINVAL);
        }
        let end = end.min(self.device.len());
        let mut done = 0;
        while pos < end {
            let count = (end - pos).min(DIRECT_WINDOW);
            let data = self.device.read_owned(pos, count as usize)?;
            let moved = dst.write(&data)?;
            done += moved;
            pos += moved as u64;
            if (moved as u64) < count {
                break;
            }
        }
        Ok(done)
    }

    /// Writes whole blocks from `src`, `want` bytes at most.
    fn write_direct(&self, pos: u64, want: u64, src: &mut dyn Source) -> Result<usize> {
        let limits = self.device.limits();
        if !(src.remaining() as u64).is_multiple_of(limits.logical_block.into()) {
            return Err(Errno::EINVAL);
        }
        let mut done = 0;
        while done < want {
            let mut batch = self.device.batch();
            let begin = done;
            while done < want && done - begin < DIRECT_WINDOW {
                let count = (want - done).min(limits.max_transfer.into()) as usize;
                let mut data = vec![0; count];
                let got = src.read(&mut data)?;
                data.truncate(got - got % limits.logical_block as usize);
                let taken = data.len();
                if taken > 0 {
                    batch.write(pos + done, data);
                }
                done += taken as u64;
                if taken < count {
                    batch.wait_all()?;
                    return if done == 0 {
                        Err(Errno::EFAULT)
                    } else {
                        Ok(done as usize)
                    };
                }
            }
            batch.wait_all()?;
        }
        Ok(done as usize)
    }
}

impl FileOps for BlockFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, file: &File, pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        let left = self.device.len().saturating_sub(pos);
        if left == 0 || dst.remaining() == 0 {
            return Ok(0);
        }
        if file.flags().contains(OpenFlags::DIRECT) {
            return self.read_direct(pos, dst);
        }
        let left = left.min(dst.remaining() as u64) as usize;
        let cache = self.device.disk().cache();
        cache.read_for(
            &self.reader,
            self.device.start() + pos,
            &mut Limited { inner: dst, left },
        )
    }

    fn write_at(&self, file: &File, pos: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let len = self.device.len();
        let pos = match pos {
            WriteAt::Offset(pos) => pos,
            WriteAt::End => len,
        };
        if self.device.is_read_only() {
            return Err(Errno::EPERM);
        }
        if src.remaining() == 0 {
            return Ok(Written { count: 0, end: pos });
        }
        let want = len.saturating_sub(pos).min(src.remaining() as u64);
        if want == 0 {
            return Err(Errno::ENOSPC);
        }
        let cache = self.device.disk().cache();
        let start = self.device.start() + pos;
        let count = if file.flags().contains(OpenFlags::DIRECT) {
            self.device.place(pos, 0)?;
            self.write_direct(pos, want, src)?
        } else {
            let left = want as usize;
            cache.write(start, &mut Cut { inner: src, left })?
        };
        if file.flags().contains(OpenFlags::DSYNC) {
            let page = crate::page_cache::PAGE;
            cache.write_back(start / page..(start + count as u64).div_ceil(page))?;
            self.device.flush()?;
        }
        Ok(Written {
            count,
            end: pos + count as u64,
        })
    }

    fn ioctl(&self, cx: &Context, file: &File, cmd: u32, arg: u64) -> Result<usize> {
        super::ioctl::ioctl(&self.device, cx, file, cmd, arg)
    }

    fn map(&self, _file: &File, writable: Access) -> Result<MapBacking> {
        if writable.contains(Access::WRITE) && self.device.is_read_only() {
            return Err(Errno::EINVAL);
        }
        let cache = self.device.disk().cache();
        match self.device.part() {
            None => Ok(MapBacking::Cached(cache.clone() as Arc<dyn PageSource>)),
            // A partition that begins inside a page has no pages of its own to show.
            Some(part) => part.window(cache).map(MapBacking::Cached).ok_or(Errno::ENODEV),
        }
    }

    fn sync(&self, _file: &File) -> Result<()> {
        self.device.disk().cache().sync_for(&self.errors)
    }

    fn advise(&self, _file: &File, range: Range<u64>, advice: Advice) -> Result<()> {
        let (start, len) = (self.device.start(), self.device.len());
        let range = start + range.start.min(len)..start + range.end.min(len);
        self.device.disk().cache().advise(&self.reader, range, advice)
    }

    fn fallocate(&self, file: &File, mode: u32, offset: u64, len: u64) -> Result<()> {
        file.require(Access::WRITE)?;
        if mode & !(FALLOC_KEEP_SIZE | FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE) != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        let size = self.device.len();
        let mut end = offset.checked_add(len).ok_or(Errno::EFBIG)?;
        if offset >= size || end > size && mode & FALLOC_KEEP_SIZE == 0 {
            return Err(Errno::EINVAL);
        }
        end = end.min(size);
        self.device.place(offset, end - offset)?;
        if self.device.is_read_only() {
            return Err(Errno::EPERM);
        }
        match mode & !FALLOC_KEEP_SIZE {
            FALLOC_ZERO_RANGE => {}
            FALLOC_PUNCH_HOLE if mode & FALLOC_KEEP_SIZE != 0 => {}
            _ => return Err(Errno::EOPNOTSUPP),
        }
        let driver = self.device.disk().driver();
        if mode & FALLOC_PUNCH_HOLE != 0 && driver.can_discard() && driver.discard_zeroes() {
            return self.device.discard(offset, end - offset);
        }
        self.device.write_zeroes(offset, end - offset)
    }

    fn end(&self, _file: &File) -> Result<u64> {
        Ok(self.device.len())
    }
}

/// A sink that takes only so much: the end of a partition is not the end of its disk.
struct Limited<'a> {
    inner: &'a mut dyn Sink,
    left: usize,
}

impl Sink for Limited<'_> {
    fn remaining(&self) -> usize {
        self.left.min(self.inner.remaining())
    }

    fn write(&mut self, data: &[u8]) -> Result<usize> {
        let count = self.inner.write(&data[..data.len().min(self.left)])?;
        self.left -= count;
        Ok(count)
    }
}

/// A source that gives only so much.
struct Cut<'a> {
    inner: &'a mut dyn Source,
    left: usize,
}

impl Source for Cut<'_> {
    fn remaining(&self) -> usize {
        self.left.min(self.inner.remaining())
    }

    fn read(&mut self, data: &mut [u8]) -> Result<usize> {
        let limit = data.len().min(self.left);
        let count = self.inner.read(&mut data[..limit])?;
        self.left -= count;
        Ok(count)
    }
}
