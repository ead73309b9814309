//! Where things lie in a stub's address space.
//!
//! ```text
//!              normal             low_2g
//! guest        [min, 7ffd_0..0)   [min, 7e00_0000)
//! gap          filter compares high words only; nothing is ever mapped here
//! stub code    7fff_0000_0000     7f00_0000      read and execute
//! regions      7fff_1000_0000     7f40_0000      one per stub thread, read and write, shared with the kernel
//! ```

/// The address-space layout of every guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// First address a guest cannot use. Stack top and mmap base are chosen below it.
    pub task_size: u64,
    /// The host's `vm.mmap_min_addr` (rounded up to a page), below which it refuses mappings.
    pub mmap_min_addr: u64,
    /// Where the stub's code lies.
    pub(crate) code: u64,
    /// Where the thread regions begin.
    pub(crate) regions: u64,
    /// Bytes of one region, a power of two; regions are aligned to it.
    pub(crate) region_size: u64,
    /// How many regions a space can have: the limit of threads per guest process.
    pub(crate) region_count: usize,
}

impl Layout {
    pub(crate) fn new(low_2g: bool, region_size: u64) -> Layout {
        let min = std::fs::read_to_string("/proc/sys/vm/mmap_min_addr").ok();
        let min = min
            .and_then(|text| text.trim().parse::<u64>().ok())
            .unwrap_or(65536)
            .next_multiple_of(4096)
            .max(4096);
        if low_2g {
            Layout {
                task_size: 0x7e00_0000,
                mmap_min_addr: min,
                code: 0x7f00_0000,
                regions: 0x7f40_0000,
                region_size,
                region_count: (0x80_0000 / region_size) as usize,
            }
        } else {
            Layout {
                task_size: 0x7ffd_0000_0000,
                mmap_min_addr: min,
                code: 0x7fff_0000_0000,
                regions: 0x7fff_1000_0000,
                region_size,
                region_count: (0x8000_0000 / region_size) as usize,
            }
        }
    }

    /// The address of region `slot` in the stub.
    pub(crate) fn region(&self, slot: usize) -> u64 {
        self.regions + slot as u64 * self.region_size
    }

    /// Whether a page-aligned range may be given to a guest.
    pub(crate) fn guest_range(&self, addr: u64, len: u64) -> bool {
        addr & 4095 == 0 && len != 0 && addr.checked_add(len).is_some_and(|end| end <= self.task_size)
    }
}
