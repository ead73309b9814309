//! Resource limits: `getrlimit(2)`, `setrlimit(2)`, `prlimit64(2)`.

use alloc::sync::Arc;

use super::table;
use super::{Capabilities, Pid, Task};
use crate::syscall::Context;
use crate::time::cpu_limit;
use crate::user::UserPtr;
use crate::{Errno, Result, abi_struct};

/// No limit.
pub const INFINITY: u64 = u64::MAX;
const COUNT: usize = 16;

/// A resource, Linux's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resource(usize);

#[allow(missing_docs)]
impl Resource {
    pub const CPU: Self = Self(0);
    pub const FSIZE: Self = Self(1);
    pub const DATA: Self = Self(2);
    pub const STACK: Self = Self(3);
    pub const CORE: Self = Self(4);
    pub const RSS: Self = Self(5);
    pub const NPROC: Self = Self(6);
    pub const NOFILE: Self = Self(7);
    pub const MEMLOCK: Self = Self(8);
    pub const AS: Self = Self(9);
    pub const LOCKS: Self = Self(10);
    pub const SIGPENDING: Self = Self(11);
    pub const MSGQUEUE: Self = Self(12);
    pub const NICE: Self = Self(13);
    pub const RTPRIO: Self = Self(14);
    pub const RTTIME: Self = Self(15);

    /// The resource with this number. `EINVAL`.
    pub fn new(number: u32) -> Result<Self> {
        let number = number as usize;
        if number < COUNT {
            Ok(Self(number))
        } else {
            Err(Errno::EINVAL)
        }
    }
}

abi_struct! {
    /// `struct rlimit64`; on x86-64 `struct rlimit` too.
    pub struct Limit {
        /// In force.
        pub soft: u64,
        /// How far the soft one may be raised.
        pub hard: u64,
    }
}

/// The limits of a process.
#[derive(Clone, Copy, Debug)]
pub struct Limits([Limit; COUNT]);

/// What a stack may grow to unless a limit says otherwise, bytes.
pub const DEFAULT_STACK: u64 = 8 << 20;

/// `fs.nr_open`: no descriptor limit goes above it.
pub const NR_OPEN: u64 = 1 << 20;

impl Limits {
    /// What init starts with.
    pub fn initial() -> Self {
        let unlimited = Limit {
            soft: INFINITY,
            hard: INFINITY,
        };
        let mut limits = Self([unlimited; COUNT]);
        // Linux gives half of the possible tasks to one user, and as many signals.
        let half = super::threads_max::get() as u64 / 2;
        let mut set = |resource: Resource, soft, hard| limits.0[resource.0] = Limit { soft, hard };
        set(Resource::STACK, DEFAULT_STACK, INFINITY);
        set(Resource::CORE, 0, INFINITY);
        set(Resource::NPROC, half, half);
        set(Resource::NOFILE, 1024, 524_288);
        set(Resource::MEMLOCK, 8 << 20, 8 << 20);
        set(Resource::SIGPENDING, half, half);
        set(Resource::MSGQUEUE, 819_200, 819_200);
        set(Resource::NICE, 0, 0);
        set(Resource::RTPRIO, 0, 0);
        limits
    }

    /// The limit in force.
    pub fn soft(&self, resource: Resource) -> u64 {
        self.0[resource.0].soft
    }

    /// Both limits.
    pub fn get(&self, resource: Resource) -> Limit {
        self.0[resource.0]
    }

    /// Sets both limits.
    pub fn set(&mut self, resource: Resource, limit: Limit) {
        self.0[resource.0] = limit;
    }
}

/// Reads and sets a limit of `task`'s process; returns what it was.
fn exchange(cx: &Context, task: &Task, resource: Resource, new: Option<Limit>) -> Result<Limit> {
    if let Some(new) = new {
        if new.soft > new.hard {
            return Err(Errno::EINVAL);
        }
        if resource == Resource::NOFILE && new.hard > NR_OPEN {
            return Err(Errno::EPERM);
        }
    }
    let may_raise = cx.task().cred().capable(Capabilities::SYS_RESOURCE);
    let mut limits = task.process().limits().lock();
    let old = limits.get(resource);
    if let Some(new) = new {
        if new.hard > old.hard && !may_raise {
            return Err(Errno::EPERM);
        }
        limits.set(resource, new);
        drop(limits);
        if resource == Resource::CPU {
            cpu_limit::watch(task.process());
        }
    }
    Ok(old)
}

/// `getrlimit(2)`.
pub fn sys_getrlimit(cx: &Context, resource: u32, out: UserPtr<Limit>) -> Result<usize> {
    let limit = exchange(cx, cx.task(), Resource::new(resource)?, None)?;
    out.write(&limit)?;
    Ok(0)
}

/// `setrlimit(2)`.
pub fn sys_setrlimit(cx: &Context, resource: u32, new: UserPtr<Limit>) -> Result<usize> {
    let new = new.read()?;
    exchange(cx, cx.task(), Resource::new(resource)?, Some(new))?;
    Ok(0)
}

/// `prlimit64(2)`: on another process only with all its ids, or `CAP_SYS_RESOURCE`.
pub fn sys_prlimit64(cx: &Context, pid: Pid, resource: u32, new: UserPtr<Limit>, old: UserPtr<Limit>) -> Result<usize> {
    let new = new.non_null().map(UserPtr::read).transpose()?;
    let resource = Resource::new(resource);
    let target = target(cx, pid)?;
    let before = exchange(cx, &target, resource?, new)?;
    if let Some(old) = old.non_null() {
        old.write(&before)?;
    }
    Ok(0)
}

fn target(cx: &Context, pid: Pid) -> Result<Arc<Task>> {
    if pid == Pid(0) {
        return Ok(cx.task().clone());
    }
    let task = table::task(pid).ok_or(Errno::ESRCH)?;
    if Arc::ptr_eq(&task, cx.task()) {
        return Ok(task);
    }
    let (own, theirs) = (cx.task().cred(), task.cred());
    let users = [theirs.uid, theirs.euid, theirs.suid].iter().all(|&id| id == own.uid);
    let groups = [theirs.gid, theirs.egid, theirs.sgid].iter().all(|&id| id == own.gid);
    if users && groups || own.capable(Capabilities::SYS_RESOURCE) {
        Ok(task)
    } else {
        Err(Errno::EPERM)
    }
}
