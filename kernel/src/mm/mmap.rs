//! `mmap(2)`, `munmap(2)`, `remap_file_pages(2)`.

use alloc::sync::Arc;

use arch_um::host::mem::SharedMemory;
use bitflags::bitflags;
use skas::{MapFlags, Prot};

use super::layout::READ_IMPLIES_EXEC;
use super::limits::Limits;
use super::proof;
use super::space::{Mm, wants_flush};
use super::tree::Detached;
use super::vma::{MappedFile, PAGE_SIZE, VmFlags, Vma, VmaBacking, page_align_down, page_align_up};
use super::writers::WritableMapping;
use crate::syscall::Context;
use crate::vfs::fd_table::Fd;
use crate::vfs::file::MapBacking;
use crate::vfs::{Access, File, FileType};
use crate::{Errno, Result};

bitflags! {
    /// `mmap(2)`'s flags.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MmapFlags: u32 {
        /// Exactly here.
        const FIXED = 0x10;
        /// Memory, no file.
        const ANONYMOUS = 0x20;
        /// In the first 2 GiB.
        const BIT32 = 0x40;
        /// Grows down.
        const GROWSDOWN = 0x100;
        /// Ignored.
        const DENYWRITE = 0x800;
        /// Ignored.
        const EXECUTABLE = 0x1000;
        /// As `mlock`.
        const LOCKED = 0x2000;
        /// No commitment.
        const NORESERVE = 0x4000;
        /// Pages at once.
        const POPULATE = 0x8000;
        /// With `POPULATE`: only what is in memory.
        const NONBLOCK = 0x10000;
        /// A stack.
        const STACK = 0x20000;
        /// Huge pages.
        const HUGETLB = 0x40000;
        /// DAX.
        const SYNC = 0x80000;
        /// As `FIXED`, but never over another mapping.
        const FIXED_NOREPLACE = 0x100000;
        const _ = !0;
    }
}

const MAP_TYPE: u32 = 0xf;
const MAP_SHARED: u32 = 1;
const MAP_PRIVATE: u32 = 2;
const MAP_SHARED_VALIDATE: u32 = 3;
/// Every flag `MAP_SHARED_VALIDATE` knows, but `MAP_SYNC`; the page-size bits of huge pages among them.
const KNOWN_FLAGS: u32 = 0xfc17_f9ff;

const HUGE: u64 = 2 << 20;

/// A request, checked for itself.
pub(super) struct Request {
    pub addr: u64,
    pub len: u64,
    pub prot: Prot,
    pub flags: MmapFlags,
    pub shared: bool,
    pub offset: u64,
}

/// `mmap(2)`.
pub fn sys_mmap(cx: &Context, addr: u64, len: u64, prot: u32, flags: u32, fd: Fd, offset: u64) -> Result<usize> {
    if !offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let bits = MmapFlags::from_bits_retain(flags);
    let file = if bits.contains(MmapFlags::ANONYMOUS) {
        if bits.contains(MmapFlags::HUGETLB) {
            return Err(Errno::EINVAL);
        }
        None
    } else {
        let file = cx.files().get(fd)?;
        if bits.contains(MmapFlags::HUGETLB) {
            return Err(Errno::EINVAL);
        }
        Some(file)
    };
    let limits = Limits::of(cx.task());
    let mm = cx.task().mm();
    let addr = mm.mmap(&limits, addr, len, prot, flags, file, offset)?;
    Ok(addr as usize)
}

/// `munmap(2)`. `EINVAL` for an unaligned address and for nothing.
pub fn sys_munmap(cx: &Context, addr: u64, len: u64) -> Result<usize> {
    cx.task().mm().munmap(addr, len)?;
    Ok(0)
}

/// Bits of `prot` that are a protection.
pub(super) fn protection(prot: u32) -> Prot {
    Prot::from_bits_truncate(prot)
}

