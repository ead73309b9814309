//! The cheap clock for accounting: the time-stamp counter, scaled to nanoseconds.
//!
//! Every context switch and every entry to user code reads it, so it must cost a few ns. Without an invariant counter the monotonic
//! clock takes its place. Not for deadlines: [`Instant`] is.

use super::Instant;
use std::arch::x86_64::{__cpuid, _rdtsc};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Nanoseconds per cycle, 32.32 fixed point. 1.0 when cycles are nanoseconds.
static MULT: AtomicU64 = AtomicU64::new(1 << 32);
static BASE: OnceLock<Base> = OnceLock::new();

struct Base {
    tsc: bool,
    cycles: u64,
    ns: u64,
}

/// A shorter baseline would scale wrongly by more than a percent.
const BASELINE_NS: u64 = 100_000;

fn base() -> &'static Base {
    BASE.get_or_init(|| {
        // CPUID exists on every x86-64; the leaf is checked.
        let tsc = __cpuid(0x8000_0000).eax >= 0x8000_0007 && __cpuid(0x8000_0007).edx >> 8 & 1 == 1;
        Base {
            tsc,
            cycles: raw(tsc),
            ns: Instant::now().as_nanos(),
        }
    })
}

#[inline]
fn raw(tsc: bool) -> u64 {
    if tsc {
        // SAFETY: the instruction exists on every x86-64 and reads only.
        unsafe { _rdtsc() }
    } else {
        Instant::now().as_nanos()
    }
}

/// Now, in cycles.
#[inline]
pub(crate) fn now() -> u64 {
    raw(base().tsc)
}

/// Starts the clock and finds its rate. Takes up to 0.1 ms when called right after the first use.
pub(crate) fn calibrate() {
    let base = base();
    while base.tsc && Instant::now().as_nanos().saturating_sub(base.ns) < BASELINE_NS {
        std::hint::spin_loop();
    }
    refresh();
}

/// Improves the rate: the longer the baseline the better.
pub(crate) fn refresh() {
    let base = base();
    let (cycles, ns) = (
        now().saturating_sub(base.cycles),
        Instant::now().as_nanos().saturating_sub(base.ns),
    );
    if base.tsc && cycles != 0 && ns >= BASELINE_NS {
        MULT.store(
            (u128::from(ns) << 32).div_euclid(u128::from(cycles)) as u64,
            Ordering::Relaxed,
        );
    }
}

/// Nanoseconds as cycles.
#[inline]
pub(crate) fn from_ns(ns: u64) -> u64 {
    ((u128::from(ns) << 32) / u128::from(MULT.load(Ordering::Relaxed).max(1))) as u64
}

/// Cycles as nanoseconds.
#[inline]
pub(crate) fn to_ns(cycles: u64) -> u64 {
    ((u128::from(cycles) * u128::from(MULT.load(Ordering::Relaxed))) >> 32) as u64
}
