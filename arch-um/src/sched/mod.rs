//! The scheduler's mechanism: waking, picking, switching, idling, the tick. The order of threads is a [`SchedPolicy`]; the default one
//! is in `fair.rs`.
//!
//! Kernel code is preempted only where it sleeps or calls `cond_resched`; user code by a reschedule request, which the 100 Hz tick
//! makes while some queue is not empty. The tick is off otherwise.

mod fair;
mod idle;

use crate::cpu::{self, Cpu, CpuId, CpuMask, Patience, this_cpu};
use crate::thread::{self, Thread, ThreadRef};
use crate::time::{Duration, Instant, Timer, cycles};
pub(crate) use idle::{count as idle_count, idle_loop, kick_idle};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Ticks a second (`CONFIG_HZ`).
pub const HZ: u64 = 100;

/// Why a thread becomes ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Enqueue {
    /// New.
    Spawn,
    /// Woken from a sleep.
    Wake,
    /// Woken by a thread that is about to sleep itself: wants the waker's CPU.
    WakeSync,
    /// New, made by a thread that is about to sleep.
    SpawnSync,
    /// Still wants to run: it yielded or its time was up.
    Yield,
    /// Moved here because its affinity forbids the other CPU.
    Migrate,
}

/// What should happen on a CPU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Preempt {
    /// The running thread goes on.
    No,
    /// The running thread should yield soon.
    Yes,
}

/// Orders the ready threads. All methods may be called from any host thread and may not sleep, wake or print; locks are the policy's
/// own, of rank `SCHED_RQ` or below.
pub trait SchedPolicy: Send + Sync {
    /// Where a thread that becomes ready should go: a CPU of its affinity. `idle` are the CPUs with nothing to do.
    fn select_cpu(&self, thread: &Thread, idle: CpuMask) -> CpuId;
    /// Puts a ready thread on `cpu`'s queue. `ran_ns`: how long the thread that runs there has been running since it was picked;
    /// `None` if nothing runs there.
    fn enqueue(&self, cpu: CpuId, thread: ThreadRef, why: Enqueue, ran_ns: Option<u64>) -> Preempt;
    /// Takes the next thread for `cpu` from its own queue or, when that is empty, from another's. A thread for which
    /// [`Thread::is_running`] holds may be taken from its own CPU's queue only.
    fn pick_next(&self, cpu: CpuId) -> Option<ThreadRef>;
    /// `thread` has run on `cpu` for `ns` since it was picked and leaves now.
    fn account(&self, cpu: CpuId, thread: &Thread, ns: u64);
    /// 100 times a second while some queue is not empty: should `cpu`, whose thread has run for `ran_ns`, reschedule?
    fn tick(&self, cpu: CpuId, ran_ns: u64) -> Preempt;
    /// Number of threads waiting on `cpu`'s queue; cheap, may be stale.
    fn queued(&self, cpu: CpuId) -> usize;
    /// The nice value of `thread` has changed.
    fn set_nice(&self, thread: &Thread, nice: i32);
}

static POLICY: OnceLock<&'static dyn SchedPolicy> = OnceLock::new();

/// Installs a policy in place of the default one. Before `cpu::run`; later calls and second calls have no effect.
pub fn set_policy(policy: &'static dyn SchedPolicy) {
    let _already_set = POLICY.set(policy);
}

/// The policy in force.
#[inline]
pub(crate) fn policy() -> &'static dyn SchedPolicy {
    *POLICY.get_or_init(|| &fair::FAIR)
}

/// Number of threads ready or running (the load average counts these).
pub fn nr_running() -> usize {
    cpu::all()
        .map(|cpu| policy().queued(cpu.id()) + usize::from(!cpu.is_idle()))
        .sum()
}

/// Puts a thread that has just become ready on a queue and sees to it that a CPU looks there.
pub(crate) fn wake_up(thread: ThreadRef, why: Enqueue) {
    let common = match why {
        Enqueue::WakeSync => Enqueue::Wake,
        Enqueue::SpawnSync => Enqueue::Spawn,
        other => other,
    };
    if why != common && !thread.is_running() {
        let Some(thread) = wake_here(thread, why) else { return };
        return wake_up(thread, common);
    }
    // A thread that is still leaving its CPU must be continued by that one.
    let target = match thread.is_running() {
        true => thread.last_cpu(),
        false => policy().select_cpu(&thread, idle::mask()),
    };
    enqueue(target, thread, why);
}

