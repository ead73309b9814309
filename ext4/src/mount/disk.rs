//! A block device of the kernel as the device of a file system. It goes around the disk's page cache, which is written back and emptied first.

use alloc::sync::Arc;

use kernel::block::claim::Claim;
use kernel::block::device::BlockDevice as Opened;
use kernel::vfs::DevT;

use crate::Result;
use crate::device::BlockDevice;

/// A disk or partition, claimed for this file system.
pub(super) struct DiskDevice {
    opened: Arc<Opened>,
}

impl DiskDevice {
    /// `ENXIO` when there is none, `EBUSY` when another one has claimed it.
    pub(super) fn open(dev: DevT) -> Result<Self> {
        let opened = Opened::open(dev, Claim::Exclusive)?;
        let cache = opened.disk().cache();
        cache.sync()?;
        cache.invalidate(opened.start()..opened.start() + opened.len())?;
        Ok(Self { opened })
    }

    /// As the log calls it.
    pub(super) fn name(&self) -> alloc::string::String {
        self.opened.name()
    }
}

impl BlockDevice for DiskDevice {
    fn len(&self) -> u64 {
        self.opened.len()
    }

    fn is_read_only(&self) -> bool {
        self.opened.is_read_only()
    }

    fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        self.opened.read(at, data)
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        self.opened.write(at, data)
    }

    fn flush(&self) -> Result<()> {
        self.opened.flush()
    }

    fn discard(&self, at: u64, len: u64) -> Result<()> {
        self.opened.discard(at, len)
    }

    fn write_zeroes(&self, at: u64, len: u64) -> Result<()> {
        self.opened.write_zeroes(at, len)
    }
}
