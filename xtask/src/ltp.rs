//! `cargo xtask judge ltp DIR`: the Linux Test Project's system call tests, natively and in a guest.
//!
//! DIR is an installed LTP (`make install` there): `runtest/syscalls` lists the tests, `testcases/bin` holds them. Neither is made here. The tests run
//! as root natively too, so this wants a machine that one may lose; in the guest they can harm nothing, because the guest has no more
//! rights on the host than `nobody`.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::script::{Scratch, in_guest_with, natively};
use harness::{Backend, Linux};

/// How long all tests may take before the guest counts as hung.
const GUARD: Duration = Duration::from_secs(4 * 3600);

/// Bytes of the guest's disk: what LTP wants at least, and some.
const DISK_SIZE: u64 = 512 << 20;

/// The host's user `nobody`, as which the guest's kernel runs.
const NOBODY: u32 = 65534;

/// Words in names of tests that ask for what is left out, or that would set the clock, the host's name or its swap when they run natively.
const OUT_OF_SCOPE: &[&str] = &[
    "io_uring",
    "io_cancel",
    "io_destroy",
    "io_getevents",
    "io_pgetevents",
    "io_setup",
    "io_submit",
    "keyctl",
    "add_key",
    "request_key",
    "bpf",
    "fanotify",
    "inotify",
    "ptrace",
    "semctl",
    "semget",
    "semop",
    "msgctl",
    "msgget",
    "msgrcv",
    "msgsnd",
    "msgstress",
    "shmat",
    "shmctl",
    "shmdt",
    "shmget",
    "quotactl",
    "perf_event",
    "landlock",
    "swapon",
    "swapoff",
    "init_module",
    "delete_module",
    "_16",
    "reboot",
    "lsm_",
    "userfaultfd",
    "move_pages",
    "migrate_pages",
    "mbind",
    "mempolicy",
    "setns",
    "unshare",
    "clock_settime",
    "settimeofday",
    "adjtime",
    "stime",
    "sethostname",
    "setdomainname",
    "kexec",
];

/// Beginnings of names of tests that differ in a guest, and why.
const KNOWN: &[(&str, &str)] = &[
    ("accept", "internet sockets"),
    ("bind", "internet sockets"),
    ("connect", "internet sockets"),
    ("epoll_wait05", "internet sockets"),
    ("getpeername", "internet sockets"),
    ("getsockname", "internet sockets"),
    ("getsockopt", "internet sockets"),
    ("recv", "internet sockets"),
    ("send", "internet sockets"),
    ("setsockopt", "internet sockets"),
    ("shutdown", "internet sockets"),
    ("sockioctl", "internet sockets"),
    ("socketpair01", "internet sockets"),
    ("socket0", "internet sockets"),
    ("acct0", "CONFIG_BSD_PROCESS_ACCT is off"),
    ("clone09", "network namespaces"),
    ("clone11", "namespaces"),
    ("clone301", "namespaces"),
    ("clock_gettime03", "time namespaces"),
    ("pivot_root01", "namespaces"),
    ("fcntl38", "CONFIG_DNOTIFY is off"),
    ("fcntl39", "CONFIG_DNOTIFY is off"),
    ("fcntl40", "F_CREATED_QUERY"),
    ("fgetxattr02", "a block device without a driver"),
    ("fork13", "kernel.pid_max is a constant"),
    ("fork14", "16 TiB of mappings in time"),
    ("fsconfig0", "a file system for a disk; no limit on the text"),
    ("gethostid01", "writes into the host's /etc"),
    ("getrusage03", "ru_maxrss of children"),
    ("ioctl_ns", "namespaces"),
    ("ioctl_loop", "loop devices"),
    ("ioctl09", "loop devices"),
    ("ioctl10", "PROCMAP_QUERY"),
    ("kill05", "System V shared memory"),
    ("futex_waitv03", "System V shared memory"),
    ("mremap04", "System V shared memory"),
    ("mq_", "POSIX message queues"),
    ("madvise08", "core dumps on hostfs"),
    ("mincore04", "pages that another process locked"),
    ("mmap12", "/proc/PID/pagemap"),
    ("mount08", "mounts on /proc/PID/fd"),
    ("move_mount03", "MOVE_MOUNT_BENEATH"),
    ("munmap04", "the host's limit on mappings"),
    ("name_to_handle_at", "CONFIG_FHANDLE is off"),
    ("open_by_handle_at", "CONFIG_FHANDLE is off"),
    ("personality02", "STICKY_TIMEOUTS"),
    (
        "pidfd_send_signal0",
        "directories of /proc are not taken for pidfds; ns_last_pid is a constant",
    ),
    ("prctl10", "PR_SET_TSC"),
    ("sched_setattr01", "SCHED_DEADLINE"),
    ("sched_getattr01", "SCHED_DEADLINE"),
    (
        "readahead02",
        "read_bytes counts no faults; what a program has mapped stays cached while it lives",
    ),
    ("seccomp01", "CONFIG_SECCOMP is off"),
    ("setxattr03", "inode flags of tmpfs"),
    ("unlink09", "inode flags of tmpfs"),
    ("statmount", "peer groups in mountinfo"),
    (
        "creat09",
        "set-group-ID of a new file goes by the mode behind the umask",
    ),
    ("copy_file_range02", "EOVERFLOW for EFBIG"),
    ("ioctl04", "EROFS for EACCES: a read-only disk mounted to be written"),
    ("lstat03", "block sizes of links and files"),
    (
        "statx05",
        "CONFIG_FS_ENCRYPTION is off: such a disk is mounted read-only",
    ),
    ("signal06", "150 000 signals in time"),
];

