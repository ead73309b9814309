//! Calls about the whole system rather than a file, a process or memory.
//!
//! * [`utsname`]: names.  * [`info`]: `sysinfo(2)`, `getcpu(2)`.  * [`loadavg`]: load averages.  * [`memory`]: how memory is used.  * [`klog`]: `syslog(2)`.
//! * [`reboot`]: the way out and its exit status.  * [`sched`], [`affinity`], [`ioprio`]: scheduling parameters.  * [`personality`].
//! * [`module`]: what loading modules means in a kernel without them.  * [`absent`]: calls of features that are configured out.

pub mod absent;
pub mod affinity;
pub mod info;
pub mod ioprio;
pub mod klog;
pub mod loadavg;
pub mod memory;
pub mod module;
pub mod personality;
pub mod reboot;
pub mod sched;
pub mod sysrq;
pub mod utsname;

/// Starts what runs in the background here.
pub fn init() {
    loadavg::init();
}

use crate::syscall::Context;
use crate::task::Capabilities;
use crate::{Errno, Result};

/// `EPERM` unless the caller has `capability` in force.
pub(crate) fn require(cx: &Context, capability: Capabilities) -> Result<()> {
    if cx.task().cred().capable(capability) {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}
