//! Timeouts of `poll(2)`, `select(2)`, `epoll_wait(2)`: relative in, deadlines inside, what is left back out.

use core::time::Duration;

use arch_um::time::Instant;

use crate::user::UserPtr;
use crate::{Errno, Result};

/// When to give up: none for never.
pub type Deadline = Option<Instant>;

/// `struct timespec` and `struct timeval` differ in the second word only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Nano,
    /// Microseconds.
    Micro,
}

impl Unit {
    fn per_second(self) -> i64 {
        match self {
            Unit::Nano => 1_000_000_000,
            Unit::Micro => 1_000_000,
        }
    }
}

/// Milliseconds as of `poll(2)`: negative is for ever.
pub fn from_millis(millis: i32) -> Deadline {
    u64::try_from(millis)
        .ok()
        .map(|millis| Instant::now() + Duration::from_millis(millis))
}

/// A timeout in guest memory; the null pointer is for ever.
///
/// # Errors
/// `EFAULT`; `EINVAL` when it is no time.
pub fn read(at: UserPtr<[i64; 2]>, unit: Unit) -> Result<Deadline> {
    let Some(at) = at.non_null() else { return Ok(None) };
    let [mut sec, mut part] = at.read()?;
    if unit == Unit::Micro {
        // select carries whole seconds over from the microseconds.
        sec = sec.checked_add(part / unit.per_second()).ok_or(Errno::EINVAL)?;
        part %= unit.per_second();
    }
    if sec < 0 || !(0..unit.per_second()).contains(&part) {
        return Err(Errno::EINVAL);
    }
    let nanos = part as u64 * (1_000_000_000 / unit.per_second() as u64);
    let span = Duration::from_secs(sec as u64).saturating_add(Duration::from_nanos(nanos));
    Ok(Some(Instant::now() + span))
}

/// Writes back what is left. A buffer that cannot be written is no error, but then the call must not restart: it would wait too long.
pub fn write_back(at: UserPtr<[i64; 2]>, unit: Unit, deadline: Deadline) -> Result<()> {
    let (Some(at), Some(deadline)) = (at.non_null(), deadline) else {
        return Ok(());
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let part = i64::from(left.subsec_nanos()) / (1_000_000_000 / unit.per_second());
    at.write(&[left.as_secs() as i64, part])
}

/// The end of a call with a timeout: writes back, and turns a restart that would start anew into `EINTR`.
pub fn finish(result: Result<usize>, at: UserPtr<[i64; 2]>, unit: Unit, deadline: Deadline) -> Result<usize> {
    match (result, write_back(at, unit, deadline)) {
        (Err(Errno::RestartNoHand), Err(_)) => Err(Errno::EINTR),
        (result, _) => result,
    }
}
