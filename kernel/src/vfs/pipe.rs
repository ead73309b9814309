//! Pipes: `pipe2(2)` and FIFOs (`pipe(7)`, `fifo(7)`).
//!
//! A [`Pipe`] is a ring of bytes between [`PipeEnd`]s. It hangs on its inode, a FIFO of a directory or a nameless one, so that opening
//! /proc/self/fd/N finds it again. The ring starts at a page and grows to its capacity when it is filled. In packet mode (`O_DIRECT`) the lengths
//! of writes are kept beside the bytes.
//!
//! Lock order: `Pipe::ring` (sleeping) is held over user copies. Readiness is read from the atomics beside it, without the lock.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use arch_um::sync::{Interruptible, Mutex, WaitError, WaitQueue, order};

use super::file::{Access, File, FileOps, OpenFlags, SeekKind, WriteAt, Written};
use super::inode::Inode;
use super::poll::{PollEvents, PollTable};
use super::{anon, ioctl};
use crate::io::{Sink, Source};
use crate::signal::Signal;
use crate::syscall::Context;
use crate::task::{Capabilities, Cred};
use crate::user::UserPtr;
use crate::{Errno, Result};

/// Writes up to this many bytes are atomic.
pub const PIPE_BUF: usize = 4096;
/// Capacity at birth.
const DEFAULT_CAPACITY: usize = 64 * 1024;
/// The largest that a process without `CAP_SYS_RESOURCE` may ask for (/proc/sys/fs/pipe-max-size).
const MAX_CAPACITY: usize = 1024 * 1024;

/// Wakes writers that sleep for room, not those who poll: not all polled pipes with some room are ready.
const ROOM: u32 = 1 << 31;

/// The bytes between the ends.
struct Ring {
    data: Box<[u8]>,
    head: usize,
    len: usize,
    /// Lengths of the packets in it, oldest first; empty in stream mode. A length of 0 ends a stretch of stream bytes.
    packets: VecDeque<u32>,
    capacity: usize,
}

/// A pipe.
pub struct Pipe {
    ring: Mutex<Ring>,
    meeting: Meeting,
    /// Bytes in the ring.
    filled: AtomicUsize,
    capacity: AtomicUsize,
    readers: AtomicU32,
    writers: AtomicU32,
    /// Opens for reading and writing so far: what a FIFO's opener waits for.
    reader_opens: AtomicU32,
    writer_opens: AtomicU32,
    read_queue: WaitQueue,
    write_queue: WaitQueue,
    open_queue: WaitQueue,
}

/// Whether an opener waits for the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meeting {
    /// A FIFO: its openers wait for each other.
    Awaited,
    /// A pipe without a name, opened once more through /proc/self/fd: nobody waits, even when the other side is gone.
    Past,
}

/// One open end (or both ends, for `O_RDWR`).
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    access: Access,
}

