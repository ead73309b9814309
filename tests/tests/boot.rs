//! Command line, exit status, standard input of every kind, and what is left behind.

use std::fs;
use std::fs::File;
use std::process::Command;

use harness::script::Scratch;
use harness::{Backend, Linux, executable, workspace};

fn poweroff() -> String {
    workspace().join("target/guest/poweroff").display().to_string()
}

/// A shell as init, on a console that is standard input and output.
fn shell(backend: Backend) -> Linux {
    Linux::hostfs(backend).args(["con=null", "con0=fd:0,fd:1", "init=/bin/sh"])
}

#[test]
fn help_version_and_configuration_go_to_stdout_with_status_0() {
    let help = Linux::new().arg("--help").run();
    assert_eq!(help.code(), 0);
    assert!(help.console().starts_with("User Mode Linux v"));
    assert!(help.console().contains("ubd<n><flags>="));
    let version = Linux::new().arg("--version").run();
    assert_eq!((version.code(), version.console().lines().count()), (0, 1));
    let config = Linux::new().arg("--showconfig").run();
    assert!(config.console().contains("CONFIG_HOSTFS=y\n"));
    assert!(config.console().contains("# CONFIG_MODULES is not set\n"));
}

#[test]
fn bad_option_values_end_with_one_sentence_and_status_1() {
    for (word, part) in [
        ("seccomp=maybe", "Invalid seccomp option 'maybe', expected on/auto/off"),
        ("mem=1k", "Too few physical memory!"),
        ("ncpus=0", "ncpus=0"),
        ("mem=much", "mem=much"),
    ] {
        let outcome = Linux::new().arg(word).run();
        assert_eq!(outcome.code(), 1, "{word}");
        assert!(outcome.errors().contains(part), "{word}: {}", outcome.errors());
        assert_eq!(
            outcome.errors().trim().lines().count(),
            1,
            "{word}: {}",
            outcome.errors()
        );
    }
    let smp = Linux::new().args(["seccomp=off", "ncpus=2"]).run();
    assert!(smp.errors().contains("SMP is not supported with PTRACE userspace"));
    assert_eq!(smp.code(), 1);
}

#[test]
fn a_piped_script_runs_to_its_end_and_no_input_is_lost() {
    for backend in Backend::ALL {
        let mut script = String::from("n=0\n");
        for _ in 0..3000 {
            script.push_str("n=$((n+1)) # some padding so that the script is longer than every buffer\n");
        }
        script.push_str(&format!("echo sum $n\nexec {}\n", poweroff()));
        let outcome = shell(backend).stdin(script).run();
        assert!(
            outcome.console().contains("sum 3000\n"),
            "{backend:?}: {}",
            outcome.console()
        );
        assert_eq!(outcome.code(), 0);
    }
}

#[test]
fn end_of_file_on_every_kind_of_stdin_ends_the_shell_and_panics_as_in_uml() {
    let scratch = Scratch::new();
    let path = scratch.path().join("input");
    fs::write(&path, "echo from a file\n").expect("a file");
    for backend in Backend::ALL {
        let file = shell(backend).stdin_from(File::open(&path).expect("the file")).run();
        assert!(file.console().contains("from a file\n"), "{}", file.console());
        assert!(
            file.console()
                .contains("Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000000"),
            "{}",
            file.console()
        );
        assert_eq!(file.code(), 134);
        let null = shell(backend)
            .stdin_from(File::open("/dev/null").expect("/dev/null"))
            .run();
        assert_eq!(null.code(), 134);
        let pipe = shell(backend).stdin("exit 3").run();
        assert!(pipe.console().contains("exitcode=0x00000300"), "{}", pipe.console());
    }
}

