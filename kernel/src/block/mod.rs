//! Block devices: disks, partitions, requests, device files.
//!
//! * [`bio`]: a request and its completion.  * [`disk`]: a registered disk with its page cache; the table of all of them.
//! * [`partition`]: MBR and GPT.  * [`blkpg`]: partitions told one by one.  * [`file`]: /dev/ubda as an open file.
//! * [`flusher`]: writes dirty blocks back by itself.
//!
//! Drivers (`ubd`) implement [`BlockDriver`] and register a [`Disk`]; they never block the caller.

pub mod bio;
mod blkpg;
pub mod disk;
pub mod file;
pub mod flusher;
pub mod partition;

pub use bio::{Bio, BlockDriver, Op};
pub use disk::{Disk, DiskInfo, disks, register};

/// Bytes of a sector, the unit of all addresses on a block device.
pub const SECTOR: u64 = 512;
