//! Contents that go through the journal (`data=journal`, `chattr +j`): the blocks are written as metadata is, in the transaction that maps them and
//! moves the size, so a crash leaves all of it or nothing. What is committed and not home yet lies in the block cache alone; readers look there first.

use core::ops::Range;

use kernel::vfs::FileType;

use super::write_out::INSERT_CREDITS;
use crate::device::BlockDevice;
use crate::inode::Inode;
use crate::layout::inode::Flags;
use crate::map::{self, Kind};
use crate::transaction::Tx;
use crate::{Errno, Result};

/// Most blocks in one handle.
const STEP: u32 = 64;

impl Inode {
    /// Whether its contents go through the journal.
    pub(crate) fn logs_data(&self) -> bool {
        self.kind == FileType::Regular
            && self.fs.has_journal
            && (self.fs.logs_data || self.has(Flags::JOURNAL_DATA))
            && !self.has(Flags::EA_INODE)
    }

    /// Reads whole or part of a run of blocks that begins on the disk at byte `start`.
    pub(super) fn read_logged(&self, start: u64, data: &mut [u8]) -> Result<()> {
        let size = self.fs.block_size();
        let end = start + data.len() as u64;
        let mut at = start;
        while at < end {
            let upto = (at / size * size + size).min(end);
            let part = &mut data[(at - start) as usize..(upto - start) as usize];
            let skip = (at % size) as usize;
            match self.fs.buffers.find(at / size) {
                Some(buffer) => {
                    let bytes = buffer.snapshot();
                    part.copy_from_slice(&bytes[skip..skip + part.len()]);
                }
                None if at.is_multiple_of(512) && part.len().is_multiple_of(512) => self.fs.device.read(at, part)?,
                None => {
                    let mut whole = alloc::vec![0; size as usize];
                    self.fs.device.read(at / size * size, &mut whole)?;
                    part.copy_from_slice(&whole[skip..skip + part.len()]);
                }
            }
            at = upto;
        }
        Ok(())
    }

    /// Writes whole blocks from block `first` on; the contents end at byte `end`.
    pub(super) fn write_logged(&self, first: u64, bytes: &[u8], end: u64) -> Result<()> {
        let size = self.fs.block_size();
        let behind = first + bytes.len() as u64 / size;
        let most = (self.fs.journal.max_credits().saturating_sub(INSERT_CREDITS) / 2).clamp(1, STEP);
        let mut at = first;
        while at < behind {
            let range = at..behind.min(at + u64::from(most));
            let part = |blocks: &Range<u64>| {
                &bytes[((blocks.start - first) * size) as usize..((blocks.end - first) * size) as usize]
            };
            let found = map::lookup(&self.fs, &self.fs.meta.read(), self, at, range.end - at)?;
            let blocks = at..at + found.len;
            at += match found.kind {
                Kind::Hole => self.log_into_hole(blocks, end, &part)?,
                Kind::Written | Kind::Unwritten => self.log_over(blocks, found.kind, found.block, end, &part)?,
            };
        }
        Ok(())
    }

    /// Blocks that are there; how many of them were done.
    fn log_over<'a>(
        &self,
        mut blocks: Range<u64>,
        kind: Kind,
        block: u64,
        end: u64,
        part: &impl Fn(&Range<u64>) -> &'a [u8],
    ) -> Result<u64> {
        let mut tx = Tx::begin_anyway(&self.fs, INSERT_CREDITS + (blocks.end - blocks.start) as u32)?;
        if kind == Kind::Unwritten {
            let count = map::extent::set_kind(&mut tx, self, blocks.start, blocks.end - blocks.start, Kind::Written)?;
            blocks.end = blocks.end.min(blocks.start + count);
        }
        self.log_blocks(&mut tx, block, part(&blocks))?;
        self.reached((blocks.end * self.fs.block_size()).min(end));
        tx.write_inode(self)?;
        Ok(blocks.end - blocks.start)
    }

    /// Blocks that are not: those with a promise or with contents get some, from the first of them to the first that gets none.
    fn log_into_hole<'a>(&self, blocks: Range<u64>, end: u64, part: &impl Fn(&Range<u64>) -> &'a [u8]) -> Result<u64> {
        let wanted =
            |block: u64| self.promise.lock().contains(block) || part(&(block..block + 1)).iter().any(|&byte| byte != 0);
        let mut upto = blocks.start;
        while upto < blocks.end && wanted(upto) {
            upto += 1;
        }
        if upto == blocks.start {
            return Ok(1);
        }
        let fs = &self.fs;
        let run = fs.take_for_file(self, blocks.start, (upto - blocks.start) as u32)?;
        let done = blocks.start..blocks.start + u64::from(run.count);
        let mapped = Tx::begin_anyway(fs, INSERT_CREDITS + run.count).and_then(|mut tx| {
            map::insert(&mut tx, self, done.start, run, Kind::Written)?;
            tx.mark_used(run)?;
            self.log_blocks(&mut tx, run.first, part(&done))?;
            self.reached((done.end * fs.block_size()).min(end));
            tx.write_inode(self)
        });
        if let Err(error) = mapped {
            let found = map::lookup(fs, &fs.meta.read(), self, done.start, 1);
            if found.is_ok_and(|found| found.kind == Kind::Hole) {
                fs.give_back(&mut fs.meta.write(), run);
            }
            return Err(error);
        }
        let back = self.promise.lock().remove(done.clone());
        fs.counters.keep(back);
        Ok(done.end - done.start)
    }

    fn log_blocks(&self, tx: &mut Tx<'_>, first: u64, bytes: &[u8]) -> Result<()> {
        self.map_changed(tx.handle.tid());
        for (block, bytes) in (first..).zip(bytes.chunks(self.fs.block_size() as usize)) {
            tx.handle.overwrite(block, bytes)?;
        }
        Ok(())
    }

    /// Before the file changes between the two ways of writing: nothing of it is in the journal, the page cache or the block cache. Contents are
    /// locked.
    pub(crate) fn leave_journal(&self) -> Result<()> {
        self.write_out()?;
        let fs = &self.fs;
        fs.journal.sync()?;
        if self.has(Flags::INLINE_DATA) {
            return Ok(());
        }
        let (mut at, end) = (0, self.len_now().div_ceil(fs.block_size()));
        while at < end {
            let found = map::lookup(fs, &fs.meta.read(), self, at, end - at)?;
            at += found.len;
            if found.kind != Kind::Hole {
                (found.block..found.block + found.len).for_each(|block| fs.buffers.forget(block));
            }
        }
        match fs.journal.aborted() {
            Some(_) => Err(Errno::EROFS),
            None => Ok(()),
        }
    }
}
