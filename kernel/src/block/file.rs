//! /dev/ubda as an open file: buffered through the page cache, direct with `O_DIRECT`, and the block `ioctl`s.

use alloc::sync::Arc;
use alloc::vec;
use core::any::Any;

use super::SECTOR;
use super::bio::Op;
use super::disk::{Disk, ReadOnly, lookup};
use crate::io::{Sink, SliceSource, Source};
use crate::syscall::Context;
use crate::task::Capabilities;
use crate::user::UserPtr;
use crate::vfs::file::{MapBacking, PageSource, WriteAt, Written};
use crate::vfs::{Access, DevT, File, FileOps, OpenFlags};
use crate::{Errno, Result};

/// Most bytes of one direct request.
const DIRECT_WINDOW: u64 = 1 << 20;

/// An open disk or partition.
pub struct BlockFile {
    disk: Arc<Disk>,
    number: u32,
}

/// Opens the block device `dev`.
///
/// # Errors
/// `ENXIO` without such a device. One that is read-only opens for writing too, as on Linux; its writes give `EPERM`.
pub fn open(dev: DevT) -> Result<Arc<dyn FileOps>> {
    let (disk, number) = lookup(dev)?;
    if number > 0 && !disk.partitions().iter().any(|partition| partition.number == number) {
        return Err(Errno::ENXIO);
    }
    disk.opened();
    Ok(Arc::new(BlockFile { disk, number }))
}

impl Drop for BlockFile {
    fn drop(&mut self) {
        self.disk.closed();
    }
}

impl BlockFile {
    /// The disk behind it.
    pub fn disk(&self) -> &Arc<Disk> {
        &self.disk
    }

    /// First byte on the disk and length; a partition that is gone has none.
    fn extent(&self) -> (u64, u64) {
        if self.number == 0 {
            return (0, self.disk.len());
        }
        let partition = self
            .disk
            .partitions()
            .into_iter()
            .find(|partition| partition.number == self.number);
        partition.map_or((0, 0), |partition| (partition.start, partition.len))
    }

    /// `O_DIRECT` wants whole sectors.
    fn check_direct(&self, pos: u64, len: u64) -> Result<()> {
        if pos.is_multiple_of(SECTOR) && len.is_multiple_of(SECTOR) {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// The range of an ioctl that takes `{start, len}` in bytes, as offsets on the disk.
    fn range(&self, cx: &Context, file: &File, arg: u64) -> Result<(u64, u64)> {
        let _ = cx;
        file.require(Access::WRITE)?;
        let [start, len] = UserPtr::<[u64; 2]>::new(arg).read()?;
        let (base, size) = self.extent();
        self.check_direct(start, len)?;
        match start.checked_add(len) {
            Some(end) if end <= size && len > 0 => Ok((base + start, len)),
            _ => Err(Errno::EINVAL),
        }
    }
}

impl FileOps for BlockFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, file: &File, pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        let (base, len) = self.extent();
        let left = len.saturating_sub(pos);
        let want = left.min(dst.remaining() as u64);
        if want == 0 {
            return Ok(0);
        }
        if !file.flags().contains(OpenFlags::DIRECT) {
            return self.disk.cache().read(
                base + pos,
                &mut Limited {
                    inner: dst,
                    left: want as usize,
                },
            );
        }
        self.check_direct(pos, dst.remaining() as u64)?;
        self.disk.cache().write_back(pages(base + pos, want))?;
        let mut done = 0;
        while done < want {
            let count = (want - done).min(DIRECT_WINDOW);
            let data = self
                .disk
                .transfer(Op::Read, base + pos + done, count, vec![0; count as usize])?;
            let moved = dst.write(&data)?;
            done += moved as u64;
            if (moved as u64) < count {
                break;
            }
        }
        Ok(done as usize)
    }

