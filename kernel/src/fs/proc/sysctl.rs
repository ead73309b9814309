//! /proc/sys: settings of the kernel (`sysctl(8)`).
//!
//! Three kinds: what another room owns ([`owned`]: closures ask and tell it), what is kept and reported but changes nothing here ([`kept`]), and
//! [`constant`]s. Rooms add theirs with [`dir`].

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicI64, Ordering};

use arch_um::printk;
use arch_um::sync::{SpinLock, order};

use super::system_names;
use crate::device::random;
use crate::fs::pseudo::text::{number, word};
use crate::fs::pseudo::{Node, Seq, Text, Tree};
use crate::mm::layout::{self, Randomize};
use crate::sys::utsname;
use crate::task::pid::PID_MAX;
use crate::task::table;
use crate::task::threads_max;
use crate::version::{MACHINE, RELEASE, VERSION};
use crate::vfs::lease;
use crate::{Errno, Result, seq};

const INT_MAX: i64 = i32::MAX as i64;

/// The directory at `path` below /proc/sys (`net/ipv4`), made when it is not there.
pub fn dir(path: &str) -> Arc<Tree> {
    super::root().dir("sys").path(path)
}

/// Adds a number that is kept, from `low` to `high`. The value can be read through what is returned.
pub fn kept(tree: &Tree, name: &str, initial: i64, low: i64, high: i64) -> Arc<AtomicI64> {
    let value = Arc::new(AtomicI64::new(initial));
    let (shown, stored) = (value.clone(), value.clone());
    let set = move |new| {
        if !(low..=high).contains(&new) {
            return Err(Errno::EINVAL);
        }
        stored.store(new, Ordering::Relaxed);
        Ok(())
    };
    owned(tree, name, move || shown.load(Ordering::Relaxed), set);
    value
}

/// Adds a number that another room owns.
pub fn owned(
    tree: &Tree,
    name: &str,
    get: impl Fn() -> i64 + Send + Sync + 'static,
    set: impl Fn(i64) -> Result<()> + Send + Sync + 'static,
) {
    let show = move |out: &mut Seq| {
        seq!(out, "{}\n", get());
        Ok(())
    };
    tree.add(name, Node::setting(0o644, show, move |data| set(number(data)?)));
}

/// Adds something that cannot be set.
pub fn constant(tree: &Tree, name: &str, text: impl Into<String>) {
    let text: String = text.into();
    tree.text(name, 0o444, move |out| {
        seq!(out, "{text}\n");
        Ok(())
    });
}

/// Adds a text that is kept, at most `max` characters.
pub fn kept_text(tree: &Tree, name: &str, initial: &str, max: usize) -> Arc<SpinLock<String>> {
    let value = Arc::new(SpinLock::new(&order::LEAF, initial.to_string()));
    let (shown, stored) = (value.clone(), value.clone());
    let show = move |out: &mut Seq| {
        let text = shown.lock().clone();
        seq!(out, "{text}\n");
        Ok(())
    };
    let store = move |data: &[u8]| {
        let text: String = word(data)?.chars().take(max).collect();
        let old = core::mem::replace(&mut *stored.lock(), text);
        drop(old);
        Ok(())
    };
    tree.add(name, Node::setting(0o644, show, store));
    value
}

/// Adds several numbers in one file that are kept.
pub fn kept_row(tree: &Tree, name: &str, initial: &[i64]) {
    let shown = Arc::new(SpinLock::new(&order::LEAF, initial.to_vec()));
    let stored = shown.clone();
    let show = move |out: &mut Seq| {
        let row = shown.lock().clone();
        show_row(out, &row);
        Ok(())
    };
    let store = move |data: &[u8]| {
        let new = parse_row(data)?;
        stored.lock().iter_mut().zip(new).for_each(|(old, new)| *old = new);
        Ok(())
    };
    tree.add(name, Node::setting(0o644, show, store));
}

fn show_row(out: &mut Seq, row: &[i64]) {
    let texts: Vec<String> = row.iter().map(i64::to_string).collect();
    seq!(out, "{}\n", texts.join("\t"));
}

fn parse_row(data: &[u8]) -> Result<Vec<i64>> {
    word(data)?
        .split_ascii_whitespace()
        .map(|part| number(part.as_bytes()))
        .collect()
}

/// Adds kept numbers from a list: name, initial value, lowest, highest.
fn kept_all(tree: &Tree, settings: &[(&str, i64, i64, i64)]) {
    for &(name, initial, low, high) in settings {
        kept(tree, name, initial, low, high);
    }
}

pub(super) fn fill(tree: &Arc<Tree>) {
    kernel(&tree.dir("kernel"));
    vm(&tree.dir("vm"));
    fs(&tree.dir("fs"));
    net(&tree.dir("net"));
    tree.dir("debug");
    tree.dir("dev");
    tree.dir("abi");
    let user = tree.dir("user");
    for what in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        kept(&user, &format!("max_{what}_namespaces"), 0, 0, INT_MAX);
    }
}

