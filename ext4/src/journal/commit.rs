//! Commit: the running transaction goes to the log.
//!
//! 1. No new handles; wait for the open ones. Snapshots of all blocks; the next transaction may run.  2. Ordered data is written.
//! 3. Revoke blocks, descriptors and data go to the log.  4. Flush.  5. The commit block.  6. Flush: the transaction is on stable storage.
//! 7. Its blocks are to be written home; what it freed is not, and may be used again.
//!
//! Who asks for a commit joins the one that is needed: any number of callers wait for one transaction.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::time::Duration;

use arch_um::time::realtime;

use super::area::AreaWriter;
use super::config::{CommitOrder, DataErrors};
use super::layout::{ESCAPED, MAGIC, Tag, be32, put_be32};
use super::log::{Log, Pending, Phase, State};
use super::transaction::{Running, is_at_least};
use super::{JBD2, Tid};
use crate::buffer::Buffer;
use crate::{Errno, Result};

/// Blocks handed over under one hold of the state's lock.
const BATCH: usize = 256;

/// How long the thread sleeps if nothing runs, with `commit=0`.
const IDLE: Duration = Duration::from_secs(1);
/// How long it sleeps when there is nothing more to do.
const NEVER: Duration = Duration::from_secs(3600);

/// A block as it stood when its transaction ended.
struct Shot {
    buffer: Arc<Buffer>,
    bytes: Arc<Vec<u8>>,
}

/// A transaction that admits nobody any more.
struct Commit {
    running: Running,
    shots: Vec<Shot>,
    /// Its first block in the log.
    at: u32,
}

/// What a caller of [`Log::commit`] has to do.
enum Need {
    Nothing,
    Commit,
    Wait,
}

impl Log {
    /// See [`Journal::commit`](super::Journal::commit).
    pub(super) fn commit(&self, tid: Tid) -> Result<()> {
        loop {
            let need = self.need(&self.state.lock(), tid)?;
            match need {
                Need::Nothing => return Ok(()),
                // In its own thread the journal holds none of the locks that our caller may hold and ordered data may need.
                Need::Commit | Need::Wait if self.worker.request(tid) => {
                    self.wait(|state| {
                        !matches!(self.need(state, tid), Ok(Need::Commit | Need::Wait)) || !self.worker.is_running()
                    });
                }
                Need::Commit | Need::Wait => {
                    let _turn = self.committer.take();
                    let need = self.need(&self.state.lock(), tid)?;
                    if let Need::Commit = need {
                        self.commit_running()?;
                    }
                }
            }
        }
    }

    /// Commits everything so far, writes it home and flushes.
    pub(super) fn sync(&self) -> Result<()> {
        let tid = self.state.lock().latest();
        self.commit(tid)?;
        self.checkpoint(tid)?;
        self.flush_home()
    }

    /// See [`Journal::close`](super::Journal::close).
    pub(super) fn close(&self) -> Result<()> {
        {
            let mut state = self.state.lock();
            if state.phase == Phase::Open {
                state.phase = Phase::Closing;
            }
        }
        self.changed.wake_all();
        // An open handle may still be about to change its first block, which would make a commit necessary.
        self.wait(|state| state.running.as_ref().is_none_or(|running| running.handles == 0));
        let result = self.sync();
        let mut state = self.state.lock();
        if state.phase == Phase::Closing {
            state.phase = Phase::Closed;
        }
        result
    }

    /// The newest transaction there is.
    pub(super) fn latest(&self) -> Tid {
        self.state.lock().latest()
    }

    /// What [`Journal::tick`](super::Journal::tick) does. Errors have aborted the journal.
    pub(super) fn tick(&self) {
        let tid = self.state.lock().latest();
        if self.time_left().is_zero() {
            let _ = self.commit_here(tid);
        }
        if let Some(upto) = self.due_home() {
            let _ = self.checkpoint(upto);
        }
    }

    /// How long the running transaction may go on; the whole interval if there is nothing in it.
    fn time_left(&self) -> Duration {
        match &self.state.lock().running {
            Some(running) if !running.is_empty() => self.interval().saturating_sub(running.started.elapsed()),
            _ => self.interval().max(IDLE),
        }
    }

