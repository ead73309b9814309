//! Futexes: `futex(2)`, `futex_waitv(2)`, and what threads leave in them when they end.
//!
//! * [`key`]: which word, whoever maps it.  * [`bucket`]: who waits, in hash buckets.  * [`wait`]: waiting, one word or many.
//! * [`wake`]: waking and moving waiters.  * [`pi`]: locks with an owner.  * [`robust`]: locks of dead owners.
//!
//! A bucket is a sleeping lock: the word is read under it, so that a value check and the queueing are one step against wakers. A fault of that read is
//! mended with the bucket released, because faults take the address space's lock, which is outer.
//!
//! Lock order: `FUTEX` is below `MM`; two buckets are taken in the order of their place.

pub mod bucket;
pub mod key;
pub mod pi;
pub mod robust;
pub mod wait;
pub mod wake;

use arch_um::stub;
use arch_um::time::{self, Duration, Instant};

use crate::syscall::Context;
use crate::user::UserPtr;
use crate::{Errno, Result};
use key::Scope;

const CMD_WAIT: u32 = 0;
const CMD_WAKE: u32 = 1;
const CMD_REQUEUE: u32 = 3;
const CMD_CMP_REQUEUE: u32 = 4;
const CMD_WAKE_OP: u32 = 5;
const CMD_LOCK_PI: u32 = 6;
const CMD_UNLOCK_PI: u32 = 7;
const CMD_TRYLOCK_PI: u32 = 8;
const CMD_WAIT_BITSET: u32 = 9;
const CMD_WAKE_BITSET: u32 = 10;
const CMD_WAIT_REQUEUE_PI: u32 = 11;
const CMD_CMP_REQUEUE_PI: u32 = 12;
const CMD_LOCK_PI2: u32 = 13;
const PRIVATE_FLAG: u32 = 128;
const CLOCK_REALTIME_FLAG: u32 = 256;

/// Every waiter.
pub const MATCH_ANY: u32 = u32::MAX;

/// The clock of an absolute time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeBase {
    /// `CLOCK_MONOTONIC`.
    Monotonic,
    /// `CLOCK_REALTIME`.
    Realtime,
}

/// Nanoseconds of a `struct timespec` in guest memory. `EINVAL` for a negative time or 10⁹ nanoseconds and more.
fn read_time(addr: u64) -> Result<u64> {
    let [sec, nsec] = UserPtr::<[i64; 2]>::new(addr).read()?;
    let sec = u64::try_from(sec).map_err(|_| Errno::EINVAL)?;
    let nsec = u64::try_from(nsec)
        .ok()
        .filter(|&nsec| nsec < 1_000_000_000)
        .ok_or(Errno::EINVAL)?;
    Ok(sec.saturating_mul(1_000_000_000).saturating_add(nsec))
}

/// The moment at which the guest's clock reads `ns`.
fn moment(base: TimeBase, ns: u64) -> Instant {
    match base {
        TimeBase::Monotonic => time::boot_instant().saturating_add(Duration::from_nanos(ns)),
        TimeBase::Realtime => time::instant_of_realtime(i64::try_from(ns).unwrap_or(i64::MAX)),
    }
}

/// `futex(2)`.
///
/// # Errors
/// `ENOSYS` for an unknown command or `FUTEX_CLOCK_REALTIME` with one that does not take it; `EINVAL` for an unaligned word, a time or a bit mask that
/// is none; the commands' own.
pub fn sys_futex(cx: &Context, addr: u64, op: u32, value: u32, time: u64, addr2: u64, value3: u32) -> Result<usize> {
    let command = op & !(PRIVATE_FLAG | CLOCK_REALTIME_FLAG);
    let scope = if op & PRIVATE_FLAG != 0 {
        Scope::Private
    } else {
        Scope::Shared
    };
    let realtime = op & CLOCK_REALTIME_FLAG != 0;
    if realtime && !matches!(command, CMD_WAIT_BITSET | CMD_WAIT_REQUEUE_PI | CMD_LOCK_PI2) {
        return Err(Errno::ENOSYS);
    }
    let base = if realtime || command == CMD_LOCK_PI {
        TimeBase::Realtime
    } else {
        TimeBase::Monotonic
    };
    let deadline = match command {
        CMD_WAIT | CMD_WAIT_BITSET | CMD_LOCK_PI | CMD_LOCK_PI2 if time != 0 => {
            let ns = read_time(time)?;
            Some(match command {
                CMD_WAIT => Instant::now() + Duration::from_nanos(ns),
                _ => moment(base, ns),
            })
        }
        _ => None,
    };
    // Where a command takes a second count, it is in the place of the time.
    let count2 = time as u32 as i32;
    match command {
        CMD_WAIT => wait::wait(cx, addr, scope, value, MATCH_ANY, deadline),
        CMD_WAIT_BITSET => wait::wait(cx, addr, scope, value, value3, deadline),
        CMD_WAKE => wake::wake(cx, addr, scope, value as i32, MATCH_ANY),
        CMD_WAKE_BITSET => wake::wake(cx, addr, scope, value as i32, value3),
        CMD_REQUEUE => wake::requeue(cx, [addr, addr2], scope, value as i32, count2, None),
        CMD_CMP_REQUEUE => wake::requeue(cx, [addr, addr2], scope, value as i32, count2, Some(value3)),
        CMD_WAKE_OP => wake::wake_op(cx, [addr, addr2], scope, value as i32, count2, value3),
        CMD_LOCK_PI | CMD_LOCK_PI2 => pi::lock(cx, addr, scope, deadline, pi::IfHeld::Wait),
        CMD_TRYLOCK_PI => pi::lock(cx, addr, scope, None, pi::IfHeld::Fail),
        CMD_UNLOCK_PI => pi::unlock(cx, addr, scope),
        CMD_WAIT_REQUEUE_PI | CMD_CMP_REQUEUE_PI => {
            stub!("futex requeue to a priority inheritance lock");
            Err(Errno::ENOSYS)
        }
        _ => Err(Errno::ENOSYS),
    }
}

/// Wakes who waits for the end of a thread (`set_tid_address(2)`): the word at `addr` of the current task's memory.
pub fn wake_tid(addr: u64) {
    let Some(mm) = crate::task::try_current().and_then(|task| task.try_mm()) else {
        return;
    };
    if let Ok((key, _)) = key::of(&mm, addr, Scope::Shared) {
        bucket::wake(&key, 1, MATCH_ANY);
    }
}
