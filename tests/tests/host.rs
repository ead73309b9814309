//! Hosts that deny something: limits, sandboxes, files of the wrong kind. Each is one sentence with the cause and the way out, or no harm at all.

use std::fs;

use harness::script::{Scratch, in_guest_with};
use harness::{Backend, Linux, is_root};

/// A guest that says "ok" when it works.
fn guest() -> Linux {
    Linux::new().args([
        "rootfstype=hostfs",
        "quiet",
        "init=/bin/sh",
        "--",
        "-c",
        "ls / | wc -l; echo ok",
    ])
}

fn works(linux: Linux, what: &str) {
    let outcome = linux.run();
    let console = outcome.console();
    assert!(console.contains("ok\n"), "{what}: {console}{}", outcome.errors());
}

/// Ends with status 1 and one line that has both parts.
fn refused(linux: Linux, what: &str, parts: &[&str]) {
    let outcome = linux.run();
    let errors = outcome.errors();
    assert_eq!(outcome.code(), 1, "{what}: {errors}");
    assert_eq!(errors.trim().lines().count(), 1, "{what}: {errors}");
    for part in parts {
        assert!(errors.contains(part), "{what}: {errors}");
    }
}

/// Under a filter that answers these calls of the host with `errno`.
fn denied(errno: i32, calls: &[i64]) -> Linux {
    guest().under(tests::denied(errno, calls))
}

const PTRACE: i64 = 101;
const SECCOMP: i64 = 317;
const PROCESS_VM_READV: i64 = 310;
const EPERM: i32 = 1;
const ENOSYS: i32 = 38;

#[test]
fn without_seccomp_filters_guests_run_under_ptrace() {
    works(denied(EPERM, &[SECCOMP]), "seccomp denied");
}

#[test]
fn a_sandbox_that_denies_both_ways_of_catching_guests_is_named() {
    for errno in [EPERM, ENOSYS] {
        refused(
            denied(errno, &[SECCOMP, PTRACE]),
            "both denied",
            &["ptrace of our own child is denied", "allow ptrace", "seccomp"],
        );
    }
    refused(
        denied(EPERM, &[PROCESS_VM_READV]),
        "process_vm_readv",
        &["process_vm_readv", "CAP_SYS_PTRACE"],
    );
}

#[test]
fn calls_that_old_hosts_and_sandboxes_lack_are_done_without() {
    // getrandom, statx, openat2, close_range, pidfd_open, pidfd_getfd, clone3, membarrier, rseq, sched_setaffinity, setsid, execveat
    for call in [318, 332, 437, 436, 434, 438, 435, 324, 334, 203, 112, 322] {
        works(denied(ENOSYS, &[call]), &format!("call {call} denied"));
    }
}

#[test]
fn a_host_that_forbids_programs_in_memory_runs_ours_from_the_directory_for_temporary_files() {
    // vm.memfd_noexec belongs to the namespace of process numbers, so one of our own can have it.
    let strict = |setup: &str| {
        let script = format!("echo 2 > /proc/sys/vm/memfd_noexec && {setup} && exec \"$@\"");
        [
            "unshare",
            "--pid",
            "--mount",
            "--fork",
            "--mount-proc",
            "sh",
            "-c",
            &script,
            "sh",
        ]
        .map(String::from)
    };
    let allowed = std::process::Command::new("unshare")
        .args(&strict("true")[1..])
        .arg("true")
        .output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no namespace of process numbers with vm.memfd_noexec here");
        return;
    }
    for backend in Backend::ALL {
        works(guest().arg(backend.option()).under(strict("true")), "vm.memfd_noexec=2");
    }
    refused(
        guest().under(strict("mount -t tmpfs -o noexec none /mnt && export TMPDIR=/mnt")),
        "vm.memfd_noexec=2, TMPDIR on a noexec mount",
        &["vm.memfd_noexec", "noexec", "TMPDIR"],
    );
}

#[test]
fn limits_that_are_too_tight_are_named_with_their_knob() {
    refused(
        guest().after("ulimit -n 20"),
        "descriptors",
        &["20 open files", "ulimit -n"],
    );
    works(guest().after("ulimit -n 64"), "64 descriptors");
    for processes in [1, 2] {
        let words = format!("ulimit -u {processes}");
        // Root is not bound by it.
        let other: &[&str] = if is_root() {
            &["setpriv", "--reuid", "61234", "--regid", "61234", "--clear-groups"]
        } else {
            &[]
        };
        refused(guest().under(other).after(&words), &words, &["ulimit -u", "pids.max"]);
    }
    refused(guest().after("ulimit -f 1"), "file size", &["ulimit -f"]);
}

