//! `eventfd(2)`: a counter that can be waited for. Lock order: the counter is a leaf, never held over a user copy.

use alloc::sync::Arc;
use core::any::Any;

use arch_um::sync::{Interruptible, SpinLock, WaitQueue, order};

use super::anon;
use super::fd_table::{CloseOnExec, Fd};
use super::file::{File, FileOps, OpenFlags, SeekKind, WriteAt, Written};
use super::poll::{PollEvents, PollTable};
use crate::io::{Sink, Source};
use crate::syscall::Context;
use crate::{Errno, Result};

const EFD_SEMAPHORE: u32 = 1;

/// What a read takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    All,
    /// `EFD_SEMAPHORE`.
    One,
}

/// A counter.
pub struct EventFd {
    count: SpinLock<u64>,
    takes: Takes,
    queue: WaitQueue,
}

impl EventFd {
    fn new(count: u64, takes: Takes) -> Self {
        Self {
            count: SpinLock::new(&order::LEAF, count),
            takes,
            queue: WaitQueue::new(),
        }
    }

    /// Adds from the kernel's side; stops at the largest value.
    pub fn signal(&self, count: u64) {
        {
            let mut now = self.count.lock();
            *now = now.saturating_add(count);
        }
        self.queue.wake_key((PollEvents::IN | PollEvents::RDNORM).bits());
    }

    fn take(&self) -> Option<u64> {
        let mut count = self.count.lock();
        let taken = match (*count, self.takes) {
            (0, _) => return None,
            (count, Takes::All) => count,
            (_, Takes::One) => 1,
        };
        *count -= taken;
        Some(taken)
    }

    fn add(&self, value: u64) -> bool {
        let mut count = self.count.lock();
        match count.checked_add(value) {
            Some(sum) if sum < u64::MAX => {
                *count = sum;
                true
            }
            _ => false,
        }
    }
}

/// Waits for `attempt`, unless `file` must not wait.
fn wait<R>(file: &File, queue: &WaitQueue, mut attempt: impl FnMut() -> Option<R>) -> Result<R> {
    if file.is_nonblocking() {
        return attempt().ok_or(Errno::EAGAIN);
    }
    Ok(queue.wait_until(Interruptible::Yes, None, attempt)?)
}

impl FileOps for EventFd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> SeekKind {
        SeekKind::Stream
    }

    fn read_at(&self, file: &File, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        if dst.remaining() < 8 {
            return Err(Errno::EINVAL);
        }
        let taken = wait(file, &self.queue, || self.take())?;
        self.queue.wake_key((PollEvents::OUT | PollEvents::WRNORM).bits());
        dst.write(&taken.to_le_bytes())
    }

    fn write_at(&self, file: &File, _pos: WriteAt, src: &mut dyn Source) -> Result<Written> {
        let mut raw = [0; 8];
        if src.remaining() < raw.len() {
            return Err(Errno::EINVAL);
        }
        if src.read(&mut raw)? < raw.len() {
            return Err(Errno::EFAULT);
        }
        let value = u64::from_le_bytes(raw);
        if value == u64::MAX {
            return Err(Errno::EINVAL);
        }
        wait(file, &self.queue, || self.add(value).then_some(()))?;
        self.queue.wake_key((PollEvents::IN | PollEvents::RDNORM).bits());
        Ok(Written {
            count: raw.len(),
            end: 0,
        })
    }

    fn announces(&self) -> bool {
        true
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.listen(&self.queue);
        }
        let count = *self.count.lock();
        let mut events = PollEvents::empty();
        if count > 0 {
            events |= PollEvents::IN | PollEvents::RDNORM;
        }
        if count == u64::MAX {
            events |= PollEvents::ERR;
        }
        if count < u64::MAX - 1 {
            events |= PollEvents::OUT | PollEvents::WRNORM;
        }
        events
    }
}

/// `eventfd2(2)`.
pub fn sys_eventfd2(cx: &Context, count: u32, flags: u32) -> Result<usize> {
    let open = OpenFlags::from_bits_retain(flags & !EFD_SEMAPHORE);
    if !(OpenFlags::CLOEXEC | OpenFlags::NONBLOCK).contains(open) {
        return Err(Errno::EINVAL);
    }
    let takes = if flags & EFD_SEMAPHORE != 0 {
        Takes::One
    } else {
        Takes::All
    };
    let ops = Arc::new(EventFd::new(u64::from(count), takes));
    let file = anon::file(ops, "[eventfd]", open | OpenFlags::RDWR, cx.task().cred());
    let Fd(fd) = cx.files().install(file, CloseOnExec::from(open))?;
    Ok(fd as usize)
}

/// `eventfd(2)`: the old call without flags.
pub fn sys_eventfd(cx: &Context, count: u32) -> Result<usize> {
    sys_eventfd2(cx, count, 0)
}
