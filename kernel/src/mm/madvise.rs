//! `madvise(2)`, `process_madvise(2)`.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use skas::Access;

use super::space::{Mm, MmState};
use super::vma::{MappedFile, PAGE_SIZE, VmFlags, Vma, VmaBacking, page_align_up};
use crate::syscall::Context;
use crate::task::{Capabilities, Task, pidfd, ptrace};
use crate::user::UserPtr;
use crate::vfs::fd_table::Fd;
use crate::vfs::file::Advice;
use crate::{Errno, Result};

/// `MADV_*`.
mod advice {
    pub const NORMAL: i32 = 0;
    pub const RANDOM: i32 = 1;
    pub const SEQUENTIAL: i32 = 2;
    pub const WILLNEED: i32 = 3;
    pub const DONTNEED: i32 = 4;
    pub const FREE: i32 = 8;
    pub const REMOVE: i32 = 9;
    pub const DONTFORK: i32 = 10;
    pub const DOFORK: i32 = 11;
    pub const MERGEABLE: i32 = 12;
    pub const UNMERGEABLE: i32 = 13;
    pub const HUGEPAGE: i32 = 14;
    pub const NOHUGEPAGE: i32 = 15;
    pub const DONTDUMP: i32 = 16;
    pub const DODUMP: i32 = 17;
    pub const WIPEONFORK: i32 = 18;
    pub const KEEPONFORK: i32 = 19;
    pub const COLD: i32 = 20;
    pub const PAGEOUT: i32 = 21;
    pub const POPULATE_READ: i32 = 22;
    pub const POPULATE_WRITE: i32 = 23;
    pub const DONTNEED_LOCKED: i32 = 24;
    pub const COLLAPSE: i32 = 25;
    pub const HWPOISON: i32 = 100;
    pub const SOFT_OFFLINE: i32 = 101;
}

/// `FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE`.
const PUNCH_HOLE: u32 = 3;

/// `madvise(2)`.
///
/// # Errors
/// `EINVAL` for an advice that is unknown or does not fit the mapping, `ENOMEM` with a hole in the range (the rest is done), `EACCES` for
/// `MADV_REMOVE` on what is not shared and writable.
pub fn sys_madvise(cx: &Context, addr: u64, len: u64, advice: i32) -> Result<usize> {
    if !is_known(cx.task(), advice)? || !addr.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let len = page_align_up(len).ok_or(Errno::EINVAL)?;
    let end = addr.checked_add(len).ok_or(Errno::EINVAL)?;
    if len != 0 {
        cx.task().mm().madvise(addr..end, advice)?;
    }
    Ok(0)
}

/// Whether this kernel takes the advice. `EPERM` for poisoning without `CAP_SYS_ADMIN`.
fn is_known(task: &Task, advice: i32) -> Result<bool> {
    match advice {
        advice::HWPOISON | advice::SOFT_OFFLINE if !task.cred().capable(Capabilities::SYS_ADMIN) => Err(Errno::EPERM),
        // Memory failure handling, collapsing and merging are configured out.
        advice::HWPOISON | advice::SOFT_OFFLINE | advice::COLLAPSE => Ok(false),
        advice::MERGEABLE | advice::UNMERGEABLE => Ok(false),
        advice::NORMAL..=advice::DONTNEED | advice::FREE..=advice::DONTNEED_LOCKED => Ok(true),
        _ => Ok(false),
    }
}

/// What is left to do with the address space released.
enum Later {
    /// Punch this hole into what lies behind a mapping.
    Remove(VmaBacking, Range<u64>),
    /// Bring these pages in.
    Populate(Range<u64>),
    /// Start reading these bytes of a file.
    ReadAhead(Arc<MappedFile>, Range<u64>),
}

