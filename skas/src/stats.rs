//! Counters of the hand-off and of stub life, for `/proc` and for tuning.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// A snapshot of the counters since [`init`](crate::init).
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Stats { $($(#[$doc])* pub $name: u64,)* }

        #[derive(Default)]
        pub(crate) struct Counters { $(pub(crate) $name: AtomicU64,)* }

        pub(crate) static COUNTERS: Counters = Counters { $($name: AtomicU64::new(0),)* };

        /// The counters now.
        pub fn statistics() -> Stats {
            Stats { $($name: COUNTERS.$name.load(Relaxed),)* }
        }
    };
}

counters! {
    /// Hand-offs to a stub whose answer came while spinning.
    spun,
    /// Hand-offs to a stub for which the kernel's thread slept.
    parked,
    /// `FUTEX_WAKE` calls to wake a sleeping stub.
    wakes,
    /// System calls of guests.
    syscalls,
    /// Memory faults that reached the kernel.
    faults,
    /// Other exceptions.
    exceptions,
    /// Runs ended by a kick.
    interrupts,
    /// Mapping changes handed to stubs.
    mapping_ops,
    /// Batches of mapping changes.
    batches,
    /// Host forks for guest forks.
    forks,
    /// Stub threads made.
    threads,
    /// Threads and vfork children that took over an idle stub thread.
    thread_reuses,
    /// New spaces served from the pool.
    pool_hits,
    /// New spaces that had to wait for a fork of the zygote.
    pool_misses,
    /// Host processes killed for tampering.
    tampering,
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}
