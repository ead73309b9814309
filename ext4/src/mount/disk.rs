//! A disk or partition of the kernel as the device of a file system. It goes around the disk's page cache, which is written back and emptied first.

use alloc::string::{String, ToString};
use alloc::sync::Arc;

use kernel::block::Op;
use kernel::block::disk::{Disk, lookup};
use kernel::vfs::DevT;

use crate::device::BlockDevice;
use crate::{Errno, Result};

/// Part of a disk.
pub(super) struct DiskDevice {
    disk: Arc<Disk>,
    number: u32,
    start: u64,
    len: u64,
}

impl DiskDevice {
    /// The device of this number. `ENXIO` when there is none.
    pub(super) fn open(dev: DevT) -> Result<Self> {
        let (disk, number) = lookup(dev)?;
        let (start, len) = if number == 0 {
            (0, disk.len())
        } else {
            let partitions = disk.partitions();
            let partition = partitions
                .iter()
                .find(|partition| partition.number == number)
                .ok_or(Errno::ENXIO)?;
            (partition.start, partition.len)
        };
        disk.cache().sync()?;
        disk.cache().invalidate(start..start + len)?;
        Ok(Self {
            disk,
            number,
            start,
            len,
        })
    }

    /// As the log calls it.
    pub(super) fn name(&self) -> String {
        match self.number {
            0 => self.disk.name().to_string(),
            number => self.disk.partition_name(number),
        }
    }

    fn place(&self, at: u64, len: u64) -> Result<u64> {
        match at.checked_add(len) {
            Some(end) if end <= self.len => Ok(self.start + at),
            _ => Err(Errno::EIO),
        }
    }
}

impl BlockDevice for DiskDevice {
    fn len(&self) -> u64 {
        self.len
    }

    fn is_read_only(&self) -> bool {
        self.disk.is_read_only()
    }

    fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        let len = data.len() as u64;
        let got = self
            .disk
            .transfer(Op::Read, self.place(at, len)?, len, alloc::vec![0; data.len()])?;
        data.copy_from_slice(got.get(..data.len()).ok_or(Errno::EIO)?);
        Ok(())
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        let len = data.len() as u64;
        self.disk
            .transfer(Op::Write, self.place(at, len)?, len, data.to_vec())
            .map(drop)
    }

    fn flush(&self) -> Result<()> {
        self.disk.transfer(Op::Flush, 0, 0, alloc::vec::Vec::new()).map(drop)
    }

    fn discard(&self, at: u64, len: u64) -> Result<()> {
        if !self.disk.can_discard() {
            return Err(Errno::EOPNOTSUPP);
        }
        self.disk
            .transfer(Op::Discard, self.place(at, len)?, len, alloc::vec::Vec::new())
            .map(drop)
    }

    fn write_zeroes(&self, at: u64, len: u64) -> Result<()> {
        self.disk
            .transfer(Op::WriteZeroes, self.place(at, len)?, len, alloc::vec::Vec::new())
            .map(drop)
    }
}
