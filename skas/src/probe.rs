//! Can this host run guests? One short-lived child for each backend tries what the backend needs.

use arch_um::Errno;

use crate::host;

/// Why a backend cannot be used.
pub(crate) enum Denied {
    /// Not even a child could be made to try it.
    Fork(Errno),
    /// The host forbids what it needs.
    Backend(String),
}

/// Waits for a child without being disturbed by signals.
fn wait(pid: i32) -> i32 {
    let mut status = 0;
    loop {
        // SAFETY: `status` is an int for the host to fill in.
        let result = unsafe { libc::waitpid(pid, &mut status, libc::__WALL) };
        if result == pid || host::errno() != Errno::EINTR {
            return status;
        }
    }
}

/// Whether a filter with `SECCOMP_RET_TRAP` can be installed. The cause if not.
pub(crate) fn seccomp() -> Result<(), Denied> {
    // `struct sock_filter`s in words: load the number; nobody's number traps, all others pass.
    let program: [[u32; 2]; 4] = [
        [0x20, 0],
        [0x15 | 1 << 24, 0x0fff_ffff],
        [0x06, 0x0003_0000],
        [0x06, 0x7fff_0000],
    ];
    let description: [u64; 2] = [program.len() as u64, program.as_ptr() as u64];
    // SAFETY: the child of the fork only makes system calls and ends; the program and its description outlive the call.
    let pid = unsafe {
        match libc::fork() {
            0 => {
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
                let failed = libc::syscall(libc::SYS_seccomp, 1, 0, description.as_ptr()) != 0;
                libc::_exit(if failed { *libc::__errno_location() } else { 0 })
            }
            pid => pid,
        }
    };
    outcome(pid)
}

/// Whether a child can be traced with `PTRACE_SYSEMU`. The cause if not.
pub(crate) fn ptrace() -> Result<(), Denied> {
    // SAFETY: the child only makes system calls and ends.
    let pid = unsafe {
        match libc::fork() {
            0 => {
                if libc::ptrace(libc::PTRACE_TRACEME, 0, 0, 0) != 0 {
                    libc::_exit(*libc::__errno_location());
                }
                libc::raise(libc::SIGSTOP);
                libc::syscall(libc::SYS_getppid);
                libc::_exit(0)
            }
            pid => pid,
        }
    };
    if pid < 0 {
        return outcome(pid);
    }
    let status = wait(pid);
    if !libc::WIFSTOPPED(status) {
        return verdict(status);
    }
    // SAFETY: plain requests to our own stopped child.
    let result = unsafe {
        libc::ptrace(
            libc::PTRACE_SETOPTIONS,
            pid,
            0,
            libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_EXITKILL,
        );
        if libc::ptrace(libc::PTRACE_SYSEMU, pid, 0, 0) != 0 {
            Err(Denied::Backend(format!("PTRACE_SYSEMU: {}", host::errno().text())))
        } else {
            let status = wait(pid);
            let stopped = libc::WIFSTOPPED(status) && libc::WSTOPSIG(status) == libc::SIGTRAP | 0x80;
            if stopped {
                Ok(())
            } else {
                Err(Denied::Backend(format!(
                    "PTRACE_SYSEMU does not stop at system calls ({status:#x})"
                )))
            }
        }
    };
    host::kill(pid);
    wait(pid);
    result
}

fn outcome(pid: i32) -> Result<(), Denied> {
    if pid < 0 {
        return Err(Denied::Fork(host::errno()));
    }
    verdict(wait(pid))
}

fn verdict(status: i32) -> Result<(), Denied> {
    match (libc::WIFEXITED(status), libc::WEXITSTATUS(status)) {
        (true, 0) => Ok(()),
        (true, code) => Err(Denied::Backend(Errno::from_host(code).text().to_string())),
        _ => Err(Denied::Backend(format!("the probe died, wait status {status:#x}"))),
    }
}
