//! Kernel threads: stacks that are switched on virtual CPUs.
//!
//! A [`Thread`] is ready, running, parked or dead; [`park`] and [`Thread::unpark`] are the only way to sleep and wake, everything in
//! [`crate::sync`] is built on them. What can be asked of a thread is in `attributes.rs`. Who runs next is decided in [`crate::sched`]; the switch is in `switch.rs`.
//!
//! A thread leaves its CPU before another CPU may continue it: `on_cpu` is true from the pick until the *next* context on that CPU has
//! run `sched::finish_switch`. A thread woken in between is queued on that same CPU.

mod attributes;
mod stack;
mod switch;

use crate::cpu::{CpuId, CpuMask, this_cpu};
use crate::errno::Errno;
use crate::sched::{self, Enqueue};
use crate::sync::lockdep::{self, HeldLocks};
use crate::sync::raw::RawLock;
use crate::sync::{Interruptible, WaitQueue};
use crate::time::{Instant, Timer};
use stack::Stack;
use std::any::Any;
use std::cell::{RefCell, UnsafeCell};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// Shared reference to a kernel thread.
pub type ThreadRef = Arc<Thread>;

/// Ready or running.
const RUNNABLE: u32 = 0;
/// Ready or running, and the next park returns at once.
const NOTIFIED: u32 = 1;
/// Asleep, or about to be.
const PARKED: u32 = 2;
/// Its function has returned.
const DEAD: u32 = 3;

/// A kernel thread. Exists only inside an `Arc`.
pub struct Thread {
    id: u64,
    name: RawLock<String>,
    state: AtomicU32,
    /// See the head of this file.
    on_cpu: AtomicBool,
    cpu: AtomicU32,
    /// Leaves the CPU for one that its affinity allows: enqueue it when it is off.
    pub(crate) migrate: AtomicBool,
    /// Left its CPU to one that will soon sleep, and stays on its queue.
    pub(crate) stands_aside: AtomicBool,
    affinity: AtomicU64,
    nice: AtomicI32,
    interrupt: AtomicBool,
    /// State letter while parked.
    wait: AtomicU8,
    runtime: AtomicU64,
    user: AtomicU64,
    /// When the present run of user code began, in cycles; 0: there is none.
    user_since: AtomicU64,
    voluntary: AtomicU64,
    involuntary: AtomicU64,
    local: OnceLock<Arc<dyn Any + Send + Sync>>,
    dead: WaitQueue,
    alarm: OnceLock<Timer>,
    /// For the scheduling policy: virtual runtime in ns, and the queue it is relative to.
    pub(crate) vruntime: AtomicU64,
    pub(crate) vqueue: AtomicU32,
    own: Own,
}

/// What only the running thread itself, or the CPU that switches it, touches.
struct Own {
    rsp: UnsafeCell<usize>,
    stack: UnsafeCell<Option<Stack>>,
    entry: UnsafeCell<Option<Box<dyn FnOnce() + Send>>>,
    held: UnsafeCell<HeldLocks>,
}

// SAFETY: `Own` is reached only by the thread itself while it runs and by the CPU that switches from or to it; `on_cpu` orders the two.
unsafe impl Sync for Own {}
// SAFETY: as above; the closure inside is `Send`.
unsafe impl Send for Own {}

/// Every thread that lives, by id: they own themselves until they end.
static THREADS: RawLock<BTreeMap<u64, ThreadRef>> = RawLock::new(BTreeMap::new());
/// Ended threads whose last references go where destructors may run: the next spawn.
static ENDED: RawLock<Vec<ThreadRef>> = RawLock::new(Vec::new());
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// Makes a kernel thread that runs `f`, ready to run.
///
/// # Errors
/// `EAGAIN` without memory for a stack.
pub fn spawn(name: &str, f: Box<dyn FnOnce() + Send>) -> Result<ThreadRef, Errno> {
    let thread = create(name, f)?;
    sched::wake_up(thread.clone(), Enqueue::Spawn);
    Ok(thread)
}

