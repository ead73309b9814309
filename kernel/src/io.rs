//! Where data comes from and goes to: a guest's buffer, an iovec, or kernel memory.
//!
//! A file's `read` pushes into a [`Sink`], its `write` pulls from a [`Source`]. Both look at guest memory only when data moves
//! (`read(fd, NULL, 1)` at end of file is 0, as on Linux), and both count what really moved.

use alloc::vec::Vec;

use crate::{Errno, Result};

/// The destination of a read.
pub trait Sink {
    /// Bytes that still fit.
    fn remaining(&self) -> usize;
    /// Takes at most `data.len()` and at most [`remaining`](Self::remaining) bytes, returns how many.
    ///
    /// # Errors
    /// `EFAULT` when the first byte already cannot be stored; a later fault ends the copy with the count so far.
    fn write(&mut self, data: &[u8]) -> Result<usize>;
}

/// The origin of a write.
pub trait Source {
    /// Bytes still to come.
    fn remaining(&self) -> usize;
    /// Fills `data` as far as bytes are left, returns how many.
    ///
    /// # Errors
    /// `EFAULT` when the first byte already cannot be fetched; a later fault ends the copy with the count so far.
    fn read(&mut self, data: &mut [u8]) -> Result<usize>;
}

/// Kernel memory as a destination.
pub struct SliceSink<'a> {
    data: &'a mut [u8],
    filled: usize,
}

impl<'a> SliceSink<'a> {
    /// A destination over all of `data`.
    pub fn new(data: &'a mut [u8]) -> Self {
        Self { data, filled: 0 }
    }

    /// Bytes stored so far.
    pub fn filled(&self) -> usize {
        self.filled
    }
}

impl Sink for SliceSink<'_> {
    fn remaining(&self) -> usize {
        self.data.len() - self.filled
    }

    fn write(&mut self, data: &[u8]) -> Result<usize> {
        let count = data.len().min(self.remaining());
        self.data[self.filled..self.filled + count].copy_from_slice(&data[..count]);
        self.filled += count;
        Ok(count)
    }
}

/// Kernel memory as an origin.
pub struct SliceSource<'a> {
    data: &'a [u8],
}

impl<'a> SliceSource<'a> {
    /// An origin over all of `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Self { data }
    }
}

impl Source for SliceSource<'_> {
    fn remaining(&self) -> usize {
        self.data.len()
    }

    fn read(&mut self, data: &mut [u8]) -> Result<usize> {
        let count = data.len().min(self.data.len());
        let (now, later) = self.data.split_at(count);
        data[..count].copy_from_slice(now);
        self.data = later;
        Ok(count)
    }
}

/// Largest piece copied through a kernel buffer at a time.
const CHUNK: usize = 64 * 1024;

/// Moves all that `source` holds into `sink` in bounded pieces; the count that arrived.
pub fn copy(source: &mut dyn Source, sink: &mut dyn Sink) -> Result<usize> {
    let mut buffer = Vec::new();
    let mut total = 0;
    loop {
        let want = source.remaining().min(sink.remaining()).min(CHUNK);
        if want == 0 {
            return Ok(total);
        }
        buffer.resize(want, 0);
        let step = source.read(&mut buffer).and_then(|got| sink.write(&buffer[..got]));
        match step {
            Ok(0) => return Ok(total),
            Ok(count) => total += count,
            Err(Errno::EFAULT) if total > 0 => return Ok(total),
            Err(error) => return Err(error),
        }
    }
}
