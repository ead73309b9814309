//! `cargo xtask judge ext4 kill`: real guests are killed at random moments while they work on an ext3 or ext4 disk.
//!
//! The guest appends to a file, synchronizes it, and tells the host how far that is; another process replaces a file by renames; two more make and
//! remove trees. After `SIGKILL` the journal is replayed by a new guest or by `e2fsck`, in turn. Then nothing is to be mended, what was told to the host
//! is there, and the replaced file is whole.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use harness::script::{Scratch, in_guest_with, natively};
use harness::{Backend, Linux};

/// Kinds of file systems, in `mke2fs`'s words.
const KINDS: [&str; 6] = [
    "-t ext4",
    "-t ext3 -b 1024",
    "-t ext4 -b 1024 -O ^metadata_csum",
    "-t ext3 -b 4096",
    "-t ext4 -b 2048",
    "-t ext4 -b 1024 -O orphan_file,fast_commit,ea_inode,large_dir",
];

/// How they are mounted.
const OPTIONS: [&str; 4] = ["", "data=journal", "discard", "data=writeback"];

/// How long a guest may take to begin.
const START: Duration = Duration::from_secs(60);
/// Milliseconds that it works, at most.
const WORK: u64 = 2500;

/// What the guest does for ever. `$h` is a directory of the host.
const WORKLOAD: &str = r#"
(i=0; while :; do i=$((i+1)); echo "line $i of the file that is kept" >>kept; sync kept; echo $i >$h/kept.new; mv $h/kept.new $h/told; done) &
(i=0; while :; do i=$((i+1)); { seq $i $((i+3000)); echo whole; } >config.new; sync config.new; mv config.new config; done) &
for n in 1 2; do (while :; do mkdir -p tree$n/a/b; for i in 1 2 3 4 5 6 7 8 9; do
    seq $((i*500)) >tree$n/file-with-a-longer-name-$i; ln tree$n/file-with-a-longer-name-$i tree$n/a/hard-$i; ln -s ../a/b tree$n/a/soft-$i; done
    truncate -s 3000 tree$n/file-with-a-longer-name-3; truncate -s 5M tree$n/a/holes; mv tree$n/file-with-a-longer-name-4 tree$n/a/b/moved
    exec 3>tree$n/unlinked; rm tree$n/unlinked; seq 20000 >&3; exec 3>&-; rm -r tree$n; done) & done
"#;

/// Kills `rounds` guests.
pub fn run(rounds: u64) -> Result<(), String> {
    crate::guests::build()?;
    let scratch = Scratch::new();
    let (mut seed, mut bad, mut told) = (0x2545_F491_4F6C_DD1D_u64, 0, 0);
    for round in 0..rounds {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let kind = KINDS[(round % KINDS.len() as u64) as usize];
        let options = OPTIONS[(round / 2 % OPTIONS.len() as u64) as usize];
        let pause = Duration::from_millis((seed >> 33) % WORK);
        match one(scratch.path(), kind, options, pause, round.is_multiple_of(2)) {
            Ok(lines) => {
                told += lines;
                println!(
                    "{} of {rounds}: {kind} -o {options} after {pause:?}: {lines} lines kept",
                    round + 1
                );
            }
            Err(text) => {
                bad += 1;
                println!(
                    "{} of {rounds}: BAD {kind} -o {options} after {pause:?}: {text}",
                    round + 1
                );
                let kept = std::env::temp_dir().join(format!("ext4-killed-{round}.img"));
                if fs::copy(scratch.path().join("crashed"), &kept).is_ok() {
                    println!("  the disk as it was: {}", kept.display());
                }
            }
        }
    }
    println!("{rounds} guests killed, {told} synchronized lines kept, {bad} rounds bad");
    if bad == 0 {
        Ok(())
    } else {
        Err(format!("{bad} of {rounds} rounds are bad"))
    }
}

