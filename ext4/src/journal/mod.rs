//! Transactions over metadata blocks.
//!
//! Every change of metadata happens inside a [`Handle`]: a promise to change at most so many blocks, all of which reach the disk together
//! or not at all. Handles join the running transaction; it commits every five seconds and when somebody waits for it.
//!
//! A [`Journal`] is a log in Linux's JBD2 format ([`Journal::load`]) or the same interface without one ([`Journal::none`]).
//!
//! | file | what |
//! | --- | --- |
//! | `config` | what the file system says when it loads a journal |
//! | `layout`, `checksum`, `superblock`, `area` | the journal's blocks on disk |
//! | `replay`, `fast_commit` | after a crash |
//! | `log` | the state that the following share; loading, aborting |
//! | `handle`, `admit`, `transaction` | changes join the running transaction |
//! | `commit`, `ring` | it goes to the log |
//! | `checkpoint` | its blocks go home |
//! | `thread` | both, by themselves |
//! | `direct` | no log |
//!
//! Locks: [`Journal::begin`], [`Handle::restart`], [`Journal::commit`] and [`Journal::sync`] sleep and may be called with nothing held that ordered data's
//! [`write_out`](OrderedData::write_out), an `on_commit` callback or another handle of the running transaction needs. Everything else in a handle takes
//! `order::JOURNAL_STATE` and leaves only, and is allowed under the file system's spin locks.

mod admit;
mod area;
mod checkpoint;
mod checksum;
mod commit;
mod config;
mod direct;
mod fast_commit;
mod handle;
mod layout;
mod log;
mod replay;
mod ring;
mod superblock;
mod thread;
mod transaction;
mod turn;

pub use config::{Barrier, Checksums, CommitOrder, Config, DEFAULT_COMMIT_INTERVAL, DataErrors, Features, Numbers};
pub use fast_commit::{FastCommit, Link};
pub use handle::Handle;

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::time::Duration;

use crate::buffer::BufferCache;
use crate::{Errno, Result};
use direct::Direct;
use log::Log;
use thread::Worker;

/// The number of a transaction; wraps, compared by difference.
pub type Tid = u32;

/// What Linux puts in front of a journal's messages.
const JBD2: &str = "JBD2: ";

/// What has to be on the disk before a transaction may say that it is there (`data=ordered`): a file's dirty pages.
pub trait OrderedData: Send + Sync {
    /// Writes the data out (no flush; the commit does that). Blocks that are not allocated yet are none of its affair: it may not begin a handle.
    fn write_out(&self) -> Result<()>;
}

/// What freed blocks were, which decides whether a revoke record is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freed {
    /// Blocks that went through [`Handle::modify`] (directories, extent and indirect blocks, journalled data).
    Metadata,
    /// Plain file data.
    Data,
}

/// What replay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Transactions found complete.
    pub transactions: u32,
    /// Blocks written to their homes.
    pub replayed: u64,
    /// Blocks left alone because the same or a later transaction had revoked them.
    pub revoked: u64,
    /// Records of fast commits found.
    pub fast_commits: u64,
}

/// The journal of one file system, or the place where there is none.
pub struct Journal {
    mode: Mode,
}

enum Mode {
    Direct(Direct),
    Log(Box<Log>),
}

impl Journal {
    /// No journal (ext2, `noload`, a file system without `has_journal`): handles only mark buffers dirty, [`sync`](Self::sync) writes them.
    pub fn none(buffers: Arc<BufferCache>) -> Arc<Self> {
        Arc::new(Self {
            mode: Mode::Direct(Direct::new(buffers)),
        })
    }

    /// Reads the journal, replays it if the file system was not unmounted cleanly, and starts it. Before this nobody may have looked at blocks that he
    /// goes on to trust: replay changes them (buffers in the cache follow).
    ///
    /// # Errors
    /// `EINVAL`: not a journal that we know, or too short. `EROFS`: must be replayed, but the device is read-only. `EOPNOTSUPP`: has fast commits
    /// that nobody can apply; nothing has been written. `EUCLEAN`, `EBADMSG`: the log is corrupt; what came before is at home, and the
    /// journal is left for e2fsck. `EIO`.
    pub fn load(buffers: Arc<BufferCache>, config: Config<'_>) -> Result<Arc<Self>> {
        let log = Log::load(buffers, config)?;
        Ok(Arc::new(Self {
            mode: Mode::Log(Box::new(log)),
        }))
    }

    /// What replay did at [`load`](Self::load).
    pub fn recovery(&self) -> Recovery {
        match &self.mode {
            Mode::Direct(_) => Recovery::default(),
            Mode::Log(log) => log.recovery,
        }
    }

    /// The error that an earlier mount left in the journal's superblock (`s_errno`): the file system must be marked as having errors, then
    /// [`acknowledge_error`](Self::acknowledge_error).
    pub fn recorded_error(&self) -> Option<Errno> {
        match &self.mode {
            Mode::Direct(_) => None,
            Mode::Log(log) => log.recorded_error(),
        }
    }

    /// The file system has noted [`recorded_error`](Self::recorded_error): it is cleared on disk.
    pub fn acknowledge_error(&self) -> Result<()> {
        match &self.mode {
            Mode::Direct(_) => Ok(()),
            Mode::Log(log) => log.acknowledge_error(),
        }
    }

