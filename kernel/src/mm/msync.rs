//! `msync(2)`, `mincore(2)`.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::cached::source_of;
use super::vma::{PAGE_SIZE, VmFlags, Vma, VmaBacking, page_align_up};
use crate::syscall::Context;
use crate::user::UserAddr;
use crate::vfs::File;
use crate::{Errno, Result};

const MS_ASYNC: u32 = 1;
const MS_INVALIDATE: u32 = 2;
const MS_SYNC: u32 = 4;

/// `msync(2)`.
///
/// # Errors
/// `EINVAL` for flags and an unaligned address, `ENOMEM` with a hole in the range, `EBUSY` for `MS_INVALIDATE` of locked memory, the file's own.
pub fn sys_msync(cx: &Context, addr: u64, len: u64, flags: u32) -> Result<usize> {
    let both = MS_ASYNC | MS_SYNC;
    if flags & !(both | MS_INVALIDATE) != 0 || flags & both == both || !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let len = page_align_up(len).ok_or(Errno::ENOMEM)?;
    let end = addr.checked_add(len).ok_or(Errno::ENOMEM)?;
    let mm = cx.task().mm();
    let mut files: Vec<Arc<File>> = Vec::new();
    let covered = {
        let state = mm.lock();
        for vma in state.tree.overlapping(addr..end) {
            if flags & MS_INVALIDATE != 0 && vma.flags.contains(VmFlags::LOCKED) {
                return Err(Errno::EBUSY);
            }
            state.cached.mark_dirty(vma);
            if let VmaBacking::File(mapped) = &vma.backing
                && flags & MS_SYNC != 0
                && vma.flags.contains(VmFlags::SHARED)
                && !files.iter().any(|file| Arc::ptr_eq(file, &mapped.file))
            {
                files.push(mapped.file.clone());
            }
        }
        state.tree.covers(addr..end)
    };
    for file in files {
        match file.ops().sync(&file) {
            // What cannot be synchronized has nowhere to go.
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(error) => return Err(error),
        }
    }
    if covered { Ok(0) } else { Err(Errno::ENOMEM) }
}

/// Pages asked of the host at once.
const BATCH: u64 = 4096;

/// `mincore(2)`: a byte a page, bit 0 set for what is in memory.
///
/// # Errors
/// `EINVAL` unaligned, `ENOMEM` for what is not mapped, `EFAULT`.
pub fn sys_mincore(cx: &Context, addr: u64, len: u64, out: UserAddr) -> Result<usize> {
    if !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let end = page_align_up(len)
        .and_then(|len| addr.checked_add(len))
        .ok_or(Errno::ENOMEM)?;
    let mm = cx.task().mm();
    if end > mm.lock().layout.task_size {
        return Err(Errno::ENOMEM);
    }
    let mut at = addr;
    while at < end {
        let to = end.min(at + BATCH * PAGE_SIZE);
        if !mm.lock().tree.covers(at..to) {
            return Err(Errno::ENOMEM);
        }
        let mut resident = mm.space().resident(at, to - at);
        // What a file's mapping has not touched yet may be in memory all the same.
        let cached: Vec<Vma> = {
            let state = mm.lock();
            state
                .tree
                .overlapping(at..to)
                .filter(|vma| vma.is_cached())
                .cloned()
                .collect()
        };
        for vma in &cached {
            let Some(source) = source_of(vma) else { continue };
            for page in (vma.start.max(at)..vma.end.min(to)).step_by(PAGE_SIZE as usize) {
                let known = resident.get_mut(((page - at) / PAGE_SIZE) as usize);
                if let Some(known) = known.filter(|known| !**known) {
                    *known = source.is_cached(vma.offset_of(page));
                }
            }
        }
        let bytes: Vec<u8> = resident.into_iter().map(u8::from).collect();
        out.offset((at - addr) / PAGE_SIZE).write(&bytes)?;
        at = to;
    }
    Ok(0)
}
