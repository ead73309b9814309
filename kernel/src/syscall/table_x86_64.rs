//! The system call table of x86-64: one line a call, in the order of the numbers.
//!
//! `number name => path::to::sys_function(arguments);` each argument register is converted by [`FromRegister`](super::FromRegister) to the
//! parameter's type; `slice` takes two registers (address, length) for a [`UserSlice`](crate::user::UserSlice).

use super::{Context, FromRegister};
use crate::user::UserSlice;
use crate::{Errno, Result};

macro_rules! argument {
    ($args:ident, slice($addr:literal, $len:literal)) => {
        UserSlice::new($args[$addr], $args[$len] as usize)
    };
    ($args:ident, $index:literal) => {
        FromRegister::from_register($args[$index])
    };
}

macro_rules! table {
    ($($nr:literal $name:ident => $function:path, ($($kind:tt $(($($inner:literal),*))?),*);)*) => {
        /// The call's name for logs and /proc, none for a number Linux does not know.
        pub fn name(nr: u64) -> Option<&'static str> {
            match nr {
                $($nr => Some(stringify!($name)),)*
                _ => None,
            }
        }

        /// Runs system call `nr`. `ENOSYS` for a number that is not in the table.
        pub fn dispatch(cx: &Context, nr: u64, args: [u64; 6]) -> Result<usize> {
            match nr {
                $($nr => $function(cx $(, argument!(args, $kind $(($($inner),*))?))*),)*
                _ => Err(Errno::ENOSYS),
            }
        }
    };
}

