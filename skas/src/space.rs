//! Guest address spaces: one host process each, its queue of mapping changes and its stub threads.
//!
//! Lock order: `AddressSpace::state` before the clone gate (gate.rs). No lock is held while guest code runs.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use arch_um::Errno;

use crate::core::{Core, Gone};
use crate::machine::machine;
use crate::queue::{self, Op, Queue};
use crate::region::{self, Command};
use crate::stats::{COUNTERS, count};
use crate::{Backing, MapFlags, Prot, Share, host, reaper};

/// How long a batch may keep the other threads of its space waiting.
const SETTLE: std::time::Duration = std::time::Duration::from_secs(30);

/// A guest address space: one host process. Shared by its [`UserThread`](crate::UserThread)s as `Arc<AddressSpace>`.
///
/// Mapping changes are queued, in order; the next [`run`](crate::UserThread::run) of any of its threads, or a flush, performs them, and no
/// other thread of the space runs guest code before they are in force.
pub struct AddressSpace {
    pub(crate) pid: i32,
    /// The kernel's end of the stub's control socket.
    pub(crate) socket: OwnedFd,
    state: Mutex<SpaceState>,
    /// Something is queued or a batch is not yet known to be done: `run` must look at `state`.
    pending: AtomicBool,
    pub(crate) dead: AtomicBool,
    /// Bytes of guest memory that `read` and `write` moved, for tuning.
    pub(crate) copied: AtomicU64,
}

pub(crate) struct SpaceState {
    pub(crate) queue: Queue,
    /// A batch that was handed to a core together with RESUME, and the number it acknowledges.
    in_flight: Option<(Arc<Core>, u32)>,
    seq: u32,
    /// Every stub thread, the idle ones too.
    pub(crate) cores: Vec<Arc<Core>>,
    /// Stub threads whose guest thread is gone: parked, ready for the next `spawn`.
    pub(crate) idle: Vec<Arc<Core>>,
    /// UserThreads of this space.
    pub(crate) live: usize,
}

