//! [`WaitQueue`]: sleep until a condition holds, and tell poll and epoll when it may.
//!
//! A waiter registers first and looks at its condition afterwards; a waker changes the condition first and wakes afterwards. So no
//! wake-up is lost. The queue's own lock is below every lock class and nothing is called under it: waking is allowed under any spin lock.

use super::lockdep;
use super::parker::Parker;
use super::raw::RawLock;
use crate::errno::Errno;
use crate::time::Instant;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};
use std::sync::{Arc, OnceLock, Weak};

/// May a signal (`Thread::interrupt`) end the wait?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interruptible {
    /// Yes: state `S`.
    Yes,
    /// No: state `D`.
    No,
}

/// Why a wait ended without its condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WaitError {
    /// The thread has been interrupted (a signal is pending).
    Interrupted,
    /// The deadline has passed.
    TimedOut,
}

impl From<WaitError> for Errno {
    /// `Interrupted` restarts if the handler allows it, `TimedOut` is `ETIMEDOUT`.
    fn from(error: WaitError) -> Errno {
        match error {
            WaitError::Interrupted => Errno::RestartSys,
            WaitError::TimedOut => Errno::ETIMEDOUT,
        }
    }
}

/// Someone who wants to be told (poll, select, epoll).
pub trait Wake: Send + Sync {
    /// Something matching the registered mask happened; `key` is the waker's key (0: anything).
    ///
    /// Called with no lock of the queue held, but possibly with the waker's spin locks: it may take `EPOLL_READY` and locks below it only, and
    /// may not sleep. It may be called once more shortly after the [`Registration`] is dropped.
    fn wake(&self, key: u32);

    /// The same for one of several of whom one is enough ([`WaitQueue::register_exclusive`]). False when nobody was there to be told, so that the next
    /// one is asked.
    fn wake_exclusive(&self, key: u32) -> bool {
        self.wake(key);
        true
    }
}

/// A queue of waiting threads and registered callbacks. One pointer in size until first used.
pub struct WaitQueue {
    inner: OnceLock<Arc<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// Number of entries, readable without the lock.
    len: AtomicUsize,
    list: RawLock<List>,
}

impl Default for RawLock<List> {
    fn default() -> Self {
        RawLock::new(List {
            next_id: 0,
            entries: VecDeque::new(),
        })
    }
}

struct List {
    next_id: u64,
    entries: VecDeque<Entry>,
}

struct Entry {
    id: u64,
    mask: u32,
    kind: EntryKind,
}

enum EntryKind {
    Shared(Arc<Waiter>),
    Exclusive(Arc<Waiter>),
    Callback(Arc<dyn Wake>),
    ExclusiveCallback(Arc<dyn Wake>),
}

struct Waiter {
    parker: Parker,
    /// Set by the waker. The park token alone is not enough: the condition may itself sleep and eat it.
    woken: AtomicBool,
}

/// What a waker has to do after the list lock is released.
enum Call {
    Thread(Arc<Waiter>),
    Callback(Arc<dyn Wake>),
    ExclusiveCallback(Arc<dyn Wake>),
}

impl Default for WaitQueue {
    fn default() -> Self {
        WaitQueue::new()
    }
}

impl WaitQueue {
    /// An empty queue.
    pub const fn new() -> WaitQueue {
        WaitQueue { inner: OnceLock::new() }
    }

    fn inner(&self) -> &Arc<Inner> {
        self.inner.get_or_init(Arc::default)
    }

    /// Sleeps until `cond` gives a value.
    ///
    /// `cond` runs in the caller's thread, several times, always once after registration; it may take locks and sleep. Its value wins over an interrupt or timeout
    /// that comes at the same time.
    ///
    /// # Errors
    /// `Interrupted` when `how` allows it and the thread's interrupt flag is set (the flag stays set), `TimedOut` at `deadline`.
    pub fn wait_until<R>(
        &self,
        how: Interruptible,
        deadline: Option<Instant>,
        cond: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        self.wait(how, deadline, 0, EntryKind::Shared, cond)
    }

