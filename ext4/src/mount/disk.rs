//! A block device of the kernel as the device of a file system. It goes around the disk's page cache, which is written back and emptied first.

use alloc::string::String;
use alloc::sync::Arc;

use arch_um::sync::{SpinLock, order};

use kernel::block::claim::Claim;
use kernel::block::device::BlockDevice as Opened;
use kernel::vfs::DevT;

use crate::device::BlockDevice;
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

    fn flush(&self) -> Result<()> {
        self.opened()?.flush()
    }

    fn discard(&self, at: u64, len: u64) -> Result<()> {
        self.opened()?.discard(at, len)
    }

    fn write_zeroes(&self, at: u64, len: u64) -> Result<()> {
        self.opened()?.write_zeroes(at, len)
    }
}
