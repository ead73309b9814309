//! A journal with a log: what its parts share, how it is loaded, how it aborts.
//!
//! Handles work on the running transaction (`handle`), `commit` writes it to the log, `checkpoint` brings committed blocks home and frees the log's tail.
//! All of them meet in [`State`], under one spin lock that is never held over I/O. One thread commits at a time, one checkpoints, one writes the superblock:
//! three [`Turn`]s, taken in this order.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use arch_um::sync::{SpinLock, WaitQueue, order};

use super::area::Area;
use super::config::{Barrier, CommitOrder, Config, DataErrors};
use super::layout::Format;
use super::replay::Replay;
use super::ring::Ring;
use super::superblock::{Extent, Superblock};
use super::thread::Worker;
use super::transaction::{Running, cost};
use super::turn::Turn;
use super::{JBD2, Recovery, Tid, fast_commit};
use crate::buffer::{Buffer, BufferCache};
use crate::{Errno, Result};

/// A loaded journal.
pub(super) struct Log {
    pub(super) name: String,
    pub(super) buffers: Arc<BufferCache>,
    pub(super) area: Area,
    pub(super) extent: Extent,
    pub(super) format: Format,
    pub(super) order: CommitOrder,
    pub(super) fs_blocks: u64,
    pub(super) data_errors: DataErrors,
    pub(super) recovery: Recovery,
    pub(super) worker: Arc<Worker>,
    /// One commit at a time.
    pub(super) committer: Turn,
    /// One writer of blocks to their homes.
    pub(super) checkpointer: Turn,
    pub(super) state: SpinLock<State>,
    /// Anything in `state` that somebody may wait for has changed.
    pub(super) changed: WaitQueue,
    pub(super) external: External,
    barrier: Barrier,
    on_abort: Box<dyn Fn(Errno) + Send + Sync>,
    superblock_at: u32,
    /// One writer of the superblock, so that an older one never overtakes a newer.
    superblock_turn: Turn,
    superblock: SpinLock<Superblock>,
    /// In nanoseconds.
    interval: AtomicU64,
}

/// Whether the journal has a device of its own.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum External {
    Yes,
    No,
}

/// What all parts of a journal look at.
pub(super) struct State {
    /// Whether handles may begin.
    pub(super) phase: Phase,
    pub(super) running: Option<Running>,
    /// The running transaction is about to commit: no new handle until it is out of the way.
    pub(super) locked: bool,
    /// The transaction that is being written.
    pub(super) committing: Option<Tid>,
    /// The last transaction on stable storage.
    pub(super) committed: Tid,
    pub(super) ring: Ring,
    /// Committed blocks that are not at home yet: the newest committed version of each.
    pub(super) home: BTreeMap<u64, Pending>,
    /// Blocks that are being written home now.
    pub(super) in_flight: BTreeSet<u64>,
    /// The transaction that takes the place of the fast commits in the journal: it may fill the log, but never be committed for want of room.
    pub(super) whole: Option<Tid>,
}

/// Whether handles may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// No more, but open ones go on.
    Closing,
    /// Unmounted, or the device is read-only.
    Closed,
    Aborted(Errno),
}

/// A committed block on its way home.
pub(super) struct Pending {
    pub(super) tid: Tid,
    pub(super) bytes: Arc<Vec<u8>>,
    /// Keeps the block in the cache: the disk is older.
    pub(super) _buffer: Arc<Buffer>,
}

impl State {
    /// `EROFS` unless handles may begin.
    pub(super) fn check_begin(&self) -> Result<()> {
        match self.phase {
            Phase::Open => Ok(()),
            Phase::Closing | Phase::Closed | Phase::Aborted(_) => Err(Errno::EROFS),
        }
    }

    /// `EROFS` unless open handles may change something.
    pub(super) fn check(&self) -> Result<()> {
        match self.phase {
            Phase::Open | Phase::Closing => Ok(()),
            Phase::Closed | Phase::Aborted(_) => Err(Errno::EROFS),
        }
    }

    pub(super) fn is_aborted(&self) -> bool {
        matches!(self.phase, Phase::Aborted(_))
    }

    /// The number of the transaction that runs, or of the next one.
    pub(super) fn next_tid(&self) -> Tid {
        match (&self.running, self.committing) {
            (Some(running), _) => running.tid,
            (None, Some(committing)) => committing.wrapping_add(1),
            (None, None) => self.committed.wrapping_add(1),
        }
    }
}

