//! `syslog(2)` and /proc/kmsg: the kernel log as text.
//!
//! Readers of `SYSLOG_ACTION_READ` and /proc/kmsg share one position; what one takes the other does not see.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use core::fmt::Write;
use core::sync::atomic::{AtomicU8, Ordering};

use arch_um::printk::{self, Record, Timestamps};
use arch_um::sync::{Interruptible, SpinLock, order};

use crate::device::kmsg;
use crate::fs::pseudo::Content;
use crate::io::Sink;
use crate::syscall::Context;
use crate::task::Capabilities;
use crate::user::UserSlice;
use crate::vfs::file::SeekKind;
use crate::vfs::{File, FileOps, OpenFlags, PollEvents, PollTable};
use crate::{Errno, Result};

/// Largest chunk of text made at once.
const CHUNK: usize = 64 * 1024;
/// The console level while `SYSLOG_ACTION_CONSOLE_OFF` holds: emergencies only.
const CONSOLE_OFF: u8 = 1;
/// The console level before `CONSOLE_OFF`, 0 when it is on.
static SAVED_LEVEL: AtomicU8 = AtomicU8::new(0);

/// Where the shared reader stands: a record and the bytes of its text that were taken.
struct Position {
    seq: u64,
    offset: usize,
}

static POSITION: SpinLock<Position> = SpinLock::new(&order::DEVICE, Position { seq: 0, offset: 0 });

/// A record as lines: `<6>[    1.234567] text`.
fn format_record(record: &Record, timestamps: Timestamps, out: &mut String) {
    for line in record.text.split('\n') {
        let _ = write!(out, "<{}>", u32::from(record.facility) << 3 | record.level as u32);
        if timestamps == Timestamps::On {
            let micros = record.timestamp_ns / 1000;
            let _ = write!(out, "[{:5}.{:06}] ", micros / 1_000_000, micros % 1_000_000);
        }
        out.push_str(line);
        out.push('\n');
    }
}

/// Up to `max` bytes for the shared reader; what is returned counts as read.
fn take(max: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut position = POSITION.lock();
    while out.len() < max {
        if position.seq < printk::first_seq() {
            *position = Position {
                seq: printk::first_seq(),
                offset: 0,
            };
        }
        let Some(record) = printk::read_from(position.seq) else {
            break;
        };
        let mut text = String::new();
        format_record(&record, printk::timestamps(), &mut text);
        let rest = &text.as_bytes()[position.offset.min(text.len())..];
        if rest.len() > max - out.len() {
            // Whole records, except when one alone is longer than the buffer.
            if out.is_empty() {
                out.extend_from_slice(&rest[..max]);
                position.offset += max;
            }
            break;
        }
        out.extend_from_slice(rest);
        *position = Position {
            seq: record.seq + 1,
            offset: 0,
        };
    }
    out
}

fn take_some(max: usize) -> Option<Vec<u8>> {
    Some(take(max)).filter(|text| !text.is_empty())
}

/// Whether the shared reader would find something.
fn has_unread() -> bool {
    POSITION.lock().seq < printk::next_seq()
}

/// Bytes the shared reader has before it.
fn unread_size() -> usize {
    let (mut seq, offset) = {
        let position = POSITION.lock();
        (position.seq.max(printk::first_seq()), position.offset)
    };
    let mut total = 0;
    while let Some(record) = printk::read_from(seq) {
        let mut text = String::new();
        format_record(&record, printk::timestamps(), &mut text);
        total += text.len();
        seq = record.seq + 1;
    }
    total.saturating_sub(offset)
}

/// The last `max` bytes of what was logged since the last clear, in whole records.
fn last(max: usize) -> Vec<u8> {
    let mut texts = Vec::new();
    let mut seq = kmsg::first_uncleared();
    while let Some(record) = printk::read_from(seq) {
        let mut text = String::new();
        format_record(&record, printk::timestamps(), &mut text);
        texts.push(text);
        seq = record.seq + 1;
    }
    let mut room = max;
    let fitting = texts.iter().rev().take_while(|text| {
        let fits = text.len() <= room;
        room = room.saturating_sub(text.len());
        fits
    });
    let count = fitting.count();
    texts[texts.len() - count..].concat().into_bytes()
}

