//! Guest threads: running them, their registers and state. [`make`] makes new ones, [`kick`] interrupts them.

mod kick;
mod make;

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arch_um::Errno;

use crate::core::Core;
use crate::frame::Frame;
use crate::machine::machine;
use crate::region::{self, Command};
use crate::stats::{COUNTERS, count};
use crate::{AddressSpace, Backend, Exit, Regs, decode, host, queue, trace, xstate};

use kick::KickState;
pub use kick::Kicker;

/// Idle stub threads a space keeps for its next thread or vfork child.
const MAX_IDLE: usize = 4;

/// A guest thread: one thread of a stub process. `Send`, not `Sync`.
///
/// Dropping it ends the stub thread; with the last one of its space the host process is killed and reaped without waiting for it.
pub struct UserThread {
    space: Arc<AddressSpace>,
    pub(crate) core: Arc<Core>,
    regs: Regs,
    /// fs and gs base in the stub thread; `None`: unknown.
    loaded: Option<(u64, u64)>,
    kick: Arc<KickState>,
    /// How the stub thread was placed last; `None`: unknown, or wherever the host likes.
    placed: Option<Waiting>,
    not_sync: PhantomData<Cell<()>>,
}

impl UserThread {
    pub(crate) fn assemble(space: Arc<AddressSpace>, core: Arc<Core>, regs: Regs) -> UserThread {
        let kick = Arc::new(KickState {
            target: Mutex::new(Some((core.pid, core.tid))),
            running: AtomicBool::new(false),
            pending: AtomicBool::new(false),
        });
        UserThread {
            space,
            core,
            regs,
            loaded: None,
            kick,
            placed: None,
            not_sync: PhantomData,
        }
    }

    /// The zygote's thread runs where this process may; its bases are unknown.
    pub(crate) fn is_fresh(&mut self) {
        self.loaded = None;
        self.placed = None;
    }

    /// exec in a space of its own: unmaps everything, drops the queue. Registers and FP state stay: set them. `EBUSY` when other threads live
    /// (a vfork parent, for one): take a [`new`](Self::new) one then.
    pub fn reset(&mut self) -> Result<(), Errno> {
        let layout = &machine().layout;
        self.claim();
        let mut state = self.space.lock();
        let result = if state.live > 1 {
            Err(Errno::EBUSY)
        } else {
            state.queue.clear();
            state.queue.push(queue::Op {
                kind: queue::MUNMAP,
                args: [0, layout.task_size, 0, 0, 0, 0],
                file: None,
            });
            self.space.flush_on(&mut state, &self.core)
        };
        drop(state);
        self.core.release();
        result
    }

