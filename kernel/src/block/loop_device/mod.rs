//! Loop devices: a file (or another block device) as a disk (`loop(4)`).
//!
//! A [`LoopDevice`] is the driver of /dev/loopN. While it is bound to a file, a kernel thread of its own ([`worker`]) turns requests into calls of the
//! file, which may sleep; so a loop on a loop has two threads and cannot wait for itself. [`control`] keeps the list and /dev/loop-control, [`calls`] are
//! the `ioctl`s, [`attributes`] the directory /sys/block/loopN/loop.
//!
//! Lock order: `LoopDevice::change` (sleeping, one configuration at a time) before everything of the disk; `LoopDevice::binding` is a leaf.

mod abi;
mod attributes;
mod calls;
pub mod control;
mod worker;

use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use arch_um::sync::{LockClass, Mutex, SpinLock, order};

use self::abi::{LoopFlags, Settings};
use self::worker::Work;
use super::SECTOR;
use super::bio::{Bio, BlockDriver, Geometry, Limits};
use super::device::BlockDevice;
use super::disk::{Disk, PartitionScan, ReadOnly};
use super::file::BlockFile;
use crate::page_cache::PAGE;
use crate::syscall::Context;
use crate::vfs::{Access, File, FileType};
use crate::{Errno, Result};

pub use control::init;

/// The block major number of loop devices.
pub const LOOP_MAJOR: u32 = 7;
/// Longest chain of loops on loops that is followed.
const MOST_NESTED: u32 = 32;

/// `LoopDevice::change`: outer to a scan for partitions.
static CHANGE: LockClass = LockClass::new("LOOP", 53);

/// What a device shows.
struct Binding {
    file: Arc<File>,
    settings: Settings,
    work: Arc<Work>,
}

/// One loop device, bound or free.
pub struct LoopDevice {
    number: u32,
    disk: spin::Once<Weak<Disk>>,
    change: Mutex<()>,
    binding: SpinLock<Option<Arc<Binding>>>,
    block_size: AtomicU32,
    /// Cleared when the file turns out not to know holes.
    discards: AtomicBool,
}

impl LoopDevice {
    fn new(number: u32) -> Arc<Self> {
        Arc::new(Self {
            number,
            disk: spin::Once::new(),
            change: Mutex::new(&CHANGE, ()),
            binding: SpinLock::new(&order::LEAF, None),
            block_size: AtomicU32::new(SECTOR as u32),
            discards: AtomicBool::new(true),
        })
    }

    fn disk(&self) -> Result<Arc<Disk>> {
        self.disk.get().and_then(Weak::upgrade).ok_or(Errno::ENXIO)
    }

    fn name(&self) -> String {
        format!("loop{}", self.number)
    }

    fn binding(&self) -> Option<Arc<Binding>> {
        self.binding.lock().clone()
    }

    /// The binding of a device that must have one: `ENXIO`.
    fn bound(&self) -> Result<Arc<Binding>> {
        self.binding().ok_or(Errno::ENXIO)
    }

    /// Binds `file` (`LOOP_CONFIGURE`). `opener` is what the device was opened for: without writing the disk is read-only.
    ///
    /// # Errors
    /// `EBUSY` when it is bound or claimed; `EINVAL` for what is no file or a block size that is none; `EBADF` for a loop over itself.
    fn bind(
        self: &Arc<Self>,
        file: Arc<File>,
        opener: Access,
        mut settings: Settings,
        block_size: Option<u32>,
    ) -> Result<()> {
        let change = self.change.lock();
        let disk = self.disk()?;
        if self.binding().is_some() || disk.users().is_claimed(0) {
            return Err(Errno::EBUSY);
        }
        self.check_file(&file)?;
        let below = file.ops_as::<BlockFile>().map(|file| file.device().clone());
        let default = below
            .as_ref()
            .map_or(SECTOR as u32, |below| below.limits().logical_block);
        let block_size = block_size.unwrap_or(default);
        check_block_size(block_size)?;
        let writable = file.access().contains(Access::WRITE)
            && opener.contains(Access::WRITE)
            && below.is_none_or(|below| !below.is_read_only());
        settings.flags.set(
            LoopFlags::READ_ONLY,
            !writable || settings.flags.contains(LoopFlags::READ_ONLY),
        );
        let len = disk_len(&file, &settings)?;
        self.discards.store(true, Ordering::Relaxed);
        self.block_size.store(block_size, Ordering::Relaxed);
        let work = Work::start(self)?;
        *self.binding.lock() = Some(Arc::new(Binding { file, settings, work }));
        let read_only = settings.flags.contains(LoopFlags::READ_ONLY);
        disk.set_read_only(if read_only { ReadOnly::Yes } else { ReadOnly::No });
        disk.medium_changed()?;
        self.set_len(&disk, len)?;
        attributes::add(self);
        self.apply_scan(&disk, settings.flags);
        drop(change);
        Ok(())
    }

