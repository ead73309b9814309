//! `cargo xtask judge qcow2`: builds `linux` with the format (or takes `$LINUX`), and lets `qemu-img` say whether what it writes is what QEMU reads.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use harness::script::{Scratch, in_guest_with, natively};
use harness::{Backend, Linux};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Options of `qemu-img create`, and what stands under the image: nothing, a raw file or a qcow2 image with compressed clusters.
const KINDS: &[(&str, Under)] = &[
    ("compat=1.1", Under::Nothing),
    ("compat=0.10", Under::Nothing),
    ("cluster_size=2M", Under::Nothing),
    ("cluster_size=512", Under::Nothing),
    ("extended_l2=off,refcount_bits=1", Under::Nothing),
    ("preallocation=metadata", Under::Nothing),
    ("compat=1.1", Under::Raw),
    ("compat=0.10", Under::Raw),
    ("cluster_size=2M", Under::Compressed),
    ("compat=1.1", Under::Compressed),
    ("data_file=data,data_file_raw=on", Under::Nothing),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Under {
    Nothing,
    Raw,
    Compressed,
}

/// Runs all of it.
///
/// # Errors
/// All that is not as it should be.
pub fn run() -> Result<(), String> {
    let built = match std::env::var_os("LINUX") {
        Some(path) => PathBuf::from(path),
        None => {
            let words = ["build", "--release", "--package", "linux", "--features", "qcow2"];
            crate::test::cargo(&[&words[..], &["--target", TARGET]].concat())?;
            harness::workspace().join("target").join(TARGET).join("release/linux")
        }
    };
    let file = natively(&format!("file -b {0}; ldd {0}", built.display())).output;
    println!("{file}");
    let mut wrong = Vec::new();
    if !file.contains("statically linked") || !file.contains("not a dynamic executable") {
        wrong.push(format!("the executable is not static: {file}"));
    }
    let executable = Executable(built);
    for (options, under) in KINDS {
        println!("== {options}, {under:?} under it");
        if let Err(error) = written(&executable, options, *under) {
            println!("WRONG {error}");
            wrong.push(format!("{options}, {under:?}: {error}"));
        }
    }
    for (what, judged) in [
        ("killed", killed(&executable)),
        ("refusals and locks", refused(&executable)),
        ("compressed and snapshots", inherited(&executable)),
        ("full host", full(&executable)),
    ] {
        println!("== {what}: {}", if judged.is_ok() { "ok" } else { "WRONG" });
        if let Err(error) = judged {
            println!("{error}");
            wrong.push(format!("{what}: {error}"));
        }
    }
    if wrong.is_empty() {
        Ok(())
    } else {
        Err(format!("{} things are wrong:\n{}", wrong.len(), wrong.join("\n")))
    }
}

struct Executable(PathBuf);

impl Executable {
    /// A guest whose disk is `image`.
    fn guest(&self, word: &str) -> Linux {
        Linux::hostfs(Backend::Seccomp).executable(&self.0).arg(word)
    }

    /// What `script` prints in a guest with these disks; an error if it fails.
    fn does(&self, word: &str, script: &str) -> Result<String, String> {
        let (ran, outcome) = in_guest_with(self.guest(word), script);
        match ran.status {
            0 => Ok(ran.output),
            _ => Err(format!("{}{}", ran.output, outcome.console())),
        }
    }
}

fn host(script: &str) -> Result<String, String> {
    let ran = natively(script);
    match ran.status {
        0 => Ok(ran.output),
        status => Err(format!("{script}: {status}: {}", ran.output)),
    }
}

/// A directory with an image `disk` of 256 MiB.
fn image(options: &str, under: Under) -> Result<Scratch, String> {
    let scratch = Scratch::new();
    let dir = scratch.path().display();
    let options = options.replace("data_file=data", &format!("data_file={dir}/data"));
    let backing = match under {
        Under::Nothing => "",
        Under::Raw => "-F raw -b raw",
        Under::Compressed => "-F qcow2 -b compressed",
    };
    host(&format!(
        "cd {dir}; set -e; truncate -s 200M raw; mke2fs -q -F -t ext4 -d /etc/init.d raw
        qemu-img convert -c -O qcow2 raw compressed; qemu-img create -q -f qcow2 -o {options} {backing} disk 256M"
    ))?;
    Ok(scratch)
}

/// `qemu-img check` finds nothing wrong. Leaked clusters are no error where a process was killed.
fn check(scratch: &Scratch, leaks: Leaks) -> Result<(), String> {
    let ran = natively(&format!("cd {}; qemu-img check disk", scratch.path().display()));
    match (ran.status, leaks) {
        (0, _) | (3, Leaks::Allowed) => Ok(()),
        (status, _) => Err(format!("qemu-img check: {status}: {}", ran.output)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaks {
    Allowed,
    None,
}

/// A guest formats, writes, discards and zeroes; the same is done to a raw copy, and `qemu-img compare` judges.
fn written(executable: &Executable, options: &str, under: Under) -> Result<(), String> {
    let scratch = image(options, under)?;
    let dir = scratch.path().display().to_string();
    host(&format!(
        "cd {dir}; qemu-img convert -O raw disk model; head -c 4M /dev/urandom >noise"
    ))?;
    let writes = format!(
        "for i in 1 5 77 300 4096 9999 20000 65000; do dd if={dir}/noise of=$d bs=4k seek=$i skip=$((i % 900)) count=$((i % 60 + 1)) conv=notrunc status=none; done
        dd if={dir}/noise of=$d bs=512 seek=300001 count=3 conv=notrunc status=none\n"
    );
    host(&format!("d={dir}/model\n{writes}"))?;
    let word = format!("ubda={dir}/disk");
    let sum = executable.does(
        &word,
        &format!("d=/dev/ubda\n{writes}sync; blockdev --flushbufs $d; md5sum <$d; blockdev --getsize64 $d"),
    )?;
    let model = host(&format!("md5sum <{dir}/model; stat -c %s {dir}/model"))?;
    if sum != model {
        return Err(format!("the guest reads {sum}, the model is {model}"));
    }
    check(&scratch, Leaks::None)?;
    host(&format!("cd {dir}; qemu-img compare disk model"))?;
    // Discards and zeros in the guest, by hand in the model.
    executable.does(
        &word,
        "set -e; blkdiscard -o 16M -l 20M /dev/ubda || true; blkdiscard -z -o 80M -l 1M /dev/ubda; dd if=/dev/zero of=/dev/ubda bs=1M seek=16 count=20 conv=notrunc status=none; sync",
    )?;
    host(&format!(
        "cd {dir}; for p in '16 20' '80 1'; do set -- $p; dd if=/dev/zero of=model bs=1M seek=$1 count=$2 conv=notrunc status=none; done"
    ))?;
    check(&scratch, Leaks::None)?;
    host(&format!("cd {dir}; qemu-img compare disk model"))?;
    // A file system, checked on both sides.
    executable.does(
        &word,
        "set -e; export PATH=$PATH:/sbin; mke2fs -q -F -t ext4 /dev/ubda; mkdir /dev/at; mount /dev/ubda /dev/at; cp -r /etc /usr/share/doc/bash /dev/at
        dd if=/dev/zero of=/dev/at/big bs=1M count=60 status=none; rm /dev/at/big; fstrim /dev/at || true; sync; umount /dev/at; e2fsck -fn /dev/ubda",
    )?;
    check(&scratch, Leaks::None)?;
    host(&format!("cd {dir}; qemu-img convert -O raw disk out && e2fsck -fn out"))?;
    executable
        .does(
            &format!("ubdar={dir}/disk"),
            "mkdir /dev/at; mount -o ro /dev/ubda /dev/at && diff -r /etc /dev/at/etc; ! echo x >/dev/ubda",
        )
        .map(drop)
}

/// SIGKILL at several moments while the guest writes.
fn killed(executable: &Executable) -> Result<(), String> {
    for round in 0..8_u64 {
        let options = ["compat=1.1", "cluster_size=2M", "compat=0.10", "cluster_size=4k"][round as usize % 4];
        let scratch = image(options, Under::Nothing)?;
        let dir = scratch.path().display().to_string();
        executable.does(&format!("ubda={dir}/disk"), "PATH=$PATH:/sbin mke2fs -q -F -t ext4 /dev/ubda; mkdir /dev/at; mount /dev/ubda /dev/at; echo kept >/dev/at/kept; umount /dev/at")?;
        let script = format!(
            "#!/bin/sh\nmkdir /dev/at; mount /dev/ubda /dev/at; echo more >>/dev/at/kept; sync; >{dir}/ready\nwhile :; do cp -r /etc /dev/at; sync; fstrim /dev/at; rm -r /dev/at/etc; done\n"
        );
        std::fs::write(scratch.path().join("init"), script).map_err(|error| error.to_string())?;
        host(&format!("chmod 755 {dir}/init"))?;
        let mut guest = executable
            .guest(&format!("ubda={dir}/disk"))
            .args(["rw", "con=null", &format!("init={dir}/init")])
            .command()
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| error.to_string())?;
        while !Path::new(&format!("{dir}/ready")).exists() && matches!(guest.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_millis(150 * round));
        let _ = guest.kill();
        let _ = guest.wait();
        check(&scratch, Leaks::Allowed).map_err(|error| format!("{options}, round {round}: {error}"))?;
        host(&format!("cd {dir}; qemu-img convert -O raw disk out; e2fsck -fy -E no_optimize_extents out >fsck; [ $? -le 1 ] && debugfs -R 'cat /kept' out 2>/dev/null | grep more"))
            .map_err(|error| format!("{options}, round {round}: {error}"))?;
    }
    Ok(())
}

/// What cannot be used is named; what is in use is locked against ours and against QEMU's tools.
fn refused(executable: &Executable) -> Result<(), String> {
    let scratch = image("compat=1.1", Under::Compressed)?;
    let dir = scratch.path().display().to_string();
    let says = |word: String, part: &str| {
        let outcome = executable.guest(&word).arg("init=/bin/true").run();
        match outcome.console().contains(part) {
            true => Ok(()),
            false => Err(format!("{word}: no {part:?} in {}", outcome.console())),
        }
    };
    host(&format!(
        "cd {dir}; mv compressed moved; printf 'QFI\\373\\0\\0\\0\\003' >short; qemu-img create -q -f qcow2 -F vmdk -b x -u other 64M
        qemu-img create -q -f qcow2 self 64M; qemu-img rebase -u -F qcow2 -b self self; cp disk changed; printf '\\377' | dd of=changed bs=1 seek=73 conv=notrunc status=none"
    ))?;
    says(format!("ubda={dir}/disk"), "stands on another file")?;
    says(format!("ubda={dir}/short"), "cannot be used as a qcow2 image")?;
    says(format!("ubda={dir}/other"), "stands on another file")?;
    says(format!("ubda={dir}/self"), "stands on another file")?;
    says(format!("ubda={dir}/changed"), "feature")?;
    says(format!("ubda={dir}/disk,{dir}/raw"), "names its backing file itself")?;
    host(&format!("mv {dir}/moved {dir}/compressed"))?;
    let locked = executable.does(
        &format!("ubda={dir}/disk"),
        &format!("qemu-img info {dir}/disk >/dev/null 2>&1; echo ran"),
    )?;
    if !locked.contains("ran") {
        return Err(locked);
    }
    // Throw-away: nothing reaches the image.
    let before = host(&format!("md5sum {dir}/disk"))?;
    executable.does(&format!("ubdb={dir}/disk"), "true").map(drop)?;
    let (ran, outcome) = in_guest_with(
        executable.guest(&format!("ubda={dir}/disk")).arg("ubd=throwaway"),
        "dd if=/etc/passwd of=/dev/ubda conv=notrunc,fsync status=none && head -c 4 /dev/ubda",
    );
    if ran.status != 0 || ran.output != "root" {
        return Err(format!("throw-away: {}{}", ran.output, outcome.console()));
    }
    match host(&format!("md5sum {dir}/disk"))? == before {
        true => Ok(()),
        false => Err("a throw-away disk changed its image".into()),
    }
}

/// Compressed clusters and those a snapshot shares are copied before they are written.
fn inherited(executable: &Executable) -> Result<(), String> {
    let scratch = image("compat=1.1", Under::Nothing)?;
    let dir = scratch.path().display().to_string();
    host(&format!(
        "cd {dir}; cp compressed disk; qemu-img snapshot -c first disk; cp raw model; head -c 1M /dev/urandom >noise; cp disk before"
    ))?;
    let write = format!(
        "for at in 3 40 199; do dd if={dir}/noise of=$d bs=1M seek=$at count=1 conv=notrunc status=none; done; dd if={dir}/noise of=$d bs=512 seek=9 count=1 conv=notrunc status=none\n"
    );
    executable.does(&format!("ubda={dir}/disk"), &format!("d=/dev/ubda\n{write}sync"))?;
    host(&format!(
        "d={dir}/model\n{write}cd {dir}; qemu-img compare disk model; qemu-img convert -l first disk -O raw old && cmp old raw"
    ))?;
    check(&scratch, Leaks::None)
}

/// A host without space: ENOSPC or EIO for the guest, an image that is whole afterwards.
fn full(executable: &Executable) -> Result<(), String> {
    let scratch = image("compat=1.1", Under::Nothing)?;
    let dir = scratch.path().display().to_string();
    host(&format!(
        "mkdir {dir}/small && mount -t tmpfs -o size=20M tmpfs {dir}/small && mv {dir}/disk {dir}/small/disk"
    ))?;
    let done = executable.does(
        &format!("ubda={dir}/small/disk"),
        "dd if=/dev/urandom of=/dev/ubda bs=1M count=60 conv=fsync 2>&1 | grep -c -E 'No space|Input/output'",
    );
    let checked = natively(&format!(
        "qemu-img check {dir}/small/disk; s=$?; umount {dir}/small; exit $s"
    ));
    done?;
    match checked.status {
        0 | 3 => Ok(()),
        status => Err(format!("qemu-img check: {status}: {}", checked.output)),
    }
}