impl Mm {
    /// Carries out a known advice.
    pub fn madvise(self: &Arc<Self>, range: Range<u64>, advice: i32) -> Result<()> {
        let mut state = self.lock();
        let pieces: Vec<Vma> = state
            .tree
            .overlapping(range.clone())
            .map(|vma| vma.piece(range.start, range.end))
            .collect();
        let mut at = range.start;
        let mut hole = false;
        let mut later = Vec::new();
        for piece in &pieces {
            hole |= piece.start > at;
            if hole && matches!(advice, advice::POPULATE_READ | advice::POPULATE_WRITE) {
                break;
            }
            at = piece.end;
            later.extend(state.advise(self, piece, advice)?);
        }
        hole |= at < range.end;
        drop(state);
        for step in later {
            match step {
                Later::Remove(backing, bytes) => punch(&backing, bytes)?,
                Later::Populate(pages) => self.populate(pages, advice)?,
                // A hint: what cannot be had now is found out by who touches it.
                Later::ReadAhead(mapped, bytes) => {
                    let _ = mapped.file.ops().advise(&mapped.file, bytes, Advice::WillNeed);
                }
            }
        }
        drop(pieces);
        if hole { Err(Errno::ENOMEM) } else { Ok(()) }
    }

    /// `MADV_POPULATE_READ`, `MADV_POPULATE_WRITE`. `EFAULT` for pages that cannot be had.
    fn populate(self: &Arc<Self>, range: Range<u64>, advice: i32) -> Result<()> {
        let access = if advice == advice::POPULATE_WRITE {
            Access::Write
        } else {
            Access::Read
        };
        let cached = self.lock().find(range.start).is_some_and(Vma::is_cached);
        if cached {
            for page in range.clone().step_by(PAGE_SIZE as usize) {
                self.resolve(page, access).map_err(|_| Errno::EFAULT)?;
            }
        }
        // What was queued before must not be blamed on this.
        self.space().flush()?;
        self.space().advise(range.start, range.end - range.start, advice)?;
        self.space().flush()
    }
}

fn punch(backing: &VmaBacking, bytes: Range<u64>) -> Result<()> {
    match backing {
        VmaBacking::SharedAnonymous(memory) => memory.punch_hole(bytes),
        VmaBacking::File(mapped) => {
            mapped
                .file
                .ops()
                .fallocate(&mapped.file, PUNCH_HOLE, bytes.start, bytes.end - bytes.start)
        }
        VmaBacking::Anonymous => Err(Errno::EINVAL),
    }
}

impl MmState {
    /// Carries out an advice for one piece of a mapping.
    fn advise(&mut self, mm: &Mm, piece: &Vma, advice: i32) -> Result<Option<Later>> {
        let range = piece.start..piece.end;
        let locked = piece.flags.contains(VmFlags::LOCKED);
        let shared = piece.flags.contains(VmFlags::SHARED);
        let private_memory = piece.is_anonymous();
        let mut flags = piece.flags;
        match advice {
            advice::NORMAL => flags -= VmFlags::RANDOM | VmFlags::SEQUENTIAL,
            advice::RANDOM => flags = (flags - VmFlags::SEQUENTIAL) | VmFlags::RANDOM,
            advice::SEQUENTIAL => flags = (flags - VmFlags::RANDOM) | VmFlags::SEQUENTIAL,
            // Anonymous memory is never out.
            advice::WILLNEED => {
                let VmaBacking::File(mapped) = &piece.backing else {
                    return Ok(None);
                };
                let bytes = piece.offset..piece.offset + piece.len();
                return Ok(Some(Later::ReadAhead(mapped.clone(), bytes)));
            }
            advice::DONTFORK => flags |= VmFlags::DONT_FORK,
            advice::DOFORK => flags -= VmFlags::DONT_FORK,
            advice::HUGEPAGE => flags = (flags - VmFlags::NOHUGEPAGE) | VmFlags::HUGEPAGE,
            advice::NOHUGEPAGE => flags = (flags - VmFlags::HUGEPAGE) | VmFlags::NOHUGEPAGE,
            advice::DONTDUMP => flags |= VmFlags::DONT_DUMP,
            advice::DODUMP => flags -= VmFlags::DONT_DUMP,
            advice::WIPEONFORK if !private_memory => return Err(Errno::EINVAL),
            advice::WIPEONFORK => flags |= VmFlags::WIPE_ON_FORK,
            advice::KEEPONFORK => flags -= VmFlags::WIPE_ON_FORK,
            advice::DONTNEED | advice::COLD | advice::PAGEOUT | advice::FREE if locked => return Err(Errno::EINVAL),
            advice::FREE if !private_memory => return Err(Errno::EINVAL),
            advice::DONTNEED | advice::DONTNEED_LOCKED => self.forget_pages(mm, piece, advice::DONTNEED)?,
            advice::FREE => self.forget_pages(mm, piece, advice::FREE)?,
            advice::REMOVE if locked || private_memory => return Err(Errno::EINVAL),
            advice::REMOVE if !shared || !piece.prot.contains(skas::Prot::WRITE) => return Err(Errno::EACCES),
            advice::REMOVE => {
                let bytes = piece.offset..piece.offset + piece.len();
                return Ok(Some(Later::Remove(piece.backing.clone(), bytes)));
            }
            advice::POPULATE_READ if piece.prot.is_empty() => return Err(Errno::EINVAL),
            advice::POPULATE_WRITE if !piece.prot.contains(skas::Prot::WRITE) => return Err(Errno::EINVAL),
            advice::POPULATE_READ | advice::POPULATE_WRITE => return Ok(Some(Later::Populate(range))),
            // What remains is a hint that the host's own read-ahead and reclaim make good.
            _ => {}
        }
        if flags != piece.flags {
            self.check_map_count(self.tree.growth_of_carve(range.clone()) + 1)?;
            self.tree.update(range, |vma| vma.flags = flags);
            if matches!(advice, advice::HUGEPAGE | advice::NOHUGEPAGE) && private_memory {
                // A host without huge pages refuses; that is no error of the guest.
                mm.space().flush()?;
                mm.space().advise(piece.start, piece.len(), advice)?;
                let _ = mm.space().flush();
            }
        }
        Ok(None)
    }

