//! The bytes of a pipe: a ring that starts empty and grows to its capacity, with the lengths of packets beside it.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec;

use super::PIPE_BUF;
use crate::io::{Sink, Source};
use crate::{Errno, Result};

/// How the bytes of a write lie in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Stream,
    /// `O_DIRECT`: one write of at most [`PIPE_BUF`] bytes is read as one.
    Packets,
}

/// The bytes between the ends.
pub(super) struct Ring {
    data: Box<[u8]>,
    head: usize,
    len: usize,
    /// Lengths of the packets in it, oldest first; empty in stream mode. A length of 0 ends a stretch of stream bytes.
    packets: VecDeque<u32>,
    capacity: usize,
}

impl Ring {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            data: Box::default(),
            head: 0,
            len: 0,
            packets: VecDeque::new(),
            capacity,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn capacity(&self) -> usize {
        self.capacity
    }

    /// `EBUSY` when more is in it.
    pub(super) fn set_capacity(&mut self, size: usize) -> Result<()> {
        if size < self.len || self.packets.len() > size / PIPE_BUF {
            return Err(Errno::EBUSY);
        }
        if size < self.data.len() {
            self.relocate(size);
        }
        self.capacity = size;
        Ok(())
    }

    /// Whether a write of `want` bytes need not wait; one larger than the whole ring waits for all of it.
    pub(super) fn admits(&self, want: usize) -> bool {
        self.room() >= want.min(self.capacity) && self.packets.len() < self.capacity / PIPE_BUF
    }

    pub(super) fn room(&self) -> usize {
        // More than the capacity is in it after bytes were put back.
        self.capacity.saturating_sub(self.len)
    }

    /// Takes one piece of a write: a packet, or as much as fits.
    pub(super) fn write(&mut self, src: &mut dyn Source, mode: Mode) -> Result<usize> {
        let want = src.remaining().min(self.room());
        if mode == Mode::Stream {
            // Stream bytes behind packets are kept apart from them.
            let count = self.copy_in(src, want)?;
            if !self.packets.is_empty() && count > 0 {
                self.packets.push_back(count as u32);
            }
            return Ok(count);
        }
        if self.packets.is_empty() && self.len > 0 {
            let stream = self.len as u32;
            self.packets.push_back(stream);
        }
        let count = self.copy_in(src, want.min(PIPE_BUF))?;
        if count > 0 {
            self.packets.push_back(count as u32);
        }
        Ok(count)
    }

    /// Moves bytes to `dst`: from one packet, if it holds packets.
    pub(super) fn read(&mut self, dst: &mut dyn Sink) -> Result<usize> {
        let count = self.peek(dst)?;
        // What a short read leaves of a packet is lost, as pipe2(2) says.
        let gone = self.packets.pop_front().map_or(count, |packet| packet as usize);
        self.len -= gone;
        self.head = if self.len == 0 {
            0
        } else {
            (self.head + gone) % self.data.len()
        };
        Ok(count)
    }

    /// Gives `dst` what [`read`](Self::read) would move.
    pub(super) fn peek(&self, dst: &mut dyn Sink) -> Result<usize> {
        let most = self.packets.front().map_or(self.len, |&packet| packet as usize);
        let want = most.min(dst.remaining());
        self.copy_out(dst, want)
    }

    /// Puts bytes back in front, even beyond the capacity.
    pub(super) fn unread(&mut self, data: &[u8]) {
        let size = (self.len + data.len()).max(self.data.len()).max(PIPE_BUF);
        self.relocate(size);
        // The ring starts at 0 now: its old end becomes the new front.
        let head = (size - data.len()) % size;
        self.data[head..head + data.len()].copy_from_slice(data);
        self.head = head;
        self.len += data.len();
        if !self.packets.is_empty() {
            self.packets.push_front(data.len() as u32);
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.capacity);
    }

