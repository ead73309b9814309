//! The queues: waiters in hash buckets by the key of their word.

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI32, Ordering};

use arch_um::sync::{Mutex, MutexGuard, SpinLock, WaitQueue, order};

use super::key::{Holder, Key};
use crate::mm::Mm;
use crate::user::UserAddr;
use crate::{Errno, Result};

const BUCKETS: usize = 256;
const NOT_WOKEN: i32 = -1;

/// A thread that waits on one word or on several.
pub struct Waiter {
    /// The index of the word it was woken by, or -1.
    woken: AtomicI32,
    /// Where it sleeps.
    pub queue: WaitQueue,
    /// The key of each of its entries now: requeueing changes them.
    places: SpinLock<Vec<Key>>,
}

impl Waiter {
    /// On words with these keys.
    pub fn new(keys: Vec<Key>) -> Arc<Self> {
        Arc::new(Self {
            woken: AtomicI32::new(NOT_WOKEN),
            queue: WaitQueue::new(),
            places: SpinLock::new(&order::LEAF, keys),
        })
    }

    /// The index of the word it was woken by.
    pub fn woken(&self) -> Option<usize> {
        usize::try_from(self.woken.load(Ordering::Acquire)).ok()
    }

    /// Takes all its entries out of the queues.
    pub fn leave(self: &Arc<Self>) {
        let count = self.places.lock().len();
        for index in 0..count {
            loop {
                let key = self.places.lock()[index];
                let mut bucket = lock(&key);
                if self.places.lock()[index] != key {
                    // Requeued meanwhile.
                    continue;
                }
                let gone = bucket.take(|entry| entry.index == index && Arc::ptr_eq(&entry.waiter, self));
                drop(bucket);
                drop(gone);
                break;
            }
        }
    }
}

/// One waiter on one word.
pub struct Entry {
    key: Key,
    waiter: Arc<Waiter>,
    index: usize,
    bitset: u32,
    /// Keeps the key's object.
    _holder: Holder,
}

impl Entry {
    /// `waiter`'s entry number `index`.
    pub fn new(key: Key, holder: Holder, waiter: &Arc<Waiter>, index: usize, bitset: u32) -> Self {
        Self {
            key,
            waiter: waiter.clone(),
            index,
            bitset,
            _holder: holder,
        }
    }

    fn wake(self) {
        let index = self.index as i32;
        let first = self
            .waiter
            .woken
            .compare_exchange(NOT_WOKEN, index, Ordering::AcqRel, Ordering::Relaxed);
        if first.is_ok() {
            self.waiter.queue.wake_all();
        }
    }
}

/// Waiters whose keys fall together, in the order they came.
pub struct Bucket {
    entries: VecDeque<Entry>,
}

impl Bucket {
    /// Adds a waiter behind all others.
    pub fn push(&mut self, entry: Entry) {
        self.entries.push_back(entry);
    }

    fn take(&mut self, mut which: impl FnMut(&Entry) -> bool) -> Option<Entry> {
        let at = self.entries.iter().position(&mut which)?;
        self.entries.remove(at)
    }

    /// Takes out up to `count` waiters on `key` whose bits overlap `bitset`.
    pub fn take_matching(&mut self, key: &Key, count: usize, bitset: u32) -> Vec<Entry> {
        let mut taken = Vec::new();
        while taken.len() < count {
            match self.take(|entry| entry.key == *key && entry.bitset & bitset != 0) {
                Some(entry) => taken.push(entry),
                None => break,
            }
        }
        taken
    }
}

static TABLE: [Mutex<Bucket>; BUCKETS] = [const {
    Mutex::new(
        &order::FUTEX,
        Bucket {
            entries: VecDeque::new(),
        },
    )
}; BUCKETS];

fn place(key: &Key) -> usize {
    key.hash() as usize % BUCKETS
}

/// The bucket of `key`, locked.
pub fn lock(key: &Key) -> MutexGuard<'static, Bucket> {
    TABLE[place(key)].lock()
}

/// The buckets of two keys, locked; the second is none when it is the first.
pub fn lock_two(one: &Key, two: &Key) -> (MutexGuard<'static, Bucket>, Option<MutexGuard<'static, Bucket>>) {
    let (first, second) = (place(one), place(two));
    match first.cmp(&second) {
        core::cmp::Ordering::Equal => (TABLE[first].lock(), None),
        core::cmp::Ordering::Less => {
            let guard = TABLE[first].lock();
            (guard, Some(TABLE[second].lock_nested()))
        }
        core::cmp::Ordering::Greater => {
            let guard = TABLE[second].lock();
            (TABLE[first].lock_nested(), Some(guard))
        }
    }
}

/// Wakes taken entries; how many. Called with the bucket released.
pub fn wake_all(entries: Vec<Entry>) -> usize {
    let count = entries.len();
    entries.into_iter().for_each(Entry::wake);
    count
}

/// Wakes up to `count` waiters on `key`; how many.
pub fn wake(key: &Key, count: usize, bitset: u32) -> usize {
    let mut bucket = lock(key);
    let entries = bucket.take_matching(key, count, bitset);
    drop(bucket);
    wake_all(entries)
}

/// Moves a taken entry to the word of `key`, in `bucket`.
pub fn move_entry(bucket: &mut Bucket, mut entry: Entry, key: Key, holder: Holder) {
    entry.waiter.places.lock()[entry.index] = key;
    entry.key = key;
    let old = core::mem::replace(&mut entry._holder, holder);
    bucket.push(entry);
    // A file's last reference may sleep; buckets are sleeping locks, and nothing of them is taken by it.
    drop(old);
}

/// Reads the word at `addr` under a bucket's lock; none when it is not there and [`fault_in`] has to bring it.
pub fn peek(mm: &Mm, addr: u64) -> Option<u32> {
    let mut word = [0; 4];
    mm.space().read(addr, &mut word).ok()?;
    Some(u32::from_le_bytes(word))
}

/// Brings the word at `addr` of the current task in, with no lock held. `EFAULT` when it cannot be read.
pub fn fault_in(addr: u64) -> Result<()> {
    UserAddr(addr).read(&mut [0; 4])
}

/// Brings the word at `addr` of the current task in so that it can be written. `EFAULT` when it cannot be.
pub fn fault_in_writable(mm: &Arc<Mm>, addr: u64) -> Result<()> {
    fault_in(addr)?;
    mm.bring_in(addr, skas::Access::Write);
    // Whatever the word holds, this is a write, and it changes nothing.
    exchange(mm, addr, 0, 0).map(drop)
}

/// Exchanges a word of guest memory if it holds `old`; what it held. `EFAULT`.
pub fn exchange(mm: &Mm, addr: u64, old: u32, new: u32) -> Result<u32> {
    loop {
        match mm.space().cmpxchg_u32(addr, old, new) {
            // The caller's own thread is in the kernel, so this passes.
            Err(Errno::EAGAIN) => arch_um::thread::yield_now(),
            other => return other,
        }
    }
}
