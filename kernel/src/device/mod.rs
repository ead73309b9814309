//! Character devices: drivers register a range of numbers and the names that appear in devtmpfs; block devices are in `block`.

use alloc::string::String;
use alloc::sync::Arc;

use crate::Result;
use crate::syscall::Context;
use crate::vfs::{DevT, FileOps, OpenFlags};

/// A driver for character devices.
pub trait CharDriver: Send + Sync {
    /// Opens the device with this number. `ENODEV`/`ENXIO` when there is none behind it.
    fn open(&self, cx: &Context, dev: DevT, flags: OpenFlags) -> Result<Arc<dyn FileOps>>;
}

/// A name that devtmpfs shows and sysfs lists.
#[derive(Clone, Debug)]
pub struct DeviceNode {
    /// Path below /dev (`null`, `pts/ptmx`, `input/event0`).
    pub name: String,
    /// Its number.
    pub dev: DevT,
    /// Permission bits.
    pub mode: u32,
    /// Its class in /sys/class (`mem`, `tty`, `misc`, `block`).
    pub class: &'static str,
}
