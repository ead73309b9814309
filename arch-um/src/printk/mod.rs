//! The kernel log: a ring of records (`ring.rs`), consoles that print it (`console.rs`), readers that follow it (`/dev/kmsg`, `syslog(2)`).
//!
//! Printing is allowed in any context and under any lock class above `PRINTK`: a record goes into the ring under a leaf lock; then one thread at a
//! time brings the consoles up to date without it. Whoever prints meanwhile leaves that to the one who is at it.

mod console;
mod logger;
mod macros;
mod ring;
mod stub;

pub use console::{Console, StdConsole, console_loglevel, register_console, set_console_loglevel, unregister_console};
pub(crate) use console::{dump_to_stdout, flush, has_consoles};
pub use logger::install_logger;
pub use ring::{Record, buffer_size, first_seq, new_records, next_seq, read_from, set_buffer_size};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
pub use stub::{Stub, stub_hit, stubs};

/// Severity, 0 is worst.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum Level {
    /// The system is unusable.
    Emerg = 0,
    /// Act at once.
    Alert = 1,
    /// Critical.
    Crit = 2,
    /// Error.
    Err = 3,
    /// Warning.
    Warning = 4,
    /// Normal but notable.
    Notice = 5,
    /// Information.
    Info = 6,
    /// Debugging.
    Debug = 7,
}

impl Level {
    /// From the low three bits of a syslog priority.
    pub const fn from_priority(priority: u32) -> Level {
        match priority & 7 {
            0 => Level::Emerg,
            1 => Level::Alert,
            2 => Level::Crit,
            3 => Level::Err,
            4 => Level::Warning,
            5 => Level::Notice,
            6 => Level::Info,
            _ => Level::Debug,
        }
    }
}

/// `printk.time=`: timestamps on consoles and in `syslog(2)`?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timestamps {
    /// `[    0.123456] text`.
    On,
    /// `text`.
    Off,
}

static TIMESTAMPS: AtomicBool = AtomicBool::new(true);

/// Sets `printk.time`.
pub fn set_timestamps(on: Timestamps) {
    TIMESTAMPS.store(on == Timestamps::On, Ordering::Relaxed);
}

/// `printk.time`; on by default.
pub fn timestamps() -> Timestamps {
    if TIMESTAMPS.load(Ordering::Relaxed) {
        Timestamps::On
    } else {
        Timestamps::Off
    }
}

/// Adds a record of `facility` (0: kernel, 1: user) and prints it. Use the macros for the kernel's own messages.
pub fn vprintk(level: Level, facility: u8, text: fmt::Arguments<'_>) {
    ring::append(level, facility, text);
    flush();
}
