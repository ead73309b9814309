//! The futex lock under all others, and the lock for this room's own insides.
//!
//! [`RawSpin`] spins briefly and then waits on a futex, because the host may have taken the holder off its CPU. [`RawLock`] is a
//! `RawSpin` with data and without lock order: for leaves of this room that call nothing while they are held.

use std::cell::UnsafeCell;
use std::hint;
use std::ops::{Deref, DerefMut};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

const FREE: u32 = 0;
const HELD: u32 = 1;
/// Held, and someone may sleep on the word.
const CONTENDED: u32 = 2;

/// Spinning longer than a typical critical section only burns the CPU that the holder may need.
const SPINS: u32 = 100;

/// Sleeps while `word` is `expected`. Returns on a wake-up, a signal or a change; callers look again.
pub(crate) fn futex_wait(word: &AtomicU32, expected: u32) {
    // SAFETY: the word lives through the call, the kernel only reads it.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
            expected,
            ptr::null::<libc::timespec>(),
        );
    }
}

/// Wakes up to `n` sleepers of [`futex_wait`].
pub(crate) fn futex_wake(word: &AtomicU32, n: i32) {
    // SAFETY: only the address is used.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
            n,
        );
    }
}

/// A lock word.
pub(crate) struct RawSpin(AtomicU32);

impl RawSpin {
    pub(crate) const fn new() -> RawSpin {
        RawSpin(AtomicU32::new(FREE))
    }

    #[inline]
    pub(crate) fn try_lock(&self) -> bool {
        self.0
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    #[inline]
    pub(crate) fn lock(&self) {
        if !self.try_lock() {
            self.lock_slow();
        }
    }

    #[cold]
    fn lock_slow(&self) {
        for _ in 0..SPINS {
            if self.0.load(Ordering::Relaxed) == FREE && self.try_lock() {
                return;
            }
            hint::spin_loop();
        }
        // From here on the word says CONTENDED when we get it: others may sleep behind us.
        while self.0.swap(CONTENDED, Ordering::Acquire) != FREE {
            futex_wait(&self.0, CONTENDED);
        }
    }

    /// Only by the holder.
    #[inline]
    pub(crate) fn unlock(&self) {
        if self.0.swap(FREE, Ordering::Release) == CONTENDED {
            futex_wake(&self.0, 1);
        }
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.0.load(Ordering::Relaxed) != FREE
    }
}

/// A leaf lock of this room: no class, nothing else is taken or called under it.
pub(crate) struct RawLock<T> {
    raw: RawSpin,
    value: UnsafeCell<T>,
}

// SAFETY: the lock hands the value to one thread at a time.
unsafe impl<T: Send> Sync for RawLock<T> {}
// SAFETY: owning the lock is owning the value.
unsafe impl<T: Send> Send for RawLock<T> {}

impl<T> RawLock<T> {
    pub(crate) const fn new(value: T) -> RawLock<T> {
        RawLock {
            raw: RawSpin::new(),
            value: UnsafeCell::new(value),
        }
    }

    #[inline]
    pub(crate) fn lock(&self) -> RawGuard<'_, T> {
        self.raw.lock();
        RawGuard { lock: self }
    }

    /// The value without the lock, for code that runs when every other thread has stopped.
    pub(crate) fn peek(&self) -> *const T {
        self.value.get()
    }

    /// For the ways out of the kernel: waits a bounded time only, because the holder may be dead.
    pub(crate) fn lock_bounded(&self) -> Option<RawGuard<'_, T>> {
        for _ in 0..200 {
            if self.raw.try_lock() {
                return Some(RawGuard { lock: self });
            }
            std::thread::sleep(std::time::Duration::from_micros(500));
        }
        None
    }
}

/// Holds a [`RawLock`].
pub(crate) struct RawGuard<'a, T> {
    lock: &'a RawLock<T>,
}

impl<T> Deref for RawGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        // SAFETY: the guard holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for RawGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the guard holds the lock.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for RawGuard<'_, T> {
    fn drop(&mut self) {
        self.lock.raw.unlock();
    }
}
