//! Transactions over metadata blocks.
//!
//! Every change of metadata happens inside a [`Handle`]: a promise to change at most so many blocks, all of which reach the disk together
//! or not at all. Handles join the running transaction; it commits every five seconds and when somebody waits for it.

mod config;
mod fast_commit;

pub use config::{Barrier, Checksums, CommitOrder, Config, DEFAULT_COMMIT_INTERVAL, DataErrors, Features, Numbers};
pub use fast_commit::{FastCommit, FastCommits, Link};

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::time::Duration;

use arch_um::sync::{SpinLock, order};

use crate::buffer::{Buffer, BufferCache};
use crate::{Errno, Result};

/// The number of a transaction; wraps, compared by difference.
pub type Tid = u32;

/// What has to be on the disk before a transaction may say that it is there (`data=ordered`): a file's dirty pages.
pub trait OrderedData: Send + Sync {
    /// Writes the data out (no flush; the commit does that).
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
    /// Blocks left alone because a later transaction had revoked them.
    pub revoked: u64,
    /// Fast commits applied.
    pub fast_commits: u64,
}

/// The journal of one file system, or the place where there is none.
pub struct Journal {
    buffers: Arc<BufferCache>,
    dirty: SpinLock<BTreeMap<u64, Arc<Buffer>>>,
}

impl Journal {
    /// No journal (ext2, `noload`, a file system without `has_journal`): handles only mark buffers dirty, [`sync`](Self::sync) writes them.
    pub fn none(buffers: Arc<BufferCache>) -> Arc<Self> {
        Arc::new(Self {
            buffers,
            dirty: SpinLock::new(&order::JOURNAL_STATE, BTreeMap::new()),
        })
    }

    /// Reads the journal, replays it if the file system was not unmounted cleanly, and starts it. Before this nobody may hold a [`Buffer`]
    /// that he goes on to trust: replay changes blocks.
    ///
    /// # Errors
    /// `EINVAL`: not a journal that we know, or too short. `EROFS`: must be replayed, but the device is read-only. `EOPNOTSUPP`: has fast commits
    /// and nobody to apply them; nothing has been written. `EUCLEAN`: the journal is corrupt. `EIO`.
    pub fn load(_buffers: Arc<BufferCache>, _config: Config<'_>) -> Result<Arc<Self>> {
        Err(Errno::EOPNOTSUPP)
    }

    /// What replay did at [`load`](Self::load).
    pub fn recovery(&self) -> Recovery {
        Recovery::default()
    }

    /// The error that an earlier mount left in the journal's superblock (`s_errno`): the file system must be marked as having errors, then
    /// [`acknowledge_error`](Self::acknowledge_error).
    pub fn recorded_error(&self) -> Option<Errno> {
        None
    }

    /// The file system has noted [`recorded_error`](Self::recorded_error): it is cleared on disk.
    pub fn acknowledge_error(&self) -> Result<()> {
        Ok(())
    }

    /// Whether handles are transactions (false: [`none`](Self::none)).
    pub fn is_logged(&self) -> bool {
        false
    }

    /// The most credits one handle may have.
    pub fn max_credits(&self) -> u32 {
        u32::MAX
    }

    /// Why the journal has stopped, if it has.
    pub fn aborted(&self) -> Option<Errno> {
        None
    }

    /// Stops the journal for good (`errors=remount-ro`, `errors=panic`, forced shutdown): nothing of the running transaction reaches the disk,
    /// `error` is noted in the journal's superblock. Does not call `on_abort`.
    pub fn abort(&self, _error: Errno) {}

    /// Changes `commit=`.
    pub fn set_commit_interval(&self, _interval: Duration) {}

    /// Starts the kernel thread (`jbd2/NAME`) that commits and writes back; it ends at [`close`](Self::close). Without it commits run in the
    /// thread that asks for one, and somebody has to call [`tick`](Self::tick).
    pub fn start_thread(self: &Arc<Self>) -> Result<()> {
        Ok(())
    }

    /// Once a second: commits what is older than the commit interval, writes back what is old. Errors have aborted the journal.
    pub fn tick(&self) {}

    /// Unmount: [`sync`](Self::sync), the journal is marked clean, the thread ends. Later handles are refused with `EROFS`.
    pub fn close(&self) -> Result<()> {
        self.sync()
    }

    /// The metadata blocks.
    pub fn buffers(&self) -> &Arc<BufferCache> {
        &self.buffers
    }

    /// Begins a change of at most `credits` blocks. Sleeps while the journal is full. `EROFS` after an abort. May be called inside another handle
    /// of this thread only through [`Handle::extend`].
    pub fn begin(&self, credits: u32) -> Result<Handle<'_>> {
        Ok(Handle { journal: self, credits })
    }

    /// The running transaction's number: what [`commit`](Self::commit) waits for after a handle has ended.
    pub fn running(&self) -> Tid {
        0
    }

    /// Returns when transaction `tid` and all before it are on stable storage; parallel callers share one commit. `EIO`, `EROFS` after an abort.
    pub fn commit(&self, _tid: Tid) -> Result<()> {
        self.sync()
    }

    /// Commits what is running and writes everything to its home: clean unmount, remount read-only, freeze.
    pub fn sync(&self) -> Result<()> {
        let dirty = core::mem::take(&mut *self.dirty.lock());
        for (block, buffer) in dirty {
            let at = block * self.buffers.block_size() as u64;
            self.buffers.device().write(at, &buffer.snapshot())?;
        }
        self.buffers.device().flush()
    }
}

/// The right to change metadata blocks now. Ends when dropped.
pub struct Handle<'a> {
    journal: &'a Journal,
    credits: u32,
}

impl Handle<'_> {
    /// The transaction this belongs to.
    pub fn tid(&self) -> Tid {
        self.journal.running()
    }

    /// Blocks that may still be changed.
    pub fn credits(&self) -> u32 {
        self.credits
    }

    /// Asks for more credits in the same transaction. False: there is no room; bring the metadata into a consistent state and [`restart`](Self::restart).
    pub fn extend(&mut self, credits: u32) -> bool {
        self.credits += credits;
        true
    }

    /// Ends this handle and begins another in a later transaction: for truncations that are too large for one.
    pub fn restart(&mut self, credits: u32) -> Result<()> {
        self.credits = credits;
        Ok(())
    }

    /// Changes a block. The change belongs to this transaction.
    pub fn modify<R>(&mut self, buffer: &Arc<Buffer>, change: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        self.journal.dirty.lock().insert(buffer.block(), buffer.clone());
        Ok(buffer.change(change))
    }

    /// A newly allocated metadata block, zeroed, in this transaction. Takes back an earlier revocation.
    pub fn create(&mut self, block: u64) -> Result<Arc<Buffer>> {
        let buffer = self.journal.buffers.zeroed(block);
        self.modify(&buffer, |_| ())?;
        Ok(buffer)
    }

    /// Blocks that are free when this transaction has committed, not before: the caller gives them to its allocator in [`on_commit`](Self::on_commit).
    pub fn free(&mut self, first: u64, count: u64, kind: Freed) -> Result<()> {
        if kind == Freed::Metadata {
            for block in first..first + count {
                self.journal.dirty.lock().remove(&block);
                self.journal.buffers.forget(block);
            }
        }
        Ok(())
    }

    /// Runs when this transaction is on stable storage, from the committing thread, with no lock held; not at all after an abort.
    pub fn on_commit(&mut self, run: Box<dyn FnOnce() + Send>) {
        run();
    }

    /// `data` is to be written out before this transaction commits.
    pub fn order(&mut self, _data: Arc<dyn OrderedData>) {}
}
