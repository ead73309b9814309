//! New guest threads: in an empty space, in a copy of one, in the same one.

use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arch_um::Errno;

use super::UserThread;
use crate::core::Core;
use crate::machine::machine;
use crate::region::{self, Command, Region};
use crate::stats::{COUNTERS, count};
use crate::{AddressSpace, Backend, host, reaper, trace};

const CLONE_FORK: u64 = 0x8011;
const CLONE_THREAD: u64 = 0x50f00;

impl UserThread {
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