    /// Whether handles are transactions (false: [`none`](Self::none)).
    pub fn is_logged(&self) -> bool {
        matches!(self.mode, Mode::Log(_))
    }

    /// The most credits one handle may have.
    pub fn max_credits(&self) -> u32 {
        match &self.mode {
            Mode::Direct(_) => u32::MAX,
            Mode::Log(log) => log.max_credits(),
        }
    }

    /// Credits that freeing `count` metadata blocks takes at most, besides those for the blocks that are changed by it.
    pub fn revoke_credits(&self, count: u64) -> u32 {
        match &self.mode {
            Mode::Direct(_) => 0,
            Mode::Log(log) => log.revoke_credits(count),
        }
    }

    /// Why the journal has stopped, if it has.
    pub fn aborted(&self) -> Option<Errno> {
        match &self.mode {
            Mode::Direct(direct) => direct.stopped(),
            Mode::Log(log) => log.aborted(),
        }
    }

    /// Stops the journal for good (`errors=remount-ro`, `errors=panic`, forced shutdown): nothing of the running transaction reaches the disk,
    /// `error` is noted in the journal's superblock. Does not call `on_abort`.
    pub fn abort(&self, error: Errno) {
        match &self.mode {
            Mode::Direct(direct) => direct.stop(error),
            Mode::Log(log) => log.stop(error),
        };
    }

    /// Changes `commit=`.
    pub fn set_commit_interval(&self, interval: Duration) {
        match &self.mode {
            Mode::Direct(direct) => direct.set_interval(interval),
            Mode::Log(log) => log.set_interval(interval),
        }
    }

    /// The metadata blocks.
    pub fn buffers(&self) -> &Arc<BufferCache> {
        match &self.mode {
            Mode::Direct(direct) => &direct.buffers,
            Mode::Log(log) => &log.buffers,
        }
    }

    /// Begins a change of at most `credits` blocks. Sleeps while the journal is full. `EROFS` after an abort or [`close`](Self::close), `ENOSPC` for
    /// more than [`max_credits`](Self::max_credits). May be called inside another handle of this thread only through [`Handle::extend`].
    pub fn begin(&self, credits: u32) -> Result<Handle<'_>> {
        Handle::new(self, credits)
    }

    /// The running transaction's number: what [`commit`](Self::commit) waits for after a handle has ended.
    pub fn running(&self) -> Tid {
        match &self.mode {
            Mode::Direct(_) => 0,
            Mode::Log(log) => log.latest(),
        }
    }

    /// Returns when transaction `tid` and all before it are on stable storage; parallel callers share one commit. `EIO` if it cannot get there. A commit flushes
    /// what was written to the device before the call; if there is nothing to commit, nothing is flushed.
    pub fn commit(&self, tid: Tid) -> Result<()> {
        match &self.mode {
            Mode::Direct(direct) => direct.sync(),
            Mode::Log(log) => log.commit(tid),
        }
    }

    /// What was written to the file system's device before the call is on stable storage (with `nobarrier` if the device pleases).
    pub fn flush(&self) -> Result<()> {
        match &self.mode {
            Mode::Direct(direct) => direct.buffers.device().flush(),
            Mode::Log(log) => log.flush_home(),
        }
    }

    /// Commits what is running and writes everything to its home: clean unmount, remount read-only, freeze. Without handles in between the journal is
    /// marked clean on disk.
    pub fn sync(&self) -> Result<()> {
        match &self.mode {
            Mode::Direct(direct) => direct.sync(),
            Mode::Log(log) => log.sync(),
        }
    }

    /// Once a second if there is no [thread](Self::start_thread): commits what is older than the commit interval, writes back what is old. Errors
    /// have aborted the journal.
    pub fn tick(&self) {
        match &self.mode {
            Mode::Direct(direct) => direct.tick(),
            Mode::Log(log) => log.tick(),
        }
    }

    /// Unmount: later handles are refused with `EROFS`, open ones are waited for; [`sync`](Self::sync), the journal is marked clean, the thread ends. `EIO` if
    /// the journal has aborted: it stays as it is, for a replay.
    pub fn close(&self) -> Result<()> {
        let result = match &self.mode {
            Mode::Direct(direct) => direct.close(),
            Mode::Log(log) => log.close(),
        };
        self.worker().stop();
        result
    }

    fn worker(&self) -> &Arc<Worker> {
        match &self.mode {
            Mode::Direct(direct) => &direct.worker,
            Mode::Log(log) => &log.worker,
        }
    }

    fn name(&self) -> &str {
        match &self.mode {
            Mode::Direct(_) => "none",
            Mode::Log(log) => &log.name,
        }
    }

    /// A request of the thread's queue.
    fn commit_here(&self, tid: Tid) {
        if let Mode::Log(log) = &self.mode {
            // Who asked sees the journal's state.
            let _ = log.commit_here(tid);
        }
    }

    fn time_to_tick(&self) -> Duration {
        match &self.mode {
            Mode::Direct(direct) => direct.time_left(),
            Mode::Log(log) => log.time_to_tick(),
        }
    }

    /// The thread commits nothing any more: who waits for it looks again.
    fn thread_ends(&self) {
        if let Mode::Log(log) = &self.mode {
            log.changed.wake_all();
        }
    }
}
