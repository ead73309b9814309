//! `cargo xtask judge ext4 programs`: programs that verify what they read, on ext3 and ext4 disks in a guest; `e2fsck` has the last word.

use std::time::Duration;

use harness::script::{Scratch, in_guest_with, natively};
use harness::{Backend, Linux};

/// How long one disk may take before its guest counts as hung.
const GUARD: Duration = Duration::from_secs(3600);

/// What each program is called by in Debian's packages (`fsx`: `cargo install fsx`), and what it runs, in the mounted directory.
const PROGRAMS: [(&str, &str); 3] = [
    (
        "fsx",
        "printf '%s\\n' 'flen = 1048576' '[opsize]' 'max = 65536' '[weights]' 'close_open = 1' 'invalidate = 1' 'read = 10' 'write = 10' \\
            'mapread = 5' 'mapwrite = 5' 'truncate = 2' 'fsync = 1' 'fdatasync = 1' 'copy_file_range = 1' 'sendfile = 1' 'posix_fadvise = 1' >all
        cp all fsx.toml; printf '%s\\n' 'punch_hole = 2' 'posix_fallocate = 1' >>fsx.toml
        # Files of block maps cannot have space without contents.
        fallocate -l 4096 can || cp all fsx.toml
        for seed in 1 2 3; do
            fsx -q -N 20000 -S $seed -f fsx.toml file >fsx.log 2>&1 || { cat fsx.log; exit 1; }
        done; rm -f file*",
    ),
    (
        "stress-ng",
        "stress-ng --hdd 2 --hdd-bytes 24m --hdd-ops 6000 --hdd-opts wr-rnd,rd-rnd,fsync --verify --temp-path . --no-rand-seed
        stress-ng --copy-file 1 --fallocate 1 --link 1 --rename 1 --symlink 1 --dir 1 --xattr 1 --sync-file 1 --iomix 1 --verify --timeout 10 --temp-path .",
    ),
    ("bonnie++", "bonnie++ -q -d . -s 96 -r 48 -n 2:20000:10:4 -u root >/dev/null"),
];

/// The disks.
const KINDS: [&str; 4] = ["-t ext4", "-t ext3 -b 1024", "-t ext4 -b 1024", "-t ext3"];

/// Runs every program on every kind of disk.
pub fn run() -> Result<(), String> {
    crate::guests::build()?;
    let scratch = Scratch::new();
    let path = std::env::var("PATH").unwrap_or_default();
    let disk = scratch.path().join("disk");
    let mut bad = Vec::new();
    for kind in KINDS {
        for (program, script) in PROGRAMS {
            let made = natively(&format!(
                "command -v {program} && rm -f {0} && truncate -s 4G {0} && mke2fs -q -F {kind} {0}",
                disk.display()
            ));
            if made.status != 0 {
                return Err(format!("{program} or mke2fs: install them first: {}", made.output));
            }
            let linux = Linux::hostfs(Backend::Seccomp)
                .arg(format!("ubda={}", disk.display()))
                .guard(GUARD);
            let script = format!(
                "set -e; export PATH='{path}'; mkdir -p /dev/disk; mount /dev/ubda /dev/disk; cd /dev/disk; mkdir work; cd work\n{script}\ncd /; umount /dev/disk"
            );
            let (ran, outcome) = in_guest_with(linux, &script);
            let checked = natively(&format!("e2fsck -fn -E no_optimize_extents {}", disk.display()));
            if ran.status == 0 && checked.status == 0 {
                println!("good {program} on {kind}");
            } else {
                println!(
                    "BAD  {program} on {kind}: {}\n{}\n{}",
                    ran.output,
                    outcome.console(),
                    checked.output
                );
                bad.push(format!("{program} on {kind}"));
            }
        }
    }
    if bad.is_empty() {
        Ok(())
    } else {
        Err(format!("bad: {}", bad.join(", ")))
    }
}
