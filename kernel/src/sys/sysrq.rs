//! Magic keys: what /proc/sysrq-trigger and mconsole's `sysrq` do.

use alloc::format;
use alloc::string::String;

use arch_um::{pr_info, pr_notice};

use super::{memory, reboot};
use crate::signal::{SigInfo, Signal, send};
use crate::task::{Pid, table};
use crate::{Errno, Result};

const HELP: &str = "HELP : loglevel(0-9) reboot(b) crash(c) terminate-all-tasks(e) kill-all-tasks(i) show-memory-usage(m) \
                    poweroff(o) sync(s) show-task-states(t) unmount(u) show-blocked-tasks(w) ";

/// Carries out the command of `key`. `EINVAL` for a key that has none (and prints the list).
pub fn handle(key: u8) -> Result<()> {
    match key {
        b'0'..=b'9' => {
            announce("Changing Loglevel");
            arch_um::printk::set_console_loglevel(key - b'0');
            pr_info!("sysrq: Loglevel set to {}", key - b'0');
        }
        b'b' => {
            announce("Resetting");
            reboot::restart(None);
        }
        b'c' => {
            announce("Trigger a crash");
            arch_um::exit::kernel_panic("sysrq triggered crash");
        }
        b'e' => {
            announce("Terminate All Tasks");
            signal_all(Signal::TERM);
        }
        b'i' => {
            announce("Kill All Tasks");
            signal_all(Signal::KILL);
        }
        b'm' => {
            announce("Show Memory");
            show_memory();
        }
        b'o' => {
            announce("Power Off");
            reboot::power_off();
        }
        b's' => {
            announce("Emergency Sync");
            sync();
            pr_info!("Emergency Sync complete");
        }
        b'u' => {
            announce("Emergency Remount R/O");
            sync();
            crate::vfs::super_block::freeze_all();
            pr_info!("Emergency Remount complete");
        }
        b't' | b'w' => {
            announce(if key == b't' {
                "Show State"
            } else {
                "Show Blocked State"
            });
            show_tasks(key == b'w');
        }
        _ => {
            pr_notice!("sysrq: {HELP}");
            return Err(Errno::EINVAL);
        }
    }
    Ok(())
}

fn sync() {
    if let Err(error) = crate::vfs::super_block::sync_all() {
        pr_info!("Emergency Sync: {error:?}");
    }
}

fn announce(what: &str) {
    pr_notice!("sysrq: {what}");
}

fn signal_all(signal: Signal) {
    for process in table::processes() {
        if process.pid() != Pid(1) {
            send::to_process(&process, SigInfo::kernel(signal));
        }
    }
}

fn show_memory() {
    let used = memory::usage();
    let kib = |bytes: u64| bytes >> 10;
    pr_info!(
        "Mem-Info: total:{}kB free:{}kB anon:{}kB mapped:{}kB shmem:{}kB cached:{}kB dirty:{}kB kernel:{}kB",
        kib(used.total),
        kib(used.free),
        kib(used.anonymous),
        kib(used.mapped),
        kib(used.shared),
        kib(used.cached),
        kib(used.dirty),
        kib(used.kernel)
    );
}

fn show_tasks(only_blocked: bool) {
    for task in table::processes().iter().flat_map(|process| process.threads()) {
        let state = task.thread().map_or('X', |thread| thread.state_letter());
        if !only_blocked || state == 'D' {
            pr_info!(
                "task:{:15} state:{state} pid:{:<5} tgid:{:<5}",
                comm(&task),
                task.tid().0,
                task.process().pid().0
            );
        }
    }
}

fn comm(task: &crate::task::Task) -> String {
    format!("{}", String::from_utf8_lossy(task.comm().as_bytes()))
}