/// What a test of LTP said.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Verdict {
    /// Exit status, 137 for one that was killed.
    status: i32,
    passed: usize,
    failed: usize,
    broken: usize,
    skipped: usize,
}

impl Verdict {
    /// Passed, or asks for what is not there.
    fn is_fine(self) -> bool {
        self.status == 0 || self.is_skipped()
    }

    /// LTP's `TCONF`.
    fn is_skipped(self) -> bool {
        self.status == 32
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "status {}, {} passed, {} failed, {} broken, {} skipped",
            self.status, self.passed, self.failed, self.broken, self.skipped
        )
    }
}

/// Runs the tests of the LTP in `args[0]`: all that are in scope, or those named behind it. `--ptrace` takes the other backend.
pub fn run(args: &[String]) -> Result<(), String> {
    let backend = if args.iter().any(|arg| arg == "--ptrace") {
        Backend::Ptrace
    } else {
        Backend::Seccomp
    };
    let words: Vec<&String> = args.iter().filter(|arg| !arg.starts_with("--")).collect();
    let [dir, names @ ..] = &words[..] else {
        return Err("judge ltp DIR [--ptrace] [TEST...]".into());
    };
    let dir = fs::canonicalize(dir).map_err(|error| format!("{dir}: {error}"))?;
    let list = list(&dir, names)?;
    let native = verdicts(&natively(&script(&dir, &list)).output);
    let scratch = Scratch::new();
    let disk = disk(scratch.path()).map_err(|error| format!("a disk for the guest: {error}"))?;
    let linux = Linux::hostfs(backend)
        .arg(format!("ubda={}", disk.display()))
        .user(NOBODY)
        .guard(GUARD);
    let (ran, outcome) = in_guest_with(linux, &script(&dir, &list));
    if ran.status == -1 {
        let last = ran
            .output
            .lines()
            .rfind(|line| line.starts_with("== "))
            .unwrap_or("none");
        return Err(format!("the guest ended in {last}: {}", outcome.console()));
    }
    report(&native, &verdicts(&ran.output))
}

/// A disk for tests that make file systems; natively they find a loop device.
fn disk(dir: &Path) -> std::io::Result<PathBuf> {
    let path = dir.join("disk");
    let file = fs::File::create(&path)?;
    file.set_len(DISK_SIZE)?;
    file.set_permissions(fs::Permissions::from_mode(0o666))?;
    Ok(path)
}

/// Lines of `runtest/syscalls`: a name and a command.
fn list(dir: &Path, names: &[&String]) -> Result<String, String> {
    let path = dir.join("runtest/syscalls");
    let text = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let wanted = |line: &&str| match line.split_whitespace().next() {
        None => false,
        Some(name) if name.starts_with('#') => false,
        Some(name) if names.is_empty() => !OUT_OF_SCOPE
            .iter()
            .any(|word| line.contains(word) || name.contains(word)),
        Some(name) => names.iter().any(|wanted| *wanted == name),
    };
    let lines: Vec<&str> = text.lines().filter(wanted).collect();
    if lines.is_empty() {
        return Err(format!("{} lists none of these tests", path.display()));
    }
    Ok(lines.join("\n"))
}

