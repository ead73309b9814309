//! [`Vma`]: one mapping as the guest asked for it, and what lies behind it.
//!
//! A VMA is one host mapping in the stub, but for [`MapBacking::Cached`] files, whose pages are mapped one by one as they are filled (`mm::cached`).

use alloc::sync::Arc;

use arch_um::host::mem::SharedMemory;
use bitflags::bitflags;
use skas::{Backing, Prot, Share};

use crate::page_cache::Pattern;
use crate::vfs::file::MapBacking;
use crate::vfs::{File, Inode};

/// Bytes of a page.
pub const PAGE_SIZE: u64 = 4096;

/// `len` rounded up to whole pages; none when that wraps.
pub fn page_align_up(len: u64) -> Option<u64> {
    len.checked_add(PAGE_SIZE - 1).map(|sum| sum & !(PAGE_SIZE - 1))
}

/// `addr` rounded down to a page.
pub const fn page_align_down(addr: u64) -> u64 {
    addr & !(PAGE_SIZE - 1)
}

bitflags! {
    /// What a mapping is, beside its protection (`VM_*`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct VmFlags: u32 {
        /// Writes are seen by others.
        const SHARED = 1;
        /// `mprotect` may allow reading.
        const MAY_READ = 1 << 1;
        /// `mprotect` may allow writing.
        const MAY_WRITE = 1 << 2;
        /// `mprotect` may allow execution.
        const MAY_EXEC = 1 << 3;
        /// Grows down on access below it (`MAP_GROWSDOWN`).
        const GROWSDOWN = 1 << 4;
        /// `mlock(2)`.
        const LOCKED = 1 << 5;
        /// `MLOCK_ONFAULT`.
        const LOCK_ON_FAULT = 1 << 6;
        /// `MAP_NORESERVE`.
        const NORESERVE = 1 << 7;
        /// `MADV_DONTFORK`.
        const DONT_FORK = 1 << 8;
        /// `MADV_WIPEONFORK`.
        const WIPE_ON_FORK = 1 << 9;
        /// `MADV_DONTDUMP`.
        const DONT_DUMP = 1 << 10;
        /// `MADV_SEQUENTIAL`.
        const SEQUENTIAL = 1 << 11;
        /// `MADV_RANDOM`.
        const RANDOM = 1 << 12;
        /// `MADV_HUGEPAGE`.
        const HUGEPAGE = 1 << 14;
        /// `MADV_NOHUGEPAGE`.
        const NOHUGEPAGE = 1 << 15;
        /// May be reached with `mprotect` to anything.
        const MAY_ALL = Self::MAY_READ.bits() | Self::MAY_WRITE.bits() | Self::MAY_EXEC.bits();
    }
}

/// A file that is mapped, kept by each VMA over it.
pub struct MappedFile {
    /// The description; its path is what /proc/pid/maps shows.
    pub file: Arc<File>,
    /// Where the bytes are.
    pub backing: MapBacking,
    /// Registered with the inode as a mapping that can write the file, until the last VMA over it goes.
    pub(super) _writer: Option<super::writers::WritableMapping>,
}

impl MappedFile {
    /// A file that is only read.
    pub fn read_only(file: Arc<File>, backing: MapBacking) -> Self {
        Self {
            file,
            backing,
            _writer: None,
        }
    }

    /// The inode, if the file has a name.
    pub fn inode(&self) -> Option<Arc<dyn Inode>> {
        self.file.inode()
    }

    /// A number that is the same for all mappings of one file, while one of them exists (futex keys).
    pub fn identity(&self) -> usize {
        match self.file.inode() {
            Some(inode) => Arc::as_ptr(&inode).cast::<()>() as usize,
            None => Arc::as_ptr(self.file.ops()).cast::<()>() as usize,
        }
    }
}

/// What lies behind a mapping.
#[derive(Clone)]
pub enum VmaBacking {
    /// Zero pages of this address space alone.
    Anonymous,
    /// Zero pages shared over fork (`MAP_SHARED|MAP_ANONYMOUS`, shared `/dev/zero`).
    SharedAnonymous(Arc<SharedMemory>),
    /// A file.
    File(Arc<MappedFile>),
}

