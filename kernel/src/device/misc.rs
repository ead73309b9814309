//! The miscellaneous devices, major 10: drivers that need one number only (/proc/misc).

use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;

use arch_um::sync::{SpinLock, order};

use super::char::{CharDriver, register_char};
use super::node::{DeviceNode, announce, retract};
use crate::syscall::Context;
use crate::vfs::{DevT, FileOps, OpenFlags};
use crate::{Errno, Result};

/// The major number.
pub const MISC_MAJOR: u32 = 10;
/// First of the minors that are given out on demand, counting down.
const DYNAMIC_FIRST: u32 = 127;

/// Which minor a driver wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Minor {
    /// This one.
    Fixed(u32),
    /// Any free one.
    Dynamic,
}

struct Entry {
    minor: u32,
    name: String,
    driver: Arc<dyn CharDriver>,
}

static ENTRIES: SpinLock<Vec<Entry>> = SpinLock::new(&order::DEVICE, Vec::new());

/// The driver of major 10.
struct Misc;

impl CharDriver for Misc {
    fn open(&self, cx: &Context, dev: DevT, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        let driver = {
            let entries = ENTRIES.lock();
            entries
                .iter()
                .find(|entry| entry.minor == dev.minor)
                .ok_or(Errno::ENODEV)?
                .driver
                .clone()
        };
        driver.open(cx, dev, flags)
    }
}

pub(super) fn init() {
    if let Err(error) = register_char(MISC_MAJOR, 0..256, "misc", Arc::new(Misc)) {
        log::error!("misc: major {MISC_MAJOR}: {error:?}");
    }
}

/// Gives a minor of major 10 to `driver` and announces it as `name` (below /dev) with permission bits `mode`. Returns its number.
///
/// # Errors
/// `EBUSY` when the minor is taken or none is free.
pub fn register_misc(minor: Minor, name: &str, mode: u32, driver: Arc<dyn CharDriver>) -> Result<DevT> {
    let minor = {
        let mut entries = ENTRIES.lock();
        let free = |minor: u32| entries.iter().all(|entry| entry.minor != minor);
        let minor = match minor {
            Minor::Fixed(minor) => Some(minor).filter(|&minor| free(minor)),
            Minor::Dynamic => (0..=DYNAMIC_FIRST).rev().find(|&minor| free(minor)),
        };
        let minor = minor.ok_or(Errno::EBUSY)?;
        entries.push(Entry {
            minor,
            name: name.to_string(),
            driver,
        });
        minor
    };
    let dev = DevT::new(MISC_MAJOR, minor);
    announce(DeviceNode {
        name: name.to_string(),
        dev,
        mode,
        class: "misc",
    });
    Ok(dev)
}

/// Takes the device away again.
pub fn unregister_misc(dev: DevT) {
    let gone = {
        let mut entries = ENTRIES.lock();
        let Some(index) = entries.iter().position(|entry| entry.minor == dev.minor) else {
            return;
        };
        entries.remove(index)
    };
    retract(&gone.name);
}

/// Minors and names for /proc/misc, newest first as on Linux.
pub fn minors() -> Vec<(u32, String)> {
    ENTRIES
        .lock()
        .iter()
        .rev()
        .map(|entry| (entry.minor, entry.name.clone()))
        .collect()
}