impl Ring {
    fn room(&self) -> usize {
        // More than the capacity is in it after bytes were put back.
        self.capacity.saturating_sub(self.len)
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
    fn push(&mut self, src: &mut dyn Source, want: usize) -> Result<usize> {
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

    /// Gives up to `want` bytes from `offset` on to `dst`, without taking them out.
    fn peek(&self, offset: usize, dst: &mut dyn Sink, want: usize) -> Result<usize> {
        let want = want.min(self.len.saturating_sub(offset));
        let mut done = 0;
        while done < want {
            let run = self.run(offset + done, want - done);
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

    fn drop_front(&mut self, count: usize) {
        self.len -= count;
        self.head = if self.len == 0 {
            0
        } else {
            (self.head + count) % self.data.len()
        };
    }
}

impl Pipe {
    /// An empty pipe without ends.
    pub fn new() -> Self {
        Self::with(Meeting::Awaited)
    }

    fn with(meeting: Meeting) -> Self {
        let ring = Ring {
            data: Box::default(),
            head: 0,
            len: 0,
            packets: VecDeque::new(),
            capacity: DEFAULT_CAPACITY,
        };
        Self {
            ring: Mutex::new(&order::PIPE, ring),
            meeting,
            filled: AtomicUsize::new(0),
            capacity: AtomicUsize::new(DEFAULT_CAPACITY),
            readers: AtomicU32::new(0),
            writers: AtomicU32::new(0),
            reader_opens: AtomicU32::new(0),
            writer_opens: AtomicU32::new(0),
            read_queue: WaitQueue::new(),
            write_queue: WaitQueue::new(),
            open_queue: WaitQueue::new(),
        }
    }

    /// Bytes in it.
    pub fn len(&self) -> usize {
        self.filled.load(Ordering::Acquire)
    }

    /// Whether there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a write of [`PIPE_BUF`] bytes would not wait: what `poll(2)` calls writable.
    fn is_writable(&self) -> bool {
        self.len() + PIPE_BUF <= self.capacity.load(Ordering::Acquire)
    }

    fn has_readers(&self) -> bool {
        self.readers.load(Ordering::Acquire) > 0
    }

    fn has_writers(&self) -> bool {
        self.writers.load(Ordering::Acquire) > 0
    }

    fn publish(&self, ring: &Ring) {
        self.filled.store(ring.len, Ordering::Release);
    }

    fn open_end(self: &Arc<Self>, access: Access) -> Arc<PipeEnd> {
        if access.contains(Access::READ) {
            self.readers.fetch_add(1, Ordering::AcqRel);
            self.reader_opens.fetch_add(1, Ordering::AcqRel);
        }
        if access.contains(Access::WRITE) {
            self.writers.fetch_add(1, Ordering::AcqRel);
            self.writer_opens.fetch_add(1, Ordering::AcqRel);
        }
        self.open_queue.wake_all();
        Arc::new(PipeEnd {
            pipe: self.clone(),
            access,
        })
    }

    /// Reads once something is there. 0 when empty and no writer is left.
    fn read(&self, nonblocking: bool, dst: &mut dyn Sink) -> Result<usize> {
        if dst.remaining() == 0 {
            return Ok(0);
        }
        let done = self.wait_read(nonblocking, |ring| self.read_now(ring, dst))?;
        Ok(done)
    }

    fn read_now(&self, ring: &mut Ring, dst: &mut dyn Sink) -> Result<usize> {
        let want = dst.remaining();
        let Some(&packet) = ring.packets.front() else {
            let count = ring.peek(0, dst, want)?;
            ring.drop_front(count);
            return Ok(count);
        };
        // What a short read leaves of a packet is lost, as pipe2(2) says.
        let count = ring.peek(0, dst, want.min(packet as usize))?;
        ring.drop_front(packet as usize);
        ring.packets.pop_front();
        Ok(count)
    }

    /// Runs `take` on the ring when it holds bytes; wakes writers afterwards. 0 when it is empty and nobody can write.
    fn wait_read(&self, nonblocking: bool, mut take: impl FnMut(&mut Ring) -> Result<usize>) -> Result<usize> {
        let mut slept = false;
        let mut had_room = false;
        let attempt = || {
            // The count of writers is looked at first: a last write and close in between must not read as end of file.
            let writers = self.has_writers();
            let mut ring = self.ring.lock();
            if ring.len > 0 {
                had_room = self.is_writable();
                let result = take(&mut ring);
                self.publish(&ring);
                return Some(result);
            }
            if !writers {
                return Some(Ok(0));
            }
            slept = true;
            nonblocking.then_some(Err(Errno::EAGAIN))
        };
        let result = self
            .read_queue
            .wait_until_exclusive(Interruptible::Yes, None, attempt)?;
        if matches!(result, Ok(count) if count > 0) {
            // An edge-triggered poller hears of a change, and only of that.
            let key = if !had_room && self.is_writable() {
                PollEvents::OUT | PollEvents::WRNORM
            } else {
                PollEvents::from_bits_retain(ROOM)
            };
            self.write_queue.wake_sync(usize::MAX, key.bits());
            // Who did not sleep took no other reader's wake-up.
            if slept && !self.is_empty() {
                self.read_queue.wake(1, (PollEvents::IN | PollEvents::RDNORM).bits());
            }
        }
        result
    }

    /// Writes all of `src`, waiting for room; up to [`PIPE_BUF`] bytes go in one piece.
    fn write(&self, nonblocking: bool, packets: bool, src: &mut dyn Source) -> Result<usize> {
        let total = src.remaining();
        let mut done = 0;
        if total == 0 {
            return Ok(0);
        }
        let room = if total <= PIPE_BUF { total } else { 1 };
        while src.remaining() > 0 {
            let left = src.remaining();
            match self.wait_write(nonblocking, room, |ring| push(ring, src, packets)) {
                Ok(0) => break,
                Ok(count) => done += count,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
            if src.remaining() == left {
                break;
            }
        }
        Ok(done)
    }

    /// Runs `put` on the ring when it has room for `atomic` bytes (or for one, when `put` may go in pieces); wakes readers afterwards.
    ///
    /// # Errors
    /// `EPIPE`, with `SIGPIPE`, when nobody can read.
    fn wait_write(
        &self,
        nonblocking: bool,
        room: usize,
        mut put: impl FnMut(&mut Ring) -> Result<usize>,
    ) -> Result<usize> {
        let attempt = || {
            if !self.has_readers() {
                return Some(Err(Errno::EPIPE));
            }
            let mut ring = self.ring.lock();
            if ring.room() >= room.min(ring.capacity) && ring.packets.len() < ring.capacity / PIPE_BUF {
                let result = put(&mut ring);
                self.publish(&ring);
                return Some(result);
            }
            nonblocking.then_some(Err(Errno::EAGAIN))
        };
        let result = match self.write_queue.wait_until(Interruptible::Yes, None, attempt) {
            Ok(result) => result,
            Err(WaitError::Interrupted) => Err(Errno::RestartSys),
            Err(error) => Err(error.into()),
        };
        match result {
            Ok(count) if count > 0 => {
                self.read_queue
                    .wake_sync(1, (PollEvents::IN | PollEvents::RDNORM).bits());
            }
            Err(Errno::EPIPE) => super::raise(Signal::PIPE),
            _ => {}
        }
        result
    }

    fn set_capacity(&self, wanted: usize, cred: &Cred) -> Result<usize> {
        let size = wanted.max(PIPE_BUF).checked_next_power_of_two().ok_or(Errno::EINVAL)?;
        if size > 1 << 31 {
            return Err(Errno::EINVAL);
        }
        let mut ring = self.ring.lock();
        if size > MAX_CAPACITY && size > ring.capacity && !cred.capable(Capabilities::SYS_RESOURCE) {
            return Err(Errno::EPERM);
        }
        if size < ring.len || ring.packets.len() > size / PIPE_BUF {
            return Err(Errno::EBUSY);
        }
        if size < ring.data.len() {
            ring.relocate(size);
        }
        ring.capacity = size;
        self.capacity.store(size, Ordering::Release);
        drop(ring);
        self.write_queue.wake_all();
        Ok(size)
    }
}

/// One piece of a write: a packet, or as much as fits.
fn push(ring: &mut Ring, src: &mut dyn Source, packets: bool) -> Result<usize> {
    let want = src.remaining().min(ring.room());
    if !packets {
        // Stream bytes behind packets are kept apart from them.
        let count = ring.push(src, want)?;
        if !ring.packets.is_empty() && count > 0 {
            ring.packets.push_back(count as u32);
        }
        return Ok(count);
    }
    if ring.packets.is_empty() && ring.len > 0 {
        let stream = ring.len as u32;
        ring.packets.push_back(stream);
    }
    let count = ring.push(src, want.min(PIPE_BUF))?;
    if count > 0 {
        ring.packets.push_back(count as u32);
    }
    Ok(count)
}

impl Default for Pipe {
    fn default() -> Self {
        Self::new()
    }
}

impl PipeEnd {
    /// The pipe.
    pub fn pipe(&self) -> &Arc<Pipe> {
        &self.pipe
    }

    /// Gives bytes to `dst` without taking them out (`tee(2)`): waits like a read.
    pub fn peek(&self, nonblocking: bool, dst: &mut dyn Sink) -> Result<usize> {
        let pipe = &self.pipe;
        let attempt = || {
            let writers = pipe.has_writers();
            let ring = pipe.ring.lock();
            if ring.len > 0 {
                let want = ring.packets.front().map_or(ring.len, |&packet| packet as usize);
                return Some(ring.peek(0, dst, want));
            }
            if !writers {
                return Some(Ok(0));
            }
            nonblocking.then_some(Err(Errno::EAGAIN))
        };
        pipe.read_queue.wait_until(Interruptible::Yes, None, attempt)?
    }

    /// Reads as `splice(2)` does, with its own say about waiting.
    pub fn read(&self, nonblocking: bool, dst: &mut dyn Sink) -> Result<usize> {
        self.pipe.read(nonblocking, dst)
    }

    /// Writes as `splice(2)` does, with its own say about waiting.
    pub fn write(&self, nonblocking: bool, src: &mut dyn Source) -> Result<usize> {
        self.pipe.write(nonblocking, false, src)
    }

    /// Waits for room and writes what fits: `vmsplice(2)` waits no second time.
    pub fn write_what_fits(&self, nonblocking: bool, src: &mut dyn Source) -> Result<usize> {
        self.pipe.wait_write(nonblocking, 1, |ring| push(ring, src, false))
    }

    /// Puts bytes back that were read but could not be passed on: the next reader gets them first.
    pub fn unread(&self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let pipe = &self.pipe;
        {
            let mut ring = pipe.ring.lock();
            let size = (ring.len + data.len()).max(ring.data.len()).max(PIPE_BUF);
            ring.relocate(size);
            // The ring starts at 0 now: its old end becomes the new front.
            let head = (size - data.len()) % size;
            ring.data[head..head + data.len()].copy_from_slice(data);
            ring.head = head;
            ring.len += data.len();
            if !ring.packets.is_empty() {
                ring.packets.push_front(data.len() as u32);
            }
            pipe.publish(&ring);
        }
        pipe.read_queue.wake(1, (PollEvents::IN | PollEvents::RDNORM).bits());
    }

    /// Waits until there is room, and says how much. `EPIPE`, with `SIGPIPE`, when nobody can read.
    pub fn wait_room(&self, nonblocking: bool) -> Result<usize> {
        let mut room = 0;
        self.pipe.wait_write(nonblocking, 1, |ring| {
            room = ring.room();
            Ok(0)
        })?;
        Ok(room)
    }

    /// `F_GETPIPE_SZ`.
    pub fn capacity(&self) -> usize {
        self.pipe.capacity.load(Ordering::Acquire)
    }

    /// `F_SETPIPE_SZ`: rounded up to a power of two of at least a page. `EPERM`, `EBUSY`.
    pub fn set_capacity(&self, size: usize, cred: &Cred) -> Result<usize> {
        self.pipe.set_capacity(size, cred)
    }
}

impl Drop for PipeEnd {
    fn drop(&mut self) {
        let pipe = &self.pipe;
        if self.access.contains(Access::READ) {
            pipe.readers.fetch_sub(1, Ordering::AcqRel);
        }
        if self.access.contains(Access::WRITE) {
            pipe.writers.fetch_sub(1, Ordering::AcqRel);
        }
        if !pipe.has_readers() && !pipe.has_writers() {
            // What a FIFO still held is lost with its last user.
            let mut ring = pipe.ring.lock();
            if !pipe.has_readers() && !pipe.has_writers() {
                ring.len = 0;
                ring.head = 0;
                ring.packets.clear();
                ring.data = Box::default();
                pipe.publish(&ring);
            }
        }
        pipe.read_queue.wake_all();
        pipe.write_queue.wake_all();
    }
}

impl FileOps for PipeEnd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> SeekKind {
        SeekKind::Stream
    }

    fn read_at(&self, file: &File, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        self.pipe.read(file.is_nonblocking(), dst)
    }

    fn write_at(&self, file: &File, _pos: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let count = self
            .pipe
            .write(file.is_nonblocking(), file.flags().contains(OpenFlags::DIRECT), src)?;
        Ok(Written { count, end: 0 })
    }

    fn ioctl(&self, _cx: &Context, _file: &File, cmd: u32, arg: u64) -> Result<usize> {
        if cmd != ioctl::FIONREAD {
            return Err(Errno::ENOTTY);
        }
        UserPtr::<i32>::new(arg).write(&(self.pipe.len() as i32))?;
        Ok(0)
    }

    fn announces(&self) -> bool {
        true
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        let pipe = &self.pipe;
        if let Some(table) = table {
            if self.access.contains(Access::READ) {
                table.listen(&pipe.read_queue);
            }
            if self.access.contains(Access::WRITE) {
                table.listen(&pipe.write_queue);
            }
        }
        let mut events = PollEvents::empty();
        if self.access.contains(Access::READ) {
            let writers = pipe.has_writers();
            if !pipe.is_empty() {
                events |= PollEvents::IN | PollEvents::RDNORM;
            }
            // A FIFO that no writer ever opened is merely silent.
            if !writers && pipe.writer_opens.load(Ordering::Acquire) > 0 {
                events |= PollEvents::HUP;
            }
        }
        if self.access.contains(Access::WRITE) {
            if pipe.is_writable() {
                events |= PollEvents::OUT | PollEvents::WRNORM;
            }
            if !pipe.has_readers() {
                events |= PollEvents::ERR;
            }
        }
        events
    }
}

/// Both ends of a new pipe: reader, writer. `flags`: `O_NONBLOCK`, `O_DIRECT`.
pub fn pipe(flags: OpenFlags, cred: &Arc<Cred>) -> [Arc<File>; 2] {
    let path = anon::pipe_path(cred);
    let inode = path.inode();
    let pipe = inode.state().get_or_init(|| Pipe::with(Meeting::Past));
    let status = flags & (OpenFlags::NONBLOCK | OpenFlags::DIRECT);
    let end = |access, mode: OpenFlags| {
        let ops = pipe.open_end(access);
        File::new(ops, Some(path.clone()), status | mode, cred.clone())
    };
    [
        end(Access::READ, OpenFlags::empty()),
        end(Access::WRITE, OpenFlags::WRONLY),
    ]
}

/// Opens a FIFO, or one more end of a pipe without a name (at once): a reader waits for a writer and a writer for a reader, unless `O_NONBLOCK` (then `ENXIO` for a lone writer) or `O_RDWR`.
pub fn open_fifo(inode: &Arc<dyn Inode>, flags: OpenFlags) -> Result<Arc<dyn FileOps>> {
    let access = flags.access();
    if access.is_empty() {
        return Err(Errno::EINVAL);
    }
    let pipe = inode.state().get_or_init(Pipe::new);
    if pipe.meeting == Meeting::Past {
        return Ok(pipe.open_end(access));
    }
    let nonblocking = flags.contains(OpenFlags::NONBLOCK);
    if access == Access::WRITE && nonblocking && !pipe.has_readers() {
        return Err(Errno::ENXIO);
    }
    let seen = (
        pipe.reader_opens.load(Ordering::Acquire),
        pipe.writer_opens.load(Ordering::Acquire),
    );
    let end = pipe.open_end(access);
    let met = || match access {
        Access::READ => pipe.has_writers() || pipe.writer_opens.load(Ordering::Acquire) != seen.1,
        Access::WRITE => pipe.has_readers() || pipe.reader_opens.load(Ordering::Acquire) != seen.0,
        _ => true,
    };
    if !nonblocking {
        pipe.open_queue
            .wait_until(Interruptible::Yes, None, || met().then_some(()))?;
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::{SliceSink, SliceSource};

    fn put(ring: &mut Ring, data: &[u8], packets: bool) -> usize {
        push(ring, &mut SliceSource::new(data), packets).unwrap()
    }

    #[test]
    fn the_ring_keeps_order_over_its_seam() {
        let pipe = Pipe::new();
        let mut ring = pipe.ring.lock();
        let mut next_in = 0u8;
        let mut next_out = 0u8;
        for round in 1..400usize {
            let data: alloc::vec::Vec<u8> = (0..round * 7 % 3000).map(|at| next_in.wrapping_add(at as u8)).collect();
            let count = put(&mut ring, &data, false);
            next_in = next_in.wrapping_add(count as u8);
            let mut out = alloc::vec![0; round * 5 % 2500];
            let mut sink = SliceSink::new(&mut out);
            let got = if ring.len > 0 {
                pipe.read_now(&mut ring, &mut sink).unwrap()
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
        let pipe = Pipe::new();
        let mut ring = pipe.ring.lock();
        put(&mut ring, b"hello", true);
        put(&mut ring, b"world", true);
        let mut out = [0; 2];
        assert_eq!(pipe.read_now(&mut ring, &mut SliceSink::new(&mut out)), Ok(2));
        let mut out = [0; 9];
        assert_eq!(pipe.read_now(&mut ring, &mut SliceSink::new(&mut out)), Ok(5));
        assert_eq!(&out[..5], b"world");
    }
}
