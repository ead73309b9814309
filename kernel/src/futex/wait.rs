//! Waiting: `FUTEX_WAIT`, `FUTEX_WAIT_BITSET`, `futex_waitv(2)`.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use arch_um::sync::{Interruptible, WaitError};
use arch_um::time::Instant;

use super::bucket::{self, Entry, Waiter};
use super::key::{self, Scope};
use super::{MATCH_ANY, TimeBase, moment, read_time};
use crate::syscall::Context;
use crate::user::UserPtr;
use crate::{Errno, Result, abi_struct};

/// Waits until the word at `addr`, which holds `value`, is woken with overlapping bits.
///
/// # Errors
/// `EAGAIN` when it holds something else, `ETIMEDOUT`, `EINVAL` for no bits, `EFAULT`; a restart by a signal.
pub fn wait(
    cx: &Context,
    addr: u64,
    scope: Scope,
    value: u32,
    bitset: u32,
    deadline: Option<Instant>,
) -> Result<usize> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let mm = cx.task().mm();
    let (key, holder) = key::of(&mm, addr, scope)?;
    let waiter = Waiter::new(vec![key]);
    loop {
        let mut bucket = bucket::lock(&key);
        match bucket::peek(&mm, addr) {
            Some(found) if found != value => return Err(Errno::EAGAIN),
            Some(_) => {
                bucket.push(Entry::new(key, holder, &waiter, 0, bitset));
                break;
            }
            None => {
                drop(bucket);
                bucket::fault_in(addr)?;
            }
        }
    }
    match sleep(&waiter, deadline) {
        Ok(_) => Ok(0),
        Err(WaitError::TimedOut) => Err(Errno::ETIMEDOUT),
        Err(WaitError::Interrupted) if deadline.is_none() => Err(Errno::RestartSys),
        Err(WaitError::Interrupted) => {
            cx.task().set_restart(alloc::boxed::Box::new(move |cx| {
                wait(cx, addr, scope, value, bitset, deadline)
            }));
            Err(Errno::RestartBlock)
        }
    }
}

/// Sleeps until woken; the index of the word. On failure its entries are gone.
fn sleep(waiter: &Arc<Waiter>, deadline: Option<Instant>) -> Result<usize, WaitError> {
    let slept = waiter.queue.wait_until(Interruptible::Yes, deadline, || waiter.woken());
    match slept {
        Ok(index) => Ok(index),
        Err(error) => {
            waiter.leave();
            // A wake-up that came before we left counts: its waker has counted it.
            waiter.woken().ok_or(error)
        }
    }
}

/// Most words of one `futex_waitv(2)`.
const WAITV_MAX: u32 = 128;
const FUTEX2_SIZE_MASK: u32 = 3;
const FUTEX2_SIZE_U32: u32 = 2;
const FUTEX2_PRIVATE: u32 = 128;

abi_struct! {
    /// `struct futex_waitv`.
    pub struct WaitV {
        /// The value it must hold.
        pub value: u64,
        /// The word.
        pub addr: u64,
        /// Size and scope.
        pub flags: u32,
        /// 0.
        pub reserved: u32,
    }
}

/// `futex_waitv(2)`: the index of a word that was woken.
///
/// # Errors
/// `EAGAIN` when a word does not hold its value, `ETIMEDOUT`, `EINVAL`, `EFAULT`; `EINTR` by a signal with a handler.
pub fn sys_futex_waitv(
    cx: &Context,
    waiters: UserPtr<WaitV>,
    count: u32,
    flags: u32,
    time: u64,
    clock: i32,
) -> Result<usize> {
    if flags != 0 || count == 0 || count > WAITV_MAX || waiters.is_null() {
        return Err(Errno::EINVAL);
    }
    let deadline = if time == 0 {
        None
    } else {
        let base = match clock {
            0 => TimeBase::Realtime,
            1 => TimeBase::Monotonic,
            _ => return Err(Errno::EINVAL),
        };
        Some(moment(base, read_time(time)?))
    };
    let wanted = waiters.read_many(count as usize)?;
    let mm = cx.task().mm();
    let mut keys = Vec::with_capacity(wanted.len());
    for want in &wanted {
        let known = FUTEX2_SIZE_MASK | FUTEX2_PRIVATE;
        if want.flags & !known != 0 || want.flags & FUTEX2_SIZE_MASK != FUTEX2_SIZE_U32 || want.reserved != 0 {
            return Err(Errno::EINVAL);
        }
        if want.value > u64::from(u32::MAX) {
            return Err(Errno::EINVAL);
        }
        let scope = if want.flags & FUTEX2_PRIVATE != 0 {
            Scope::Private
        } else {
            Scope::Shared
        };
        keys.push(key::of(&mm, want.addr, scope)?);
    }
    'again: loop {
        let waiter = Waiter::new(keys.iter().map(|(key, _)| *key).collect());
        for (index, (want, (key, holder))) in wanted.iter().zip(&keys).enumerate() {
            let mut bucket = bucket::lock(key);
            let found = bucket::peek(&mm, want.addr);
            if found == Some(want.value as u32) {
                bucket.push(Entry::new(*key, holder.clone(), &waiter, index, MATCH_ANY));
                continue;
            }
            drop(bucket);
            waiter.leave();
            if let Some(woken) = waiter.woken() {
                return Ok(woken);
            }
            match found {
                Some(_) => return Err(Errno::EAGAIN),
                None => bucket::fault_in(want.addr)?,
            }
            continue 'again;
        }
        let slept = sleep(&waiter, deadline);
        waiter.leave();
        return slept.map_err(|error| match error {
            WaitError::TimedOut => Errno::ETIMEDOUT,
            WaitError::Interrupted => Errno::RestartSys,
        });
    }
}