#[test]
fn poweroff_gives_the_status_of_proc_exitcode() {
    for backend in Backend::ALL {
        let script = format!(
            "mount -t proc proc /proc\necho 300 >/proc/exitcode\nexec {}\n",
            poweroff()
        );
        let outcome = shell(backend).arg("loglevel=7").stdin(script).run();
        assert_eq!(outcome.code(), 44);
        assert!(
            outcome.console().contains("reboot: Power down\n"),
            "{}",
            outcome.console()
        );
    }
}

#[test]
fn the_mounts_of_the_boot_have_relative_access_times() {
    let outcome = shell(Backend::Seccomp)
        .stdin("mount -t proc proc /proc\nexec cat /proc/mounts\n")
        .run();
    let console = outcome.console();
    assert!(console.contains("/dev/root / hostfs ro,relatime"), "{console}");
    assert!(
        console.contains("devtmpfs /dev devtmpfs rw,nosuid,noexec,relatime"),
        "{console}"
    );
}

#[test]
fn a_missing_init_panics_with_linuxs_words() {
    let outcome = Linux::new().args(["rootfstype=hostfs", "init=/no/such/init"]).run();
    assert!(
        outcome
            .console()
            .contains("Kernel panic - not syncing: Requested init /no/such/init failed (error -2).")
    );
    assert_eq!(outcome.code(), 134);
    let outcome = Linux::new().args(["rootfstype=hostfs", "init=/etc/passwd"]).run();
    assert!(
        outcome
            .console()
            .contains("Requested init /etc/passwd failed (error -13)."),
        "{}",
        outcome.console()
    );
}

#[test]
fn without_a_root_the_panic_names_the_device() {
    let outcome = Linux::new().args(["rootfstype=ext4", "root=/dev/ubda"]).run();
    assert!(
        outcome
            .console()
            .contains("Kernel panic - not syncing: VFS: Unable to mount root fs"),
        "{}",
        outcome.console()
    );
    assert_eq!(outcome.code(), 134);
}

#[test]
fn unknown_words_reach_init_as_arguments_and_environment() {
    let outcome = Linux::new()
        .args([
            "rootfstype=hostfs",
            "quiet",
            "COLOUR=blue",
            "module.option=1",
            "word",
            "init=/bin/sh",
        ])
        .args(["--", "-c", "echo \"[$0] [$1] [$COLOUR] [$HOME] [$TERM]\"", "a b", "c"])
        .run();
    assert!(
        outcome.console().contains("[a b] [c] [blue] [/] [linux]\n"),
        "{}",
        outcome.console()
    );
}

#[test]
fn a_killed_kernel_leaves_no_process_behind() {
    for backend in Backend::ALL {
        let mut command = Linux::hostfs(backend)
            .args(["init=/bin/sh", "--", "-c", "sleep 1000 & sleep 1001 & wait"])
            .command();
        command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        let mut child = command.spawn().expect("linux starts");
        while stubs(&child).len() < 3 {}
        let stubs = stubs(&child);
        child.kill().expect("it is ours");
        child.wait().expect("it is dead");
        // Death of the parent is signalled to each stub; they are gone as soon as the host has run them once.
        while stubs
            .iter()
            .any(|pid| fs::metadata(format!("/proc/{pid}")).is_ok_and(|_| !is_zombie(pid)))
        {
            std::thread::yield_now();
        }
    }
}

fn is_zombie(pid: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z ") || stat.contains(") X "))
}

#[test]
fn sigterm_cleans_up_and_ends_with_status_1() {
    let scratch = Scratch::new();
    let dir = scratch.path().join("uml");
    let mut command = Linux::hostfs(Backend::Seccomp)
        .args([
            "umid=terminated",
            &format!("uml_dir={}", dir.display()),
            "init=/bin/sh",
            "--",
            "-c",
            "sleep 1000",
        ])
        .command();
    command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut child = command.spawn().expect("linux starts");
    let pid_file = dir.join("terminated/pid");
    while fs::read_to_string(&pid_file).map_or(true, |text| text.trim() != child.id().to_string()) {
        std::thread::yield_now();
    }
    Command::new("kill").arg(child.id().to_string()).status().expect("kill");
    assert_eq!(child.wait().expect("it ends").code(), Some(1));
    assert!(!dir.join("terminated").exists());
}

