//! `mremap(2)`: growing, shrinking and moving a mapping.

use core::ops::Range;

use bitflags::bitflags;
use skas::MapFlags;

use super::limits::Limits;
use super::space::{Mm, MmState};
use super::tree::Detached;
use super::vma::{PAGE_SIZE, VmFlags, Vma, page_align_up};
use crate::syscall::Context;
use crate::{Errno, Result};

bitflags! {
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct MremapFlags: u32 {
        const MAYMOVE = 1;
        const FIXED = 2;
        const DONTUNMAP = 4;
    }
}

/// A request whose numbers are checked; lengths are whole pages.
struct Request {
    old: Range<u64>,
    new_len: u64,
    flags: MremapFlags,
    new_addr: u64,
}

/// `mremap(2)`.
///
/// # Errors
/// `EFAULT` unless the old range lies in one mapping, `EINVAL` for flags, alignment and overlap, `ENOMEM` without room or over a limit, `EAGAIN` over
/// the limit of locked memory.
pub fn sys_mremap(cx: &Context, old: u64, old_len: u64, new_len: u64, flags: u32, new_addr: u64) -> Result<usize> {
    let flags = MremapFlags::from_bits(flags).ok_or(Errno::EINVAL)?;
    let needs_move = flags.intersects(MremapFlags::FIXED | MremapFlags::DONTUNMAP);
    if needs_move && !flags.contains(MremapFlags::MAYMOVE) {
        return Err(Errno::EINVAL);
    }
    if flags.contains(MremapFlags::DONTUNMAP) && old_len != new_len
        || !old.is_multiple_of(PAGE_SIZE)
        || needs_move && !new_addr.is_multiple_of(PAGE_SIZE)
    {
        return Err(Errno::EINVAL);
    }
    let old_len = page_align_up(old_len).ok_or(Errno::EINVAL)?;
    let new_len = page_align_up(new_len).filter(|&len| len != 0).ok_or(Errno::EINVAL)?;
    let old_end = old.checked_add(old_len).ok_or(Errno::EINVAL)?;
    let request = Request {
        old: old..old_end,
        new_len,
        flags,
        new_addr,
    };
    let limits = Limits::of(cx.task());
    let mm = cx.task().mm();
    let mut state = mm.lock();
    let mut gone = Detached::default();
    let result = state.remap(&mm, &request, &limits, &mut gone);
    drop(state);
    drop(gone);
    result.map(|addr| addr as usize)
}

impl MmState {
    fn remap(&mut self, mm: &Mm, request: &Request, limits: &Limits, gone: &mut Detached) -> Result<u64> {
        let Request {
            old,
            new_len,
            flags,
            new_addr,
        } = request;
        let (old, new_len, new_addr) = (old.clone(), *new_len, *new_addr);
        let old_len = old.end - old.start;
        let layout = self.layout;
        let fixed = flags.contains(MremapFlags::FIXED);
        if fixed {
            let fits = new_len <= layout.task_size && new_addr <= layout.task_size - new_len;
            let apart = new_addr.saturating_add(new_len) <= old.start || old.end <= new_addr;
            if !new_addr.is_multiple_of(PAGE_SIZE) || !fits || !apart {
                return Err(Errno::EINVAL);
            }
            if new_addr < layout.min_addr {
                return Err(Errno::EPERM);
            }
        }
        // The move may split the old mapping twice.
        self.check_map_count(3)?;
        let vma = self.tree.find(old.start).ok_or(Errno::EFAULT)?.clone();
        if fixed {
            gone.0.extend(self.unmap(mm.space(), new_addr..new_addr + new_len)?.0);
        }
        let dont_unmap = flags.contains(MremapFlags::DONTUNMAP);
        if !fixed && !dont_unmap && old_len >= new_len {
            if !self.tree.covers(old.clone()) {
                return Err(Errno::EFAULT);
            }
            if old_len > new_len {
                gone.0.extend(self.unmap(mm.space(), old.start + new_len..old.end)?.0);
            }
            return Ok(old.start);
        }
        if old.end > vma.end {
            return Err(Errno::EFAULT);
        }
        let shared = vma.flags.contains(VmFlags::SHARED);
        if old_len == 0 && !shared {
            return Err(Errno::EINVAL);
        }
        self.check_growth(
            &vma,
            old_len,
            if dont_unmap { old_len + new_len } else { new_len },
            limits,
        )?;
        if !fixed && !dont_unmap && old.end == vma.end && old_len != 0 && self.grow_in_place(mm, &vma, &old, new_len)? {
            return Ok(old.start);
        }
        if !flags.contains(MremapFlags::MAYMOVE) {
            return Err(Errno::ENOMEM);
        }
        let new = if fixed {
            new_addr
        } else {
            let hint = new_addr.next_multiple_of(PAGE_SIZE);
            let hinted = dont_unmap
                && hint >= layout.min_addr
                && hint
                    .checked_add(new_len)
                    .is_some_and(|end| end <= layout.task_size && self.tree.is_free_with_gap(hint..end));
            if hinted {
                hint
            } else {
                self.find_free(new_len, PAGE_SIZE)?
            }
        };
        self.move_mapping(mm, &vma, old, new, new_len, dont_unmap, gone)?;
        Ok(new)
    }

