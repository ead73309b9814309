//! `FITRIM`: tells the device what is free.

use super::blocks::Run;
use crate::device::BlockDevice;
use crate::instance::Ext4;
use crate::{Errno, Result};

impl Ext4 {
    /// Discards free runs of at least `least` bytes within `len` bytes from `start` on; how many bytes. `EOPNOTSUPP`, `EINVAL` for a range that
    /// begins behind the end.
    pub(crate) fn trim(&self, start: u64, len: u64, least: u64) -> Result<u64> {
        if !self.is_writable() {
            return Err(Errno::EROFS);
        }
        let size = self.block_size();
        let first = (start / size).max(u64::from(self.geometry.first_data_block));
        let end = (start.saturating_add(len) / size).min(self.geometry.size.blocks());
        let least = least.div_ceil(size).max(1);
        if start / size >= self.geometry.size.blocks()
            || len < size
            || least > u64::from(self.geometry.blocks_per_group)
        {
            return Err(Errno::EINVAL);
        }
        // What a commit frees may be discarded only when it has committed.
        self.journal.commit(self.journal.running())?;
        let mut trimmed = 0;
        let mut at = first;
        while at < end {
            let (number, offset) = self.geometry.group_of(at);
            let group_end = self.geometry.group_start(number) + u64::from(self.geometry.group_len(number));
            let Some(run) = self.take_free_run(number, offset)? else {
                at = group_end;
                continue;
            };
            let upto = (run.first + u64::from(run.count)).min(end);
            let count = upto.saturating_sub(run.first);
            let done = if count >= least {
                self.device
                    .discard(run.first * size, count * size)
                    .map(|()| trimmed += count * size)
            } else {
                Ok(())
            };
            at = run.first + u64::from(run.count);
            self.give_back(&mut self.meta.write(), run);
            done?;
        }
        Ok(trimmed)
    }

    /// Takes the first free run of a group at or behind `offset`, so that nobody writes there while it is discarded.
    fn take_free_run(&self, number: u32, offset: u32) -> Result<Option<Run>> {
        let mut meta = self.meta.write();
        self.absorb_released(&mut meta);
        let group = meta.groups.get_mut(number as usize).ok_or(Errno::EUCLEAN)?;
        if group.available == 0 || self.load_group(group, number).is_err() {
            return Ok(None);
        }
        let Some(busy) = group.busy.as_mut() else {
            return Ok(None);
        };
        let Some(start) = busy.first_zero(offset) else {
            return Ok(None);
        };
        let most = self.geometry.group_len(number) - start;
        let count = (1..most).find(|&step| busy.get(start + step)).unwrap_or(most);
        let taken = busy.put(start, count, true);
        group.available -= taken;
        self.counters.taken(i64::from(taken));
        Ok(Some(Run {
            first: self.geometry.group_start(number) + u64::from(start),
            count,
        }))
    }
}
