//! The programs of `tests/guest` print what they saw; the host's Linux says what is right, under both backends.

use harness::script::{in_guest, in_guest_with, natively};
use harness::{Backend, Linux, workspace};

fn same_as_native(program: &str, backend: Backend) {
    let path = workspace().join("target/guest").join(program);
    assert!(path.exists(), "{} is not built: cargo xtask guests", path.display());
    let command = path.display().to_string();
    let (native, guest) = (natively(&command), in_guest(backend, &command));
    assert_eq!(native.status, 0, "the program itself fails:\n{}", native.output);
    let differences: Vec<String> = diff(&native.output, &guest.output);
    assert!(
        differences.is_empty(),
        "{program} under {backend:?}:\n{}",
        differences.join("\n")
    );
    assert_eq!(guest.status, native.status, "{program} under {backend:?}");
}

/// Lines that only one side has, in order.
fn diff(native: &str, guest: &str) -> Vec<String> {
    let (native, guest): (Vec<_>, Vec<_>) = (native.lines().collect(), guest.lines().collect());
    let longest = native.len().max(guest.len());
    (0..longest)
        .filter(|&index| native.get(index) != guest.get(index))
        .map(|index| format!("  native: {:?}\n  guest:  {:?}", native.get(index), guest.get(index)))
        .take(20)
        .collect()
}

macro_rules! programs {
    ($($name:ident),* $(,)?) => {
        mod seccomp {
            $(#[test] fn $name() { super::same_as_native(stringify!($name), harness::Backend::Seccomp); })*
        }
        mod ptrace {
            $(#[test] fn $name() { super::same_as_native(stringify!($name), harness::Backend::Ptrace); })*
        }
    };
}

programs!(
    fork_memory,
    signals,
    signal_frames,
    job_control,
    clone_flags,
    identities,
    threads,
    files,
    poll,
    ready_signals,
    memory,
    mappings,
    futexes,
    exec_forms,
    process,
    timers,
    devices,
    leases
);

/// The break time belongs to the whole system, so the host is not asked: this is what Linux 6.18 says.
#[test]
fn a_lease_is_taken_from_a_holder_who_does_not_answer_also_on_tmpfs_and_ext4() {
    let leases = workspace().join("target/guest/leases").display().to_string();
    let forced = "fcntl(fd, F_SETLEASE, F_WRLCK): 0\na reader comes: SIGIO code 128\nwhose patience ends: exit 1\nforced to: read\n\
        a writer comes: SIGIO code 128\nwhose patience ends: exit 1\nforced to: none\nfcntl(fd, F_SETLEASE, F_UNLCK): EAGAIN\n";
    let native = natively(&leases).output;
    let scratch = harness::script::Scratch::new();
    let disk = tests::disk_files::image(&scratch, "disk", 16 << 20);
    let made = natively(&format!("mke2fs -q -t ext4 {}", disk.display()));
    assert_eq!(made.status, 0, "{}", made.output);
    let linux = Linux::hostfs(Backend::Seccomp).arg(tests::disk_files::ubda(&disk));
    let script = format!(
        "mkdir /dev/own; mount -t tmpfs none /dev/own; cp {leases} /dev/own; leases=/dev/own/leases\n\
        $leases forced; mount -t tmpfs none /tmp; $leases; umount /tmp; mount -t ext4 /dev/ubda /tmp; $leases"
    );
    let (ran, _) = in_guest_with(linux, &script);
    assert_eq!(ran.output, format!("{forced}{native}{native}"));
}

/// What fits below 2 GiB runs there as well: every program but `mappings`, which reserves a terabyte.
#[test]
fn below_2_gib_programs_do_the_same() {
    for backend in Backend::ALL {
        for program in [
            "fork_memory",
            "signals",
            "signal_frames",
            "threads",
            "memory",
            "process",
        ] {
            let command = workspace().join("target/guest").join(program).display().to_string();
            let native = natively(&command);
            let (guest, _) = in_guest_with(Linux::hostfs(backend).arg("host_2g_2g"), &command);
            assert_eq!(guest, native, "{program} under {backend:?}");
        }
        let script = "python3 -c 'import subprocess; print(subprocess.run([\"echo\", \"x\"], capture_output=True).stdout)'; bash -c 'echo $((6 * 7))'";
        let (guest, _) = in_guest_with(Linux::hostfs(backend).arg("host_2g_2g"), script);
        assert_eq!(guest, natively(script), "{backend:?}");
        let (maps, _) = in_guest_with(Linux::hostfs(backend).arg("host_2g_2g"), "cat /proc/self/maps");
        for line in maps.output.lines().filter(|line| !line.contains("vsyscall")) {
            let end = line
                .split(['-', ' '])
                .nth(1)
                .and_then(|end| u64::from_str_radix(end, 16).ok());
            assert!(end.is_some_and(|end| end <= 1 << 31), "{line}");
        }
    }
}