fn kernel(tree: &Arc<Tree>) {
    for (name, text) in [
        ("ostype", utsname::SYSNAME),
        ("osrelease", RELEASE),
        ("version", VERSION),
        ("arch", MACHINE),
        ("cap_last_cap", "40"),
        ("ngroups_max", "65536"),
        ("tainted", "0"),
        ("modules_disabled", "1"),
        ("kexec_load_disabled", "1"),
    ] {
        constant(tree, name, text);
    }
    constant(tree, "pid_max", PID_MAX.to_string());
    constant(tree, "threads-max", threads_max::get().to_string());
    tree.add("hostname", Node::file(0o644, system_names::hostname()));
    tree.add("domainname", Node::file(0o644, system_names::domainname()));
    tree.text("ns_last_pid", 0o444, |out| {
        seq!(out, "{}\n", table::last_pid().0);
        Ok(())
    });
    kept_all(
        tree,
        &[
            ("overflowuid", 65534, 0, 65535),
            ("overflowgid", 65534, 0, 65535),
            ("panic", 0, i32::MIN as i64, INT_MAX),
            ("panic_on_oops", 0, 0, 1),
            ("panic_on_warn", 0, 0, 1),
            ("sysrq", 1, 0, 511),
            ("ctrl-alt-del", 1, 0, 1),
            ("core_uses_pid", 0, 0, 1),
            ("core_pipe_limit", 0, 0, INT_MAX),
            ("dmesg_restrict", 0, 0, 1),
            ("kptr_restrict", 0, 0, 2),
            ("printk_ratelimit", 5, 0, INT_MAX),
            ("printk_ratelimit_burst", 10, 0, INT_MAX),
            ("print-fatal-signals", 0, 0, 1),
            ("sched_rt_period_us", 1_000_000, 1, INT_MAX),
            ("sched_rt_runtime_us", 950_000, -1, INT_MAX),
            ("sched_rr_timeslice_ms", 100, 0, INT_MAX),
            ("sched_child_runs_first", 0, 0, 1),
            ("timer_migration", 1, 0, 1),
        ],
    );
    let show = |out: &mut Seq| {
        let text = core_pattern().lock().clone();
        seq!(out, "{text}\n");
        Ok(())
    };
    let store = |data: &[u8]| {
        let text: String = word(data)?.chars().take(127).collect();
        let old = core::mem::replace(&mut *core_pattern().lock(), text);
        drop(old);
        Ok(())
    };
    tree.add("core_pattern", Node::setting(0o644, show, store));
    kept_text(tree, "modprobe", "/sbin/modprobe", 255);
    kept_text(tree, "hotplug", "", 255);
    kept_text(tree, "poweroff_cmd", "/sbin/poweroff", 255);
    kept_text(tree, "printk_devkmsg", "on", 10);
    tree.add("printk", Node::setting(0o644, show_printk, store_printk));
    let randomize = |new| {
        layout::set_randomize(match new {
            0 => Randomize::Off,
            1 | 2 => Randomize::On,
            _ => return Err(Errno::EINVAL),
        });
        Ok(())
    };
    let randomized = || if layout::randomize() == Randomize::On { 2 } else { 0 };
    owned(tree, "randomize_va_space", randomized, randomize);
    random_files(&tree.dir("random"));
}

/// Where core dumps go (`core(5)`).
pub fn core_pattern() -> &'static SpinLock<String> {
    static PATTERN: spin::Once<SpinLock<String>> = spin::Once::new();
    PATTERN.call_once(|| SpinLock::new(&order::LEAF, "core".into()))
}

fn show_printk(out: &mut Seq) -> Result<()> {
    show_row(out, &[i64::from(printk::console_loglevel()), 4, 1, 7]);
    Ok(())
}

fn store_printk(data: &[u8]) -> Result<()> {
    if let Some(&level) = parse_row(data)?.first() {
        printk::set_console_loglevel(u8::try_from(level).map_err(|_| Errno::EINVAL)?);
    }
    Ok(())
}

fn random_files(tree: &Arc<Tree>) {
    constant(tree, "poolsize", random::POOL_BITS.to_string());
    constant(tree, "entropy_avail", random::POOL_BITS.to_string());
    constant(tree, "boot_id", random::uuid());
    tree.text("uuid", 0o444, |out| {
        seq!(out, "{}\n", random::uuid());
        Ok(())
    });
    kept(tree, "write_wakeup_threshold", 256, 0, 256);
    kept(tree, "urandom_min_reseed_secs", 60, 0, INT_MAX);
}