/// Runs each line of `list` in a directory of its own on a tmpfs, in a session of its own: some tests signal their whole process group.
fn script(dir: &Path, list: &str) -> String {
    format!(
        "export LTPROOT={dir} PATH={dir}/testcases/bin:$PATH HOME=/ TMPDIR=/dev/shm
        export LTP_COLORIZE_OUTPUT=0 LTP_RUNTIME_MUL=0.2 LTP_SINGLE_FS_TYPE=tmpfs KCONFIG_SKIP_CHECK=1
        [ ! -b /dev/ubda ] || export LTP_DEV=/dev/ubda
        mkdir -p /dev/shm; mountpoint -q /dev/shm || mount -t tmpfs -o mode=1777 tmpfs /dev/shm
        mountpoint -q /sys || mount -t sysfs sysfs /sys
        while read -r name command; do
            echo; echo \"== $name\"
            work=$(mktemp -d /dev/shm/ltp-XXXXXX); chmod 777 $work; cd $work
            setsid -w timeout -s KILL 60 sh -c \"$command\" </dev/null; status=$?
            echo; echo \"-- $status\"
            cd /; rm -rf $work
        done <<'LIST'\n{list}\nLIST\n",
        dir = dir.display()
    )
}

/// What each test said.
fn verdicts(output: &str) -> BTreeMap<String, Verdict> {
    let mut all = BTreeMap::new();
    let mut test: Option<(String, Verdict)> = None;
    for line in output.lines() {
        if let Some(name) = line.strip_prefix("== ") {
            test = Some((name.to_owned(), Verdict::default()));
        } else if let Some((name, mut verdict)) = line.strip_prefix("-- ").and_then(|_| test.take()) {
            verdict.status = line[3..].trim().parse().unwrap_or(-1);
            all.insert(name, verdict);
        } else if let Some((_, verdict)) = &mut test {
            let has = |word: &str| usize::from(line.contains(word));
            verdict.passed += has("TPASS");
            verdict.failed += has("TFAIL");
            verdict.broken += has("TBROK");
            verdict.skipped += has("TCONF");
        }
    }
    all
}

/// Prints what differs. An error when something differs that is not known.
fn report(native: &BTreeMap<String, Verdict>, guest: &BTreeMap<String, Verdict>) -> Result<(), String> {
    let mut unknown = 0;
    for (name, own) in native.iter().filter(|(_, own)| own.status == 0) {
        let theirs = guest.get(name).copied().unwrap_or(Verdict {
            status: -1,
            ..Verdict::default()
        });
        if theirs.is_fine() {
            continue;
        }
        match KNOWN.iter().find(|(start, _)| name.starts_with(start)) {
            Some((_, why)) => println!("known    {name}: {why}"),
            None => {
                unknown += 1;
                println!("UNKNOWN  {name}: natively {own}; guest {theirs}");
            }
        }
    }
    for (place, all) in [("natively", native), ("in the guest", guest)] {
        let count = |want: fn(&Verdict) -> bool| all.values().filter(|verdict| want(verdict)).count();
        println!(
            "{place}: {} tests, {} pass, {} are skipped, {} fail",
            all.len(),
            count(|verdict| verdict.status == 0),
            count(|verdict| verdict.is_skipped()),
            count(|verdict| !verdict.is_fine())
        );
    }
    if unknown == 0 {
        Ok(())
    } else {
        Err(format!("{unknown} tests fail in the guest alone"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_read_test_by_test_also_when_one_never_ended() {
        let all =
            verdicts("\n== one\na.c:1: TPASS: x\na.c:2: TPASS: y\n-- 0\n== two\nb.c:3: TCONF: z\n\n-- 32\n== three\n");
        assert_eq!((all["one"].passed, all["one"].status), (2, 0));
        assert!(all["two"].is_skipped() && all["two"].is_fine());
        assert!(!all.contains_key("three"));
    }

    #[test]
    fn only_an_unknown_difference_is_an_error() {
        let verdict = |status| Verdict {
            status,
            ..Verdict::default()
        };
        let of = |name: &str, status| BTreeMap::from([(name.to_owned(), verdict(status))]);
        assert!(report(&of("acct01", 0), &of("acct01", 2)).is_ok());
        assert!(report(&of("open01", 0), &of("open01", 1)).is_err());
        assert!(report(&of("open01", 0), &BTreeMap::new()).is_err());
        assert!(report(&of("open01", 1), &of("open01", 1)).is_ok());
    }
}