impl VmaBacking {
    /// Whether both are the same object.
    fn same(&self, other: &VmaBacking) -> bool {
        match (self, other) {
            (VmaBacking::Anonymous, VmaBacking::Anonymous) => true,
            (VmaBacking::SharedAnonymous(one), VmaBacking::SharedAnonymous(two)) => Arc::ptr_eq(one, two),
            (VmaBacking::File(one), VmaBacking::File(two)) => Arc::ptr_eq(&one.file, &two.file),
            _ => false,
        }
    }
}

/// One mapping: `[start, end)`, page aligned, not empty.
#[derive(Clone)]
pub struct Vma {
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
    /// What user code may do.
    pub prot: Prot,
    /// Everything else.
    pub flags: VmFlags,
    /// What lies behind it.
    pub backing: VmaBacking,
    /// Byte offset of `start` in the object; 0 for private anonymous memory.
    pub offset: u64,
    /// `PR_SET_VMA_ANON_NAME`.
    pub name: Option<Arc<[u8]>>,
}

impl Vma {
    /// Bytes.
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Never true; for the lint's sake.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Pages.
    pub fn pages(&self) -> u64 {
        self.len() / PAGE_SIZE
    }

    /// The offset in the object that lies at `addr`.
    pub fn offset_of(&self, addr: u64) -> u64 {
        match self.backing {
            VmaBacking::Anonymous => 0,
            _ => self.offset.wrapping_add(addr - self.start),
        }
    }

    /// The part of it in `[start, end)`, which overlaps it.
    pub fn piece(&self, start: u64, end: u64) -> Vma {
        let start = start.max(self.start);
        Vma {
            start,
            end: end.min(self.end),
            offset: self.offset_of(start),
            ..self.clone()
        }
    }

    /// Whether `next`, which begins where this ends, is the same mapping going on.
    pub(super) fn continues_in(&self, next: &Vma) -> bool {
        self.end == next.start
            && self.prot == next.prot
            && self.flags == next.flags
            && !self.flags.contains(VmFlags::GROWSDOWN)
            && self.backing.same(&next.backing)
            && self.offset_of(self.end) == next.offset
            && self.name == next.name
    }

    /// Private memory that the process may write: what `RLIMIT_DATA` counts.
    pub fn is_data(&self) -> bool {
        self.prot.contains(Prot::WRITE) && !self.flags.intersects(VmFlags::SHARED | VmFlags::GROWSDOWN)
    }

    /// How it is going to be touched (`MADV_RANDOM`, `MADV_SEQUENTIAL`).
    pub fn pattern(&self) -> Pattern {
        if self.flags.contains(VmFlags::RANDOM) {
            Pattern::Random
        } else if self.flags.contains(VmFlags::SEQUENTIAL) {
            Pattern::Sequential
        } else {
            Pattern::Normal
        }
    }

    /// The file's pages are mapped one by one.
    pub fn is_cached(&self) -> bool {
        matches!(&self.backing, VmaBacking::File(mapped) if matches!(mapped.backing, MapBacking::Cached(_)))
    }

    /// Zero pages of this process alone, as far as the guest can tell.
    pub fn is_anonymous(&self) -> bool {
        matches!(self.backing, VmaBacking::Anonymous)
    }

    /// What the host is to map at `start`; none for a cached file, whose pages come at faults.
    pub(super) fn host_backing(&self) -> Option<Backing> {
        let share = if self.flags.contains(VmFlags::SHARED) {
            Share::Shared
        } else {
            Share::Private
        };
        match &self.backing {
            VmaBacking::Anonymous => Some(Backing::Anonymous),
            VmaBacking::SharedAnonymous(memory) => Some(Backing::File {
                fd: memory.fd(),
                offset: self.offset,
                share,
            }),
            VmaBacking::File(mapped) => match &mapped.backing {
                MapBacking::Zero => Some(Backing::Anonymous),
                MapBacking::Host { fd, base } => Some(Backing::File {
                    fd: fd.clone(),
                    offset: base.wrapping_add(self.offset),
                    share,
                }),
                MapBacking::Cached(_) => None,
            },
        }
    }
}
