//! The running transaction: who is in it, what it has changed, what it will cost.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use arch_um::time::Instant;

use super::layout::Format;
use super::{OrderedData, Tid};
use crate::buffer::Buffer;

/// What runs when a transaction is on stable storage.
pub(super) type Callback = Box<dyn FnOnce() + Send>;

/// Whether `a` is `b` or a later transaction; numbers wrap.
pub(super) fn is_at_least(a: Tid, b: Tid) -> bool {
    a.wrapping_sub(b) as i32 >= 0
}

/// The transaction that handles join.
pub(super) struct Running {
    pub(super) tid: Tid,
    pub(super) started: Instant,
    /// Open handles.
    pub(super) handles: u32,
    /// Credits of open handles that are not used yet.
    pub(super) promised: u32,
    /// The blocks it changes.
    pub(super) buffers: BTreeMap<u64, Arc<Buffer>>,
    /// The blocks it frees.
    pub(super) revoked: BTreeSet<u64>,
    /// Data to be written first, by address: a file is in it once.
    pub(super) ordered: BTreeMap<usize, Arc<dyn OrderedData>>,
    pub(super) callbacks: Vec<Callback>,
}

impl Running {
    pub(super) fn new(tid: Tid) -> Running {
        Running {
            tid,
            started: Instant::now(),
            handles: 0,
            promised: 0,
            buffers: BTreeMap::new(),
            revoked: BTreeSet::new(),
            ordered: BTreeMap::new(),
            callbacks: Vec::new(),
        }
    }

    /// Nothing in it needs a commit.
    pub(super) fn is_empty(&self) -> bool {
        self.buffers.is_empty() && self.revoked.is_empty() && self.ordered.is_empty() && self.callbacks.is_empty()
    }

    /// Blocks of the log it takes at most if its handles may change `more` further blocks.
    pub(super) fn cost_with(&self, format: &Format, more: u32) -> u32 {
        let blocks = self.buffers.len() as u64 + u64::from(self.promised) + u64::from(more);
        cost(format, blocks, self.revoked.len())
    }
}

/// Blocks of the log that a transaction takes: its blocks, descriptors, revoke blocks, the commit block.
pub(super) fn cost(format: &Format, blocks: u64, revoked: usize) -> u32 {
    let descriptors = blocks.div_ceil(format.tags_per_descriptor() as u64);
    let total = blocks + descriptors + revoke_blocks(format, revoked) + 1;
    u32::try_from(total).unwrap_or(u32::MAX)
}

/// Blocks that revoke records take.
pub(super) fn revoke_blocks(format: &Format, revoked: usize) -> u64 {
    revoked.div_ceil(format.revokes_per_block()) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transaction_numbers_compare_across_the_wrap() {
        assert!(is_at_least(5, 5) && is_at_least(6, 5) && !is_at_least(5, 6));
        assert!(is_at_least(2, u32::MAX - 2) && !is_at_least(u32::MAX - 2, 2));
    }
}
