//! The block `ioctl`s: sizes, write protection, partitions, discards (`linux/fs.h`,
//! `linux/hdreg.h`). The errors are those that Linux's own give.

use alloc::sync::Arc;

use super::SECTOR;
use super::device::BlockDevice;
use super::disk::ReadOnly;
use crate::abi::Abi;
use crate::page_cache::PAGE;
use crate::syscall::Context;
use crate::task::Capabilities;
use crate::user::UserPtr;
use crate::vfs::{Access, File};
use crate::{Errno, Result};

fn answer<T: Abi>(arg: u64, value: T) -> Result<()> {
    UserPtr::<T>::new(arg).write(&value)
}

/// What only the administrator may do: `EACCES` for others.
pub(super) fn admin(cx: &Context) -> Result<()> {
    if cx.task().cred().capable(Capabilities::SYS_ADMIN) {
        Ok(())
    } else {
        Err(Errno::EACCES)
    }
}

/// What concerns all of a disk: `EINVAL` on a partition.
pub(super) fn whole(device: &BlockDevice) -> Result<()> {
    if device.number() == 0 {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

/// The `{start, len}` in bytes that some requests take, of a device open for writing.
fn range(device: &BlockDevice, file: &File, arg: u64) -> Result<(u64, u64)> {
    file.require(Access::WRITE)?;
    if device.is_read_only() {
        return Err(Errno::EPERM);
    }
    let [start, len] = UserPtr::<[u64; 2]>::new(arg).read()?;
    if len == 0 {
        return Err(Errno::EINVAL);
    }
    device.place(start, len)?;
    Ok((start, len))
}

/// The block size that Linux gives a device: the largest up to a page that divides its length.
fn soft_block_size(device: &BlockDevice) -> u32 {
    let mut size = device.limits().logical_block;
    while u64::from(size) < PAGE && device.len().is_multiple_of(2 * u64::from(size)) {
        size *= 2;
    }
    size
}

/// `ioctl(2)` on a block device.
///
/// # Errors
/// `ENOTTY` for what neither the block layer nor the driver knows; `EACCES` without the right.
pub(super) fn ioctl(device: &Arc<BlockDevice>, cx: &Context, file: &File, cmd: u32, arg: u64) -> Result<usize> {
    let disk = device.disk();
    let limits = device.limits();
    match cmd {
        BLKROSET => {
            admin(cx)?;
            let wish = UserPtr::<i32>::new(arg).read()? != 0;
            set_read_only(device, if wish { ReadOnly::Yes } else { ReadOnly::No });
        }
        BLKROGET => answer(arg, i32::from(device.is_read_only()))?,
        BLKRRPART => {
            admin(cx)?;
            whole(device)?;
            if disk.users().is_claimed_beside(device) {
                return Err(Errno::EBUSY);
            }
            disk.cache().write_back(0..u64::MAX)?;
            disk.rescan()?;
        }
        BLKPG => super::blkpg::request(device, cx, arg)?,
        BLKGETSIZE => answer(arg, device.len() / SECTOR)?,
        BLKGETSIZE64 => answer(arg, device.len())?,
        BLKFLSBUF => {
            admin(cx)?;
            disk.cache().sync()?;
            disk.cache().invalidate(device.start()..device.start() + device.len())?;
        }
        BLKRASET | BLKFRASET => {
            admin(cx)?;
            disk.set_read_ahead(arg);
        }
        BLKRAGET | BLKFRAGET => answer(arg, disk.read_ahead())?,
        BLKSSZGET => answer(arg, limits.logical_block)?,
        BLKPBSZGET => answer(arg, limits.physical_block)?,
        BLKIOMIN => answer(arg, limits.io_min)?,
        BLKIOOPT => answer(arg, limits.io_opt)?,
        BLKALIGNOFF | BLKDISCARDZEROES => answer(arg, 0_u32)?,
        BLKBSZGET => answer(arg, soft_block_size(device))?,
        BLKBSZSET => {
            admin(cx)?;
            let size: u32 = UserPtr::new(arg).read()?;
            let fits = limits.logical_block..=PAGE as u32;
            if !size.is_power_of_two() || !fits.contains(&size) {
                return Err(Errno::EINVAL);
            }
        }
        BLKROTATIONAL => answer(arg, 0_u16)?,
        BLKSECTGET => answer(arg, (u64::from(limits.max_transfer) / SECTOR) as u16)?,
        BLKGETZONESZ | BLKGETNRZONES => answer(arg, 0_u32)?,
        BLKGETDISKSEQ => answer(arg, disk.sequence())?,
        BLKDISCARD => {
            file.require(Access::WRITE)?;
            if !device.can_discard() {
                return Err(Errno::EOPNOTSUPP);
            }
            let (start, len) = range(device, file, arg)?;
            device.discard(start, len)?;
        }
        BLKSECDISCARD => {
            file.require(Access::WRITE)?;
            return Err(Errno::EOPNOTSUPP);
        }
        BLKZEROOUT => {
            let (start, len) = range(device, file, arg)?;
            device.write_zeroes(start, len)?;
        }
        HDIO_GETGEO => {
            let geometry = disk.driver().geometry(disk.len()).ok_or(Errno::ENOTTY)?;
            let [low, high] = geometry.cylinders.to_le_bytes();
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&[geometry.heads, geometry.sectors, low, high]);
            bytes[8..].copy_from_slice(&(device.start() / SECTOR).to_le_bytes());
            answer(arg, bytes)?;
        }
        _ => return disk.driver().ioctl(device, cx, file, cmd, arg),
    }
    Ok(0)
}

fn set_read_only(device: &BlockDevice, wish: ReadOnly) {
    match device.part() {
        None => device.disk().set_read_only(wish),
        Some(part) => part
            .read_only()
            .store(wish == ReadOnly::Yes, core::sync::atomic::Ordering::Relaxed),
    }
}

const BLKROSET: u32 = 0x125d;
const BLKROGET: u32 = 0x125e;
const BLKRRPART: u32 = 0x125f;
const BLKGETSIZE: u32 = 0x1260;
const BLKFLSBUF: u32 = 0x1261;
const BLKRASET: u32 = 0x1262;
const BLKRAGET: u32 = 0x1263;
const BLKFRASET: u32 = 0x1264;
const BLKFRAGET: u32 = 0x1265;
const BLKSECTGET: u32 = 0x1267;
const BLKSSZGET: u32 = 0x1268;
const BLKPG: u32 = 0x1269;
const BLKBSZGET: u32 = 0x8008_1270;
const BLKBSZSET: u32 = 0x4008_1271;
const BLKGETSIZE64: u32 = 0x8008_1272;
const BLKDISCARD: u32 = 0x1277;
const BLKIOMIN: u32 = 0x1278;
const BLKIOOPT: u32 = 0x1279;
const BLKALIGNOFF: u32 = 0x127a;
const BLKPBSZGET: u32 = 0x127b;
const BLKDISCARDZEROES: u32 = 0x127c;
const BLKSECDISCARD: u32 = 0x127d;
const BLKROTATIONAL: u32 = 0x127e;
const BLKZEROOUT: u32 = 0x127f;
const BLKGETDISKSEQ: u32 = 0x8008_1280;
const BLKGETZONESZ: u32 = 0x8004_1284;
const BLKGETNRZONES: u32 = 0x8004_1285;
const HDIO_GETGEO: u32 = 0x0301;
