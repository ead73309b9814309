//! [`RwLock`]: the sleeping readers-writer lock, first come first served.
//!
//! A new reader waits behind a waiting writer, so writers do not starve; a release hands the lock to the next writer or to all readers
//! up to the next writer.

use super::lockdep::{self, Kind, Nesting};
use super::order::LockClass;
use super::parker::Parker;
use super::raw::RawLock;
use super::wait::{Interruptible, WaitError};
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A writer holds it.
const WRITER: u32 = 1 << 31;
/// The queue is not empty: everybody goes the slow way. Changed only under the queue's lock.
const QUEUED: u32 = 1 << 30;
/// Number of readers.
const READERS: u32 = QUEUED - 1;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// A sleeping lock for many readers or one writer. Same users as [`Mutex`](super::Mutex).
///
/// Reading twice in one thread can deadlock behind a waiting writer; the lock checker reports it.
pub struct RwLock<T: ?Sized> {
    class: &'static LockClass,
    state: AtomicU32,
    queue: RawLock<VecDeque<Arc<Waiter>>>,
    value: UnsafeCell<T>,
}

struct Waiter {
    parker: Parker,
    access: Access,
    granted: AtomicBool,
}

// SAFETY: readers share `&T`, a writer has the value alone.
unsafe impl<T: ?Sized + Send + Sync> Sync for RwLock<T> {}
// SAFETY: owning the lock is owning the value.
unsafe impl<T: ?Sized + Send> Send for RwLock<T> {}

impl<T> RwLock<T> {
    /// A free lock of `class`.
    pub const fn new(class: &'static LockClass, value: T) -> RwLock<T> {
        RwLock {
            class,
            state: AtomicU32::new(0),
            queue: RawLock::new(VecDeque::new()),
            value: UnsafeCell::new(value),
        }
    }

