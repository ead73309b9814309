//! Devices: who drives which numbers, and the nodes that devtmpfs and sysfs show.
//!
//! * [`char`](mod@char): drivers of character devices by number ([`register_char`], [`open_char`]). Block devices are in `block`.
//! * [`node`]: announcements. devtmpfs makes a file of each, sysfs a directory.
//! * [`mem`], [`random`], [`kmsg`]: major 1. [`misc`]: major 10, one minor a driver.

pub mod char;
pub mod kmsg;
pub mod mem;
pub mod misc;
pub mod node;
pub mod random;

pub use char::{CharDriver, open_char, register_char};
pub use node::{DeviceNode, announce, retract};

/// Registers the devices of this folder.
pub fn init() {
    mem::init();
    misc::init();
}
