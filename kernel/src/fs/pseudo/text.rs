//! [`Text`]: a file whose contents a closure writes at each reading from the start, and may take what is written.
//!
//! A reader that goes through the file in pieces sees one state: the text is made at offset 0 (or at the first read) and kept with the open file
//! until the next read at offset 0.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::any::Any;

use arch_um::sync::{SpinLock, order};

use super::{Content, Seq};
use crate::io::{Sink, Source};
use crate::vfs::file::{WriteAt, Written};
use crate::vfs::{Access, File, FileOps, OpenFlags};
use crate::{Errno, Result};

type Show = dyn Fn(&mut Seq) -> Result<()> + Send + Sync;
type Store = dyn Fn(&[u8]) -> Result<()> + Send + Sync;

/// Most that can be written at once.
const WRITE_MAX: usize = 64 * 1024;

/// A generated file.
pub struct Text {
    show: Option<Box<Show>>,
    store: Option<Box<Store>>,
    size: u64,
}

impl Text {
    /// A file that can be read.
    pub fn new(show: impl Fn(&mut Seq) -> Result<()> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            show: Some(Box::new(show)),
            store: None,
            size: 0,
        })
    }

    /// A file that can be read and written. `store` gets what one `write(2)` wrote.
    pub fn with_store(
        show: impl Fn(&mut Seq) -> Result<()> + Send + Sync + 'static,
        store: impl Fn(&[u8]) -> Result<()> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            show: Some(Box::new(show)),
            store: Some(Box::new(store)),
            size: 0,
        })
    }

    /// A file that can only be written.
    pub fn only_store(store: impl Fn(&[u8]) -> Result<()> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            show: None,
            store: Some(Box::new(store)),
            size: 0,
        })
    }

    /// A sysfs attribute: says that it is a page long, and cannot be opened for what it has no method for.
    pub fn attribute(show: Option<Box<Show>>, store: Option<Box<Store>>) -> Arc<Self> {
        Arc::new(Self {
            show,
            store,
            size: 4096,
        })
    }
}

impl Content for Text {
    fn open(self: Arc<Self>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        let access = flags.access();
        let is_attribute = self.size != 0;
        if is_attribute
            && (access.contains(Access::READ) && self.show.is_none()
                || access.contains(Access::WRITE) && self.store.is_none())
        {
            return Err(Errno::EACCES);
        }
        Ok(Arc::new(TextFile {
            text: self,
            snapshot: SpinLock::new(&order::LEAF, None),
        }))
    }

    fn size(&self) -> u64 {
        self.size
    }
}

/// An open [`Text`].
struct TextFile {
    text: Arc<Text>,
    snapshot: SpinLock<Option<Arc<Vec<u8>>>>,
}

impl FileOps for TextFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &File, pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        let show = self.text.show.as_ref().ok_or(Errno::EIO)?;
        let kept = self.snapshot.lock().clone();
        let text = match kept {
            Some(text) if pos > 0 => text,
            _ => {
                let mut out = Seq::new();
                show(&mut out)?;
                let text = Arc::new(out.into_bytes());
                let old = self.snapshot.lock().replace(text.clone());
                drop(old);
                text
            }
        };
        push_from(&text, pos, dst)
    }

    fn write_at(&self, _file: &File, pos: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let store = self.text.store.as_ref().ok_or(Errno::EIO)?;
        let data = pull(src, WRITE_MAX)?;
        store(&data)?;
        let start = match pos {
            WriteAt::Offset(pos) => pos,
            WriteAt::End => 0,
        };
        Ok(Written {
            count: data.len(),
            end: start.saturating_add(data.len() as u64),
        })
    }
}

/// Hands out `bytes` from `pos` on.
pub fn push_from(bytes: &[u8], pos: u64, dst: &mut dyn Sink) -> Result<usize> {
    let start = usize::try_from(pos).unwrap_or(usize::MAX).min(bytes.len());
    let rest = &bytes[start..];
    if rest.is_empty() { Ok(0) } else { dst.write(rest) }
}

/// Takes in what a write brings, at most `max` bytes. `EFAULT`.
pub fn pull(src: &mut dyn Source, max: usize) -> Result<Vec<u8>> {
    let mut data = vec![0; src.remaining().min(max)];
    let got = src.read(&mut data)?;
    data.truncate(got);
    Ok(data)
}

/// The text a program wrote, without white space around it. `EINVAL` when it is not text.
pub fn word(data: &[u8]) -> Result<&str> {
    let text = core::str::from_utf8(data).map_err(|_| Errno::EINVAL)?;
    Ok(text.trim_matches(|c: char| c.is_ascii_whitespace() || c == '\0'))
}

/// A number as programs write it into control files: decimal, octal with `0`, hexadecimal with `0x`, with a sign. `EINVAL`.
pub fn number(data: &[u8]) -> Result<i64> {
    parse_number(word(data)?).ok_or(Errno::EINVAL)
}

fn parse_number(text: &str) -> Option<i64> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = match digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        Some(hex) => (hex, 16),
        None if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        None => (digits, 10),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let value = i64::try_from(u64::from_str_radix(digits, radix).ok()?).ok()?;
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_files_take_numbers_in_three_bases() {
        assert_eq!(number(b" 42\n"), Ok(42));
        assert_eq!(number(b"-1"), Ok(-1));
        assert_eq!(number(b"0x1f\n"), Ok(31));
        assert_eq!(number(b"017"), Ok(15));
        assert_eq!(number(b"0"), Ok(0));
        for bad in [&b""[..], b"x", b"--1", b"1 2", b"99999999999999999999", b"\xff"] {
            assert_eq!(number(bad), Err(Errno::EINVAL));
        }
    }
}
