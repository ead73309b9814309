//! File systems of the kernel itself. Those on host files and disks are crates of their own (`hostfs`, `ext4`) and register themselves.
//!
//! * [`tmpfs`]: files in memory; also `ramfs`, the base of the mount tree, and what `memfd_create` and shared memory use.
//! * [`pseudo`]: what proc and sysfs stand on.  * [`proc`]: processes and the system as files.  * [`sysfs`]: devices as files.
//! * [`devtmpfs`]: /dev, filled from announcements.  * [`devpts`]: slaves of pseudo-terminals as files.

pub mod devpts;
pub mod devtmpfs;
pub mod proc;
pub mod pseudo;
pub mod sysfs;
pub mod tmpfs;

/// Registers them.
pub fn init() {
    tmpfs::init();
    devtmpfs::init();
    devpts::init();
    proc::init();
    sysfs::init();
}
