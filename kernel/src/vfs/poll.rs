//! Readiness: `poll(2)`'s events and the table a poller brings along.

use alloc::sync::Arc;
use alloc::vec::Vec;

use core::sync::atomic::{AtomicBool, Ordering};

use arch_um::sync::{Interruptible, Registration, WaitError, WaitQueue, Wake};
use arch_um::time::Instant;
use bitflags::bitflags;

bitflags! {
    /// `poll(2)`'s and `epoll(7)`'s events: the same numbers.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct PollEvents: u32 {
        /// Data to read.
        const IN = 0x001;
        /// Urgent data.
        const PRI = 0x002;
        /// Room to write.
        const OUT = 0x004;
        /// Error.
        const ERR = 0x008;
        /// Hang-up: both directions.
        const HUP = 0x010;
        /// Not an open descriptor.
        const NVAL = 0x020;
        /// As `IN`.
        const RDNORM = 0x040;
        /// Priority band data.
        const RDBAND = 0x080;
        /// As `OUT`.
        const WRNORM = 0x100;
        /// Priority data may be written.
        const WRBAND = 0x200;
        /// The peer stopped writing.
        const RDHUP = 0x2000;
    }
}

/// Whether every poller of a file hears of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// This one does.
    All,
    /// One of those who say this is enough, unless it is an error or the end (`EPOLLEXCLUSIVE`).
    One,
}

/// Collects the wait queues that a poller must hear from. Dropping it unregisters everywhere.
pub struct PollTable {
    waker: Arc<dyn Wake>,
    mask: PollEvents,
    share: Share,
    registrations: Vec<Registration>,
}

impl PollTable {
    /// A table whose queues wake `waker` for events in `mask`; errors and hang-ups always do.
    pub fn new(waker: Arc<dyn Wake>, mask: PollEvents) -> Self {
        Self {
            waker,
            mask: mask | PollEvents::ERR | PollEvents::HUP,
            share: Share::All,
            registrations: Vec::new(),
        }
    }

    /// Who hears of changes.
    pub fn shared(mut self, share: Share) -> Self {
        self.share = share;
        self
    }

    /// From here on queues wake for events in `mask`: a table may serve several files.
    pub fn set_mask(&mut self, mask: PollEvents) {
        self.mask = mask | PollEvents::ERR | PollEvents::HUP;
    }

    /// Called by [`super::FileOps::poll`] for each queue that announces a change of readiness.
    pub fn listen(&mut self, queue: &WaitQueue) {
        let (mask, waker) = (self.mask.bits(), self.waker.clone());
        self.registrations.push(match self.share {
            Share::All => queue.register(mask, waker),
            Share::One => queue.register_exclusive(mask, waker),
        });
    }
}

/// A thread that waits for readiness: the waker of its table, and its bed.
pub struct Sleeper {
    queue: WaitQueue,
    woken: AtomicBool,
}

impl Sleeper {
    /// Not woken yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            queue: WaitQueue::new(),
            woken: AtomicBool::new(false),
        })
    }

    /// Sleeps until woken since the last call.
    ///
    /// # Errors
    /// A signal, or `deadline`.
    pub fn sleep(&self, deadline: Option<Instant>) -> Result<(), WaitError> {
        self.queue.wait_until(Interruptible::Yes, deadline, || {
            self.woken.swap(false, Ordering::AcqRel).then_some(())
        })
    }
}

impl Wake for Sleeper {
    fn wake(&self, _key: u32) {
        self.woken.store(true, Ordering::Release);
        self.queue.wake_all();
    }
}
