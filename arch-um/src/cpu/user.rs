//! Running user code on a virtual CPU, and ending that from outside.
//!
//! The CPU publishes what can be kicked, then looks whether a reschedule or interrupt is wanted; who wants one sets the flag, then
//! looks for something to kick. One of the two sees the other (all sequentially consistent). The published object is the
//! caller's own reference: [`Slot::retire`] waits for kickers that are just using it, so no reference count is touched on the way in.

use super::{Cpu, add, this_cpu};
use crate::thread::Thread;
use crate::time::cycles;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

/// Ends a run of user code: the implementation makes the `f` of [`enter_user`] return soon.
///
/// May be called from any host thread, more than once, and shortly before or after the run; a kick that comes before `f` waits for user
/// code must end that run at once. May not sleep and may not take locks that are held while entering user code.
pub trait Kick: Send + Sync {
    /// Ends the run.
    fn kick(&self);
}

struct Run<'a> {
    kick: &'a Arc<dyn Kick>,
    thread: *const Thread,
}

/// What can be kicked on a CPU.
pub(super) struct Slot {
    run: AtomicPtr<Run<'static>>,
    kickers: AtomicU32,
}

impl Slot {
    pub(super) const fn new() -> Slot {
        Slot {
            run: AtomicPtr::new(ptr::null_mut()),
            kickers: AtomicU32::new(0),
        }
    }

    fn publish(&self, run: &Run<'_>) {
        self.run.store(ptr::from_ref(run).cast_mut().cast(), Ordering::SeqCst);
    }

    /// Nobody looks at the published run any more when this returns.
    fn retire(&self) {
        self.run.store(ptr::null_mut(), Ordering::SeqCst);
        while self.kickers.load(Ordering::SeqCst) != 0 {
            std::hint::spin_loop();
        }
    }

    /// Kicks what runs, if it runs for `thread` (null: for anyone).
    pub(super) fn kick(&self, thread: *const Thread) {
        self.kickers.fetch_add(1, Ordering::SeqCst);
        // SAFETY: non-null means published, and `retire` waits for our count before the run goes out of scope.
        if let Some(run) = unsafe { self.run.load(Ordering::SeqCst).as_ref() }
            && (thread.is_null() || ptr::eq(run.thread, thread))
        {
            run.kick.kick();
        }
        self.kickers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Takes the run back when `enter_user` ends, however it ends.
struct Published<'a>(&'a Cpu);

impl Drop for Published<'_> {
    fn drop(&mut self) {
        self.0.user.retire();
    }
}

/// Runs `f`, which runs user code, on this CPU.
///
/// `None`: `f` did not run, because a reschedule or an interrupt of the current thread is pending; look at signals, call
/// [`cond_resched`](super::cond_resched), try again. While `f` runs, a reschedule request and
/// [`Thread::interrupt`] from anywhere call `kick`. The kick object is published before the flags are checked, so no kick is lost.
/// `f` may not sleep in the kernel's sense. The interrupt flag stays set until `clear_interrupt`.
///
/// On a plain host thread `f` simply runs.
pub fn enter_user<R>(kick: &Arc<dyn Kick>, f: impl FnOnce() -> R) -> Option<R> {
    let Some(cpu) = this_cpu() else { return Some(f()) };
    // SAFETY: the CPU holds a reference to what it runs: us, and `f` does not switch.
    let Some(thread) = (unsafe { cpu.current().as_ref() }) else {
        return Some(f());
    };
    let run = Run { kick, thread };
    cpu.user.publish(&run);
    let published = Published(cpu);
    if cpu.need_resched.load(Ordering::SeqCst) || thread.interrupted() {
        return None;
    }
    let start = cycles::now();
    thread.enters_user(start);
    let value = f();
    let end = cycles::now();
    let spent = end.saturating_sub(start);
    drop(published);
    cpu.check_deferred(end);
    add(&cpu.user_cycles, spent);
    thread.left_user(spent);
    Some(value)
}

/// Kicks `thread` if it runs user code. Its interrupt flag has been set before.
pub(crate) fn kick_thread(thread: &Thread) {
    // Should it move to another CPU just now, it enters user code there after we set the flag, and sees it.
    super::get(thread.last_cpu()).user.kick(thread);
}
