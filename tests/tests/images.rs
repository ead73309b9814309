//! `cargo xtask image busybox`: what comes out boots, works and ends clean; what goes wrong is said, and leaves nothing behind.

use std::fs;
use std::process::{Command, Output};

use harness::script::{Scratch, natively};
use harness::{Backend, Linux, Terminal, executable, workspace};
use tests::disk_files::ubda;

/// Runs `cargo xtask image WORDS` in `scratch`.
fn image(scratch: &Scratch, words: &[&str]) -> Output {
    let manifest = workspace().join("Cargo.toml");
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["run", "--quiet", "--package", "xtask", "--manifest-path"])
        .arg(manifest)
        .args(["--", "image"])
        .args(words)
        .current_dir(scratch.path())
        .env("LINUX", executable())
        .output()
        .expect("cargo")
}

fn names(scratch: &Scratch) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(scratch.path())
        .expect("the directory")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn a_busybox_image_boots_to_a_shell_works_and_powers_off_clean() {
    let scratch = Scratch::new();
    let made = image(&scratch, &["busybox", "bb.img"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(names(&scratch), ["bb.img"]);
    let disk = scratch.path().join("bb.img");
    for backend in Backend::ALL {
        let linux = Linux::new().args([ubda(&disk).as_str(), "root=/dev/ubda", "rw", "quiet", backend.option()]);
        let mut terminal = Terminal::spawn(linux.command());
        terminal.expect("root@busybox:~# ");
        terminal.send("id -un; tty; mount | grep -c ' on / type ext4 (rw'; ls -lan / | grep -vc ' 0 *0 '; echo kept >>/root/kept; cat /root/kept | wc -l; ls /proc/1/exe; modprobe loop && modprobe brd && echo built in; modprobe nosuch 2>/dev/null || echo no such; echo EN''D\n");
        let said = terminal.expect("END").replace('\r', "");
        for part in ["root\n/dev/tty0\n1\n", "/proc/1/exe\nbuilt in\nno such\n"] {
            assert!(said.contains(part), "{backend:?}: no {part:?} in {said}");
        }
        terminal.send("poweroff\n");
        terminal.expect("reboot: Power down");
        assert!(terminal.wait().success(), "{}", terminal.seen());
        let judged = natively(&format!("e2fsck -fn {}", disk.display()));
        assert_eq!(judged.status, 0, "{backend:?}: {}", judged.output);
        assert!(!judged.output.contains("journal recovery"), "{}", judged.output);
    }
    let kept = natively(&format!("debugfs -R 'cat /root/kept' {} 2>/dev/null", disk.display()));
    assert_eq!(kept.output, "kept\nkept\n");
    let owners = natively(&format!(
        "debugfs -R 'stat /dev/console' {0} 2>/dev/null; debugfs -R 'ls -p /' {0} 2>/dev/null",
        disk.display()
    ));
    assert!(owners.output.contains("Type: character special"), "{}", owners.output);
    assert!(
        owners.output.contains("Device major/minor number: 05:01"),
        "{}",
        owners.output
    );
    let strangers: Vec<&str> = owners
        .output
        .lines()
        .filter(|line| line.starts_with('/') && line.split('/').nth(3) != Some("0"))
        .collect();
    assert!(strangers.is_empty(), "not root's: {strangers:?}");
}

#[test]
fn reboot_in_a_busybox_image_boots_it_again() {
    let scratch = Scratch::new();
    let made = image(&scratch, &["busybox", "bb.img", "--size=16M"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let linux = Linux::new().args([
        ubda(&scratch.path().join("bb.img")).as_str(),
        "root=/dev/ubda",
        "rw",
        "quiet",
    ]);
    let mut terminal = Terminal::spawn(linux.command());
    terminal.expect("root@busybox:~# ");
    terminal.send("reboot\n");
    terminal.expect("reboot: Restarting system");
    terminal.expect("root@busybox:~# ");
    terminal.send("poweroff\n");
    assert!(terminal.wait().success(), "{}", terminal.seen());
}

#[test]
fn an_image_that_cannot_be_made_is_explained_and_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let prepared = natively(&format!(
        "cd {}; cp $(command -v busybox) big; truncate -s 30M big; echo no >script; echo there >there; chmod 755 big script",
        scratch.path().display()
    ));
    assert_eq!(prepared.status, 0, "{}", prepared.output);
    for (words, part) in [
        (&["busybox", "there"][..], "exists already (--force replaces it)"),
        (
            &["busybox", "new", "--busybox", "script"],
            "no static x86-64 executable",
        ),
        (
            &["busybox", "new", "--busybox", "absent"],
            "no static x86-64 executable",
        ),
        (
            &["busybox", "new", "--busybox", "big", "--size", "8M"],
            "a larger --size",
        ),
        (&["busybox", "nowhere/new"], "No such file or directory"),
        (&["busybox", "/dev/null", "--force"], "is no file"),
        (&["floppy", "new"], "no kind floppy"),
    ] {
        let made = image(&scratch, words);
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(!made.status.success() && said.contains(part), "{words:?}: {said}");
        assert_eq!(names(&scratch), ["big", "script", "there"], "{words:?}");
    }
    assert_eq!(
        fs::read_to_string(scratch.path().join("there")).expect("it is there"),
        "there\n"
    );
    let made = image(&scratch, &["busybox", "there", "--force"]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(names(&scratch), ["big", "script", "there"]);
}
