//! Load averages: how many tasks run, wait for a CPU, or sleep uninterruptibly, averaged over 1, 5 and 15 minutes (`getloadavg(3)`).
//!
//! A timer samples every five seconds, as Linux does, in fixed point with 11 bits.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicU64, Ordering};

use arch_um::time::{Duration, Instant, Timer};

/// One, in fixed point.
pub const FIXED_1: u64 = 1 << 11;
/// `FIXED_1 / exp(5 s / period)` for 1, 5 and 15 minutes.
const DECAY: [u64; 3] = [1884, 2014, 2037];
const PERIOD: Duration = Duration::from_secs(5);

static AVERAGES: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];
static SAMPLER: spin::Once<Timer> = spin::Once::new();

/// The three averages in units of 1/2048.
pub fn averages() -> [u64; 3] {
    [0, 1, 2].map(|index: usize| AVERAGES[index].load(Ordering::Relaxed))
}

/// Integer and hundredths of an average, as /proc/loadavg shows them.
pub fn parts(load: u64) -> (u64, u64) {
    let rounded = load + FIXED_1 / 200;
    (rounded / FIXED_1, rounded % FIXED_1 * 100 / FIXED_1)
}

/// Tasks that run or are ready, and tasks that sleep uninterruptibly.
pub fn active() -> (usize, usize) {
    let (mut running, mut blocked) = (0, 0);
    for thread in arch_um::thread::list() {
        // Kernel threads without a task wait uninterruptibly for work as a matter of course.
        match (thread.state_letter(), thread.local().is_some()) {
            ('R', _) => running += 1,
            ('D', true) => blocked += 1,
            _ => {}
        }
    }
    (running, blocked)
}

fn step(old: u64, decay: u64, active: u64) -> u64 {
    let active = active * FIXED_1;
    let mut new = old * decay + active * (FIXED_1 - decay);
    if active >= old {
        // Rounds up on the way up, so that a constant load is reached.
        new += FIXED_1 - 1;
    }
    new / FIXED_1
}

fn sample() {
    let (running, blocked) = active();
    for (average, decay) in AVERAGES.iter().zip(DECAY) {
        average.store(
            step(average.load(Ordering::Relaxed), decay, (running + blocked) as u64),
            Ordering::Relaxed,
        );
    }
    arm();
}

fn arm() {
    SAMPLER
        .call_once(|| Timer::new(Arc::new(sample)))
        .set(Instant::now() + PERIOD);
}

/// Starts sampling.
pub fn init() {
    arm();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_load_is_reached_and_an_idle_machine_goes_to_zero() {
        let mut load = 0;
        for _ in 0..200 {
            load = step(load, DECAY[0], 2);
        }
        assert_eq!(parts(load), (2, 0));
        for _ in 0..200 {
            load = step(load, DECAY[0], 0);
        }
        assert_eq!(parts(load), (0, 0));
    }

    #[test]
    fn one_minute_of_one_task_shows_as_two_thirds() {
        let load = (0..12).fold(0, |load, _| step(load, DECAY[0], 1));
        assert_eq!(parts(load), (0, 63));
    }
}
