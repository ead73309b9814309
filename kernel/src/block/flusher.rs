//! The flusher: a kernel thread that writes dirty blocks back by themselves, as Linux's does, so that a guest that never says `sync` loses little.

use core::time::Duration;

use arch_um::thread;
use arch_um::time::Instant;

use super::disk::disks;

/// How long a dirty block may wait (`vm.dirty_writeback_centisecs`).
const PERIOD: Duration = Duration::from_secs(5);

/// Starts the flusher. Without dirty blocks a turn costs nothing worth counting.
pub fn start() {
    if let Err(error) = crate::task::init::spawn_kernel_thread("kflushd", run) {
        log::error!("the flusher cannot be started: {error}; dirty blocks are written by sync alone");
    }
}

fn run() {
    loop {
        thread::sleep_until(Instant::now().saturating_add(PERIOD));
        for disk in disks().iter().filter(|disk| disk.cache().dirty_bytes() > 0) {
            if let Err(error) = disk.cache().write_back(0..u64::MAX) {
                log::error!(
                    "Buffer I/O error on dev {}, lost async page write: {error}",
                    disk.name()
                );
            }
        }
    }
}