    /// `EINVAL` unless `file` is a regular file or a block device; `EBADF` when this device lies below it.
    fn check_file(&self, file: &File) -> Result<()> {
        if file.is_path_only() {
            return Err(Errno::EBADF);
        }
        let kind = file.path().map(|path| path.dentry.kind());
        if !matches!(kind, Some(FileType::Regular | FileType::BlockDevice)) {
            return Err(Errno::EINVAL);
        }
        let own = self.disk()?;
        let mut below = file.ops_as::<BlockFile>().map(|file| file.device().disk().clone());
        for _ in 0..MOST_NESTED {
            let Some(disk) = below else { return Ok(()) };
            if Arc::ptr_eq(&disk, &own) {
                return Err(Errno::EBADF);
            }
            let Some(inner) = control::find_disk(&disk) else {
                return Ok(());
            };
            let Some(binding) = inner.binding() else {
                return Err(Errno::EINVAL);
            };
            below = binding
                .file
                .ops_as::<BlockFile>()
                .map(|file| file.device().disk().clone());
        }
        Err(Errno::EBADF)
    }

    /// Lets the file go (`LOOP_CLR_FD`, the last close with `LO_FLAGS_AUTOCLEAR`). `ENXIO` when there is none.
    fn clear(&self) -> Result<()> {
        let change = self.change.lock();
        let binding = self.bound()?;
        let disk = self.disk()?;
        if let Err(error) = disk.cache().write_back(0..u64::MAX) {
            log::error!(
                "Buffer I/O error on dev {}, lost async page write: {error}",
                disk.name()
            );
        }
        disk.drop_partitions();
        disk.set_partition_scan(PartitionScan::No);
        attributes::remove(self);
        binding.work.stop();
        // The file is closed after the lock is gone: that may be the end of another loop device.
        let gone = self.binding.lock().take();
        self.block_size.store(SECTOR as u32, Ordering::Relaxed);
        disk.set_read_only(ReadOnly::No);
        let emptied = disk.medium_changed().and_then(|()| disk.set_len(0));
        drop(change);
        drop(binding);
        drop(gone);
        emptied
    }

    /// Replaces the settings (`LOOP_SET_STATUS`): another place in the file, or other flags.
    fn change_settings(&self, change: impl FnOnce(&Settings) -> Result<Settings>) -> Result<()> {
        let _change = self.change.lock();
        let binding = self.bound()?;
        let disk = self.disk()?;
        let old = binding.settings;
        let settings = change(&old)?;
        let len = disk_len(&binding.file, &settings)?;
        let moved = old.offset != settings.offset || old.size_limit != settings.size_limit;
        if moved {
            disk.cache().sync()?;
        }
        self.rebind(&binding, binding.file.clone(), settings);
        if moved {
            disk.medium_changed()?;
            self.set_len(&disk, len)?;
        }
        if settings.flags.contains(LoopFlags::PARTITION_SCAN) && !old.flags.contains(LoopFlags::PARTITION_SCAN) {
            self.apply_scan(&disk, settings.flags);
        }
        Ok(())
    }

    fn rebind(&self, binding: &Binding, file: Arc<File>, settings: Settings) {
        let next = Arc::new(Binding {
            file,
            settings,
            work: binding.work.clone(),
        });
        let old = self.binding.lock().replace(next);
        drop(old);
    }