    /// Queues `MADV_DONTNEED` or `MADV_FREE` for what the host has of the piece.
    fn forget_pages(&mut self, mm: &Mm, piece: &Vma, advice: i32) -> Result<()> {
        if !piece.is_cached() {
            return mm.space().advise(piece.start, piece.len(), advice);
        }
        for run in self.cached.runs(piece.start..piece.end) {
            mm.space()
                .advise(run.range.start, run.range.end - run.range.start, advice)?;
        }
        Ok(())
    }
}

/// Most entries of an `iovec`.
const IOV_MAX: usize = 1024;

/// `process_madvise(2)`: only advice that changes nothing a program can see, so it is checked and done.
///
/// # Errors
/// `EINVAL` for flags and other advice, `EBADF`, `ESRCH`, `EPERM` for a process the caller may not look into.
pub fn sys_process_madvise(cx: &Context, fd: Fd, vec: u64, count: usize, advice: i32, flags: u32) -> Result<usize> {
    if flags != 0 || count > IOV_MAX {
        return Err(Errno::EINVAL);
    }
    let pieces = UserPtr::<[u64; 2]>::new(vec).read_many(count)?;
    let (process, _) = pidfd::process_of(cx, fd)?;
    let target = process.any_thread().ok_or(Errno::ESRCH)?;
    let own = Arc::ptr_eq(&process, cx.task().process());
    let harmless = matches!(advice, advice::COLD | advice::PAGEOUT | advice::WILLNEED);
    let allowed = harmless || own && is_known(cx.task(), advice)?;
    if !allowed {
        return Err(Errno::EINVAL);
    }
    ptrace::may_access(cx.task(), &target)?;
    let mm = target.try_mm().ok_or(Errno::ESRCH)?;
    let mut done = 0;
    for [start, len] in pieces {
        let step = page_align_up(len)
            .and_then(|len| start.checked_add(len))
            .filter(|_| start.is_multiple_of(PAGE_SIZE))
            .ok_or(Errno::EINVAL)
            .and_then(|end| {
                if end > start {
                    mm.madvise(start..end, advice)
                } else {
                    Ok(())
                }
            });
        match step {
            Ok(()) => done += len as usize,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done)
}