    fn write_at(&self, file: &File, pos: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let (base, len) = self.extent();
        let pos = match pos {
            WriteAt::Offset(pos) => pos,
            WriteAt::End => len,
        };
        if self.disk.is_read_only() {
            return Err(Errno::EPERM);
        }
        let want = len.saturating_sub(pos).min(src.remaining() as u64);
        if src.remaining() == 0 {
            return Ok(Written { count: 0, end: pos });
        }
        if want == 0 {
            return Err(Errno::ENOSPC);
        }
        let mut done = 0;
        let direct = file.flags().contains(OpenFlags::DIRECT);
        if direct {
            self.check_direct(pos, src.remaining() as u64)?;
            self.disk.cache().invalidate(base + pos..base + pos + want)?;
        }
        while done < want {
            let count = (want - done).min(DIRECT_WINDOW) as usize;
            let mut data = vec![0; count];
            let got = src.read(&mut data)?;
            if got == 0 {
                break;
            }
            let at = base + pos + done;
            if direct {
                data.truncate(got - got % SECTOR as usize);
                self.disk.transfer(Op::Write, at, data.len() as u64, data)?;
            } else {
                self.disk.cache().write(at, &mut SliceSource::new(&data[..got]))?;
            }
            done += got as u64;
        }
        if file.flags().intersects(OpenFlags::DSYNC) {
            self.disk.cache().sync()?;
        }
        Ok(Written {
            count: done as usize,
            end: pos + done,
        })
    }

    fn ioctl(&self, cx: &Context, file: &File, cmd: u32, arg: u64) -> Result<usize> {
        let (start, len) = self.extent();
        let admin = || {
            if cx.task().cred().capable(Capabilities::SYS_ADMIN) {
                Ok(())
            } else {
                Err(Errno::EACCES)
            }
        };
        match cmd {
            ioctl::BLKROSET => {
                admin()?;
                let wish: i32 = UserPtr::new(arg).read()?;
                self.disk
                    .set_read_only(if wish != 0 { ReadOnly::Yes } else { ReadOnly::No });
            }
            ioctl::BLKROGET => UserPtr::<i32>::new(arg).write(&i32::from(self.disk.is_read_only()))?,
            ioctl::BLKRRPART => {
                admin()?;
                if self.number != 0 {
                    return Err(Errno::EINVAL);
                }
                self.disk.cache().write_back(0..u64::MAX)?;
                self.disk.rescan()?;
            }
            ioctl::BLKPG => {
                admin()?;
                if self.number != 0 {
                    return Err(Errno::EINVAL);
                }
                super::blkpg::request(&self.disk, arg)?;
            }
            ioctl::BLKGETSIZE => UserPtr::<u64>::new(arg).write(&(len / SECTOR))?,
            ioctl::BLKGETSIZE64 => UserPtr::<u64>::new(arg).write(&len)?,
            ioctl::BLKFLSBUF => {
                admin()?;
                self.disk.cache().sync()?;
                self.disk.cache().invalidate(start..start + len)?;
            }
            ioctl::BLKRASET | ioctl::BLKFRASET => admin()?,
            ioctl::BLKRAGET | ioctl::BLKFRAGET => UserPtr::<u64>::new(arg).write(&256)?,
            ioctl::BLKSSZGET | ioctl::BLKIOMIN => UserPtr::<u32>::new(arg).write(&(SECTOR as u32))?,
            ioctl::BLKPBSZGET => UserPtr::<u32>::new(arg).write(&(SECTOR as u32))?,
            ioctl::BLKIOOPT | ioctl::BLKALIGNOFF | ioctl::BLKDISCARDZEROES => UserPtr::<u32>::new(arg).write(&0)?,
            ioctl::BLKBSZGET => UserPtr::<u32>::new(arg).write(&4096)?,
            ioctl::BLKBSZSET => {
                admin()?;
                let size: u32 = UserPtr::new(arg).read()?;
                if !size.is_power_of_two() || !(512..=4096).contains(&size) {
                    return Err(Errno::EINVAL);
                }
            }
            ioctl::BLKROTATIONAL => UserPtr::<u16>::new(arg).write(&0)?,
            ioctl::BLKSECTGET => UserPtr::<u16>::new(arg).write(&((DIRECT_WINDOW / SECTOR) as u16))?,
            ioctl::BLKDISCARD | ioctl::BLKSECDISCARD | ioctl::BLKZEROOUT => {
                let (at, count) = self.range(cx, file, arg)?;
                let op = if cmd == ioctl::BLKZEROOUT {
                    Op::WriteZeroes
                } else {
                    Op::Discard
                };
                if cmd == ioctl::BLKSECDISCARD || op == Op::Discard && !self.disk.can_discard() {
                    return Err(Errno::EOPNOTSUPP);
                }
                self.disk.cache().invalidate(at..at + count)?;
                self.disk.transfer(op, at, count, vec![])?;
            }
            ioctl::HDIO_GETGEO => {
                // The geometry UML invents: 128 heads, 32 sectors.
                let cylinders = (self.disk.len() / SECTOR / (128 * 32)).min(0xffff) as u16;
                let [low, high] = cylinders.to_le_bytes();
                let mut geometry = [0; 16];
                geometry[..4].copy_from_slice(&[128, 32, low, high]);
                geometry[8..].copy_from_slice(&(start / SECTOR).to_le_bytes());
                UserPtr::<[u8; 16]>::new(arg).write(&geometry)?;
            }
            ioctl::BLKGETDISKSEQ => UserPtr::<u64>::new(arg).write(&u64::from(self.disk.dev().minor / 16 + 1))?,
            _ => return Err(Errno::ENOTTY),
        }
        Ok(0)
    }

