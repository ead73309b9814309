//! Clocks and timers.
//!
//! [`Instant`] is the host's `CLOCK_MONOTONIC`; the guest's boot is [`boot_instant`]. `CLOCK_REALTIME` is the host's plus an offset that
//! the guest may set. Timers fire on the I/O thread ([`crate::event`]).

pub(crate) mod cycles;
mod timer;

pub use core::time::Duration;
use std::ops::{Add, AddAssign, Sub};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
pub use timer::Timer;
pub(crate) use timer::run_expired;

const NSEC_PER_SEC: u64 = 1_000_000_000;

/// A moment on the host's monotonic clock, in nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Instant(u64);

impl Instant {
    /// Later than everything.
    pub const FAR_FUTURE: Instant = Instant(u64::MAX);

    /// Now.
    #[inline]
    pub fn now() -> Instant {
        Instant(clock_ns(libc::CLOCK_MONOTONIC))
    }

    /// From nanoseconds of the host's monotonic clock.
    pub const fn from_nanos(ns: u64) -> Instant {
        Instant(ns)
    }

    /// Nanoseconds of the host's monotonic clock.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to this; zero if it is later.
    pub const fn saturating_duration_since(self, earlier: Instant) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// Time since this; zero if it lies in the future.
    pub fn elapsed(self) -> Duration {
        Instant::now().saturating_duration_since(self)
    }

    /// This plus `d`, at most [`FAR_FUTURE`](Self::FAR_FUTURE).
    pub fn saturating_add(self, d: Duration) -> Instant {
        Instant(self.0.saturating_add(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Add<Duration> for Instant {
    type Output = Instant;
    /// Saturates at [`Instant::FAR_FUTURE`].
    fn add(self, d: Duration) -> Instant {
        self.saturating_add(d)
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, d: Duration) {
        *self = *self + d;
    }
}

impl Sub<Duration> for Instant {
    type Output = Instant;
    /// Saturates at zero.
    fn sub(self, d: Duration) -> Instant {
        Instant(self.0.saturating_sub(u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl Sub for Instant {
    type Output = Duration;
    /// Saturates at zero.
    fn sub(self, earlier: Instant) -> Duration {
        self.saturating_duration_since(earlier)
    }
}

#[inline]
fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is ours; the call cannot fail for these clocks.
    unsafe { libc::clock_gettime(clock, &mut ts) };
    (ts.tv_sec as u64)
        .wrapping_mul(NSEC_PER_SEC)
        .wrapping_add(ts.tv_nsec as u64)
}

/// What the guest has added to the host's wall clock, in ns.
static REALTIME_OFFSET: AtomicI64 = AtomicI64::new(0);
static BOOT: OnceLock<Instant> = OnceLock::new();

/// When this machine booted: the zero of the guest's `CLOCK_MONOTONIC` and of printk's timestamps. Fixed at the first call.
pub fn boot_instant() -> Instant {
    *BOOT.get_or_init(Instant::now)
}

/// Time since boot.
pub fn uptime() -> Duration {
    boot_instant().elapsed()
}

/// The guest's wall clock in ns since 1970.
pub fn realtime_ns() -> i64 {
    (clock_ns(libc::CLOCK_REALTIME) as i64).saturating_add(REALTIME_OFFSET.load(Ordering::Relaxed))
}

/// The guest's wall clock: seconds and nanoseconds since 1970.
pub fn realtime() -> (i64, u32) {
    let ns = realtime_ns();
    (
        ns.div_euclid(NSEC_PER_SEC as i64),
        ns.rem_euclid(NSEC_PER_SEC as i64) as u32,
    )
}

/// The guest's wall clock at a moment of the monotonic clock, by the present relation of the two.
pub fn realtime_at(at: Instant) -> i64 {
    let now = Instant::now().as_nanos() as i64;
    realtime_ns().saturating_add((at.as_nanos() as i64).saturating_sub(now))
}

/// The moment at which the guest's wall clock will read `ns` if nobody sets it.
pub fn instant_of_realtime(ns: i64) -> Instant {
    let delta = ns.saturating_sub(realtime_ns());
    let now = Instant::now().as_nanos();
    Instant(now.saturating_add_signed(delta))
}

/// The guest's offset to the host's wall clock, in ns.
pub fn realtime_offset() -> i64 {
    REALTIME_OFFSET.load(Ordering::Relaxed)
}

/// Sets the guest's wall clock (`settimeofday(2)`): changes only the offset, never the host.
pub fn set_realtime(secs: i64, nanos: u32) {
    let want = secs
        .saturating_mul(NSEC_PER_SEC as i64)
        .saturating_add(i64::from(nanos));
    let offset = want.saturating_sub(clock_ns(libc::CLOCK_REALTIME) as i64);
    REALTIME_OFFSET.store(offset, Ordering::Relaxed);
}
