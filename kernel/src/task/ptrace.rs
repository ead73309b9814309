//! Looking into other processes: who may (`ptrace(2)`, "access mode checks"), and the place of `ptrace` itself.

use alloc::sync::Arc;

use super::process::Dumpable;
use super::{Capabilities, Task};
use crate::syscall::Context;
use crate::{Errno, Result};

/// Whether `observer` may look into `target`: its own process, the same user in all ids, or `CAP_SYS_PTRACE`; and the target does not hide itself.
pub fn may_access(observer: &Task, target: &Task) -> Result<()> {
    if Arc::ptr_eq(observer.process(), target.process()) {
        return Ok(());
    }
    let (own, theirs) = (observer.cred(), target.cred());
    if own.capable(Capabilities::SYS_PTRACE) {
        return Ok(());
    }
    let users = [theirs.uid, theirs.euid, theirs.suid].iter().all(|&id| id == own.uid);
    let groups = [theirs.gid, theirs.egid, theirs.sgid].iter().all(|&id| id == own.gid);
    let open = target.process().with_attributes(|attributes| attributes.dumpable) == Dumpable::User;
    let weaker = own.permitted.contains(theirs.permitted);
    if users && groups && open && weaker {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// `ptrace(2)`: not built in yet; a guest's debugger is told that it may not trace.
pub fn sys_ptrace(_cx: &Context) -> Result<usize> {
    arch_um::stub!("ptrace");
    Err(Errno::EPERM)
}

/// `seccomp(2)`: configured out.
pub fn sys_seccomp(_cx: &Context) -> Result<usize> {
    arch_um::stub!("seccomp");
    Err(Errno::EINVAL)
}
