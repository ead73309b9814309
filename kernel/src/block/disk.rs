//! Registered disks: names, numbers, partitions, counters, and the one page cache of each.
//!
//! A partition is a window on its disk's page cache, so that what is written to /dev/ubda1 is at once what /dev/ubda shows.
//!
//! Lock order: `DISKS` ([`order::DEVICE_REGISTRY`]) before `Disk::partitions` ([`order::BLOCK_DEVICE`]); no I/O under either.

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use arch_um::sync::{SpinLock, order};
use arch_um::time::Instant;

use super::bio::{BlockDriver, Op, submit_and_wait};
use super::partition::{self, Partition};
use crate::device::{self, DeviceNode};
use crate::page_cache::{Backing, PageCache};
use crate::vfs::DevT;
use crate::{Errno, Result};

/// Partitions and the disk itself share this many minor numbers.
pub const MINORS: u32 = 16;

/// What a driver says of a new disk.
pub struct DiskInfo {
    /// `ubda`.
    pub name: String,
    /// Its number; the partitions follow.
    pub dev: DevT,
    /// Length in bytes, a multiple of the sector.
    pub len: u64,
    /// Writes give `EROFS`.
    pub read_only: bool,
    /// Who carries out requests.
    pub driver: Arc<dyn BlockDriver>,
}

/// Counters of /proc/diskstats.
#[derive(Default)]
pub struct Counters {
    /// Completed reads, sectors read, milliseconds spent.
    pub read: [AtomicU64; 3],
    /// The same for writes.
    pub write: [AtomicU64; 3],
    /// The same for discards.
    pub discard: [AtomicU64; 3],
    /// Completed flushes and milliseconds spent.
    pub flush: [AtomicU64; 2],
    /// Requests under way.
    pub in_flight: AtomicI32,
}

/// A registered disk.
pub struct Disk {
    name: String,
    dev: DevT,
    medium: Arc<Medium>,
    cache: Arc<PageCache>,
    partitions: SpinLock<Vec<Partition>>,
    openers: AtomicI32,
}

/// The disk as the page cache sees it.
struct Medium {
    driver: Arc<dyn BlockDriver>,
    len: AtomicU64,
    read_only: AtomicBool,
    counters: Counters,
}

impl Medium {
    fn transfer(&self, op: Op, offset: u64, len: u64, data: Vec<u8>) -> Result<Vec<u8>> {
        let row: &[AtomicU64] = match op {
            Op::Read => &self.counters.read,
            Op::Write | Op::WriteZeroes => &self.counters.write,
            Op::Discard => &self.counters.discard,
            Op::Flush => &self.counters.flush,
        };
        self.counters.in_flight.fetch_add(1, Ordering::Relaxed);
        let start = Instant::now();
        let outcome = submit_and_wait(&self.driver, op, offset, len, data);
        self.counters.in_flight.fetch_sub(1, Ordering::Relaxed);
        row[0].fetch_add(1, Ordering::Relaxed);
        if let [_, sectors, _] = row {
            sectors.fetch_add(len / super::SECTOR, Ordering::Relaxed);
        }
        row[row.len() - 1].fetch_add(start.elapsed().as_millis() as u64, Ordering::Relaxed);
        outcome
    }

    fn writable(&self) -> Result<()> {
        if self.read_only.load(Ordering::Relaxed) {
            Err(Errno::EROFS)
        } else {
            Ok(())
        }
    }
}

impl Backing for Medium {
    fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        let got = self.transfer(Op::Read, at, data.len() as u64, alloc::vec![0; data.len()])?;
        data.copy_from_slice(got.get(..data.len()).ok_or(Errno::EIO)?);
        Ok(())
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        self.writable()?;
        self.transfer(Op::Write, at, data.len() as u64, data.to_vec()).map(drop)
    }

    fn flush(&self) -> Result<()> {
        if self.read_only.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.transfer(Op::Flush, 0, 0, Vec::new()).map(drop)
    }
}

impl Disk {
    /// Its name below /dev.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number.
    pub fn dev(&self) -> DevT {
        self.dev
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.medium.len()
    }

    /// Whether it has no sectors.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether writes are refused.
    pub fn is_read_only(&self) -> bool {
        self.medium.read_only.load(Ordering::Relaxed)
    }

    /// `BLKROSET`.
    pub fn set_read_only(&self, read_only: ReadOnly) {
        self.medium
            .read_only
            .store(read_only == ReadOnly::Yes, Ordering::Relaxed);
    }

    /// Its serial number, if it has one.
    pub fn serial(&self) -> Option<String> {
        self.medium.driver.serial()
    }

    /// Whether discards do something.
    pub fn can_discard(&self) -> bool {
        self.medium.driver.can_discard()
    }

    /// Its page cache.
    pub fn cache(&self) -> &Arc<PageCache> {
        &self.cache
    }

    /// Its counters.
    pub fn counters(&self) -> &Counters {
        &self.medium.counters
    }

    /// Its partitions now.
    pub fn partitions(&self) -> Vec<Partition> {
        self.partitions.lock().clone()
    }

    /// The name of partition `number`: `ubda1`, and `loop0p1` after a digit.
    pub fn partition_name(&self, number: u32) -> String {
        let separator = if self.name.ends_with(|end: char| end.is_ascii_digit()) {
            "p"
        } else {
            ""
        };
        format!("{}{separator}{number}", self.name)
    }

