//! `resize2fs` on mounted file systems, and the calls below it as programs make them; guests killed while they grow.

use std::fs;

use harness::script::{Scratch, natively};
use tests::disk_files::{MIB, assert_clean, format, holder, image, succeeded, ubda, with_disks};

/// A file system of `from` MiB on an image of `to` MiB.
fn short(scratch: &Scratch, how: &str, from: u64, to: u64) -> std::path::PathBuf {
    let disk = image(scratch, "disk", from * MIB);
    format(&disk, how);
    let file = fs::OpenOptions::new().write(true).open(&disk).expect("the image");
    file.set_len(to * MIB).expect("its length");
    disk
}

/// Mounts /dev/ubda, defines `ioctl NUMBER FORMAT VALUES...` and runs `script` in the file system.
fn inside(disk: &std::path::Path, script: &str) -> String {
    let script = format!(
        "export PATH=$PATH:/sbin:/usr/sbin; mkdir /dev/at; mount /dev/ubda /dev/at; cd /dev
cat >ask <<'END'
import errno, fcntl, struct, os, sys
words = [int(word, 0) for word in sys.argv[3:]]
fd = os.open('/dev/at', os.O_RDONLY)
try:
    fcntl.ioctl(fd, int(sys.argv[1], 0), struct.pack(sys.argv[2], *words))
    print('ok')
except OSError as error:
    print(errno.errorcode[error.errno])
END
ask() {{ python3 /dev/ask \"$@\"; }}
{script}
cd /; umount /dev/at"
    );
    let (ran, outcome) = with_disks(&[ubda(disk)], &script);
    succeeded(&ran, &outcome.console());
    ran.output
}

#[test]
fn resize2fs_grows_what_is_mounted_and_in_use() {
    for (how, from, to) in [
        ("-t ext4 -b 4096", 256, 4096),
        ("-t ext4 -b 1024", 64, 512),
        ("-t ext3 -b 1024", 64, 512),
        ("-t ext2 -b 4096", 64, 1024),
    ] {
        let scratch = Scratch::new();
        let disk = short(&scratch, how, from, to);
        let output = inside(
            &disk,
            "cp -r /etc/init.d at/before; sum() { (cd $1; find . -type f | sort | xargs cksum); }; sum at/before >one
            exec 3<at/before; resize2fs /dev/ubda >said 2>&1; echo $?; resize2fs /dev/ubda 2>&1 | grep -o 'Nothing to do'; exec 3<&-
            df -m at | awk 'NR == 2 { print $2 }'; cp -r at/before at/after; dd if=/dev/zero of=at/large bs=1M count=200 status=none && sum at/after | cmp - one && sum at/before | cmp - one && echo equal
            dmesg | sed -n 's/.*\\(EXT4-fs (ubda): resiz.*\\)/\\1/p'",
        );
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(lines[..2], ["0", "Nothing to do"], "{how}: {output}");
        let shown: u64 = lines[2].parse().expect("a size");
        assert!(shown > to * 8 / 10 && shown <= to, "{how}: {shown}");
        assert_eq!(lines[3], "equal", "{how}: {output}");
        let blocks = |size: u64| size * MIB / if how.ends_with("4096") { 4096 } else { 1024 };
        assert_eq!(
            lines[4..],
            [
                format!(
                    "EXT4-fs (ubda): resizing filesystem from {} to {} blocks",
                    blocks(from),
                    blocks(to)
                ),
                format!("EXT4-fs (ubda): resized filesystem to {}", blocks(to)),
            ],
            "{how}"
        );
        assert_clean(&disk, how);
    }
}

#[test]
fn the_calls_refuse_what_linux_refuses() {
    let scratch = Scratch::new();
    let disk = short(&scratch, "-t ext4 -b 1024", 20, 60);
    let output = inside(
        &disk,
        "resize=0x40086610; extend=0x40086607; add=0x40286608; mount -o remount,ro at; ask $resize Q 61440; mount -o remount,rw at
        setpriv --bounding-set=-sys_resource --inh-caps=-sys_resource true 2>/dev/null; chmod 755 at; setpriv --reuid=65534 --clear-groups python3 /dev/ask $resize Q 61440
        ask $resize Q 100; ask $resize Q 70000; ask $extend I 0; ask $extend I 100; ask $extend I 61440; ask $extend I 61440
        ask $add IxxxxQQQIHH 9 1 2 3 8192 0 0; ask $add IxxxxQQQIHH 3 1 2 3 8192 0 0; ask $add IxxxxQQQIHH 3 25000 25000 25010 8192 0 0
        ask $add IxxxxQQQIHH 3 25000 25001 25010 8192 5000 0; ask $add IxxxxQQQIHH 3 25000 25001 25010 8193 0 0
        ask $add IxxxxQQQIHH 3 25200 25201 25210 8192 100 0; ask $resize Q 61440
        dmesg | sed -n 's/.*EXT4-fs warning (device ubda): \\(.*\\)/\\1/p'",
    );
    assert_eq!(
        output,
        "EROFS
EPERM
EINVAL
ENOSPC
ok
EINVAL
ok
EPERM
EINVAL
EINVAL
EINVAL
EINVAL
EINVAL
ok
ok
can't shrink FS - resize aborted
can't read last block, resize aborted
can't shrink FS - resize aborted
will only finish group (24577 blocks, 4097 new)
need to use ext2online to resize further
Cannot add at group 9 (only 3 groups)
Structures not in group
Structures of the group overlap
Reserved blocks too high
Bad blocks count
"
    );
    assert_clean(&disk, "after the calls");
}

#[test]
fn killed_while_it_grows_the_journal_makes_it_whole() {
    let scratch = Scratch::new();
    for (round, how) in ["-t ext4 -b 1024", "-t ext3 -b 1024", "-t ext4 -b 4096"]
        .iter()
        .cycle()
        .take(9)
        .enumerate()
    {
        let disk = short(&scratch, how, 20, 600);
        let _ = fs::remove_file(scratch.path().join("ready"));
        let first = "mkdir -p /dev/at; mount /dev/ubda /dev/at; cp -r /etc/init.d /dev/at/before; sync
            python3 -c \"
import fcntl, os, struct
fd = os.open('/dev/at', os.O_RDONLY)
size = os.statvfs('/dev/at').f_bsize
for end in range(21 << 20, 600 << 20, 777 << 10):
    fcntl.ioctl(fd, 0x40086610, struct.pack('Q', end // size))
\" & (while :; do cp -r /etc/init.d /dev/at/more; rm -r /dev/at/more; done) &";
        let mut child = holder(&scratch, &[ubda(&disk)], first);
        std::thread::sleep(std::time::Duration::from_millis(120 * round as u64));
        child.kill().expect("it is ours");
        child.wait().expect("it is dead");
        natively(&format!("cp --sparse=always {0} {0}.copy", disk.display()));
        let (ran, _) = with_disks(
            &[ubda(&disk)],
            "mkdir -p /dev/at; mount /dev/ubda /dev/at && diff -r /etc/init.d /dev/at/before && umount /dev/at",
        );
        succeeded(&ran, how);
        assert_clean(&disk, how);
        let copy = scratch.path().join("disk.copy");
        let replayed = natively(&format!("e2fsck -fy -E no_optimize_extents {}", copy.display()));
        // The super block's two totals are brought up to date by sync and umount alone, as in Linux.
        let count = |words: &[&str]| {
            words
                .iter()
                .map(|word| replayed.output.matches(word).count())
                .sum::<usize>()
        };
        let totals = count(&["Free blocks count wrong (", "Free inodes count wrong ("]);
        assert!(
            replayed.status <= 1 && count(&["Fix"]) == totals,
            "{round} {how}: {}",
            replayed.output
        );
    }
}
