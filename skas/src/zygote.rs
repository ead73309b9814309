//! The zygote: an empty stub from which every new address space is forked, and the pool of spaces forked ahead of need.
//!
//! It is a program of its own (program.rs), set up by its own first steps (setup.rs). The filter is installed once, there; all stubs
//! inherit it.

use std::ffi::c_void;
use std::sync::{Arc, Mutex};

use arch_um::Errno;

use crate::filter::CloneGate;
use crate::gate::Gate;
use crate::machine::{machine, no_process};
use crate::setup::{Failure, attempt};
use crate::stats::{COUNTERS, count};
use crate::thread::UserThread;
use crate::{AddressSpace, Backend, InitError, host, keeper};

pub(crate) struct Zygote {
    thread: Mutex<UserThread>,
    pool: Mutex<Vec<(Arc<AddressSpace>, UserThread)>>,
}

const FILTER_FLAG_SPEC_ALLOW: u64 = 4;
const FILTER_FLAG_NEW_LISTENER: u64 = 8;
/// Ready spaces kept by the keeper.
const POOL: usize = 4;

impl Zygote {
    /// A new empty space.
    pub(crate) fn take(&self) -> Result<(Arc<AddressSpace>, UserThread), Errno> {
        let ready = self.pool.lock().unwrap_or_else(|p| p.into_inner()).pop();
        keeper::call();
        if let Some(ready) = ready {
            count(&COUNTERS.pool_hits);
            return Ok(ready);
        }
        count(&COUNTERS.pool_misses);
        self.thread.lock().unwrap_or_else(|p| p.into_inner()).fork_unforced()
    }
}

/// Forks spaces ahead of need, at most one a call. True when the pool is full or cannot be filled.
pub(crate) fn refill_pool() -> bool {
    let Some(zygote) = machine().zygote.get() else {
        return true;
    };
    if zygote.pool.lock().unwrap_or_else(|p| p.into_inner()).len() >= POOL {
        return true;
    }
    let made = zygote.thread.lock().unwrap_or_else(|p| p.into_inner()).fork_unforced();
    match made {
        Ok(pair) => {
            let mut pool = zygote.pool.lock().unwrap_or_else(|p| p.into_inner());
            pool.push(pair);
            pool.len() >= POOL
        }
        Err(_) => true,
    }
}

/// Spaces forked ahead of need: how many there are, and how many there will be when the keeper rests. For statistics and tests.
pub fn pool() -> (usize, usize) {
    let Some(zygote) = machine().zygote.get().filter(|_| machine().backend == Backend::Seccomp) else {
        return (0, 0);
    };
    (zygote.pool.lock().unwrap_or_else(|p| p.into_inner()).len(), POOL)
}

/// Starts the zygote, with the strongest filter the host allows.
pub(crate) fn start() -> Result<(), InitError> {
    let mut failure = Errno::EINVAL;
    for (gate, flags) in [
        (CloneGate::Notify, FILTER_FLAG_NEW_LISTENER | FILTER_FLAG_SPEC_ALLOW),
        (CloneGate::Notify, FILTER_FLAG_NEW_LISTENER),
        (CloneGate::Open, FILTER_FLAG_SPEC_ALLOW),
        (CloneGate::Open, 0),
    ] {
        match attempt(Some((gate, flags))) {
            Ok((thread, listener)) => {
                if gate == CloneGate::Open {
                    log::warn!("the host gives no seccomp listener: guests can create host processes by force");
                }
                if let Some(listener) = listener {
                    let _ = machine().gate.set(Gate::new(listener));
                }
                let zygote = Zygote {
                    thread: Mutex::new(thread),
                    pool: Mutex::new(Vec::new()),
                };
                let _ = machine().zygote.set(zygote);
                return probe();
            }
            Err(Failure::Filter(errno)) => failure = errno,
            Err(Failure::Other(error)) => return Err(error),
        }
    }
    Err(InitError::new(format!(
        "the host refuses seccomp filters ({}): allow seccomp(2) in the sandbox or container around us, or use seccomp=off",
        failure.text()
    )))
}

/// Starts the zygote as a tracee.
pub(crate) fn start_traced() -> Result<(), InitError> {
    match attempt(None) {
        Ok((thread, _)) => {
            let zygote = Zygote {
                thread: Mutex::new(thread),
                pool: Mutex::new(Vec::new()),
            };
            let _ = machine().zygote.set(zygote);
            probe()
        }
        Err(Failure::Other(error)) => Err(error),
        Err(Failure::Filter(errno)) => Err(InitError::new(errno.text())),
    }
}

/// One fork and one access to guest memory, so that a missing right is named now and not at the first program.
fn probe() -> Result<(), InitError> {
    let (space, _thread) = UserThread::new().map_err(no_process)?;
    let layout = machine().layout;
    let mut byte = [0u8];
    let local = libc::iovec {
        iov_base: byte.as_mut_ptr().cast(),
        iov_len: 1,
    };
    let remote = libc::iovec {
        iov_base: layout.code as *mut c_void,
        iov_len: 1,
    };
    // SAFETY: one byte into a local; the remote address is the host's to check.
    let read = unsafe { libc::process_vm_readv(space.host_pid(), &local, 1, &remote, 1, 0) };
    if read != 1 {
        return Err(InitError::new(format!(
            "process_vm_readv on our own child fails ({}): Yama (kernel.yama.ptrace_scope), an LSM or the container's seccomp profile \
             forbids it; allow it, or run with CAP_SYS_PTRACE",
            host::errno().text()
        )));
    }
    Ok(())
}