    /// The address space.
    pub fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }

    /// The registers as the last exit left them.
    pub fn regs(&self) -> &Regs {
        &self.regs
    }

    /// The registers for the next run. `fs_base` and `gs_base` must be addresses below 2^47; others count as 0.
    pub fn regs_mut(&mut self) -> &mut Regs {
        &mut self.regs
    }

    /// FP and vector state: the XSAVE image as in a signal frame, `fpx_sw_bytes` and both magic numbers included. Empty when the space is dead.
    pub fn xstate(&self) -> Vec<u8> {
        if machine().backend == Backend::Ptrace {
            return trace::xstate(&self.core);
        }
        Frame::locate(&self.core.region)
            .map(|frame| xstate::read(&self.core.region, frame))
            .unwrap_or_default()
    }

    /// Sets FP and vector state from such an image, or from its legacy part alone (512 bytes; the rest is initial then). `EINVAL` for what the
    /// processor would refuse.
    pub fn set_xstate(&mut self, image: &[u8]) -> Result<(), Errno> {
        if machine().backend == Backend::Ptrace {
            return trace::set_xstate(&self.core, image);
        }
        xstate::write(&self.core.region, self.frame()?, image)
    }

    /// The state a new program starts with (fcw 0x37f, mxcsr 0x1f80, the rest initial).
    pub fn reset_xstate(&mut self) {
        if machine().backend == Backend::Ptrace {
            return trace::reset_xstate(&self.core);
        }
        if let Some(frame) = Frame::locate(&self.core.region) {
            frame.normalize(&self.core.region);
            xstate::reset(&self.core.region, frame);
        }
    }

    /// Runs the queued mapping changes of the space now and reports the host's errno (`ENOMEM`, `EACCES`, `EPERM`...).
    pub fn flush(&mut self) -> Result<(), Errno> {
        self.space.flush()
    }

    /// Runs the guest thread until something needs the kernel. See [`Exit`] for every case.
    ///
    /// A [`Kicker::kick`] sent while this is not running ends the *next* run at once; kicks do not add up.
    pub fn run(&mut self) -> Exit {
        if self.space.is_dead() {
            return Exit::Dead;
        }
        // SeqCst pairs with `Kicker::kick`: either it sees us running, or we see its mark.
        self.kick.running.store(true, Ordering::SeqCst);
        let exit = if self.kick.pending.swap(false, Ordering::SeqCst) {
            count(&COUNTERS.interrupts);
            Exit::Interrupted
        } else {
            self.claim();
            let exit = self.run_claimed();
            self.core.release();
            exit
        };
        self.kick.running.store(false, Ordering::SeqCst);
        exit
    }

    fn run_claimed(&mut self) -> Exit {
        if machine().backend == Backend::Ptrace {
            return self.run_traced();
        }
        let Ok(frame) = self.frame() else { return Exit::Dead };
        let mut command = Command::RESUME;
        if self.space.has_pending() {
            match self.space.prepare_run(&self.core) {
                Ok(flags) => command |= flags,
                Err(Errno::ESRCH) if self.space.is_dead() => return Exit::Dead,
                Err(errno) => return Exit::QueueFailed(errno),
            }
        }
        let core = &self.core;
        frame.store(&core.region, &self.regs);
        let usable = |base: u64| if base >> 47 == 0 { base } else { 0 };
        let bases = (usable(self.regs.fs_base), usable(self.regs.gs_base));
        if self.loaded != Some(bases) {
            core.region.put64(region::FS_BASE, bases.0);
            core.region.put64(region::GS_BASE, bases.1);
            command |= Command::BASES;
        }
        core.send(command);
        Core::leave_last(core);
        let kick = &self.kick;
        if self.space.wait(core, &|| kick.pending.load(Ordering::Relaxed)).is_err() {
            return Exit::Dead;
        }
        if command.contains(Command::BATCH) {
            self.space.returned(core);
            if let Err(errno) = core.outcome() {
                return Exit::QueueFailed(errno);
            }
        }
        let exit = decode::exit(&self.space, core, &mut self.regs);
        self.loaded = Some((self.regs.fs_base, self.regs.gs_base));
        if exit == Exit::Interrupted {
            self.kick.pending.store(false, Ordering::SeqCst);
        }
        exit
    }

    fn run_traced(&mut self) -> Exit {
        let flushed = if self.space.has_pending() {
            let mut state = self.space.lock();
            self.space.flush_on(&mut state, &self.core)
        } else {
            Ok(())
        };
        match flushed {
            Ok(()) => (),
            Err(_) if self.space.is_dead() => return Exit::Dead,
            Err(errno) => return Exit::QueueFailed(errno),
        }
        let usable = |base: u64| if base >> 47 == 0 { base } else { 0 };
        self.regs.fs_base = usable(self.regs.fs_base);
        self.regs.gs_base = usable(self.regs.gs_base);
        let exit = trace::run(&self.space, &self.core, &mut self.regs);
        if exit == Exit::Interrupted {
            self.kick.pending.store(false, Ordering::SeqCst);
        }
        exit
    }

    /// Makes the core ours; a flush of the space that has borrowed it ends soon.
    fn claim(&self) {
        while !self.core.try_claim() {
            drop(self.space.lock());
            std::hint::spin_loop();
        }
    }

    fn frame(&self) -> Result<Frame, Errno> {
        Frame::locate(&self.core.region).ok_or_else(|| {
            self.space.tampered("no signal frame");
            Errno::ESRCH
        })
    }

    /// A handle with which other threads interrupt this one.
    pub fn kicker(&self) -> Kicker {
        Kicker {
            state: self.kick.clone(),
        }
    }

    /// How the hand-offs to come are waited for. The same value again costs nothing.
    ///
    /// A stub thread that spins keeps off the CPU of the kernel's thread that serves it, where one would wait for the other's spinning to end; the
    /// host, left alone, wakes it just there. One that parks shares that CPU, because a wake-up across CPUs costs five times as much.
    pub fn set_waiting(&mut self, waiting: Waiting) {
        self.core.set_spins(matches!(waiting, Waiting::Spin(_)));
        if self.placed == Some(waiting) || self.space.is_dead() {
            return;
        }
        let all = &machine().host_cpus;
        match waiting {
            Waiting::Park(Some(cpu)) => host::set_affinity(self.core.tid, &[cpu]),
            Waiting::Spin(Some(cpu)) if all.len() > 1 => {
                let others: Vec<usize> = all.iter().copied().filter(|&other| other != cpu).collect();
                host::set_affinity(self.core.tid, &others);
            }
            Waiting::Park(None) | Waiting::Spin(_) => host::set_affinity(self.core.tid, all),
        }
        self.placed = Some(waiting);
    }
}

/// How the two sides of a hand-off wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Both spin for a while: there is a host CPU for each. The stub thread belongs on any but this one, that of the kernel's thread; `None`:
    /// wherever the host likes.
    Spin(Option<usize>),
    /// Both sleep at once. The stub thread belongs on this host CPU, that of the kernel's thread; `None`: wherever the host likes.
    Park(Option<usize>),
}

impl Drop for UserThread {
    fn drop(&mut self) {
        // From here on no kick reaches a host thread whose number may be reused.
        *self.kick.target.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = None;
        let mut state = self.space.lock();
        state.live -= 1;
        if state.live == 0 {
            self.space.end(&mut state);
            return;
        }
        // The process' first thread stays, parked: its exit would leave a zombie leader without memory. Some others stay for reuse.
        let leader = self.core.pid == self.core.tid;
        if self.space.is_dead() {
            return;
        }
        self.claim_for_drop();
        if leader || state.idle.len() < MAX_IDLE {
            self.core.release();
            state.idle.push(self.core.clone());
            return;
        }
        let _ = self.space.command(&self.core, Command::EXIT);
        state.cores.retain(|core| !Arc::ptr_eq(core, &self.core));
    }
}

impl UserThread {
    fn claim_for_drop(&self) {
        // The space's lock is held, so no flush has borrowed the core.
        self.core.try_claim();
    }
}
