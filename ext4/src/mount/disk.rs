//! A block device of the kernel as the device of a file system. It goes around the disk's page cache, which is written back and emptied first.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arch_um::sync::{SpinLock, order};

use kernel::block::BioFlags;
use kernel::block::claim::Claim;
use kernel::block::device::BlockDevice as Opened;
use kernel::vfs::DevT;

use crate::device::{BlockDevice, ReadsDone};
use crate::{Errno, Result};

/// A disk or partition, claimed for this file system.
pub(super) struct DiskDevice {
    opened: SpinLock<Option<Arc<Opened>>>,
    len: u64,
    name: String,
}

impl DiskDevice {
    /// `ENXIO` when there is none, `EBUSY` when another one has claimed it.
    pub(super) fn open(dev: DevT) -> Result<Self> {
        let opened = Opened::open(dev, Claim::Exclusive)?;
        let cache = opened.disk().cache();
        cache.sync()?;
        cache.invalidate(opened.start()..opened.start() + opened.len())?;
        Ok(Self {
            len: opened.len(),
            name: opened.name(),
            opened: SpinLock::new(&order::LEAF, Some(opened)),
        })
    }

    /// Gives the device free for others. Later requests get `EIO`.
    pub(super) fn release(&self) {
        let opened = self.opened.lock().take();
        drop(opened);
    }

    fn opened(&self) -> Result<Arc<Opened>> {
        self.opened.lock().clone().ok_or(Errno::EIO)
    }

    /// As the log calls it.
    pub(super) fn name(&self) -> String {
        self.name.clone()
    }
}

impl BlockDevice for DiskDevice {
    fn len(&self) -> u64 {
        self.len
    }

    fn is_read_only(&self) -> bool {
        self.opened().is_ok_and(|opened| opened.is_read_only())
    }

    fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        self.opened()?.read(at, data)
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        self.opened()?.write(at, data)
    }

    fn read_owned(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        self.opened()?.read_owned(at, len)
    }

    fn start_reads(&self, runs: Vec<(u64, usize)>, done: ReadsDone) {
        let opened = match self.opened() {
            Ok(opened) => opened,
            Err(error) => return done(runs.iter().map(|_| Err(error)).collect()),
        };
        let mut batch = opened.batch();
        for (at, len) in runs {
            batch.read_ahead(at, len);
        }
        batch.start(done);
    }

    fn write_runs(&self, runs: Vec<(u64, Vec<u8>)>) -> Vec<Result<()>> {
        let opened = match self.opened() {
            Ok(opened) => opened,
            Err(error) => return runs.iter().map(|_| Err(error)).collect(),
        };
        let mut batch = opened.batch();
        for (at, data) in runs {
            batch.write(at, data);
        }
        let outcomes = batch.wait().into_iter();
        outcomes.map(|outcome| outcome.map(drop)).collect()
    }

    fn flush(&self) -> Result<()> {
        self.opened()?.flush()
    }

    fn commit(&self, at: u64, data: &[u8]) -> Result<()> {
        let flags = BioFlags::PREFLUSH | BioFlags::FUA;
        self.opened()?.write_owned(at, data.to_vec(), flags).map(drop)
    }

    fn discard(&self, at: u64, len: u64) -> Result<()> {
        self.opened()?.discard(at, len)
    }

    fn write_zeroes(&self, at: u64, len: u64) -> Result<()> {
        self.opened()?.write_zeroes(at, len)
    }
}
