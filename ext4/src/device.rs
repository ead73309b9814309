//! What a file system lies on: a disk, a partition, a loop device, or memory in tests.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::{Errno, Result};

/// Takes what came of several reads, in their order, on any host thread; may not sleep.
pub type ReadsDone = Box<dyn FnOnce(Vec<Result<Vec<u8>>>) + Send>;

/// A block device in bytes. Calls may sleep; ranges lie inside the device and are whole sectors.
pub trait BlockDevice: Send + Sync {
    /// Length in bytes.
    fn len(&self) -> u64;
    /// Whether it has no sectors.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Whether writes are refused.
    fn is_read_only(&self) -> bool {
        false
    }
    /// Fills `data` from byte `at`. `EIO`.
    fn read(&self, at: u64, data: &mut [u8]) -> Result<()>;
    /// Stores `data` at byte `at`. It is durable only after a later [`flush`](Self::flush); until then the device may reorder or lose it.
    fn write(&self, at: u64, data: &[u8]) -> Result<()>;
    /// Reads `len` bytes from byte `at`. `EIO`.
    fn read_owned(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        let mut data = vec![0; len];
        self.read(at, &mut data)?;
        Ok(data)
    }
    /// Starts reads (first byte and length) that nobody waits for; by default they are waited for.
    fn start_reads(&self, runs: Vec<(u64, usize)>, done: ReadsDone) {
        done(runs.into_iter().map(|(at, len)| self.read_owned(at, len)).collect());
    }
    /// Stores several runs (first byte and data) that do not overlap, without an order among them: what came of each.
    fn write_runs(&self, runs: Vec<(u64, Vec<u8>)>) -> Vec<Result<()>> {
        runs.iter().map(|(at, data)| self.write(*at, data)).collect()
    }
    /// Returns when everything written before is on stable storage.
    fn flush(&self) -> Result<()>;
    /// Stores `data` at byte `at` when everything written before is on stable storage, and returns when it is there too: a commit block.
    fn commit(&self, at: u64, data: &[u8]) -> Result<()> {
        self.flush()?;
        self.write(at, data)?;
        self.flush()
    }
    /// The contents do not matter any more. `EOPNOTSUPP`: the device cannot forget.
    fn discard(&self, _at: u64, _len: u64) -> Result<()> {
        Err(Errno::EOPNOTSUPP)
    }
    /// The range reads as zeros.
    fn write_zeroes(&self, at: u64, len: u64) -> Result<()>;
}

/// A device that knows what a flush would do, so that one that would do nothing is not asked for.
pub(crate) struct Tracked {
    inner: Arc<dyn BlockDevice>,
    /// Flushes that have begun.
    begun: AtomicU64,
    /// The latest of them that is done.
    done: AtomicU64,
    /// The flush that makes the last write durable.
    wanted: AtomicU64,
}

/// A moment in the life of a device: the flush that makes what was written before durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(pub(crate) u64);

impl Tracked {
    pub(crate) fn new(inner: Arc<dyn BlockDevice>) -> Self {
        Self {
            inner,
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
            // Nobody knows what was written before.
            wanted: AtomicU64::new(1),
        }
    }

    /// After the last write that has returned.
    pub(crate) fn now(&self) -> Moment {
        Moment(self.wanted.load(Ordering::Acquire))
    }

    /// Whether everything written before `moment` is durable.
    pub(crate) fn is_durable(&self, moment: Moment) -> bool {
        self.done.load(Ordering::Acquire) >= moment.0
    }

    /// A write has returned. A flush that began before may have missed it.
    fn written(&self) {
        let next = self.begun.load(Ordering::Acquire) + 1;
        self.wanted.fetch_max(next, Ordering::AcqRel);
    }
}

impl BlockDevice for Tracked {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn is_read_only(&self) -> bool {
        self.inner.is_read_only()
    }

    fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        self.inner.read(at, data)
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        let result = self.inner.write(at, data);
        self.written();
        result
    }

    fn read_owned(&self, at: u64, len: usize) -> Result<Vec<u8>> {
        self.inner.read_owned(at, len)
    }

    fn start_reads(&self, runs: Vec<(u64, usize)>, done: ReadsDone) {
        self.inner.start_reads(runs, done);
    }

    fn write_runs(&self, runs: Vec<(u64, Vec<u8>)>) -> Vec<Result<()>> {
        let outcomes = self.inner.write_runs(runs);
        self.written();
        outcomes
    }

    fn commit(&self, at: u64, data: &[u8]) -> Result<()> {
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        let result = self.inner.commit(at, data);
        match result {
            Ok(()) => drop(self.done.fetch_max(number, Ordering::AcqRel)),
            Err(_) => self.written(),
        }
        result
    }

    fn flush(&self) -> Result<()> {
        if self.is_durable(self.now()) {
            return Ok(());
        }
        let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
        self.inner.flush()?;
        self.done.fetch_max(number, Ordering::AcqRel);
        Ok(())
    }

    fn discard(&self, at: u64, len: u64) -> Result<()> {
        self.inner.discard(at, len)
    }

    fn write_zeroes(&self, at: u64, len: u64) -> Result<()> {
        let result = self.inner.write_zeroes(at, len);
        self.written();
        result
    }
}