/// `syslog(2)`, known to C programs as `klogctl(3)`.
pub fn sys_syslog(cx: &Context, action: i32, buf: UserSlice) -> Result<usize> {
    // Reading the whole buffer and asking for its size is free for all; /proc/sys/kernel/dmesg_restrict does not exist.
    if !matches!(action, 3 | 10) {
        let cred = cx.task().cred();
        if !cred.capable(Capabilities::SYSLOG) && !cred.capable(Capabilities::SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
    }
    let len = i32::try_from(buf.len).map_err(|_| Errno::EINVAL);
    match action {
        // Close and open.
        0 | 1 => Ok(0),
        // Read, waiting for something.
        2 => {
            if buf.addr.is_null() || len.is_err() {
                return Err(Errno::EINVAL);
            }
            if buf.len == 0 {
                return Ok(0);
            }
            let text = printk::new_records().wait_until(Interruptible::Yes, None, || take_some(buf.len.min(CHUNK)))?;
            buf.addr.write(&text)?;
            Ok(text.len())
        }
        // Read all, and clear after it.
        3 | 4 => {
            if buf.addr.is_null() || len.is_err() {
                return Err(Errno::EINVAL);
            }
            let text = last(buf.len.min(printk::buffer_size() * 2));
            buf.addr.write(&text)?;
            if action == 4 {
                kmsg::clear();
            }
            Ok(text.len())
        }
        5 => {
            kmsg::clear();
            Ok(0)
        }
        // Console off, on, and its level.
        6 => {
            let level = printk::console_loglevel();
            if SAVED_LEVEL.load(Ordering::Relaxed) == 0 {
                SAVED_LEVEL.store(level, Ordering::Relaxed);
            }
            printk::set_console_loglevel(CONSOLE_OFF);
            Ok(0)
        }
        7 => {
            let saved = SAVED_LEVEL.swap(0, Ordering::Relaxed);
            if saved != 0 {
                printk::set_console_loglevel(saved);
            }
            Ok(0)
        }
        8 => {
            let level = len?;
            if !(1..=8).contains(&level) {
                return Err(Errno::EINVAL);
            }
            SAVED_LEVEL.store(0, Ordering::Relaxed);
            printk::set_console_loglevel(level as u8);
            Ok(0)
        }
        9 => Ok(unread_size()),
        10 => Ok(printk::buffer_size()),
        _ => Err(Errno::EINVAL),
    }
}

/// /proc/kmsg.
pub struct ProcKmsg;

impl Content for ProcKmsg {
    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        let allowed = crate::task::try_current().is_none_or(|task| {
            let cred = task.cred();
            cred.capable(Capabilities::SYSLOG) || cred.capable(Capabilities::SYS_ADMIN)
        });
        if allowed { Ok(self) } else { Err(Errno::EPERM) }
    }
}

impl FileOps for ProcKmsg {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> SeekKind {
        SeekKind::Stream
    }

    fn read_at(&self, file: &File, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        let max = dst.remaining().min(CHUNK);
        let text = match take_some(max) {
            Some(text) => text,
            None if file.is_nonblocking() => return Err(Errno::EAGAIN),
            None => printk::new_records().wait_until(Interruptible::Yes, None, || take_some(max))?,
        };
        dst.write(&text)
    }

    fn announces(&self) -> bool {
        true
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.listen(printk::new_records());
        }
        if has_unread() {
            PollEvents::IN | PollEvents::RDNORM
        } else {
            PollEvents::empty()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arch_um::printk::Level;

    #[test]
    fn each_line_of_a_record_gets_level_and_time() {
        let record = Record {
            seq: 0,
            level: Level::Info,
            facility: 0,
            timestamp_ns: 1_234_567_891,
            text: "a\nb".into(),
        };
        let mut out = String::new();
        format_record(&record, Timestamps::On, &mut out);
        assert_eq!(out, "<6>[    1.234567] a\n<6>[    1.234567] b\n");
    }
}
