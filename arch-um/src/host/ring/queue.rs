//! [`Queue`]: one `io_uring(7)` and the requests it holds.
//!
//! The host can be asked for reads, writes, `fdatasync` and `fallocate` of one file and nothing else, also by somebody who writes into the ring
//! behind our back: restrictions and the one registered file are set before the ring is enabled, and cannot be changed after.
//!
//! A request's buffer belongs to the table from the moment its entry is in the ring until its completion is taken out: the host may write
//! there at any time in between. Lock order: `Queue::table` ([`order::DRIVER`]), not held over calls to the host.

use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use io_uring::register::Restriction;
use io_uring::squeue::{Entry, Flags};
use io_uring::types::{Fixed, FsyncFlags};
use io_uring::{IoUring, opcode};
use smallvec::SmallVec;

use crate::errno::Errno;
use crate::host::image::Durability;
use crate::host::sys::IntoErrno;
use crate::sync::{SpinLock, order};

/// Requests in a ring at a time: twice what a disk's queue hands out.
const DEPTH: u32 = 64;
/// Most bytes of one read or write, as for the calls; what is left is asked for afterwards.
const MOST_BYTES: usize = 1 << 30;
/// The only registered file.
const FILE: Fixed = Fixed(0);

/// What is asked of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Fill the buffer.
    Read,
    /// Store the buffer.
    Write(Durability),
    /// `fdatasync`.
    Sync,
    /// `fallocate` with this mode, so many bytes.
    Allocate(i32, u64),
}

/// Where a request runs that the host cannot carry out without waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// It is tried at once, by the caller, and waits elsewhere if it has to.
    Here,
    /// Always on a thread of the host's: copying that much would hold the caller up.
    Elsewhere,
}

/// A request; `owner` comes back with it.
pub(super) struct Io<T> {
    pub call: Call,
    pub place: Place,
    /// Its first byte in the file.
    pub offset: u64,
    pub data: Vec<u8>,
    /// So many bytes of `data` are through.
    pub done: usize,
    pub owner: T,
}

/// What the host made of requests: a count of bytes, or why not.
pub(super) type Reaped<T> = SmallVec<[(Io<T>, Result<usize, Errno>); 4]>;

pub(super) struct Queue<T> {
    uring: IoUring,
    table: SpinLock<Table<T>>,
}

struct Table<T> {
    slots: Vec<Option<Io<T>>>,
    free: Vec<u32>,
}

impl<T> Queue<T> {
    /// A ring for the file `fd`.
    ///
    /// # Errors
    /// `ENOSYS`, `EPERM` where the host has or allows none, `EINVAL` for a host before 5.10, `ENOMEM` (`RLIMIT_MEMLOCK`, before 5.12), `EMFILE`.
    pub fn new(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        let uring = IoUring::builder()
            .dontfork()
            .setup_r_disabled()
            .build(DEPTH)
            .map_err(IntoErrno::into_errno)?;
        let set_up = || {
            let ring = uring.submitter();
            ring.register_files(&[fd.as_raw_fd()])?;
            ring.register_restrictions(&mut [
                Restriction::sqe_op(opcode::Read::CODE),
                Restriction::sqe_op(opcode::Write::CODE),
                Restriction::sqe_op(opcode::Fsync::CODE),
                Restriction::sqe_op(opcode::Fallocate::CODE),
                Restriction::sqe_flags_required(Flags::FIXED_FILE.bits()),
                Restriction::sqe_flags_allowed((Flags::FIXED_FILE | Flags::ASYNC).bits()),
            ])?;
            ring.register_enable_rings()
        };
        set_up().map_err(IntoErrno::into_errno)?;
        Ok(Self {
            table: SpinLock::new(
                &order::DRIVER,
                Table {
                    slots: (0..DEPTH).map(|_| None).collect(),
                    free: (0..DEPTH).rev().collect(),
                },
            ),
            uring,
        })
    }

    /// Puts a request into the ring; [`kick`](Self::kick) makes the host look. Given back when the ring is full.
    pub fn push(&self, io: Io<T>) -> Result<(), Io<T>> {
        let mut table = self.table.lock();
        let Some(slot) = table.free.pop() else {
            return Err(io);
        };
        let io = table.slots[slot as usize].insert(io);
        let entry = io.entry().user_data(slot.into());
        // SAFETY: under the lock nobody else uses the submission queue. The buffer in the entry belongs to the table and neither moves nor is
        // touched before `reap` has seen its completion; `drop` leaks what is left.
        let pushed = unsafe { self.uring.submission_shared().push(&entry) };
        if pushed.is_err() {
            let io = table.slots[slot as usize].take();
            table.free.push(slot);
            return io.map_or(Ok(()), Err);
        }
        Ok(())
    }

    /// Makes the host take all that was pushed.
    ///
    /// # Errors
    /// `EAGAIN`, `EBUSY`, `ENOMEM`: the host has no memory for requests now; what was pushed stays in the ring, to be kicked again.
    pub fn kick(&self) -> Result<(), Errno> {
        loop {
            match self.uring.submit().map_err(IntoErrno::into_errno) {
                // Others may have been quicker; and an entry that is refused ends a call early.
                Ok(_) if self.is_taken() => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
        }
    }

    fn is_taken(&self) -> bool {
        let _table = self.table.lock();
        // SAFETY: under the lock nobody else uses the submission queue.
        unsafe { self.uring.submission_shared().is_empty() }
    }

    /// Takes out what the host is through with.
    pub fn reap(&self) -> Reaped<T> {
        let mut reaped = Reaped::new();
        let mut table = self.table.lock();
        // SAFETY: under the lock nobody else uses the completion queue.
        for completion in unsafe { self.uring.completion_shared() } {
            let slot = completion.user_data();
            if let Some(io) = table.slots.get_mut(slot as usize).and_then(Option::take) {
                table.free.push(slot as u32);
                let result = completion.result();
                let result = usize::try_from(result).map_err(|_| Errno::from_host(-result));
                reaped.push((io, result));
            }
        }
        reaped
    }
}

impl<T> Io<T> {
    fn entry(&mut self) -> Entry {
        let at = self.offset + self.done as u64;
        let rest = self.data.get_mut(self.done..).unwrap_or_default();
        let len = rest.len().min(MOST_BYTES) as u32;
        let entry = match self.call {
            Call::Read => opcode::Read::new(FILE, rest.as_mut_ptr(), len).offset(at).build(),
            Call::Write(durability) => opcode::Write::new(FILE, rest.as_ptr(), len)
                .offset(at)
                .rw_flags(durability.flags().bits())
                .build(),
            Call::Sync => opcode::Fsync::new(FILE).flags(FsyncFlags::DATASYNC).build(),
            Call::Allocate(mode, len) => opcode::Fallocate::new(FILE, len).offset(at).mode(mode).build(),
        };
        match self.place {
            Place::Here => entry.flags(Flags::FIXED_FILE),
            Place::Elsewhere => entry.flags(Flags::FIXED_FILE | Flags::ASYNC),
        }
    }
}

impl<T> AsFd for Queue<T> {
    /// Readable while completions are waiting.
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring's descriptor, open as long as the ring is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.uring.as_raw_fd()) }
    }
}

impl<T> Drop for Queue<T> {
    fn drop(&mut self) {
        // Closing a ring does not wait for its requests. There are none: each keeps the ring. Should that change, memory is lost, not overwritten.
        for io in self.table.lock().slots.drain(..).flatten() {
            mem::forget(io);
        }
    }
}
