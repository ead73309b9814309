//! The ring of records: the newest `buffer_size` bytes of the log, numbered without gaps.

use super::{Level, Timestamps, timestamps};
use crate::sync::WaitQueue;
use crate::sync::raw::{RawGuard, RawLock};
use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::Arc;

/// What a record costs beside its text.
const OVERHEAD: usize = 32;
const MIN_SIZE: usize = 4 << 10;
const DEFAULT_SIZE: usize = 256 << 10;
/// Longer messages are cut (`PRINTKRB_RECORD_MAX`).
const MAX_TEXT: usize = 1024;

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
    /// The text, without a newline at its end; it may have some inside.
    pub text: Arc<str>,
}

impl Record {
    /// Syslog priority: facility and level in one number.
    pub fn priority(&self) -> u32 {
        u32::from(self.facility) << 3 | self.level as u32
    }

    /// As `syslog(2)` gives it: `<6>[    0.123456] text`, the prefix on each line, each ended by a newline.
    pub fn to_syslog(&self) -> String {
        let mut out = String::with_capacity(self.text.len() + 24);
        self.write_lines(&mut out, Some(self.priority()));
        out
    }

    /// As a console shows it: `[    0.123456] text`, the prefix on each line, each ended by a newline.
    pub fn to_console(&self) -> String {
        let mut out = String::with_capacity(self.text.len() + 20);
        self.write_lines(&mut out, None);
        out
    }

    fn write_lines(&self, out: &mut String, priority: Option<u32>) {
        for line in self.text.split('\n') {
            // Writing to a string cannot fail.
            let _ = (|| -> fmt::Result {
                if let Some(priority) = priority {
                    write!(out, "<{priority}>")?;
                }
                if timestamps() == Timestamps::On {
                    let us = self.timestamp_ns / 1000;
                    write!(out, "[{:5}.{:06}] ", us / 1_000_000, us % 1_000_000)?;
                }
                writeln!(out, "{line}")
            })();
        }
    }

    /// As `/dev/kmsg` gives it: `6,seq,µs,-;text`, control characters and backslashes escaped, one newline at the end.
    pub fn to_kmsg(&self) -> String {
        let mut out = format!("{},{},{},-;", self.priority(), self.seq, self.timestamp_ns / 1000);
        for byte in self.text.bytes() {
            match byte {
                b' '..=b'[' | b']'..=b'~' => out.push(char::from(byte)),
                _ => {
                    let _ = write!(out, "\\x{byte:02x}");
                }
            }
        }
        out.push('\n');
        out
    }

    fn cost(&self) -> usize {
        self.text.len() + OVERHEAD
    }
}

struct Ring {
    records: VecDeque<Record>,
    next_seq: u64,
    bytes: usize,
    size: usize,
}

static RING: RawLock<Ring> = RawLock::new(Ring {
    records: VecDeque::new(),
    next_seq: 0,
    bytes: 0,
    size: DEFAULT_SIZE,
});
static NEW_RECORDS: WaitQueue = WaitQueue::new();

/// The ring; on the way out its holder may have stopped for ever, then nothing.
fn ring() -> Option<RawGuard<'static, Ring>> {
    if crate::exit::in_progress() {
        RING.lock_bounded()
    } else {
        Some(RING.lock())
    }
}

impl Ring {
    fn trim(&mut self) {
        while self.bytes > self.size && self.records.len() > 1 {
            if let Some(old) = self.records.pop_front() {
                self.bytes -= old.cost();
            }
        }
    }
}

pub(super) fn append(level: Level, facility: u8, text: fmt::Arguments<'_>) {
    let mut text = fmt::format(text);
    if text.len() > MAX_TEXT {
        let cut = (0..=MAX_TEXT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(cut);
    }
    let text: Arc<str> = text.trim_end_matches('\n').into();
    let timestamp_ns = crate::time::uptime().as_nanos() as u64;
    if let Some(mut ring) = ring() {
        let record = Record {
            seq: ring.next_seq,
            level,
            facility,
            timestamp_ns,
            text,
        };
        ring.next_seq += 1;
        ring.bytes += record.cost();
        ring.records.push_back(record);
        ring.trim();
    }
    if !crate::exit::in_progress() {
        NEW_RECORDS.wake_all();
    }
}

/// The first record at or after `seq` that is still there.
pub fn read_from(seq: u64) -> Option<Record> {
    let ring = ring()?;
    let first = ring.records.front()?.seq;
    ring.records
        .get(usize::try_from(seq.saturating_sub(first)).ok()?)
        .cloned()
}

/// Sequence number of the oldest record there is.
pub fn first_seq() -> u64 {
    ring().map_or(0, |ring| {
        ring.records.front().map_or(ring.next_seq, |record| record.seq)
    })
}

/// Sequence number of the next record to come.
pub fn next_seq() -> u64 {
    ring().map_or(0, |ring| ring.next_seq)
}

/// Size of the ring in bytes (`syslog(2)` action 10).
pub fn buffer_size() -> usize {
    ring().map_or(DEFAULT_SIZE, |ring| ring.size)
}

/// Sets the size of the ring (`log_buf_len=`); rounded up to a power of two.
pub fn set_buffer_size(bytes: usize) {
    if let Some(mut ring) = ring() {
        ring.size = bytes.clamp(MIN_SIZE, 1 << 30).next_power_of_two();
        ring.trim();
    }
}

/// Woken at each new record.
pub fn new_records() -> &'static WaitQueue {
    &NEW_RECORDS
}
