//! `mlock(2)`, `mlock2(2)`, `munlock(2)`, `mlockall(2)`, `munlockall(2)`.
//!
//! Locked memory is counted and brought in; whether the host may page it out is the host's business, as it is for all memory of a guest machine.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use skas::{Access, Prot};

use super::limits::Limits;
use super::space::Mm;
use super::vma::{PAGE_SIZE, VmFlags, Vma, page_align_down, page_align_up};
use crate::syscall::Context;
use crate::{Errno, Result};

const MLOCK_ONFAULT: u32 = 1;
const MCL_CURRENT: u32 = 1;
const MCL_FUTURE: u32 = 2;
const MCL_ONFAULT: u32 = 4;
const MADV_POPULATE_READ: i32 = 22;
const MADV_POPULATE_WRITE: i32 = 23;

const BOTH: VmFlags = VmFlags::LOCKED.union(VmFlags::LOCK_ON_FAULT);

/// `mlock(2)`. `ENOMEM` with a hole in the range or over the limit, `EPERM` where locking is not allowed at all.
pub fn sys_mlock(cx: &Context, addr: u64, len: u64) -> Result<usize> {
    lock(cx, addr, len, VmFlags::LOCKED)
}

/// `mlock2(2)`.
pub fn sys_mlock2(cx: &Context, addr: u64, len: u64, flags: u32) -> Result<usize> {
    match flags {
        0 => lock(cx, addr, len, VmFlags::LOCKED),
        MLOCK_ONFAULT => lock(cx, addr, len, BOTH),
        _ => Err(Errno::EINVAL),
    }
}

fn may_lock(limits: &Limits) -> Result<()> {
    if limits.may_lock || limits.memlock != 0 {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// The pages that a byte range touches. `EINVAL` when it wraps.
fn pages(addr: u64, len: u64) -> Result<Range<u64>> {
    let start = page_align_down(addr);
    let end = addr.checked_add(len).and_then(page_align_up).ok_or(Errno::EINVAL)?;
    Ok(start..end)
}

fn lock(cx: &Context, addr: u64, len: u64, flags: VmFlags) -> Result<usize> {
    let limits = Limits::of(cx.task());
    may_lock(&limits)?;
    let range = pages(addr, len)?;
    let mm = cx.task().mm();
    {
        let mut state = mm.lock();
        let inside = state
            .tree
            .overlapping(range.clone())
            .map(|vma| vma.piece(range.start, range.end));
        let locked: u64 = inside
            .filter(|vma| vma.flags.contains(VmFlags::LOCKED))
            .map(|vma| vma.pages())
            .sum();
        let wanted = (range.end - range.start) / PAGE_SIZE + state.tree.counts().locked - locked;
        if wanted > limits.memlock / PAGE_SIZE && !limits.may_lock {
            return Err(Errno::ENOMEM);
        }
        state.check_map_count(2)?;
        // On Linux too, what lies before a hole is locked.
        state
            .tree
            .update(range.clone(), |vma| vma.flags = (vma.flags - BOTH) | flags);
        if !state.tree.covers(range.clone()) {
            return Err(Errno::ENOMEM);
        }
    }
    if !flags.contains(VmFlags::LOCK_ON_FAULT) {
        mm.bring_in_all(range);
    }
    Ok(0)
}

/// `munlock(2)`. `ENOMEM` with a hole in the range.
pub fn sys_munlock(cx: &Context, addr: u64, len: u64) -> Result<usize> {
    let range = pages(addr, len)?;
    let mm = cx.task().mm();
    let mut state = mm.lock();
    state.check_map_count(2)?;
    state.tree.update(range.clone(), |vma| vma.flags -= BOTH);
    if state.tree.covers(range) {
        Ok(0)
    } else {
        Err(Errno::ENOMEM)
    }
}

/// `mlockall(2)`.
pub fn sys_mlockall(cx: &Context, flags: u32) -> Result<usize> {
    if flags == 0 || flags & !(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) != 0 || flags == MCL_ONFAULT {
        return Err(Errno::EINVAL);
    }
    let limits = Limits::of(cx.task());
    may_lock(&limits)?;
    let wish = if flags & MCL_ONFAULT != 0 {
        BOTH
    } else {
        VmFlags::LOCKED
    };
    let mm = cx.task().mm();
    let mut all = Vec::new();
    {
        let mut state = mm.lock();
        let over = state.tree.counts().total > limits.memlock / PAGE_SIZE;
        if flags & MCL_CURRENT != 0 && over && !limits.may_lock {
            return Err(Errno::ENOMEM);
        }
        state.future = if flags & MCL_FUTURE != 0 {
            wish
        } else {
            VmFlags::empty()
        };
        if flags & MCL_CURRENT != 0 {
            all.extend(state.tree.iter().map(|vma| vma.start..vma.end));
            let whole = 0..state.layout.task_size;
            state.tree.update(whole, |vma| vma.flags = (vma.flags - BOTH) | wish);
        }
    }
    if flags & MCL_ONFAULT == 0 {
        all.into_iter().for_each(|range| mm.bring_in_all(range));
    }
    Ok(0)
}

/// `munlockall(2)`.
pub fn sys_munlockall(cx: &Context) -> Result<usize> {
    let mm = cx.task().mm();
    let mut state = mm.lock();
    state.future = VmFlags::empty();
    let whole = 0..state.layout.task_size;
    state.tree.update(whole, |vma| vma.flags -= BOTH);
    Ok(0)
}

impl Mm {
    /// Brings in what the protection allows; what cannot be had stays away, as on Linux.
    fn bring_in_all(self: &Arc<Self>, range: Range<u64>) {
        let pieces: Vec<Vma> = self
            .lock()
            .tree
            .overlapping(range.clone())
            .map(|vma| vma.piece(range.start, range.end))
            .collect();
        if self.space().flush().is_err() {
            return;
        }
        for piece in pieces {
            // What can be written but not read is written to: the host does not read it in.
            let copies = |prot: Prot| !piece.flags.contains(VmFlags::SHARED) || !prot.contains(Prot::READ);
            let advice = match piece.prot {
                prot if prot.contains(Prot::WRITE) && copies(prot) => MADV_POPULATE_WRITE,
                prot if !prot.is_empty() => MADV_POPULATE_READ,
                _ => continue,
            };
            if piece.is_cached() {
                for page in (piece.start..piece.end).step_by(PAGE_SIZE as usize) {
                    let _ = self.resolve(page, Access::Read);
                }
            }
            let queued = self.space().advise(piece.start, piece.len(), advice);
            let _ = queued.and_then(|()| self.space().flush());
        }
    }
}
