//! Blocks: first taken in memory, then marked by the transaction that uses them; freed by one and takeable again when it has committed.

use alloc::boxed::Box;

use super::groups::{Group, get_bit, set_bit};
use crate::device::BlockDevice;
use crate::instance::{Ext4, Meta};
use crate::journal::Freed;
use crate::transaction::Tx;
use crate::{Errno, Result};

/// Blocks in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub first: u64,
    pub count: u32,
}

impl Ext4 {
    /// Takes up to `want` free blocks in a row, near `goal`. They are busy in memory only: [`Tx::mark_used`] or [`give_back`](Self::give_back)
    /// must follow. `ENOSPC`.
    pub(crate) fn take(&self, meta: &mut Meta, goal: u64, want: u32) -> Result<Run> {
        self.absorb_released(meta);
        if let Some(run) = self.search(meta, goal, want) {
            return Ok(run);
        }
        Err(Errno::ENOSPC)
    }

    fn search(&self, meta: &mut Meta, goal: u64, want: u32) -> Option<Run> {
        let goal = if self.geometry.holds(goal, 1) {
            goal
        } else {
            u64::from(self.geometry.first_data_block)
        };
        let (start, offset) = self.geometry.group_of(goal);
        let groups = meta.groups.len() as u32;
        let mut best: Option<(u32, u32, u32)> = None;
        // First where a whole run may be, then anywhere.
        for least in [want, 1] {
            for step in 0..groups {
                let number = (start + step) % groups;
                let group = meta.groups.get_mut(number as usize)?;
                if group.available < least || self.load_group(group, number).is_err() {
                    continue;
                }
                let from = if step == 0 { offset } else { 0 };
                let found = look(group, from, want);
                match found {
                    Some((at, count)) if count >= want => return self.occupy(group, number, at, want),
                    Some((at, count)) if best.is_none_or(|(_, _, most)| count > most) => {
                        best = Some((number, at, count))
                    }
                    _ => {}
                }
            }
            if let Some((number, at, count)) = best {
                return self.occupy(meta.groups.get_mut(number as usize)?, number, at, count);
            }
            if want == 1 {
                break;
            }
        }
        None
    }

    fn occupy(&self, group: &mut Group, number: u32, at: u32, count: u32) -> Option<Run> {
        let changed = group.busy.as_mut()?.put(at, count, true);
        group.available -= changed;
        self.counters.taken(i64::from(changed));
        Some(Run {
            first: self.geometry.group_start(number) + u64::from(at),
            count,
        })
    }

    /// Blocks that were taken and are not used after all, or whose freeing has committed.
    pub(crate) fn give_back(&self, meta: &mut Meta, run: Run) {
        let (number, at) = self.geometry.group_of(run.first);
        if let Some(group) = meta.groups.get_mut(number as usize)
            && let Some(busy) = group.busy.as_mut()
        {
            let changed = busy.put(at, run.count, false);
            group.available += changed;
            self.counters.taken(-i64::from(changed));
        }
    }

    /// Makes blocks takeable whose freeing has committed.
    pub(crate) fn absorb_released(&self, meta: &mut Meta) {
        let released = core::mem::take(&mut *self.released.lock());
        for run in released {
            self.give_back(meta, run);
        }
    }

    /// Takes exactly these blocks, as far as they are free. `EUCLEAN` when files cannot own them.
    pub(crate) fn reserve(&self, meta: &mut Meta, run: Run) -> Result<()> {
        if run.count == 0 || !self.is_file_space(run.first, u64::from(run.count)) {
            return Err(Errno::EUCLEAN);
        }
        for (number, at, count) in self.geometry.pieces(run.first, u64::from(run.count)) {
            let group = meta.groups.get_mut(number as usize).ok_or(Errno::EUCLEAN)?;
            self.load_group(group, number)?;
            self.occupy(group, number, at, count).ok_or(Errno::EUCLEAN)?;
        }
        Ok(())
    }

    /// Whether `first..first+count` are blocks that files may own.
    pub(crate) fn is_file_space(&self, first: u64, count: u64) -> bool {
        self.geometry.holds(first, count) && !self.system.touches(first, first + count)
    }
}

/// A run of zeros at or behind `from`, else anywhere in the group.
fn look(group: &Group, from: u32, want: u32) -> Option<(u32, u32)> {
    let busy = group.busy.as_ref()?;
    if !busy.get(from)
        && let Some((at, count)) = busy.run(from, 1).filter(|&(at, _)| at == from)
    {
        // The goal itself is free: contiguity is worth more than length, unless the run there is a stump.
        let longest = busy.run(from, want).filter(|&(start, _)| start == at);
        if let Some((at, long)) = longest {
            return Some((at, long));
        }
        debug_assert_eq!(count, 1);
    }
    let behind = busy.run(from, want);
    if behind.is_some_and(|(_, count)| count >= want) || from == 0 {
        return behind;
    }
    let anywhere = busy.run(0, want);
    match (behind, anywhere) {
        (Some(a), Some(b)) => Some(if b.1 > a.1 { b } else { a }),
        (a, b) => a.or(b),
    }
}

