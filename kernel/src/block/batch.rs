//! [`Batch`]: several requests at once, and one wait, or one call, for all of them.
//!
//! Buffers are owned and travel: what is given to a write comes back with its outcome, so a caller can use it again.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use arch_um::sync::{Interruptible, SpinLock, WaitQueue, order};

use super::bio::{Bio, BioFlags, Completion, Op};
use super::device::BlockDevice;
use super::disk::Medium;
use crate::page_cache::buffers;
use crate::{Errno, Result};

/// What came of one request: its buffer.
pub type Outcome = Result<Vec<u8>>;

/// Takes what came of a batch, in the order of adding, on any host thread; may not sleep.
pub type BatchDone = Box<dyn FnOnce(Vec<Outcome>) + Send>;

/// Where completions leave what they got.
struct Gather {
    slots: SpinLock<Slots>,
    arrived: WaitQueue,
}

#[derive(Default)]
struct Slots {
    outcomes: Vec<Option<Outcome>>,
    left: usize,
    /// Who is told, if nobody waits.
    done: Option<BatchDone>,
}

impl Slots {
    /// What came of each. A request that never got a slot's value cannot be: `Bio` reports even when it is dropped.
    fn take(&mut self) -> Vec<Outcome> {
        let outcomes = core::mem::take(&mut self.outcomes).into_iter();
        outcomes.map(|slot| slot.unwrap_or(Err(Errno::EIO))).collect()
    }
}

/// Requests to one device that are collected and then sent together. They have no order among themselves.
#[must_use = "nothing is sent before `wait`"]
pub struct Batch<'a> {
    target: Target<'a>,
    bios: Vec<Bio>,
    gather: Arc<Gather>,
}

/// Where a batch goes.
enum Target<'a> {
    /// A device, beside its cache.
    Device(&'a BlockDevice),
    /// A disk, from its cache.
    Medium(&'a Medium),
}

impl<'a> Batch<'a> {
    /// An empty one for `device`.
    pub(super) fn new(device: &'a BlockDevice) -> Self {
        Self::to(Target::Device(device))
    }

    /// An empty one for the page cache of `medium`.
    pub(super) fn on(medium: &'a Medium) -> Self {
        Self::to(Target::Medium(medium))
    }

    fn to(target: Target<'a>) -> Self {
        Self {
            target,
            bios: Vec::new(),
            gather: Arc::new(Gather {
                slots: SpinLock::new(&order::LEAF, Slots::default()),
                arrived: WaitQueue::new(),
            }),
        }
    }

    /// Adds a read of `len` bytes from byte `at` of the device.
    pub fn read(&mut self, at: u64, len: usize) -> &mut Self {
        self.add(Op::Read, BioFlags::empty(), at, len as u64, buffers::take(len))
    }

    /// Adds a read that nobody waits for.
    pub fn read_ahead(&mut self, at: u64, len: usize) -> &mut Self {
        self.add(Op::Read, BioFlags::AHEAD, at, len as u64, buffers::take(len))
    }

    /// Adds a write of `data` at byte `at`.
    pub fn write(&mut self, at: u64, data: Vec<u8>) -> &mut Self {
        self.write_with(at, data, BioFlags::empty())
    }

    /// Adds a write with a flush before it (`PREFLUSH`) or on stable storage at its end (`FUA`).
    pub fn write_with(&mut self, at: u64, data: Vec<u8>, flags: BioFlags) -> &mut Self {
        self.add(Op::Write, flags, at, data.len() as u64, data)
    }

    /// Adds any request.
    pub(super) fn add(&mut self, op: Op, flags: BioFlags, at: u64, len: u64, data: Vec<u8>) -> &mut Self {
        let index = {
            let mut slots = self.gather.slots.lock();
            slots.outcomes.push(None);
            slots.left += 1;
            slots.outcomes.len() - 1
        };
        let gather = self.gather.clone();
        let done: Completion = Box::new(move |mut bio, outcome| {
            let data = core::mem::take(&mut bio.data);
            let mut slots = gather.slots.lock();
            slots.outcomes[index] = Some(outcome.map(|()| data));
            slots.left -= 1;
            let last = slots.left == 0;
            let told = if last { slots.done.take() } else { None };
            let told = told.map(|done| (done, slots.take()));
            drop(slots);
            match told {
                Some((done, outcomes)) => done(outcomes),
                None if last => gather.arrived.wake_all(),
                None => {}
            }
        });
        let mut bio = Bio::new(op, at, len, data, done);
        bio.flags = flags;
        self.bios.push(bio);
        self
    }

    /// Sends everything and sleeps until all of it is done: what came of each, in the order they were added.
    pub fn wait(self) -> Vec<Outcome> {
        let written = match &self.target {
            Target::Device(device) => device.submit(self.bios),
            Target::Medium(medium) => {
                medium.submit(self.bios);
                Vec::new()
            }
        };
        let all = || {
            let mut slots = self.gather.slots.lock();
            (slots.left == 0).then(|| slots.take())
        };
        let outcomes = self.gather.arrived.wait_until(Interruptible::No, None, all);
        if let Target::Device(device) = &self.target {
            device.written(written);
        }
        outcomes.unwrap_or_default()
    }

    /// Sends everything, which are reads, and tells `done` when all of it is there.
    pub fn start(self, done: BatchDone) {
        if self.bios.is_empty() {
            return done(Vec::new());
        }
        self.gather.slots.lock().done = Some(done);
        match &self.target {
            Target::Device(device) => drop(device.submit(self.bios)),
            Target::Medium(medium) => medium.submit(self.bios),
        }
    }

    /// As [`wait`](Self::wait), for those who need all: the buffers, or the first error.
    pub fn wait_all(self) -> Result<Vec<Vec<u8>>> {
        self.wait().into_iter().collect()
    }
}
