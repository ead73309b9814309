//! A file's contents on their way to the disk, many runs of one or several files at once.
//!
//! Writing goes by what a block is: one with contents is overwritten; an unwritten one is written and then marked so; a promised one is taken, written,
//! and then put into the map. A hole of which nothing was promised stays one if it is zero.
//!
//! Three steps: a [`Plan`] finds or takes the blocks of all runs, the device gets all of them together, and then each file's map follows.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;
use core::sync::atomic::Ordering;

use kernel::page_cache::WriteBack;

use super::data::Piece;
use crate::device::BlockDevice;
use crate::inode::Inode;
use crate::instance::Ext4;
use crate::layout::inode::Flags;
use crate::map::{self, Kind};
use crate::space::blocks::Run;
use crate::transaction::Tx;
use crate::xattr::inline::Home;
use crate::{Errno, Result};

/// Blocks that putting one run into a map can change.
pub(crate) const INSERT_CREDITS: u32 = 40;
/// Bytes of several files that are on their way together, and files: their pages are busy meanwhile.
const TOGETHER: u64 = 4 << 20;
const FILES: usize = 256;

/// What follows when a write has reached the disk.
enum Then {
    Nothing,
    /// The blocks were unwritten.
    MarkWritten,
    /// The blocks had no place; now this.
    Map(Run),
}

/// One write, of part of a run of a file.
struct Step {
    /// Which of the runs that were given.
    run: usize,
    blocks: Range<u64>,
    /// Where the run's data ends in the file.
    end: u64,
    then: Then,
}

/// Writes to be done together.
#[derive(Default)]
struct Plan {
    writes: Vec<(u64, Vec<u8>)>,
    steps: Vec<Step>,
}

impl Inode {
    /// Writes runs (first byte and data) to the disk; what came of each. The last block is filled up with zeros.
    pub(super) fn write_disk(&self, runs: Vec<(u64, Vec<u8>)>) -> Vec<Result<()>> {
        let mut plan = Plan::default();
        let ends = self.plan(runs, &mut plan);
        let written = self.fs.device.write_runs(plan.writes);
        self.follow(plan.steps, written, ends)
    }

    /// Plans the writes of `runs`: where each ends in the file. What cannot be planned has failed.
    fn plan(&self, runs: Vec<(u64, Vec<u8>)>, plan: &mut Plan) -> Vec<Result<u64>> {
        runs.into_iter()
            .enumerate()
            .map(|(index, (at, data))| {
                let end = at + data.len() as u64;
                self.plan_run(index, at, data, plan).map(|()| end)
            })
            .collect()
    }

