//! `RLIMIT_CPU`: a timer on a process's CPU time.
//!
//! It sends `SIGXCPU` at the soft limit and each second after it, `SIGKILL` at the hard one. A program that only computes never enters the
//! kernel by itself, so a timer has to look. It rests while there is no limit.

use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};

use super::clock_timer::{Start, TimerEvent};
use super::cpu_clock::{CpuKind, CpuTarget};
use super::cpu_timer::CpuTimer;
use super::{NSEC_PER_SEC, ProcessTimers};
use crate::signal::{SigInfo, Signal, send};
use crate::task::Process;
use crate::task::rlimit::{INFINITY, Limit, Resource};

/// The timer behind the limit.
pub struct CpuLimit(CpuTimer);

impl CpuLimit {
    /// At rest; it will hold `owner` to its limit.
    pub fn new(owner: Weak<Process>) -> Self {
        let target = CpuTarget::Process(owner.clone());
        Self(CpuTimer::new(
            target,
            CpuKind::Prof,
            Box::new(move |event| {
                if let (TimerEvent::Expired(_), Some(process)) = (event, owner.upgrade()) {
                    enforce(&process);
                }
            }),
        ))
    }

    /// No more looks.
    pub fn disarm(&self) {
        self.0.set(Start::Absolute, 0, 0);
    }

    fn arm(&self, soft: u64) {
        // A limit of nothing is reached with the first second, as on Linux.
        let first = soft.max(1).saturating_mul(NSEC_PER_SEC);
        self.0.set(Start::Absolute, first, NSEC_PER_SEC);
    }
}

/// The limit of `process` was set, or inherited. Its lock is not held.
pub fn watch(process: &Arc<Process>) {
    match process.limit(Resource::CPU) {
        INFINITY => {
            if let Some(timers) = ProcessTimers::existing(process) {
                timers.cpu_limit.disarm();
            }
        }
        soft => ProcessTimers::of(process).cpu_limit.arm(soft),
    }
}

fn enforce(process: &Arc<Process>) {
    let (user, system) = process.cpu_times();
    let seconds = user.saturating_add(system) / NSEC_PER_SEC;
    let signal = {
        let mut limits = process.limits().lock();
        let limit = limits.get(Resource::CPU);
        if seconds >= limit.hard {
            Signal::KILL
        } else if seconds >= limit.soft {
            let soft = seconds + 1;
            limits.set(Resource::CPU, Limit { soft, ..limit });
            Signal::XCPU
        } else {
            return;
        }
    };
    send::to_process(process, SigInfo::kernel(signal));
}