/// A kernel thread that is not started: [`Thread::start`] makes it ready. For those who must publish it first.
///
/// # Errors
/// `EAGAIN` without memory for a stack.
pub fn create(name: &str, f: Box<dyn FnOnce() + Send>) -> Result<ThreadRef, Errno> {
    drop(std::mem::take(&mut *ENDED.lock()));
    let stack = Stack::new()?;
    let top = stack.top();
    let thread = Arc::new(Thread {
        id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
        name: RawLock::new(name.into()),
        state: AtomicU32::new(RUNNABLE),
        on_cpu: AtomicBool::new(false),
        cpu: AtomicU32::new(crate::cpu::current().0),
        migrate: AtomicBool::new(false),
        stands_aside: AtomicBool::new(false),
        affinity: AtomicU64::new(with_current(|t| t.map_or(CpuMask::ALL, Thread::affinity)).0),
        nice: AtomicI32::new(with_current(|t| t.map_or(0, Thread::nice))),
        interrupt: AtomicBool::new(false),
        wait: AtomicU8::new(b'S'),
        runtime: AtomicU64::new(0),
        user: AtomicU64::new(0),
        user_since: AtomicU64::new(0),
        voluntary: AtomicU64::new(0),
        involuntary: AtomicU64::new(0),
        local: OnceLock::new(),
        dead: WaitQueue::new(),
        alarm: OnceLock::new(),
        vruntime: AtomicU64::new(with_current(|t| t.map_or(0, |t| t.vruntime.load(Ordering::Relaxed)))),
        vqueue: AtomicU32::new(with_current(|t| t.map_or(0, |t| t.vqueue.load(Ordering::Relaxed)))),
        own: Own {
            rsp: UnsafeCell::new(0),
            stack: UnsafeCell::new(Some(stack)),
            entry: UnsafeCell::new(Some(f)),
            held: UnsafeCell::new(HeldLocks::new()),
        },
    });
    // SAFETY: the stack is new and belongs to this thread, which nobody else has seen.
    unsafe { *thread.own.rsp.get() = switch::initial_frame(top, Arc::as_ptr(&thread)) };
    THREADS.lock().insert(thread.id, thread.clone());
    Ok(thread)
}

/// The running kernel thread. Panics on plain host threads.
pub fn current() -> ThreadRef {
    try_current().expect("a kernel thread is running")
}

/// The running kernel thread; `None` on plain host threads (I/O thread, pool, tests).
pub fn try_current() -> Option<ThreadRef> {
    with_current(|thread| thread.map(Thread::arc))
}

/// Calls `f` with the running kernel thread, without touching its reference count: the cheap way to find the current task.
/// `None` on plain host threads.
pub fn with_current<R>(f: impl FnOnce(Option<&Thread>) -> R) -> R {
    let current = this_cpu().map_or(std::ptr::null(), |cpu| cpu.current());
    // SAFETY: the CPU holds a reference to what it runs, and that is us until we return.
    f(unsafe { current.as_ref() })
}

/// All live kernel threads, by id.
pub fn list() -> Vec<ThreadRef> {
    THREADS.lock().values().cloned().collect()
}

/// Sleeps until [`Thread::unpark`]; returns at once if that came before (the token does not add up). May return for no reason: callers
/// look at their condition in a loop. With the lock checker on, panics if a spin lock is held. Only for kernel threads.
pub fn park() {
    lockdep::may_sleep();
    with_current(|thread| thread.expect("a kernel thread parks").park_self());
}

/// Lets others run that are ready; returns at once if there are none. Nothing on plain host threads.
pub fn yield_now() {
    lockdep::may_sleep();
    if this_cpu().is_some_and(|cpu| !cpu.current().is_null()) {
        sched::yield_current();
    }
}

/// Lets the thread go first that this one has just woken with [`Thread::unpark_sync`], if it waits for this CPU. Nothing on plain host threads.
pub fn stand_aside() {
    lockdep::may_sleep();
    if this_cpu().is_some_and(|cpu| !cpu.current().is_null()) {
        sched::stand_aside();
    }
}