/// The waker is about to sleep: its own CPU will have the thread sooner than another can be woken (an inter-processor interrupt, tens of
/// µs), provided that nobody else waits there. Should the waker go on instead, [`spread`] gives the thread to an idle CPU.
/// Returns the thread if it must go the common way.
fn wake_here(thread: ThreadRef, why: Enqueue) -> Option<ThreadRef> {
    match this_cpu() {
        Some(cpu) if !cpu.is_idle() && thread.affinity().contains(cpu.id()) && policy().queued(cpu.id()) == 0 => {
            policy().enqueue(cpu.id(), thread, why, None);
            cpu.defer_kick(Patience::Short);
            arm_tick();
            None
        }
        _ => Some(thread),
    }
}

/// The running thread has not slept for a while after a `WakeSync`: an idle CPU may have the woken one.
#[cold]
pub(crate) fn spread(cpu: &Cpu) {
    if policy().queued(cpu.id()) != 0 {
        idle::kick_one(CpuMask::ALL);
    }
}

fn enqueue(target: CpuId, thread: ThreadRef, why: Enqueue) {
    let cpu = cpu::get(target);
    let ran = (!cpu.is_idle()).then(|| cycles::to_ns(cpu.running_cycles()));
    let allowed = thread.affinity();
    let preempt = policy().enqueue(target, thread, why, ran);
    if kick_idle(cpu) || !cpu::started() {
        return;
    }
    // A CPU that went idle after the choice of `target` has looked in vain.
    idle::kick_one(allowed);
    arm_tick();
    if preempt == Preempt::Yes {
        cpu.resched();
    }
}

/// The running thread goes to the end of its queue and others get the CPU.
pub(crate) fn yield_current() {
    let Some(cpu) = this_cpu() else { return };
    thread::with_current(|current| {
        let Some(current) = current else { return };
        cpu.clear_resched();
        if !current.affinity().contains(cpu.id()) && cpu::count() > 1 {
            current.migrate.store(true, Ordering::Relaxed);
        } else if policy().queued(cpu.id()) == 0 {
            return;
        } else {
            policy().enqueue(cpu.id(), current.arc(), Enqueue::Yield, None);
        }
        current.count_involuntary();
        leave_cpu();
    });
}

/// Whom the running thread has just woken with `WakeSync` goes first, because he will soon sleep again: so two threads get along on one CPU,
/// and its user code keeps a host CPU for itself. If he does not sleep, [`spread`] gives the running thread to an idle CPU.
pub(crate) fn stand_aside() {
    let Some(cpu) = this_cpu() else { return };
    thread::with_current(|current| {
        let Some(current) = current else { return };
        if policy().queued(cpu.id()) != 1 || !current.affinity().contains(cpu.id()) {
            return;
        }
        policy().enqueue(cpu.id(), current.arc(), Enqueue::Yield, None);
        current.stands_aside.store(true, Ordering::Relaxed);
        current.count_involuntary();
        leave_cpu();
    });
}

/// Gives the CPU to whoever is next. The running thread is parked, dead, or on a queue.
pub(crate) fn leave_cpu() {
    let cpu = this_cpu().expect("only a virtual CPU switches threads");
    let prev = cpu.current();
    cpu.clear_resched();
    let now = cycles::now();
    let ran = cpu.account_running(now);
    // SAFETY: the CPU holds a reference to what it runs.
    let prev_thread = unsafe { &*prev };
    prev_thread.add_runtime(ran);
    policy().account(cpu.id(), prev_thread, cycles::to_ns(ran));
    let next = pick(cpu, prev);
    let next = match next {
        Some(next) if ptr::eq(Arc::as_ptr(&next), prev) => return,
        Some(next) => {
            next.arrive(cpu.id());
            Arc::into_raw(next)
        }
        None => ptr::null(),
    };
    switch_to(cpu, next);
}

