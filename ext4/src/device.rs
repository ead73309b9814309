//! What a file system lies on: a disk, a partition, a loop device, or memory in tests.

use crate::{Errno, Result};

/// A block device in bytes. Calls may sleep; ranges lie inside the device and are whole sectors.
pub trait BlockDevice: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> u64;
    /// Whether it has no sectors.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether writes are refused.
    fn is_read_only(&self) -> bool {
        false
    }
    /// Fills `data` from byte `at`. `EIO`.
    fn read(&self, at: u64, data: &mut [u8]) -> Result<()>;
    /// Stores `data` at byte `at`. It is durable only after a later [`flush`](Self::flush); until then the device may reorder or lose it.
    fn write(&self, at: u64, data: &[u8]) -> Result<()>;
    /// Returns when everything written before is on stable storage.
    fn flush(&self) -> Result<()>;
    /// The contents do not matter any more. `EOPNOTSUPP`: the device cannot forget.
    fn discard(&self, _at: u64, _len: u64) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    /// The range reads as zeros.
    fn write_zeroes(&self, at: u64, len: u64) -> Result<()>;
}
