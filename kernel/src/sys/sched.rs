//! Scheduling policies: `sched_setscheduler(2)`, `sched_setattr(2)` and relatives (`sched(7)`).
//!
//! The machine's scheduler knows nice values. Policies and real-time priorities are checked, kept, inherited and reported as on Linux; a
//! real-time task runs with the strongest nice value, an idle one with the weakest. `SCHED_DEADLINE` is refused: `EPERM` without the right,
//! `EBUSY` with it, as on a machine whose bandwidth is given away.

use crate::syscall::Context;
use crate::task::rlimit::Resource;
use crate::task::{Capabilities, Pid, Task};
use crate::time::layout::TimespecAbi;
use crate::user::{UserAddr, UserPtr};
use crate::{Errno, Result, abi_struct};

use super::affinity::find;

const SCHED_NORMAL: u32 = 0;
const SCHED_FIFO: u32 = 1;
const SCHED_RR: u32 = 2;
const SCHED_BATCH: u32 = 3;
const SCHED_IDLE: u32 = 5;
const SCHED_DEADLINE: u32 = 6;
const SCHED_RESET_ON_FORK: u32 = 0x4000_0000;
const FLAG_RESET_ON_FORK: u64 = 1;
const FLAG_KEEP_POLICY: u64 = 8;
const FLAG_KEEP_PARAMS: u64 = 16;
const FLAGS_KNOWN: u64 = 0x7f;
/// Time slice of `SCHED_RR`, ns.
const RR_SLICE: u64 = 100_000_000;
/// Time slice of the other policies, ns.
const FAIR_SLICE: u64 = 3_000_000;

/// How a task is scheduled, besides its nice value. A new task inherits it ([`Policy::inherited`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// `SCHED_*`.
    pub policy: u32,
    /// Real-time priority, 1..=99 for `SCHED_FIFO` and `SCHED_RR`, else 0.
    pub priority: u32,
    /// `SCHED_RESET_ON_FORK`: children start as ordinary tasks.
    pub reset_on_fork: bool,
}

impl Policy {
    /// Whether it is `SCHED_FIFO` or `SCHED_RR`.
    pub fn is_realtime(self) -> bool {
        matches!(self.policy, SCHED_FIFO | SCHED_RR)
    }

    /// What a child starts with.
    pub fn inherited(self) -> Self {
        match (self.reset_on_fork, self.is_realtime()) {
            (false, _) => self,
            (true, true) => Self::default(),
            (true, false) => Self {
                reset_on_fork: false,
                ..self
            },
        }
    }

    /// The nice value a child starts with: with `SCHED_RESET_ON_FORK` not below 0.
    pub fn inherited_nice(self, nice: i32) -> i32 {
        if self.reset_on_fork { nice.max(0) } else { nice }
    }

    /// The nice value the machine's scheduler gets.
    pub fn effective_nice(self, nice: i32) -> i32 {
        match self.policy {
            SCHED_FIFO | SCHED_RR => -20,
            SCHED_IDLE => 19,
            _ => nice,
        }
    }

    /// `EINVAL` for a priority that does not fit the policy, or an unknown policy.
    fn check(self) -> Result<()> {
        let fits = match self.policy {
            SCHED_FIFO | SCHED_RR => (1..=99).contains(&self.priority),
            SCHED_NORMAL | SCHED_BATCH | SCHED_IDLE => self.priority == 0,
            _ => false,
        };
        if fits { Ok(()) } else { Err(Errno::EINVAL) }
    }
}

/// Priority of a task as /proc/PID/stat shows it (field 18): 0 is nice -20, -2 is real-time priority 1.
pub fn stat_priority(policy: Policy, nice: i32) -> i64 {
    if policy.is_realtime() {
        -1 - i64::from(policy.priority)
    } else {
        i64::from(nice) + 20
    }
}

fn policy_of(task: &Task) -> (Policy, i32) {
    task.with_attributes(|attributes| (attributes.sched, attributes.nice))
}

