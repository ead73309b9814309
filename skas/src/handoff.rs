//! The hand-off word and how both sides wait for it.
//!
//! Bit 0 is the owner (0 kernel, 1 stub), bit 1 says that the other side sleeps. Only the owner gives the word away (one exchange, whose
//! old value tells whether to wake), only the other side sets the waiter bit; with strict alternation of one kernel thread and one stub
//! thread no generation is needed. The waiter bit is set before the last look at the word, which is the host's in `FUTEX_WAIT`.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::stats::{COUNTERS, count};
use crate::{host, watch};

/// The signal that interrupts guest code. A standard signal: several pending ones are one.
pub(crate) const KICK: i32 = libc::SIGURG;

pub(crate) const STUB: u32 = 1;
const WAITER: u32 = 2;

/// How long one sleep lasts at the most when nobody watches over it.
const UNWATCHED: Duration = Duration::from_millis(100);

/// About what going to sleep and being woken on another CPU cost.
const SPIN_US: u64 = 20;

/// Gives the word to the stub.
pub(crate) fn give(word: &AtomicU32) {
    if word.swap(STUB, Ordering::AcqRel) & WAITER != 0 {
        count(&COUNTERS.wakes);
        wake(word.as_ptr());
    }
}

/// Wakes whoever sleeps on the word at this address, which need not be one any more.
pub(crate) fn wake(word: *const u32) {
    // SAFETY: the host only takes the address as a name; nothing is read or written here.
    unsafe { libc::syscall(libc::SYS_futex, word, libc::FUTEX_WAKE, 1, 0usize, 0usize, 0usize) };
}

/// One wait for the word: spins up to `spin` cycles, then sleeps. True when the kernel owns it; false now and then after a long sleep, so
/// that the caller looks whether the stub still lives.
pub(crate) fn wait(word: &AtomicU32, spin: u64) -> bool {
    if spin != 0 {
        let start = host::tsc();
        loop {
            if word.load(Ordering::Acquire) & STUB == 0 {
                count(&COUNTERS.spun);
                return true;
            }
            std::hint::spin_loop();
            if host::tsc().wrapping_sub(start) >= spin {
                break;
            }
        }
    }
    let mut value = word.load(Ordering::Acquire);
    while value & STUB != 0 && value & WAITER == 0 {
        match word.compare_exchange(value, value | WAITER, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => value |= WAITER,
            Err(now) => value = now,
        }
    }
    if value & STUB == 0 {
        return true;
    }
    count(&COUNTERS.parked);
    if !watch::under_watch(word.as_ptr(), || sleep(word, value, None)) {
        sleep(word, value, Some(UNWATCHED));
        watch::ticked();
    }
    word.load(Ordering::Acquire) & STUB == 0
}

/// Sleeps while the word holds `value`, until somebody wakes it, or without any reason.
fn sleep(word: &AtomicU32, value: u32, limit: Option<Duration>) {
    let limit = limit.map(|limit| libc::timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: i64::from(limit.subsec_nanos()),
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), |limit| &raw const *limit);
    // SAFETY: the word and the timespec outlive the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAIT, value, limit, 0, 0) };
}

/// For how long either side spins. Whether they do is said of each thread: it pays only while a host CPU is free for the other side.
pub(crate) struct SpinPolicy {
    /// Cycles of the time stamp counter; 0 parks at once.
    kernel: AtomicU64,
    stub: AtomicU64,
}

impl SpinPolicy {
    pub(crate) fn new() -> SpinPolicy {
        let cycles = SPIN_US * cycles_per_us();
        SpinPolicy {
            kernel: AtomicU64::new(cycles),
            stub: AtomicU64::new(cycles),
        }
    }

    pub(crate) fn kernel(&self) -> u64 {
        self.kernel.load(Ordering::Relaxed)
    }

    pub(crate) fn stub(&self) -> u64 {
        self.stub.load(Ordering::Relaxed)
    }

    pub(crate) fn set(&self, kernel_us: u64, stub_us: u64) {
        let per_us = cycles_per_us();
        self.kernel.store(kernel_us * per_us, Ordering::Relaxed);
        self.stub.store(stub_us * per_us, Ordering::Relaxed);
    }
}

fn cycles_per_us() -> u64 {
    static RATE: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *RATE.get_or_init(|| {
        let (time, cycles) = (std::time::Instant::now(), host::tsc());
        while time.elapsed().as_micros() < 500 {
            std::hint::spin_loop();
        }
        ((host::tsc() - cycles) / time.elapsed().as_micros().max(1) as u64).max(1)
    })
}
