//! Guest threads.

use std::cell::Cell;
use std::marker::PhantomData;
use std::sync::Arc;

use arch_um::Errno;

use crate::{AddressSpace, Exit, Regs};

/// A guest thread: one thread of a stub process. `Send`, not `Sync`.
///
/// Dropping it ends the stub thread; with the last one of its space the host process is killed and reaped without waiting for it.
pub struct UserThread {
    space: Arc<AddressSpace>,
    regs: Regs,
    not_sync: PhantomData<Cell<()>>,
}

impl UserThread {
    /// A thread in a new, empty address space, from the pool of ready stubs. `EAGAIN`, `ENOMEM`, `EMFILE` as the host gives them.
    pub fn new() -> Result<(Arc<AddressSpace>, UserThread), Errno> {
        Err(Errno::ENOSYS)
    }
    /// `fork(2)`: a copy of the address space with one thread, a copy of this one (registers, FP state). The caller sets the child's `rax`.
    /// Queued changes are flushed first; their error is returned.
    pub fn fork(&mut self) -> Result<(Arc<AddressSpace>, UserThread), Errno> {
        Err(Errno::ENOSYS)
    }
    /// Another thread (or a vfork child) in the same address space, registers and FP state copied.
    pub fn spawn(&mut self) -> Result<UserThread, Errno> {
        Err(Errno::ENOSYS)
    }
    /// exec in a space of its own: unmaps everything, drops the queue. Registers and FP state stay: set them. `EBUSY` when other threads live
    /// (a vfork parent, for one): take a [`new`](Self::new) one then.
    pub fn reset(&mut self) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
    /// The address space.
    pub fn space(&self) -> &Arc<AddressSpace> {
        &self.space
    }
    /// The registers as the last exit left them.
    pub fn regs(&self) -> &Regs {
        &self.regs
    }
    /// The registers for the next run.
    pub fn regs_mut(&mut self) -> &mut Regs {
        &mut self.regs
    }
    /// FP and vector state: the XSAVE image as in a signal frame, `fpx_sw_bytes` and both magic numbers included.
    pub fn xstate(&self) -> Vec<u8> {
        Vec::new()
    }
    /// Sets FP and vector state from such an image. `EINVAL` for a header the processor would refuse.
    pub fn set_xstate(&mut self, image: &[u8]) -> Result<(), Errno> {
        let _ = image;
        Err(Errno::ENOSYS)
    }
    /// The state a new program starts with (fcw 0x37f, mxcsr 0x1f80, the rest initial).
    pub fn reset_xstate(&mut self) {}
    /// Runs the queued mapping changes of the space now and reports the host's errno (`ENOMEM`, `EACCES`, `EPERM`...).
    pub fn flush(&mut self) -> Result<(), Errno> {
        Err(Errno::ENOSYS)
    }
    /// Runs the guest thread until something needs the kernel. See [`Exit`].
    ///
    /// A [`Kicker::kick`] sent while this is not running ends the *next* run at once; kicks do not add up.
    pub fn run(&mut self) -> Exit {
        Exit::Dead
    }
    /// A handle with which other threads interrupt this one.
    pub fn kicker(&self) -> Kicker {
        Kicker {}
    }
    /// Puts the stub thread on one host CPU (`None`: any). The same value again costs nothing.
    pub fn set_host_cpu(&mut self, cpu: Option<usize>) {
        let _ = cpu;
    }
}

/// Interrupts a [`UserThread`]. Harmless after the thread is gone.
#[derive(Clone)]
pub struct Kicker {}

impl Kicker {
    /// A `run()` in progress, or the next one, ends with `Exit::Interrupted` soon (or with another exit that came first).
    pub fn kick(&self) {}
}
