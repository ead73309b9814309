//! Calls of features this kernel is configured without: each gives the errno that Linux gives then, and is counted.

use arch_um::stub;

use super::require;
use crate::syscall::Context;
use crate::task::Capabilities;
use crate::{Errno, Result};

macro_rules! absent {
    ($($name:ident, $what:literal;)*) => {$(
        #[doc = concat!("`", $what, "(2)`: `ENOSYS`, as configured out.")]
        pub fn $name(_cx: &Context) -> Result<usize> {
            stub!($what);
            Err(Errno::ENOSYS)
        }
    )*};
}

absent! {
    sys_shmget, "shmget";
    sys_shmat, "shmat";
    sys_shmctl, "shmctl";
    sys_semget, "semget";
    sys_semop, "semop";
    sys_semctl, "semctl";
    sys_shmdt, "shmdt";
    sys_msgget, "msgget";
    sys_msgsnd, "msgsnd";
    sys_msgrcv, "msgrcv";
    sys_msgctl, "msgctl";
    sys_set_thread_area, "set_thread_area";
    sys_get_thread_area, "get_thread_area";
    sys_semtimedop, "semtimedop";
    sys_mq_open, "mq_open";
    sys_mq_unlink, "mq_unlink";
    sys_mq_timedsend, "mq_timedsend";
    sys_mq_timedreceive, "mq_timedreceive";
    sys_mq_notify, "mq_notify";
    sys_mq_getsetattr, "mq_getsetattr";
    sys_process_mrelease, "process_mrelease";
    sys_open_tree_attr, "open_tree_attr";
    sys_file_getattr, "file_getattr";
    sys_file_setattr, "file_setattr";
    sys_modify_ldt, "modify_ldt";
    sys_sysctl, "_sysctl";
    sys_acct, "acct";
    sys_swapon, "swapon";
    sys_swapoff, "swapoff";
    sys_create_module, "create_module";
    sys_get_kernel_syms, "get_kernel_syms";
    sys_query_module, "query_module";
    sys_quotactl, "quotactl";
    sys_quotactl_fd, "quotactl_fd";
    sys_nfsservctl, "nfsservctl";
    sys_getpmsg, "getpmsg";
    sys_putpmsg, "putpmsg";
    sys_afs_syscall, "afs_syscall";
    sys_tuxcall, "tuxcall";
    sys_security, "security";
    sys_uselib, "uselib";
    sys_sysfs, "sysfs";
    sys_lookup_dcookie, "lookup_dcookie";
    sys_epoll_ctl_old, "epoll_ctl_old";
    sys_epoll_wait_old, "epoll_wait_old";
    sys_vserver, "vserver";
    sys_kexec_load, "kexec_load";
    sys_kexec_file_load, "kexec_file_load";
    sys_add_key, "add_key";
    sys_request_key, "request_key";
    sys_keyctl, "keyctl";
    sys_migrate_pages, "migrate_pages";
    sys_move_pages, "move_pages";
    sys_mbind, "mbind";
    sys_set_mempolicy, "set_mempolicy";
    sys_get_mempolicy, "get_mempolicy";
    sys_set_mempolicy_home_node, "set_mempolicy_home_node";
    sys_io_setup, "io_setup";
    sys_io_destroy, "io_destroy";
    sys_io_getevents, "io_getevents";
    sys_io_submit, "io_submit";
    sys_io_cancel, "io_cancel";
    sys_io_pgetevents, "io_pgetevents";
    sys_io_uring_setup, "io_uring_setup";
    sys_io_uring_enter, "io_uring_enter";
    sys_io_uring_register, "io_uring_register";
    sys_perf_event_open, "perf_event_open";
    sys_bpf, "bpf";
    sys_userfaultfd, "userfaultfd";
    sys_fanotify_init, "fanotify_init";
    sys_fanotify_mark, "fanotify_mark";
    sys_name_to_handle_at, "name_to_handle_at";
    sys_open_by_handle_at, "open_by_handle_at";
    sys_memfd_secret, "memfd_secret";
    sys_landlock_create_ruleset, "landlock_create_ruleset";
    sys_landlock_add_rule, "landlock_add_rule";
    sys_landlock_restrict_self, "landlock_restrict_self";
    sys_map_shadow_stack, "map_shadow_stack";
    sys_lsm_get_self_attr, "lsm_get_self_attr";
    sys_lsm_set_self_attr, "lsm_set_self_attr";
    sys_lsm_list_modules, "lsm_list_modules";
    sys_uretprobe, "uretprobe";
    sys_uprobe, "uprobe";
    sys_rseq_slice_yield, "rseq_slice_yield";
    sys_cachestat, "cachestat";
    sys_mseal, "mseal";
    sys_futex_wake, "futex_wake";
    sys_futex_wait, "futex_wait";
    sys_futex_requeue, "futex_requeue";
    sys_listns, "listns";
}

/// `ioperm(2)`, `iopl(2)`: there are no ports. `EPERM` without the right, `EINVAL` with it.
pub fn sys_ioperm(cx: &Context) -> Result<usize> {
    require(cx, Capabilities::SYS_RAWIO)?;
    stub!("ioperm");
    Err(Errno::EINVAL)
}

/// `pkey_alloc(2)`: a processor without protection keys has none to give.
pub fn sys_pkey_alloc(_cx: &Context, flags: u64, rights: u64) -> Result<usize> {
    if flags != 0 || rights & !3 != 0 {
        return Err(Errno::EINVAL);
    }
    Err(Errno::ENOSPC)
}

/// `pkey_free(2)`: no key was ever given.
pub fn sys_pkey_free(_cx: &Context, _key: i32) -> Result<usize> {
    Err(Errno::EINVAL)
}