impl Log {
    /// See [`Journal::load`](super::Journal::load).
    pub(super) fn load(buffers: Arc<BufferCache>, mut config: Config<'_>) -> Result<Log> {
        let block_size = buffers.block_size();
        if !block_size.is_power_of_two() || !(1024..=65536).contains(&block_size) {
            return Err(Errno::EINVAL);
        }
        let external = if config.device.is_some() {
            External::Yes
        } else {
            External::No
        };
        let device = config.device.take().unwrap_or_else(|| buffers.device().clone());
        if u64::from(config.superblock) >= config.blocks {
            return Err(Errno::EINVAL);
        }
        let start = Area::new(device.clone(), block_size, config.superblock + 1, config.map)?;
        let mut superblock = Superblock::parse(start.read(config.superblock)?, block_size, config.blocks)?;
        let area = Area::new(device, block_size, superblock.blocks(), config.map)?;
        let writable = !area.device().is_read_only() && !buffers.device().is_read_only();

        let mut found = Found {
            recovery: Recovery::default(),
            next: superblock.sequence().wrapping_add(1),
            head: superblock.extent().first,
        };
        let dirty = superblock.start() != 0;
        if dirty {
            if !writable {
                log::error!("{JBD2}{}: write access unavailable, cannot proceed", config.name);
                return Err(Errno::EROFS);
            }
            found = recover(&buffers, &area, &superblock, &mut config)?;
        }
        let Found { recovery, next, head } = found;
        let whole = (recovery.fast_commits > 0).then_some(next);
        if whole.is_some() {
            // A log without transactions, with the fast commits still behind it.
            superblock.set_tail(head, next, head);
            superblock.keep();
        } else {
            superblock.set_tail(0, next, head);
            superblock.adopt(config.features);
        }
        // Without fast commits the end of the journal is the log's again: we write none.
        let extent = superblock.extent();
        let log = Log {
            format: superblock.format(block_size),
            order: superblock.commit_order(),
            state: SpinLock::new(
                &order::JOURNAL_STATE,
                State {
                    phase: if writable { Phase::Open } else { Phase::Closed },
                    running: None,
                    locked: false,
                    committing: None,
                    committed: next.wrapping_sub(1),
                    ring: Ring::new(extent, head),
                    home: BTreeMap::new(),
                    in_flight: BTreeSet::new(),
                    whole,
                },
            ),
            superblock: SpinLock::new(&order::LEAF, superblock),
            superblock_turn: Turn::new(),
            superblock_at: config.superblock,
            extent,
            name: config.name,
            fs_blocks: config.fs_blocks,
            data_errors: config.data_errors,
            barrier: config.barrier,
            on_abort: config.on_abort,
            interval: AtomicU64::new(nanoseconds(config.commit_interval)),
            worker: Worker::new(),
            committer: Turn::new(),
            checkpointer: Turn::new(),
            changed: WaitQueue::new(),
            external,
            buffers,
            area,
            recovery,
        };
        if dirty {
            // The blocks are home and flushed; only now may the log be forgotten.
            log.write_superblock(|_| ())?;
            log.area.device().flush()?;
        }
        Ok(log)
    }

    pub(super) fn interval(&self) -> Duration {
        Duration::from_nanos(self.interval.load(Ordering::Relaxed))
    }

    pub(super) fn set_interval(&self, interval: Duration) {
        self.interval.store(nanoseconds(interval), Ordering::Relaxed);
        self.worker.wake();
    }

    /// The largest transaction: a quarter of the log, as in JBD2.
    pub(super) fn largest(&self) -> u32 {
        self.extent.size() / 4
    }

    /// The most credits one handle may have.
    pub(super) fn max_credits(&self) -> u32 {
        let largest = self.largest();
        let descriptors = largest.div_ceil(self.format.tags_per_descriptor() as u32) + 1;
        // One block for the commit record, one for revoke records of the handle itself.
        let credits = largest.saturating_sub(descriptors + 2);
        debug_assert!(cost(&self.format, u64::from(credits), 1) <= largest);
        credits
    }

    /// Flushes the log's device.
    pub(super) fn flush_log(&self) -> Result<()> {
        match self.barrier {
            Barrier::Flush => self.area.device().flush(),
            Barrier::None => Ok(()),
        }
    }

    /// Writes a commit block after all that it vouches for; both are stable.
    pub(super) fn write_commit(&self, block: u32, bytes: &[u8]) -> Result<()> {
        match self.barrier {
            Barrier::Flush => self.area.commit(block, bytes),
            Barrier::None => self.area.write(block, bytes),
        }
    }

    /// Flushes the file system's device.
    pub(super) fn flush_home(&self) -> Result<()> {
        match self.barrier {
            Barrier::Flush => self.buffers.device().flush(),
            Barrier::None => Ok(()),
        }
    }

