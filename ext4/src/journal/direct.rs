//! The place where a journal is not: changed blocks are written back when somebody syncs, when there are many, and when they are old.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use arch_um::sync::{SpinLock, order};
use arch_um::time::Instant;

use super::config::DEFAULT_COMMIT_INTERVAL;
use super::thread::Worker;
use super::transaction::Callback;
use super::turn::Turn;
use crate::buffer::{Buffer, BufferCache};
use crate::runs::RunWriter;
use crate::{Errno, Result};

/// So many bytes of changed blocks and a handle writes them back before it begins.
const MOST_DIRTY: usize = 8 << 20;

/// Changed blocks of a file system without a journal.
pub(super) struct Direct {
    pub(super) buffers: Arc<BufferCache>,
    pub(super) worker: Arc<Worker>,
    state: SpinLock<State>,
    /// In nanoseconds.
    interval: AtomicU64,
    /// One writer at a time: two could bring versions of one block to the disk in the wrong order.
    turn: Turn,
}

struct State {
    dirty: BTreeMap<u64, Arc<Buffer>>,
    /// When the oldest of them was changed first.
    since: Instant,
    stopped: Option<Errno>,
    /// Set while changed blocks are being written: what is to run when blocks are free.
    writing: Option<Vec<Callback>>,
}

impl Direct {
    pub(super) fn new(buffers: Arc<BufferCache>) -> Direct {
        Direct {
            buffers,
            worker: Worker::new(),
            state: SpinLock::new(
                &order::JOURNAL_STATE,
                State {
                    dirty: BTreeMap::new(),
                    since: Instant::now(),
                    stopped: None,
                    writing: None,
                },
            ),
            interval: AtomicU64::new(DEFAULT_COMMIT_INTERVAL.as_nanos() as u64),
            turn: Turn::new(),
        }
    }

    pub(super) fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval.load(Ordering::Relaxed))
    }

    pub(super) fn set_interval(&self, interval: Duration) {
        let nanoseconds = u64::try_from(interval.as_nanos()).unwrap_or(u64::MAX);
        self.interval.store(nanoseconds, Ordering::Relaxed);
        self.worker.wake();
    }

    pub(super) fn stopped(&self) -> Option<Errno> {
        self.state.lock().stopped
    }

    /// No more changes. True the first time.
    pub(super) fn stop(&self, error: Errno) -> bool {
        self.state.lock().stopped.replace(error).is_none()
    }

    /// `EROFS` after [`stop`](Self::stop). May write back what others have changed.
    pub(super) fn begin(&self) -> Result<()> {
        let dirty = {
            let state = self.state.lock();
            if state.stopped.is_some() {
                return Err(Errno::EROFS);
            }
            state.dirty.len()
        };
        if dirty > MOST_DIRTY / self.buffers.block_size() {
            // An error is told to who syncs: the blocks stay dirty.
            let _ = self.write_back();
        }
        Ok(())
    }

    /// The block is about to be changed.
    pub(super) fn note(&self, buffer: &Arc<Buffer>) -> Result<()> {
        let mut state = self.state.lock();
        if state.stopped.is_some() {
            return Err(Errno::EROFS);
        }
        if state.dirty.is_empty() {
            state.since = Instant::now();
        }
        state.dirty.insert(buffer.block(), buffer.clone());
        Ok(())
    }

    /// The blocks are free: what they held need not be written.
    pub(super) fn forget(&self, first: u64, count: u64) -> Result<()> {
        let end = first.checked_add(count).ok_or(Errno::EUCLEAN)?;
        for block in first..end {
            let forgotten = self.state.lock().dirty.remove(&block);
            self.buffers.forget(block);
            drop(forgotten);
        }
        Ok(())
    }

    /// A handle has ended: what it freed may be used again. If blocks are being written now, after that: an old block must not arrive
    /// after its next owner has written there.
    pub(super) fn end(&self, callbacks: Vec<Callback>) {
        if let Some(later) = &mut self.state.lock().writing {
            later.extend(callbacks);
            return;
        }
        callbacks.into_iter().for_each(|run| run());
    }

    /// How long until something is written back by itself.
    pub(super) fn time_left(&self) -> Duration {
        let state = self.state.lock();
        match state.dirty.is_empty() {
            true => self.interval(),
            false => self.interval().saturating_sub(state.since.elapsed()),
        }
    }

    pub(super) fn tick(&self) {
        let due = self.time_left().is_zero() && !self.state.lock().dirty.is_empty();
        if let Some(Err(error)) = due.then(|| self.write_back()) {
            log::error!("Buffer I/O error {error}, lost async page write");
        }
    }

    /// See [`Journal::close`](super::Journal::close).
    pub(super) fn close(&self) -> Result<()> {
        let result = self.sync();
        self.stop(Errno::EROFS);
        result
    }

    /// Everything changed before the call is on stable storage.
    pub(super) fn sync(&self) -> Result<()> {
        self.write_back()?;
        self.buffers.device().flush()
    }

    /// Writes the changed blocks, sorted. What could not be written stays changed.
    fn write_back(&self) -> Result<()> {
        let _turn = self.turn.take();
        let dirty: Vec<(u64, Arc<Buffer>)> = {
            let mut state = self.state.lock();
            state.writing = Some(Vec::new());
            core::mem::take(&mut state.dirty).into_iter().collect()
        };
        let result = self.write(&dirty);
        let freed = {
            let mut state = self.state.lock();
            if result.is_err() {
                // Which of them arrived is unknown. A block may have been freed meanwhile: then the cache has another buffer or none.
                let still = dirty
                    .iter()
                    .filter(|(block, buffer)| self.buffers.find(*block).is_some_and(|now| Arc::ptr_eq(&now, buffer)));
                for (block, buffer) in still {
                    state.dirty.entry(*block).or_insert_with(|| buffer.clone());
                }
            }
            state.writing.take()
        };
        freed.into_iter().flatten().for_each(|run| run());
        result
    }

    fn write(&self, dirty: &[(u64, Arc<Buffer>)]) -> Result<()> {
        let mut writer = RunWriter::new(&**self.buffers.device(), self.buffers.block_size());
        for (block, buffer) in dirty {
            writer.push(*block, &buffer.snapshot())?;
        }
        writer.finish()
    }
}