/// Sleeps until `deadline`, uninterruptibly.
pub fn sleep_until(deadline: Instant) {
    let queue = WaitQueue::new();
    let _timed_out = queue.wait_until(Interruptible::No, Some(deadline), || None::<()>);
}

impl Thread {
    /// A counted reference to this thread.
    pub(crate) fn arc(&self) -> ThreadRef {
        // SAFETY: every `Thread` lives in an `Arc` (`create` is the only constructor), and `&self` keeps it alive here.
        unsafe {
            Arc::increment_strong_count(self);
            Arc::from_raw(self)
        }
    }

    /// Makes a thread from [`create`] ready. Once.
    pub fn start(&self) {
        sched::wake_up(self.arc(), Enqueue::Spawn);
    }

    /// As [`start`](Self::start), by a thread that is about to sleep: the new one should run here, next (`vfork`).
    pub fn start_sync(&self) {
        sched::wake_up(self.arc(), Enqueue::SpawnSync);
    }

    fn park_self(&self) {
        if self
            .state
            .compare_exchange(NOTIFIED, RUNNABLE, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
        {
            return;
        }
        match self
            .state
            .compare_exchange(RUNNABLE, PARKED, Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => {
                self.voluntary.fetch_add(1, Ordering::Relaxed);
                sched::leave_cpu();
            }
            // The token came in between.
            Err(_) => self.state.store(RUNNABLE, Ordering::Relaxed),
        }
    }

    /// Ends the thread's [`park`], or its next one. Any context, also under spin locks.
    pub fn unpark(&self) {
        self.wake(Enqueue::Wake);
    }

    /// Like [`unpark`](Self::unpark) by a thread that is about to sleep: the woken one should run here, next (pipes, local sockets).
    pub fn unpark_sync(&self) {
        self.wake(Enqueue::WakeSync);
    }

    fn wake(&self, why: Enqueue) {
        let mut state = self.state.load(Ordering::Relaxed);
        loop {
            let next = match state {
                RUNNABLE => NOTIFIED,
                PARKED => RUNNABLE,
                // The writes before this call must be seen by the park that takes the token already there.
                NOTIFIED => NOTIFIED,
                _ => return,
            };
            match self
                .state
                .compare_exchange_weak(state, next, Ordering::AcqRel, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => state = now,
            }
        }
        if state == PARKED {
            sched::wake_up(self.arc(), why);
        }
    }

    /// Sleeps until unparked or `deadline`.
    pub(crate) fn park_until(self: &Arc<Self>, deadline: Instant) {
        lockdep::may_sleep();
        let alarm = self.alarm.get_or_init(|| {
            let me = Arc::downgrade(self);
            Timer::new(Arc::new(move || {
                if let Some(thread) = me.upgrade() {
                    thread.unpark();
                }
            }))
        });
        alarm.set(deadline);
        self.park_self();
        alarm.cancel();
    }

    /// Sets the interrupt flag, ends an interruptible wait, and kicks the thread if it runs user code. Any context.
    pub fn interrupt(&self) {
        self.interrupt.store(true, Ordering::SeqCst);
        self.unpark();
        crate::cpu::kick_thread(self);
    }

    /// Is the interrupt flag set?
    #[inline]
    pub fn interrupted(&self) -> bool {
        self.interrupt.load(Ordering::SeqCst)
    }

    /// Clears the interrupt flag. Look for signals after this, not before.
    pub fn clear_interrupt(&self) {
        self.interrupt.store(false, Ordering::SeqCst);
    }

    /// Waits until its function has returned.
    pub fn join(&self) {
        let _never = self
            .dead
            .wait_until(Interruptible::No, None, || self.is_dead().then_some(()));
    }

    /// Says in `/proc` how the thread sleeps until the value is dropped.
    pub(crate) fn enter_wait(&self, how: Interruptible) -> WaitState<'_> {
        let letter = match how {
            Interruptible::Yes => b'S',
            Interruptible::No => b'D',
        };
        self.wait.store(letter, Ordering::Relaxed);
        WaitState(self)
    }

