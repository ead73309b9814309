//! What the entries of a process ask of its address space: the one place that knows `mm`.
//!
//! The mappings themselves are not told by `mm` yet: sizes, `maps` and what `exec` laid out are empty until it does.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use bitflags::bitflags;
use skas::Prot;

use crate::mm::Mm;
use crate::vfs::File;

/// Sums over an address space, bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Stats {
    /// Mapped.
    pub size: u64,
    /// Most mapped ever.
    pub peak: u64,
    /// Locked.
    pub locked: u64,
    /// Private and writable.
    pub data: u64,
    /// Stacks.
    pub stack: u64,
    /// The program's code.
    pub text: u64,
    /// Code of libraries.
    pub lib: u64,
    /// Resident, anonymous.
    pub rss_anon: u64,
    /// Resident, files.
    pub rss_file: u64,
    /// Resident, shared.
    pub rss_shmem: u64,
    /// Most resident ever seen.
    pub rss_peak: u64,
}

/// What exec laid out.
#[derive(Clone, Default)]
pub(super) struct Program {
    /// Code.
    pub code: Range<u64>,
    /// Initialized data.
    pub data: Range<u64>,
    /// Where the heap begins.
    pub start_brk: u64,
    /// The stack pointer at the first instruction.
    pub start_stack: u64,
    /// The argument strings.
    pub args: Range<u64>,
    /// The environment strings.
    pub env: Range<u64>,
    /// The program file.
    pub exe: Option<Arc<File>>,
}

/// The last column of `maps`.
#[allow(dead_code)]
#[derive(Clone)]
pub(super) enum MapName {
    None,
    Heap,
    Stack,
    SharedAnonymous,
    Named(Arc<[u8]>),
    File(Arc<File>),
}

/// One mapping.
#[derive(Clone)]
pub(super) struct MapEntry {
    pub range: Range<u64>,
    pub prot: Prot,
    pub flags: VmFlags,
    pub offset: u64,
    pub name: MapName,
}

bitflags! {
    /// Flags of a mapping.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct VmFlags: u32 {
        const SHARED = 1;
        const MAY_READ = 1 << 1;
        const MAY_WRITE = 1 << 2;
        const MAY_EXEC = 1 << 3;
        const GROWSDOWN = 1 << 4;
        const LOCKED = 1 << 5;
        const NORESERVE = 1 << 7;
        const DONT_FORK = 1 << 8;
        const WIPE_ON_FORK = 1 << 9;
        const DONT_DUMP = 1 << 10;
        const SEQUENTIAL = 1 << 11;
        const RANDOM = 1 << 12;
        const MERGEABLE = 1 << 13;
        const HUGEPAGE = 1 << 14;
        const NOHUGEPAGE = 1 << 15;
    }
}

/// Sums for `stat`, `statm` and `status`. Asks the host for what is resident.
pub(super) fn stats(mm: &Mm) -> Stats {
    let usage = mm.space().memory_usage();
    Stats {
        rss_anon: usage.rss_anon,
        rss_file: usage.rss_file,
        rss_shmem: usage.rss_shmem,
        ..Stats::default()
    }
}

/// The program that runs there.
pub(super) fn program(_mm: &Mm) -> Arc<Program> {
    Arc::default()
}

/// The mappings in order of address.
pub(super) fn maps(_mm: &Mm) -> Vec<MapEntry> {
    Vec::new()
}

/// The auxiliary vector's bytes.
pub(super) fn auxv(_mm: &Mm) -> Vec<u8> {
    Vec::new()
}
