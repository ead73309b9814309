//! The gate in front of `clone`: no stub makes a process or thread that the kernel has not commanded (`seccomp_unotify(2)`).
//!
//! The filter sends every clone to one listener. The kernel's thread that commands one holds the gate, lets through exactly the
//! notification of that stub thread with those flags, and lets go. Any other notification is a guest that jumped to the instruction: it is
//! refused and its process dies. A leaf lock apart from the host.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use arch_um::Errno;

use crate::core::{Core, Gone};
use crate::handoff::STUB;
use crate::host;
use crate::machine::machine;

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Default)]
struct Notification {
    id: u64,
    pid: u32,
    flags: u32,
    nr: i32,
    arch: u32,
    ip: u64,
    args: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Response {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

const RECV: libc::c_ulong = 0xc050_2100;
const SEND: libc::c_ulong = 0xc018_2101;
const SET_FLAGS: libc::c_ulong = 0x4008_2104;
const CONTINUE: u32 = 1;
const SYNC_WAKE_UP: u64 = 1;

pub(crate) struct Gate {
    listener: OwnedFd,
    lock: Mutex<()>,
}

impl Gate {
    pub(crate) fn new(listener: OwnedFd) -> Gate {
        // The answer wakes the stub on our CPU, which is about to be free (Linux 6.6; older ones wake as they like).
        // SAFETY: the argument is a number; a host that does not know the request changes nothing.
        unsafe { libc::ioctl(listener.as_raw_fd(), SET_FLAGS, SYNC_WAKE_UP) };
        Gate {
            listener,
            lock: Mutex::new(()),
        }
    }

    /// Runs `command`, which makes `core` clone with `flags`, and lets that one clone pass. Returns when the clone may proceed or the stub
    /// has handed back without one.
    pub(crate) fn pass(&self, core: &Core, flags: u64, command: impl FnOnce()) -> Result<(), Gone> {
        let _guard = self.lock.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        command();
        let spin = if core.spins() { machine().spin.kernel() } else { 0 };
        let start = host::tsc();
        let mut waits = 0;
        loop {
            let spinning = spin != 0 && host::tsc().wrapping_sub(start) < spin;
            let ready = self.poll(if spinning { 0 } else { 10 });
            if ready && self.answer(core, flags) {
                return Ok(());
            }
            if core.region.word().load(Ordering::Acquire) & STUB == 0 {
                return Ok(());
            }
            if !ready && !spinning {
                waits += 1;
                if waits % 10 == 0 && (!core.alive() || waits > 1000) {
                    return Err(Gone);
                }
            }
        }
    }

    fn poll(&self, timeout_ms: i32) -> bool {
        let mut fd = libc::pollfd {
            fd: self.listener.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one pollfd that outlives the call.
        unsafe { libc::poll(&mut fd, 1, timeout_ms) == 1 && fd.revents & libc::POLLIN != 0 }
    }

    /// Answers one notification. True when it was the expected one.
    fn answer(&self, core: &Core, flags: u64) -> bool {
        let mut notification = Notification::default();
        // SAFETY: the structure is the host's, zeroed as it demands.
        if unsafe { libc::ioctl(self.listener.as_raw_fd(), RECV, &mut notification) } != 0 {
            return false;
        }
        let expected = notification.pid == core.tid as u32 && notification.args[0] == flags;
        let (error, flags) = if expected {
            (0, CONTINUE)
        } else {
            (-Errno::EPERM.code(), 0)
        };
        if !expected {
            log::warn!("host thread {} killed: clone without command", notification.pid);
            host::kill(notification.pid as i32);
        }
        let response = Response {
            id: notification.id,
            val: 0,
            error,
            flags,
        };
        // SAFETY: the structure is the host's; ENOENT (the asker died) needs no care.
        unsafe { libc::ioctl(self.listener.as_raw_fd(), SEND, &response) };
        expected
    }
}
