//! The most tasks there may be at once (`/proc/sys/kernel/threads-max`): a fork bomb meets `EAGAIN` here before the host suffers.
//!
//! The boot sets it from what the host can carry; [`super::table`] asks when it gives out a number.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::pid::PID_MAX;

/// Fewer would not boot.
const LEAST: usize = 20;

static MOST: AtomicUsize = AtomicUsize::new(PID_MAX as usize);

/// The most tasks, zombies included.
pub fn get() -> usize {
    MOST.load(Ordering::Relaxed)
}

/// Sets the most tasks, within what numbers there are.
pub fn set(tasks: usize) {
    MOST.store(tasks.clamp(LEAST, PID_MAX as usize), Ordering::Relaxed);
}
