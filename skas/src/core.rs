//! One stub thread as the kernel sees it: its region, its ids, and who is using it at the moment.
//!
//! A core is *parked* while its stub waits for the word. [`UserThread::run`](crate::UserThread::run) claims its own core; a flush of the
//! space may borrow any parked one. A claim is one compare-and-exchange; borrowers hold the space's lock for as long as they use the core.

use std::cell::RefCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use arch_um::Errno;

use crate::machine::machine;
use crate::region::{self, Command, Region};
use crate::{Backend, handoff, host, trace, watch};

const PARKED: u32 = 0;
const CLAIMED: u32 = 1;

/// How much suspicion a stub may collect: about 15 seconds of computing, 2 of waiting for nothing.
const MAX_SILENCE: u32 = 150;

thread_local! {
    /// The stub thread that this host thread ran last. Only used where no switch of stacks can come between.
    static LAST: RefCell<Weak<Core>> = const { RefCell::new(Weak::new()) };
}

/// The stub's process is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gone;

impl From<Gone> for Errno {
    fn from(_: Gone) -> Errno {
        Errno::ESRCH
    }
}

pub(crate) struct Core {
    pub(crate) pid: i32,
    pub(crate) tid: i32,
    pub(crate) slot: usize,
    pub(crate) region: Region,
    state: AtomicU32,
    /// ptrace: a kick was seen while the stub's own code ran.
    pub(crate) kicked: AtomicBool,
    /// Both sides spin before they sleep.
    spins: AtomicBool,
}

impl Core {
    pub(crate) fn new(pid: i32, tid: i32, slot: usize, region: Region) -> Core {
        Core {
            pid,
            tid,
            slot,
            region,
            state: AtomicU32::new(PARKED),
            kicked: AtomicBool::new(false),
            spins: AtomicBool::new(false),
        }
    }

    pub(crate) fn try_claim(&self) -> bool {
        self.state
            .compare_exchange(PARKED, CLAIMED, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    pub(crate) fn release(&self) {
        self.state.store(PARKED, Ordering::Release);
    }

    pub(crate) fn spins(&self) -> bool {
        self.spins.load(Ordering::Relaxed)
    }

    pub(crate) fn set_spins(&self, spins: bool) {
        if self.spins() != spins {
            self.spins.store(spins, Ordering::Relaxed);
            // One that spins at this moment sleeps instead.
            self.region.put64(region::SPIN, 0);
        }
    }

    /// Hands a command to the stub. The caller has claimed the core.
    pub(crate) fn send(&self, command: Command) {
        self.region.put32(region::STATUS, 0);
        self.region
            .put64(region::SPIN, if self.spins() { machine().spin.stub() } else { 0 });
        self.region.put32(region::COMMAND, command.bits());
        handoff::give(self.region.word());
    }

    /// This host thread runs `core` now. The stub thread it ran before must not go on spinning: its CPU is wanted.
    pub(crate) fn leave_last(core: &Arc<Core>) {
        LAST.with_borrow_mut(|last| {
            if !ptr::eq(last.as_ptr(), Arc::as_ptr(core)) {
                if let Some(last) = last.upgrade() {
                    last.region.put64(region::SPIN, 0);
                }
                *last = Arc::downgrade(core);
            }
        });
    }

    /// Runs one command other than `RESUME` to its end.
    pub(crate) fn command(&self, command: Command, dead: &AtomicBool) -> Result<(), Gone> {
        match machine().backend {
            Backend::Seccomp => {
                self.send(command);
                self.wait(dead, &|| true)
            }
            Backend::Ptrace => trace::command(self, command, dead),
        }
    }

    /// Waits until the stub has handed back. `answer_due` says whether it ought to do so soon whatever the guest computes: always for
    /// commands, after a kick for guest code. One that never answers is given up, so that a hostile guest cannot hold a virtual CPU.
    pub(crate) fn wait(&self, dead: &AtomicBool, answer_due: &dyn Fn() -> bool) -> Result<(), Gone> {
        let mut spin = if self.spins() { machine().spin.kernel() } else { 0 };
        // Counted in ticks of the watch, not in time: a pause of the whole machine must not count.
        let (mut silence, mut ticks) = (0, watch::ticks());
        loop {
            if handoff::wait(self.region.word(), spin) {
                return Ok(());
            }
            spin = 0;
            if dead.load(Ordering::Relaxed) || !self.alive() {
                watch::alarm();
                return Err(Gone);
            }
            if watch::ticks() == ticks {
                continue;
            }
            ticks = watch::ticks();
            silence = if answer_due() { silence + self.suspicion() } else { 0 };
            if silence > MAX_SILENCE {
                log::warn!("host thread {} does not answer", self.tid);
                return Err(Gone);
            }
        }
    }

    /// How strange it is that this stub thread does not answer now. Our own code may compute for long (a large munmap) or wait for a disk,
    /// but never sleeps interruptibly with the signals blocked unless the guest makes it wait for nothing.
    fn suspicion(&self) -> u32 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/task/{}/status", self.pid, self.tid)).unwrap_or_default();
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .map_or("", str::trim)
        };
        let blocked = u64::from_str_radix(field("SigBlk:"), 16).unwrap_or(0) & 1 << (handoff::KICK - 1) != 0;
        match field("State:").chars().next() {
            Some('S') if blocked => 8,
            Some('D' | 'T' | 't') => 0,
            _ => 1,
        }
    }

    /// Whether the stub thread still exists. Not for hot paths.
    pub(crate) fn alive(&self) -> bool {
        if host::has_ended(self.pid) {
            return false;
        }
        // "pid (name) S ...": the name is ours and has no parenthesis.
        let stat = std::fs::read_to_string(format!("/proc/{}/task/{}/stat", self.pid, self.tid));
        match stat {
            Ok(stat) => !matches!(
                stat.rsplit(") ").next().and_then(|rest| rest.chars().next()),
                Some('Z' | 'X') | None
            ),
            Err(_) => host::tgkill(self.pid, self.tid, 0).is_ok(),
        }
    }

    /// Status and errno of the last command. `ESRCH` for nonsense.
    pub(crate) fn outcome(&self) -> Result<(), Errno> {
        match self.region.get32(region::STATUS) {
            region::STATUS_DONE | region::STATUS_SIGNAL => Ok(()),
            region::STATUS_FAILED => {
                let code = (self.region.get32(region::ERROR) as i32).wrapping_neg();
                Err(Errno::from_host(code))
            }
            _ => Err(Errno::ESRCH),
        }
    }
}
