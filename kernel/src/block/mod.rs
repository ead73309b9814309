//! Block devices: disks, partitions, requests, device files.
//!
//! * [`bio`]: a request and its driver.  * [`queue`]: bounded, merging, before each driver.  * [`batch`]: many requests, one wait.
//! * [`disk`]: a disk with its page cache; [`part`]: its partitions; [`registry`]: the table of all disks.
//! * [`device`]: a disk or partition that somebody has open; what file systems use.  * [`claim`]: who keeps whom away.  * [`stats`]: counters.
//! * [`partition`]: MBR and GPT.  * [`blkpg`]: partitions told one by one.  * [`identity`]: devices by UUID or label.
//! * [`flush`]: which flushes are needed.
//! * [`file`]: /dev/ubda as an open file; [`ioctl`]: its `ioctl`s.  * [`flusher`]: writes dirty blocks back by itself.
//! * [`loop_device`]: files as disks.  * [`ram`]: /dev/ram0.  * [`fault`]: a disk that fails on purpose, for tests.
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
mod flush;
pub mod flusher;
pub mod identity;
pub mod ioctl;
pub mod loop_device;
mod parameters;
pub mod part;
pub mod partition;
pub mod queue;
pub mod ram;
pub mod registry;
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

/// Starts what belongs to the kernel itself: the flusher, loop devices, RAM disks. `line` is the kernel command line.
pub fn init(line: &str) {
    flusher::start();
    let loops = parameters::parameter(line, "max_loop").or(parameters::parameter(line, "loop.max_loop"));
    loop_device::init(parameters::number(loops).map(|count| count.min(u64::from(u32::MAX)) as u32));
    ram::init(line);
}

/// Somebody has loaded the module `name`, which is built in, with these parameters.
pub fn module_loaded(name: &[u8], parameters: &str) {
    if name == b"brd" {
        ram::loaded(parameters);
    }
}

/// Somebody opens a number that may stand for a device which is made on demand.
fn probe(dev: crate::vfs::DevT) {
    if disk::lookup(dev).is_err() {
        loop_device::control::probe(dev);
        ram::probe(dev);
    }
}