impl Mm {
    /// `mmap(2)` of `file`, or of memory without one.
    #[allow(clippy::too_many_arguments)]
    pub fn mmap(
        self: &Arc<Self>,
        limits: &Limits,
        addr: u64,
        len: u64,
        prot: u32,
        flags: u32,
        file: Option<Arc<File>>,
        offset: u64,
    ) -> Result<u64> {
        let kind = flags & MAP_TYPE;
        let bits = MmapFlags::from_bits_retain(flags & !MAP_TYPE);
        if len == 0 {
            return Err(Errno::EINVAL);
        }
        let len = page_align_up(len).filter(|&len| len != 0).ok_or(Errno::ENOMEM)?;
        if offset.checked_add(len).is_none() {
            return Err(Errno::EOVERFLOW);
        }
        let shared = match kind {
            MAP_SHARED => true,
            MAP_SHARED_VALIDATE if file.is_none() => return Err(Errno::EINVAL),
            MAP_SHARED_VALIDATE if flags & !KNOWN_FLAGS != 0 => return Err(Errno::EOPNOTSUPP),
            MAP_SHARED_VALIDATE => true,
            MAP_PRIVATE => false,
            _ => return Err(Errno::EINVAL),
        };
        let mut prot = protection(prot);
        let noexec = file
            .as_ref()
            .is_some_and(|file| file.path().is_some_and(|path| !path.mount.allows_exec()));
        if limits.personality & READ_IMPLIES_EXEC != 0 && prot.contains(Prot::READ) && !noexec {
            prot |= Prot::EXEC;
        }
        if bits.contains(MmapFlags::LOCKED) && !limits.may_lock && limits.memlock == 0 {
            return Err(Errno::EPERM);
        }
        let request = Request {
            addr,
            len,
            prot,
            flags: bits,
            shared,
            offset,
        };
        let (backing, vm_flags) = match file {
            Some(file) => file_backing(file, &request)?,
            None if bits.contains(MmapFlags::GROWSDOWN) && shared => return Err(Errno::EINVAL),
            None => (anonymous_backing(&request)?, VmFlags::MAY_ALL),
        };
        self.place(limits, request, backing, vm_flags)
    }

    /// Finds the place, checks the limits, maps.
    fn place(&self, limits: &Limits, request: Request, backing: VmaBacking, mut vm_flags: VmFlags) -> Result<u64> {
        let Request {
            len,
            prot,
            flags,
            shared,
            ..
        } = request;
        vm_flags.set(VmFlags::SHARED, shared);
        vm_flags.set(VmFlags::GROWSDOWN, flags.contains(MmapFlags::GROWSDOWN));
        vm_flags.set(VmFlags::NORESERVE, flags.contains(MmapFlags::NORESERVE));
        let offset = if matches!(backing, VmaBacking::File(_)) {
            request.offset
        } else {
            0
        };
        let mut state = self.lock();
        state.check_map_count(1)?;
        let start = state.choose_address(&request, matches!(backing, VmaBacking::Anonymous))?;
        vm_flags |= state.future;
        vm_flags.set(
            VmFlags::LOCKED,
            flags.contains(MmapFlags::LOCKED) || state.future.contains(VmFlags::LOCKED),
        );
        if vm_flags.contains(VmFlags::LOCKED) && !limits.may_lock {
            let pages = state.tree.counts().locked + len / PAGE_SIZE;
            if pages > limits.memlock / PAGE_SIZE {
                return Err(Errno::EAGAIN);
            }
        }
        let vma = Vma {
            start,
            end: start + len,
            prot,
            flags: vm_flags,
            backing,
            offset,
            name: None,
        };
        let replaced: u64 = state
            .tree
            .overlapping(start..start + len)
            .map(|old| old.piece(start, start + len).pages())
            .sum();
        state.may_expand(limits, (len / PAGE_SIZE).saturating_sub(replaced), vma.is_data())?;
        let mut host_flags = MapFlags::empty();
        let populate = flags.contains(MmapFlags::POPULATE) && !flags.contains(MmapFlags::NONBLOCK);
        let locked = vm_flags.contains(VmFlags::LOCKED) && !vm_flags.contains(VmFlags::LOCK_ON_FAULT);
        host_flags.set(MapFlags::POPULATE, (populate || locked) && !prot.is_empty());
        let flush = wants_flush(&vma, host_flags);
        let proof = flush.then(|| proof::of(&vma)).flatten();
        let mut gone = state.map(self.space(), vma, host_flags)?;
        let mut result = Ok(start);
        if flush {
            match self.space().flush() {
                Ok(()) => proof.iter().for_each(proof::Wanted::proved),
                Err(error) => {
                    gone.0.extend(state.undo(self, start, len).0);
                    result = Err(error);
                }
            }
        }
        drop(state);
        drop(gone);
        result
    }