    /// How long until [`tick`](Self::tick) has something to do.
    pub(super) fn time_to_tick(&self) -> Duration {
        if self.aborted().is_some() {
            return NEVER;
        }
        match self.due_home() {
            Some(_) => Duration::ZERO,
            None => self.time_left(),
        }
    }

    /// Commits up to `tid`, in the journal's own thread.
    pub(super) fn commit_here(&self, tid: Tid) -> Result<()> {
        let _turn = self.committer.take();
        let need = self.need(&self.state.lock(), tid)?;
        match need {
            Need::Commit => self.commit_running(),
            Need::Nothing | Need::Wait => Ok(()),
        }
    }

    fn need(&self, state: &State, tid: Tid) -> Result<Need> {
        if is_at_least(state.committed, tid) {
            return Ok(Need::Nothing);
        }
        if state.is_aborted() {
            return Err(Errno::EIO);
        }
        match &state.running {
            // Without a change in it there is nothing to be made durable but the transactions before.
            Some(running) if is_at_least(tid, running.tid) && !running.is_empty() => Ok(Need::Commit),
            _ if state.committing.is_some() => Ok(Need::Wait),
            _ => Ok(Need::Nothing),
        }
    }

    /// Writes the running transaction out. In turn.
    fn commit_running(&self) -> Result<()> {
        let Some(commit) = self.lock_down()? else {
            return Ok(());
        };
        self.write(&commit).map_err(|error| self.fail(error))?;
        self.complete(commit);
        Ok(())
    }

    /// Closes the running transaction, waits for its handles and takes it out of the way.
    fn lock_down(&self) -> Result<Option<Commit>> {
        {
            let mut state = self.state.lock();
            if state.running.is_none() || state.is_aborted() {
                return Ok(None);
            }
            state.locked = true;
        }
        self.wait(|state| state.running.as_ref().is_none_or(|running| running.handles == 0));
        let running = {
            let mut state = self.state.lock();
            let Some(running) = state.running.take() else {
                state.locked = false;
                return Ok(None);
            };
            state.committing = Some(running.tid);
            running
        };
        // Nobody changes a block before `locked` is gone; a snapshot is a reference, not a copy.
        let shots = running.buffers.values().map(|buffer| Shot {
            bytes: buffer.snapshot(),
            buffer: buffer.clone(),
        });
        let shots = shots.collect();
        let at = {
            let mut state = self.state.lock();
            let blocks = self.cost_of(&running);
            state.locked = false;
            // Admission has made sure of it; writing over the log's tail would be worse than stopping.
            let fits = blocks <= state.ring.free();
            (fits && !state.is_aborted()).then(|| state.ring.push(running.tid, blocks))
        };
        self.changed.wake_all();
        match at {
            Some(at) => Ok(Some(Commit { running, shots, at })),
            None => Err(self.fail(Errno::EIO)),
        }
    }

    /// Data, log, commit block, flushes.
    fn write(&self, commit: &Commit) -> Result<()> {
        let Commit { running, shots, at } = commit;
        for data in running.ordered.values() {
            if let Err(error) = data.write_out() {
                log::error!(
                    "{JBD2}Detected IO errors {error} while flushing file data on {}",
                    self.name
                );
                if self.data_errors == DataErrors::Abort {
                    return Err(error);
                }
            }
        }
        self.write_first_tail()?;
        if self.order == CommitOrder::Together {
            // Nothing holds the commit block back; what its blocks point to must be there by then.
            self.flush_home()?;
        }
        let mut out = Out {
            log: self,
            writer: self.area.writer(),
            at: *at,
            sum: !0,
        };
        let revoked: Vec<u64> = running.revoked.iter().copied().collect();
        for revoked in revoked.chunks(self.format.revokes_per_block()) {
            out.push(&self.format.revoke(running.tid, revoked))?;
        }
        for shots in shots.chunks(self.format.tags_per_descriptor()) {
            out.describe(running.tid, shots)?;
        }
        // A commit block that may overtake the rest vouches by its checksum for logged blocks, not for data or revoke records.
        let alone = running.ordered.is_empty() && running.revoked.is_empty();
        if self.order == CommitOrder::AfterFlush || !alone {
            out.writer.finish()?;
            // The log's flush does not reach what files are to point to now.
            self.flush_home_if_external()?;
            return self.write_commit(out.at, &self.format.commit(running.tid, realtime(), out.sum));
        }
        let sum = out.sum;
        out.push(&self.format.commit(running.tid, realtime(), sum))?;
        out.writer.finish()?;
        self.flush_log()
    }

