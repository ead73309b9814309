//! Pipes: `pipe2(2)` and FIFOs (`pipe(7)`, `fifo(7)`).
//!
//! A [`Pipe`] is a ring of bytes between [`PipeEnd`]s. It hangs on its inode, a FIFO of a directory or a nameless one, so that opening
//! /proc/self/fd/N finds it again. [`ring`]: the bytes.  [`open`]: both ends of a new pipe, and how the openers of a FIFO meet.
//!
//! Lock order: `Pipe::ring` (sleeping) is held over user copies. Readiness is read from the atomics beside it, without the lock.

mod open;
mod ring;

use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use arch_um::sync::{Interruptible, Mutex, WaitError, WaitQueue, order};

use super::file::{Access, File, FileOps, OpenFlags, SeekKind, WriteAt, Written};
use super::ioctl;
use super::poll::{PollEvents, PollTable};
use crate::io::{Sink, Source};
use crate::signal::Signal;
use crate::syscall::Context;
use crate::task::{Capabilities, Cred};
use crate::user::UserPtr;
use crate::{Errno, Result};
use open::Meeting;
pub use open::{open_fifo, pipe};
use ring::{Mode, Ring};

/// Writes up to this many bytes are atomic.
pub const PIPE_BUF: usize = 4096;
/// Capacity at birth.
const DEFAULT_CAPACITY: usize = 64 * 1024;
/// The largest that a process without `CAP_SYS_RESOURCE` may ask for (/proc/sys/fs/pipe-max-size).
const MAX_CAPACITY: usize = 1024 * 1024;

/// Wakes writers that sleep for room, not those who poll: not all polled pipes with some room are ready.
const ROOM: u32 = 1 << 31;

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

/// One open end (or both ends, for `O_RDWR`).
pub struct PipeEnd {
    pipe: Arc<Pipe>,
    access: Access,
}

impl Pipe {
    /// An empty pipe without ends.
    pub fn new() -> Self {
        Self::with(Meeting::Awaited)
    }

    fn with(meeting: Meeting) -> Self {
        Self {
            ring: Mutex::new(&order::PIPE, Ring::new(DEFAULT_CAPACITY)),
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
        self.filled.store(ring.len(), Ordering::Release);
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
        self.wait_read(nonblocking, |ring| ring.read(dst))
    }

    /// Runs `take` on the ring when it holds bytes; wakes writers afterwards. 0 when it is empty and nobody can write.
    fn wait_read(&self, nonblocking: bool, mut take: impl FnMut(&mut Ring) -> Result<usize>) -> Result<usize> {
        let mut slept = false;
        let mut had_room = false;
        let attempt = || {
            // The count of writers is looked at first: a last write and close in between must not read as end of file.
            let writers = self.has_writers();
            let mut ring = self.ring.lock();
            if ring.len() > 0 {
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
    fn write(&self, nonblocking: bool, mode: Mode, src: &mut dyn Source) -> Result<usize> {
        let total = src.remaining();
        let mut done = 0;
        if total == 0 {
            return Ok(0);
        }
        let room = if total <= PIPE_BUF { total } else { 1 };
        while src.remaining() > 0 {
            let left = src.remaining();
            match self.wait_write(nonblocking, room, |ring| ring.write(src, mode)) {
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
            if ring.admits(room) {
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
        if size > MAX_CAPACITY && size > ring.capacity() && !cred.capable(Capabilities::SYS_RESOURCE) {
            return Err(Errno::EPERM);
        }
        ring.set_capacity(size)?;
        self.capacity.store(size, Ordering::Release);
        drop(ring);
        self.write_queue.wake_all();
        Ok(size)
    }
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
            if ring.len() > 0 {
                return Some(ring.peek(dst));
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
        self.pipe.write(nonblocking, Mode::Stream, src)
    }

    /// Waits for room and writes what fits: `vmsplice(2)` waits no second time.
    pub fn write_what_fits(&self, nonblocking: bool, src: &mut dyn Source) -> Result<usize> {
        self.pipe
            .wait_write(nonblocking, 1, |ring| ring.write(src, Mode::Stream))
    }

    /// Puts bytes back that were read but could not be passed on: the next reader gets them first.
    pub fn unread(&self, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let pipe = &self.pipe;
        {
            let mut ring = pipe.ring.lock();
            ring.unread(data);
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
                ring.clear();
                pipe.publish(&ring);
            }
        }
        pipe.read_queue.wake_all();
        pipe.write_queue.wake_all();
    }
}

impl FileOps for PipeEnd {
    fn can_signal(&self) -> bool {
        true
    }

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
        let mode = match file.flags().contains(OpenFlags::DIRECT) {
            true => Mode::Packets,
            false => Mode::Stream,
        };
        let count = self.pipe.write(file.is_nonblocking(), mode, src)?;
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
