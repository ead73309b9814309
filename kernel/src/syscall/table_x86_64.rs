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
    0 read => crate::vfs::calls::io::sys_read, (0, slice(1, 2));
    1 write => crate::vfs::calls::io::sys_write, (0, slice(1, 2));
    2 open => crate::vfs::calls::open::sys_open, (0, 1, 2);
    3 close => crate::vfs::calls::descriptor::sys_close, (0);
    4 stat => crate::vfs::calls::stat::sys_stat, (0, 1);
    5 fstat => crate::vfs::calls::stat::sys_fstat, (0, 1);
    6 lstat => crate::vfs::calls::stat::sys_lstat, (0, 1);
    7 poll => crate::vfs::calls::poll::sys_poll, (0, 1, 2);
    8 lseek => crate::vfs::calls::io::sys_lseek, (0, 1, 2);
    9 mmap => crate::mm::mmap::sys_mmap, (0, 1, 2, 3, 4, 5);
    10 mprotect => crate::mm::mprotect::sys_mprotect, (0, 1, 2);
    11 munmap => crate::mm::mmap::sys_munmap, (0, 1);
    12 brk => crate::mm::brk::sys_brk, (0);
    13 rt_sigaction => crate::signal::action::sys_rt_sigaction, (0, 1, 2, 3);
    14 rt_sigprocmask => crate::signal::mask::sys_rt_sigprocmask, (0, 1, 2, 3);
    15 rt_sigreturn => crate::signal::sigreturn::sys_rt_sigreturn, ();
    16 ioctl => crate::vfs::calls::ioctl::sys_ioctl, (0, 1, 2);
    17 pread64 => crate::vfs::calls::io::sys_pread64, (0, slice(1, 2), 3);
    18 pwrite64 => crate::vfs::calls::io::sys_pwrite64, (0, slice(1, 2), 3);
    19 readv => crate::vfs::calls::io::sys_readv, (0, 1, 2);
    20 writev => crate::vfs::calls::io::sys_writev, (0, 1, 2);
    21 access => crate::vfs::calls::stat::sys_access, (0, 1);
    22 pipe => crate::vfs::calls::open::sys_pipe, (0);
    23 select => crate::vfs::calls::poll::sys_select, (0, 1, 2, 3, 4);
    24 sched_yield => crate::task::ids::sys_sched_yield, ();
    32 dup => crate::vfs::calls::descriptor::sys_dup, (0);
    33 dup2 => crate::vfs::calls::descriptor::sys_dup2, (0, 1);
    34 pause => crate::signal::mask::sys_pause, ();
    35 nanosleep => crate::time::sleep::sys_nanosleep, (0, 1);
    36 getitimer => crate::time::itimer::sys_getitimer, (0, 1);
    37 alarm => crate::time::itimer::sys_alarm, (0);
    38 setitimer => crate::time::itimer::sys_setitimer, (0, 1, 2);
    39 getpid => crate::task::ids::sys_getpid, ();
    56 clone => crate::task::clone::sys_clone, (0, 1, 2, 3, 4);
    57 fork => crate::task::clone::sys_fork, ();
    58 vfork => crate::task::clone::sys_vfork, ();
    59 execve => crate::exec::run::sys_execve, (0, 1, 2);
    60 exit => crate::task::exit::sys_exit, (0);
    61 wait4 => crate::task::wait::sys_wait4, (0, 1, 2, 3);
    62 kill => crate::signal::kill::sys_kill, (0, 1);
    63 uname => crate::sys::utsname::sys_uname, (0);
    72 fcntl => crate::vfs::calls::fcntl::sys_fcntl, (0, 1, 2);
    73 flock => crate::vfs::calls::fcntl::sys_flock, (0, 1);
    74 fsync => crate::vfs::calls::sync::sys_fsync, (0);
    75 fdatasync => crate::vfs::calls::sync::sys_fdatasync, (0);
    76 truncate => crate::vfs::calls::sync::sys_truncate, (0, 1);
    77 ftruncate => crate::vfs::calls::sync::sys_ftruncate, (0, 1);
    78 getdents => crate::vfs::calls::directory::sys_getdents, (0, slice(1, 2));
    79 getcwd => crate::vfs::calls::directory::sys_getcwd, (slice(0, 1));
    80 chdir => crate::vfs::calls::directory::sys_chdir, (0);
    81 fchdir => crate::vfs::calls::directory::sys_fchdir, (0);
    82 rename => crate::vfs::calls::names::sys_rename, (0, 1);
    83 mkdir => crate::vfs::calls::names::sys_mkdir, (0, 1);
    84 rmdir => crate::vfs::calls::names::sys_rmdir, (0);
    85 creat => crate::vfs::calls::open::sys_creat, (0, 1);
    86 link => crate::vfs::calls::names::sys_link, (0, 1);
    87 unlink => crate::vfs::calls::names::sys_unlink, (0);
    88 symlink => crate::vfs::calls::names::sys_symlink, (0, 1);
    89 readlink => crate::vfs::calls::names::sys_readlink, (0, slice(1, 2));
    90 chmod => crate::vfs::calls::attributes::sys_chmod, (0, 1);
    91 fchmod => crate::vfs::calls::attributes::sys_fchmod, (0, 1);
    92 chown => crate::vfs::calls::attributes::sys_chown, (0, 1, 2);
    93 fchown => crate::vfs::calls::attributes::sys_fchown, (0, 1, 2);
    94 lchown => crate::vfs::calls::attributes::sys_lchown, (0, 1, 2);
    95 umask => crate::vfs::calls::directory::sys_umask, (0);
    96 gettimeofday => crate::time::clock::sys_gettimeofday, (0, 1);
    97 getrlimit => crate::task::rlimit::sys_getrlimit, (0, 1);
    98 getrusage => crate::task::times::sys_getrusage, (0, 1);
    99 sysinfo => crate::sys::info::sys_sysinfo, (0);
    100 times => crate::task::times::sys_times, (0);
    101 ptrace => crate::task::ptrace::sys_ptrace, ();
    102 getuid => crate::task::uids::sys_getuid, ();
    103 syslog => crate::sys::klog::sys_syslog, (0, slice(1, 2));
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
    132 utime => crate::vfs::calls::attributes::sys_utime, (0, 1);
    133 mknod => crate::vfs::calls::names::sys_mknod, (0, 1, 2);
    134 uselib => crate::sys::absent::sys_uselib, ();
    135 personality => crate::sys::personality::sys_personality, (0);
    136 ustat => crate::vfs::calls::stat::sys_ustat, (0, 1);
    137 statfs => crate::vfs::calls::stat::sys_statfs, (0, 1);
    138 fstatfs => crate::vfs::calls::stat::sys_fstatfs, (0, 1);
    139 sysfs => crate::sys::absent::sys_sysfs, ();
    140 getpriority => crate::task::priority::sys_getpriority, (0, 1);
    141 setpriority => crate::task::priority::sys_setpriority, (0, 1, 2);
    142 sched_setparam => crate::sys::sched::sys_sched_setparam, (0, 1);
    143 sched_getparam => crate::sys::sched::sys_sched_getparam, (0, 1);
    144 sched_setscheduler => crate::sys::sched::sys_sched_setscheduler, (0, 1, 2);
    145 sched_getscheduler => crate::sys::sched::sys_sched_getscheduler, (0);
    146 sched_get_priority_max => crate::sys::sched::sys_sched_get_priority_max, (0);
    147 sched_get_priority_min => crate::sys::sched::sys_sched_get_priority_min, (0);
    148 sched_rr_get_interval => crate::sys::sched::sys_sched_rr_get_interval, (0, 1);
    153 vhangup => crate::tty::sys_vhangup, ();
    154 modify_ldt => crate::sys::absent::sys_modify_ldt, ();
    155 pivot_root => crate::vfs::calls::mount::sys_pivot_root, (0, 1);
    156 _sysctl => crate::sys::absent::sys_sysctl, ();
    157 prctl => crate::task::prctl::sys_prctl, (0, 1, 2, 3, 4);
    158 arch_prctl => crate::task::arch_prctl::sys_arch_prctl, (0, 1);
    159 adjtimex => crate::time::adjtime::sys_adjtimex, (0);
    160 setrlimit => crate::task::rlimit::sys_setrlimit, (0, 1);
    161 chroot => crate::vfs::calls::directory::sys_chroot, (0);
    162 sync => crate::vfs::calls::sync::sys_sync, ();
    163 acct => crate::sys::absent::sys_acct, ();
    164 settimeofday => crate::time::clock::sys_settimeofday, (0, 1);
    165 mount => crate::vfs::calls::mount::sys_mount, (0, 1, 2, 3, 4);
    166 umount2 => crate::vfs::calls::mount::sys_umount2, (0, 1);
    167 swapon => crate::sys::absent::sys_swapon, ();
    168 swapoff => crate::sys::absent::sys_swapoff, ();
    169 reboot => crate::sys::reboot::sys_reboot, (0, 1, 2, 3);
    170 sethostname => crate::sys::utsname::sys_sethostname, (slice(0, 1));
    171 setdomainname => crate::sys::utsname::sys_setdomainname, (slice(0, 1));
    172 iopl => crate::sys::absent::sys_ioperm, ();
    173 ioperm => crate::sys::absent::sys_ioperm, ();
    174 create_module => crate::sys::absent::sys_create_module, ();
    175 init_module => crate::sys::module::sys_init_module, (slice(0, 1), 2);
    176 delete_module => crate::sys::module::sys_delete_module, (0);
    177 get_kernel_syms => crate::sys::absent::sys_get_kernel_syms, ();
    178 query_module => crate::sys::absent::sys_query_module, ();
    179 quotactl => crate::sys::absent::sys_quotactl, ();
    180 nfsservctl => crate::sys::absent::sys_nfsservctl, ();
    181 getpmsg => crate::sys::absent::sys_getpmsg, ();
    182 putpmsg => crate::sys::absent::sys_putpmsg, ();
    183 afs_syscall => crate::sys::absent::sys_afs_syscall, ();
    184 tuxcall => crate::sys::absent::sys_tuxcall, ();
    185 security => crate::sys::absent::sys_security, ();
    186 gettid => crate::task::ids::sys_gettid, ();
    187 readahead => crate::vfs::calls::sync::sys_readahead, (0, 1, 2);
    200 tkill => crate::signal::kill::sys_tkill, (0, 1);
    201 time => crate::time::clock::sys_time, (0);
    202 futex => crate::futex::sys_futex, (0, 1, 2, 3, 4, 5);
    203 sched_setaffinity => crate::sys::affinity::sys_sched_setaffinity, (0, 1, 2);
    204 sched_getaffinity => crate::sys::affinity::sys_sched_getaffinity, (0, 1, 2);
    206 io_setup => crate::sys::absent::sys_io_setup, ();
    207 io_destroy => crate::sys::absent::sys_io_destroy, ();
    208 io_getevents => crate::sys::absent::sys_io_getevents, ();
    209 io_submit => crate::sys::absent::sys_io_submit, ();
    210 io_cancel => crate::sys::absent::sys_io_cancel, ();
    212 lookup_dcookie => crate::sys::absent::sys_lookup_dcookie, ();
    213 epoll_create => crate::vfs::epoll::sys_epoll_create, (0);
    214 epoll_ctl_old => crate::sys::absent::sys_epoll_ctl_old, ();
    215 epoll_wait_old => crate::sys::absent::sys_epoll_wait_old, ();
    216 remap_file_pages => crate::mm::mmap::sys_remap_file_pages, (0, 1, 2, 3, 4);
    217 getdents64 => crate::vfs::calls::directory::sys_getdents64, (0, slice(1, 2));
    218 set_tid_address => crate::task::robust::sys_set_tid_address, (0);
    219 restart_syscall => crate::signal::sigreturn::sys_restart_syscall, ();
    221 fadvise64 => crate::vfs::calls::sync::sys_fadvise64, (0, 1, 2, 3);
    222 timer_create => crate::time::posix_timer::sys_timer_create, (0, 1, 2);
    223 timer_settime => crate::time::posix_timer::sys_timer_settime, (0, 1, 2, 3);
    224 timer_gettime => crate::time::posix_timer::sys_timer_gettime, (0, 1);
    225 timer_getoverrun => crate::time::posix_timer::sys_timer_getoverrun, (0);
    226 timer_delete => crate::time::posix_timer::sys_timer_delete, (0);
    227 clock_settime => crate::time::clock::sys_clock_settime, (0, 1);
    228 clock_gettime => crate::time::clock::sys_clock_gettime, (0, 1);
    229 clock_getres => crate::time::clock::sys_clock_getres, (0, 1);
    230 clock_nanosleep => crate::time::sleep::sys_clock_nanosleep, (0, 1, 2, 3);
    231 exit_group => crate::task::exit::sys_exit_group, (0);
    232 epoll_wait => crate::vfs::epoll::sys_epoll_wait, (0, 1, 2, 3);
    233 epoll_ctl => crate::vfs::epoll::sys_epoll_ctl, (0, 1, 2, 3);
    234 tgkill => crate::signal::kill::sys_tgkill, (0, 1, 2);
    235 utimes => crate::vfs::calls::attributes::sys_utimes, (0, 1);
    236 vserver => crate::sys::absent::sys_vserver, ();
    237 mbind => crate::sys::absent::sys_mbind, ();
    238 set_mempolicy => crate::sys::absent::sys_set_mempolicy, ();
    239 get_mempolicy => crate::sys::absent::sys_get_mempolicy, ();
    246 kexec_load => crate::sys::absent::sys_kexec_load, ();
    247 waitid => crate::task::wait::sys_waitid, (0, 1, 2, 3, 4);
    248 add_key => crate::sys::absent::sys_add_key, ();
    249 request_key => crate::sys::absent::sys_request_key, ();
    250 keyctl => crate::sys::absent::sys_keyctl, ();
    251 ioprio_set => crate::sys::ioprio::sys_ioprio_set, (0, 1, 2);
    252 ioprio_get => crate::sys::ioprio::sys_ioprio_get, (0, 1);
    256 migrate_pages => crate::sys::absent::sys_migrate_pages, ();
    257 openat => crate::vfs::calls::open::sys_openat, (0, 1, 2, 3);
    258 mkdirat => crate::vfs::calls::names::sys_mkdirat, (0, 1, 2);
    259 mknodat => crate::vfs::calls::names::sys_mknodat, (0, 1, 2, 3);
    260 fchownat => crate::vfs::calls::attributes::sys_fchownat, (0, 1, 2, 3, 4);
    261 futimesat => crate::vfs::calls::attributes::sys_futimesat, (0, 1, 2);
    262 newfstatat => crate::vfs::calls::stat::sys_newfstatat, (0, 1, 2, 3);
    263 unlinkat => crate::vfs::calls::names::sys_unlinkat, (0, 1, 2);
    264 renameat => crate::vfs::calls::names::sys_renameat, (0, 1, 2, 3);
    265 linkat => crate::vfs::calls::names::sys_linkat, (0, 1, 2, 3, 4);
    266 symlinkat => crate::vfs::calls::names::sys_symlinkat, (0, 1, 2);
    267 readlinkat => crate::vfs::calls::names::sys_readlinkat, (0, 1, slice(2, 3));
    268 fchmodat => crate::vfs::calls::attributes::sys_fchmodat, (0, 1, 2);
    269 faccessat => crate::vfs::calls::stat::sys_faccessat, (0, 1, 2);
    270 pselect6 => crate::vfs::calls::poll::sys_pselect6, (0, 1, 2, 3, 4, 5);
    271 ppoll => crate::vfs::calls::poll::sys_ppoll, (0, 1, 2, 3, 4);
    272 unshare => crate::task::unshare::sys_unshare, (0);
    273 set_robust_list => crate::task::robust::sys_set_robust_list, (0, 1);
    274 get_robust_list => crate::task::robust::sys_get_robust_list, (0, 1, 2);
    277 sync_file_range => crate::vfs::calls::sync::sys_sync_file_range, (0, 1, 2, 3);
    279 move_pages => crate::sys::absent::sys_move_pages, ();
    280 utimensat => crate::vfs::calls::attributes::sys_utimensat, (0, 1, 2, 3);
    281 epoll_pwait => crate::vfs::epoll::sys_epoll_pwait, (0, 1, 2, 3, 4, 5);
    282 signalfd => crate::signal::signalfd::sys_signalfd, (0, 1, 2);
    283 timerfd_create => crate::time::timerfd::sys_timerfd_create, (0, 1);
    284 eventfd => crate::vfs::eventfd::sys_eventfd, (0);
    285 fallocate => crate::vfs::calls::sync::sys_fallocate, (0, 1, 2, 3);
    286 timerfd_settime => crate::time::timerfd::sys_timerfd_settime, (0, 1, 2, 3);
    287 timerfd_gettime => crate::time::timerfd::sys_timerfd_gettime, (0, 1);
    289 signalfd4 => crate::signal::signalfd::sys_signalfd4, (0, 1, 2, 3);
    290 eventfd2 => crate::vfs::eventfd::sys_eventfd2, (0, 1);
    291 epoll_create1 => crate::vfs::epoll::sys_epoll_create1, (0);
    292 dup3 => crate::vfs::calls::descriptor::sys_dup3, (0, 1, 2);
    293 pipe2 => crate::vfs::calls::open::sys_pipe2, (0, 1);
    295 preadv => crate::vfs::calls::io::sys_preadv, (0, 1, 2, 3);
    296 pwritev => crate::vfs::calls::io::sys_pwritev, (0, 1, 2, 3);
    297 rt_tgsigqueueinfo => crate::signal::kill::sys_rt_tgsigqueueinfo, (0, 1, 2, 3);
    298 perf_event_open => crate::sys::absent::sys_perf_event_open, ();
    300 fanotify_init => crate::sys::absent::sys_fanotify_init, ();
    301 fanotify_mark => crate::sys::absent::sys_fanotify_mark, ();
    302 prlimit64 => crate::task::rlimit::sys_prlimit64, (0, 1, 2, 3);
    303 name_to_handle_at => crate::sys::absent::sys_name_to_handle_at, ();
    304 open_by_handle_at => crate::sys::absent::sys_open_by_handle_at, ();
    305 clock_adjtime => crate::time::adjtime::sys_clock_adjtime, (0, 1);
    306 syncfs => crate::vfs::calls::sync::sys_syncfs, (0);
    308 setns => crate::task::unshare::sys_setns, (0);
    309 getcpu => crate::sys::info::sys_getcpu, (0, 1);
    310 process_vm_readv => crate::task::vm_access::sys_process_vm_readv, (0, 1, 2, 3, 4, 5);
    311 process_vm_writev => crate::task::vm_access::sys_process_vm_writev, (0, 1, 2, 3, 4, 5);
    312 kcmp => crate::task::ids::sys_kcmp, ();
    313 finit_module => crate::sys::module::sys_finit_module, (0, 1, 2);
    314 sched_setattr => crate::sys::sched::sys_sched_setattr, (0, 1, 2);
    315 sched_getattr => crate::sys::sched::sys_sched_getattr, (0, 1, 2, 3);
    316 renameat2 => crate::vfs::calls::names::sys_renameat2, (0, 1, 2, 3, 4);
    317 seccomp => crate::task::ptrace::sys_seccomp, ();
    318 getrandom => crate::device::random::sys_getrandom, (slice(0, 1), 2);
    320 kexec_file_load => crate::sys::absent::sys_kexec_file_load, ();
    321 bpf => crate::sys::absent::sys_bpf, ();
    322 execveat => crate::exec::run::sys_execveat, (0, 1, 2, 3, 4);
    323 userfaultfd => crate::sys::absent::sys_userfaultfd, ();
    324 membarrier => crate::task::membarrier::sys_membarrier, (0, 1, 2);
    327 preadv2 => crate::vfs::calls::io::sys_preadv2, (0, 1, 2, 3, 4, 5);
    328 pwritev2 => crate::vfs::calls::io::sys_pwritev2, (0, 1, 2, 3, 4, 5);
    329 pkey_mprotect => crate::mm::mprotect::sys_pkey_mprotect, (0, 1, 2, 3);
    330 pkey_alloc => crate::sys::absent::sys_pkey_alloc, (0, 1);
    331 pkey_free => crate::sys::absent::sys_pkey_free, (0);
    332 statx => crate::vfs::calls::stat::sys_statx, (0, 1, 2, 3, 4);
    333 io_pgetevents => crate::sys::absent::sys_io_pgetevents, ();
    334 rseq => crate::task::ids::sys_rseq, ();
    335 uretprobe => crate::sys::absent::sys_uretprobe, ();
    336 uprobe => crate::sys::absent::sys_uprobe, ();
    424 pidfd_send_signal => crate::task::pidfd::sys_pidfd_send_signal, (0, 1, 2, 3);
    425 io_uring_setup => crate::sys::absent::sys_io_uring_setup, ();
    426 io_uring_enter => crate::sys::absent::sys_io_uring_enter, ();
    427 io_uring_register => crate::sys::absent::sys_io_uring_register, ();
    434 pidfd_open => crate::task::pidfd::sys_pidfd_open, (0, 1);
    435 clone3 => crate::task::clone::sys_clone3, (0, 1);
    436 close_range => crate::vfs::calls::descriptor::sys_close_range, (0, 1, 2);
    437 openat2 => crate::vfs::calls::open::sys_openat2, (0, 1, 2, 3);
    438 pidfd_getfd => crate::task::pidfd::sys_pidfd_getfd, (0, 1, 2);
    439 faccessat2 => crate::vfs::calls::stat::sys_faccessat2, (0, 1, 2, 3);
    441 epoll_pwait2 => crate::vfs::epoll::sys_epoll_pwait2, (0, 1, 2, 3, 4, 5);
    443 quotactl_fd => crate::sys::absent::sys_quotactl_fd, ();
    444 landlock_create_ruleset => crate::sys::absent::sys_landlock_create_ruleset, ();
    445 landlock_add_rule => crate::sys::absent::sys_landlock_add_rule, ();
    446 landlock_restrict_self => crate::sys::absent::sys_landlock_restrict_self, ();
    447 memfd_secret => crate::sys::absent::sys_memfd_secret, ();
    449 futex_waitv => crate::futex::wait::sys_futex_waitv, (0, 1, 2, 3, 4);
    450 set_mempolicy_home_node => crate::sys::absent::sys_set_mempolicy_home_node, ();
    452 fchmodat2 => crate::vfs::calls::attributes::sys_fchmodat2, (0, 1, 2, 3);
    453 map_shadow_stack => crate::sys::absent::sys_map_shadow_stack, ();
    459 lsm_get_self_attr => crate::sys::absent::sys_lsm_get_self_attr, ();
    460 lsm_set_self_attr => crate::sys::absent::sys_lsm_set_self_attr, ();
    461 lsm_list_modules => crate::sys::absent::sys_lsm_list_modules, ();
}
