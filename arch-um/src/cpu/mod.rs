//! Virtual CPUs: host threads that run kernel threads and, through [`enter_user`], user code.
//!
//! CPU 0 is the host thread that calls [`run`] (ptrace needs one thread for all its requests). What each CPU runs next is decided by
//! [`crate::sched`]; the switch itself is in [`crate::thread`]. `pin.rs` places CPUs on the host's, `user.rs` runs user code.

mod helper;
mod pin;
mod stats;
mod user;

use crate::sched;
use crate::thread::{self, Thread, ThreadRef};
use crate::time::cycles;
use std::arch::asm;
use std::cell::{Cell, UnsafeCell};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

pub(crate) use helper::busy_again;
pub use helper::has_helper;
pub(crate) use pin::unpin;
pub use pin::{initial_affinity, spare_host_cpus};
pub use stats::{CpuStats, idle_ns, stats};
pub(crate) use user::kick_thread;
pub use user::{Kick, enter_user};

/// The largest `ncpus=`.
pub const MAX_CPUS: usize = 64;

/// Number of a virtual CPU, from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CpuId(pub u32);

/// A set of virtual CPUs, bit n is CPU n.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CpuMask(pub u64);

impl CpuMask {
    /// Every CPU.
    pub const ALL: CpuMask = CpuMask(u64::MAX);

    /// Is `cpu` in the set?
    pub const fn contains(self, cpu: CpuId) -> bool {
        self.0 >> cpu.0 & 1 == 1
    }

    /// CPUs 0 to `n` - 1.
    pub const fn first(n: usize) -> CpuMask {
        CpuMask(if n >= 64 { u64::MAX } else { (1 << n) - 1 })
    }
}

/// How long a thread may take to sleep before an idle CPU takes who waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// A waker that promised to sleep and still runs after 20 µs does not mean it: about half of what waking another CPU costs.
    Short,
    /// A parent back from `vfork` has some calls to make before it waits: 100 µs.
    Long,
}

impl Patience {
    const fn ns(self) -> u64 {
        match self {
            Patience::Short => 20_000,
            Patience::Long => 100_000,
        }
    }
}

/// One virtual CPU. Cache-line aligned: other CPUs look at their own.
#[repr(align(128))]
pub(crate) struct Cpu {
    id: CpuId,
    /// What runs, as from `Arc::into_raw`; null: the idle context. Written by the CPU itself.
    current: AtomicPtr<Thread>,
    /// What was left in the switch under way: its reference, for `finish_switch`. The CPU's own.
    switched_from: AtomicPtr<Thread>,
    /// Stack pointer of the idle context while a thread runs. The CPU's own.
    idle_rsp: UnsafeCell<usize>,
    need_resched: AtomicBool,
    idle_word: AtomicU32,
    user: user::Slot,
    /// Until when the running thread should have slept for whom was queued here, in cycles; 0: nobody was. The CPU's own.
    deferred: AtomicU64,
    /// When the present thread or idleness began, in cycles. Written by the CPU itself, like the sums below.
    since: AtomicU64,
    busy: AtomicU64,
    idle: AtomicU64,
    user_cycles: AtomicU64,
    switches: AtomicU64,
    interrupts: AtomicU64,
    host_cpu: AtomicI32,
    /// User code has a host CPU of its own.
    helped: AtomicBool,
}

// SAFETY: the one field that is not atomic, `idle_rsp`, is used by the CPU's own host thread only.
unsafe impl Sync for Cpu {}

impl Cpu {
    const fn new(id: usize) -> Cpu {
        Cpu {
            id: CpuId(id as u32),
            current: AtomicPtr::new(ptr::null_mut()),
            switched_from: AtomicPtr::new(ptr::null_mut()),
            idle_rsp: UnsafeCell::new(0),
            need_resched: AtomicBool::new(false),
            idle_word: AtomicU32::new(0),
            user: user::Slot::new(),
            deferred: AtomicU64::new(0),
            since: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            idle: AtomicU64::new(0),
            user_cycles: AtomicU64::new(0),
            switches: AtomicU64::new(0),
            interrupts: AtomicU64::new(0),
            host_cpu: AtomicI32::new(-1),
            helped: AtomicBool::new(false),
        }
    }