    fn plan_run(&self, run: usize, at: u64, mut data: Vec<u8>, plan: &mut Plan) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        // Contents in the inode are shorter than a page.
        if self.has(Flags::INLINE_DATA) && at == 0 && self.write_inline(&data)? == Home::Inode {
            return Ok(());
        }
        let size = self.fs.block_size();
        let end = at + data.len() as u64;
        data.resize(data.len().next_multiple_of(size as usize), 0);
        let first = at / size;
        if self.logs_data() {
            return self.write_logged(first, &data, end);
        }
        let mut pieces = self.pieces(first..end.div_ceil(size))?;
        if let [piece] = &pieces[..]
            && piece.kind != Kind::Hole
        {
            // The usual case needs no copy.
            plan.add(run, piece, end, data, size);
            return Ok(());
        }
        let part = |blocks: &Range<u64>| {
            &data[((blocks.start - first) * size) as usize..((blocks.end - first) * size) as usize]
        };
        for piece in pieces.drain(..) {
            if piece.kind != Kind::Hole {
                plan.add(run, &piece, end, part(&piece.blocks).to_vec(), size);
                continue;
            }
            let mut at = piece.blocks.start;
            while let Some(wanted) = self.wanted(at..piece.blocks.end, &part) {
                let taken = self
                    .fs
                    .take_for_file(self, wanted.start, (wanted.end - wanted.start) as u32)?;
                at = wanted.start + u64::from(taken.count);
                let blocks = wanted.start..at;
                plan.writes.push((taken.first * size, part(&blocks).to_vec()));
                plan.steps.push(Step {
                    run,
                    blocks,
                    end,
                    then: Then::Map(taken),
                });
            }
        }
        Ok(())
    }

    /// The next blocks of a hole that must get a place: some were promised, others hold data that is not zero.
    fn wanted<'a>(&self, hole: Range<u64>, part: &impl Fn(&Range<u64>) -> &'a [u8]) -> Option<Range<u64>> {
        let wanted = |&block: &u64| {
            self.promise.lock().contains(block) || part(&(block..block + 1)).iter().any(|&byte| byte != 0)
        };
        let start = hole.clone().find(wanted)?;
        let end = (start..hole.end).find(|block| !wanted(block)).unwrap_or(hole.end);
        Some(start..end)
    }

    /// The writes of this file have ended: its map and sizes follow those that succeeded.
    fn follow(&self, steps: Vec<Step>, written: Vec<Result<()>>, mut ends: Vec<Result<u64>>) -> Vec<Result<()>> {
        self.contents_written();
        let mut written = written.into_iter();
        for step in steps {
            let outcome = written.next().unwrap_or(Err(Errno::EIO));
            let (done, run) = (self.follow_step(&step, outcome), step.run);
            if let (Err(error), Some(end @ Ok(_))) = (done, ends.get_mut(run)) {
                *end = Err(error);
            }
        }
        let failed = ends.contains(&Err(Errno::EIO));
        if failed && self.fs.has_journal && self.fs.options.lock().data_err_abort {
            self.fs.abort(Errno::EIO, format_args!("data cannot be written"));
        }
        // A hole that stays one has no step; the contents reach to the end of a run anyway.
        ends.into_iter().map(|end| end.map(|end| self.reached(end))).collect()
    }

    fn follow_step(&self, step: &Step, written: Result<()>) -> Result<()> {
        let size = self.fs.block_size();
        match step.then {
            Then::Nothing => written?,
            Then::MarkWritten => {
                written?;
                self.mark_written(step.blocks.clone(), step.end)?;
            }
            Then::Map(run) => self.map_taken(step.blocks.clone(), run, step.end, written)?,
        }
        self.reached((step.blocks.end * size).min(step.end));
        Ok(())
    }

    /// The contents are on the disk up to byte `end`: its size there may say so.
    pub(crate) fn reached(&self, end: u64) {
        let end = end.min(self.len_now());
        let mut core = self.core.lock();
        if core.disk_size < end {
            core.disk_size = end;
            drop(core);
            self.dirty.store(true, Ordering::Release);
        }
    }

    fn mark_written(&self, blocks: Range<u64>, end: u64) -> Result<()> {
        let mut at = blocks.start;
        while at < blocks.end {
            let mut tx = Tx::begin_anyway(&self.fs, INSERT_CREDITS)?;
            at += map::extent::set_kind(&mut tx, self, at, blocks.end - at, Kind::Written)?;
            self.reached((at * self.fs.block_size()).min(end));
            tx.write_inode(self)?;
        }
        Ok(())
    }

    /// The blocks of `run` are written, or were not: the map points to them, or they are given back.
    fn map_taken(&self, blocks: Range<u64>, run: Run, end: u64, written: Result<()>) -> Result<()> {
        let fs = &self.fs;
        let mapped = written.and_then(|()| {
            let mut tx = Tx::begin_anyway(fs, INSERT_CREDITS)?;
            map::insert(&mut tx, self, blocks.start, run, Kind::Written)?;
            tx.mark_used(run)?;
            self.reached((blocks.end * fs.block_size()).min(end));
            tx.write_inode(self)
        });
        if let Err(error) = mapped {
            let found = map::lookup(fs, &fs.meta.read(), self, blocks.start, 1);
            if found.is_ok_and(|found| found.kind == Kind::Hole) {
                fs.give_back(&mut fs.meta.write(), run);
            }
            return Err(error);
        }
        let back = self.promise.lock().remove(blocks);
        fs.counters.keep(back);
        Ok(())
    }

    /// Writes dirty pages, then the fields.
    pub(crate) fn write_out(&self) -> Result<()> {
        if let Some(cache) = self.cache_now() {
            cache.write_back(0..u64::MAX)?;
        }
        self.written_out()
    }

    /// What was dirty is on the disk: the fields follow.
    fn written_out(&self) -> Result<()> {
        if self.cache_now().is_some_and(|cache| cache.dirty_bytes() == 0) {
            self.reached(u64::MAX);
        }
        self.store()
    }

    /// Stores the fields if they changed.
    pub(crate) fn store(&self) -> Result<()> {
        if self.dirty.load(Ordering::Acquire) && self.nlink() > 0 {
            let mut tx = Tx::begin_anyway(&self.fs, 2)?;
            tx.write_inode(self)?;
        }
        Ok(())
    }
}

impl Plan {
    /// Adds the write of blocks that have a place.
    fn add(&mut self, run: usize, piece: &Piece, end: u64, data: Vec<u8>, size: u64) {
        self.writes.push((piece.block * size, data));
        self.steps.push(Step {
            run,
            blocks: piece.blocks.clone(),
            end,
            then: match piece.kind {
                Kind::Unwritten => Then::MarkWritten,
                Kind::Written | Kind::Hole => Then::Nothing,
            },
        });
    }
}

/// A file among others that are written together.
struct Part {
    inode: Arc<Inode>,
    batch: WriteBack,
    ends: Vec<Result<u64>>,
    /// How many steps of the plan are its own.
    steps: usize,
}

impl Ext4 {
    /// Writes the small dirty files among `inodes` out together, so that the disk gets neighbours in one request. Large ones, and what is left of these,
    /// are for [`Inode::write_out`]. Errors are kept by the caches and met again there.
    pub(crate) fn write_together(&self, inodes: &[Arc<Inode>]) {
        let mut parts = Vec::new();
        let mut plan = Plan::default();
        let mut bytes = 0;
        for inode in inodes {
            let Some(cache) = inode.cache_now() else { continue };
            let dirty = cache.dirty_bytes();
            if dirty == 0 || dirty > TOGETHER / 4 {
                continue;
            }
            let Ok(mut batch) = cache.try_write_back(dirty) else {
                continue;
            };
            let first = plan.steps.len();
            let ends = inode.plan(batch.take_data(), &mut plan);
            parts.push(Part {
                inode: inode.clone(),
                batch,
                ends,
                steps: plan.steps.len() - first,
            });
            bytes += dirty;
            if bytes >= TOGETHER || parts.len() >= FILES {
                self.write_parts(core::mem::take(&mut parts), core::mem::take(&mut plan));
                bytes = 0;
            }
        }
        self.write_parts(parts, plan);
    }

    fn write_parts(&self, parts: Vec<Part>, plan: Plan) {
        if parts.is_empty() {
            return;
        }
        let mut written = self.device.write_runs(plan.writes).into_iter();
        let mut steps = plan.steps.into_iter();
        for part in parts {
            let own = steps.by_ref().take(part.steps).collect();
            let outcomes = written.by_ref().take(part.steps).collect();
            let outcomes = part.inode.follow(own, outcomes, part.ends);
            if part.batch.finish(&outcomes).is_ok() {
                let _ = part.inode.written_out();
            }
        }
    }
}
