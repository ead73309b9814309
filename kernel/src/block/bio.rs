//! A request to a disk and what its driver does with it.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arch_um::sync::{Interruptible, SpinLock, WaitQueue, order};

use crate::{Errno, Result};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Fill [`Bio::data`].
    Read,
    /// Store [`Bio::data`].
    Write,
    /// Everything completed before is on stable storage.
    Flush,
    /// The range's contents do not matter any more.
    Discard,
    /// The range reads as zeros.
    WriteZeroes,
}

/// Called once with the request and its outcome, on any host thread; may not sleep.
pub type Completion = Box<dyn FnOnce(Bio, Result<()>) + Send>;

/// A request. It travels to the driver and comes back whole, in success and failure.
pub struct Bio {
    /// What to do.
    pub op: Op,
    /// First byte on the disk.
    pub offset: u64,
    /// Bytes of the range (for [`Op::Read`] and [`Op::Write`], `data.len()`).
    pub len: u64,
    /// The data.
    pub data: Vec<u8>,
    done: Option<Completion>,
}

impl Bio {
    /// A request that reports to `done`.
    pub fn new(op: Op, offset: u64, len: u64, data: Vec<u8>, done: Completion) -> Self {
        Self {
            op,
            offset,
            len,
            data,
            done: Some(done),
        }
    }

    /// Ends the request.
    pub fn complete(mut self, outcome: Result<()>) {
        if let Some(done) = self.done.take() {
            done(self, outcome);
        }
    }
}

impl Drop for Bio {
    fn drop(&mut self) {
        // A driver that loses a request must not leave its owner asleep for ever.
        if let Some(done) = self.done.take() {
            let lost = Bio {
                op: self.op,
                offset: self.offset,
                len: self.len,
                data: core::mem::take(&mut self.data),
                done: None,
            };
            done(lost, Err(Errno::EIO));
        }
    }
}

/// What carries requests out.
pub trait BlockDriver: Send + Sync {
    /// Starts a request; returns without waiting. Completions come in any order.
    fn submit(&self, bio: Bio);
    /// Whether [`Op::Discard`] does something.
    fn can_discard(&self) -> bool {
        false
    }
    /// Driver-specific `ioctl`s are not known.
    fn serial(&self) -> Option<alloc::string::String> {
        None
    }
}

/// Sends a request and sleeps until it is done.
///
/// # Errors
/// The driver's.
pub fn submit_and_wait(driver: &Arc<dyn BlockDriver>, op: Op, offset: u64, len: u64, data: Vec<u8>) -> Result<Vec<u8>> {
    struct Slot {
        outcome: SpinLock<Option<(Vec<u8>, Result<()>)>>,
        arrived: WaitQueue,
    }
    let slot = Arc::new(Slot {
        outcome: SpinLock::new(&order::LEAF, None),
        arrived: WaitQueue::new(),
    });
    let receiver = slot.clone();
    let done: Completion = Box::new(move |mut bio, outcome| {
        *receiver.outcome.lock() = Some((core::mem::take(&mut bio.data), outcome));
        receiver.arrived.wake_all();
    });
    driver.submit(Bio::new(op, offset, len, data, done));
    let (data, outcome) = slot
        .arrived
        .wait_until(Interruptible::No, None, || slot.outcome.lock().take())?;
    outcome.map(|()| data)
}
