//! Waking and moving waiters: `FUTEX_WAKE`, `FUTEX_WAKE_BITSET`, `FUTEX_REQUEUE`, `FUTEX_CMP_REQUEUE`, `FUTEX_WAKE_OP`.

use alloc::sync::Arc;

use super::bucket::{self, Entry};
use super::key::{self, Holder, Key, Scope};
use super::{MATCH_ANY, pi};
use crate::mm::Mm;
use crate::syscall::Context;
use crate::{Errno, Result};

/// A count as Linux takes it: who wakes none or fewer wakes one.
fn at_least_one(count: i32) -> usize {
    usize::try_from(count).unwrap_or(1).max(1)
}

/// The key of a word whose value is not asked for. What may be shared must be there all the same: `EFAULT`.
fn key_of_present(mm: &Arc<Mm>, addr: u64, scope: Scope) -> Result<(Key, Holder)> {
    let found = key::of(mm, addr, scope)?;
    if scope == Scope::Shared && bucket::peek(mm, addr).is_none() {
        bucket::fault_in(addr)?;
    }
    Ok(found)
}

/// Wakes up to `count` waiters whose bits overlap; how many. `EINVAL` for no bits, and for a word that threads lock with an owner.
pub fn wake(cx: &Context, addr: u64, scope: Scope, count: i32, bitset: u32) -> Result<usize> {
    if bitset == 0 {
        return Err(Errno::EINVAL);
    }
    let mm = cx.task().mm();
    let (key, _holder) = key_of_present(&mm, addr, scope)?;
    if pi::has_waiters(&key) {
        return Err(Errno::EINVAL);
    }
    Ok(bucket::wake(&key, at_least_one(count), bitset))
}

/// Wakes up to `count` waiters of the first word and moves up to `moved` others to the second; how many in all.
///
/// # Errors
/// `EAGAIN` unless the first word holds `expected` (`FUTEX_CMP_REQUEUE`), `EINVAL` for negative counts, `EFAULT`.
pub fn requeue(
    cx: &Context,
    addrs: [u64; 2],
    scope: Scope,
    count: i32,
    moved: i32,
    expected: Option<u32>,
) -> Result<usize> {
    let count = usize::try_from(count).map_err(|_| Errno::EINVAL)?;
    let moved = usize::try_from(moved).map_err(|_| Errno::EINVAL)?;
    let mm = cx.task().mm();
    let (from, _from_holder) = key_of_present(&mm, addrs[0], scope)?;
    let (to, to_holder) = key_of_present(&mm, addrs[1], scope)?;
    let (mut first, mut second) = loop {
        let guards = bucket::lock_two(&from, &to);
        let Some(expected) = expected else { break guards };
        match bucket::peek(&mm, addrs[0]) {
            Some(found) if found == expected => break guards,
            Some(_) => return Err(Errno::EAGAIN),
            None => {
                drop(guards);
                bucket::fault_in(addrs[0])?;
            }
        }
    };
    let woken = first.take_matching(&from, count, MATCH_ANY);
    // On the same word the waiters stay where they are.
    let moving = first.take_matching(&from, moved, MATCH_ANY);
    let moved = moving.len();
    for entry in moving {
        let target = second.as_mut().unwrap_or(&mut first);
        bucket::move_entry(target, entry, to, to_holder.clone());
    }
    drop(second);
    drop(first);
    Ok(bucket::wake_all(woken) + moved)
}

/// What `FUTEX_WAKE_OP` does to the second word and then compares its old value with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WakeOp {
    operation: u32,
    argument: u32,
    comparison: u32,
    compared: u32,
}

const OP_SHIFT: u32 = 8;

impl WakeOp {
    /// From the last argument. `ENOSYS` for operations and comparisons that do not exist.
    fn decode(code: u32) -> Result<Self> {
        let sign_extended = |value: u32| ((value << 20) as i32 >> 20) as u32;
        let operation = code >> 28;
        let mut argument = sign_extended(code >> 12 & 0xfff);
        if operation & OP_SHIFT != 0 {
            // Linux masks a shift that is too far.
            argument = 1u32 << (argument & 31);
        }
        let op = Self {
            operation: operation & 7,
            argument,
            comparison: code >> 24 & 0xf,
            compared: sign_extended(code & 0xfff),
        };
        if op.operation > 4 || op.comparison > 5 {
            Err(Errno::ENOSYS)
        } else {
            Ok(op)
        }
    }

    fn apply(&self, old: u32) -> u32 {
        match self.operation {
            0 => self.argument,
            1 => old.wrapping_add(self.argument),
            2 => old | self.argument,
            3 => old & !self.argument,
            _ => old ^ self.argument,
        }
    }

    fn holds(&self, old: u32) -> bool {
        let (old, compared) = (old as i32, self.compared as i32);
        match self.comparison {
            0 => old == compared,
            1 => old != compared,
            2 => old < compared,
            3 => old <= compared,
            4 => old > compared,
            _ => old >= compared,
        }
    }
}

/// Changes the second word, wakes waiters of the first, and of the second if its old value compares so; how many in all.
pub fn wake_op(cx: &Context, addrs: [u64; 2], scope: Scope, count: i32, count2: i32, code: u32) -> Result<usize> {
    let mm = cx.task().mm();
    let (one, _one_holder) = key_of_present(&mm, addrs[0], scope)?;
    let (two, _two_holder) = key::of(&mm, addrs[1], scope)?;
    let op = WakeOp::decode(code)?;
    loop {
        let (mut first, mut second) = bucket::lock_two(&one, &two);
        let changed = bucket::peek(&mm, addrs[1]).map(|old| (old, bucket::exchange(&mm, addrs[1], old, op.apply(old))));
        match changed {
            Some((old, Ok(found))) if found == old => {
                let mut woken: alloc::vec::Vec<Entry> = first.take_matching(&one, at_least_one(count), MATCH_ANY);
                if op.holds(old) {
                    let bucket = second.as_mut().unwrap_or(&mut first);
                    woken.extend(bucket.take_matching(&two, at_least_one(count2), MATCH_ANY));
                }
                drop(second);
                drop(first);
                return Ok(bucket::wake_all(woken));
            }
            // Another thread wrote it meanwhile.
            Some((_, Ok(_))) => {}
            Some((_, Err(error))) if error != Errno::EFAULT => return Err(error),
            _ => {
                drop(second);
                drop(first);
                bucket::fault_in_writable(&mm, addrs[1])?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_op_codes_mean_what_the_man_page_says() {
        // FUTEX_OP(FUTEX_OP_ADD, -1, FUTEX_OP_CMP_GT, 1)
        let op = WakeOp::decode(1 << 28 | 4 << 24 | 0xfff << 12 | 1).unwrap();
        assert_eq!(op.apply(5), 4);
        assert!(op.holds(2) && !op.holds(1) && !op.holds(u32::MAX));
        // FUTEX_OP(FUTEX_OP_OR | FUTEX_OP_OPARG_SHIFT, 4, FUTEX_OP_CMP_EQ, 0)
        let op = WakeOp::decode((2 | 8) << 28 | 4 << 12).unwrap();
        assert_eq!(op.apply(1), 17);
        assert!(op.holds(0));
        assert_eq!(WakeOp::decode(5 << 28), Err(Errno::ENOSYS));
        assert_eq!(WakeOp::decode(6 << 24), Err(Errno::ENOSYS));
    }
}
