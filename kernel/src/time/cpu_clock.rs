//! The CPU time of processes and threads as a clock (`clock_getcpuclockid(3)`).
//!
//! A clock id is `!pid << 3 | kind`, bit 2 set for a thread; pid 0 is the caller.

use alloc::sync::{Arc, Weak};

use crate::syscall::Context;
use crate::task::{Pid, Process, Task, table};
use crate::{Errno, Result};

/// Which time of a task counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuKind {
    /// User and system time (`CPUCLOCK_PROF`).
    Prof,
    /// User time (`CPUCLOCK_VIRT`).
    Virt,
    /// Time on a CPU (`CPUCLOCK_SCHED`).
    Sched,
}

/// A CPU clock as its number names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuClock {
    /// Process or thread; 0 for the caller.
    pub pid: Pid,
    /// Whether `pid` is a thread or a whole process.
    pub scope: Scope,
    /// Which time.
    pub kind: CpuKind,
}

/// Whose time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All threads of a process, dead ones too.
    Process,
    /// One thread.
    Thread,
}

/// A CPU clock's owner, found. It does not keep the owner alive.
#[derive(Clone)]
pub enum CpuTarget {
    /// A process.
    Process(Weak<Process>),
    /// A thread.
    Thread(Weak<Task>),
}

impl CpuClock {
    /// `CLOCK_PROCESS_CPUTIME_ID`.
    pub const OWN_PROCESS: Self = Self {
        pid: Pid(0),
        scope: Scope::Process,
        kind: CpuKind::Sched,
    };
    /// `CLOCK_THREAD_CPUTIME_ID`.
    pub const OWN_THREAD: Self = Self {
        pid: Pid(0),
        scope: Scope::Thread,
        kind: CpuKind::Sched,
    };

    /// The clock with a negative number. `EINVAL` for the kind that stands for clock devices, which there are none of.
    pub fn from_id(id: i32) -> Result<Self> {
        let kind = match id & 3 {
            0 => CpuKind::Prof,
            1 => CpuKind::Virt,
            2 => CpuKind::Sched,
            _ => return Err(Errno::EINVAL),
        };
        let scope = if id & 4 != 0 { Scope::Thread } else { Scope::Process };
        Ok(Self {
            pid: Pid(!(id >> 3)),
            scope,
            kind,
        })
    }

    /// Finds whom it counts. `EINVAL` when there is no such process, or the thread is not one of the caller's process.
    pub fn target(self, cx: &Context) -> Result<CpuTarget> {
        let own = cx.task();
        match (self.scope, self.pid) {
            (Scope::Thread, Pid(0)) => Ok(CpuTarget::Thread(Arc::downgrade(own))),
            (Scope::Process, Pid(0)) => Ok(CpuTarget::Process(Arc::downgrade(own.process()))),
            (Scope::Thread, tid) => {
                let task = table::task(tid).ok_or(Errno::EINVAL)?;
                if !Arc::ptr_eq(task.process(), own.process()) {
                    return Err(Errno::EINVAL);
                }
                Ok(CpuTarget::Thread(Arc::downgrade(&task)))
            }
            (Scope::Process, pid) => {
                let process = table::process(pid).ok_or(Errno::EINVAL)?;
                Ok(CpuTarget::Process(Arc::downgrade(&process)))
            }
        }
    }

    /// What it reads, ns. `EINVAL` as for [`target`](Self::target).
    pub fn read(self, cx: &Context) -> Result<u64> {
        self.target(cx)?.read(self.kind).ok_or(Errno::EINVAL)
    }
}

impl CpuTarget {
    /// The time used so far, ns; none once the owner is gone.
    pub fn read(&self, kind: CpuKind) -> Option<u64> {
        let (user, system) = match self {
            CpuTarget::Process(process) => process.upgrade()?.cpu_times(),
            CpuTarget::Thread(task) => task.upgrade()?.cpu_times(),
        };
        Some(match kind {
            CpuKind::Virt => user,
            CpuKind::Prof | CpuKind::Sched => user.saturating_add(system),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_ids_name_process_scope_and_kind() {
        // glibc: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED) is (~pid << 3) | 2.
        let clock = CpuClock::from_id((!42 << 3) | 2).unwrap();
        assert_eq!(
            clock,
            CpuClock {
                pid: Pid(42),
                scope: Scope::Process,
                kind: CpuKind::Sched
            }
        );
        let clock = CpuClock::from_id((!7 << 3) | 4 | 1).unwrap();
        assert_eq!(
            clock,
            CpuClock {
                pid: Pid(7),
                scope: Scope::Thread,
                kind: CpuKind::Virt
            }
        );
        assert!(CpuClock::from_id((!7 << 3) | 3).is_err());
    }
}