    /// Like [`wait_until`](Self::wait_until), woken only by keys that overlap `mask` (0: by all).
    pub fn wait_until_key<R>(
        &self,
        mask: u32,
        how: Interruptible,
        deadline: Option<Instant>,
        cond: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        self.wait(how, deadline, mask, EntryKind::Shared, cond)
    }

    /// Like [`wait_until`](Self::wait_until), but [`wake_one`](Self::wake_one) wakes such waiters one at a time, first come first
    /// served (`accept(2)`, futexes). A wake-up that meets a waiter which gives up goes on to the next.
    pub fn wait_until_exclusive<R>(
        &self,
        how: Interruptible,
        deadline: Option<Instant>,
        cond: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        self.wait(how, deadline, 0, EntryKind::Exclusive, cond)
    }

    fn wait<R>(
        &self,
        how: Interruptible,
        deadline: Option<Instant>,
        mask: u32,
        kind: fn(Arc<Waiter>) -> EntryKind,
        mut cond: impl FnMut() -> Option<R>,
    ) -> Result<R, WaitError> {
        lockdep::may_sleep();
        if let Some(value) = cond() {
            return Ok(value);
        }
        let inner = self.inner();
        let waiter = Arc::new(Waiter {
            parker: Parker::current(),
            woken: AtomicBool::new(false),
        });
        let mut id = inner.add(mask, kind(waiter.clone()));
        loop {
            if let Some(value) = cond() {
                inner.remove(id);
                return Ok(value);
            }
            let error = if how == Interruptible::Yes && waiter.parker.interrupted() {
                Some(WaitError::Interrupted)
            } else if deadline.is_some_and(|d| Instant::now() >= d) {
                Some(WaitError::TimedOut)
            } else {
                None
            };
            if let Some(error) = error {
                // The condition may have come true while we looked at the clock.
                let value = cond();
                if !inner.remove(id) && value.is_none() {
                    // An exclusive wake-up was meant for us; the next waiter gets it.
                    self.wake_one();
                }
                return value.ok_or(error);
            }
            if !waiter.woken.load(Ordering::Acquire) {
                let _state = waiter.parker.thread().map(|t| t.enter_wait(how));
                waiter.parker.park(deadline);
            }
            if waiter.woken.swap(false, Ordering::AcqRel) && !inner.contains(id) {
                id = inner.add(mask, kind(waiter.clone()));
            }
        }
    }

    /// Wakes every callback and plain waiter, and the first exclusive waiter.
    pub fn wake_one(&self) {
        self.wake(1, 0);
    }

    /// Wakes everybody.
    pub fn wake_all(&self) {
        self.wake(usize::MAX, 0);
    }

    /// Wakes everybody whose mask overlaps `key` (the poll events that became true).
    pub fn wake_key(&self, key: u32) {
        self.wake(usize::MAX, key);
    }

    /// Wakes all callbacks and plain waiters whose mask overlaps `key` (0 overlaps everything), and up to `n` exclusive ones, first
    /// come first served. Returns the number of exclusive waiters woken. Never sleeps; allowed under spin locks.
    pub fn wake(&self, n: usize, key: u32) -> usize {
        self.wake_with(n, key, Parker::unpark)
    }

    /// Like [`wake`](Self::wake) by a thread that is about to sleep, as far as it knows: a woken thread runs on the waker's CPU next,
    /// without waking another CPU. For pipes, local sockets and the like, where two threads take turns.
    pub fn wake_sync(&self, n: usize, key: u32) -> usize {
        self.wake_with(n, key, Parker::unpark_sync)
    }

    fn wake_with(&self, n: usize, key: u32, unpark: fn(&Parker)) -> usize {
        let Some(inner) = self.inner.get() else {
            // Pairs with the fence in `add`: who registers after this sees the condition.
            fence(Ordering::SeqCst);
            return match self.inner.get() {
                Some(inner) => inner.wake(n, key, unpark),
                None => 0,
            };
        };
        inner.wake(n, key, unpark)
    }

    /// Tells `w` about wake-ups that overlap `mask` (0: all) until the registration is dropped.
    pub fn register(&self, mask: u32, w: Arc<dyn Wake>) -> Registration {
        self.registration(mask, EntryKind::Callback(w))
    }

