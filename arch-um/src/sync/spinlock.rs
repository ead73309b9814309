//! [`SpinLock`]: the lock for short sections in any context.

use super::lockdep::{self, Kind, Nesting};
use super::order::LockClass;
use super::raw::RawSpin;
use std::cell::UnsafeCell;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};

/// A lock for short critical sections, usable from kernel threads, the I/O thread, the pool and plain host threads.
///
/// A waiter spins briefly and then sleeps on the host (its whole virtual CPU), so the holder must not sleep in the kernel's sense:
/// no [`Mutex`](super::Mutex), no [`WaitQueue::wait_until`](super::WaitQueue::wait_until), no `cond_resched` while a guard lives.
pub struct SpinLock<T: ?Sized> {
    class: &'static LockClass,
    raw: RawSpin,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands the value to one thread at a time.
unsafe impl<T: ?Sized + Send> Sync for SpinLock<T> {}
// SAFETY: owning the lock is owning the value.
unsafe impl<T: ?Sized + Send> Send for SpinLock<T> {}

impl<T> SpinLock<T> {
    /// A free lock of `class`.
    pub const fn new(class: &'static LockClass, value: T) -> SpinLock<T> {
        SpinLock {
            class,
            raw: RawSpin::new(),
            value: UnsafeCell::new(value),
        }
    }

    /// The value, the lock is gone.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> SpinLock<T> {
    /// Takes the lock.
    #[inline]
    pub fn lock(&self) -> SpinLockGuard<'_, T> {
        self.take(Nesting::Ordered)
    }

    /// Takes the lock while another of the same class is held. The caller has a rule that orders the two (say it at the call).
    #[inline]
    pub fn lock_nested(&self) -> SpinLockGuard<'_, T> {
        self.take(Nesting::SameClass)
    }

    #[inline]
    fn take(&self, nesting: Nesting) -> SpinLockGuard<'_, T> {
        lockdep::acquire(self.class, Kind::Spin, nesting, self.addr());
        self.raw.lock();
        lockdep::acquired(self.class, Kind::Spin, self.addr());
        SpinLockGuard {
            lock: self,
            not_send: PhantomData,
        }
    }

    /// Takes the lock if it is free. Not bound to the lock order, because it never waits.
    #[inline]
    pub fn try_lock(&self) -> Option<SpinLockGuard<'_, T>> {
        if !self.raw.try_lock() {
            return None;
        }
        lockdep::acquired(self.class, Kind::Spin, self.addr());
        Some(SpinLockGuard {
            lock: self,
            not_send: PhantomData,
        })
    }

    /// The value of a lock that nobody else can see.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Whether anyone holds it now; only good for diagnostics.
    pub fn is_locked(&self) -> bool {
        self.raw.is_locked()
    }

    fn addr(&self) -> usize {
        (&raw const self.raw) as usize
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for SpinLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(value) => f.debug_tuple("SpinLock").field(&&*value).finish(),
            None => write!(f, "SpinLock({}, held)", self.class.name),
        }
    }
}

/// Holds a [`SpinLock`]; releases it when dropped.
#[must_use]
pub struct SpinLockGuard<'a, T: ?Sized> {
    lock: &'a SpinLock<T>,
    not_send: PhantomData<*mut ()>,
}

// SAFETY: sharing the guard shares only `&T`.
unsafe impl<T: ?Sized + Sync> Sync for SpinLockGuard<'_, T> {}

impl<T: ?Sized> Deref for SpinLockGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for SpinLockGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for SpinLockGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        lockdep::released(self.lock.addr());
        self.lock.raw.unlock();
    }
}
