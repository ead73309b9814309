//! Guest threads.

use std::cell::Cell;
use std::marker::PhantomData;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arch_um::Errno;

use crate::core::Core;
use crate::frame::Frame;
use crate::machine::machine;
use crate::region::{self, Command, Region};
use crate::stats::{COUNTERS, count};
use crate::{AddressSpace, Backend, Exit, Regs, decode, handoff, host, queue, reaper, trace, xstate};

const CLONE_FORK: u64 = 0x8011;
const CLONE_THREAD: u64 = 0x50f00;
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

    /// A thread in a new, empty address space, from the pool of ready stubs. Registers are zero but for the selectors, FP state is initial.
    /// `EAGAIN`, `ENOMEM`, `EMFILE` as the host gives them.
    pub fn new() -> Result<(Arc<AddressSpace>, UserThread), Errno> {
        let zygote = machine().zygote.get().ok_or(Errno::ENODEV)?;
        zygote.take()
    }

    pub(crate) fn fork_unforced(&mut self) -> Result<(Arc<AddressSpace>, UserThread), Errno> {
        self.fork()
    }

    /// `fork(2)`: a copy of the address space with one thread, a copy of this one (registers, FP state). The caller sets the child's `rax`.
    /// Queued changes are performed first, in the same hand-off; their error is returned.
    pub fn fork(&mut self) -> Result<(Arc<AddressSpace>, UserThread), Errno> {
        if self.space.is_dead() {
            return Err(Errno::ESRCH);
        }
        if machine().backend == Backend::Ptrace {
            reaper::reap();
        }
        self.claim();
        let mut result = self.fork_claimed();
        // The dead count for the host's limits until they are reaped.
        if matches!(result, Err(Errno::EAGAIN)) && reaper::reap() {
            result = self.fork_claimed();
        }
        let result = result.map_err(short_of);
        self.core.release();
        if result.is_ok() {
            count(&COUNTERS.forks);
        }
        result
    }

    fn fork_claimed(&mut self) -> Result<(Arc<AddressSpace>, UserThread), Errno> {
        let machine = machine();
        let region = match reaper::spare_region() {
            Some(region) => region.moved(&machine.layout, self.core.slot),
            None => Region::new(&machine.layout, self.core.slot)?,
        };
        let (kernel_end, stub_end) = host::socketpair()?;
        self.prepare_region(&region)?;
        let mut state = self.space.lock();
        if !state.queue.fits() || self.space.has_pending() && state.queue.is_empty() {
            self.space.flush_on(&mut state, &self.core)?;
        }
        let files = self
            .space
            .stage(&mut state, &self.core, &[region.fd().as_raw_fd(), stub_end.as_raw_fd()])?;
        self.core.region.put32(region::ARG0, files as u32);
        self.core.region.put64(region::ARG1, machine.pid as u64);
        let result = self.clone(Command::FORK | Command::BATCH, CLONE_FORK);
        if result.is_err() {
            state.queue.clear();
        }
        drop(state);
        drop(stub_end);
        let pid = result?;
        let core = Arc::new(Core::new(pid, pid, self.core.slot, region));
        core.set_spins(self.core.spins());
        let space = Arc::new(AddressSpace::new(pid, kernel_end, core.clone()));
        let mut thread = UserThread::assemble(space.clone(), core, self.regs);
        thread.loaded = self.loaded;
        thread.placed = self.placed;
        Ok((space, thread))
    }

    /// A new thread's header and frame.
    fn prepare_region(&self, region: &Region) -> Result<(), Errno> {
        region.put32(region::ACK, 0);
        region.put64(region::SPIN, 0);
        region.put64(region::FS_BASE, self.core.region.get64(region::FS_BASE));
        region.put64(region::GS_BASE, self.core.region.get64(region::GS_BASE));
        region.word().store(0, Ordering::Release);
        self.prepare_frame(region)
    }

    /// A copy of our registers and FP state in another thread's frame. With ptrace they are in the host thread and inherited.
    fn prepare_frame(&self, region: &Region) -> Result<(), Errno> {
        region.put32(region::CAPS, machine().caps);
        if machine().backend == Backend::Ptrace {
            return Ok(());
        }
        let frame = self.frame()?;
        frame.store(&self.core.region, &self.regs);
        frame.copy_to(&self.core.region, region).ok_or(Errno::ESRCH)
    }

    /// Commands a clone and returns the new host id.
    fn clone(&self, command: Command, flags: u64) -> Result<i32, Errno> {
        match machine().gate.get() {
            Some(gate) => {
                gate.pass(&self.core, flags, || self.core.send(command))
                    .inspect_err(|_| self.space.kill())?;
                self.space.wait(&self.core, &|| true)?;
            }
            None => self.space.command(&self.core, command)?,
        }
        self.core.outcome()?;
        match self.core.region.get64(region::RESULT) as i64 {
            id if id > 0 && i32::try_from(id).is_ok() => Ok(id as i32),
            error if (-4095..0).contains(&error) => Err(Errno::from_host(-error as i32)),
            _ => {
                self.space.tampered("impossible result of clone");
                Err(Errno::ESRCH)
            }
        }
    }

    /// Another thread (or a vfork child) in the same address space, registers and FP state copied. The caller sets its `rax`, `rsp`, `fs_base`.
    pub fn spawn(&mut self) -> Result<UserThread, Errno> {
        if self.space.is_dead() {
            return Err(Errno::ESRCH);
        }
        self.claim();
        let result = self.spawn_claimed().map_err(short_of);
        self.core.release();
        result
    }

    fn spawn_claimed(&mut self) -> Result<UserThread, Errno> {
        let layout = &machine().layout;
        let mut state = self.space.lock();
        if let Some(core) = state.idle.pop() {
            count(&COUNTERS.thread_reuses);
            self.prepare_frame(&core.region)?;
            if machine().backend == Backend::Ptrace {
                trace::set_xstate(&core, &trace::xstate(&self.core))?;
            }
            state.live += 1;
            drop(state);
            return Ok(UserThread::assemble(self.space.clone(), core, self.regs));
        }
        self.space.flush_on(&mut state, &self.core)?;
        let slot = AddressSpace::free_slot(&state).ok_or(Errno::EAGAIN)?;
        let region = match reaper::spare_region() {
            Some(region) => region.moved(layout, slot),
            None => Region::new(layout, slot)?,
        };
        self.prepare_region(&region)?;
        self.space.stage(&mut state, &self.core, &[region.fd().as_raw_fd()])?;
        self.core.region.put32(region::ARG0, 0);
        self.core.region.put64(region::ARG1, region.stub_addr);
        let tid = self.clone(Command::THREAD | Command::BATCH, CLONE_THREAD)?;
        count(&COUNTERS.threads);
        let core = Arc::new(Core::new(self.core.pid, tid, slot, region));
        core.set_spins(self.core.spins());
        state.cores.push(core.clone());
        state.live += 1;
        drop(state);
        if machine().backend == Backend::Ptrace {
            trace::arm_signal_stack(&core)?;
            trace::set_xstate(&core, &trace::xstate(&self.core))?;
        }
        let mut thread = UserThread::assemble(self.space.clone(), core, self.regs);
        thread.loaded = self.loaded;
        thread.placed = self.placed;
        Ok(thread)
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

/// What a guest is told when the host has no more of something for a new process or thread; the log names the host's knob, once each.
fn short_of(errno: Errno) -> Errno {
    static TOLD: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];
    let say = |kind: usize, text: &str| {
        if !TOLD[kind].swap(true, Ordering::Relaxed) {
            log::warn!("the host gives no more {text}");
        }
    };
    match errno {
        Errno::EAGAIN => {
            say(
                0,
                "processes or threads: raise ulimit -u, or pids.max of the control group around us",
            );
            Errno::EAGAIN
        }
        Errno::EMFILE | Errno::ENFILE => {
            say(1, "open files: raise ulimit -n");
            Errno::EAGAIN
        }
        Errno::EFBIG | Errno::ENOSPC => Errno::ENOMEM,
        other => other,
    }
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

struct KickState {
    /// Host process and thread; `None` once the guest thread is gone.
    target: Mutex<Option<(i32, i32)>>,
    running: AtomicBool,
    pending: AtomicBool,
}

/// Interrupts a [`UserThread`]. Harmless after the thread is gone.
#[derive(Clone)]
pub struct Kicker {
    state: Arc<KickState>,
}

impl Kicker {
    /// A `run()` in progress, or the next one, ends with `Exit::Interrupted` soon (or with another exit that came first).
    pub fn kick(&self) {
        self.state.pending.store(true, Ordering::SeqCst);
        if self.state.running.load(Ordering::SeqCst) {
            let target = self
                .state
                .target
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
            if let Some((pid, tid)) = *target {
                let _ = host::tgkill(pid, tid, handoff::KICK);
            }
        }
    }
}
