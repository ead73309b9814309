//! What is left out: each answers as a kernel that was configured without it, and is counted.

use crate::syscall::Context;
use crate::{Errno, Result};

macro_rules! left_out {
    ($($(#[$meta:meta])* $name:ident = $what:literal, $errno:ident;)*) => {$(
        $(#[$meta])*
        pub fn $name(_cx: &Context) -> Result<usize> {
            arch_um::stub!($what);
            Err(Errno::$errno)
        }
    )*};
}

left_out! {
    /// `inotify_init(2)`, `inotify_init1(2)`, `inotify_add_watch(2)`, `inotify_rm_watch(2)`.
    sys_inotify = "inotify", ENOSYS;
    /// `fanotify_init(2)`, `fanotify_mark(2)`.
    sys_fanotify = "fanotify", ENOSYS;
    /// `name_to_handle_at(2)`.
    sys_name_to_handle_at = "name_to_handle_at", EOPNOTSUPP;
    /// `open_by_handle_at(2)`.
    sys_open_by_handle_at = "open_by_handle_at", ENOSYS;
    /// `io_uring_setup(2)`, `io_uring_enter(2)`, `io_uring_register(2)`.
    sys_io_uring = "io_uring", ENOSYS;
    /// `io_setup(2)` and its relatives.
    sys_aio = "Linux AIO (io_setup)", ENOSYS;
    /// `quotactl(2)`, `quotactl_fd(2)`.
    sys_quotactl = "quotactl", ENOSYS;
    /// `statmount(2)`, `listmount(2)`.
    sys_statmount = "statmount and listmount", ENOSYS;
    /// `setxattrat(2)` and its relatives.
    sys_xattrat = "setxattrat and its relatives", ENOSYS;
    /// `swapon(2)`, `swapoff(2)`.
    sys_swap = "swapon", ENOSYS;
    /// `acct(2)`.
    sys_acct = "acct", ENOSYS;
    /// `userfaultfd(2)`.
    sys_userfaultfd = "userfaultfd", ENOSYS;
    /// `lookup_dcookie(2)`, `nfsservctl(2)`, `sysfs(2)`, `uselib(2)`: gone from Linux, or as good as.
    sys_obsolete = "an obsolete file system call", ENOSYS;
}
