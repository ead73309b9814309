//! The table of all disks: registered and unregistered by drivers, found by number and by name.
//!
//! Lock order: `DISKS` ([`order::DEVICE_REGISTRY`]) is held for a look or a change of the list only.

use alloc::sync::Arc;
use alloc::vec::Vec;

use arch_um::sync::{SpinLock, order};

use super::disk::{Disk, DiskInfo, MINORS, PartitionScan, announce};
use crate::device;
use crate::vfs::DevT;
use crate::{Errno, Result};

static DISKS: SpinLock<Vec<Arc<Disk>>> = SpinLock::new(&order::DEVICE_REGISTRY, Vec::new());

/// Adds a disk with [`MINORS`] numbers and reads its partition table.
///
/// # Errors
/// `EBUSY` when name or number are taken.
pub fn register(info: DiskInfo) -> Result<Arc<Disk>> {
    register_with(info, MINORS, PartitionScan::Yes)
}

/// As [`register`], for a driver whose disks have `minors` numbers of their own; further partitions get numbers of [`EXTENDED_MAJOR`].
///
/// # Errors
/// As [`register`].
pub fn register_with(info: DiskInfo, minors: u32, scan: PartitionScan) -> Result<Arc<Disk>> {
    let disk = Arc::new(Disk::new(info, minors, scan));
    let mut disks = DISKS.lock();
    if disks
        .iter()
        .any(|other| other.dev() == disk.dev() || other.name() == disk.name())
    {
        return Err(Errno::EBUSY);
    }
    disks.push(disk.clone());
    drop(disks);
    announce(disk.name().into(), disk.dev());
    if scan == PartitionScan::Yes
        && let Err(error) = disk.rescan()
    {
        log::warn!("{}: unable to read partition table: {error}", disk.name());
    }
    Ok(disk)
}

/// Takes a disk away again: its name, its number, its partitions; what was dirty is written (mconsole's `remove`, `LOOP_CTL_REMOVE`).
///
/// # Errors
/// `EBUSY` while the disk or a partition is open or mounted; what writing the dirty blocks says: then the disk stays.
pub fn unregister(disk: &Arc<Disk>) -> Result<()> {
    disk.users().retire()?;
    disk.cache().sync().inspect_err(|_| disk.users().readmit())?;
    disk.drop_partitions();
    device::retract(disk.name());
    DISKS.lock().retain(|other| !Arc::ptr_eq(other, disk));
    Ok(())
}

/// All disks, in the order they came.
pub fn disks() -> Vec<Arc<Disk>> {
    DISKS.lock().clone()
}

/// The disk and partition number (0: all of it) behind a block device number. `ENXIO` when there is none.
pub fn lookup(dev: DevT) -> Result<(Arc<Disk>, u32)> {
    for disk in disks() {
        let own = disk.dev().minor..disk.dev().minor + disk.minors();
        if dev.major == disk.dev().major && own.contains(&dev.minor) {
            let number = dev.minor - disk.dev().minor;
            return Ok((disk, number));
        }
        let part = disk.parts().into_iter().find(|part| part.dev() == dev);
        if let Some(part) = part {
            return Ok((disk, part.number()));
        }
    }
    Err(Errno::ENXIO)
}

/// The number of the block device called `name` (`ubda`, `ubda1`), if it exists.
pub fn find(name: &str) -> Option<DevT> {
    for disk in disks() {
        if disk.name() == name {
            return Some(disk.dev());
        }
        let mut parts = disk.parts().into_iter();
        let part = parts.find(|part| disk.partition_name(part.number()) == name);
        if let Some(part) = part {
            return Some(part.dev());
        }
    }
    None
}

/// Writes all dirty blocks of all disks to stable storage (`sync(2)`).
///
/// # Errors
/// The first one met; the other disks are written all the same.
pub fn sync_all() -> Result<()> {
    let mut outcome = Ok(());
    for disk in disks().iter().filter(|disk| !disk.is_empty()) {
        outcome = outcome.and(disk.cache().sync());
    }
    outcome
}