    /// Bytes of the run that starts `offset` bytes behind the head.
    fn run(&self, offset: usize, want: usize) -> core::ops::Range<usize> {
        let start = (self.head + offset) % self.data.len();
        start..(start + want).min(self.data.len())
    }

    /// Makes space for `want` more bytes; the caller has seen that the capacity allows them.
    fn grow(&mut self, want: usize) {
        let need = self.len + want;
        if need <= self.data.len() {
            return;
        }
        let size = need.next_power_of_two().max(PIPE_BUF).min(self.capacity.max(need));
        self.relocate(size);
    }

    fn relocate(&mut self, size: usize) {
        let mut data = vec![0; size].into_boxed_slice();
        let mut done = 0;
        while done < self.len {
            let run = self.run(done, self.len - done);
            let count = run.len();
            data[done..done + count].copy_from_slice(&self.data[run]);
            done += count;
        }
        self.data = data;
        self.head = 0;
    }

    /// Takes up to `want` bytes from `src`.
    fn copy_in(&mut self, src: &mut dyn Source, want: usize) -> Result<usize> {
        self.grow(want);
        let mut done = 0;
        while done < want {
            let run = self.run(self.len, want - done);
            let size = run.len();
            let count = match src.read(&mut self.data[run]) {
                Ok(count) => count,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            self.len += count;
            done += count;
            if count < size {
                break;
            }
        }
        Ok(done)
    }

    /// Gives up to `want` bytes to `dst`, without taking them out.
    fn copy_out(&self, dst: &mut dyn Sink, want: usize) -> Result<usize> {
        let want = want.min(self.len);
        let mut done = 0;
        while done < want {
            let run = self.run(done, want - done);
            let size = run.len();
            let count = match dst.write(&self.data[run]) {
                Ok(count) => count,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            };
            done += count;
            if count < size {
                break;
            }
        }
        Ok(done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{SliceSink, SliceSource};

    fn put(ring: &mut Ring, data: &[u8], mode: Mode) -> usize {
        ring.write(&mut SliceSource::new(data), mode).unwrap()
    }

    #[test]
    fn the_ring_keeps_order_over_its_seam() {
        let mut ring = Ring::new(64 * 1024);
        let mut next_in = 0u8;
        let mut next_out = 0u8;
        for round in 1..400usize {
            let data: alloc::vec::Vec<u8> = (0..round * 7 % 3000).map(|at| next_in.wrapping_add(at as u8)).collect();
            let count = put(&mut ring, &data, Mode::Stream);
            next_in = next_in.wrapping_add(count as u8);
            let mut out = alloc::vec![0; round * 5 % 2500];
            let got = if ring.len() > 0 {
                ring.read(&mut SliceSink::new(&mut out)).unwrap()
            } else {
                0
            };
            for &byte in &out[..got] {
                assert_eq!(byte, next_out);
                next_out = next_out.wrapping_add(1);
            }
        }
    }

    #[test]
    fn a_short_read_of_a_packet_loses_its_rest() {
        let mut ring = Ring::new(64 * 1024);
        put(&mut ring, b"hello", Mode::Packets);
        put(&mut ring, b"world", Mode::Packets);
        let mut out = [0; 2];
        assert_eq!(ring.read(&mut SliceSink::new(&mut out)), Ok(2));
        let mut out = [0; 9];
        assert_eq!(ring.read(&mut SliceSink::new(&mut out)), Ok(5));
        assert_eq!(&out[..5], b"world");
    }

    #[test]
    fn bytes_put_back_come_first() {
        let mut ring = Ring::new(4096);
        put(&mut ring, &[1; 4096], Mode::Stream);
        ring.unread(b"front");
        assert!(!ring.admits(1), "full, and five bytes more");
        let mut out = [0; 6];
        assert_eq!(ring.read(&mut SliceSink::new(&mut out)), Ok(6));
        assert_eq!(&out, b"front\x01");
    }
}
