//! The timers a process owns: the interval timers, the POSIX timers and the one behind `RLIMIT_CPU`.
//!
//! A child starts without any; `execve` deletes the POSIX timers and keeps the interval timers; death ends all.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use arch_um::sync::{SpinLock, order};

use super::cpu_limit::CpuLimit;
use super::itimer::IntervalTimers;
use super::posix_timer::PosixTimer;
use crate::task::Process;

/// All timers of one process.
pub struct ProcessTimers {
    /// `alarm`, `setitimer`.
    pub interval: IntervalTimers,
    /// `timer_create`, by id.
    pub posix: SpinLock<BTreeMap<i32, Arc<PosixTimer>>>,
    /// `RLIMIT_CPU`.
    pub cpu_limit: CpuLimit,
}

/// What hangs on the process: nothing until the first timer.
#[derive(Default)]
struct Slot(spin::Once<Arc<ProcessTimers>>);

impl ProcessTimers {
    /// The timers of `process`, made at first use.
    pub fn of(process: &Arc<Process>) -> Arc<Self> {
        let make = || {
            let interval = IntervalTimers::new(Arc::downgrade(process));
            Arc::new(Self {
                interval,
                posix: SpinLock::new(&order::TIMER, BTreeMap::new()),
                cpu_limit: CpuLimit::new(Arc::downgrade(process)),
            })
        };
        process.slot::<Slot>().0.call_once(make).clone()
    }

    /// The timers of `process`, if it ever used one.
    pub fn existing(process: &Process) -> Option<Arc<Self>> {
        process.find_slot::<Slot>()?.0.get().cloned()
    }

    /// `process` calls `execve`: its POSIX timers are deleted.
    pub fn exec(process: &Process) {
        if let Some(timers) = Self::existing(process) {
            timers.delete_posix();
        }
    }

    /// `process` is dead: none of its timers fires any more.
    pub fn exit(process: &Process) {
        if let Some(timers) = Self::existing(process) {
            timers.delete_posix();
            timers.interval.disarm();
            timers.cpu_limit.disarm();
        }
    }

    fn delete_posix(&self) {
        let old = core::mem::take(&mut *self.posix.lock());
        for timer in old.values() {
            timer.disarm();
        }
    }
}
