//! [`Promptness`]: whether the host takes short writes as soon as they are made.
//!
//! A few KiB for the host's memory take a few microseconds, the trip to a pool thread and back ten times that: an `fsync` makes three of them. So who
//! brings a short write makes it himself. But the host lets a writer wait when it has too much to write back, or must read what the
//! write leaves over, and a virtual CPU may not wait: one write that took long sends those of the next second to the pool.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arch_um::time::Instant;

/// Longer than any copy into memory takes, shorter than a disk.
const LONG: Duration = Duration::from_millis(2);
/// After a write that took [`LONG`].
const PAUSE: Duration = Duration::from_secs(1);

/// What is known of one disk's host file.
#[derive(Default)]
pub struct Promptness {
    /// Writes go to the pool until then; in nanoseconds of uptime.
    pause_ends: AtomicU64,
}

impl Promptness {
    /// Whether a short write may be made by who brings it.
    pub fn holds(&self) -> bool {
        nanoseconds(arch_um::time::uptime()) >= self.pause_ends.load(Ordering::Relaxed)
    }

    /// Makes a write and learns how long it takes.
    pub fn watch<T>(&self, write: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let outcome = write();
        if begun.elapsed() >= LONG {
            let end = arch_um::time::uptime() + PAUSE;
            self.pause_ends.store(nanoseconds(end), Ordering::Relaxed);
        }
        outcome
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_write_sends_the_next_ones_away_for_a_while() {
        let promptness = Promptness::default();
        assert_eq!(promptness.watch(|| 7), 7);
        assert!(promptness.holds(), "a quick write changes nothing");
        promptness.watch(|| std::thread::sleep(LONG));
        assert!(!promptness.holds(), "a slow one does");
        std::thread::sleep(PAUSE);
        assert!(promptness.holds(), "not for ever");
    }
}
