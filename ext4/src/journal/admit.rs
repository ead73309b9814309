//! Handles and the running transaction: admission, credits, noting changed and freed blocks.
//!
//! A handle is admitted when everything it may change fits into the running transaction and that transaction into the log; so a commit never finds
//! the log too short.

use alloc::sync::Arc;

use arch_um::sync::Interruptible;

use super::log::{Log, Phase, State};
use super::transaction::{Callback, Running, cost, revoke_blocks};
use super::{JBD2, OrderedData, Tid};
use crate::buffer::Buffer;
use crate::{Errno, Result};

/// What stands between a handle and its transaction.
enum Obstacle {
    /// The transaction is about to commit; another will run soon.
    Locked,
    /// The transaction has no room for so many blocks.
    Full(Tid),
    /// The log has no room for the transaction: this many blocks are missing.
    NoSpace(u32),
}

impl Log {
    /// Admits a handle of `credits` blocks to the running transaction; its number.
    pub(super) fn begin(&self, credits: u32) -> Result<Tid> {
        if credits > self.max_credits() {
            log::error!(
                "{JBD2}{}: a handle wants too many credits ({credits} > {})",
                self.name,
                self.max_credits()
            );
            return Err(Errno::ENOSPC);
        }
        loop {
            let obstacle = match self.try_begin(&mut self.state.lock(), credits)? {
                Ok(tid) => return Ok(tid),
                Err(obstacle) => obstacle,
            };
            match obstacle {
                Obstacle::Locked => self.wait(|state| !state.locked || state.is_aborted()),
                Obstacle::Full(tid) => self.commit(tid)?,
                Obstacle::NoSpace(missing) => self.make_room(missing)?,
            }
        }
    }

    fn try_begin(&self, state: &mut State, credits: u32) -> Result<Result<Tid, Obstacle>> {
        state.check_begin()?;
        if state.locked {
            return Ok(Err(Obstacle::Locked));
        }
        let (free, tid) = (state.ring.free(), state.next_tid());
        let largest = self.limit(state);
        let running = state.running.get_or_insert_with(|| Running::new(tid));
        let need = running.cost_with(&self.format, credits);
        if need > largest && state.whole == Some(running.tid) {
            log::error!("{JBD2}{}: the log has no room for its fast commits", self.name);
            return Err(Errno::ENOSPC);
        }
        if need > largest {
            return Ok(Err(Obstacle::Full(running.tid)));
        }
        if need > free {
            return Ok(Err(Obstacle::NoSpace(need - free)));
        }
        running.handles += 1;
        running.promised += credits;
        Ok(Ok(running.tid))
    }

    /// The largest that the running transaction may get.
    fn limit(&self, state: &State) -> u32 {
        if state.whole == Some(state.next_tid()) {
            state.ring.size()
        } else {
            self.largest()
        }
    }

    /// Waits until `done` holds of the state.
    pub(super) fn wait(&self, done: impl Fn(&State) -> bool) {
        let done = || done(&self.state.lock()).then_some(());
        // Neither a deadline nor an interrupt ends this wait, only its condition.
        let _ = self.changed.wait_until(Interruptible::No, None, done);
    }

    /// A handle ends; `credits` of its promise were not used.
    pub(super) fn end(&self, credits: u32) {
        let awaited = {
            let mut state = self.state.lock();
            let closing = state.locked || state.phase != Phase::Open;
            let Some(running) = state.running.as_mut() else { return };
            running.handles -= 1;
            running.promised -= credits;
            running.handles == 0 && closing
        };
        if awaited {
            self.changed.wake_all();
        }
    }

    /// More credits in the same transaction; false if there is no room.
    pub(super) fn extend(&self, credits: u32) -> bool {
        let mut state = self.state.lock();
        self.try_extend(&mut state, credits).is_ok()
    }

