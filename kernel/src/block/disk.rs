//! A disk: name, numbers, partitions, counters, and its one page cache. The table of all disks is [`super::registry`].
//!
//! A partition is a window on its disk's page cache, so that what is written to /dev/ubda1 is at once what /dev/ubda shows. What an open file or a
//! mount holds is a [`BlockDevice`](super::device::BlockDevice); who may open what is in [`super::claim`].
//!
//! Lock order: `Disk::scanning` (sleeping, held over one change of the partitions) before `Medium::parts` ([`order::BLOCK_DEVICE`]), which is held for a look
//! or a change of the list.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arch_um::sync::{LockClass, Mutex, SpinLock, order};

use super::batch::Batch;
use super::bio::{Bio, BioFlags, BlockDriver, Limits, Op};
use super::claim::Users;
use super::part::extended_number;
use super::partition::{self, Partition};
use super::queue::Queue;
use super::stats::Counters;
use crate::device::{self, DeviceNode};
use crate::page_cache::{Backing, PAGE, PageCache, ReadDone, buffers};
use crate::vfs::DevT;
use crate::{Errno, Result};

pub use super::part::{EXTENDED_MAJOR, Part};
pub use super::registry::{disks, find, lookup, register, register_with, sync_all, unregister};

/// Disks of ubd and their partitions share this many minor numbers.
pub const MINORS: u32 = 16;

/// Whether a new disk is looked through for partitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionScan {
    /// At once and by `BLKRRPART`.
    Yes,
    /// Never, until it is allowed (loop devices).
    No,
}

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

/// A registered disk.
pub struct Disk {
    name: String,
    dev: DevT,
    minors: u32,
    medium: Arc<Medium>,
    cache: Arc<PageCache>,
    users: Users,
    scan: AtomicBool,
    scanning: Mutex<()>,
    sequence: AtomicU64,
    read_ahead: AtomicU64,
}

/// The disk as the page cache sees it.
pub(super) struct Medium {
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    len: AtomicU64,
    read_only: AtomicBool,
    parts: SpinLock<Vec<Arc<Part>>>,
}

/// `Disk::scanning`: held over reads of the partition table and announcements.
static SCANNING: LockClass = LockClass::new("PARTITION_SCAN", 55);

impl Medium {
    /// Hands bios in, each counted for the partition it begins in.
    pub(super) fn submit(&self, mut bios: Vec<Bio>) {
        let parts = self.parts.lock();
        if !parts.is_empty() {
            for bio in bios.iter_mut().filter(|bio| bio.op != Op::Flush) {
                let owner = parts.iter().find(|part| {
                    let info = part.info();
                    (info.start..info.start + info.len).contains(&bio.offset)
                });
                bio.partition = owner.map(|part| part.counters().clone());
            }
        }
        drop(parts);
        self.queue.submit(bios);
    }

    fn writable(&self) -> Result<()> {
        if self.read_only.load(Ordering::Relaxed) {
            Err(Errno::EROFS)
        } else {
            Ok(())
        }
    }

    /// One request, waited for.
    fn transfer(&self, op: Op, at: u64, len: u64, data: Vec<u8>) -> Result<Vec<u8>> {
        let mut batch = Batch::on(self);
        batch.add(op, BioFlags::empty(), at, len, data);
        batch.wait().pop().unwrap_or(Err(Errno::EIO))
    }
}

impl Backing for Medium {
    fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }

    fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        let got = self.read_owned(at, data.len())?;
        data.copy_from_slice(got.get(..data.len()).ok_or(Errno::EIO)?);
        Ok(())
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        self.writable()?;
        self.transfer(Op::Write, at, data.len() as u64, data.to_vec()).map(drop)
    }

    fn read_owned(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        self.transfer(Op::Read, at, len as u64, buffers::take(len))
    }

    fn start_read(&self, at: u64, len: usize, done: ReadDone) {
        let mut batch = Batch::on(self);
        batch.read_ahead(at, len);
        batch.start(Box::new(|mut outcomes| {
            done(outcomes.pop().unwrap_or(Err(Errno::EIO)));
        }));
    }

    fn write_runs(&self, runs: Vec<(u64, Vec<u8>)>) -> Vec<Result<()>> {
        if let Err(error) = self.writable() {
            return alloc::vec![Err(error); runs.len()];
        }
        let mut batch = Batch::on(self);
        for (at, data) in runs {
            batch.write(at, data);
        }
        batch
            .wait()
            .into_iter()
            .map(|outcome| outcome.map(buffers::give))
            .collect()
    }

    fn flush(&self) -> Result<()> {
        // Without sectors (a free loop device) there is nothing, and nobody, to flush.
        if self.read_only.load(Ordering::Relaxed) || self.len() == 0 {
            return Ok(());
        }
        self.transfer(Op::Flush, 0, 0, Vec::new()).map(drop)
    }
}