impl Tx<'_> {
    /// Marks taken blocks used on the disk.
    pub(crate) fn mark_used(&mut self, run: Run) -> Result<()> {
        let (number, at) = self.fs.geometry.group_of(run.first);
        let bitmap = self.block_bitmap(number)?;
        self.handle.modify(&bitmap, |bytes| {
            (at..at + run.count).for_each(|bit| set_bit(bytes, bit, true))
        })?;
        let desc = &mut self.group(number)?.desc;
        desc.free_blocks = desc.free_blocks.saturating_sub(run.count);
        self.fs.counters.used(i64::from(run.count));
        self.store_desc(number, Some(&bitmap), None)
    }

    /// Takes and marks blocks that a replayed file uses, as far as they are free.
    pub(crate) fn claim(&mut self, run: Run) -> Result<()> {
        let fs = self.fs;
        fs.reserve(&mut self.meta, run)?;
        for (number, at, count) in fs.geometry.pieces(run.first, u64::from(run.count)) {
            let bitmap = self.block_bitmap(number)?;
            let fresh = bitmap.read(|bytes| (at..at + count).filter(|&bit| !get_bit(bytes, bit)).count()) as u32;
            if fresh == 0 {
                continue;
            }
            self.handle.modify(&bitmap, |bytes| {
                (at..at + count).for_each(|bit| set_bit(bytes, bit, true))
            })?;
            let desc = &mut self.group(number)?.desc;
            desc.free_blocks = desc.free_blocks.saturating_sub(fresh);
            fs.counters.used(i64::from(fresh));
            self.store_desc(number, Some(&bitmap), None)?;
        }
        Ok(())
    }

    /// As [`allocate`](Self::allocate) for what is new (names, attributes): what is set aside stays. `ENOSPC`.
    pub(crate) fn allocate_new(&mut self, goal: u64, want: u32) -> Result<Run> {
        match self.fs.left_for_new() {
            0 => Err(Errno::ENOSPC),
            left => self.allocate(goal, want.min(u32::try_from(left).unwrap_or(u32::MAX))),
        }
    }

    /// Takes and marks blocks for metadata. `ENOSPC`.
    pub(crate) fn allocate(&mut self, goal: u64, want: u32) -> Result<Run> {
        let run = self.fs.take(&mut self.meta, goal, want)?;
        if let Err(error) = self.mark_used(run) {
            self.fs.give_back(&mut self.meta, run);
            return Err(error);
        }
        Ok(run)
    }

    /// Frees blocks. `EUCLEAN` when they are not a file's or are free already: nothing happens then but the report.
    pub(crate) fn free(&mut self, first: u64, count: u64, kind: Freed) -> Result<()> {
        let fs = self.fs;
        if !fs.is_file_space(first, count) {
            return Err(fs.error(format_args!(
                "Freeing blocks not in datazone - block = {first}, count = {count}"
            )));
        }
        for (number, at, count) in fs.geometry.pieces(first, count) {
            let run = Run {
                first: fs.geometry.group_start(number) + u64::from(at),
                count,
            };
            self.free_in_group(number, run, at, kind)?;
        }
        Ok(())
    }

    fn free_in_group(&mut self, number: u32, run: Run, at: u32, kind: Freed) -> Result<()> {
        let fs = self.fs;
        fs.load_group(self.group(number)?, number)?;
        let bitmap = self.block_bitmap(number)?;
        let used = bitmap.read(|bytes| (at..at + run.count).all(|bit| get_bit(bytes, bit)));
        if !used {
            return Err(fs.error(format_args!("bit already cleared for block {}", run.first)));
        }
        self.handle.modify(&bitmap, |bytes| {
            (at..at + run.count).for_each(|bit| set_bit(bytes, bit, false))
        })?;
        let desc = &mut self.group(number)?.desc;
        desc.free_blocks += run.count;
        fs.counters.used(-i64::from(run.count));
        self.store_desc(number, Some(&bitmap), None)?;
        fs.forget_checked(run);
        self.handle.free(run.first, u64::from(run.count), kind)?;
        let released = fs.released.clone();
        let discard = fs.options.lock().discard.then(|| fs.device.clone());
        let size = fs.block_size();
        self.handle.on_commit(Box::new(move || {
            if let Some(device) = discard {
                // A device that cannot forget loses nothing.
                let _ = device.discard(run.first * size, u64::from(run.count) * size);
            }
            released.lock().push(run);
        }));
        Ok(())
    }
}
