//! The end of an inode in memory, and of its file if it has no name.
//!
//! The last reference may go anywhere, also inside a transaction: [`Drop`] only puts the number on a list; [`Ext4::bury`] frees the blocks.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use kernel::vfs::Timespec;

use super::Inode;
use super::load::Which;
use super::orphan::ORPHAN_CREDITS;
use crate::instance::Ext4;
use crate::journal::Freed;
use crate::map;
use crate::transaction::Tx;
use crate::{Errno, Result};

/// Blocks that one step of a truncation can change: a tree of five levels, the bitmaps and descriptors of the groups of one extent, the inode.
const STEP_CREDITS: u32 = 40;
/// Steps in one transaction.
const STEPS: usize = 4;

impl Drop for Inode {
    fn drop(&mut self) {
        let promised = self.promise.get_mut().clear();
        self.fs.counters.keep(promised);
        let nlink = self.core.get_mut().nlink;
        {
            let mut table = self.fs.inodes.lock();
            if table.get(&self.number()).is_some_and(|known| known.strong_count() == 0) {
                table.remove(&self.number());
            }
        }
        if nlink == 0 && self.core.get_mut().mode != 0 && !self.fs.unmounted.load(Ordering::Acquire) {
            self.fs.dead.lock().push(self.number());
            self.fs.worker.call();
        }
    }
}

impl Inode {
    /// Frees all blocks from block `from` on, in as many transactions as it takes. The inode is on the orphan list, or nothing is lost by a crash.
    pub(crate) fn cut_blocks(&self, from: u64) -> Result<()> {
        self.cut_range(from, map::most_blocks(&self.fs, self))
    }

    /// The same for the blocks `from..to`.
    pub(crate) fn cut_range(&self, from: u64, to: u64) -> Result<()> {
        let journal = &self.fs.journal;
        // The step's own pointer blocks are metadata whatever the file is.
        let (steps, revoked) = match self.freed_kind() {
            Freed::Data => (STEPS, STEPS as u64 * 8),
            Freed::Metadata => (1, map::METADATA_STEP + 8),
        };
        let credits = STEP_CREDITS * steps as u32 + journal.revoke_credits(revoked);
        let mut at = from;
        let mut waited = false;
        while at < to {
            let mut tx = Tx::begin_anyway(&self.fs, credits.min(journal.max_credits()))?;
            let mut outcome = Ok(at);
            for _ in 0..steps {
                outcome = map::remove_some(&mut tx, self, at, to);
                at = *outcome.as_ref().unwrap_or(&at);
                if outcome.is_err() || at >= to {
                    break;
                }
            }
            tx.write_inode(self)?;
            drop(tx);
            match outcome {
                // A hole in the middle of an extent needs room in the tree; a commit may make some.
                Err(Errno::ENOSPC) if !waited => {
                    waited = true;
                    self.fs.wait_for_space()?;
                }
                outcome => drop(outcome?),
            }
        }
        Ok(())
    }

    /// Frees everything of a file that nobody can reach any more.
    fn annihilate(&self) -> Result<()> {
        if self.has_blocks() {
            self.set_len(0);
            self.cut_blocks(0)?;
        }
        self.drop_large_values()?;
        let mut tx = Tx::begin_anyway(&self.fs, 16 + ORPHAN_CREDITS)?;
        let block = core::mem::take(&mut self.core.lock().xattr_block);
        if block != 0 {
            crate::xattr::block::release(&mut tx, self, block)?;
        }
        tx.orphan_remove(self)?;
        {
            let mut core = self.core.lock();
            core.dtime = (Timespec::now().sec as u32).max(1);
            core.disk_size = 0;
        }
        tx.write_inode(self)?;
        tx.free_inode(self.number(), self.is_dir())?;
        // Not to be buried again.
        self.core.lock().mode = 0;
        Ok(())
    }
}

impl Ext4 {
    /// Frees the files that have neither a name nor a user. Not inside a transaction.
    pub(crate) fn bury(&self) -> Result<()> {
        let mut outcome = Ok(());
        loop {
            let next = self.dead.lock().pop();
            let Some(ino) = next else { return outcome };
            let done = match self.inode(ino, Which::Any) {
                Ok(inode) if inode.nlink() == 0 => {
                    // A failure leaves it on the orphan list; it does not come back here.
                    let done = inode.annihilate();
                    inode.core.lock().mode = 0;
                    done
                }
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            if let Err(error) = done {
                log::error!("EXT4-fs ({}): inode #{ino} cannot be deleted: {error}", self.name);
                outcome = outcome.and(Err(error));
            }
        }
    }

    /// Files without names that wait for their data to be written wait for nothing.
    pub(crate) fn drop_nameless_dirt(&self) {
        let unused: Vec<Arc<Inode>> = {
            let dirty = self.dirty.lock();
            dirty
                .values()
                .filter(|inode| Arc::strong_count(inode) == 1)
                .cloned()
                .collect()
        };
        let mut idle = Vec::new();
        for inode in unused.iter().filter(|inode| inode.nlink() == 0) {
            let mut dirty = self.dirty.lock();
            // The list and we.
            if Arc::strong_count(inode) == 2 {
                idle.extend(dirty.remove(&inode.number()));
            }
        }
        drop(idle);
    }
}