    /// `munmap(2)`.
    pub fn munmap(&self, addr: u64, len: u64) -> Result<()> {
        let mut state = self.lock();
        let end = state.check_range(addr, len)?;
        state.check_map_count(state.tree.growth_of_carve(addr..end))?;
        let gone = state.unmap(self.space(), addr..end)?;
        drop(state);
        drop(gone);
        Ok(())
    }
}

impl super::space::MmState {
    /// The end of a range to unmap. `EINVAL`.
    fn check_range(&self, addr: u64, len: u64) -> Result<u64> {
        let len = page_align_up(len).filter(|&len| len != 0).ok_or(Errno::EINVAL)?;
        let end = addr
            .checked_add(len)
            .filter(|&end| end <= self.layout.task_size)
            .ok_or(Errno::EINVAL)?;
        if addr.is_multiple_of(PAGE_SIZE) {
            Ok(end)
        } else {
            Err(Errno::EINVAL)
        }
    }

    /// The host refused: what was there is gone, as it may be on Linux.
    fn undo(&mut self, mm: &Mm, start: u64, len: u64) -> Detached {
        self.unmap(mm.space(), start..start + len).unwrap_or_default()
    }

    /// Where a mapping goes. `ENOMEM` when there is no room, `EINVAL` unaligned, `EPERM` too low, `EEXIST`.
    pub(super) fn choose_address(&mut self, request: &Request, anonymous: bool) -> Result<u64> {
        let Request { addr, len, flags, .. } = *request;
        let layout = self.layout;
        if len > layout.task_size {
            return Err(Errno::ENOMEM);
        }
        if flags.intersects(MmapFlags::FIXED | MmapFlags::FIXED_NOREPLACE) {
            if addr > layout.task_size - len {
                return Err(Errno::ENOMEM);
            }
            if !addr.is_multiple_of(PAGE_SIZE) {
                return Err(Errno::EINVAL);
            }
            if addr < layout.min_addr {
                return Err(Errno::EPERM);
            }
            if flags.contains(MmapFlags::FIXED_NOREPLACE) && !self.tree.is_free(addr..addr + len) {
                return Err(Errno::EEXIST);
            }
            return Ok(addr);
        }
        if addr != 0 {
            let hint = page_align_down(addr.saturating_add(PAGE_SIZE - 1)).max(layout.min_addr);
            let end = hint.checked_add(len).filter(|&end| end <= layout.task_size);
            if let Some(end) = end.filter(|&end| self.tree.is_free_with_gap(hint..end)) {
                let low = !flags.contains(MmapFlags::BIT32) || end <= 0x8000_0000;
                if low {
                    return Ok(hint);
                }
            }
        }
        if flags.contains(MmapFlags::BIT32) {
            let low = 0x4000_0000..0x8000_0000.min(layout.task_size);
            return self
                .tree
                .find_free(len, low, PAGE_SIZE, super::tree::Direction::BottomUp)
                .ok_or(Errno::ENOMEM);
        }
        // What is a multiple of a huge page is placed so that the host can use one.
        let wants_huge = anonymous && len.is_multiple_of(HUGE) && !flags.contains(MmapFlags::STACK);
        if wants_huge && let Ok(found) = self.find_free(len, HUGE) {
            return Ok(found);
        }
        self.find_free(len, PAGE_SIZE)
    }
}

fn anonymous_backing(request: &Request) -> Result<VmaBacking> {
    if !request.shared {
        return Ok(VmaBacking::Anonymous);
    }
    shared_memory(request.len)
}