impl Disk {
    /// A disk that nobody knows yet.
    pub(super) fn new(info: DiskInfo, minors: u32, scan: PartitionScan) -> Self {
        let counters: Arc<Counters> = Arc::default();
        let medium = Arc::new(Medium {
            queue: Queue::new(info.driver, counters.clone()),
            counters,
            len: AtomicU64::new(info.len),
            read_only: AtomicBool::new(info.read_only),
            parts: SpinLock::new(&order::BLOCK_DEVICE, Vec::new()),
        });
        Self {
            cache: PageCache::new(&info.name, medium.clone()),
            name: info.name,
            dev: info.dev,
            minors,
            medium,
            users: Users::default(),
            scan: AtomicBool::new(scan == PartitionScan::Yes),
            scanning: Mutex::new(&SCANNING, ()),
            sequence: AtomicU64::new(next_sequence()),
            read_ahead: AtomicU64::new(256),
        }
    }

    /// Its name below /dev.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number.
    pub fn dev(&self) -> DevT {
        self.dev
    }

    /// How many minor numbers are its own.
    pub fn minors(&self) -> u32 {
        self.minors
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

    /// The driver.
    pub fn driver(&self) -> &Arc<dyn BlockDriver> {
        self.medium.queue.driver()
    }

    /// Sizes it works with.
    pub fn limits(&self) -> Limits {
        self.driver().limits()
    }

    /// Its serial number, if it has one.
    pub fn serial(&self) -> Option<String> {
        self.driver().serial()
    }

    /// Whether discards do something.
    pub fn can_discard(&self) -> bool {
        self.driver().can_discard()
    }

    /// Its page cache.
    pub fn cache(&self) -> &Arc<PageCache> {
        &self.cache
    }

    /// Its counters.
    pub fn counters(&self) -> &Arc<Counters> {
        &self.medium.counters
    }

    pub(super) fn medium(&self) -> &Medium {
        &self.medium
    }

    /// Who has it open and who has claimed it.
    pub fn users(&self) -> &Users {
        &self.users
    }

    /// A number that is new with each new medium (`BLKGETDISKSEQ`).
    pub fn sequence(&self) -> u64 {
        self.sequence.load(Ordering::Relaxed)
    }

    /// `BLKRAGET`: in sectors.
    pub fn read_ahead(&self) -> u64 {
        self.read_ahead.load(Ordering::Relaxed)
    }

    /// `BLKRASET`: counts in whole pages.
    pub fn set_read_ahead(&self, sectors: u64) {
        const IN_PAGE: u64 = PAGE / super::SECTOR;
        let sectors = sectors.min(u32::MAX.into()) / IN_PAGE * IN_PAGE;
        self.read_ahead.store(sectors, Ordering::Relaxed);
        self.cache.set_read_ahead(sectors.saturating_mul(super::SECTOR));
    }

    /// Another medium, or another size of the same one. Cached pages past the new end are gone.
    ///
    /// # Errors
    /// The host's, for the memory of the cache.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.medium.len.store(len, Ordering::Relaxed);
        self.cache.resized()
    }

    /// Another medium is there: nothing cached is true any more.
    pub fn medium_changed(&self) -> Result<()> {
        self.sequence.store(next_sequence(), Ordering::Relaxed);
        self.cache.forget()
    }

    /// Its partitions now.
    pub fn partitions(&self) -> Vec<Partition> {
        self.medium.parts.lock().iter().map(|part| part.info()).collect()
    }