    /// The same for one of several of whom one is enough: a wake-up with a key tells the first of these who takes it, one without (something ended)
    /// tells all.
    pub fn register_exclusive(&self, mask: u32, w: Arc<dyn Wake>) -> Registration {
        self.registration(mask, EntryKind::ExclusiveCallback(w))
    }

    fn registration(&self, mask: u32, kind: EntryKind) -> Registration {
        let inner = self.inner();
        let id = inner.add(mask, kind);
        Registration {
            queue: Arc::downgrade(inner),
            id,
        }
    }

    /// Is anybody waiting or registered? A hint, true at one moment only.
    pub fn has_waiters(&self) -> bool {
        self.inner
            .get()
            .is_some_and(|inner| inner.len.load(Ordering::SeqCst) != 0)
    }
}

impl Inner {
    fn add(&self, mask: u32, kind: EntryKind) -> u64 {
        let mut list = self.list.lock();
        let id = list.next_id;
        list.next_id += 1;
        list.entries.push_back(Entry { id, mask, kind });
        self.len.store(list.entries.len(), Ordering::SeqCst);
        drop(list);
        // The caller looks at its condition next: that look must come after the entry is visible.
        fence(Ordering::SeqCst);
        id
    }

    /// False if a wake-up has taken the entry off already.
    fn remove(&self, id: u64) -> bool {
        let mut list = self.list.lock();
        let Some(at) = list.entries.iter().position(|e| e.id == id) else {
            return false;
        };
        let entry = list.entries.remove(at);
        self.len.store(list.entries.len(), Ordering::SeqCst);
        drop(list);
        // The callback's destructor may do anything: not under the lock.
        drop(entry);
        true
    }

    fn contains(&self, id: u64) -> bool {
        self.list.lock().entries.iter().any(|e| e.id == id)
    }

    fn wake(&self, n: usize, key: u32, unpark: fn(&Parker)) -> usize {
        fence(Ordering::SeqCst);
        if self.len.load(Ordering::SeqCst) == 0 {
            return 0;
        }
        let mut calls: SmallVec<[Call; 8]> = SmallVec::new();
        let mut exclusive = 0;
        let mut list = self.list.lock();
        let mut at = 0;
        while at < list.entries.len() {
            let entry = &list.entries[at];
            let matches = key == 0 || entry.mask == 0 || entry.mask & key != 0;
            if !matches {
                at += 1;
                continue;
            }
            match &entry.kind {
                EntryKind::Callback(callback) => calls.push(Call::Callback(callback.clone())),
                EntryKind::ExclusiveCallback(callback) => calls.push(Call::ExclusiveCallback(callback.clone())),
                EntryKind::Shared(waiter) => calls.push(Call::Thread(waiter.clone())),
                EntryKind::Exclusive(waiter) if exclusive < n => {
                    calls.push(Call::Thread(waiter.clone()));
                    exclusive += 1;
                    list.entries.remove(at);
                    continue;
                }
                EntryKind::Exclusive(_) => {}
            }
            at += 1;
        }
        self.len.store(list.entries.len(), Ordering::SeqCst);
        drop(list);
        let mut is_taken = false;
        for call in calls {
            match call {
                Call::ExclusiveCallback(_) if is_taken => {}
                Call::ExclusiveCallback(callback) => is_taken = callback.wake_exclusive(key) && key != 0,
                Call::Thread(waiter) => {
                    waiter.woken.store(true, Ordering::Release);
                    unpark(&waiter.parker);
                }
                Call::Callback(callback) => callback.wake(key),
            }
        }
        exclusive
    }
}

impl fmt::Debug for WaitQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiters = self.inner.get().map_or(0, |inner| inner.len.load(Ordering::Relaxed));
        f.debug_struct("WaitQueue").field("waiters", &waiters).finish()
    }
}

/// A callback on a [`WaitQueue`]; dropping it takes the callback off. It may outlive the queue.
#[must_use]
pub struct Registration {
    queue: Weak<Inner>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(queue) = self.queue.upgrade() {
            queue.remove(self.id);
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration").field("id", &self.id).finish()
    }
}