#[test]
fn the_executable_is_static() {
    let ldd = Command::new("ldd").arg(executable()).output().expect("ldd");
    let said = String::from_utf8_lossy(&ldd.stdout).into_owned() + &String::from_utf8_lossy(&ldd.stderr);
    assert!(said.contains("not a dynamic executable"), "{said}");
}

/// The stubs of a kernel: its children on the host.
fn stubs(kernel: &std::process::Child) -> Vec<String> {
    let list = Command::new("pgrep")
        .args(["-P", &kernel.id().to_string()])
        .output()
        .expect("pgrep");
    String::from_utf8_lossy(&list.stdout)
        .lines()
        .map(str::to_owned)
        .collect()
}

/// A guest with three processes, one of them busy, as soon as it has some stubs.
fn busy(backend: Backend, script: &str) -> std::process::Child {
    // Who runs the tests may ignore signals (`nohup`), and `linux` would go on ignoring them.
    let mut command = Linux::hostfs(backend)
        .under(["env", "--default-signal"])
        .args(["init=/bin/sh", "--", "-c", script])
        .command();
    command
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null());
    let child = command.spawn().expect("linux starts");
    while stubs(&child).len() < 4 {}
    child
}

fn ticks(pid: &str) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
    fields.get(11).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

#[test]
fn signals_to_the_kernel_end_it_as_they_end_uml_and_leave_nothing() {
    use std::os::unix::process::ExitStatusExt;
    for backend in Backend::ALL {
        for (signal, code, by) in [
            ("TERM", Some(1), None),
            ("INT", Some(1), None),
            ("HUP", None, Some(1)),
            ("QUIT", None, Some(3)),
            ("KILL", None, Some(9)),
        ] {
            let mut child = busy(backend, "sleep 1000 & (while :; do :; done) & wait");
            let stubs = stubs(&child);
            Command::new("kill")
                .args(["-s", signal, &child.id().to_string()])
                .status()
                .expect("kill");
            let status = child.wait().expect("it ends");
            assert_eq!((status.code(), status.signal()), (code, by), "{backend:?} {signal}");
            while stubs
                .iter()
                .any(|pid| fs::metadata(format!("/proc/{pid}")).is_ok_and(|_| !is_zombie(pid)))
            {
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn a_stub_killed_from_outside_is_one_guest_process_killed() {
    for backend in Backend::ALL {
        let child = busy(
            backend,
            "sleep 1000 & (while :; do :; done) & wait $!; echo busy $?; echo the rest lives",
        );
        // The busy one is the one that collects ticks; it need not be among the first stubs.
        let busiest = loop {
            if let Some(found) = stubs(&child).into_iter().find(|pid| ticks(pid) > 20) {
                break found;
            }
        };
        Command::new("kill")
            .args(["-s", "KILL", &busiest])
            .status()
            .expect("kill");
        let output = child.wait_with_output().expect("it ends");
        let console = String::from_utf8_lossy(&output.stdout);
        assert!(
            console.contains("busy 137") && console.contains("the rest lives"),
            "{backend:?}: {console}"
        );
    }
}

#[test]
fn a_stopped_kernel_goes_on_when_it_is_continued() {
    for backend in Backend::ALL {
        let child = busy(backend, "sleep 0.5 & sleep 0.5 & sleep 0.5 & wait; echo went on");
        let signal = |name: &str| {
            Command::new("kill")
                .args(["-s", name, &child.id().to_string()])
                .status()
                .expect("kill")
        };
        signal("STOP");
        std::thread::sleep(std::time::Duration::from_millis(200));
        signal("CONT");
        let output = child.wait_with_output().expect("it ends");
        assert!(
            String::from_utf8_lossy(&output.stdout).contains("went on"),
            "{backend:?}"
        );
    }
}
