//! `cargo xtask judge debian`: makes a Debian image, boots it to its login, lets apt, dpkg and perl work offline, and looks at what is left.

use std::process::Command;

use harness::script::{Scratch, natively};
use harness::{Backend, Linux, Terminal};

/// What the guest is asked: each a command and what its output must hold, or hold and nothing else if it begins with `=`.
const QUESTIONS: &[(&str, &str)] = &[
    ("id -un; tty <&1", "=root\n/dev/tty0"),
    ("mount | grep -c ' on / type ext4 (rw'", "=1"),
    ("runlevel", "=N 2"),
    ("dpkg -l | grep -c ^ii", ""),
    ("dpkg --audit; dpkg --verify; echo $?", "=0"),
    ("apt-cache policy dpkg | grep -c Installed", "=1"),
    (
        "stat -c '%u:%g %a' /etc/shadow /usr/bin/passwd /var/mail /usr/bin/chage /tmp",
        "=0:42 640\n0:0 4755\n0:8 2775\n0:42 2755\n0:0 1777",
    ),
    ("find / -xdev \\( -nouser -o -nogroup \\); echo none", "=none"),
    ("find /etc /usr -xdev -not -user 0; echo none", "=none"),
    (
        "modprobe loop && modprobe ext4 && modprobe brd; echo $?; modprobe nosuch 2>/dev/null; echo $?",
        "=0\n1",
    ),
    (
        "perl -e 'print join(\",\", map { $_ * $_ } 1..5), \"\\n\"'",
        "=1,4,9,16,25",
    ),
    (
        "su nobody -s /bin/sh -c 'id -un; cat /etc/shadow' 2>&1",
        "=nobody\ncat: /etc/shadow: Permission denied",
    ),
    (
        "mkdir -p p/DEBIAN p/opt/thing && printf 'Package: thing\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@x>\\nDescription: thing\\n' >p/DEBIAN/control && \
         printf '#!/bin/sh\\nadduser --quiet --system thing; touch /opt/thing/configured; chown thing /opt/thing/configured\\n' >p/DEBIAN/postinst && chmod 755 p/DEBIAN/postinst && \
         echo hi >p/opt/thing/file && dpkg-deb --root-owner-group --build p thing.deb",
        "building package 'thing'",
    ),
    (
        "DEBIAN_FRONTEND=noninteractive apt-get install -y ./thing.deb 2>&1; dpkg -s thing | grep Status",
        "Status: install ok installed",
    ),
    (
        "stat -c %U /opt/thing/configured /opt/thing/file; dpkg -S /opt/thing/file",
        "=thing\nroot\nthing: /opt/thing/file",
    ),
    (
        "apt-get remove -y --purge thing >/dev/null 2>&1; dpkg -s thing 2>&1 | head -1",
        "is not installed",
    ),
    (
        "dmesg | grep -i -E 'error|corrupt|panic' | grep -v 'errors=remount-ro'; echo none",
        "=none",
    ),
];

/// Makes the image and judges it. `args` are further words of `image debian`.
///
/// # Errors
/// All that is not as it should be.
pub fn run(args: &[String]) -> Result<(), String> {
    let scratch = Scratch::new();
    let disk = scratch.path().join("debian.img");
    let mut words = vec!["debian".to_owned(), disk.display().to_string()];
    if !args.iter().any(|word| word.starts_with("--include")) {
        words.push("--include=kmod".into());
    }
    words.extend(args.iter().cloned());
    super::run(&words)?;
    let sparse = natively(&format!("du -m --apparent-size {0}; du -m {0}", disk.display()));
    println!("MiB: {}", sparse.output);
    let mut wrong = Vec::new();
    for backend in Backend::ALL {
        println!("== {backend:?}");
        let mut command = Linux::new()
            .args([&format!("ubda={}", disk.display()), "root=/dev/ubda", "rw"])
            .arg(backend.option())
            .command();
        let asked = ask(&mut command, &mut wrong);
        println!("{asked} questions asked");
        let judged = natively(&format!("e2fsck -fn {}", disk.display()));
        println!("{}", judged.output);
        if judged.status != 0 || judged.output.contains("journal recovery") {
            wrong.push(format!("{backend:?}: e2fsck: {}", judged.output));
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(format!("{} things are wrong:\n{}", wrong.len(), wrong.join("\n")))
    }
}

fn ask(command: &mut Command, wrong: &mut Vec<String>) -> usize {
    let mut terminal = Terminal::spawn(std::mem::replace(command, Command::new("true")));
    terminal.expect("login: ");
    terminal.send("root\n");
    terminal.expect("# ");
    // No echo, no line editing: only answers come back.
    terminal.send("exec sh\n");
    terminal.expect("# ");
    terminal.send("stty -echo; PS1=; export LC_ALL=C; echo REA''DY\n");
    terminal.expect("READY\r\n");
    for (question, expected) in QUESTIONS {
        // One line: apt throws away what was typed ahead.
        terminal.send(&format!("{{ {question}; }} </dev/null; echo EN''D\n"));
        let answer = terminal.expect("END\r\n").replace('\r', "");
        let is_right = match expected.strip_prefix('=') {
            Some(whole) => answer.trim_end() == whole,
            None => answer.contains(expected),
        };
        println!(
            "{} {question}\n{}",
            if is_right { "ok   " } else { "WRONG" },
            answer.trim_end()
        );
        if !is_right {
            wrong.push(format!("{question}: {answer}"));
        }
    }
    terminal.send("poweroff\n");
    terminal.expect("reboot: Power down");
    let status = terminal.wait();
    if !status.success() {
        wrong.push(format!("linux ended with {status}"));
    }
    QUESTIONS.len()
}
