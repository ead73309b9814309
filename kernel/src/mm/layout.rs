//! Where things are put in an address space: stack, mapping area, programs, heap, and the randomization of all of them.

use arch_um::host::random;
use arch_um::sync::{SpinLock, order};
use core::sync::atomic::{AtomicBool, Ordering};

use super::tree::{Direction, STACK_GUARD_GAP};
use super::vma::{PAGE_SIZE, page_align_down};

/// `personality(2)`: do not randomize.
pub const ADDR_NO_RANDOMIZE: u32 = 0x0040000;
/// `personality(2)`: mappings from the bottom up.
pub const ADDR_COMPAT_LAYOUT: u32 = 0x0200000;
/// `personality(2)`: what can be read can be run.
pub const READ_IMPLIES_EXEC: u32 = 0x0400000;

/// `kernel.randomize_va_space` and the option `norandmaps`.
static RANDOMIZE: AtomicBool = AtomicBool::new(true);

/// Whether addresses are randomized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Randomize {
    /// Yes.
    On,
    /// No: the same addresses at each run.
    Off,
}

/// Sets it for programs started from now on.
pub fn set_randomize(randomize: Randomize) {
    RANDOMIZE.store(randomize == Randomize::On, Ordering::Relaxed);
}

/// The setting.
pub fn randomize() -> Randomize {
    if RANDOMIZE.load(Ordering::Relaxed) {
        Randomize::On
    } else {
        Randomize::Off
    }
}

/// Random bytes fetched from the host ahead of use: an exec takes several small pieces.
struct Pool {
    bytes: [u8; 512],
    used: usize,
}

static POOL: SpinLock<Pool> = SpinLock::new(
    &order::RANDOM,
    Pool {
        bytes: [0; 512],
        used: 512,
    },
);

/// `N` random bytes, at most 512; never given out twice.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut out = [0; N];
    loop {
        let mut pool = POOL.lock();
        let Pool { bytes, used } = &mut *pool;
        if let Some(piece) = bytes.get_mut(*used..*used + N) {
            out.copy_from_slice(piece);
            piece.fill(0);
            *used += N;
            return out;
        }
        drop(pool);
        let mut fresh = [0; 512];
        random::fill(&mut fresh);
        *POOL.lock() = Pool { bytes: fresh, used: 0 };
    }
}

/// A random number below `limit`; 0 when that is 0.
fn random_below(limit: u64) -> u64 {
    u64::from_le_bytes(random_bytes()).checked_rem(limit).unwrap_or(0)
}

/// Where things go in one address space.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Behind the last address a guest can use.
    pub task_size: u64,
    /// The lowest address the host maps.
    pub min_addr: u64,
    /// Behind the last byte of the stack.
    pub stack_top: u64,
    /// The end of the mapping area that is searched first.
    pub mmap_base: u64,
    /// Which way it is searched.
    pub direction: Direction,
    /// Whether the program is randomized.
    pub randomize: Randomize,
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Layout {
    /// For a new program: `stack_limit` is `RLIMIT_STACK`, `personality` the process's.
    pub fn new(stack_limit: u64, personality: u32) -> Self {
        let host = skas::layout();
        Self::within(
            host.task_size,
            host.mmap_min_addr,
            stack_limit,
            personality,
            randomize(),
        )
    }

    fn within(task_size: u64, min_addr: u64, stack_limit: u64, personality: u32, wish: Randomize) -> Self {
        let randomize = if personality & ADDR_NO_RANDOMIZE != 0 {
            Randomize::Off
        } else {
            wish
        };
        // Linux's entropy for 64-bit processes; a small address space gets that of a 32-bit one.
        let (stack_entropy, mmap_entropy) = if task_size > 1 << 40 {
            (16 * GIB, 1 << 40)
        } else {
            (8 * MIB, (256 * PAGE_SIZE).min(task_size / 64))
        };
        let random = |span: u64| match randomize {
            Randomize::On => page_align_down(random_below(span)),
            Randomize::Off => 0,
        };
        let stack_top = page_align_down(task_size) - random(stack_entropy);
        let legacy = personality & ADDR_COMPAT_LAYOUT != 0 || stack_limit == u64::MAX;
        let pad = stack_entropy + STACK_GUARD_GAP;
        let gap = stack_limit
            .saturating_add(pad)
            .clamp((128 * MIB).min(task_size / 6), task_size / 6 * 5);
        let (mmap_base, direction) = if legacy {
            (
                page_align_down(task_size / 3) + random(mmap_entropy),
                Direction::BottomUp,
            )
        } else {
            (
                page_align_down(task_size - gap - random(mmap_entropy)),
                Direction::TopDown,
            )
        };
        Self {
            task_size,
            min_addr,
            stack_top,
            mmap_base,
            direction,
            randomize,
        }
    }

    fn random(&self, span: u64) -> u64 {
        match self.randomize {
            Randomize::On => page_align_down(random_below(span)),
            Randomize::Off => 0,
        }
    }

    /// Where a position-independent program with an interpreter is loaded.
    pub fn program_base(&self) -> u64 {
        if self.task_size > 1 << 40 {
            0x5555_5555_4000 + self.random(1 << 40)
        } else {
            page_align_down(self.task_size / 3 * 2) + self.random(16 * MIB)
        }
    }

    /// Where the heap begins for a program whose last byte of memory lies before `end`.
    pub fn heap_start(&self, end: u64) -> u64 {
        end.max(self.min_addr).saturating_add(self.random(32 * MIB))
    }

    /// How far the stack pointer starts below its page, bytes (`arch_align_stack`).
    pub fn stack_jitter(&self) -> u64 {
        match self.randomize {
            Randomize::On => random_below(8192),
            Randomize::Off => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK_SIZE: u64 = 0x7ffd_0000_0000;

    #[test]
    fn without_randomization_two_programs_look_alike() {
        let one = Layout::within(TASK_SIZE, 65536, 8 * MIB, ADDR_NO_RANDOMIZE, Randomize::On);
        let two = Layout::within(TASK_SIZE, 65536, 8 * MIB, 0, Randomize::Off);
        assert_eq!((one.stack_top, one.mmap_base), (two.stack_top, two.mmap_base));
        assert_eq!(one.program_base(), 0x5555_5555_4000);
    }

    #[test]
    fn random_bytes_do_not_come_twice() {
        let seen: alloc::collections::BTreeSet<[u8; 16]> = (0..1000).map(|_| random_bytes()).collect();
        assert_eq!(seen.len(), 1000);
    }

    #[test]
    fn stack_mappings_and_programs_keep_apart_in_every_layout() {
        for task_size in [TASK_SIZE, 0x7e00_0000] {
            for stack_limit in [0, 8 * MIB, GIB, u64::MAX - 1, u64::MAX] {
                let layout = Layout::within(task_size, 65536, stack_limit, 0, Randomize::On);
                assert!(layout.mmap_base < layout.stack_top && layout.stack_top <= task_size);
                assert!(layout.mmap_base > layout.min_addr);
            }
        }
    }
}