    fn map(&self, _file: &File, writable: Access) -> Result<MapBacking> {
        if writable.contains(Access::WRITE) && self.disk.is_read_only() {
            return Err(Errno::EINVAL);
        }
        if self.extent().0.is_multiple_of(crate::page_cache::PAGE) && self.number == 0 {
            Ok(MapBacking::Cached(self.disk.cache().clone() as Arc<dyn PageSource>))
        } else {
            Err(Errno::ENODEV)
        }
    }

    fn sync(&self, _file: &File) -> Result<()> {
        self.disk.cache().sync()
    }

    fn end(&self, _file: &File) -> Result<u64> {
        Ok(self.extent().1)
    }
}

/// The pages that hold `len` bytes from `at` on.
fn pages(at: u64, len: u64) -> core::ops::Range<u64> {
    at / crate::page_cache::PAGE..(at + len).div_ceil(crate::page_cache::PAGE)
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

/// The block `ioctl` numbers (`linux/fs.h`, `linux/hdreg.h`).
#[allow(missing_docs)]
pub mod ioctl {
    pub const BLKROSET: u32 = 0x125d;
    pub const BLKROGET: u32 = 0x125e;
    pub const BLKRRPART: u32 = 0x125f;
    pub const BLKGETSIZE: u32 = 0x1260;
    pub const BLKFLSBUF: u32 = 0x1261;
    pub const BLKRASET: u32 = 0x1262;
    pub const BLKRAGET: u32 = 0x1263;
    pub const BLKFRASET: u32 = 0x1264;
    pub const BLKFRAGET: u32 = 0x1265;
    pub const BLKSECTGET: u32 = 0x1267;
    pub const BLKPG: u32 = 0x1269;
    pub const BLKSSZGET: u32 = 0x1268;
    pub const BLKBSZGET: u32 = 0x8008_1270;
    pub const BLKBSZSET: u32 = 0x4008_1271;
    pub const BLKGETSIZE64: u32 = 0x8008_1272;
    pub const BLKDISCARD: u32 = 0x1277;
    pub const BLKIOMIN: u32 = 0x1278;
    pub const BLKIOOPT: u32 = 0x1279;
    pub const BLKALIGNOFF: u32 = 0x127a;
    pub const BLKPBSZGET: u32 = 0x127b;
    pub const BLKDISCARDZEROES: u32 = 0x127c;
    pub const BLKSECDISCARD: u32 = 0x127d;
    pub const BLKROTATIONAL: u32 = 0x127e;
    pub const BLKZEROOUT: u32 = 0x127f;
    pub const BLKGETDISKSEQ: u32 = 0x8008_1280;
    pub const HDIO_GETGEO: u32 = 0x0301;
}