    /// The value, the lock is gone.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> RwLock<T> {
    /// Waits for reading.
    #[inline]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        match self.take(Access::Read, Nesting::Ordered, Interruptible::No) {
            Ok(()) => self.read_guard(),
            Err(_) => unreachable!("an uninterruptible lock cannot be interrupted"),
        }
    }

    /// Waits for writing.
    #[inline]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        match self.take(Access::Write, Nesting::Ordered, Interruptible::No) {
            Ok(()) => self.write_guard(),
            Err(_) => unreachable!("an uninterruptible lock cannot be interrupted"),
        }
    }

    /// Waits for reading while another lock of the class is held; the caller orders the two.
    pub fn read_nested(&self) -> RwLockReadGuard<'_, T> {
        match self.take(Access::Read, Nesting::SameClass, Interruptible::No) {
            Ok(()) => self.read_guard(),
            Err(_) => unreachable!("an uninterruptible lock cannot be interrupted"),
        }
    }

    /// Waits for writing while another lock of the class is held; the caller orders the two.
    pub fn write_nested(&self) -> RwLockWriteGuard<'_, T> {
        match self.take(Access::Write, Nesting::SameClass, Interruptible::No) {
            Ok(()) => self.write_guard(),
            Err(_) => unreachable!("an uninterruptible lock cannot be interrupted"),
        }
    }

    /// Waits for reading unless a signal comes first.
    ///
    /// # Errors
    /// `WaitError::Interrupted`; the interrupt flag stays set.
    pub fn read_interruptible(&self) -> Result<RwLockReadGuard<'_, T>, WaitError> {
        self.take(Access::Read, Nesting::Ordered, Interruptible::Yes)?;
        Ok(self.read_guard())
    }

    /// Waits for writing unless a signal comes first.
    ///
    /// # Errors
    /// `WaitError::Interrupted`; the interrupt flag stays set.
    pub fn write_interruptible(&self) -> Result<RwLockWriteGuard<'_, T>, WaitError> {
        self.take(Access::Write, Nesting::Ordered, Interruptible::Yes)?;
        Ok(self.write_guard())
    }

    /// Reads if no writer holds or waits for it.
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.try_take(Access::Read).then(|| self.read_guard())
    }

    /// Writes if it is free.
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        self.try_take(Access::Write).then(|| self.write_guard())
    }

    /// The value of a lock that nobody else can see.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    fn read_guard(&self) -> RwLockReadGuard<'_, T> {
        lockdep::acquired(self.class, Kind::Sleeping, self.addr());
        RwLockReadGuard {
            lock: self,
            not_send: PhantomData,
        }
    }

    fn write_guard(&self) -> RwLockWriteGuard<'_, T> {
        lockdep::acquired(self.class, Kind::Sleeping, self.addr());
        RwLockWriteGuard {
            lock: self,
            not_send: PhantomData,
        }
    }

    /// One try with an empty queue.
    #[inline]
    fn try_take(&self, access: Access) -> bool {
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let next = match access {
                Access::Read if state & (WRITER | QUEUED) == 0 => state + 1,
                Access::Write if state == 0 => WRITER,
                _ => return false,
            };
            match self
                .state
                .compare_exchange_weak(state, next, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
    }

    #[inline]
    fn take(&self, access: Access, nesting: Nesting, how: Interruptible) -> Result<(), WaitError> {
        lockdep::acquire(self.class, Kind::Sleeping, nesting, self.addr());
        if self.try_take(access) {
            Ok(())
        } else {
            self.wait(access, how)
        }
    }

    #[cold]
    fn wait(&self, access: Access, how: Interruptible) -> Result<(), WaitError> {
        let waiter = Arc::new(Waiter {
            parker: Parker::current(),
            access,
            granted: AtomicBool::new(false),
        });
        let mut queue = self.queue.lock();
        // With QUEUED set, the last holder must come to the queue. It may have left just before: then grant at once.
        queue.push_back(waiter.clone());
        self.state.fetch_or(QUEUED, Ordering::Relaxed);
        self.grant(queue);
        while !waiter.granted.load(Ordering::Acquire) {
            if how == Interruptible::Yes && waiter.parker.interrupted() {
                let mut queue = self.queue.lock();
                if let Some(at) = queue.iter().position(|w| Arc::ptr_eq(w, &waiter)) {
                    queue.remove(at);
                    // A writer that gives up may let the readers behind it in.
                    self.grant(queue);
                    return Err(WaitError::Interrupted);
                }
                continue;
            }
            let _state = waiter.parker.thread().map(|t| t.enter_wait(how));
            waiter.parker.park(None);
        }
        Ok(())
    }

    /// Gives the lock to whoever is first, if it is free for him.
    fn grant(&self, mut queue: super::raw::RawGuard<'_, VecDeque<Arc<Waiter>>>) {
        let mut lucky: smallvec::SmallVec<[Arc<Waiter>; 4]> = smallvec::SmallVec::new();
        while let Some(first) = queue.front() {
            // While QUEUED is set nobody takes the lock without us; holders may only leave.
            let state = self.state.load(Ordering::Acquire);
            let free = match first.access {
                Access::Read => state & WRITER == 0,
                Access::Write => state & (WRITER | READERS) == 0,
            };
            if !free {
                break;
            }
            match first.access {
                Access::Read => self.state.fetch_add(1, Ordering::Acquire),
                Access::Write => self.state.fetch_or(WRITER, Ordering::Acquire),
            };
            lucky.extend(queue.pop_front());
        }
        if queue.is_empty() {
            self.state.fetch_and(!QUEUED, Ordering::Relaxed);
        }
        drop(queue);
        for waiter in lucky {
            waiter.granted.store(true, Ordering::Release);
            waiter.parker.unpark();
        }
    }

    #[inline]
    fn release(&self, access: Access) {
        let before = match access {
            Access::Read => self.state.fetch_sub(1, Ordering::Release),
            Access::Write => self.state.fetch_and(!WRITER, Ordering::Release),
        };
        let last = access == Access::Write || before & READERS == 1;
        if last && before & QUEUED != 0 {
            self.grant(self.queue.lock());
        }
    }

    fn addr(&self) -> usize {
        (&raw const self.state) as usize
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_read() {
            Some(value) => f.debug_tuple("RwLock").field(&&*value).finish(),
            None => write!(f, "RwLock({}, held)", self.class.name),
        }
    }
}

/// Reads through a [`RwLock`]; releases it when dropped.
#[must_use]
pub struct RwLockReadGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    not_send: PhantomData<*mut ()>,
}

/// Writes through a [`RwLock`]; releases it when dropped.
#[must_use]
pub struct RwLockWriteGuard<'a, T: ?Sized> {
    lock: &'a RwLock<T>,
    not_send: PhantomData<*mut ()>,
}

// SAFETY: sharing the guard shares only `&T`.
unsafe impl<T: ?Sized + Sync> Sync for RwLockReadGuard<'_, T> {}
// SAFETY: sharing the guard shares only `&T`.
unsafe impl<T: ?Sized + Sync> Sync for RwLockWriteGuard<'_, T> {}

impl<'a, T: ?Sized> RwLockWriteGuard<'a, T> {
    /// Becomes a reader without letting another writer in between.
    pub fn downgrade(self) -> RwLockReadGuard<'a, T> {
        let lock = self.lock;
        std::mem::forget(self);
        // WRITER off and one reader on, in one step.
        let before = lock.state.fetch_sub(WRITER - 1, Ordering::Release);
        if before & QUEUED != 0 {
            lock.grant(lock.queue.lock());
        }
        RwLockReadGuard {
            lock,
            not_send: PhantomData,
        }
    }
}

impl<T: ?Sized> Deref for RwLockReadGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock for reading.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> Deref for RwLockWriteGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock for writing.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for RwLockWriteGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock for writing.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for RwLockReadGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        lockdep::released(self.lock.addr());
        self.lock.release(Access::Read);
    }
}

impl<T: ?Sized> Drop for RwLockWriteGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        lockdep::released(self.lock.addr());
        self.lock.release(Access::Write);
    }
}