impl AddressSpace {
    pub(crate) fn new(pid: i32, socket: OwnedFd, core: Arc<Core>) -> AddressSpace {
        AddressSpace {
            pid,
            socket,
            state: Mutex::new(SpaceState {
                queue: Queue::default(),
                in_flight: None,
                seq: 0,
                cores: vec![core],
                idle: Vec::new(),
                live: 1,
            }),
            pending: AtomicBool::new(false),
            dead: AtomicBool::new(false),
            copied: AtomicU64::new(0),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, SpaceState> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn push(&self, kind: u32, args: [u64; 6], file: Option<Arc<OwnedFd>>) -> Result<(), Errno> {
        let mut state = self.lock();
        state.queue.push(Op { kind, args, file });
        self.pending.store(true, Ordering::Release);
        Ok(())
    }

    fn range(addr: u64, len: u64) -> Result<(), Errno> {
        let layout = &machine().layout;
        if addr & 4095 != 0 || len & 4095 != 0 || len == 0 {
            Err(Errno::EINVAL)
        } else if !layout.guest_range(addr, len) {
            Err(Errno::ENOMEM)
        } else {
            Ok(())
        }
    }

    /// Queues a mapping of `[addr, addr + len)`, replacing what was there. `EINVAL` for what is not page-aligned or empty, `ENOMEM` beyond
    /// `Layout::task_size`. Errors of the host come later: from `flush` or as `Exit::QueueFailed`.
    pub fn map(&self, addr: u64, len: u64, prot: Prot, backing: Backing, flags: MapFlags) -> Result<(), Errno> {
        Self::range(addr, len)?;
        let fixed = u64::from(flags.bits()) | libc::MAP_FIXED as u64;
        let prot = u64::from(prot.bits());
        match backing {
            Backing::Anonymous => {
                let flags = fixed | (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as u64;
                self.push(queue::MMAP, [addr, len, prot, flags, u64::MAX, 0], None)
            }
            Backing::File { fd, offset, share } => {
                if offset & 4095 != 0 {
                    return Err(Errno::EINVAL);
                }
                let flags = fixed
                    | match share {
                        Share::Private => libc::MAP_PRIVATE,
                        Share::Shared => libc::MAP_SHARED,
                    } as u64;
                self.push(queue::MMAP, [addr, len, prot, flags, 0, offset], Some(fd))
            }
        }
    }

    /// Queues `munmap(2)`.
    pub fn unmap(&self, addr: u64, len: u64) -> Result<(), Errno> {
        Self::range(addr, len)?;
        self.push(queue::MUNMAP, [addr, len, 0, 0, 0, 0], None)
    }

    /// Queues `mprotect(2)`. The whole range must be mapped, else `ENOMEM` later.
    pub fn protect(&self, addr: u64, len: u64, prot: Prot) -> Result<(), Errno> {
        Self::range(addr, len)?;
        self.push(queue::MPROTECT, [addr, len, u64::from(prot.bits()), 0, 0, 0], None)
    }

    /// Queues `mremap(2)` with `MREMAP_MAYMOVE|MREMAP_FIXED`: moves pages, grows or shrinks, replaces what is at the new place. The old
    /// range must lie in one host mapping and not overlap the new one. In place (`new == old`) only the size changes, and growing fails with
    /// `ENOMEM` unless the space behind is free on the host.
    pub fn remap(&self, old: u64, old_len: u64, new: u64, new_len: u64) -> Result<(), Errno> {
        Self::range(old, old_len)?;
        Self::range(new, new_len)?;
        let flags = if old == new {
            0
        } else {
            (libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED) as u64
        };
        self.push(queue::MREMAP, [old, old_len, new_len, flags, new, 0], None)
    }

    /// Queues `madvise(2)` with the host's `MADV_*` value.
    pub fn advise(&self, addr: u64, len: u64, advice: i32) -> Result<(), Errno> {
        Self::range(addr, len)?;
        self.push(queue::MADVISE, [addr, len, advice as u64, 0, 0, 0], None)
    }

    /// Runs the queued changes now, on any stub thread of this space that is not running guest code. Nothing queued: success at once.
    ///
    /// # Errors
    /// The host's errno of the first change that failed (the queue is empty then); `EAGAIN` when all its threads run guest code (kick one:
    /// its next run does it); `ESRCH` when the host process is gone.
    pub fn flush(&self) -> Result<(), Errno> {
        if !self.pending.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut state = self.lock();
        self.settle(&mut state)?;
        if state.queue.is_empty() {
            return Ok(());
        }
        let core = state
            .borrow_core()
            .ok_or(if self.is_dead() { Errno::ESRCH } else { Errno::EAGAIN })?;
        let result = self.flush_on(&mut state, &core);
        core.release();
        result
    }

    /// Compare and exchange of a naturally aligned word, atomic for guest threads. Returns the value found (`old` if it was exchanged).
    /// `EFAULT`; `EINVAL` unaligned; `EAGAIN` when all threads of the space run guest code (call it from a thread of the space).
    pub fn cmpxchg_u32(&self, addr: u64, old: u32, new: u32) -> Result<u32, Errno> {
        if addr & 3 != 0 {
            return Err(Errno::EINVAL);
        }
        if addr >= machine().layout.task_size {
            return Err(Errno::EFAULT);
        }
        let mut state = self.lock();
        self.settle(&mut state)?;
        let core = state
            .borrow_core()
            .ok_or(if self.is_dead() { Errno::ESRCH } else { Errno::EAGAIN })?;
        let result = self.flush_on(&mut state, &core).and_then(|()| {
            state.queue.push(Op {
                kind: queue::CMPXCHG,
                args: [addr, old.into(), new.into(), 0, 0, 0],
                file: None,
            });
            self.flush_on(&mut state, &core)?;
            Ok(core.region.get64(region::RESULT) as u32)
        });
        core.release();
        result
    }

    /// The host's process id, for messages.
    pub fn host_pid(&self) -> i32 {
        self.pid
    }

    /// Whether the host process is known to be gone.
    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed)
    }

    /// Ends the host process: for tampering, or because nobody needs it any more.
    pub(crate) fn kill(&self) {
        if !self.dead.swap(true, Ordering::SeqCst) {
            host::kill(self.pid);
        }
    }

    /// Ends the host process because what its stub says cannot come from our code.
    pub(crate) fn tampered(&self, what: &str) {
        if !self.dead.swap(true, Ordering::SeqCst) {
            count(&COUNTERS.tampering);
            log::warn!("guest process on host pid {} killed for tampering: {what}", self.pid);
            host::kill(self.pid);
        }
    }

    pub(crate) fn has_pending(&self) -> bool {
        self.pending.load(Ordering::Acquire)
    }

    /// Waits until a batch that was handed to another thread is in force.
    fn settle(&self, state: &mut SpaceState) -> Result<(), Gone> {
        let Some((core, seq)) = &state.in_flight else {
            return Ok(());
        };
        let mut rounds = 0u32;
        let start = std::time::Instant::now();
        while core.region.atomic32(region::ACK).load(Ordering::Acquire) != *seq {
            rounds += 1;
            match rounds {
                0..200 => std::hint::spin_loop(),
                200..400 => std::thread::yield_now(),
                _ => std::thread::sleep(std::time::Duration::from_micros(50)),
            }
            if self.is_dead() || (rounds.is_multiple_of(2000) && (!core.alive() || start.elapsed() > SETTLE)) {
                self.kill();
                return Err(Gone);
            }
        }
        self.settled(state);
        Ok(())
    }

    fn settled(&self, state: &mut SpaceState) {
        state.in_flight = None;
        if state.queue.is_empty() {
            self.pending.store(false, Ordering::Release);
        }
    }

    /// The core that was given a batch has come back: the batch is done.
    pub(crate) fn returned(&self, core: &Arc<Core>) {
        let mut state = self.lock();
        if state
            .in_flight
            .as_ref()
            .is_some_and(|(flying, _)| Arc::ptr_eq(flying, core))
        {
            self.settled(&mut state);
        }
    }

    /// Empties the queue on a claimed core.
    pub(crate) fn flush_on(&self, state: &mut SpaceState, core: &Arc<Core>) -> Result<(), Errno> {
        self.settle(state)?;
        while !state.queue.is_empty() {
            self.one_batch(state, core)?;
        }
        self.pending.store(false, Ordering::Release);
        Ok(())
    }

    fn one_batch(&self, state: &mut SpaceState, core: &Arc<Core>) -> Result<(), Errno> {
        let result = self.stage(state, core, &[]).and_then(|_| {
            self.command(core, Command::REPORT | Command::BATCH)?;
            core.outcome()
        });
        if result.is_err() {
            state.queue.clear();
            self.pending.store(false, Ordering::Release);
        }
        result
    }

    /// Puts a batch into the region of a claimed core.
    pub(crate) fn stage(&self, state: &mut SpaceState, core: &Core, extra: &[i32]) -> Result<usize, Errno> {
        let files = state.queue.stage(&core.region, &self.socket, extra).map_err(|errno| {
            // What was taken from the queue is lost: none of it is performed.
            state.queue.clear();
            match errno {
                Errno::EPIPE | Errno::ECONNRESET => {
                    self.kill();
                    Errno::ESRCH
                }
                other => other,
            }
        })?;
        state.seq = state.seq.wrapping_add(1);
        core.region.put32(region::SEQ, state.seq);
        Ok(files)
    }

    /// Runs a command on a claimed core.
    pub(crate) fn command(&self, core: &Core, command: Command) -> Result<(), Gone> {
        core.command(command, &self.dead).inspect_err(|_| self.kill())
    }

    /// Waits for a core; a stub that is gone takes the space with it.
    pub(crate) fn wait(&self, core: &Core, answer_due: &dyn Fn() -> bool) -> Result<(), Gone> {
        core.wait(&self.dead, answer_due).inspect_err(|_| self.kill())
    }

    /// For a run about to start on a claimed core: what is queued goes along. Returns the flag to add to the command.
    pub(crate) fn prepare_run(&self, core: &Arc<Core>) -> Result<Command, Errno> {
        let mut state = self.lock();
        self.settle(&mut state)?;
        while !state.queue.fits() {
            self.one_batch(&mut state, core)?;
        }
        if state.queue.is_empty() {
            self.pending.store(false, Ordering::Release);
            return Ok(Command::empty());
        }
        self.stage(&mut state, core, &[])?;
        state.in_flight = Some((core.clone(), state.seq));
        Ok(Command::BATCH)
    }

    /// The lowest slot without a stub thread.
    pub(crate) fn free_slot(state: &SpaceState) -> Option<usize> {
        // One of the first n + 1 is free when n are taken.
        let mut taken = vec![false; state.cores.len() + 1];
        for core in &state.cores {
            if let Some(taken) = taken.get_mut(core.slot) {
                *taken = true;
            }
        }
        let free = taken.iter().position(|taken| !taken)?;
        (free < machine().layout.region_count).then_some(free)
    }
}

impl SpaceState {
    /// A parked core, claimed. The caller releases it.
    fn borrow_core(&self) -> Option<Arc<Core>> {
        self.cores.iter().find(|core| core.try_claim()).cloned()
    }
}

impl AddressSpace {
    /// The last guest thread is gone: ends and buries the host process.
    pub(crate) fn end(&self, state: &mut SpaceState) {
        self.kill();
        state.in_flight = None;
        state.queue.clear();
        state.idle.clear();
        if !state.cores.is_empty() {
            reaper::bury(self.pid, std::mem::take(&mut state.cores));
        }
    }
}

impl Drop for AddressSpace {
    fn drop(&mut self) {
        // Only a space that never got a thread still has cores here.
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        self.end(&mut state);
    }
}