table! {
    // One line a call, in the order of the numbers.
    13 rt_sigaction => crate::signal::action::sys_rt_sigaction, (0, 1, 2, 3);
    14 rt_sigprocmask => crate::signal::mask::sys_rt_sigprocmask, (0, 1, 2, 3);
    15 rt_sigreturn => crate::signal::sigreturn::sys_rt_sigreturn, ();
    24 sched_yield => crate::task::ids::sys_sched_yield, ();
    34 pause => crate::signal::mask::sys_pause, ();
    39 getpid => crate::task::ids::sys_getpid, ();
    56 clone => crate::task::clone::sys_clone, (0, 1, 2, 3, 4);
    57 fork => crate::task::clone::sys_fork, ();
    58 vfork => crate::task::clone::sys_vfork, ();
    60 exit => crate::task::exit::sys_exit, (0);
    61 wait4 => crate::task::wait::sys_wait4, (0, 1, 2, 3);
    62 kill => crate::signal::kill::sys_kill, (0, 1);
    97 getrlimit => crate::task::rlimit::sys_getrlimit, (0, 1);
    98 getrusage => crate::task::times::sys_getrusage, (0, 1);
    100 times => crate::task::times::sys_times, (0);
    101 ptrace => crate::task::ptrace::sys_ptrace, ();
    102 getuid => crate::task::uids::sys_getuid, ();
    104 getgid => crate::task::uids::sys_getgid, ();
    105 setuid => crate::task::uids::sys_setuid, (0);
    106 setgid => crate::task::uids::sys_setgid, (0);
    107 geteuid => crate::task::uids::sys_geteuid, ();
    108 getegid => crate::task::uids::sys_getegid, ();
    109 setpgid => crate::task::jobctl::sys_setpgid, (0, 1);
    110 getppid => crate::task::ids::sys_getppid, ();
    111 getpgrp => crate::task::jobctl::sys_getpgrp, ();
    112 setsid => crate::task::jobctl::sys_setsid, ();
    113 setreuid => crate::task::uids::sys_setreuid, (0, 1);
    114 setregid => crate::task::uids::sys_setregid, (0, 1);
    115 getgroups => crate::task::uids::sys_getgroups, (0, 1);
    116 setgroups => crate::task::uids::sys_setgroups, (0, 1);
    117 setresuid => crate::task::uids::sys_setresuid, (0, 1, 2);
    118 getresuid => crate::task::uids::sys_getresuid, (0, 1, 2);
    119 setresgid => crate::task::uids::sys_setresgid, (0, 1, 2);
    120 getresgid => crate::task::uids::sys_getresgid, (0, 1, 2);
    121 getpgid => crate::task::jobctl::sys_getpgid, (0);
    122 setfsuid => crate::task::uids::sys_setfsuid, (0);
    123 setfsgid => crate::task::uids::sys_setfsgid, (0);
    124 getsid => crate::task::jobctl::sys_getsid, (0);
    125 capget => crate::task::capability::sys_capget, (0, 1);
    126 capset => crate::task::capability::sys_capset, (0, 1);
    127 rt_sigpending => crate::signal::mask::sys_rt_sigpending, (0, 1);
    128 rt_sigtimedwait => crate::signal::timedwait::sys_rt_sigtimedwait, (0, 1, 2, 3);
    129 rt_sigqueueinfo => crate::signal::kill::sys_rt_sigqueueinfo, (0, 1, 2);
    130 rt_sigsuspend => crate::signal::mask::sys_rt_sigsuspend, (0, 1);
    131 sigaltstack => crate::signal::altstack::sys_sigaltstack, (0, 1);
    140 getpriority => crate::task::priority::sys_getpriority, (0, 1);
    141 setpriority => crate::task::priority::sys_setpriority, (0, 1, 2);
    153 vhangup => crate::tty::sys_vhangup, ();
    157 prctl => crate::task::prctl::sys_prctl, (0, 1, 2, 3, 4);
    158 arch_prctl => crate::task::arch_prctl::sys_arch_prctl, (0, 1);
    160 setrlimit => crate::task::rlimit::sys_setrlimit, (0, 1);
    186 gettid => crate::task::ids::sys_gettid, ();
    200 tkill => crate::signal::kill::sys_tkill, (0, 1);
    218 set_tid_address => crate::task::robust::sys_set_tid_address, (0);
    219 restart_syscall => crate::signal::sigreturn::sys_restart_syscall, ();
    231 exit_group => crate::task::exit::sys_exit_group, (0);
    234 tgkill => crate::signal::kill::sys_tgkill, (0, 1, 2);
    247 waitid => crate::task::wait::sys_waitid, (0, 1, 2, 3, 4);
    272 unshare => crate::task::unshare::sys_unshare, (0);
    273 set_robust_list => crate::task::robust::sys_set_robust_list, (0, 1);
    274 get_robust_list => crate::task::robust::sys_get_robust_list, (0, 1, 2);
    282 signalfd => crate::signal::signalfd::sys_signalfd, (0, 1, 2);
    289 signalfd4 => crate::signal::signalfd::sys_signalfd4, (0, 1, 2, 3);
    297 rt_tgsigqueueinfo => crate::signal::kill::sys_rt_tgsigqueueinfo, (0, 1, 2, 3);
    302 prlimit64 => crate::task::rlimit::sys_prlimit64, (0, 1, 2, 3);
    308 setns => crate::task::unshare::sys_setns, (0);
    310 process_vm_readv => crate::task::vm_access::sys_process_vm_readv, (0, 1, 2, 3, 4, 5);
    311 process_vm_writev => crate::task::vm_access::sys_process_vm_writev, (0, 1, 2, 3, 4, 5);
    312 kcmp => crate::task::ids::sys_kcmp, ();
    317 seccomp => crate::task::ptrace::sys_seccomp, ();
    318 getrandom => crate::device::random::sys_getrandom, (slice(0, 1), 2);
    324 membarrier => crate::task::membarrier::sys_membarrier, (0, 1, 2);
    334 rseq => crate::task::ids::sys_rseq, ();
    424 pidfd_send_signal => crate::task::pidfd::sys_pidfd_send_signal, (0, 1, 2, 3);
    434 pidfd_open => crate::task::pidfd::sys_pidfd_open, (0, 1);
    435 clone3 => crate::task::clone::sys_clone3, (0, 1);
    438 pidfd_getfd => crate::task::pidfd::sys_pidfd_getfd, (0, 1, 2);
}
