//! Locks with an owner: `FUTEX_LOCK_PI`, `FUTEX_TRYLOCK_PI`, `FUTEX_UNLOCK_PI`.
//!
//! The word holds the owner's thread id; the kernel hands the lock from owner to waiter in the order they came. Priorities are not lent: tasks of this
//! kernel have none that would starve an owner.
//!
//! Lock order: [`TABLE`] plays the role of a bucket.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use arch_um::sync::{Interruptible, Mutex, WaitError, WaitQueue, order};
use arch_um::time::Instant;

use super::bucket::{exchange, fault_in_writable, peek};
use super::key::{self, Holder, Key, Scope};
use super::robust::{OWNER_DIED, TID_MASK, WAITERS};
use crate::mm::Mm;
use crate::syscall::Context;
use crate::task::{Pid, table};
use crate::{Errno, Result};

/// What to do about a lock that someone else holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IfHeld {
    /// Wait for it.
    Wait,
    /// Fail: `EAGAIN`.
    Fail,
}

struct Waiter {
    tid: u32,
    /// Where it sees the word.
    mm: Weak<Mm>,
    addr: u64,
    owner: AtomicBool,
    queue: WaitQueue,
    _holder: Holder,
}

/// A lock that threads wait for.
struct State {
    owner: u32,
    waiters: VecDeque<Arc<Waiter>>,
}

static TABLE: Mutex<BTreeMap<Key, State>> = Mutex::new(&order::FUTEX, BTreeMap::new());
/// How many locks are in the table, to be looked at without its lock.
static LOCKS: AtomicUsize = AtomicUsize::new(0);

/// Whether threads wait to own the word.
pub fn has_waiters(key: &Key) -> bool {
    LOCKS.load(Ordering::Acquire) != 0 && TABLE.lock().contains_key(key)
}

fn publish(table: &BTreeMap<Key, State>) {
    LOCKS.store(table.len(), Ordering::Release);
}

/// Takes the lock at `addr`.
///
/// # Errors
/// `EDEADLK` when the caller has it, `ESRCH` when its owner is no thread, `ETIMEDOUT`, `EAGAIN` ([`IfHeld::Fail`]), `EFAULT`.
pub fn lock(cx: &Context, addr: u64, scope: Scope, deadline: Option<Instant>, if_held: IfHeld) -> Result<usize> {
    let mm = cx.task().mm();
    let (key, holder) = key::of(&mm, addr, scope)?;
    let tid = cx.task().tid().0 as u32;
    let waiter = loop {
        let mut table = TABLE.lock();
        let Some(word) = peek(&mm, addr) else {
            drop(table);
            fault_in_writable(&mm, addr)?;
            continue;
        };
        if word & TID_MASK == tid {
            return Err(Errno::EDEADLK);
        }
        if word & TID_MASK == 0 {
            let waited_for = if table.contains_key(&key) { WAITERS } else { 0 };
            let taken = tid | word & OWNER_DIED | waited_for;
            if exchange(&mm, addr, word, taken)? != word {
                continue;
            }
            if let Some(state) = table.get_mut(&key) {
                state.owner = tid;
            }
            return Ok(0);
        }
        if if_held == IfHeld::Fail {
            return Err(Errno::EAGAIN);
        }
        let owner = word & TID_MASK;
        if table::task(Pid(owner as i32)).is_none() {
            // An owner on its way out changes the word before its number is gone.
            if peek(&mm, addr) == Some(word) {
                return Err(Errno::ESRCH);
            }
            continue;
        }
        if word & WAITERS == 0 && exchange(&mm, addr, word, word | WAITERS)? != word {
            continue;
        }
        let waiter = Arc::new(Waiter {
            tid,
            mm: Arc::downgrade(&mm),
            addr,
            owner: AtomicBool::new(false),
            queue: WaitQueue::new(),
            _holder: holder,
        });
        let state = table.entry(key).or_insert_with(|| State {
            owner,
            waiters: VecDeque::new(),
        });
        state.owner = owner;
        state.waiters.push_back(waiter.clone());
        publish(&table);
        break waiter;
    };
    let owns = || waiter.owner.load(Ordering::Acquire).then_some(());
    let slept = waiter.queue.wait_until(Interruptible::Yes, deadline, owns);
    let Err(error) = slept else { return Ok(0) };
    let mut table = TABLE.lock();
    if owns().is_some() {
        return Ok(0);
    }
    if let Some(state) = table.get_mut(&key) {
        state.waiters.retain(|other| !Arc::ptr_eq(other, &waiter));
        if state.waiters.is_empty() {
            table.remove(&key);
        }
    }
    publish(&table);
    Err(match error {
        WaitError::TimedOut => Errno::ETIMEDOUT,
        WaitError::Interrupted => Errno::RestartNoIntr,
    })
}

/// Gives the lock at `addr` to its first waiter, or frees it. `EPERM` unless the caller has it.
pub fn unlock(cx: &Context, addr: u64, scope: Scope) -> Result<usize> {
    let mm = cx.task().mm();
    let (key, _holder) = key::of(&mm, addr, scope)?;
    let tid = cx.task().tid().0 as u32;
    loop {
        let mut table = TABLE.lock();
        let Some(word) = peek(&mm, addr) else {
            drop(table);
            fault_in_writable(&mm, addr)?;
            continue;
        };
        if word & TID_MASK != tid {
            return Err(Errno::EPERM);
        }
        let next = table.get(&key).and_then(|state| state.waiters.front().cloned());
        let new = next.as_ref().map_or(0, |next| next.tid | WAITERS);
        if exchange(&mm, addr, word, new)? != word {
            continue;
        }
        if let Some(next) = next {
            hand_over(&mut table, &key, &next);
        }
        return Ok(0);
    }
}

/// The word names `next` already: it owns the lock.
fn hand_over(table: &mut BTreeMap<Key, State>, key: &Key, next: &Arc<Waiter>) {
    if let Some(state) = table.get_mut(key) {
        state.owner = next.tid;
        state.waiters.retain(|other| !Arc::ptr_eq(other, next));
        if state.waiters.is_empty() {
            table.remove(key);
        }
    }
    publish(table);
    next.owner.store(true, Ordering::Release);
    next.queue.wake_all();
}

/// The thread `tid` is gone: who waits for its locks gets them, marked with `FUTEX_OWNER_DIED`.
pub fn owner_exits(tid: Pid) {
    if LOCKS.load(Ordering::Acquire) == 0 {
        return;
    }
    let tid = tid.0 as u32;
    let mut table = TABLE.lock();
    let held: alloc::vec::Vec<Key> = table
        .iter()
        .filter(|(_, state)| state.owner == tid)
        .map(|(key, _)| *key)
        .collect();
    for key in held {
        while let Some(next) = table.get(&key).and_then(|state| state.waiters.front().cloned()) {
            let written = next
                .mm
                .upgrade()
                .is_some_and(|mm| inherit(&mm, next.addr, tid, next.tid).is_ok());
            hand_over(&mut table, &key, &next);
            if written {
                break;
            }
        }
    }
}

/// Makes `next` the owner in the word, if the dead thread still is or nobody.
fn inherit(mm: &Mm, addr: u64, dead: u32, next: u32) -> Result<()> {
    loop {
        let word = peek(mm, addr).ok_or(Errno::EFAULT)?;
        if word & TID_MASK != dead && word & TID_MASK != 0 {
            return Ok(());
        }
        if exchange(mm, addr, word, next | WAITERS | OWNER_DIED)? == word {
            return Ok(());
        }
    }
}
