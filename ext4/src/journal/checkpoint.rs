//! Checkpoint: committed blocks go home, and the log's tail moves on.
//!
//! What is written is the newest *committed* version of a block, never what the running transaction makes of it. Order: the blocks, a flush, the
//! superblock with the new tail, a flush; only then is the old part of the log free to be overwritten.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Bound;

use super::log::{Log, State};
use super::transaction::is_at_least;
use super::{JBD2, Tid};
use crate::runs::RunWriter;
use crate::{Errno, Result};

/// Blocks taken at once: a megabyte or more of sorted writes.
const BATCH: usize = 512;

/// How many commit intervals a committed block may wait for its way home (30 s by default): replay after a crash is short then, and the
/// memory is free.
const HOME_INTERVALS: u32 = 6;

/// Blocks of the log that are freed at once when nobody waits for room.
const SLICE: u32 = 1024;

/// Blocks to be written home now, sorted.
type Batch = Vec<(u64, Arc<Vec<u8>>)>;

impl Log {
    /// Frees room in the log: at least `missing` blocks if possible, and so much more that the next handles need not wait, too.
    pub(super) fn make_room(&self, missing: u32) -> Result<()> {
        let (oldest, committing) = {
            let state = self.state.lock();
            state.check_begin()?;
            let blocks = missing.max(state.ring.size() / 4);
            (state.ring.oldest_with(blocks), state.committing)
        };
        match (oldest, committing) {
            (Some(tid), _) => self.checkpoint(tid),
            // Everything is in transactions that are not committed yet.
            (None, Some(tid)) => self.commit(tid),
            // Room has come meanwhile: a transaction is never larger than an empty log.
            (None, None) => Ok(()),
        }
    }

    /// Brings home what transactions up to `upto` have committed, and moves the tail. An error has aborted the journal.
    pub(super) fn checkpoint(&self, upto: Tid) -> Result<()> {
        let _turn = self.checkpointer.take();
        if self.state.lock().is_aborted() {
            return Err(Errno::EIO);
        }
        let result = self.write_home(upto).and_then(|()| self.move_tail());
        result.map_err(|error| {
            log::error!("{JBD2}Error {error} while writing blocks home on {}", self.name);
            self.fail(error)
        })
    }

    fn write_home(&self, upto: Tid) -> Result<()> {
        let mut from = Bound::Unbounded;
        loop {
            let batch = self.state.lock().take_batch(from, upto)?;
            let Some(&(last, _)) = batch.last() else {
                return Ok(());
            };
            let written = self.write_batch(&batch);
            let done = {
                let mut state = self.state.lock();
                state.in_flight.clear();
                match written {
                    Ok(()) => state.forget_written(&batch),
                    Err(_) => Vec::new(),
                }
            };
            self.changed.wake_all();
            drop(done);
            written?;
            from = Bound::Excluded(last);
        }
    }

    fn write_batch(&self, batch: &Batch) -> Result<()> {
        let mut writer = RunWriter::new(&**self.buffers.device(), self.format.block_size);
        for (block, bytes) in batch {
            writer.push(*block, bytes)?;
        }
        writer.finish()
    }

    /// Moves the tail behind the transactions that are home.
    fn move_tail(&self) -> Result<()> {
        let count = self.state.lock().ring.retirable();
        if count == 0 {
            return Ok(());
        }
        self.flush_home()?;
        self.state.lock().ring.retire(count);
        self.write_tail()?;
        self.flush_log()?;
        self.state.lock().ring.release();
        self.changed.wake_all();
        Ok(())
    }

    /// The transaction up to which blocks should go home although nobody waits for room: the log is half full, or its oldest blocks are old. Little at
    /// a time, because who waits for a commit waits for this, too.
    pub(super) fn due_home(&self) -> Option<Tid> {
        let patience = self.interval().saturating_mul(HOME_INTERVALS);
        let state = self.state.lock();
        let ring = &state.ring;
        let due = ring.free() < ring.size() / 2 || ring.age().is_some_and(|age| age >= patience);
        due.then(|| ring.oldest_with(SLICE)).flatten()
    }
}

impl State {
    /// The next blocks of transactions up to `upto`, marked as on their way. `EIO` after an abort.
    fn take_batch(&mut self, from: Bound<u64>, upto: Tid) -> Result<Batch> {
        if self.is_aborted() {
            return Err(Errno::EIO);
        }
        let due = self
            .home
            .range((from, Bound::Unbounded))
            .filter(|(_, pending)| is_at_least(upto, pending.tid));
        let batch: Batch = due
            .take(BATCH)
            .map(|(&block, pending)| (block, pending.bytes.clone()))
            .collect();
        self.in_flight.extend(batch.iter().map(|(block, _)| *block));
        Ok(batch)
    }

    /// The batch is at home, but for what has got a newer version since. What is returned is to be dropped without the lock.
    fn forget_written(&mut self, batch: &Batch) -> Vec<super::log::Pending> {
        let mut done = Vec::with_capacity(batch.len());
        for (block, bytes) in batch {
            let current = self
                .home
                .get(block)
                .is_some_and(|pending| Arc::ptr_eq(&pending.bytes, bytes));
            if let Some(pending) = current.then(|| self.home.remove(block)).flatten() {
                self.ring.sub_outstanding(pending.tid);
                done.push(pending);
            }
        }
        done
    }
}
