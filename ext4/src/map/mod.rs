//! From a file's blocks to the disk's: extent trees ([`extent`]) or block maps ([`indirect`]).
//!
//! Reading needs the metadata lock shared, changing it goes through a [`Tx`]. After a change the caller stores the inode.

pub(crate) mod extent;
pub(crate) mod indirect;

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use crate::Result;
use crate::inode::Inode;
use crate::instance::{Ext4, Meta};
use crate::journal::Freed;
use crate::layout::inode::Flags;
use crate::space::blocks::Run;
use crate::transaction::Tx;

/// Most blocks of metadata (directories) that one step of a removal frees: each must be revoked.
pub(crate) const METADATA_STEP: u64 = 256;

/// What a run of a file's blocks is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// No blocks.
    Hole,
    /// Blocks with contents.
    Written,
    /// Blocks that read as zeros.
    Unwritten,
}

/// A run of a file's blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub kind: Kind,
    /// First block on the disk; 0 for a hole.
    pub block: u64,
    /// Blocks, at least one; a hole's is a lower bound.
    pub len: u64,
}

/// The most blocks a file can have.
pub(crate) fn most_blocks(fs: &Ext4, inode: &Inode) -> u64 {
    if inode.has(Flags::EXTENTS) {
        u64::from(u32::MAX)
    } else {
        indirect::capacity(fs.block_size()).min(u64::from(u32::MAX))
    }
}

/// Looks block `at` up; the answer holds for up to `most` blocks.
pub(crate) fn lookup(fs: &Ext4, _meta: &Meta, inode: &Inode, at: u64, most: u64) -> Result<Mapping> {
    lookup_settled(fs, inode, at, most)
}

/// The same of a file whose map nobody changes as long as it is known (values of attributes): needs no lock, or may be under it.
pub(crate) fn lookup_settled(fs: &Ext4, inode: &Inode, at: u64, most: u64) -> Result<Mapping> {
    let mut found = if inode.has(Flags::EXTENTS) {
        extent::lookup(fs, inode, at)?
    } else {
        indirect::lookup(fs, inode, at, most)?
    };
    found.len = found.len.min(most.max(1));
    Ok(found)
}

/// Puts blocks where a hole is.
pub(crate) fn insert(tx: &mut Tx<'_>, inode: &Inode, at: u64, run: Run, kind: Kind) -> Result<()> {
    inode.map_changed(tx.handle.tid());
    let sectors = u64::from(run.count) * (tx.fs.block_size() / 512);
    if inode.has(Flags::EXTENTS) {
        extent::insert(tx, inode, at, run, kind)?;
    } else {
        indirect::insert(tx, inode, at, run)?;
    }
    inode.core.lock().sectors += sectors;
    Ok(())
}

/// Takes blocks of `from..to` out of the map, as many as one small transaction can: where to go on, `to` or more at the end, and the blocks, which are
/// used by nobody but not free.
pub(crate) fn detach_some(tx: &mut Tx<'_>, inode: &Inode, from: u64, to: u64) -> Result<(u64, Vec<Run>)> {
    let most = match inode.freed_kind() {
        Freed::Data => u64::MAX,
        Freed::Metadata => METADATA_STEP,
    };
    inode.map_changed(tx.handle.tid());
    let (next, runs) = if inode.has(Flags::EXTENTS) {
        let (next, run) = extent::remove_some(tx, inode, from, to, most)?;
        (next, run.into_iter().collect())
    } else {
        indirect::remove_some(tx, inode, from, to, most)?
    };
    let blocks: u64 = runs.iter().map(|run: &Run| u64::from(run.count)).sum();
    let mut core = inode.core.lock();
    core.sectors = core.sectors.saturating_sub(blocks * (tx.fs.block_size() / 512));
    drop(core);
    Ok((next, runs))
}

/// [`detach_some`], and the blocks are freed.
pub(crate) fn remove_some(tx: &mut Tx<'_>, inode: &Inode, from: u64, to: u64) -> Result<u64> {
    let (next, runs) = detach_some(tx, inode, from, to)?;
    let kind = inode.freed_kind();
    for run in runs {
        tx.free(run.first, u64::from(run.count), kind)?;
    }
    Ok(next)
}

/// The blocks that hold the map itself, outside of the inode.
pub(crate) fn structure(fs: &Ext4, inode: &Inode) -> Result<BTreeSet<u64>> {
    if inode.has(Flags::EXTENTS) {
        extent::nodes(fs, inode)
    } else {
        indirect::pointer_blocks(fs, inode)
    }
}

/// Where new blocks for block `at` of a file should lie.
pub(crate) fn goal(fs: &Ext4, meta: &Meta, inode: &Inode, at: u64) -> u64 {
    if at > 0
        && let Ok(before) = lookup(fs, meta, inode, at - 1, 1)
        && before.kind != Kind::Hole
    {
        return before.block + 1;
    }
    let group = (inode.number() - 1) / fs.geometry.inodes_per_group;
    fs.geometry.group_start(group)
}
