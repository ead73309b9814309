//! [`Handle`]: the right to change metadata blocks.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::transaction::Callback;
use super::{Freed, Journal, Mode, OrderedData, Tid};
use crate::buffer::Buffer;
use crate::{Errno, Result};

/// The right to change metadata blocks now. Ends when dropped. Nothing here but [`restart`](Self::restart) sleeps, so all of it may be called with
/// spin locks held.
pub struct Handle<'a> {
    journal: &'a Journal,
    tid: Tid,
    credits: u32,
    /// False after a restart that failed: it belongs to no transaction.
    open: bool,
    /// Without a journal: what runs at the end.
    callbacks: Vec<Callback>,
}

impl<'a> Handle<'a> {
    pub(super) fn new(journal: &'a Journal, credits: u32) -> Result<Handle<'a>> {
        let tid = match &journal.mode {
            Mode::Log(log) => log.begin(credits)?,
            Mode::Direct(direct) => {
                direct.begin()?;
                0
            }
        };
        Ok(Handle {
            journal,
            tid,
            credits,
            open: true,
            callbacks: Vec::new(),
        })
    }

    /// The transaction this belongs to.
    pub fn tid(&self) -> Tid {
        self.tid
    }

    /// Blocks that may still be changed.
    pub fn credits(&self) -> u32 {
        self.credits
    }

    /// Asks for more credits in the same transaction. False: there is no room; bring the metadata into a consistent state and [`restart`](Self::restart).
    pub fn extend(&mut self, credits: u32) -> bool {
        let granted = self.open
            && match &self.journal.mode {
                Mode::Log(log) => log.extend(credits),
                Mode::Direct(_) => true,
            };
        if granted {
            self.credits = self.credits.saturating_add(credits);
        }
        granted
    }

    /// Ends this handle and begins another, in a later transaction if this one has no room: for truncations that are too large for one. Sleeps as
    /// [`Journal::begin`] does. After an error the handle can do nothing any more.
    pub fn restart(&mut self, credits: u32) -> Result<()> {
        self.end();
        let fresh = Handle::new(self.journal, credits)?;
        // The old one has ended and has nothing left to give back.
        *self = fresh;
        Ok(())
    }

    /// Changes a block. The change belongs to this transaction. Costs a credit the first time in a transaction. `change` must be short and may take no
    /// lock.
    ///
    /// # Errors
    /// Nothing has been changed. `EROFS` after an abort, `ENOSPC` out of credits with no room for more, `EUCLEAN` for a block outside of the file system.
    pub fn modify<R>(&mut self, buffer: &Arc<Buffer>, change: impl FnOnce(&mut [u8]) -> R) -> Result<R> {
        self.check()?;
        match &self.journal.mode {
            Mode::Log(log) => log.note(buffer, &mut self.credits)?,
            Mode::Direct(direct) => direct.note(buffer)?,
        }
        Ok(buffer.change(change))
    }

    /// A newly allocated metadata block, zeroed, in this transaction. Takes back an earlier revocation. Errors as [`modify`](Self::modify).
    pub fn create(&mut self, block: u64) -> Result<Arc<Buffer>> {
        let buffers = self.journal.buffers();
        let buffer = buffers.blank(block);
        match self.modify(&buffer, |bytes| bytes.fill(0)) {
            Ok(()) => Ok(buffer),
            Err(error) => {
                buffers.forget(block);
                Err(error)
            }
        }
    }

    /// The whole block gets these bytes in this transaction, without being read: file data that goes through the journal. Takes back an earlier
    /// revocation. Errors as [`modify`](Self::modify).
    pub fn overwrite(&mut self, block: u64, bytes: &[u8]) -> Result<()> {
        let buffer = self.journal.buffers().blank(block);
        self.modify(&buffer, |old| old.copy_from_slice(bytes))
    }

    /// Blocks that are free when this transaction has committed, not before: the caller gives them to its allocator in [`on_commit`](Self::on_commit).
    ///
    /// `Freed::Metadata` revokes: [`Journal::revoke_credits`] says what that costs. Journalled file data is metadata in this sense. Errors as
    /// [`modify`](Self::modify).
    pub fn free(&mut self, first: u64, count: u64, kind: Freed) -> Result<()> {
        self.check()?;
        match (&self.journal.mode, kind) {
            (_, Freed::Data) => Ok(()),
            (Mode::Log(log), Freed::Metadata) => log.revoke(first, count, &mut self.credits),
            (Mode::Direct(direct), Freed::Metadata) => direct.forget(first, count),
        }
    }

    /// Runs when this transaction is on stable storage, from the committing thread, with no lock held; not at all after an abort. It may neither begin
    /// a handle nor wait for a commit. Without a journal it runs when the handle ends, or a moment later from another thread.
    pub fn on_commit(&mut self, run: Box<dyn FnOnce() + Send>) {
        match &self.journal.mode {
            Mode::Log(_) if !self.open => {}
            Mode::Log(log) => log.add_callback(run),
            Mode::Direct(_) => self.callbacks.push(run),
        }
    }

    /// `data` is to be written out before this transaction commits. The same object twice is once.
    pub fn order(&mut self, data: Arc<dyn OrderedData>) {
        if let Mode::Log(log) = &self.journal.mode
            && self.open
        {
            log.add_ordered(data);
        }
    }

    fn check(&self) -> Result<()> {
        if self.open { Ok(()) } else { Err(Errno::EROFS) }
    }

    /// Gives everything back; the handle is empty then.
    fn end(&mut self) {
        if !core::mem::replace(&mut self.open, false) {
            return;
        }
        let credits = core::mem::take(&mut self.credits);
        match &self.journal.mode {
            Mode::Log(log) => log.end(credits),
            Mode::Direct(direct) => direct.end(core::mem::take(&mut self.callbacks)),
        }
    }
}

impl Drop for Handle<'_> {
    fn drop(&mut self) {
        self.end();
    }
}