/// Fresh zeroed memory that is shared over fork.
fn shared_memory(len: u64) -> Result<VmaBacking> {
    let memory = SharedMemory::new("dev/zero").map_err(|_| Errno::ENFILE)?;
    memory.resize(len).map_err(|_| Errno::ENOMEM)?;
    Ok(VmaBacking::SharedAnonymous(Arc::new(memory)))
}

/// Checks the access to a file and asks it how it is mapped.
fn file_backing(file: Arc<File>, request: &Request) -> Result<(VmaBacking, VmFlags)> {
    let access = file.access();
    let mut flags = VmFlags::MAY_ALL;
    if request.shared {
        if request.prot.contains(Prot::WRITE) && !access.contains(Access::WRITE) {
            return Err(Errno::EACCES);
        }
        if !access.contains(Access::WRITE) {
            flags -= VmFlags::MAY_WRITE;
        }
    }
    if !access.contains(Access::READ) {
        return Err(Errno::EACCES);
    }
    if file.path().is_some_and(|path| !path.mount.allows_exec()) {
        if request.prot.contains(Prot::EXEC) {
            return Err(Errno::EPERM);
        }
        flags -= VmFlags::MAY_EXEC;
    }
    if file.inode().is_some_and(|inode| inode.kind() == FileType::Directory) {
        return Err(Errno::ENODEV);
    }
    if request.flags.contains(MmapFlags::GROWSDOWN) {
        return Err(Errno::EINVAL);
    }
    if request.offset.saturating_add(request.len) > i64::MAX as u64 {
        return Err(Errno::EOVERFLOW);
    }
    // Counted before the file is asked, so that no seal against writing comes between.
    let mut writer = None;
    let backing = if request.shared && flags.contains(VmFlags::MAY_WRITE) {
        writer = file.inode().map(|inode| WritableMapping::new(&*inode));
        match file.ops().map(&file, Access::READ | Access::WRITE) {
            // Sealed against writing: it can still be mapped to be read.
            Err(Errno::EPERM) if !request.prot.contains(Prot::WRITE) => {
                writer = None;
                flags -= VmFlags::MAY_WRITE;
                file.ops().map(&file, Access::READ)?
            }
            other => other?,
        }
    } else {
        file.ops().map(&file, Access::READ)?
    };
    if matches!(backing, MapBacking::Zero) && request.shared {
        return Ok((shared_memory(request.len)?, flags));
    }
    let mapped = MappedFile {
        file,
        backing,
        _writer: writer,
    };
    Ok((VmaBacking::File(Arc::new(mapped)), flags))
}

/// `remap_file_pages(2)`, as Linux does it since 4.0: one more mapping of the same file.
///
/// # Errors
/// `EINVAL` unless `[start, start + size)` lies in shared file mappings of one file and `prot` is 0.
pub fn sys_remap_file_pages(cx: &Context, start: u64, size: u64, prot: u32, pgoff: u64, _flags: u32) -> Result<usize> {
    if prot != 0 {
        return Err(Errno::EINVAL);
    }
    let start = page_align_down(start);
    let size = page_align_down(size);
    let end = start
        .checked_add(size)
        .filter(|&end| end > start)
        .ok_or(Errno::EINVAL)?;
    let offset = pgoff
        .checked_mul(PAGE_SIZE)
        .filter(|offset| offset.checked_add(size).is_some())
        .ok_or(Errno::EINVAL)?;
    let mm = cx.task().mm();
    let mut state = mm.lock();
    let first = state
        .tree
        .find(start)
        .filter(|vma| vma.flags.contains(VmFlags::SHARED))
        .ok_or(Errno::EINVAL)?
        .clone();
    if matches!(first.backing, VmaBacking::Anonymous) || !state.tree.covers(start..end) {
        return Err(Errno::EINVAL);
    }
    let vma = Vma {
        start,
        end,
        offset,
        ..first
    };
    let gone = state.map(mm.space(), vma, MapFlags::empty())?;
    drop(state);
    drop(gone);
    Ok(0)
}