    /// Flushes the file system's device if flushing the log's does not do it.
    pub(super) fn flush_home_if_external(&self) -> Result<()> {
        match self.external {
            External::Yes => self.flush_home(),
            External::No => Ok(()),
        }
    }

    /// The superblock on disk says where the log begins, as `state` has it now. Not flushed.
    pub(super) fn write_tail(&self) -> Result<()> {
        self.write_superblock(|superblock| {
            let (start, tid, head) = {
                let state = self.state.lock();
                let (start, tid) = state.ring.tail().unwrap_or((0, state.next_tid()));
                (start, tid, state.ring.head())
            };
            superblock.set_tail(start, tid, head);
        })
    }

    /// Before the first transaction after a clean start: the superblock must point to the log. Not flushed.
    pub(super) fn write_first_tail(&self) -> Result<()> {
        let turn = self.superblock_turn.take();
        // Looked at in turn: a checkpoint that found the log empty may be writing that just now.
        if self.superblock.lock().start() != 0 {
            return Ok(());
        }
        drop(turn);
        self.write_tail()
    }

    /// The error an earlier mount left, if any.
    pub(super) fn recorded_error(&self) -> Option<Errno> {
        match self.superblock.lock().error() {
            0 => None,
            code => Some(Errno::from_host(code.saturating_neg())),
        }
    }

    pub(super) fn acknowledge_error(&self) -> Result<()> {
        self.write_superblock(|superblock| superblock.set_error(0))?;
        self.flush_log()
    }

    fn write_superblock(&self, change: impl FnOnce(&mut Superblock)) -> Result<()> {
        let _turn = self.superblock_turn.take();
        let bytes = {
            // Taken out of the lock: `change` looks at `state`, which is outer to it.
            let mut copy = self.superblock.lock().clone();
            change(&mut copy);
            let bytes = copy.sealed().to_vec();
            *self.superblock.lock() = copy;
            bytes
        };
        self.area.write(self.superblock_at, &bytes)
    }

    /// The journal has hit `error` by itself: no more handles, no more commits; the file system is told. Returns `EIO` for the caller to pass on.
    pub(super) fn fail(&self, error: Errno) -> Errno {
        if self.stop(error) {
            (self.on_abort)(error);
        }
        Errno::EIO
    }

    /// Aborts. False if it had been before.
    pub(super) fn stop(&self, error: Errno) -> bool {
        {
            let mut state = self.state.lock();
            if state.is_aborted() {
                return false;
            }
            state.phase = Phase::Aborted(error);
        }
        self.changed.wake_all();
        self.worker.wake();
        log::error!("Aborting journal on device {}.", self.name);
        // The next mount shall know. If the disk is gone, there is nothing to be done.
        if self
            .write_superblock(|superblock| superblock.set_error(-error.code()))
            .is_ok()
        {
            let _ = self.flush_log();
        }
        true
    }
}

/// What a journal held.
struct Found {
    recovery: Recovery,
    /// The next transaction.
    next: Tid,
    /// Its place in the log.
    head: u32,
}

/// Replays a journal that was not unmounted cleanly.
fn recover(buffers: &BufferCache, area: &Area, superblock: &Superblock, config: &mut Config<'_>) -> Result<Found> {
    let block_size = buffers.block_size();
    let fs_blocks = config.fs_blocks.min(buffers.device().len() / block_size as u64);
    let replay = Replay::new(area, superblock, superblock.format(block_size), fs_blocks);
    let scan = replay.scan()?;
    let mut records = fast_commit::scan(area, superblock.extent(), block_size, scan.end).inspect_err(|error| {
        log::error!("{JBD2}{}: fast commits cannot be read: {error}", config.name);
    })?;
    if !records.is_empty() && config.fast_commits.is_none() {
        log::error!(
            "{JBD2}{}: {} fast commit records cannot be applied here; run e2fsck or mount it once with Linux",
            config.name,
            records.len()
        );
        return Err(Errno::EOPNOTSUPP);
    }
    let mut recovery = replay.run(&scan, buffers)?;
    if let Some(taker) = config.fast_commits.as_deref_mut().filter(|_| !records.is_empty()) {
        recovery.fast_commits = records.len() as u64;
        taker.append(&mut records);
        return Ok(Found {
            recovery,
            next: scan.end,
            head: scan.head,
        });
    }
    Ok(Found {
        recovery,
        // One number is left out, so that nothing of an incomplete transaction in the log can be taken for the next one.
        next: scan.end.wrapping_add(1),
        head: superblock.extent().first,
    })
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