    /// The transaction is on stable storage.
    fn complete(&self, commit: Commit) {
        let Commit { running, shots, .. } = commit;
        let tid = running.tid;
        let mut shots = shots.into_iter();
        while shots.len() > 0 {
            let mut state = self.state.lock();
            let now = shots.by_ref().take(BATCH);
            let replaced: Vec<Pending> = now.filter_map(|shot| state.send_home(tid, shot)).collect();
            drop(state);
            drop(replaced);
        }
        for block in &running.revoked {
            self.state.lock().drop_home(*block);
        }
        // An old version that is on its way home now must not arrive after the block's next owner has written there.
        self.wait(|state| running.revoked.iter().all(|block| !state.in_flight.contains(block)));
        for run in running.callbacks {
            run();
        }
        {
            let mut state = self.state.lock();
            state.ring.complete(tid);
            state.committed = tid;
            state.committing = None;
        }
        // The journal's thread has nothing else to do.
        self.changed.wake_sync(usize::MAX, 0);
        // The last references to files and blocks go here, with no lock held.
        drop((running.buffers, running.ordered));
    }

    /// Whether the journal has aborted.
    pub(super) fn aborted(&self) -> Option<Errno> {
        match self.state.lock().phase {
            Phase::Aborted(error) => Some(error),
            Phase::Open | Phase::Closing | Phase::Closed => None,
        }
    }
}

impl State {
    /// The newest transaction there is.
    pub(super) fn latest(&self) -> Tid {
        match &self.running {
            Some(running) => running.tid,
            None => self.committing.unwrap_or(self.committed),
        }
    }

    /// The block's committed version is to be written home, instead of an older one, which is returned.
    fn send_home(&mut self, tid: Tid, shot: Shot) -> Option<Pending> {
        self.ring.add_outstanding(tid);
        let pending = Pending {
            tid,
            bytes: shot.bytes,
            _buffer: shot.buffer.clone(),
        };
        let old = self.home.insert(shot.buffer.block(), pending)?;
        self.ring.sub_outstanding(old.tid);
        Some(old)
    }

    /// The block is not to be written home: it is free.
    fn drop_home(&mut self, block: u64) {
        if let Some(old) = self.home.remove(&block) {
            self.ring.sub_outstanding(old.tid);
        }
    }
}

/// A transaction on its way to the log.
struct Out<'a> {
    log: &'a Log,
    writer: AreaWriter<'a>,
    /// The next block.
    at: u32,
    /// CRC-32 of descriptors and data.
    sum: u32,
}

impl Out<'_> {
    fn push(&mut self, block: &[u8]) -> Result<()> {
        self.writer.push(self.at, block)?;
        self.at = self.log.extent.after(self.at, 1);
        Ok(())
    }

    /// A descriptor and its data blocks.
    fn describe(&mut self, tid: Tid, shots: &[Shot]) -> Result<()> {
        let format = &self.log.format;
        let mut tags = Vec::with_capacity(shots.len());
        let mut data = Vec::with_capacity(shots.len());
        for shot in shots {
            let (bytes, flags) = escaped(&shot.bytes);
            tags.push(Tag {
                block: shot.buffer.block(),
                flags,
                checksum: format.tag_checksum(tid, &bytes),
            });
            data.push(bytes);
        }
        let descriptor = format.descriptor(tid, &tags);
        self.sum = format.add_to_sum(self.sum, &descriptor);
        self.push(&descriptor)?;
        for bytes in data {
            self.sum = self.log.format.add_to_sum(self.sum, &bytes);
            self.push(&bytes)?;
        }
        Ok(())
    }
}

/// The block as it lies in the log: data that looks like a block of the journal's own loses its first word.
fn escaped(bytes: &Arc<Vec<u8>>) -> (Arc<Vec<u8>>, u32) {
    if be32(bytes, 0) != MAGIC {
        return (bytes.clone(), 0);
    }
    let mut copy = bytes.to_vec();
    put_be32(&mut copy, 0, 0);
    (Arc::new(copy), ESCAPED)
}
