//! Images with ext2, ext3 and ext4 in real guests: as root, in loop devices, between ours and real UML, after kills. `e2fsck` is the judge.

use std::fs;
use std::process::Stdio;

use harness::script::{Scratch, in_guest_with, natively};
use harness::uml::in_uml;
use harness::{Backend, Linux, is_root, workspace};
use tests::disk_files::{MIB, assert_clean, format, formatted, holder, image, succeeded, ubda, with_disks};

/// Makes `tree` in the working directory: folders, links, holes, times, owners, attributes, a file with many pieces. Works in any guest and natively.
const MAKE_TREE: &str = "mkdir -p tree/a/b tree/many
for i in $(seq 300); do echo $i >tree/many/file-with-a-longer-name-$i; done
seq 100000 >tree/a/numbers; ln tree/a/numbers tree/a/b/hard; ln -s a/numbers tree/soft
truncate -s 30M tree/holes; echo end >>tree/holes; mknod tree/null c 1 3; mkfifo tree/fifo
chown 12:34 tree/a/b; chmod 4751 tree/a/numbers; touch -h -d '2001-02-03 04:05:06.789' tree/soft tree/a
for i in $(seq 50); do echo piece $i >>tree/piece-$((i % 5)); done; rm tree/many/*7; mv tree/many/*-1 tree/moved\n";

/// What is in `tree`, in words that are the same wherever it lies.
const SHOW_TREE: &str = "find tree -printf '%p %y %m %U %G %n %l\\n' | sort | sed '/ d /s/ [0-9]* $//'
find tree -type f | sort | xargs cksum; find tree -type f -printf '%p %s\\n' | sort; find tree -not -type l -printf '%p %Cs\\n' | wc -l\n";

#[test]
fn a_root_on_each_kind_of_image_is_booted_written_and_left_clean() {
    let scratch = Scratch::new();
    let tree = scratch.path().join("tree");
    let made = natively(&format!(
        "mkdir -p {0}/bin {0}/dev {0}/proc; cp $(command -v busybox) {1} {0}/bin; ln -s busybox {0}/bin/sh",
        tree.display(),
        workspace().join("target/guest/poweroff").display()
    ));
    succeeded(&made, "the tree");
    let script = "busybox mount -t proc proc /proc; busybox grep ' / ' /proc/mounts; busybox mkdir /new; busybox cp /bin/busybox /new; busybox mount -o remount,ro / && echo read-only
        busybox mount -o remount,rw / && busybox cmp /bin/busybox /new/busybox && echo equal; exec /bin/poweroff\n";
    for backend in Backend::ALL {
        for (kind, how) in [
            ("ext4", "-t ext4"),
            ("ext4", "-t ext4 -b 1024"),
            ("ext3", "-t ext3"),
            ("ext2", "-t ext2"),
        ] {
            let disk = formatted(&scratch, "root", &format!("{how} -d {}", tree.display()));
            let outcome = Linux::new()
                .args([ubda(&disk).as_str(), "root=/dev/ubda", "rw", "quiet", backend.option()])
                .args([
                    &format!("rootfstype={kind}"),
                    "con=null",
                    "con0=fd:0,fd:1",
                    "init=/bin/sh",
                ])
                .stdin(script)
                .run();
            let console = outcome.console();
            for part in [&format!("/dev/root / {kind} rw,relatime"), "read-only\n", "equal\n"] {
                assert!(console.contains(part), "{backend:?} {how}: no {part:?} in {console}");
            }
            assert_eq!(outcome.code(), 0, "{backend:?} {how}: {console}");
            assert_clean(&disk, how);
        }
    }
}

#[test]
fn a_root_that_cannot_be_written_is_mounted_read_only() {
    let scratch = Scratch::new();
    let disk = formatted(&scratch, "root", "-t ext4");
    let word = format!("ubdar={}", disk.display());
    let outcome = Linux::new().args([word.as_str(), "root=/dev/ubda", "rw"]).run();
    let console = outcome.console();
    assert!(
        console.contains("VFS: Mounted root (ext4 filesystem) readonly on device 98:0."),
        "{console}"
    );
}

#[test]
fn an_unprivileged_user_makes_fills_and_boots_an_image() {
    let scratch = Scratch::new();
    let dir = scratch.path().display().to_string();
    let tar = natively(&format!(
        "mkdir -p {dir}/root/bin {dir}/root/dev; cp $(command -v busybox) {dir}/root/bin; ln -s busybox {dir}/root/bin/sh
        mknod {dir}/root/dev/console c 5 1; chown 7:8 {dir}/root/bin/busybox; tar cf {dir}/root.tar -C {dir}/root . && chmod 644 {dir}/root.tar"
    ));
    if is_root() {
        succeeded(&tar, "the archive");
    }
    let script = format!(
        "set -e; cd {dir}; export PATH=$PATH:/sbin:/usr/sbin; mount -t sysfs sysfs /sys
        dd if=/dev/null of=image bs=1G seek=1 count=0 status=none; mkfs.ext3 -q -F image; mkdir loop; mount image loop -o loop
        tar xf root.tar -C loop; ls -ln loop/bin/busybox loop/dev/console | cut -d' ' -f1-4; umount loop; losetup -a"
    );
    let (ran, outcome) = in_guest_with(Linux::hostfs(Backend::Seccomp).user(65534), &script);
    assert_eq!(ran.status, 0, "{}{}", ran.output, outcome.console());
    assert!(ran.output.contains("1 7 8"), "{}", ran.output);
    let disk = scratch.path().join("image");
    let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(&disk).expect("the image"));
    assert!(blocks * 512 < 100 * MIB, "{blocks} sectors are not sparse");
    assert_clean(&disk, "mke2fs, mount and tar in the guest");
    let booted = Linux::new()
        .args([ubda(&disk).as_str(), "quiet", "init=/bin/sh"])
        .stdin("echo booted as $$\n")
        .run();
    assert!(booted.console().contains("booted as 1\n"), "{}", booted.console());
}

#[test]
fn killed_at_any_moment_the_journal_makes_it_whole() {
    let scratch = Scratch::new();
    for (round, how) in ["-t ext4", "-t ext3 -b 1024", "-t ext4 -b 1024 -O ^metadata_csum"]
        .iter()
        .cycle()
        .take(9)
        .enumerate()
    {
        let disk = formatted(&scratch, "disk", how);
        let _ = fs::remove_file(scratch.path().join("ready"));
        let first = format!(
            "mkdir -p /dev/disk; mount /dev/ubda /dev/disk; cd /dev/disk; echo kept >kept; sync; echo more >>kept; sync kept
            (while :; do {MAKE_TREE} rm -r tree; done) &"
        );
        let mut child = holder(&scratch, &[ubda(&disk)], &first);
        std::thread::sleep(std::time::Duration::from_millis(40 * round as u64));
        child.kill().expect("it is ours");
        child.wait().expect("it is dead");
        // First ours, then e2fsck on a copy: both replay.
        natively(&format!("cp --sparse=always {0} {0}.copy", disk.display()));
        let (ran, _) = with_disks(
            &[ubda(&disk)],
            "mkdir -p /dev/disk; mount /dev/ubda /dev/disk && cat /dev/disk/kept && umount /dev/disk",
        );
        assert_eq!(ran.output, "kept\nmore\n", "{round} {how}");
        assert_clean(&disk, how);
        let copy = scratch.path().join("disk.copy");
        let replayed = natively(&format!("e2fsck -fy -E no_optimize_extents {}", copy.display()));
        assert!(replayed.status <= 1, "{round} {how}: {}", replayed.output);
        assert!(
            !replayed.output.contains("Fix"),
            "{round} {how}: more than the journal: {}",
            replayed.output
        );
    }
}

#[test]
fn real_uml_and_ours_read_and_write_each_others_file_systems() {
    let mounted = |script: &str| {
        format!(
            "mkdir -p /dev/shm; mount -t tmpfs tmpfs /dev/shm; mkdir /dev/shm/disk; mount /dev/ubda /dev/shm/disk && cd /dev/shm/disk && (\n{script}); cd /; umount /dev/shm/disk"
        )
    };
    for how in ["-t ext4", "-t ext4 -b 1024", "-t ext3", "-t ext2"] {
        let scratch = Scratch::new();
        let disk = formatted(&scratch, "disk", how);
        let words = [ubda(&disk)];
        let (ours, _) = with_disks(&words, &mounted(&format!("{MAKE_TREE}{SHOW_TREE}")));
        succeeded(&ours, how);
        assert!(ours.output.lines().count() > 500, "{how}: {}", ours.output);
        assert_clean(&disk, how);
        let (theirs, console) = in_uml(
            &words,
            &mounted(&format!("{SHOW_TREE}mv tree old; cp -a old tree; rm -r old")),
        );
        assert!(
            theirs == ours.output,
            "{how}: ours:\n{}\nreal UML:\n{theirs}\n{console}",
            ours.output
        );
        assert_clean(&disk, how);
        let (again, _) = with_disks(&words, &mounted(&format!("{SHOW_TREE}rm -r tree; ls")));
        let same = |text: &str| {
            text.lines()
                .filter(|line| line.contains(' '))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert!(
            same(&again.output) == same(&ours.output),
            "{how}: after real UML's copy we see {}",
            again.output
        );
        assert_clean(&disk, how);
    }
}

#[test]
fn e2fsprogs_work_in_the_guest_on_disks_and_loop_devices() {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", 64 * MIB);
    let file = image(&scratch, "file", 32 * MIB);
    // resize2fs wants a check that is younger than the last mount; only an e2fsck that may write notes its time.
    let script = format!(
        "set -e; export PATH=$PATH:/sbin:/usr/sbin; mkdir -p /dev/at; loop=$(losetup -f --show {})
        for device in /dev/ubda $loop; do
            for kind in ext2 ext3 ext4; do
                mke2fs -q -F -t $kind $device 20M; mount $device /dev/at; cp -r /etc/init.d /dev/at; df /dev/at | tail -1 | cut -c1-10; umount /dev/at
                e2fsck -fn $device >/dev/null; e2fsck -fy -E no_optimize_extents $device >/dev/null; tune2fs -L label-$kind $device >/dev/null; resize2fs $device 30M >/dev/null 2>&1
                mount -L label-$kind /dev/at 2>/dev/null || mount $device /dev/at; diff -r /etc/init.d /dev/at/init.d; umount /dev/at
                dumpe2fs -h $device 2>/dev/null | grep -E 'volume name|^Block count'; debugfs -R 'ls -p /init.d' $device 2>/dev/null | wc -l >/dev/null; e2fsck -fn $device >/dev/null
            done
        done",
        file.display()
    );
    let (ran, outcome) = with_disks(&[ubda(&disk)], &script);
    assert_eq!(ran.status, 0, "{}{}", ran.output, outcome.console());
    assert_eq!(ran.output.matches("label-ext").count(), 6, "{}", ran.output);
    assert_clean(&disk, "the disk");
    assert_clean(&file, "the loop device's file");
}

#[test]
fn a_mapping_of_a_disk_file_is_shared_with_its_readers_and_reaches_the_disk() {
    let scratch = Scratch::new();
    let disk = formatted(&scratch, "disk", "-t ext4");
    let script = "mkdir -p /dev/disk; mount /dev/ubda /dev/disk && cd /dev/disk && python3 - <<'END'
import mmap, os
fd = os.open('file', os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, 1 << 20)
m = mmap.mmap(fd, 1 << 20)
m[5000:5005] = b'hello'
print(os.pread(fd, 5, 5000))
os.pwrite(fd, b'world', 9000)
print(m[9000:9005])
p = mmap.mmap(fd, 8192, flags=mmap.MAP_PRIVATE)
p[0:3] = b'own'
print(os.pread(fd, 3, 0))
if os.fork() == 0:
    m[70000:70005] = b'child'
    os._exit(0)
os.wait()
print(m[70000:70005], os.stat('file').st_blocks > 0)
m.flush()
os.ftruncate(fd, 4096)
try:
    os.pread(fd, 1, 5000)
    print(os.stat('file').st_size)
finally:
    m.close()
END
umount /dev/disk || { cd /; umount /dev/disk; }";
    for backend in Backend::ALL {
        let linux = Linux::hostfs(backend).arg(ubda(&disk));
        let (ran, _) = in_guest_with(linux, script);
        let lines: Vec<&str> = ran.output.lines().filter(|line| !line.starts_with("umount")).collect();
        assert_eq!(
            lines,
            ["b'hello'", "b'world'", "b'\\x00\\x00\\x00'", "b'child' True", "4096"],
            "{backend:?}: {}",
            ran.output
        );
        assert_clean(&disk, "after mappings");
    }
}

#[test]
fn a_full_disk_is_enospc_and_what_was_synced_stays() {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", 8 * MIB);
    format(&disk, "-t ext4 -b 1024");
    let script = "mkdir -p /dev/disk; mount /dev/ubda /dev/disk; cd /dev/disk; echo kept >kept; sync kept
        dd if=/dev/zero of=fill bs=64k 2>&1 | grep -o 'No space left on device'; rm fill; dd if=/dev/zero of=again bs=64k count=40 status=none && sync && echo again; cat kept; cd /; umount /dev/disk";
    let (ran, _) = with_disks(&[ubda(&disk)], script);
    assert_eq!(ran.output, "No space left on device\nagain\nkept\n");
    assert_clean(&disk, "after it was full");
}

#[test]
fn a_store_into_a_hole_of_a_full_disk_is_sigbus_and_every_other_store_is_kept() {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", 8 * MIB);
    for options in ["-t ext4 -b 1024", "-t ext4 -b 4096", "-t ext2 -b 1024"] {
        format(&disk, options);
        let script = "mkdir -p /dev/disk; mount /dev/ubda /dev/disk; python3 - <<'END'
import mmap, os, signal
fd = os.open('/dev/disk/file', os.O_RDWR | os.O_CREAT)
os.write(fd, bytes(4096))
os.ftruncate(fd, 16 << 20)
stored = mmap.mmap(-1, 8)
small = os.open('/dev/disk/small', os.O_RDWR | os.O_CREAT)
os.write(small, bytes(1024))
os.fsync(small)
if os.fork() == 0:
    m = mmap.mmap(fd, 16 << 20)
    for page in range(4096):
        m[page * 4096] = 7
        stored[0:8] = (page + 1).to_bytes(8, 'little')
    os._exit(0)
_, status = os.wait()
print(signal.Signals(os.WTERMSIG(status)).name)
if os.fork() == 0:
    os.ftruncate(small, 4096)
    m = mmap.mmap(small, 4096)
    os.ftruncate(small, 1024)
    m[0] = 7
    os.ftruncate(small, 4096)
    m[4095] = 7
    os._exit(0)
_, status = os.wait()
print('and in the page where the file ended:', os.WTERMSIG(status) == signal.SIGBUS)
os.fsync(fd)
again = mmap.mmap(fd, 4096)
again[1] = 8
count = int.from_bytes(stored[0:8], 'little')
print(count > 500, count)
END
umount /dev/disk; mount /dev/ubda /dev/disk; python3 - <<'END'
data = open('/dev/disk/file', 'rb').read()
print(sum(data[::4096]) // 7, data[1])
END
umount /dev/disk";
        let (ran, _) = with_disks(&[ubda(&disk)], script);
        let lines: Vec<&str> = ran.output.lines().collect();
        let count = lines.get(2).and_then(|line| line.strip_prefix("True ")).unwrap_or("?");
        let holes = if options.contains("4096") { "False" } else { "True" };
        let grown = format!("and in the page where the file ended: {holes}");
        let expected = ["SIGBUS", &grown, &format!("True {count}"), &format!("{count} 8")];
        assert_eq!(lines, expected, "{options}: {}", ran.output);
        assert_clean(&disk, options);
    }
}

#[test]
fn an_image_that_another_instance_has_is_refused_and_two_run_over_one_backing_file() {
    let scratch = Scratch::new();
    let disk = formatted(&scratch, "disk", "-t ext4");
    let first = holder(
        &scratch,
        &[ubda(&disk)],
        "mkdir -p /dev/disk; mount /dev/ubda /dev/disk",
    );
    let second = Linux::new()
        .args([ubda(&disk).as_str(), "root=/dev/ubda", "quiet"])
        .command()
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&second.stdout);
    assert!(said.contains(&format!("locked by pid {}", first.id())), "{said}");
    tests::disk_files::end(first);
    let disk = disk.display();
    let work = "mkdir -p /dev/disk; mount /dev/ubda /dev/disk";
    natively(&format!("rm -f {}/ready; e2fsck -fy {disk}", scratch.path().display()));
    let words = [format!("ubda={}/one.cow,{disk}", scratch.path().display())];
    let first = holder(&scratch, &words, work);
    let words = [format!("ubda={}/two.cow,{disk}", scratch.path().display())];
    let (ran, _) = with_disks(
        &words,
        &format!("{work} && echo both >/dev/disk/x && umount /dev/disk && echo both"),
    );
    assert_eq!(ran.output, "both\n");
    tests::disk_files::end(first);
}

#[test]
fn a_tree_larger_than_memory_is_read_and_written_within_it() {
    let scratch = Scratch::new();
    let tree = scratch.path().join("tree");
    let made = natively(&format!(
        "mkdir -p {0}/small; for i in $(seq 8); do seq $i 1300000 >{0}/large-$i; done; for i in $(seq 1000); do seq $i 2000 >{0}/small/$i; done",
        tree.display()
    ));
    succeeded(&made, "the tree");
    let disk = image(&scratch, "disk", 256 * MIB);
    format(&disk, &format!("-t ext4 -d {}", tree.display()));
    let sums = "find . -type f -name '[ls0-9]*' ! -path './lost*' | sort | xargs cksum";
    let expected = natively(&format!("cd {}; {sums}", tree.display()));
    let t = scratch.path().display();
    let script = format!(
        "mkdir {t}/m && mount -t ext4 /dev/ubda {t}/m && cd {t}/m || exit 1; {sums} >{t}/first; cat large-* >new; {sums} >{t}/second; sync
        awk '$1 == \"Cached:\" {{ print ($2 > 0 && $2 < 80 * 1024 * 7 / 8) }} $1 == \"Dirty:\" {{ print ($2 < 1024) }}' /proc/meminfo
        cmp {t}/first {t}/second && cat {t}/first; cat large-* | cmp - new && echo equal; cd /; umount {t}/m; rm {t}/first {t}/second; rmdir {t}/m"
    );
    let linux = Linux::hostfs(Backend::Seccomp).arg(ubda(&disk)).arg("mem=80M");
    let (ran, outcome) = in_guest_with(linux, &script);
    assert_eq!(
        ran.output,
        format!("1\n1\n{}equal\n", expected.output),
        "{}",
        outcome.console()
    );
    assert_clean(&disk, "after the tree");
}

#[test]
fn what_caches_have_given_up_does_not_stay_with_the_kernel() {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", 900 * MIB);
    format(&disk, "-t ext3 -b 1024");
    let script = "mkdir /dev/at && mount /dev/ubda /dev/at && cd /dev/at || exit 1
        for i in $(seq 300); do head -c 20000 /dev/zero >small-$i; done
        dd if=/dev/zero of=large bs=1M count=300 2>/dev/null && cat large | wc -c
        awk '$1 == \"Slab:\" { print ($2 < 128 * 1024) }' /proc/meminfo; dmesg | grep -c 'ut of memory'; cd /; umount /dev/at";
    let linux = Linux::hostfs(Backend::Seccomp).arg(ubda(&disk)).arg("mem=256M");
    let (ran, outcome) = in_guest_with(linux, script);
    assert_eq!(ran.output, "314572800\n1\n0\n", "{}", outcome.console());
    assert_clean(&disk, "after more than fits");
}
