//! What files know of the calling process: its limits (`getrlimit(2)`), its signals.

use crate::signal::{SigInfo, Signal, send};
use crate::syscall::Context;
use crate::task;
use crate::task::rlimit::{NR_OPEN, Resource};

/// Descriptors: `RLIMIT_NOFILE`. Kernel threads have Linux's hard default.
pub fn open_files() -> usize {
    match task::try_current() {
        Some(task) => task.process().limit(Resource::NOFILE).min(NR_OPEN) as usize,
        None => 4096,
    }
}

/// The longest file one may make: `RLIMIT_FSIZE`, in bytes.
pub fn file_size() -> u64 {
    task::try_current().map_or(u64::MAX, |task| task.process().limit(Resource::FSIZE))
}

/// Sends `signal` to the calling task, as its own fault (`SIGPIPE`, `SIGXFSZ`).
pub fn raise(signal: Signal) {
    if let Some(task) = task::try_current() {
        send::to_task(&task, SigInfo::kernel(signal));
    }
}

/// Gives the calling task a descriptor table of its own (`CLOSE_RANGE_UNSHARE`).
pub fn unshare_files(cx: &Context) {
    let task = cx.task();
    drop(task.set_files(task.files().fork()));
}
