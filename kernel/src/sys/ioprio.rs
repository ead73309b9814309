//! I/O priorities: `ioprio_get(2)`, `ioprio_set(2)`. They are kept and reported; the host orders the I/O.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::syscall::Context;
use crate::task::{Capabilities, Pid, Task, table};
use crate::{Errno, Result};

const CLASS_NONE: u32 = 0;
const CLASS_RT: u32 = 1;
const CLASS_BE: u32 = 2;
const CLASS_IDLE: u32 = 3;
const CLASS_SHIFT: u32 = 13;
/// `IOPRIO_WHO_PROCESS`.
const WHO_PROCESS: i32 = 1;
const LEVELS: u32 = 8;

/// The tasks `which` and `who` name. `ESRCH` when there are none, `EINVAL` for an unknown `which`.
fn targets(cx: &Context, which: i32, who: i32) -> Result<Vec<Arc<Task>>> {
    let own = cx.task();
    let tasks: Vec<Arc<Task>> = match which {
        WHO_PROCESS if who == 0 => alloc::vec![own.clone()],
        WHO_PROCESS => table::task(Pid(who)).into_iter().collect(),
        2 => {
            let group = if who == 0 { own.process().group() } else { Pid(who) };
            table::group(group)
                .iter()
                .flat_map(|process| process.threads())
                .collect()
        }
        3 => {
            let uid = if who == 0 { own.cred().uid } else { who as u32 };
            let all = table::processes();
            all.iter()
                .flat_map(|process| process.threads())
                .filter(|task| task.cred().uid == uid)
                .collect()
        }
        _ => return Err(Errno::EINVAL),
    };
    if tasks.is_empty() { Err(Errno::ESRCH) } else { Ok(tasks) }
}

/// `ioprio_set(2)`.
pub fn sys_ioprio_set(cx: &Context, which: i32, who: i32, priority: u32) -> Result<usize> {
    let (class, level) = (priority >> CLASS_SHIFT & 7, priority & ((1 << CLASS_SHIFT) - 1));
    match class {
        CLASS_RT => {
            let cred = cx.task().cred();
            if !cred.capable(Capabilities::SYS_ADMIN) && !cred.capable(Capabilities::SYS_NICE) {
                return Err(Errno::EPERM);
            }
            if level >= LEVELS {
                return Err(Errno::EINVAL);
            }
        }
        CLASS_BE if level >= LEVELS => return Err(Errno::EINVAL),
        CLASS_BE | CLASS_IDLE => {}
        CLASS_NONE if level == 0 => {}
        _ => return Err(Errno::EINVAL),
    }
    let own = cx.task().cred();
    for task in targets(cx, which, who)? {
        let other = task.cred();
        if other.uid != own.euid && other.uid != own.uid && !own.capable(Capabilities::SYS_NICE) {
            return Err(Errno::EPERM);
        }
        task.with_attributes(|attributes| attributes.ioprio = priority);
    }
    Ok(0)
}

/// `ioprio_get(2)`: of one task what was set, of several the highest that counts.
pub fn sys_ioprio_get(cx: &Context, which: i32, who: i32) -> Result<usize> {
    if which == WHO_PROCESS {
        let tasks = targets(cx, which, who)?;
        return Ok(tasks
            .first()
            .map_or(0, |task| task.with_attributes(|attributes| attributes.ioprio)) as usize);
    }
    let priorities = targets(cx, which, who)?.into_iter().map(|task| {
        let (set, nice) = task.with_attributes(|attributes| (attributes.ioprio, attributes.nice));
        effective(set, nice)
    });
    Ok(priorities.reduce(higher).unwrap_or(0) as usize)
}

/// A task without one has best effort at the level its nice value gives.
fn effective(set: u32, nice: i32) -> u32 {
    if set >> CLASS_SHIFT & 7 != CLASS_NONE {
        return set;
    }
    (CLASS_BE << CLASS_SHIFT) | ((nice.clamp(-20, 19) + 20) as u32 / 5)
}

/// The smaller number is the higher priority.
fn higher(a: u32, b: u32) -> u32 {
    a.min(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nice_value_stands_for_an_io_priority() {
        assert_eq!(effective(0, 0), CLASS_BE << CLASS_SHIFT | 4);
        assert_eq!(effective(0, -20), CLASS_BE << CLASS_SHIFT);
        assert_eq!(effective(0, 19), CLASS_BE << CLASS_SHIFT | 7);
        assert_eq!(effective(CLASS_IDLE << CLASS_SHIFT, 0), CLASS_IDLE << CLASS_SHIFT);
    }
}