/// `EPERM` unless the caller may control how `task` is scheduled: same user, or `CAP_SYS_NICE`.
pub(super) fn require_control(cx: &Context, task: &Task) -> Result<()> {
    let (own, other) = (cx.task().cred(), task.cred());
    let same = own.euid == other.euid || own.euid == other.uid;
    if same || own.capable(Capabilities::SYS_NICE) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

fn apply(cx: &Context, task: &Task, new: Policy, nice: Option<i32>) -> Result<()> {
    new.check()?;
    let (old, old_nice) = policy_of(task);
    let privileged = cx.task().cred().capable(Capabilities::SYS_NICE);
    if !privileged {
        let limit = task.process().limit(Resource::RTPRIO);
        let raises = new.policy != old.policy || new.priority > old.priority;
        if new.is_realtime() && raises && u64::from(new.priority) > limit {
            return Err(Errno::EPERM);
        }
        // Out of SCHED_IDLE only where the nice limit would allow the nice value.
        let nice_limit = task.process().limit(Resource::NICE);
        let may_nice = |nice: i32| (20 - i64::from(nice)) as u64 <= nice_limit;
        if old.policy == SCHED_IDLE && new.policy != SCHED_IDLE && !may_nice(old_nice) {
            return Err(Errno::EPERM);
        }
        if nice.is_some_and(|nice| nice < old_nice && !may_nice(nice)) {
            return Err(Errno::EPERM);
        }
        if old.reset_on_fork && !new.reset_on_fork {
            return Err(Errno::EPERM);
        }
        require_control(cx, task)?;
    }
    let nice = task.with_attributes(|attributes| {
        attributes.sched = new;
        if let Some(nice) = nice {
            attributes.nice = nice.clamp(-20, 19);
        }
        attributes.nice
    });
    if let Some(thread) = task.thread() {
        thread.set_nice(new.effective_nice(nice));
    }
    Ok(())
}

fn set_scheduler(cx: &Context, pid: Pid, policy: u32, param: UserPtr<i32>) -> Result<usize> {
    if pid.0 < 0 {
        return Err(Errno::EINVAL);
    }
    let priority = param.non_null().ok_or(Errno::EINVAL)?.read()?;
    let task = find(cx, pid)?;
    let (bare, reset_on_fork) = (policy & !SCHED_RESET_ON_FORK, policy & SCHED_RESET_ON_FORK != 0);
    if bare == SCHED_DEADLINE {
        return Err(Errno::EINVAL);
    }
    let priority = u32::try_from(priority).map_err(|_| Errno::EINVAL)?;
    apply(
        cx,
        &task,
        Policy {
            policy: bare,
            priority,
            reset_on_fork,
        },
        None,
    )?;
    Ok(0)
}

/// `sched_setscheduler(2)`.
pub fn sys_sched_setscheduler(cx: &Context, pid: Pid, policy: i32, param: UserPtr<i32>) -> Result<usize> {
    if policy < 0 {
        return Err(Errno::EINVAL);
    }
    set_scheduler(cx, pid, policy as u32, param)
}

/// `sched_setparam(2)`: another priority under the same policy.
pub fn sys_sched_setparam(cx: &Context, pid: Pid, param: UserPtr<i32>) -> Result<usize> {
    let (old, _) = policy_of(&*find(cx, pid)?);
    let flag = if old.reset_on_fork { SCHED_RESET_ON_FORK } else { 0 };
    set_scheduler(cx, pid, old.policy | flag, param)
}

/// `sched_getscheduler(2)`.
pub fn sys_sched_getscheduler(cx: &Context, pid: Pid) -> Result<usize> {
    let (policy, _) = policy_of(&*find(cx, pid)?);
    let flag = if policy.reset_on_fork { SCHED_RESET_ON_FORK } else { 0 };
    Ok((policy.policy | flag) as usize)
}

/// `sched_getparam(2)`.
pub fn sys_sched_getparam(cx: &Context, pid: Pid, param: UserPtr<i32>) -> Result<usize> {
    let param = param.non_null().ok_or(Errno::EINVAL)?;
    let (policy, _) = policy_of(&*find(cx, pid)?);
    param.write(&(policy.priority as i32))?;
    Ok(0)
}

/// `sched_get_priority_max(2)`.
pub fn sys_sched_get_priority_max(_cx: &Context, policy: u32) -> Result<usize> {
    match policy {
        SCHED_FIFO | SCHED_RR => Ok(99),
        SCHED_NORMAL | SCHED_BATCH | SCHED_IDLE | SCHED_DEADLINE => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// `sched_get_priority_min(2)`.
pub fn sys_sched_get_priority_min(_cx: &Context, policy: u32) -> Result<usize> {
    match policy {
        SCHED_FIFO | SCHED_RR => Ok(1),
        SCHED_NORMAL | SCHED_BATCH | SCHED_IDLE | SCHED_DEADLINE => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

/// `sched_rr_get_interval(2)`.
pub fn sys_sched_rr_get_interval(cx: &Context, pid: Pid, out: UserPtr<TimespecAbi>) -> Result<usize> {
    let (policy, _) = policy_of(&*find(cx, pid)?);
    let slice = match policy.policy {
        SCHED_FIFO => 0,
        SCHED_RR => RR_SLICE,
        _ => FAIR_SLICE,
    };
    out.write(&TimespecAbi::from_nanos(slice))?;
    Ok(0)
}

abi_struct! {
    /// `struct sched_attr`, first published size.
    pub struct SchedAttrAbi {
        /// Bytes the program knows.
        pub size: u32,
        /// `SCHED_*`.
        pub policy: u32,
        /// `SCHED_FLAG_*`.
        pub flags: u64,
        /// Nice value.
        pub nice: i32,
        /// Real-time priority.
        pub priority: u32,
        /// `SCHED_DEADLINE`, and slice hints for others, ns.
        pub runtime: u64,
        /// `SCHED_DEADLINE`, ns.
        pub deadline: u64,
        /// `SCHED_DEADLINE`, ns.
        pub period: u64,
    }
}

const ATTR_SIZE_0: usize = 48;
const ATTR_SIZE_1: usize = 56;

/// `sched_setattr(2)`. `E2BIG` when the program knows more than we do and uses it; `size` then says what we know.
pub fn sys_sched_setattr(cx: &Context, pid: Pid, attr: UserPtr<SchedAttrAbi>, flags: u32) -> Result<usize> {
    if attr.is_null() || pid.0 < 0 || flags != 0 {
        return Err(Errno::EINVAL);
    }
    let size = UserPtr::<u32>::new(attr.addr().0).read()? as usize;
    let size = if size == 0 { ATTR_SIZE_0 } else { size };
    if !(ATTR_SIZE_0..=4096).contains(&size)
        || !is_zero(attr.addr().offset(ATTR_SIZE_1 as u64), size.saturating_sub(ATTR_SIZE_1))?
    {
        UserPtr::<u32>::new(attr.addr().0).write(&(ATTR_SIZE_1 as u32))?;
        return Err(Errno::E2BIG);
    }
    let attr = attr.read()?;
    if attr.flags & !FLAGS_KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    let task = find(cx, pid)?;
    let (old, old_nice) = policy_of(&task);
    let keep = |flag| attr.flags & flag != 0;
    let policy = if keep(FLAG_KEEP_POLICY) {
        old.policy
    } else {
        attr.policy
    };
    if policy == SCHED_DEADLINE {
        arch_um::stub!("SCHED_DEADLINE");
        super::require(cx, Capabilities::SYS_NICE)?;
        return Err(Errno::EBUSY);
    }
    let (priority, nice) = if keep(FLAG_KEEP_PARAMS) {
        (old.priority, old_nice)
    } else {
        (attr.priority, attr.nice)
    };
    let new = Policy {
        policy,
        priority,
        reset_on_fork: keep(FLAG_RESET_ON_FORK),
    };
    let nice = matches!(policy, SCHED_NORMAL | SCHED_BATCH).then_some(nice.clamp(-20, 19));
    apply(cx, &task, new, nice)?;
    Ok(0)
}

/// Whether `len` bytes from `addr` on are all 0.
fn is_zero(addr: UserAddr, len: usize) -> Result<bool> {
    let mut bytes = alloc::vec![0; len];
    addr.read(&mut bytes)?;
    Ok(bytes.iter().all(|&byte| byte == 0))
}

/// `sched_getattr(2)`.
pub fn sys_sched_getattr(cx: &Context, pid: Pid, attr: UserPtr<SchedAttrAbi>, size: u32, flags: u32) -> Result<usize> {
    if attr.is_null() || pid.0 < 0 || flags != 0 || !(ATTR_SIZE_0..=4096).contains(&(size as usize)) {
        return Err(Errno::EINVAL);
    }
    let (policy, nice) = policy_of(&*find(cx, pid)?);
    let known = (size as usize).min(ATTR_SIZE_1);
    let fair = matches!(policy.policy, SCHED_NORMAL | SCHED_BATCH);
    let value = SchedAttrAbi {
        size: known as u32,
        policy: policy.policy,
        flags: if policy.reset_on_fork { FLAG_RESET_ON_FORK } else { 0 },
        nice: if fair { nice } else { 0 },
        priority: policy.priority,
        runtime: if fair { FAIR_SLICE } else { 0 },
        ..SchedAttrAbi::default()
    };
    attr.write(&value)?;
    if known > ATTR_SIZE_0 {
        // Utilization clamps, of the second size: none.
        attr.addr()
            .offset(ATTR_SIZE_0 as u64)
            .write(&[0; ATTR_SIZE_1 - ATTR_SIZE_0][..known - ATTR_SIZE_0])?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_must_fit_their_policy() {
        let policy = |policy, priority| Policy {
            policy,
            priority,
            reset_on_fork: false,
        };
        assert!(policy(SCHED_FIFO, 1).check().is_ok());
        assert!(policy(SCHED_FIFO, 0).check().is_err());
        assert!(policy(SCHED_RR, 100).check().is_err());
        assert!(policy(SCHED_NORMAL, 1).check().is_err());
        assert!(policy(4, 0).check().is_err());
    }

    #[test]
    fn reset_on_fork_keeps_privileges_from_children() {
        let parent = Policy {
            policy: SCHED_FIFO,
            priority: 50,
            reset_on_fork: true,
        };
        assert_eq!(parent.inherited(), Policy::default());
        let plain = Policy {
            reset_on_fork: false,
            ..parent
        };
        assert_eq!(plain.inherited(), plain);
    }

    #[test]
    fn proc_shows_priorities_as_top_expects_them() {
        assert_eq!(stat_priority(Policy::default(), 0), 20);
        assert_eq!(
            stat_priority(
                Policy {
                    policy: SCHED_FIFO,
                    priority: 99,
                    reset_on_fork: false
                },
                0
            ),
            -100
        );
    }
}