    #[inline]
    pub(crate) fn id(&self) -> CpuId {
        self.id
    }

    /// What runs here; may be dereferenced on this CPU only.
    #[inline]
    pub(crate) fn current(&self) -> *const Thread {
        self.current.load(Ordering::Relaxed)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.current().is_null()
    }

    /// Sets what runs; the reference to what ran goes to `switched_from`.
    pub(crate) fn replace_current(&self, next: *const Thread) -> *const Thread {
        let prev = self.current();
        self.switched_from.store(prev.cast_mut(), Ordering::Relaxed);
        self.current.store(next.cast_mut(), Ordering::Relaxed);
        add(&self.switches, 1);
        prev
    }

    pub(crate) fn take_switched_from(&self) -> Option<ThreadRef> {
        let prev = self.switched_from.load(Ordering::Relaxed);
        self.switched_from.store(ptr::null_mut(), Ordering::Relaxed);
        // SAFETY: the pointer came from `Arc::into_raw` and is taken once.
        (!prev.is_null()).then(|| unsafe { Arc::from_raw(prev) })
    }

    pub(crate) fn idle_rsp_slot(&self) -> *mut usize {
        self.idle_rsp.get()
    }

    pub(crate) fn idle_word(&self) -> &AtomicU32 {
        &self.idle_word
    }

    pub(crate) fn clear_resched(&self) {
        if self.need_resched.load(Ordering::Relaxed) {
            self.need_resched.store(false, Ordering::SeqCst);
        }
    }

    /// Asks this CPU to switch; kicks it out of user code.
    pub(crate) fn resched(&self) {
        self.interrupts.fetch_add(1, Ordering::Relaxed);
        self.need_resched.store(true, Ordering::SeqCst);
        self.user.kick(ptr::null());
    }

    /// Another CPU is told about this one's queue only if the running thread goes on: see [`sched::spread`].
    pub(crate) fn defer_kick(&self, patience: Patience) {
        let until = cycles::now() + cycles::from_ns(patience.ns());
        self.deferred.store(until, Ordering::Relaxed);
    }

    /// At `now` the running thread goes on.
    #[inline]
    fn check_deferred(&self, now: u64) {
        let deferred = self.deferred.load(Ordering::Relaxed);
        if deferred != 0 && now > deferred {
            self.deferred.store(0, Ordering::Relaxed);
            sched::spread(self);
        }
    }

    /// Cycles since the running thread was picked.
    pub(crate) fn running_cycles(&self) -> u64 {
        cycles::now().saturating_sub(self.since.load(Ordering::Relaxed))
    }

    /// The running thread's time ends now: returns it, in cycles.
    pub(crate) fn account_running(&self, now: u64) -> u64 {
        let ran = now.saturating_sub(self.since.load(Ordering::Relaxed));
        self.since.store(now, Ordering::Relaxed);
        self.deferred.store(0, Ordering::Relaxed);
        add(&self.busy, ran);
        ran
    }

    /// Idle time ends now.
    pub(crate) fn account_idle(&self, now: u64) {
        add(&self.idle, now.saturating_sub(self.since.load(Ordering::Relaxed)));
        self.since.store(now, Ordering::Relaxed);
    }
}

/// For counters with one writer: cheaper than an atomic addition.
fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}

static CPUS: [Cpu; MAX_CPUS] = {
    let mut cpus = [const { Cpu::new(0) }; MAX_CPUS];
    let mut i = 0;
    while i < MAX_CPUS {
        cpus[i].id = CpuId(i as u32);
        i += 1;
    }
    cpus
};
static COUNT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static THIS_CPU: Cell<*const Cpu> = const { Cell::new(ptr::null()) };
}