    /// Reads or writes around the cache (`O_DIRECT`); offset and length are whole sectors inside the disk.
    pub fn transfer(&self, op: Op, offset: u64, len: u64, data: Vec<u8>) -> Result<Vec<u8>> {
        if op != Op::Read {
            self.medium.writable()?;
        }
        self.medium.transfer(op, offset, len, data)
    }

    /// Counts an open file.
    pub fn opened(&self) {
        self.openers.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a closed file; the last one writes everything back.
    pub fn closed(&self) {
        if self.openers.fetch_sub(1, Ordering::AcqRel) == 1
            && let Err(error) = self.cache.write_back(0..u64::MAX)
        {
            log::error!("Buffer I/O error on dev {}, lost async page write: {error}", self.name);
        }
    }

    /// Reads the partition table again (`BLKRRPART`).
    ///
    /// # Errors
    /// What reading says; the old table stays.
    pub fn rescan(&self) -> Result<()> {
        let found = partition::scan(self.len(), |at, data| {
            self.cache.read(at, &mut crate::io::SliceSink::new(data)).map(drop)
        })?;
        if !found.is_empty() {
            let names: Vec<_> = found.iter().map(|partition| format!("p{}", partition.number)).collect();
            log::info!(" {}: {}", self.name, names.join(" "));
        }
        let gone = core::mem::replace(&mut *self.partitions.lock(), found.clone());
        self.show_partitions(&gone, &found);
        Ok(())
    }

    /// Changes the list of partitions and the device files with it (`BLKPG`).
    ///
    /// # Errors
    /// What `change` says; then the list stays.
    pub fn change_partitions(&self, change: impl FnOnce(&mut Vec<Partition>) -> Result<()>) -> Result<()> {
        let old = self.partitions();
        let mut new = old.clone();
        change(&mut new)?;
        *self.partitions.lock() = new.clone();
        self.show_partitions(&old, &new);
        Ok(())
    }

    /// Takes away the device files of partitions that are gone, and makes those that are there appear.
    fn show_partitions(&self, old: &[Partition], new: &[Partition]) {
        let gone = old.iter().filter(|old| !new.iter().any(|new| new.number == old.number));
        for partition in gone {
            device::retract(&self.partition_name(partition.number));
        }
        for partition in new {
            self.announce(self.partition_name(partition.number), partition.number);
        }
    }

    /// Makes the device file of the disk (0) or of a partition appear.
    fn announce(&self, name: String, number: u32) {
        let dev = DevT::new(self.dev.major, self.dev.minor + number);
        device::announce(DeviceNode {
            name,
            dev,
            mode: 0o660,
            class: "block",
        });
    }
}

/// An answer to "read-only?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOnly {
    /// Writes give `EROFS`.
    Yes,
    /// Writes are taken.
    No,
}

static DISKS: SpinLock<Vec<Arc<Disk>>> = SpinLock::new(&order::DEVICE_REGISTRY, Vec::new());

/// Adds a disk and reads its partition table.
///
/// # Errors
/// `EBUSY` when name or number are taken; `EMFILE` when the host gives no memory file.
pub fn register(info: DiskInfo) -> Result<Arc<Disk>> {
    let medium = Arc::new(Medium {
        driver: info.driver,
        len: AtomicU64::new(info.len),
        read_only: AtomicBool::new(info.read_only),
        counters: Counters::default(),
    });
    let disk = Arc::new(Disk {
        cache: PageCache::new(&info.name, medium.clone())?,
        name: info.name,
        dev: info.dev,
        medium,
        partitions: SpinLock::new(&order::BLOCK_DEVICE, Vec::new()),
        openers: AtomicI32::new(0),
    });
    let mut disks = DISKS.lock();
    if disks
        .iter()
        .any(|other| other.dev == disk.dev || other.name == disk.name)
    {
        return Err(Errno::EBUSY);
    }
    disks.push(disk.clone());
    drop(disks);
    disk.announce(disk.name.clone(), 0);
    if let Err(error) = disk.rescan() {
        log::warn!("{}: unable to read partition table: {error}", disk.name);
    }
    Ok(disk)
}

/// All disks, in the order they came.
pub fn disks() -> Vec<Arc<Disk>> {
    DISKS.lock().clone()
}

/// The disk and partition number (0: all of it) behind a block device number. `ENXIO` when there is none.
pub fn lookup(dev: DevT) -> Result<(Arc<Disk>, u32)> {
    let owns = |disk: &&Arc<Disk>| {
        dev.major == disk.dev.major && (disk.dev.minor..disk.dev.minor + MINORS).contains(&dev.minor)
    };
    let disk = DISKS.lock().iter().find(owns).cloned().ok_or(Errno::ENXIO)?;
    let number = dev.minor - disk.dev.minor;
    Ok((disk, number))
}

/// The number of the block device called `name` (`ubda`, `ubda1`), if it exists.
pub fn find(name: &str) -> Option<DevT> {
    for disk in disks() {
        if disk.name == name {
            return Some(disk.dev);
        }
        let partition = disk
            .partitions()
            .into_iter()
            .find(|partition| disk.partition_name(partition.number) == name);
        if let Some(partition) = partition {
            return Some(DevT::new(disk.dev.major, disk.dev.minor + partition.number));
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
    for disk in disks() {
        outcome = outcome.and(disk.cache.sync());
    }
    outcome
}
