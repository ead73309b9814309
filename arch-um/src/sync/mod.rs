//! Locks and waiting.
//!
//! * [`SpinLock`]: short critical sections, any context (kernel threads, I/O thread, pool). Never held across a sleep.
//! * [`Mutex`], [`RwLock`]: sleeping locks. A waiter gives its virtual CPU away.
//! * [`WaitQueue`]: sleep until a condition holds; poll and epoll register callbacks on the same queue.
//! * [`order`]: every lock class, outer first. Debug builds (and the feature `lockdep`) check the order while running.

pub(crate) mod lockdep;
mod mutex;
pub mod order;
mod parker;
pub(crate) mod raw;
mod rwlock;
mod spinlock;
mod wait;

pub use lockdep::ENABLED as LOCKDEP;
pub use mutex::{Mutex, MutexGuard};
pub use order::LockClass;
pub use rwlock::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use spin::{LazyLock as Lazy, Once};
pub use spinlock::{SpinLock, SpinLockGuard};
pub use wait::{Interruptible, Registration, WaitError, WaitQueue, Wake};
