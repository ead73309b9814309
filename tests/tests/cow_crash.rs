//! What of a COW disk reaches the host, when, and in which order: after a flush, a kill, a termination.

use std::fs;
use std::process::{Child, Stdio};
use std::time::Duration;

use harness::script::{Scratch, in_guest_with, natively};
use harness::{Backend, Linux};
use tests::disk_files::{MIB, files, merged};

/// A guest that writes 256 KiB of the noise at 192 KiB of /dev/ubda by `dd` with `how`, says so by the file `ready` and sleeps.
fn writer(scratch: &Scratch, how: &str) -> Child {
    let (init, ready) = (scratch.path().join("init"), scratch.path().join("ready"));
    let script = format!(
        "#!/bin/sh\ndd if={} of=/dev/ubda bs=64k count=4 seek=3 {how} status=none\n>{}\nsleep 1000\n",
        scratch.path().join("noise").display(),
        ready.display()
    );
    fs::write(&init, script).expect("init's file");
    natively(&format!("chmod 755 {}", init.display()));
    let mut child = Linux::hostfs(Backend::Seccomp)
        .directory(scratch.path())
        .args(["ubda=cow,back", "rw", "con=null", &format!("init={}", init.display())])
        .command()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    while !ready.exists() {
        assert_eq!(child.try_wait().expect("a child"), None, "it ended");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn what_was_synced_survives_a_kill_and_what_was_written_survives_a_termination_or_some_seconds() {
    for (signal, how, waits) in [
        ("KILL", "conv=fsync", false),
        ("TERM", "oflag=direct", false),
        ("KILL", "oflag=direct", true),
    ] {
        let scratch = files(8 * MIB);
        let mut child = writer(&scratch, how);
        let bitmap = || fs::read(scratch.path().join("cow")).expect("the COW file")[8192 + 48];
        while waits && bitmap() == 0 {
            assert_eq!(child.try_wait().expect("a child"), None, "it ended");
            std::thread::sleep(Duration::from_millis(100));
        }
        natively(&format!("kill -{signal} {}", child.id()));
        child.wait().expect("it ends");
        let noise = fs::read(scratch.path().join("noise")).expect("the noise");
        let disk = merged(&scratch, "cow");
        assert!(disk[3 << 16..7 << 16] == noise[..4 << 16], "{signal} {how}");
    }
}

/// The host calls of a guest that has the disk `word` and runs `script`, one a line, those that name `file`.
fn host_calls(scratch: &Scratch, word: &str, script: &str, file: &str) -> Vec<String> {
    let trace = scratch.path().join("trace");
    let linux = Linux::hostfs(Backend::Seccomp)
        .directory(scratch.path())
        .under([
            "strace",
            "-f",
            "-y",
            "-s",
            "64",
            "-e",
            "trace=openat,open,pwrite64,fdatasync",
            "-o",
        ])
        .under([&trace])
        .arg(word);
    let (ran, _) = in_guest_with(linux, script);
    assert_eq!(ran.status, 0, "{}", ran.output);
    let calls = fs::read(trace).expect("what strace saw");
    let calls = String::from_utf8_lossy(&calls).into_owned();
    calls
        .lines()
        .filter(|line| line.contains(file))
        .map(str::to_owned)
        .collect()
}

#[test]
fn a_flush_of_the_guest_reaches_the_host_with_the_data_before_its_bit() {
    let scratch = files(8 * MIB);
    let sync = "dd if=/dev/zero of=/dev/ubda bs=4k count=1 seek=3 conv=fsync status=none";
    let calls = host_calls(&scratch, "ubda=cow,back", sync, "/cow>");
    let find = |what: &str| {
        let found = calls.iter().position(|call| call.contains(what));
        found.unwrap_or_else(|| panic!("{what}: {calls:#?}"))
    };
    // Sector 24 of the data, byte 3 of the bitmap.
    let (data, bits) = (find(", 4096, 24576) = 4096"), find(", 512, 8192) = 512"));
    let flushes =
        |range: std::ops::Range<usize>| calls[range].iter().filter(|call| call.contains("fdatasync(")).count();
    assert!(data < bits, "{calls:#?}");
    assert!(
        flushes(data..bits) >= 1 && flushes(bits..calls.len()) >= 1,
        "{calls:#?}"
    );
    let calls = host_calls(&scratch, "ubda=back", sync, "/back>");
    let data = calls.iter().position(|call| call.contains(", 4096, 12288) = 4096"));
    let flush = calls.iter().rposition(|call| call.contains("fdatasync("));
    assert!(data.is_some() && data < flush, "{calls:#?}");
}

#[test]
fn files_are_opened_as_the_flags_say() {
    let scratch = files(MIB);
    let opened = |words: &str, file: &str| {
        let calls = host_calls(&scratch, words, "true", &format!("{file}\""));
        calls
            .into_iter()
            .filter(|call| call.contains("open"))
            .collect::<String>()
    };
    for (word, file, flags, not) in [
        ("ubda=cow,back", "cow", "O_RDWR", "O_SYNC"),
        ("ubda=cow,back", "back", "O_RDONLY", "O_RDWR"),
        ("ubdas=cow,back", "cow", "O_SYNC", "O_RDONLY"),
        ("ubdar=back", "back", "O_RDONLY", "O_RDWR"),
        ("ubdars=cow", "cow", "O_RDONLY", "O_RDWR"),
    ] {
        let calls = opened(word, file);
        assert!(calls.contains(flags) && !calls.contains(not), "{word}, {file}: {calls}");
    }
}

#[test]
fn files_synced_on_ext4_over_a_cow_disk_survive_a_kill() {
    for backend in Backend::ALL {
        let scratch = Scratch::new();
        let at = |name: &str| scratch.path().join(name);
        let made = natively(&format!(
            "cd {}; truncate -s 64M back; mkfs.ext4 -q -F back; mkdir mount",
            scratch.path().display()
        ));
        assert_eq!(made.status, 0, "{}", made.output);
        let script = format!(
            "#!/bin/sh\ncd {}; mount -t ext4 /dev/ubda mount\ni=0; while :; do echo \"file $i\" >mount/f$i
            [ $((i % 20)) = 19 ] && {{ sync; echo $i >synced.new; mv synced.new synced; }}; i=$((i+1)); done\n",
            scratch.path().display()
        );
        fs::write(at("init"), script).expect("init's file");
        natively(&format!("chmod 755 {}", at("init").display()));
        let mut child = Linux::hostfs(backend)
            .directory(scratch.path())
            .args([
                "ubda=cow,back",
                "rw",
                "con=null",
                &format!("init={}", at("init").display()),
            ])
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let synced = || {
            fs::read_to_string(at("synced"))
                .ok()
                .and_then(|text| text.trim().parse::<u32>().ok())
        };
        while synced().is_none_or(|last| last < 99) {
            assert_eq!(child.try_wait().expect("a child"), None, "it ended");
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().expect("it is killed");
        child.wait().expect("it ends");
        let last = synced().expect("what was synced");
        merged(&scratch, "cow");
        let merged = at("by-ours").display().to_string();
        let replayed = natively(&format!("e2fsck -fy -E journal_only {merged}; e2fsck -fn {merged}"));
        assert_eq!(replayed.status, 0, "{backend:?}: {}", replayed.output);
        let wanted: String = (0..=last).map(|number| format!("cat /f{number}\n")).collect();
        fs::write(at("wanted"), wanted).expect("a file");
        let read = natively(&format!(
            "debugfs -f {} {merged} 2>/dev/null | grep -v ^debugfs",
            at("wanted").display()
        ));
        let expected: String = (0..=last).map(|number| format!("file {number}\n")).collect();
        assert!(
            read.output == expected,
            "{backend:?}: {last} were synced: {}",
            read.output
        );
    }
}
