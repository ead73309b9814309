//! The log as a ring: which transaction lies where, and how much room is left.

use alloc::collections::VecDeque;
use core::time::Duration;

use arch_um::time::Instant;

use super::Tid;
use super::superblock::Extent;

/// The log's blocks, in use from the oldest transaction to the head.
pub(super) struct Ring {
    extent: Extent,
    /// The next block to be written.
    head: u32,
    used: u32,
    /// Oldest first; their numbers follow each other.
    transactions: VecDeque<Logged>,
}

/// A transaction in the log.
struct Logged {
    tid: Tid,
    at: u32,
    blocks: u32,
    /// Its blocks of which no newer version is in the log and which are not at home.
    outstanding: usize,
    /// When its commit block was on stable storage.
    complete: Option<Instant>,
    /// Not needed any more: the superblock is about to say so, then its room is free.
    retired: bool,
}

impl Ring {
    /// An empty log that will be written from block `head` on.
    pub(super) fn new(extent: Extent, head: u32) -> Ring {
        Ring {
            extent,
            head,
            used: 0,
            transactions: VecDeque::new(),
        }
    }

    /// Blocks in all.
    pub(super) fn size(&self) -> u32 {
        self.extent.size()
    }

    pub(super) fn free(&self) -> u32 {
        self.size() - self.used
    }

    pub(super) fn head(&self) -> u32 {
        self.head
    }

    /// Room for a transaction that is about to be written; its first block. The caller has made sure that it fits.
    pub(super) fn push(&mut self, tid: Tid, blocks: u32) -> u32 {
        let at = self.head;
        self.head = self.extent.after(at, blocks);
        self.used += blocks;
        self.transactions.push_back(Logged {
            tid,
            at,
            blocks,
            outstanding: 0,
            complete: None,
            retired: false,
        });
        at
    }

    fn find(&mut self, tid: Tid) -> Option<&mut Logged> {
        let front = self.transactions.front()?.tid;
        self.transactions.get_mut(tid.wrapping_sub(front) as usize)
    }

    /// One more block of `tid` is to be written home.
    pub(super) fn add_outstanding(&mut self, tid: Tid) {
        if let Some(logged) = self.find(tid) {
            logged.outstanding += 1;
        }
    }

    /// One less.
    pub(super) fn sub_outstanding(&mut self, tid: Tid) {
        if let Some(logged) = self.find(tid) {
            logged.outstanding -= 1;
        }
    }

    /// The transaction is on stable storage.
    pub(super) fn complete(&mut self, tid: Tid) {
        if let Some(logged) = self.find(tid) {
            logged.complete = Some(Instant::now());
        }
    }

    /// The newest of the oldest transactions that together hold at least `blocks` blocks of the log.
    pub(super) fn oldest_with(&self, blocks: u32) -> Option<Tid> {
        let mut sum = 0;
        for logged in self.transactions.iter().filter(|logged| logged.complete.is_some()) {
            sum += logged.blocks;
            if sum >= blocks {
                return Some(logged.tid);
            }
        }
        self.transactions
            .iter()
            .rev()
            .find(|logged| logged.complete.is_some())
            .map(|logged| logged.tid)
    }

    /// How long the oldest transaction has been in the log since its commit.
    pub(super) fn age(&self) -> Option<Duration> {
        Some(self.transactions.front()?.complete?.elapsed())
    }

    /// How many of the oldest transactions are all home, in blocks home but perhaps not flushed: [`retire`](Self::retire) as many after a flush.
    pub(super) fn retirable(&self) -> usize {
        self.transactions
            .iter()
            .take_while(|logged| logged.complete.is_some() && logged.outstanding == 0)
            .count()
    }

    /// The `count` oldest are not needed by a replay any more; the [`tail`](Self::tail) is behind them.
    pub(super) fn retire(&mut self, count: usize) {
        for logged in self.transactions.iter_mut().take(count) {
            logged.retired = true;
        }
    }

    /// Gives back the room of retired transactions. Only when the superblock on stable storage points behind them.
    pub(super) fn release(&mut self) {
        while let Some(logged) = self.transactions.pop_front_if(|logged| logged.retired) {
            self.used -= logged.blocks;
        }
    }

    /// Where a replay has to begin, and with which transaction.
    pub(super) fn tail(&self) -> Option<(u32, Tid)> {
        let oldest = self.transactions.iter().find(|logged| !logged.retired)?;
        Some((oldest.at, oldest.tid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_comes_back_in_order_and_the_head_wraps() {
        let extent = Extent {
            first: 1,
            end: 11,
            fast: (0, 0),
        };
        let mut ring = Ring::new(extent, 1);
        assert_eq!(ring.push(u32::MAX, 4), 1);
        assert_eq!(ring.push(0, 4), 5);
        assert_eq!((ring.free(), ring.tail()), (2, Some((1, u32::MAX))));
        ring.complete(u32::MAX);
        ring.complete(0);
        ring.add_outstanding(u32::MAX);
        assert_eq!(ring.retirable(), 0);
        ring.sub_outstanding(u32::MAX);
        ring.add_outstanding(0);
        assert_eq!(ring.retirable(), 1);
        ring.retire(1);
        assert_eq!((ring.free(), ring.tail()), (2, Some((5, 0))));
        ring.release();
        assert_eq!(ring.free(), 6);
        assert_eq!(ring.push(1, 5), 9);
        assert_eq!(ring.head(), 4);
    }
}
