//! [`Mutex`]: the sleeping lock.
//!
//! A free lock is one compare-and-swap. A waiter queues up and sleeps; a running thread may still take a lock that has just become
//! free (that keeps throughput up), but a waiter that lost once gets the lock handed over at the next release (that keeps it fair).

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

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and the queue may not be empty.
const WAITED: u32 = 2;

/// A lock whose waiters sleep. For kernel threads; pool and plain host threads may use it too and then block on the host. Not for the
/// I/O thread, timers and wake callbacks, which may not sleep.
pub struct Mutex<T: ?Sized> {
    class: &'static LockClass,
    state: AtomicU32,
    queue: RawLock<VecDeque<Arc<Waiter>>>,
    value: UnsafeCell<T>,
}

struct Waiter {
    parker: Parker,
    /// Off the queue: look at the lock again.
    woken: AtomicBool,
    /// The lock is ours: the releasing thread left it held for us.
    granted: AtomicBool,
    /// Woken once in vain: hand the lock over next time.
    patient: AtomicBool,
}

// SAFETY: the lock hands the value to one thread at a time.
unsafe impl<T: ?Sized + Send> Sync for Mutex<T> {}
// SAFETY: owning the lock is owning the value.
unsafe impl<T: ?Sized + Send> Send for Mutex<T> {}

impl<T> Mutex<T> {
    /// A free lock of `class`.
    pub const fn new(class: &'static LockClass, value: T) -> Mutex<T> {
        Mutex {
            class,
            state: AtomicU32::new(FREE),
            queue: RawLock::new(VecDeque::new()),
            value: UnsafeCell::new(value),
        }
    }

    /// The value, the lock is gone.
    pub fn into_inner(self) -> T {
        self.value.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock, sleeping as long as it takes.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        self.take_forever(Nesting::Ordered)
    }

    /// Takes the lock while another of the same class is held. The caller has a rule that orders the two (say it at the call).
    pub fn lock_nested(&self) -> MutexGuard<'_, T> {
        self.take_forever(Nesting::SameClass)
    }

    /// Takes the lock unless a signal comes first.
    ///
    /// # Errors
    /// `WaitError::Interrupted`; the interrupt flag stays set.
    pub fn lock_interruptible(&self) -> Result<MutexGuard<'_, T>, WaitError> {
        self.take(Nesting::Ordered, Interruptible::Yes)
    }

    /// Takes the lock if it is free. Not bound to the lock order, because it never waits.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.state
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
            .ok()?;
        Some(self.guard())
    }

    /// The value of a lock that nobody else can see.
    pub fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Whether anyone holds it now; only good for diagnostics.
    pub fn is_locked(&self) -> bool {
        self.state.load(Ordering::Relaxed) != FREE
    }

    #[inline]
    fn take_forever(&self, nesting: Nesting) -> MutexGuard<'_, T> {
        match self.take(nesting, Interruptible::No) {
            Ok(guard) => guard,
            Err(_) => unreachable!("an uninterruptible lock cannot be interrupted"),
        }
    }

    #[inline]
    fn take(&self, nesting: Nesting, how: Interruptible) -> Result<MutexGuard<'_, T>, WaitError> {
        lockdep::acquire(self.class, Kind::Sleeping, nesting, self.addr());
        if self
            .state
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            self.wait(how)?;
        }
        Ok(self.guard())
    }

    fn guard(&self) -> MutexGuard<'_, T> {
        lockdep::acquired(self.class, Kind::Sleeping, self.addr());
        MutexGuard {
            lock: self,
            not_send: PhantomData,
        }
    }

    #[cold]
    fn wait(&self, how: Interruptible) -> Result<(), WaitError> {
        let waiter = Arc::new(Waiter {
            parker: Parker::current(),
            woken: AtomicBool::new(false),
            granted: AtomicBool::new(false),
            patient: AtomicBool::new(false),
        });
        loop {
            let mut queue = self.queue.lock();
            // The word says WAITED before we are asleep, so the releasing thread looks at the queue (and needs its lock for that).
            if self.state.swap(WAITED, Ordering::Acquire) == FREE {
                if queue.is_empty() {
                    // Nobody behind us. Only a thread that holds the queue lock sets WAITED, so none is lost.
                    self.state.store(HELD, Ordering::Relaxed);
                }
                return Ok(());
            }
            waiter.woken.store(false, Ordering::Relaxed);
            match waiter.patient.load(Ordering::Relaxed) {
                true => queue.push_front(waiter.clone()),
                false => queue.push_back(waiter.clone()),
            }
            drop(queue);
            while !waiter.woken.load(Ordering::Acquire) {
                if how == Interruptible::Yes && waiter.parker.interrupted() && self.leave(&waiter) {
                    return Err(WaitError::Interrupted);
                }
                let _state = waiter.parker.thread().map(|t| t.enter_wait(how));
                waiter.parker.park(None);
            }
            if waiter.granted.load(Ordering::Acquire) {
                return Ok(());
            }
            waiter.patient.store(true, Ordering::Relaxed);
        }
    }

    /// Takes an interrupted waiter off the queue. False if it has been woken meanwhile: then the wake-up must be used.
    fn leave(&self, waiter: &Arc<Waiter>) -> bool {
        let mut queue = self.queue.lock();
        let Some(at) = queue.iter().position(|w| Arc::ptr_eq(w, waiter)) else {
            return false;
        };
        queue.remove(at);
        true
    }

    #[inline]
    fn unlock(&self) {
        if self
            .state
            .compare_exchange(HELD, FREE, Ordering::Release, Ordering::Relaxed)
            .is_err()
        {
            self.unlock_waited();
        }
    }

    #[cold]
    fn unlock_waited(&self) {
        let mut queue = self.queue.lock();
        let Some(next) = queue.pop_front() else {
            self.state.store(FREE, Ordering::Release);
            return;
        };
        if next.patient.load(Ordering::Relaxed) {
            next.granted.store(true, Ordering::Release);
            self.state
                .store(if queue.is_empty() { HELD } else { WAITED }, Ordering::Release);
        } else {
            self.state.store(FREE, Ordering::Release);
        }
        drop(queue);
        next.woken.store(true, Ordering::Release);
        next.parker.unpark();
    }

    fn addr(&self) -> usize {
        (&raw const self.state) as usize
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.try_lock() {
            Some(value) => f.debug_tuple("Mutex").field(&&*value).finish(),
            None => write!(f, "Mutex({}, held)", self.class.name),
        }
    }
}

/// Holds a [`Mutex`]; releases it when dropped.
#[must_use]
pub struct MutexGuard<'a, T: ?Sized> {
    lock: &'a Mutex<T>,
    not_send: PhantomData<*mut ()>,
}

// SAFETY: sharing the guard shares only `&T`.
unsafe impl<T: ?Sized + Sync> Sync for MutexGuard<'_, T> {}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;
    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        lockdep::released(self.lock.addr());
        self.lock.unlock();
    }
}