#[test]
fn a_limit_on_file_sizes_is_an_error_to_the_guest_and_not_the_kernels_death() {
    for backend in Backend::ALL {
        let scratch = Scratch::new();
        let file = scratch.path().join("large").display().to_string();
        let linux = Linux::hostfs(backend).after("ulimit -f 100");
        let (ran, _) = in_guest_with(
            linux,
            &format!("dd if=/dev/zero of={file} bs=4k count=100; stat -c %s {file}"),
        );
        assert!(ran.output.contains("File too large"), "{}", ran.output);
        assert!(ran.output.contains("\n102400\n"), "{}", ran.output);
    }
}

#[test]
fn an_unprivileged_user_needs_nothing() {
    works(guest().user(65534), "nobody");
}

#[test]
fn homes_directories_and_standard_files_of_every_kind_do_no_harm() {
    for first in [
        "unset HOME",
        "HOME=",
        "HOME=/proc",
        "HOME=/dev/null",
        "HOME=/no/such/home",
        "exec <&-",
        "exec 2>&-",
        "exec 2>/dev/full",
        "d=$(mktemp -d); cd $d; rmdir $d",
        "ulimit -v 1000000",
        "ulimit -s 64",
        "ulimit -s unlimited",
        "ulimit -l 0; ulimit -i 0; ulimit -q 0",
        "trap '' HUP INT TERM PIPE CHLD USR1 ALRM XFSZ",
    ] {
        works(guest().after(first), first);
    }
    // Nobody sees a word: the end must come all the same, with init's death.
    for first in ["exec >&-", "exec <&- >&- 2>&-", "exec >/dev/full", "exec > >(true)"] {
        assert_eq!(guest().after(first).run().code(), 134, "{first}");
    }
}

#[test]
fn bad_images_are_named_with_the_way_out() {
    let scratch = Scratch::new();
    let path = |name: &str| scratch.path().join(name).display().to_string();
    fs::write(path("empty"), "").expect("a file");
    fs::write(path("secret"), vec![0; 4096]).expect("a file");
    let closed = <fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o000);
    fs::set_permissions(path("secret"), closed).expect("permissions");
    for (image, part) in [
        (path("missing"), "cannot be opened: No such file or directory"),
        (
            scratch.path().display().to_string(),
            "is neither a file nor a block device",
        ),
        (path("empty"), "is empty; make it as large as the disk should be"),
        (path("secret"), "cannot be opened: Permission denied"),
        (String::new(), "No file name given"),
    ] {
        let outcome = Linux::new().args([&format!("ubda={image}"), "quiet"]).user(65534).run();
        let console = outcome.console();
        assert!(console.contains(part), "{image}: {console}");
        assert!(console.contains("Kernel panic - not syncing: VFS: Unable to mount root fs"));
        assert_eq!(outcome.code(), 134);
    }
    let outcome = Linux::new()
        .args(["rootfstype=hostfs", "rootflags=/no/such", "quiet"])
        .run();
    assert!(
        outcome.console().contains("hostfs: cannot open \"/no/such\""),
        "{}",
        outcome.console()
    );
}

#[test]
fn the_hosts_processes_cannot_be_changed_nor_their_memory_read_through_hostfs() {
    for backend in Backend::ALL {
        let script = format!(
            "umount /proc; p=/proc/{}
            for f in mem comm oom_score_adj clear_refs; do echo x >$p/$f; done
            dd if=$p/mem count=1 2>&1; wc -c </proc/version >/dev/null && echo readable",
            std::process::id()
        );
        let (ran, _) = in_guest_with(Linux::hostfs(backend), &script);
        assert_eq!(ran.output.matches("Read-only file system").count(), 4, "{}", ran.output);
        assert!(ran.output.contains("mem': Permission denied"), "{}", ran.output);
        assert!(ran.output.contains("readable"), "{}", ran.output);
    }
}

#[test]
fn twenty_instances_run_side_by_side() {
    let threads: Vec<_> = (0..20)
        .map(|number| std::thread::spawn(move || works(guest(), &format!("instance {number}"))))
        .collect();
    for thread in threads {
        thread.join().expect("it works");
    }
}
