//! `/dev/kmsg`: the kernel log, a record a read, and a way for programs to write into it.
//!
//! A record reads as `priority,sequence,µs since boot,flags;text`. Whoever falls behind the ring gets `EPIPE` once and goes on with the oldest
//! record that is left.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use core::any::Any;
use core::fmt::Write;
use core::sync::atomic::{AtomicU64, Ordering};

use arch_um::printk::{self, Level, Record};
use arch_um::sync::{Interruptible, SpinLock, order};

use crate::io::{Sink, Source};
use crate::vfs::file::{SeekKind, WriteAt, Written};
use crate::vfs::{File, FileOps, PollEvents, PollTable};
use crate::{Errno, Result};

/// Longest message a program may write, bytes.
const LINE_MAX: usize = 992;
/// Facility of messages from programs: `LOG_USER`.
const LOG_USER: u8 = 1;
/// Default severity of messages from programs: that of `printk` without one.
const DEFAULT_LEVEL: Level = Level::Warning;

/// First record that `SEEK_DATA` and `SYSLOG_ACTION_READ_ALL` show: what came before was cleared.
static CLEARED: AtomicU64 = AtomicU64::new(0);

/// First record that has not been cleared and is still there.
pub fn first_uncleared() -> u64 {
    CLEARED.load(Ordering::Relaxed).max(printk::first_seq())
}

/// `SYSLOG_ACTION_CLEAR`: hides all that was logged so far.
pub fn clear() {
    CLEARED.store(printk::next_seq(), Ordering::Relaxed);
}

/// An open `/dev/kmsg`.
pub struct Kmsg {
    /// The record to read next.
    next: SpinLock<u64>,
}

impl Kmsg {
    /// Starts at the oldest record.
    pub fn open() -> Self {
        Self {
            next: SpinLock::new(&order::DEVICE, printk::first_seq()),
        }
    }

    /// The next record. `EPIPE` when some were lost.
    fn take(&self) -> Option<Result<Record>> {
        let mut next = self.next.lock();
        let first = printk::first_seq();
        if *next < first {
            *next = first;
            return Some(Err(Errno::EPIPE));
        }
        let record = printk::read_from(*next)?;
        *next = record.seq + 1;
        Some(Ok(record))
    }
}

/// The text form of a record.
fn format_record(record: &Record) -> String {
    let priority = u32::from(record.facility) << 3 | record.level as u32;
    let mut text = format!("{priority},{},{},-;", record.seq, record.timestamp_ns / 1000);
    for byte in record.text.bytes() {
        // Also line feeds: a line that starts with a space would read as a property.
        if (b' '..0x7f).contains(&byte) && byte != b'\\' {
            text.push(byte as char);
        } else {
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    text.push('\n');
    text
}

/// Splits the `<n>` in front of a message: severity, facility, and where the text starts. The kernel's own facility cannot be claimed.
fn parse_priority(line: &[u8]) -> (Level, u8, usize) {
    let digits = line
        .strip_prefix(b"<")
        .map_or(0, |rest| rest.iter().take_while(|byte| byte.is_ascii_digit()).count());
    if digits == 0 || digits > 9 || line.get(1 + digits) != Some(&b'>') {
        return (DEFAULT_LEVEL, LOG_USER, 0);
    }
    let number = line[1..1 + digits]
        .iter()
        .fold(0u32, |number, digit| number * 10 + u32::from(digit - b'0'));
    let facility = match (number >> 3) as u8 {
        0 => LOG_USER,
        facility => facility,
    };
    (Level::from_priority(number), facility, digits + 2)
}

impl FileOps for Kmsg {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> SeekKind {
        SeekKind::Stream
    }

    fn read_at(&self, file: &File, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        let record = match self.take() {
            Some(record) => record?,
            None if file.is_nonblocking() => return Err(Errno::EAGAIN),
            None => printk::new_records().wait_until(Interruptible::Yes, None, || self.take())??,
        };
        let text = format_record(&record);
        if text.len() > dst.remaining() {
            *self.next.lock() = record.seq;
            return Err(Errno::EINVAL);
        }
        dst.write(text.as_bytes())
    }

    fn write_at(&self, _file: &File, _pos: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let count = src.remaining();
        if count > LINE_MAX {
            return Err(Errno::EINVAL);
        }
        let mut line = vec![0; count];
        let got = src.read(&mut line)?;
        if got < count {
            return Err(Errno::EFAULT);
        }
        let (level, facility, start) = parse_priority(&line);
        let text = String::from_utf8_lossy(&line[start..]);
        printk::vprintk(level, facility, format_args!("{}", text.trim_end_matches(['\n', '\0'])));
        Ok(Written { count, end: 0 })
    }

    /// `SEEK_SET`: the oldest record. `SEEK_DATA`: the oldest since the last clear. `SEEK_END`: behind the newest. The offset must be 0.
    fn lseek(&self, _file: &File, offset: i64, whence: u32) -> Option<Result<u64>> {
        if offset != 0 {
            return Some(Err(Errno::ESPIPE));
        }
        let target = match whence {
            0 => printk::first_seq(),
            2 => printk::next_seq(),
            3 => first_uncleared(),
            _ => return Some(Err(Errno::EINVAL)),
        };
        *self.next.lock() = target;
        Some(Ok(0))
    }

    fn announces(&self) -> bool {
        true
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.listen(printk::new_records());
        }
        let next = *self.next.lock();
        let mut ready = PollEvents::OUT | PollEvents::WRNORM;
        if next < printk::next_seq() {
            ready |= PollEvents::IN | PollEvents::RDNORM;
        }
        if next < printk::first_seq() {
            ready |= PollEvents::ERR | PollEvents::PRI;
        }
        ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_as_priority_sequence_time_and_text() {
        let record = Record {
            seq: 7,
            level: Level::Info,
            facility: 0,
            timestamp_ns: 1_234_567,
            text: "a\nb\\".into(),
        };
        assert_eq!(format_record(&record), "6,7,1234,-;a\\x0ab\\x5c\n");
    }

    #[test]
    fn programs_choose_severity_and_facility_but_not_the_kernels() {
        assert_eq!(parse_priority(b"<3>x"), (Level::Err, LOG_USER, 3));
        assert_eq!(parse_priority(b"<30>x"), (Level::Info, 3, 4));
        assert_eq!(parse_priority(b"<x>"), (DEFAULT_LEVEL, LOG_USER, 0));
        assert_eq!(parse_priority(b"plain"), (DEFAULT_LEVEL, LOG_USER, 0));
        assert_eq!(parse_priority(b"<>"), (DEFAULT_LEVEL, LOG_USER, 0));
    }
}