/// One guest's life and what it left; how many lines of its file it had told the host of.
fn one(dir: &Path, kind: &str, options: &str, pause: Duration, is_replayed_by_us: bool) -> Result<u64, String> {
    let disk = dir.join("disk");
    for name in ["disk", "ready", "told", "kept.new", "mounted"] {
        let _ = fs::remove_file(dir.join(name));
    }
    shell(&format!(
        "truncate -s 64M {0} && mke2fs -q -F {kind} {0}",
        disk.display()
    ))?;
    let mut guest = start(dir, &disk, options)?;
    std::thread::sleep(pause);
    let killed = guest.kill().and_then(|()| guest.wait());
    killed.map_err(|error| format!("kill: {error}"))?;
    shell(&format!(
        "cp --sparse=always {} {}/crashed",
        disk.display(),
        dir.display()
    ))?;
    let told = fs::read_to_string(dir.join("told")).unwrap_or_default();
    let told = told.trim().parse::<u64>().unwrap_or(0);
    if !is_replayed_by_us {
        replay_by_e2fsck(&disk)?;
    }
    let script = format!(
        "mkdir -p /dev/disk; mount -t {0} /dev/ubda /dev/disk && cp /dev/disk/kept {1}/mounted; tail -n 1 /dev/disk/config; umount /dev/disk",
        if kind.contains("ext3") { "ext3" } else { "ext4" },
        dir.display()
    );
    let linux = Linux::hostfs(Backend::Seccomp).arg(format!("ubda={}", disk.display()));
    let (ran, outcome) = in_guest_with(linux, &script);
    if ran.status != 0 {
        return Err(format!("it cannot be mounted: {}{}", ran.output, outcome.console()));
    }
    shell(&format!("e2fsck -fn -E no_optimize_extents {}", disk.display()))?;
    let kept = fs::read_to_string(dir.join("mounted")).unwrap_or_default();
    let lines = kept.lines().count() as u64;
    let expected = |number: usize| format!("line {number} of the file that is kept");
    let is_right = |(at, line): (usize, &str)| line == expected(at + 1);
    // The last line may be one whose write was under way.
    if lines < told || !kept.lines().enumerate().take(told as usize).all(is_right) {
        return Err(format!("{told} lines were synchronized, {lines} are there"));
    }
    if !matches!(ran.output.trim(), "whole" | "") && !ran.output.contains("No such file") {
        return Err(format!("a file replaced by rename is not whole: {}", ran.output));
    }
    Ok(told)
}

fn start(dir: &Path, disk: &Path, options: &str) -> Result<Child, String> {
    let init: PathBuf = dir.join("init");
    let script = format!(
        "#!/bin/sh\nh={0}\nmkdir -p /dev/disk; mount {1} /dev/ubda /dev/disk; cd /dev/disk; >kept; sync\n{WORKLOAD}\n>{0}/ready\nsleep 1000\n",
        dir.display(),
        if options.is_empty() {
            String::new()
        } else {
            format!("-o {options}")
        },
    );
    fs::write(&init, script).map_err(|error| format!("{}: {error}", init.display()))?;
    shell(&format!("chmod 755 {}", init.display()))?;
    let mut guest = Linux::hostfs(Backend::Seccomp)
        .arg(format!("ubda={}", disk.display()))
        .args(["rw", "con=null", &format!("init={}", init.display())])
        .command()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("the guest: {error}"))?;
    let begun = Instant::now();
    while !dir.join("ready").exists() {
        if begun.elapsed() > START || guest.try_wait().ok().flatten().is_some() {
            let _ = guest.kill();
            return Err("the guest did not begin to work".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(guest)
}

/// Replays the journal and ends what was interrupted; the super block's totals are brought up to date, and nothing else.
fn replay_by_e2fsck(disk: &Path) -> Result<(), String> {
    let ran = natively(&format!("e2fsck -fy -E no_optimize_extents {}", disk.display()));
    let mut lines = ran.output.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("Free blocks count wrong (") || line.starts_with("Free inodes count wrong (") {
            lines.next();
        } else if line.contains("? yes") || line.contains("FIXED") || line.contains("WARNING") {
            return Err(format!("e2fsck mends more than the journal: {}", ran.output));
        }
    }
    if ran.status > 1 { Err(ran.output) } else { Ok(()) }
}

fn shell(script: &str) -> Result<(), String> {
    let ran = natively(script);
    if ran.status == 0 {
        Ok(())
    } else {
        Err(format!("{script}: {}", ran.output))
    }
}
