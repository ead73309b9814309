//! Why a guest thread stopped running.

use arch_um::Errno;

/// Why [`UserThread::run`](crate::UserThread::run) came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A 64-bit system call. `regs.orig_rax` is the number, `regs.rax` is `-ENOSYS`, `rcx` and `r11` are as the hardware leaves them (return
    /// address, flags). A call through the vsyscall page looks the same; its return address has been popped already.
    /// To restart it: `rip -= 2; rax = orig_rax` (never needed for a vsyscall).
    Syscall,
    /// `int $0x80` or a number with the x32 bit: number in `regs.orig_rax`, `regs.rax` is `-ENOSYS`. Linux without those ABIs fails the call
    /// with `ENOSYS`: just run on.
    ForeignSyscall,
    /// An access to memory failed. The instruction has not happened; it runs again at the next run.
    Fault {
        /// The address (`cr2`).
        addr: u64,
        /// What the instruction wanted.
        access: Access,
        /// The processor's page fault error code (present, write, user, fetch, protection key bits).
        error_code: u64,
        /// What the host says about the mapping.
        code: FaultCode,
    },
    /// Another synchronous exception: `SIGTRAP`, `SIGFPE`, `SIGILL`, or the `SIGSEGV` of a general protection fault (code `SI_KERNEL`,
    /// `trapno` 13, `addr` 0).
    Exception {
        /// The signal Linux sends for it.
        signo: i32,
        /// `si_code`.
        code: i32,
        /// `si_addr`.
        addr: u64,
        /// The processor's vector.
        trapno: u64,
        /// The processor's error code.
        error_code: u64,
    },
    /// Nothing happened. May be spurious: callers must not conclude that work is pending.
    Interrupted,
    /// A queued mapping change failed on the host with this errno; the guest did not run. The changes before it are in force, it and those
    /// after it are not, and the queue is empty.
    QueueFailed(Errno),
    /// The host process is gone (killed from outside, by the host's OOM killer, or by us for tampering). Every later call returns this too.
    Dead,
}

/// The access of a [`Exit::Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Access {
    Read,
    Write,
    Exec,
}

impl Access {
    /// From the processor's page fault error code.
    pub(crate) fn from_error_code(code: u64) -> Access {
        if code & 0x10 != 0 {
            Access::Exec
        } else if code & 2 != 0 {
            Access::Write
        } else {
            Access::Read
        }
    }
}

/// What the host found at a faulting address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultCode {
    /// `SEGV_MAPERR`: nothing is mapped there in the host process.
    MapErr,
    /// `SEGV_ACCERR` (or a protection key): a mapping forbids the access.
    AccErr,
    /// `SIGBUS`, `BUS_ADRERR`: beyond the end of the mapped file, or the host could not supply the page.
    Bus,
}
