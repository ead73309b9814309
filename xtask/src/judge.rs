//! `cargo xtask judge`: slow judges. Programs that test an operating system on their own run natively and in a guest; what fails only in the guest
//! and is not known beforehand is reported.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use harness::script::{Ran, in_guest_with};
use harness::{Backend, Linux};

use crate::{ext4, ltp};

/// How long a whole judge may take before its guest counts as hung.
const GUARD: Duration = Duration::from_secs(3600);

/// Python's test modules that ask something of the kernel, without those that need a network.
const PYTHON: &[&str] = &[
    "test_concurrent_futures",
    "test_dbm",
    "test_eintr",
    "test_epoll",
    "test_faulthandler",
    "test_fcntl",
    "test_file",
    "test_fileio",
    "test_fork1",
    "test_glob",
    "test_io",
    "test_ioctl",
    "test_largefile",
    "test_mmap",
    "test_openpty",
    "test_os",
    "test_pathlib",
    "test_pipes",
    "test_poll",
    "test_popen",
    "test_posix",
    "test_posixpath",
    "test_pty",
    "test_resource",
    "test_select",
    "test_selectors",
    "test_shutil",
    "test_signal",
    "test_sqlite3",
    "test_subprocess",
    "test_syslog",
    "test_tarfile",
    "test_tempfile",
    "test_termios",
    "test_thread",
    "test_threading",
    "test_time",
    "test_tty",
    "test_wait3",
    "test_wait4",
    "test_zipfile",
];

/// Parts of names of Python's tests that fail in a guest, and why.
const PYTHON_KNOWN: &[(&str, &str)] = &[
    ("test_epoll", "internet sockets"),
    ("test_os.TestSendfile", "internet sockets"),
    ("test_signal.WakeupFDTests.test_invalid_socket", "internet sockets"),
    (
        "test_signal.WakeupFDTests.test_set_wakeup_fd_socket_result",
        "internet sockets",
    ),
    (
        "test_fcntl.TestFcntl.test_fcntl_64_bit",
        "F_NOTIFY: as in a Linux without CONFIG_DNOTIFY",
    ),
    (
        "test_signal.PidfdSignalTest.test_pidfd_send_signal",
        "directories of /proc are not taken for pidfds",
    ),
];

/// stress-ng's stressors that need nothing but a kernel.
const STRESSORS: &[&str] = &[
    "access",
    "affinity",
    "brk",
    "chdir",
    "chmod",
    "chown",
    "clock",
    "clone",
    "close",
    "copy-file",
    "cpu",
    "daemon",
    "dentry",
    "dev",
    "dir",
    "dirdeep",
    "dirmany",
    "dup",
    "env",
    "epoll",
    "eventfd",
    "exec",
    "fallocate",
    "fault",
    "fcntl",
    "fifo",
    "filename",
    "flock",
    "fork",
    "fstat",
    "full",
    "futex",
    "get",
    "getdent",
    "getrandom",
    "hdd",
    "hrtimers",
    "io",
    "iomix",
    "itimer",
    "kill",
    "link",
    "lockf",
    "lockofd",
    "madvise",
    "malloc",
    "memfd",
    "mincore",
    "mlock",
    "mmap",
    "mprotect",
    "mremap",
    "msync",
    "munmap",
    "nanosleep",
    "nice",
    "null",
    "open",
    "personality",
    "pipe",
    "poll",
    "prctl",
    "procfs",
    "pthread",
    "pty",
    "readahead",
    "rename",
    "rlimit",
    "schedpolicy",
    "seek",
    "sendfile",
    "session",
    "set",
    "shm",
    "sigfd",
    "sigfpe",
    "signal",
    "sigpending",
    "sigq",
    "sigsegv",
    "sigsuspend",
    "sigtrap",
    "sockpair",
    "splice",
    "stack",
    "switch",
    "symlink",
    "sync-file",
    "sysfs",
    "sysinfo",
    "tee",
    "timer",
    "timerfd",
    "urandom",
    "utime",
    "vfork",
    "vm",
    "vm-splice",
    "wait",
    "xattr",
    "yield",
    "zero",
    "zombie",
];