/// The next thread for `cpu` that may run here. `prev` is what runs now (or null).
fn pick(cpu: &Cpu, prev: *const Thread) -> Option<ThreadRef> {
    loop {
        let next = policy().pick_next(cpu.id())?;
        if next.affinity().contains(cpu.id()) || cpu::count() == 1 {
            return Some(next);
        }
        if ptr::eq(Arc::as_ptr(&next), prev) {
            next.migrate.store(true, Ordering::Relaxed);
        } else {
            let target = policy().select_cpu(&next, idle::mask());
            enqueue(target, next, Enqueue::Migrate);
        }
    }
}

/// Switches to `next` (null: the idle context). The CPU's reference to the old thread moves to `finish_switch`.
fn switch_to(cpu: &Cpu, next: *const Thread) {
    let prev = cpu.replace_current(next);
    // SAFETY: both are kept alive: by the CPU's references, or they are the CPU's own idle slot.
    let (save, to) = unsafe {
        (
            prev.as_ref().map_or(cpu.idle_rsp_slot(), Thread::rsp_slot),
            *next.as_ref().map_or(cpu.idle_rsp_slot(), Thread::rsp_slot),
        )
    };
    // SAFETY: `to` was saved when that context left its CPU (its `on_cpu` is false) or is a new frame; `finish_switch` runs on the other side.
    unsafe { thread::switch(save, to) };
    // Perhaps another host thread from here on: `cpu` is the CPU that we left.
    finish_switch();
}

/// First thing after a switch, on the new stack: lets go of the context that was left.
pub(crate) fn finish_switch() {
    let cpu = this_cpu().expect("only a virtual CPU switches threads");
    let Some(prev) = cpu.take_switched_from() else { return };
    if prev.is_dead() {
        prev.left();
        prev.bury();
        return;
    }
    let migrate = prev.migrate.swap(false, Ordering::Relaxed);
    let aside = prev.stands_aside.swap(false, Ordering::Relaxed);
    let ready = prev.is_ready();
    prev.left();
    if migrate {
        let target = policy().select_cpu(&prev, idle::mask());
        enqueue(target, prev, Enqueue::Migrate);
    } else if aside {
        cpu.defer_kick(Patience::Long);
        arm_tick();
    } else if ready {
        // It could not be stolen while it was ours; an idle CPU may have looked in vain.
        idle::kick_one(prev.affinity());
    }
}

/// Cycles since `thread` was picked, if it runs.
pub(crate) fn running_for(thread: &Thread) -> u64 {
    let cpu = cpu::get(thread.last_cpu());
    if thread.is_running() && ptr::eq(cpu.current(), thread) {
        cpu.running_cycles()
    } else {
        0
    }
}

static TICK_ARMED: AtomicBool = AtomicBool::new(false);
static TICK: OnceLock<Timer> = OnceLock::new();
static TICKS: AtomicUsize = AtomicUsize::new(0);

/// Number of ticks so far, for tests and statistics.
pub fn ticks() -> usize {
    TICKS.load(Ordering::Relaxed)
}

/// Starts the tick unless it is on.
fn arm_tick() {
    if !TICK_ARMED.load(Ordering::Relaxed) && !TICK_ARMED.swap(true, Ordering::SeqCst) {
        next_tick();
    }
}

fn next_tick() {
    let timer = TICK.get_or_init(|| Timer::new(Arc::new(tick)));
    timer.set(Instant::now() + Duration::from_nanos(1_000_000_000 / HZ));
}

/// On the I/O thread.
fn tick() {
    TICKS.fetch_add(1, Ordering::Relaxed);
    cycles::refresh();
    // Off first: who queues after our look turns it on again.
    TICK_ARMED.store(false, Ordering::SeqCst);
    let mut waiting = false;
    for cpu in cpu::all() {
        if policy().queued(cpu.id()) == 0 {
            continue;
        }
        waiting = true;
        idle::kick_one(CpuMask::ALL);
        if policy().tick(cpu.id(), cycles::to_ns(cpu.running_cycles())) == Preempt::Yes {
            cpu.resched();
        }
    }
    if waiting {
        arm_tick();
    }
}