    /// Whether `old_len` bytes of `vma` may become `new_len`.
    fn check_growth(&self, vma: &Vma, old_len: u64, new_len: u64, limits: &Limits) -> Result<()> {
        let Some(more) = new_len.checked_sub(old_len).filter(|&more| more != 0) else {
            return Ok(());
        };
        if vma.offset.checked_add(new_len).is_none() {
            return Err(Errno::EINVAL);
        }
        let pages = more / PAGE_SIZE;
        if vma.flags.contains(VmFlags::LOCKED) && !limits.may_lock {
            let locked = self.tree.counts().locked.saturating_add(pages);
            if locked > limits.memlock / PAGE_SIZE {
                return Err(Errno::EAGAIN);
            }
        }
        self.may_expand(limits, pages, vma.is_data())
    }

    /// Grows the end of `vma` if nothing is in the way.
    fn grow_in_place(&mut self, mm: &Mm, vma: &Vma, old: &Range<u64>, new_len: u64) -> Result<bool> {
        let Some(end) = old
            .start
            .checked_add(new_len)
            .filter(|&end| end <= self.layout.task_size)
        else {
            return Ok(false);
        };
        if !self.tree.is_free_with_gap(vma.end..end) {
            return Ok(false);
        }
        let more = Vma {
            start: vma.end,
            end,
            offset: vma.offset_of(vma.end),
            ..vma.clone()
        };
        // Nothing was there.
        let _ = self.map(mm.space(), more, MapFlags::empty())?;
        if let Err(error) = mm.space().flush() {
            let _ = self.unmap(mm.space(), vma.end..end)?;
            return Err(error);
        }
        Ok(true)
    }

    #[allow(clippy::too_many_arguments)]
    fn move_mapping(
        &mut self,
        mm: &Mm,
        vma: &Vma,
        old: Range<u64>,
        new: u64,
        new_len: u64,
        dont_unmap: bool,
        gone: &mut Detached,
    ) -> Result<()> {
        let old_len = old.end - old.start;
        let moved_len = old_len.min(new_len);
        let moved = old.start..old.start + moved_len;
        let target = Vma {
            start: new,
            end: new + new_len,
            offset: vma.offset_of(old.start),
            ..vma.clone()
        };
        if new_len > moved_len {
            let start = new + moved_len;
            let rest = Vma {
                start,
                offset: target.offset_of(start),
                ..target.clone()
            };
            super::space::map_on_host(mm.space(), &rest, MapFlags::empty())?;
        }
        let carried = self.move_on_host(mm, vma, moved.clone(), new);
        if let Err(error) = carried {
            mm.space().unmap(new, new_len)?;
            return Err(error);
        }
        let pieces = self.tree.carve(old.clone());
        if moved_len < old_len && !dont_unmap {
            mm.space().unmap(moved.end, old.end - moved.end)?;
        }
        let tail = moved.end..old.end;
        self.cached.moved(moved, new);
        self.cached.clear(tail);
        self.tree.insert(target);
        if dont_unmap || old_len == 0 {
            for mut piece in pieces.0 {
                piece.flags -= VmFlags::LOCKED | VmFlags::LOCK_ON_FAULT;
                super::space::map_on_host(mm.space(), &piece, MapFlags::empty())?;
                self.tree.insert(piece);
            }
        } else {
            gone.0.extend(pieces.0);
        }
        self.peak_total = self.peak_total.max(self.tree.counts().total);
        Ok(())
    }

    /// Moves the pages, all queued changes before it included.
    fn move_on_host(&self, mm: &Mm, vma: &Vma, old: Range<u64>, new: u64) -> Result<()> {
        let space = mm.space();
        space.flush()?;
        if !vma.is_cached() {
            return if old.is_empty() {
                Ok(())
            } else {
                move_pages(mm, old, new)
            };
        }
        for run in self.cached.runs(old.clone()) {
            let to = new + (run.range.start - old.start);
            move_pages(mm, run.range, to)?;
        }
        Ok(())
    }
}

/// Moves one host mapping; where the host has several for it (it joins fewer than we do), each half on its own.
fn move_pages(mm: &Mm, old: Range<u64>, new: u64) -> Result<()> {
    let len = old.end - old.start;
    mm.space().remap(old.start, len, new, len)?;
    match mm.space().flush() {
        Err(Errno::EFAULT) if len > PAGE_SIZE => {
            let half = (len / 2).next_multiple_of(PAGE_SIZE);
            let middle = old.start + half;
            move_pages(mm, old.start..middle, new)?;
            move_pages(mm, middle..old.end, new + half)
        }
        other => other,
    }
}
