//! `brk(2)`: the end of the heap.

use core::ops::Range;

use skas::{MapFlags, Prot};

use super::limits::Limits;
use super::space::{Mm, wants_flush};
use super::vma::{PAGE_SIZE, VmFlags, Vma, VmaBacking, page_align_up};
use crate::syscall::Context;
use crate::{Errno, Result};

/// `brk(2)`: the new end of the heap, or the old one when `addr` cannot be it. Never fails.
pub fn sys_brk(cx: &Context, addr: u64) -> Result<usize> {
    let limits = Limits::of(cx.task());
    Ok(cx.task().mm().set_brk(addr, &limits) as usize)
}

impl Mm {
    /// Moves the end of the heap to `addr` where that is possible; the end after it.
    pub fn set_brk(&self, addr: u64, limits: &Limits) -> u64 {
        let mut state = self.lock();
        let Range { start, end } = state.heap.clone();
        if addr < start {
            return end;
        }
        let program = state.program.clone();
        let data = program.data.end.saturating_sub(program.data.start);
        if (addr - start).saturating_add(data) > limits.data {
            return end;
        }
        let (Some(old), Some(new)) = (page_align_up(end), page_align_up(addr)) else {
            return end;
        };
        let mut gone = None;
        if new < old {
            match state.unmap(self.space(), new..old) {
                Ok(cut) => gone = Some(cut),
                Err(_) => return end,
            }
        } else if new > old {
            match state.grow_heap(self, old..new, limits) {
                Ok(()) => {}
                Err(_) => return end,
            }
        }
        state.heap.end = addr;
        drop(state);
        drop(gone);
        addr
    }
}

impl super::space::MmState {
    /// Maps more heap. `ENOMEM`.
    fn grow_heap(&mut self, mm: &Mm, range: Range<u64>, limits: &Limits) -> Result<()> {
        // A page is kept free behind the heap, so that it does not run into what lies above unnoticed.
        let with_gap = range.start..range.end.saturating_add(PAGE_SIZE);
        if range.end > self.layout.task_size || !self.tree.is_free_with_gap(with_gap) {
            return Err(Errno::ENOMEM);
        }
        let pages = (range.end - range.start) / PAGE_SIZE;
        self.may_expand(limits, pages, true)?;
        self.check_map_count(1)?;
        let locked = (self.tree.counts().locked + pages) * PAGE_SIZE;
        if self.future.contains(VmFlags::LOCKED) && !limits.may_lock && locked > limits.memlock {
            return Err(Errno::EAGAIN);
        }
        let vma = Vma {
            start: range.start,
            end: range.end,
            prot: Prot::READ | Prot::WRITE,
            flags: VmFlags::MAY_ALL | self.future,
            backing: VmaBacking::Anonymous,
            offset: 0,
            name: None,
        };
        let flush = wants_flush(&vma, MapFlags::empty());
        // Nothing was there, so nothing comes back.
        let _ = self.map(mm.space(), vma, MapFlags::empty())?;
        if flush && let Err(error) = mm.space().flush() {
            let _ = self.unmap(mm.space(), range)?;
            return Err(error);
        }
        Ok(())
    }
}