    fn try_extend(&self, state: &mut State, credits: u32) -> Result<()> {
        state.check()?;
        let (largest, free, locked) = (self.limit(state), state.ring.free(), state.locked);
        let running = state.running.as_mut().ok_or(Errno::EROFS)?;
        // A transaction that is waited for should end, not grow.
        if locked || running.cost_with(&self.format, credits) > largest.min(free) {
            return Err(Errno::ENOSPC);
        }
        running.promised += credits;
        Ok(())
    }

    /// Uses `count` credits of a handle; one that has promised too little gets more if there is room, locked or not.
    fn pay(&self, state: &mut State, credits: &mut u32, count: u32) -> Result<()> {
        if *credits < count {
            let more = count - *credits;
            let room = self.limit(state).min(state.ring.free());
            let running = state.running.as_mut().ok_or(Errno::EROFS)?;
            if running.cost_with(&self.format, more) > room {
                log::error!("{JBD2}{}: a handle has run out of credits", self.name);
                return Err(Errno::ENOSPC);
            }
            running.promised += more;
            *credits += more;
        }
        let running = state.running.as_mut().ok_or(Errno::EROFS)?;
        running.promised -= count;
        *credits -= count;
        Ok(())
    }

    /// The block is about to be changed in this transaction. A revocation in it is taken back.
    pub(super) fn note(&self, buffer: &Arc<Buffer>, credits: &mut u32) -> Result<()> {
        let block = buffer.block();
        if block >= self.fs_blocks {
            return Err(Errno::EUCLEAN);
        }
        let mut state = self.state.lock();
        state.check()?;
        let running = state.running.as_ref().ok_or(Errno::EROFS)?;
        let known = running.buffers.get(&block);
        if known.is_some_and(|known| Arc::ptr_eq(known, buffer)) {
            return Ok(());
        }
        if known.is_none() {
            self.pay(&mut state, credits, 1)?;
        }
        let running = state.running.as_mut().ok_or(Errno::EROFS)?;
        running.revoked.remove(&block);
        running.buffers.insert(block, buffer.clone());
        Ok(())
    }

    /// The blocks are freed in this transaction: not written, revoked, out of the cache. One credit for each block of revoke records that is begun.
    pub(super) fn revoke(&self, first: u64, count: u64, credits: &mut u32) -> Result<()> {
        let end = first
            .checked_add(count)
            .filter(|&end| end <= self.fs_blocks)
            .ok_or(Errno::EUCLEAN)?;
        for block in first..end {
            // Bound for each block, so that a long range does not hold up everybody.
            let mut state = self.state.lock();
            state.check()?;
            let running = state.running.as_ref().ok_or(Errno::EROFS)?;
            let (now, known) = (running.revoked.len(), running.revoked.contains(&block));
            if !known && revoke_blocks(&self.format, now + 1) > revoke_blocks(&self.format, now) {
                self.pay(&mut state, credits, 1)?;
            }
            let running = state.running.as_mut().ok_or(Errno::EROFS)?;
            running.revoked.insert(block);
            let forgotten = running.buffers.remove(&block);
            drop(state);
            drop(forgotten);
            self.buffers.forget(block);
        }
        Ok(())
    }

    /// Credits that freeing `count` metadata blocks takes at most.
    pub(super) fn revoke_credits(&self, count: u64) -> u32 {
        let blocks = count.div_ceil(self.format.revokes_per_block() as u64) + 1;
        u32::try_from(blocks).unwrap_or(u32::MAX)
    }

    pub(super) fn add_callback(&self, run: Callback) {
        let mut state = self.state.lock();
        if let Some(running) = state.running.as_mut() {
            running.callbacks.push(run);
        }
    }

    pub(super) fn add_ordered(&self, data: Arc<dyn OrderedData>) {
        let address = Arc::as_ptr(&data).cast::<()>() as usize;
        let mut state = self.state.lock();
        if let Some(running) = state.running.as_mut() {
            running.ordered.insert(address, data);
        }
    }

    /// The blocks of the log a transaction takes whose handles have all ended.
    pub(super) fn cost_of(&self, running: &Running) -> u32 {
        cost(&self.format, running.buffers.len() as u64, running.revoked.len())
    }
}