    /// Another file of the same length under a read-only device (`LOOP_CHANGE_FD`).
    fn change_file(&self, file: Arc<File>) -> Result<()> {
        let change = self.change.lock();
        let binding = self.bound()?;
        if !binding.settings.flags.contains(LoopFlags::READ_ONLY) {
            return Err(Errno::EINVAL);
        }
        self.check_file(&file)?;
        let disk = self.disk()?;
        if disk_len(&file, &binding.settings)? != disk.len() {
            return Err(Errno::EINVAL);
        }
        self.rebind(&binding, file, binding.settings);
        disk.medium_changed()?;
        if binding.settings.flags.contains(LoopFlags::PARTITION_SCAN) {
            self.apply_scan(&disk, binding.settings.flags);
        }
        drop(change);
        // `binding` holds the old file: closed here, without the lock.
        drop(binding);
        Ok(())
    }

    /// The file has another length now (`LOOP_SET_CAPACITY`).
    fn update_len(&self) -> Result<()> {
        let _change = self.change.lock();
        let binding = self.bound()?;
        let len = disk_len(&binding.file, &binding.settings)?;
        self.set_len(&*self.disk()?, len)
    }

    /// `LOOP_SET_BLOCK_SIZE`.
    fn set_block_size(&self, size: u32) -> Result<()> {
        let _change = self.change.lock();
        self.bound()?;
        check_block_size(size)?;
        let disk = self.disk()?;
        disk.cache().sync()?;
        self.block_size.store(size, Ordering::Relaxed);
        disk.medium_changed()
    }

    fn set_len(&self, disk: &Disk, len: u64) -> Result<()> {
        let old = disk.len();
        disk.set_len(len)?;
        if old != len {
            log::info!(
                "{}: detected capacity change from {} to {}",
                disk.name(),
                old / SECTOR,
                len / SECTOR
            );
        }
        Ok(())
    }

    fn apply_scan(&self, disk: &Disk, flags: LoopFlags) {
        if !flags.contains(LoopFlags::PARTITION_SCAN) {
            return;
        }
        disk.set_partition_scan(PartitionScan::Yes);
        if let Err(error) = disk.rescan() {
            log::warn!("{}: partition scan failed: {error}", disk.name());
        }
    }
}

/// Bytes of the disk: what is left of the file behind the offset, at most the limit, whole sectors.
fn disk_len(file: &File, settings: &Settings) -> Result<u64> {
    let end = file.ops().end(file)?;
    let mut len = end.saturating_sub(settings.offset);
    if settings.size_limit > 0 {
        len = len.min(settings.size_limit);
    }
    Ok(len / SECTOR * SECTOR)
}

fn check_block_size(size: u32) -> Result<()> {
    if size.is_power_of_two() && (SECTOR..=PAGE).contains(&u64::from(size)) {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

impl BlockDriver for LoopDevice {
    fn submit(&self, bio: Bio) {
        match self.binding() {
            Some(binding) => binding.work.push(bio),
            None => bio.complete(Err(Errno::EIO)),
        }
    }

    fn can_discard(&self) -> bool {
        self.discards.load(Ordering::Relaxed) && self.binding().is_some_and(|binding| binding.can_write())
    }

    fn limits(&self) -> Limits {
        let block = self.block_size.load(Ordering::Relaxed);
        Limits {
            logical_block: block,
            physical_block: block,
            io_min: block,
            discard_granularity: block.max(PAGE as u32),
            ..Limits::default()
        }
    }

    fn released(&self) {
        let wanted = self
            .binding()
            .is_some_and(|binding| binding.settings.flags.contains(LoopFlags::AUTOCLEAR));
        let unused = self.disk().is_ok_and(|disk| disk.users().count() == 0);
        if wanted && unused {
            // ENXIO: somebody else was faster.
            let _ = self.clear();
        }
    }

    fn discard_zeroes(&self) -> bool {
        true
    }

    fn geometry(&self, _len: u64) -> Option<Geometry> {
        None
    }

    fn ioctl(&self, device: &Arc<BlockDevice>, cx: &Context, file: &File, cmd: u32, arg: u64) -> Result<usize> {
        let own = control::find(self.number).ok_or(Errno::ENXIO)?;
        calls::ioctl(&own, device, cx, file, cmd, arg)
    }
}

impl Binding {
    fn can_write(&self) -> bool {
        !self.settings.flags.contains(LoopFlags::READ_ONLY)
    }
}
