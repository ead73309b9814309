//! The kernel log: a ring of records, consoles that print it, readers that follow it.

use crate::sync::WaitQueue;
use std::fmt;
use std::sync::Arc;

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

/// One message.
#[derive(Clone, Debug)]
pub struct Record {
    /// Number, from 0, without gaps.
    pub seq: u64,
    /// Severity.
    pub level: Level,
    /// Syslog facility: 0 for the kernel, 1 for what users write to `/dev/kmsg`.
    pub facility: u8,
    /// ns since boot.
    pub timestamp_ns: u64,
    /// The text, without a newline at its end.
    pub text: Arc<str>,
}

/// Prints records: a terminal, a file.
pub trait Console: Send + Sync {
    /// Prints one or more whole lines, each ended by a newline. Called by one thread at a time, from any context: it may not sleep in the
    /// kernel's sense, may not call printk, and should not block the host for long.
    fn write(&self, text: &str);
}

/// Adds a record. Use the macros.
pub fn vprintk(level: Level, facility: u8, text: fmt::Arguments<'_>) {
    let _ = (level, facility, text);
}

/// The first record at or after `seq` that is still there.
pub fn read_from(seq: u64) -> Option<Record> {
    let _ = seq;
    None
}

/// Sequence number of the oldest record there is.
pub fn first_seq() -> u64 {
    0
}

/// Sequence number of the next record to come.
pub fn next_seq() -> u64 {
    0
}

/// Size of the ring in bytes (`syslog(2)` action 10).
pub fn buffer_size() -> usize {
    256 << 10
}

/// Sets the size of the ring (`log_buf_len=`); rounded up to a power of two.
pub fn set_buffer_size(bytes: usize) {
    let _ = bytes;
}

/// Woken at each new record.
pub fn new_records() -> &'static WaitQueue {
    static QUEUE: WaitQueue = WaitQueue::new();
    &QUEUE
}

/// Records of a level below this number go to consoles (default 7, `quiet` 4, `debug` 10).
pub fn console_loglevel() -> u8 {
    7
}

/// Sets the console log level.
pub fn set_console_loglevel(level: u8) {
    let _ = level;
}

/// `printk.time=`: timestamps on consoles and in `syslog(2)`?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Timestamps {
    /// `[    0.123456] text`.
    On,
    /// `text`.
    Off,
}

/// Sets `printk.time`.
pub fn set_timestamps(on: Timestamps) {
    let _ = on;
}

/// `printk.time`.
pub fn timestamps() -> Timestamps {
    Timestamps::On
}

/// Adds a console: it first gets the whole ring from the start. Returns a number for [`unregister_console`].
pub fn register_console(console: Arc<dyn Console>) -> u64 {
    let _ = console;
    0
}

/// Takes a console off.
pub fn unregister_console(id: u64) {
    let _ = id;
}

/// Counts an unimplemented feature that a guest ran into; the first time also logs it. Use [`stub!`](crate::stub).
pub fn stub_hit(stub: &'static Stub) {
    let _ = stub.what;
}

/// A feature left out, with the number of times a guest asked for it.
#[derive(Debug)]
pub struct Stub {
    what: &'static str,
    hits: std::sync::atomic::AtomicU64,
}

impl Stub {
    #[doc(hidden)]
    pub const fn new(what: &'static str) -> Stub {
        Stub {
            what,
            hits: std::sync::atomic::AtomicU64::new(0),
        }
    }
}

/// All features hit so far with their counts.
pub fn stubs() -> Vec<(&'static str, u64)> {
    Vec::new()
}

/// Installs the `log` crate's logger: `error!`..`trace!` become kernel records.
pub fn install_logger() {}

/// `printk!(level, "text {}", x)`.
#[macro_export]
macro_rules! printk {
    ($level:expr, $($arg:tt)+) => { $crate::printk::vprintk($level, 0, ::core::format_args!($($arg)+)) };
}
/// Level 0.
#[macro_export]
macro_rules! pr_emerg { ($($arg:tt)+) => { $crate::printk!($crate::printk::Level::Emerg, $($arg)+) }; }
/// Level 1.
#[macro_export]
macro_rules! pr_alert { ($($arg:tt)+) => { $crate::printk!($crate::printk::Level::Alert, $($arg)+) }; }
/// Level 2.
#[macro_export]
macro_rules! pr_crit { ($($arg:tt)+) => { $crate::printk!($crate::printk::Level::Crit, $($arg)+) }; }
/// Level 3.
#[macro_export]
macro_rules! pr_err { ($($arg:tt)+) => { $crate::printk!($crate::printk::Level::Err, $($arg)+) }; }
/// Level 4.
#[macro_export]
macro_rules! pr_warn { ($($arg:tt)+) => { $crate::printk!($crate::printk::Level::Warning, $($arg)+) }; }
/// Level 5.
#[macro_export]
macro_rules! pr_notice { ($($arg:tt)+) => { $crate::printk!($crate::printk::Level::Notice, $($arg)+) }; }
/// Level 6.
#[macro_export]
macro_rules! pr_info { ($($arg:tt)+) => { $crate::printk!($crate::printk::Level::Info, $($arg)+) }; }
/// Level 7.
#[macro_export]
macro_rules! pr_debug { ($($arg:tt)+) => { $crate::printk!($crate::printk::Level::Debug, $($arg)+) }; }
/// Counts, and logs once, that a guest asked for something that is left out: `stub!("io_uring")`.
#[macro_export]
macro_rules! stub {
    ($what:expr) => {{
        static STUB: $crate::printk::Stub = $crate::printk::Stub::new($what);
        $crate::printk::stub_hit(&STUB)
    }};
}