fn vm(tree: &Arc<Tree>) {
    kept_all(
        tree,
        &[
            ("overcommit_memory", 0, 0, 2),
            ("overcommit_ratio", 50, 0, INT_MAX),
            ("overcommit_kbytes", 0, 0, INT_MAX),
            ("max_map_count", 65530, 0, INT_MAX),
            ("swappiness", 60, 0, 200),
            ("dirty_ratio", 20, 0, 100),
            ("dirty_background_ratio", 10, 0, 100),
            ("dirty_bytes", 0, 0, i64::MAX),
            ("dirty_background_bytes", 0, 0, i64::MAX),
            ("dirty_expire_centisecs", 3000, 0, INT_MAX),
            ("dirty_writeback_centisecs", 500, 0, INT_MAX),
            ("dirtytime_expire_seconds", 43200, 0, INT_MAX),
            ("vfs_cache_pressure", 100, 0, INT_MAX),
            ("min_free_kbytes", 1024, 0, INT_MAX),
            ("oom_kill_allocating_task", 0, 0, 1),
            ("oom_dump_tasks", 1, 0, 1),
            ("panic_on_oom", 0, 0, 2),
            ("laptop_mode", 0, 0, INT_MAX),
            ("page-cluster", 3, 0, 31),
            ("legacy_va_layout", 0, 0, 1),
            ("stat_interval", 1, 0, INT_MAX),
            ("admin_reserve_kbytes", 8192, 0, INT_MAX),
            ("user_reserve_kbytes", 32768, 0, INT_MAX),
            ("watermark_scale_factor", 10, 1, 3000),
            ("nr_overcommit_hugepages", 0, 0, INT_MAX),
        ],
    );
    constant(tree, "nr_hugepages", "0");
    tree.text("mmap_min_addr", 0o644, |out| {
        seq!(out, "{}\n", skas::layout().mmap_min_addr);
        Ok(())
    });
    let drop_caches = |data: &[u8]| match number(data)? {
        kind @ 1..=4 => {
            if kind & 1 != 0 {
                crate::page_cache::reclaim::drop_caches();
            }
            if kind & 2 != 0 {
                crate::vfs::dentry::drop_caches();
            }
            Ok(())
        }
        _ => Err(Errno::EINVAL),
    };
    tree.add("drop_caches", Node::file(0o200, Text::only_store(drop_caches)));
}

fn fs(tree: &Arc<Tree>) {
    kept_all(
        tree,
        &[
            ("file-max", i64::MAX, 0, i64::MAX),
            ("nr_open", 1 << 20, 64, 1 << 30),
            ("pipe-max-size", 1 << 20, 4096, 1 << 31),
            ("pipe-user-pages-soft", 16384, 0, INT_MAX),
            ("pipe-user-pages-hard", 0, 0, INT_MAX),
            ("protected_hardlinks", 1, 0, 1),
            ("protected_symlinks", 1, 0, 1),
            ("protected_fifos", 1, 0, 2),
            ("protected_regular", 1, 0, 2),
            ("suid_dumpable", 0, 0, 2),
            ("overflowuid", 65534, 0, 65535),
            ("overflowgid", 65534, 0, 65535),
            ("mount-max", 100_000, 1, INT_MAX),
            ("dir-notify-enable", 1, 0, 1),
            ("aio-max-nr", 65536, 0, INT_MAX),
        ],
    );
    for (name, value, most) in [
        ("leases-enable", &lease::ENABLED, 1),
        ("lease-break-time", &lease::BREAK_TIME, INT_MAX),
    ] {
        let set = move |new| {
            if !(0..=most).contains(&new) {
                return Err(Errno::EINVAL);
            }
            value.store(new, Ordering::Relaxed);
            Ok(())
        };
        owned(tree, name, move || value.load(Ordering::Relaxed), set);
    }
    tree.text("file-nr", 0o444, |out| {
        seq!(out, "{}\t0\t{}\n", crate::vfs::file::open_files(), i64::MAX);
        Ok(())
    });
    constant(tree, "aio-nr", "0");
    constant(tree, "inode-nr", "1024\t0");
    constant(tree, "inode-state", "1024\t0\t0\t0\t0\t0\t0");
    constant(tree, "dentry-state", "1024\t0\t45\t0\t0\t0");
    let inotify = [
        ("max_queued_events", 16384, 0, INT_MAX),
        ("max_user_instances", 128, 0, INT_MAX),
        ("max_user_watches", 65536, 0, INT_MAX),
    ];
    kept_all(&tree.dir("inotify"), &inotify);
    kept(&tree.dir("epoll"), "max_user_watches", 1 << 20, 0, i64::MAX);
    tree.dir("binfmt_misc");
}

fn net(tree: &Arc<Tree>) {
    let core = tree.dir("core");
    kept(&core, "somaxconn", 4096, 0, INT_MAX);
    for name in ["rmem_default", "wmem_default", "rmem_max", "wmem_max"] {
        kept(&core, name, 212_992, 2304, INT_MAX);
    }
    kept(&core, "optmem_max", 131_072, 0, INT_MAX);
    kept(&tree.dir("unix"), "max_dgram_qlen", 512, 0, INT_MAX);
    let ipv4 = tree.dir("ipv4");
    kept_row(&ipv4, "ip_local_port_range", &[32768, 60999]);
    kept_row(&ipv4, "ping_group_range", &[1, 0]);
    kept(&ipv4, "ip_forward", 0, 0, 1);
    kept(&ipv4, "ip_unprivileged_port_start", 1024, 0, 65535);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_numbers_are_read_and_written() {
        assert_eq!(parse_row(b"4 4\t1 7\n").unwrap(), [4, 4, 1, 7]);
        let mut out = Seq::new();
        show_row(&mut out, &[32768, 60999]);
        assert_eq!(out.into_bytes(), b"32768\t60999\n");
    }
}
