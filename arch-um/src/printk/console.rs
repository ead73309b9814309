//! Consoles: who prints the log, from its start, and what is severe enough.

use super::Record;
use super::ring::{next_seq, read_from};
use crate::sync::raw::{RawLock, RawSpin};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Prints records: a terminal, a file.
pub trait Console: Send + Sync {
    /// Prints one or more whole lines, each ended by a newline. Called by one thread at a time, from any context: it may not sleep in the
    /// kernel's sense, may not call printk, and should not block the host for long.
    fn write(&self, text: &str);
}

/// A console on one of the process's own output streams (`earlyprintk`, `stderr=1`).
#[derive(Clone, Copy, Debug)]
pub enum StdConsole {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Console for StdConsole {
    fn write(&self, text: &str) {
        let fd = match self {
            StdConsole::Stdout => std::io::stdout().as_raw_fd(),
            StdConsole::Stderr => std::io::stderr().as_raw_fd(),
        };
        // Not through the library's stream: a thread that died may hold its lock. There is nobody left to tell about an error.
        let _ = crate::host::sys::write_all_raw(fd, text.as_bytes());
    }
}

struct Registered {
    id: u64,
    console: Arc<dyn Console>,
    /// The next record to print.
    seq: AtomicU64,
}

/// Text for one `write`.
const BATCH: usize = 4096;
const DEFAULT_LOGLEVEL: u8 = 7;

static CONSOLES: RawLock<Vec<Arc<Registered>>> = RawLock::new(Vec::new());
static NEXT_ID: AtomicU64 = AtomicU64::new(1);
static LOGLEVEL: AtomicU8 = AtomicU8::new(DEFAULT_LOGLEVEL);
/// Held by the one thread that brings consoles up to date.
static PRINTING: RawSpin = RawSpin::new();

/// Records of a level below this number go to consoles (default 7, `quiet` 4, `debug` 10).
pub fn console_loglevel() -> u8 {
    LOGLEVEL.load(Ordering::Relaxed)
}

/// Sets the console log level; 1 leaves only emergencies.
pub fn set_console_loglevel(level: u8) {
    LOGLEVEL.store(level.max(1), Ordering::Relaxed);
}

/// Adds a console: it first gets the whole ring from the start. Returns a number for [`unregister_console`].
pub fn register_console(console: Arc<dyn Console>) -> u64 {
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    CONSOLES.lock().push(Arc::new(Registered {
        id,
        console,
        seq: AtomicU64::new(0),
    }));
    flush();
    id
}

/// Takes a console off. A write to it that is under way goes on.
pub fn unregister_console(id: u64) {
    let mut consoles = CONSOLES.lock();
    let at = consoles.iter().position(|c| c.id == id);
    let gone = at.map(|at| consoles.remove(at));
    drop(consoles);
    drop(gone);
}

/// Is there any?
pub(crate) fn has_consoles() -> bool {
    !consoles().is_empty()
}

/// Brings every console up to date, unless another thread is at it: that one looks again before it leaves.
pub(crate) fn flush() {
    loop {
        if !begin_printing() {
            return;
        }
        for console in consoles() {
            console.catch_up();
        }
        PRINTING.unlock();
        // What came between the last look and the release has been left to us: records and consoles.
        let next = next_seq();
        if consoles().iter().all(|c| c.seq.load(Ordering::Relaxed) >= next) {
            return;
        }
    }
}

fn consoles() -> Vec<Arc<Registered>> {
    let list = if crate::exit::in_progress() {
        CONSOLES.lock_bounded()
    } else {
        Some(CONSOLES.lock())
    };
    list.map_or_else(Vec::new, |list| list.clone())
}

fn begin_printing() -> bool {
    if PRINTING.try_lock() {
        return true;
    }
    if !crate::exit::in_progress() {
        return false;
    }
    // The printing thread may just be at it, or may have died in the middle: then its turn is over.
    for _ in 0..200 {
        if PRINTING.try_lock() {
            return true;
        }
        std::thread::sleep(std::time::Duration::from_micros(500));
    }
    true
}

impl Registered {
    fn catch_up(&self) {
        let mut batch = String::new();
        while let Some(record) = read_from(self.seq.load(Ordering::Relaxed)) {
            self.seq.store(record.seq + 1, Ordering::Relaxed);
            if is_wanted(&record) {
                batch += &record.to_console();
            }
            if batch.len() >= BATCH {
                self.console.write(&batch);
                batch.clear();
            }
        }
        if !batch.is_empty() {
            self.console.write(&batch);
        }
    }
}

fn is_wanted(record: &Record) -> bool {
    (record.level as u8) < console_loglevel()
}

/// The whole log on standard output: the last resort of a panic without any console.
pub(crate) fn dump_to_stdout() {
    let mut text = String::from("kmsg_dump:\n");
    let mut seq = 0;
    while let Some(record) = read_from(seq) {
        seq = record.seq + 1;
        text += &record.to_syslog();
    }
    StdConsole::Stdout.write(&text);
}
