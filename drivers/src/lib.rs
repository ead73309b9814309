//! Devices on host channels: consoles (`con=`) and serial lines (`ssl=`), and what the host terminal needs.
//!
//! * [`options`]: the command line.  * [`channel`]: what a line can be attached to.  * [`line`](mod@line): a line: a terminal of the kernel on a
//!   channel.  * [`host_terminal`]: raw mode and back, window size, background.  * [`lines`]: all of them; brings them up at boot, changes them at
//!   run time.
//!
//! Neighbours: `kernel::tty` has the line discipline and the devices, `arch_um::event` says when a channel is ready.
#![forbid(unsafe_code)]

pub mod channel;
pub mod host_terminal;
pub mod line;
pub mod lines;
pub mod options;

pub use lines::start;
