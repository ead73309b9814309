//! Nice values: `getpriority(2)`, `setpriority(2)`.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::rlimit::Resource;
use super::{Capabilities, Pid, Task, table};
use crate::syscall::Context;
use crate::{Errno, Result};

impl Task {
    /// Its nice value, -20..=19.
    pub fn nice(&self) -> i32 {
        self.with_attributes(|attributes| attributes.nice)
    }

    /// Sets its nice value, and the scheduler's.
    pub fn set_nice(&self, nice: i32) {
        let effective = self.with_attributes(|attributes| {
            attributes.nice = nice;
            attributes.sched.effective_nice(nice)
        });
        if let Some(thread) = self.thread() {
            thread.set_nice(effective);
        }
    }

    /// Whether it may be given a nice value that low (`RLIMIT_NICE` counts 40 down to 1).
    pub fn may_have_nice(&self, nice: i32) -> bool {
        (20 - nice) as u64 <= self.process().limit(Resource::NICE)
    }
}

/// The tasks of `PRIO_PROCESS`, `PRIO_PGRP`, `PRIO_USER`. `EINVAL` for another kind.
fn tasks(cx: &Context, which: i32, who: i32) -> Result<Vec<Arc<Task>>> {
    let own = cx.task();
    let tasks = match (which, who) {
        (0, 0) => Vec::from([own.clone()]),
        (0, pid) => table::task(Pid(pid)).into_iter().collect(),
        (1, group) => {
            let group = if group == 0 { own.process().group() } else { Pid(group) };
            table::group(group)
                .iter()
                .flat_map(|process| process.threads())
                .collect()
        }
        (2, uid) => {
            let uid = if uid == 0 { own.cred().uid } else { uid as u32 };
            let all = table::processes().into_iter().flat_map(|process| process.threads());
            all.filter(|task| task.cred().uid == uid).collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    Ok(tasks)
}

/// `getpriority(2)`: 40 minus nice, the highest priority of all.
pub fn sys_getpriority(cx: &Context, which: i32, who: i32) -> Result<usize> {
    let best = tasks(cx, which, who)?
        .iter()
        .map(|task| 20 - task.nice())
        .max()
        .ok_or(Errno::ESRCH)?;
    Ok(best as usize)
}

/// `setpriority(2)`. `EPERM` for another user's task, `EACCES` for more than `RLIMIT_NICE` allows.
pub fn sys_setpriority(cx: &Context, which: i32, who: i32, nice: i32) -> Result<usize> {
    let nice = nice.clamp(-20, 19);
    let own = cx.task().cred();
    let mut outcome = Err(Errno::ESRCH);
    for task in tasks(cx, which, who)? {
        let theirs = task.cred();
        let result = if theirs.uid != own.euid && theirs.euid != own.euid && !own.capable(Capabilities::SYS_NICE) {
            Err(Errno::EPERM)
        } else if nice < task.nice() && !task.may_have_nice(nice) && !own.capable(Capabilities::SYS_NICE) {
            Err(Errno::EACCES)
        } else {
            task.set_nice(nice);
            Ok(0)
        };
        outcome = match (outcome, result) {
            (Err(Errno::ESRCH), Ok(_)) => Ok(0),
            (before, Ok(_)) => before,
            (_, Err(error)) => Err(error),
        };
    }
    outcome
}
