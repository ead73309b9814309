//! The registers of a guest thread, in the order of the host's `user_regs_struct` (`ptrace(2)`, `PTRACE_GETREGS`).

/// General registers of a guest thread. The same order and size as `struct user_regs_struct`, so `PTRACE_GETREGS` inside the guest can copy it.
///
/// `cs`, `ss`, `ds`, `es` and `fs`, `gs` (the selectors) are reported; writing other values than those of 64-bit user code has no effect.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Regs {
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub rbp: u64,
    pub rbx: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rax: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    /// The system call's number after `Exit::Syscall`, `u64::MAX` after every other exit.
    pub orig_rax: u64,
    pub rip: u64,
    pub cs: u64,
    pub eflags: u64,
    pub rsp: u64,
    pub ss: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    pub ds: u64,
    pub es: u64,
    pub fs: u64,
    pub gs: u64,
}

/// The user code selector of 64-bit code on Linux.
pub const USER_CS: u64 = 0x33;
/// The user data selector on Linux.
pub const USER_SS: u64 = 0x2b;

impl Regs {
    /// Registers as Linux hands them to a new program (`start_thread`): all zero but `rip`, `rsp`, the selectors and the interrupt flag.
    pub fn start(rip: u64, rsp: u64) -> Regs {
        Regs {
            rip,
            rsp,
            cs: USER_CS,
            ss: USER_SS,
            eflags: 0x202,
            orig_rax: u64::MAX,
            ..Regs::default()
        }
    }
}
