//! Block devices: disks, partitions, requests, device files.
//!
//! * [`bio`]: a request and its driver.  * [`queue`]: bounded, merging, before each driver.  * [`batch`]: many requests, one wait.
//! * [`disk`]: a registered disk with its page cache; the table of all of them.  * [`device`]: a disk or partition that somebody has open; what file
//!   systems use.  * [`claim`]: who keeps whom away.  * [`stats`]: counters.
//! * [`partition`]: MBR and GPT.  * [`blkpg`]: partitions told one by one.  * [`file`]: /dev/ubda as an open file; [`ioctl`]: its `ioctl`s.
//! * [`fault`]: a disk that fails on purpose, for tests.  * [`flusher`]: writes dirty blocks back by itself.
//!
//! Drivers (`ubd`) implement [`BlockDriver`] and register a [`Disk`]; they never block the caller.

pub mod batch;
pub mod bio;
mod blkpg;
pub mod claim;
pub mod device;
pub mod disk;
pub mod fault;
pub mod file;
pub mod flusher;
pub mod ioctl;
pub mod partition;
mod queue;
pub mod stats;
#[cfg(test)]
mod tests;

pub use batch::Batch;
pub use bio::{Bio, BioFlags, BlockDriver, Limits, Op};
pub use claim::Claim;
pub use device::BlockDevice;
pub use disk::{Disk, DiskInfo, disks, register};

/// Bytes of a sector, the unit of all addresses on a block device.
pub const SECTOR: u64 = 512;

/// Somebody opens a number that may stand for a device which is made on demand.
fn probe(_dev: crate::vfs::DevT) {}