    /// Its partitions with their device numbers.
    pub fn parts(&self) -> Vec<Arc<Part>> {
        self.medium.parts.lock().clone()
    }

    /// Partition `number`.
    pub fn part(&self, number: u32) -> Option<Arc<Part>> {
        let parts = self.medium.parts.lock();
        parts.iter().find(|part| part.number() == number).cloned()
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

    /// Whether partitions are looked for.
    pub fn scans_partitions(&self) -> bool {
        self.scan.load(Ordering::Relaxed)
    }

    /// Allows or forbids looking for partitions.
    pub fn set_partition_scan(&self, scan: PartitionScan) {
        self.scan.store(scan == PartitionScan::Yes, Ordering::Relaxed);
    }

    /// Reads the partition table again.
    ///
    /// # Errors
    /// `EBUSY` while a partition is open or mounted, `EINVAL` where partitions are not looked for; what reading says: then the old table stays.
    pub fn rescan(&self) -> Result<()> {
        if !self.scans_partitions() {
            return Err(Errno::EINVAL);
        }
        let _one = self.scanning.lock();
        if self.users.partitions_are_open() {
            return Err(Errno::EBUSY);
        }
        let found = partition::scan(self.len(), self.limits().logical_block.into(), |at, data| {
            let wanted = data.len();
            let got = self.cache.read(at, &mut crate::io::SliceSink::new(data))?;
            if got < wanted { Err(Errno::EIO) } else { Ok(()) }
        })?;
        if !found.is_empty() {
            // Linux's line: `ubda: ubda1 ubda2`, `loop0: p1 p2`.
            let short = |number| match self.partition_name(number).strip_prefix(self.name.as_str()) {
                Some(tail) if tail.starts_with('p') => String::from(tail),
                _ => self.partition_name(number),
            };
            let names: Vec<_> = found.iter().map(|part| short(part.number)).collect();
            log::info!(" {}: {}", self.name, names.join(" "));
        }
        self.replace_partitions(found);
        Ok(())
    }

    /// Takes all partitions away (the medium goes). Those that are open have no sectors any more.
    pub fn drop_partitions(&self) {
        let _one = self.scanning.lock();
        self.replace_partitions(Vec::new());
    }

    /// Changes the list of partitions and the device files with it (`BLKPG`).
    ///
    /// # Errors
    /// What `change` says; then the list stays.
    pub fn change_partitions(&self, change: impl FnOnce(&mut Vec<Partition>) -> Result<()>) -> Result<()> {
        let _one = self.scanning.lock();
        let mut new = self.partitions();
        change(&mut new)?;
        self.replace_partitions(new);
        Ok(())
    }

    /// Takes away the device files of partitions that are gone, and makes those that are new appear. One that begins where it did lives on.
    fn replace_partitions(&self, new: Vec<Partition>) {
        let old = self.parts();
        let same = |part: &Part, new: &Partition| part.number() == new.number && part.info().start == new.start;
        for part in old.iter().filter(|part| !new.iter().any(|new| same(part, new))) {
            part.set_len(0);
            self.medium.parts.lock().retain(|held| held.number() != part.number());
            device::retract(&self.partition_name(part.number()));
        }
        for info in new {
            if let Some(part) = old.iter().find(|part| same(part, &info)) {
                part.set_len(info.len);
                continue;
            }
            let part = Arc::new(Part::new(info, self.number_for(info.number)));
            let mut parts = self.medium.parts.lock();
            parts.push(part.clone());
            parts.sort_by_key(|part| part.number());
            drop(parts);
            announce(self.partition_name(info.number), part.dev());
        }
    }

    fn number_for(&self, number: u32) -> DevT {
        if number < self.minors {
            return DevT::new(self.dev.major, self.dev.minor + number);
        }
        extended_number()
    }
}

/// Makes a device file appear.
pub(super) fn announce(name: String, dev: DevT) {
    device::announce(DeviceNode {
        name,
        dev,
        mode: 0o660,
        class: "block",
    });
}

/// An answer to "read-only?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOnly {
    /// Writes give `EROFS`.
    Yes,
    /// Writes are taken.
    No,
}

fn next_sequence() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