/// The virtual CPU whose host thread this is.
///
/// The one way to anything that belongs to the host thread: never inlined and opaque, so that no thread-local address or value is kept
/// across a stack switch, after which the caller may be on another host thread.
#[inline(never)]
pub(crate) fn this_cpu() -> Option<&'static Cpu> {
    let cpu = THIS_CPU.get();
    // SAFETY: empty; it makes the function opaque to the optimizer.
    unsafe { asm!("", options(nostack, preserves_flags)) };
    // SAFETY: null or one of `CPUS`.
    unsafe { cpu.as_ref() }
}

pub(crate) fn get(cpu: CpuId) -> &'static Cpu {
    &CPUS[cpu.0 as usize]
}

/// The CPUs that exist.
pub(crate) fn all() -> impl Iterator<Item = &'static Cpu> {
    CPUS[..count()].iter()
}

/// Has [`run`] been called?
pub(crate) fn started() -> bool {
    COUNT.load(Ordering::Relaxed) != 0
}

/// Number of virtual CPUs; 1 before [`run`].
#[inline]
pub fn count() -> usize {
    COUNT.load(Ordering::Relaxed).max(1)
}

/// The CPU this code runs on; 0 on plain host threads. May be stale at once if the caller sleeps.
pub fn current() -> CpuId {
    this_cpu().map_or(CpuId(0), Cpu::id)
}

/// The host CPU that the current virtual CPU is pinned to, if it is pinned.
pub fn host_cpu() -> Option<usize> {
    usize::try_from(this_cpu()?.host_cpu.load(Ordering::Relaxed)).ok()
}

/// Starts `ncpus` virtual CPUs (1 to [`MAX_CPUS`]) and runs `main` as the first kernel thread on CPU 0, which is the calling host
/// thread.
///
/// Never returns: the process ends through [`crate::exit`]. When `main` returns the machine goes on with the other kernel threads.
/// If the host gives fewer threads than asked for, the machine has fewer CPUs and the log says so.
pub fn run(ncpus: usize, main: Box<dyn FnOnce() + Send>) -> ! {
    assert!(!started(), "cpu::run is called once");
    let ncpus = ncpus.clamp(1, MAX_CPUS);
    crate::host::heap::init();
    crate::time::boot_instant();
    crate::exit::install();
    pin::init(ncpus);
    cycles::calibrate();
    let main = match thread::create("swapper/0", main) {
        Ok(main) => main,
        Err(errno) => crate::exit::kernel_panic(&format!("no stack for the first thread: {errno}")),
    };
    COUNT.store(ncpus, Ordering::SeqCst);
    for cpu in &CPUS[1..ncpus] {
        let name = format!("vcpu/{}", cpu.id.0);
        let started = std::thread::Builder::new()
            .name(name)
            .stack_size(128 << 10)
            .spawn(move || online(cpu, None));
        if let Err(error) = started {
            COUNT.store(cpu.id.0 as usize, Ordering::SeqCst);
            crate::pr_err!(
                "smp: only {} of {ncpus} CPUs: the host gives no more threads ({error})",
                cpu.id.0
            );
            break;
        }
    }
    online(&CPUS[0], Some(main))
}

/// This host thread becomes `cpu`.
fn online(cpu: &'static Cpu, first: Option<ThreadRef>) -> ! {
    THIS_CPU.set(cpu);
    crate::exit::prepare_host_thread();
    let host = pin::pin(cpu.id);
    cpu.host_cpu
        .store(host.map_or(-1, |host| host as i32), Ordering::Relaxed);
    cpu.since.store(cycles::now(), Ordering::Relaxed);
    sched::idle_loop(cpu, first)
}

/// Has the scheduler asked this CPU to switch?
#[inline]
pub fn need_resched() -> bool {
    this_cpu().is_some_and(|cpu| cpu.need_resched.load(Ordering::Relaxed))
}

/// Yields if the scheduler asked for it. Long loops in the kernel call this; no spin lock may be held.
#[inline]
pub fn cond_resched() {
    if need_resched() {
        thread::yield_now();
    }
}

/// Asks `cpu` to reschedule; kicks it out of user code. Any context.
pub fn resched(cpu: CpuId) {
    get(cpu).resched();
}
