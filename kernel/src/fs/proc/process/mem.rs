//! `mem`: a process's memory as a file, for debuggers.

use alloc::sync::{Arc, Weak};
use alloc::vec;
use core::any::Any;

use super::subject::Subject;
use crate::fs::pseudo::Content;
use crate::io::{Sink, Source};
use crate::mm::Mm;
use crate::vfs::file::{WriteAt, Written};
use crate::vfs::{File, FileOps, OpenFlags};
use crate::{Errno, Result};

const CHUNK: usize = 64 * 1024;

/// The file before it is opened.
pub(super) struct Memory(pub Subject);

impl Content for Memory {
    /// The memory of the moment: after an exec it reads as empty.
    fn open(self: Arc<Self>, _flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
        let found = self.0.find_for_access()?;
        let mm = found.task.try_mm().map(|mm| Arc::downgrade(&mm)).unwrap_or_default();
        Ok(Arc::new(MemoryFile(mm)))
    }
}

/// The open file. It does not keep the memory alive.
struct MemoryFile(Weak<Mm>);

impl FileOps for MemoryFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read_at(&self, _file: &File, pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        let Some(mm) = self.0.upgrade() else { return Ok(0) };
        let mut buffer = vec![0; dst.remaining().min(CHUNK)];
        if buffer.is_empty() {
            return Ok(0);
        }
        let got = match mm.space().read(pos, &mut buffer) {
            Ok(()) => buffer.len(),
            Err((0, _)) => return Err(Errno::EIO),
            Err((got, _)) => got,
        };
        dst.write(&buffer[..got])
    }

    /// Goes around page protection, as a debugger that sets a breakpoint needs.
    fn write_at(&self, _file: &File, at: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let WriteAt::Offset(pos) = at else {
            return Err(Errno::EINVAL);
        };
        let Some(mm) = self.0.upgrade() else {
            return Ok(Written { count: 0, end: pos });
        };
        let mut buffer = vec![0; src.remaining().min(CHUNK)];
        let len = src.read(&mut buffer)?;
        let count = match mm.space().write_forced(pos, &buffer[..len]) {
            Ok(()) => len,
            Err((0, _)) => return Err(Errno::EIO),
            Err((count, _)) => count,
        };
        Ok(Written {
            count,
            end: pos.saturating_add(count as u64),
        })
    }

    /// Any address is a position, also those above the signed range.
    fn lseek(&self, file: &File, offset: i64, whence: u32) -> Option<Result<u64>> {
        let _ = file;
        match whence {
            0 => Some(Ok(offset as u64)),
            1 => None,
            _ => Some(Err(Errno::EINVAL)),
        }
    }
}