/// Runs the judge `args` name.
pub fn run(args: &[String]) -> Result<(), String> {
    // What ends a guest is among them.
    crate::guests::build()?;
    match args.first().map(String::as_str) {
        Some("python") => python(&args[1..]),
        Some("qcow2") => crate::qcow2::run(),
        Some("stress") => stress(&args[1..]),
        Some("debian") => crate::image::judge::run(&args[1..]),
        Some("ltp") => ltp::run(&args[1..]),
        Some("ext4") => ext4::run(&args[1..]),
        _ => Err("judge debian [--suite ...], judge ext4 WHAT [CASES], judge python [MODULE...], judge qcow2, judge stress [STRESSOR...] or \
            judge ltp DIR [--ptrace] [TEST...]"
            .into()),
    }
}

/// The names of `args`, or all of `whole`.
fn chosen<'a>(args: &'a [String], whole: &[&'a str]) -> Vec<&'a str> {
    if args.is_empty() {
        whole.to_vec()
    } else {
        args.iter().map(String::as_str).collect()
    }
}

fn guest(script: &str) -> Result<Ran, String> {
    let linux = Linux::hostfs(Backend::Seccomp).guard(GUARD);
    let (ran, outcome) = in_guest_with(linux, script);
    if ran.status == -1 {
        return Err(format!("the guest ended before its judge: {}", outcome.console()));
    }
    Ok(ran)
}

/// Tests that failed, as unittest names them.
fn failures(output: &str) -> BTreeSet<String> {
    output
        .lines()
        .filter(|line| line.starts_with("FAIL: ") || line.starts_with("ERROR: ") || line.starts_with("TIMEOUT: "))
        .map(|line| line.split(": ").nth(1).unwrap_or(line).trim().to_owned())
        .collect()
}

fn python(args: &[String]) -> Result<(), String> {
    let modules = chosen(args, PYTHON);
    let interpreter = interpreter()?;
    let script = format!(
        "cd /tmp; export HOME=/tmp; for t in {}; do echo \"== $t\"; timeout -s KILL 300 {} -m test -v $t || [ $? != 137 ] || echo \"TIMEOUT: $t\"; done",
        modules.join(" "),
        interpreter.display()
    );
    let native = failures(&harness::script::natively(&script).output);
    let guest = failures(&guest(&script)?.output);
    let mut unknown = 0;
    for name in guest.difference(&native) {
        match PYTHON_KNOWN.iter().find(|(part, _)| name.contains(part)) {
            Some((_, why)) => println!("known    {name}: {why}"),
            None => {
                unknown += 1;
                println!("UNKNOWN  {name}");
            }
        }
    }
    println!(
        "{} modules, {} tests fail natively, {} in the guest, {unknown} of them unknown",
        modules.len(),
        native.len(),
        guest.len()
    );
    if unknown == 0 {
        Ok(())
    } else {
        Err(format!("{unknown} tests fail in the guest alone"))
    }
}

/// A python that has its test suite (Debian: libpython3-testsuite), by its own name: a wrapper's environment is not there in a guest.
fn interpreter() -> Result<PathBuf, String> {
    let output = Command::new("python3")
        .args(["-c", "import sys, test.test_os; print(sys.executable)"])
        .output()
        .map_err(|error| format!("python3: {error}"))?;
    if !output.status.success() {
        return Err("python3 has no test suite: install libpython3-testsuite".into());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}

fn stress(args: &[String]) -> Result<(), String> {
    let script = format!(
        "cd /tmp; mount -t sysfs none /sys 2>/dev/null; for s in {}; do echo \"== $s\"
        timeout -s KILL 60 stress-ng --$s 2 --timeout 2 --temp-path /tmp --no-rand-seed || echo \"FAIL: $s\"; done",
        chosen(args, STRESSORS).join(" ")
    );
    let ran = guest(&script)?;
    let failed = failures(&ran.output);
    if failed.is_empty() {
        println!("{} stressors ran", chosen(args, STRESSORS).len());
        return Ok(());
    }
    print!("{}", ran.output);
    Err(format!("stress-ng fails in: {}", Vec::from_iter(failed).join(" ")))
}
