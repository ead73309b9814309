//! The words a mapping change is described with.

use std::os::fd::OwnedFd;
use std::sync::Arc;

bitflags::bitflags! {
    /// Page protection, the host's `PROT_*` bits.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Prot: u32 {
        /// `PROT_READ`
        const READ = 1;
        /// `PROT_WRITE`
        const WRITE = 2;
        /// `PROT_EXEC`
        const EXEC = 4;
    }
}

bitflags::bitflags! {
    /// How a mapping is made. It always replaces what was there (`MAP_FIXED`) and never grows by itself.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct MapFlags: u32 {
        /// `MAP_NORESERVE`
        const NORESERVE = 0x4000;
        /// `MAP_LOCKED`: counts against the host's `RLIMIT_MEMLOCK`; without the right to it, the host silently does not lock.
        const LOCKED = 0x2000;
        /// `MAP_POPULATE`
        const POPULATE = 0x8000;
    }
}

/// What lies behind a mapping.
#[derive(Clone, Debug)]
pub enum Backing {
    /// Zero pages of this address space alone (`MAP_PRIVATE|MAP_ANONYMOUS`); fork copies them on write.
    Anonymous,
    /// A host file. Guest-shared memory is a memfd here.
    File {
        /// Opened with no more rights than the guest process has. Lent to the stub for the moment of the mmap.
        fd: Arc<OwnedFd>,
        /// Byte offset, a multiple of the page size.
        offset: u64,
        /// Whether writes reach the file.
        share: Share,
    },
}

/// `MAP_PRIVATE` or `MAP_SHARED`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Share {
    Private,
    Shared,
}

/// Host memory of an address space, in bytes (`/proc/PID/statm`, `status`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct MemoryUsage {
    pub rss_anon: u64,
    pub rss_file: u64,
    pub rss_shmem: u64,
}