    /// The fault handler asks whether `addr` is below this thread's stack.
    pub(crate) fn guard_contains(&self, addr: usize) -> bool {
        // SAFETY: called on the CPU that runs the thread, which owns `stack`.
        unsafe { (*self.own.stack.get()).as_ref() }.is_some_and(|stack| stack.guard_contains(addr))
    }

    /// The name for the fault handler: no allocation, and no long wait for the lock.
    pub(crate) fn with_name_bounded<R>(&self, f: impl FnOnce(&str) -> R) -> R {
        match self.name.lock_bounded() {
            Some(name) => f(&name),
            None => f("?"),
        }
    }

    // For the scheduler.

    pub(crate) fn arrive(&self, cpu: CpuId) {
        debug_assert!(!self.is_running(), "a thread was picked while another CPU runs it");
        self.cpu.store(cpu.0, Ordering::SeqCst);
        self.on_cpu.store(true, Ordering::Release);
    }

    /// Wants a CPU.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state.load(Ordering::Acquire), RUNNABLE | NOTIFIED)
    }

    pub(crate) fn left(&self) {
        self.on_cpu.store(false, Ordering::Release);
    }

    /// Gives the dead thread's stack back and keeps the thread until someone may run destructors.
    pub(crate) fn bury(self: Arc<Self>) {
        // SAFETY: the thread is dead and off its stack; this CPU switched away from it.
        if let Some(stack) = unsafe { (*self.own.stack.get()).take() } {
            stack.recycle();
        }
        let listed = THREADS.lock().remove(&self.id);
        let mut ended = ENDED.lock();
        ended.extend(listed);
        ended.push(self);
    }

    pub(crate) fn rsp_slot(&self) -> *mut usize {
        self.own.rsp.get()
    }
}

/// See [`Thread::enter_wait`].
pub(crate) struct WaitState<'a>(&'a Thread);

impl Drop for WaitState<'_> {
    fn drop(&mut self) {
        self.0.wait.store(b'S', Ordering::Relaxed);
    }
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Thread({}, {:?}, {})", self.id, self.name(), self.state_letter())
    }
}

/// Switches from one context to another.
///
/// # Safety
/// As `switch::switch_stacks`.
pub(crate) unsafe fn switch(save: *mut usize, to: usize) {
    // SAFETY: the caller's promise.
    unsafe { switch::switch_stacks(save, to) }
}

/// A new thread starts here, on its own stack.
extern "C" fn thread_main(thread: *const Thread) -> ! {
    sched::finish_switch();
    {
        // SAFETY: the CPU holds a reference to the running thread.
        let thread = unsafe { &*thread };
        // SAFETY: only this thread touches its entry, now.
        let entry = unsafe { (*thread.own.entry.get()).take() };
        if let Some(entry) = entry {
            entry();
        }
        lockdep::may_sleep();
        thread.state.store(DEAD, Ordering::Release);
        thread.dead.wake_all();
    }
    sched::leave_cpu();
    unreachable!("a dead thread was continued");
}

thread_local! {
    /// Locks held by plain host threads.
    static HELD: RefCell<HeldLocks> = const { RefCell::new(HeldLocks::new()) };
}

/// The locks that the running kernel thread or host thread holds.
#[inline(never)]
pub(crate) fn with_held<R>(f: impl FnOnce(&mut HeldLocks) -> R) -> R {
    let current = this_cpu().map_or(std::ptr::null(), |cpu| cpu.current());
    // SAFETY: we are that thread, and `f` does not come back here.
    match unsafe { current.as_ref() } {
        // SAFETY: only the thread itself touches its list.
        Some(thread) => f(unsafe { &mut *thread.own.held.get() }),
        None => HELD.with_borrow_mut(f),
    }
}
