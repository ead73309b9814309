//! Blocking host calls on host threads, so that a virtual CPU never stalls on one.
//!
//! Threads start when there is more work than idle threads, up to [`MAX_THREADS`], and end after a while without work.

use crate::sync::lockdep;
use crate::thread;
use std::cell::UnsafeCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

/// More blocking calls than this at a time wait for each other.
const MAX_THREADS: usize = 16;
/// A thread without work for this long ends.
const LINGER: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

struct Pool {
    jobs: VecDeque<Job>,
    threads: usize,
    idle: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    jobs: VecDeque::new(),
    threads: 0,
    idle: 0,
});
static WORK: Condvar = Condvar::new();

fn lock() -> MutexGuard<'static, Pool> {
    // Nothing panics under the lock.
    POOL.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Where a pool thread leaves the value for the kernel thread that waits for it.
struct Slot<R> {
    value: UnsafeCell<Option<R>>,
    done: AtomicBool,
}

// SAFETY: the value is written before `done` is set and read after; never both at a time.
unsafe impl<R: Send> Sync for Slot<R> {}

/// Runs `f` on a pool thread and returns its value; the calling kernel thread sleeps meanwhile (uninterruptibly). On a plain host thread
/// `f` runs at once, here.
pub fn run<R: Send>(f: impl FnOnce() -> R + Send) -> R {
    lockdep::may_sleep();
    let Some(caller) = thread::try_current() else {
        return f();
    };
    let slot = Slot {
        value: UnsafeCell::new(None),
        done: AtomicBool::new(false),
    };
    let shared = &slot;
    let waker = caller.clone();
    let job: Box<dyn FnOnce() + Send + '_> = Box::new(move || {
        let value = f();
        // SAFETY: `done` is not set, so the caller does not look.
        unsafe { *shared.value.get() = Some(value) };
        shared.done.store(true, Ordering::Release);
        // From here on `shared` may be gone; the caller's thread is our own reference.
        waker.unpark();
    });
    // SAFETY: only the lifetime changes. This function does not return (nor unwind: parking does not) before the job has set `done`,
    // after which the job touches nothing borrowed.
    let job = unsafe { std::mem::transmute::<Box<dyn FnOnce() + Send + '_>, Job>(job) };
    submit(job);
    let _state = caller.enter_wait(crate::sync::Interruptible::No);
    while !slot.done.load(Ordering::Acquire) {
        thread::park();
    }
    match slot.value.into_inner() {
        Some(value) => value,
        None => unreachable!("the job sets the value before `done`"),
    }
}

/// Runs `f` on a pool thread some time. Order between submissions is not kept. If the host gives no thread at all, `f` runs here.
pub fn submit(f: Box<dyn FnOnce() + Send>) {
    let mut pool = lock();
    pool.jobs.push_back(f);
    if pool.idle >= pool.jobs.len() {
        drop(pool);
        WORK.notify_one();
        return;
    }
    if pool.threads >= MAX_THREADS {
        return;
    }
    pool.threads += 1;
    drop(pool);
    let name = std::thread::Builder::new().name("pool".into()).stack_size(256 << 10);
    if name.spawn(work).is_err() {
        let mut pool = lock();
        pool.threads -= 1;
        // Others will get to it; with no others it is ours.
        let job = if pool.threads == 0 { pool.jobs.pop_front() } else { None };
        drop(pool);
        if let Some(job) = job {
            job();
        }
    }
}

fn work() {
    crate::cpu::unpin();
    crate::exit::prepare_host_thread();
    let mut pool = lock();
    loop {
        if let Some(job) = pool.jobs.pop_front() {
            drop(pool);
            job();
            pool = lock();
            continue;
        }
        pool.idle += 1;
        let (guard, timeout) = WORK
            .wait_timeout(pool, LINGER)
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        pool = guard;
        pool.idle -= 1;
        if timeout.timed_out() && pool.jobs.is_empty() {
            pool.threads -= 1;
            return;
        }
    }
}
