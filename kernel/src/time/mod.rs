//! Time as guests see it: clocks, sleeping, and everything that fires later (`time(7)`).
//!
//! * [`clock`]: which clocks there are, reading and setting them. [`adjtime`]: `adjtimex(2)`. [`cpu_clock`]: the CPU time of tasks as a clock.
//! * [`expiry`]: the arithmetic of a deadline with an interval. [`clock_timer`] and [`cpu_timer`] drive it by a clock and by CPU time.
//! * [`sleep`]: `nanosleep(2)`. [`itimer`]: `alarm(2)`, `setitimer(2)`. [`posix_timer`]: `timer_create(2)`. [`timerfd`]: `timerfd_create(2)`.
//!
//! The machine's clocks come from `arch_um::time`: its [`Instant`](arch_um::time::Instant) is the host's monotonic clock, the guest's
//! `CLOCK_MONOTONIC` counts from boot. Timers fire on the I/O thread: what they call may not sleep.
//!
//! Lock order: a timer's state is of class `TIMER`; nothing is called while it is held.

pub mod adjtime;
pub mod clock;
pub mod clock_timer;
pub mod cpu_clock;
pub mod cpu_limit;
pub mod cpu_timer;
pub mod expiry;
pub mod itimer;
pub mod layout;
pub mod posix_timer;
pub mod process_timers;
pub mod sleep;
pub mod timerfd;

pub use process_timers::ProcessTimers;

/// Nanoseconds of a second.
pub const NSEC_PER_SEC: u64 = 1_000_000_000;
/// Ticks a second in what the kernel tells programs (`sysconf(_SC_CLK_TCK)`).
pub const USER_HZ: u64 = 100;
/// Nanoseconds of such a tick.
pub const NSEC_PER_TICK: u64 = NSEC_PER_SEC / USER_HZ;
