//! Block devices under the eyes of the programs that manage them: what they say of a disk is what they say of the image on the host, and what they
//! write is, byte for byte, what they write into a file.

use std::fs;
use std::path::Path;

use harness::script::{Ran, Scratch, in_guest_with, natively};
use harness::{Backend, Linux};
use tests::disk_files::{MIB, image};

/// Runs `script` in a guest with sysfs and the disk `disk` as /dev/ubda.
fn with_disk(backend: Backend, disk: &Path, script: &str) -> Ran {
    let word = format!("ubda={}", disk.display());
    let directory = disk.parent().expect("a file in a directory").display();
    let script = format!("mount -t sysfs none /sys; T={directory}; export T\n{script}");
    in_guest_with(Linux::hostfs(backend).arg(&word), &script).0
}

/// Runs `script` with `$D` a file on the host and with `$D` the disk on an equal file in a guest, under both backends; `$T` is a directory for other
/// files. What it prints must be the same but for the name and the width of columns, and so must the images.
fn same_on_an_image(len: u64, prepare: &str, script: &str) {
    let scratch = Scratch::new();
    let native = image(&scratch, "ubda", len);
    let shown = |output: &str, name: &str| {
        let lines = output.replace(name, "DISK");
        let squeeze = |line: &str| line.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        lines.lines().map(squeeze).collect::<Vec<_>>()
    };
    let environment = format!("D={}; T={}; export D T", native.display(), scratch.path().display());
    natively(&format!("{environment}\n{prepare}"));
    let before = fs::read(&native).expect("the image");
    let expected = natively(&format!("{environment}\n{script}"));
    let expected_output = shown(&expected.output, &native.display().to_string());
    for backend in Backend::ALL {
        let disk = scratch.path().join("disk");
        fs::write(&disk, &before).expect("the image");
        let ran = with_disk(backend, &disk, &format!("D=/dev/ubda; export D\n{script}"));
        assert_eq!(
            shown(&ran.output, "/dev/ubda"),
            expected_output,
            "{backend:?}: {script}"
        );
        assert_eq!(ran.status, expected.status, "{backend:?}: {script}");
        let contents = |path: &Path| without_geometry(fs::read(path).expect("the image"));
        let (disk, native) = (contents(&disk), contents(&native));
        let differs = disk.iter().zip(&native).position(|(a, b)| a != b);
        assert_eq!((disk.len(), differs), (native.len(), None), "{backend:?}: {script}");
    }
}

/// Takes the heads and cylinders out of MBR tables: a disk has others than tools invent for a file.
fn without_geometry(mut image: Vec<u8>) -> Vec<u8> {
    let tables = image
        .chunks_exact_mut(512)
        .filter(|sector| sector[510..] == [0x55, 0xaa]);
    for entry in tables.flat_map(|sector| sector[446..510].chunks_exact_mut(16)) {
        entry[1..4].fill(0);
        entry[5..8].fill(0);
    }
    image
}

const GPT: &str = "label: gpt\\nlabel-id: 0FC63DAF-8483-4772-8E79-3D69D8477DE4\\n\
    size=8M,name=one,uuid=11111111-2222-3333-4444-555555555555\\nsize=16M,name=\\\"two words\\\",uuid=21111111-2222-3333-4444-555555555555\\n";
const MBR: &str = "label: dos\\nlabel-id: 0x12345678\\nsize=8M,type=83,bootable\\nsize=8M,type=82\\ntype=5\\nsize=8M,type=83\\nsize=4M\\n";

#[test]
fn partition_tables_are_written_and_shown_as_in_a_file() {
    for table in [GPT, MBR] {
        same_on_an_image(
            64 * MIB,
            "",
            &format!(
                "printf \"{table}\" | sfdisk -q $D; sfdisk -d $D; sfdisk -l $D; fdisk -l $D; sfdisk -V $D
                sfdisk -d $D >$T/dump; sfdisk -q --delete $D; sfdisk -q $D <$T/dump; rm $T/dump; sfdisk -J $D
                sfdisk --part-uuid $D 1; sfdisk -q -r $D; blkid -p $D; wipefs $D"
            ),
        );
    }
}

#[test]
fn parted_writes_and_reads_what_it_does_in_a_file() {
    same_on_an_image(
        64 * MIB,
        "",
        "p() { parted -s $D \"$@\" 2>&1 | grep -v -e udevadm -e semaphores -e ^Model: ; }
        p mklabel msdos mkpart primary 1MiB 10MiB mkpart primary 10MiB 20MiB mkpart primary ext4 20MiB 60MiB set 1 boot on set 3 lba on
        p unit s print; p rm 2 resizepart 1 12MiB unit B print; p align-check optimal 1; p mkpart primary 11MiB 13MiB; sfdisk -q --disk-id $D 0x12345678",
    );
}

#[test]
fn file_systems_are_made_and_found_as_in_a_file() {
    same_on_an_image(
        32 * MIB,
        "",
        "export E2FSPROGS_FAKE_TIME=1700000000; U=11111111-2222-3333-4444-555555555555
        mke2fs -q -t ext4 -F -L label -U $U -E hash_seed=$U,root_owner=0:0,nodiscard $D; e2fsck -fn $D 2>&1 | tail -1; dumpe2fs -h $D 2>/dev/null | grep -v -e time -e Time -e checked
        blkid -p $D; wipefs $D; tune2fs -L other $D >/dev/null; e2label $D; debugfs -R 'stat <2>' $D 2>/dev/null | head -3
        wipefs -aq $D; blkid -p $D; echo $?; mkswap -q -U $U -L swap $D; blkid -p $D",
    );
}

/// A fixed series of random accesses to `$D`: buffered, direct, mapped, zeroed, checked against a copy in memory.
const RANDOM: &str = "cat >$T/accesses.py <<'END'
import os, mmap, random, hashlib, sys, stat
r = random.Random(7); path = sys.argv[1]; size = int(sys.argv[2])
fd = os.open(path, os.O_RDWR); direct = os.open(path, os.O_RDWR | os.O_DIRECT)
shadow = bytearray(os.pread(fd, size, 0)); assert len(shadow) == size
area = mmap.mmap(fd, size); pages = mmap.mmap(-1, 1 << 20)
for step in range(400):
    op = r.choice(['w', 'w', 'r', 'dw', 'dr', 'mw', 'mr', 'sync', 'z'])
    at = r.randrange(size); n = min(size - at, r.choice([1, 511, 4096, 5000, 70000, 300000]))
    dat = at // 4096 * 4096; dn = min(size - dat, r.choice([4096, 8192, 65536, 1 << 20])) // 4096 * 4096
    data = r.randbytes(max(n, dn))
    if op == 'w': assert os.pwrite(fd, data[:n], at) == n; shadow[at:at + n] = data[:n]
    if op == 'r': assert os.pread(fd, n, at) == shadow[at:at + n], (step, op, at, n)
    if op == 'mw': area[at:at + n] = data[:n]; shadow[at:at + n] = data[:n]
    if op == 'mr': assert area[at:at + n] == shadow[at:at + n], (step, op, at, n)
    if op in ('dw', 'z', 'sync'): area.flush(); os.fsync(fd)
    if op == 'dw' and dn: pages[:dn] = data[:dn]; assert os.pwritev(direct, [memoryview(pages)[:dn]], dat) == dn; shadow[dat:dat + dn] = data[:dn]
    if op == 'dr' and dn: area.flush(); assert os.preadv(direct, [memoryview(pages)[:dn]], dat) == dn; assert pages[:dn] == shadow[dat:dat + dn], (step, op, dat, dn)
    if op == 'z' and dn and stat.S_ISBLK(os.fstat(fd).st_mode): os.system(f'fallocate -z -o {dat} -l {dn} {path}'); shadow[dat:dat + dn] = bytes(dn)
    elif op == 'z' and dn: os.pwrite(fd, bytes(dn), dat); shadow[dat:dat + dn] = bytes(dn)
assert os.pread(fd, size, 0) == shadow and area[:] == shadow
print(hashlib.sha256(shadow).hexdigest())
END
";

#[test]
fn random_accesses_of_every_kind_agree() {
    same_on_an_image(
        5 * MIB + 512 * 3,
        "head -c 3000000 /dev/zero | tr '\\0' x | dd of=$D conv=notrunc 2>/dev/null",
        &format!("{RANDOM} python3 $T/accesses.py $D 5244416; rm $T/accesses.py"),
    );
}

#[test]
fn random_accesses_of_a_partition_stay_in_it() {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", 16 * MIB);
    natively(&format!(
        "printf 'size=4M\\nsize=4M\\nsize=4M\\n' | sfdisk -q {}",
        disk.display()
    ));
    natively(&format!(
        "yes pattern | dd of={} bs=1M seek=1 count=15 iflag=fullblock conv=notrunc",
        disk.display()
    ));
    let before = fs::read(&disk).expect("the image");
    let script =
        format!("{RANDOM} python3 $T/accesses.py /dev/ubda2 4194304; sha256sum </dev/ubda2; rm $T/accesses.py");
    let ran = with_disk(Backend::Seccomp, &disk, &script);
    let sums: Vec<&str> = ran.output.split_ascii_whitespace().collect();
    assert_eq!(sums.first(), sums.get(1), "{}", ran.output);
    let after = fs::read(&disk).expect("the image");
    let part = 5 << 20..9 << 20;
    assert!(before[..part.start] == after[..part.start] && before[part.end..] == after[part.end..]);
    let sum = natively(&format!(
        "dd if={} bs=1M skip=5 count=4 2>/dev/null | sha256sum",
        disk.display()
    ));
    assert!(sum.output.starts_with(sums[0]), "{} {}", sum.output, ran.output);
}

#[test]
fn what_is_in_use_is_left_alone() {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", 64 * MIB);
    natively(&format!(
        "printf 'size=16M\\nsize=16M\\n' | sfdisk -q {}",
        disk.display()
    ));
    for backend in Backend::ALL {
        let ran = with_disk(
            backend,
            &disk,
            "cat >$T/hold.py <<'END'
import os
held = os.open('/dev/ubda1', os.O_RDWR | os.O_EXCL)
for name in ['ubda', 'ubda1', 'ubda2']:
    try: os.close(os.open('/dev/' + name, os.O_RDWR | os.O_EXCL)); print(name, 'free')
    except OSError as e: print(name, e.strerror)
os.close(os.open('/dev/ubda1', os.O_RDWR))
os.system('''exec 2>&1; mke2fs -q -F /dev/ubda1; mke2fs -q -F /dev/ubda; wipefs -a /dev/ubda; blockdev --rereadpt /dev/ubda; delpart /dev/ubda 1; delpart /dev/ubda 2
blkdiscard /dev/ubda1; losetup -f --show /dev/ubda1; losetup -D; ls /dev/ubda*''')
END
            python3 -u $T/hold.py; rm $T/hold.py; blockdev --rereadpt /dev/ubda && ls /dev/ubda*
            exec 5</dev/ubda2; blockdev --rereadpt /dev/ubda; delpart /dev/ubda 2; exec 5<&-; delpart /dev/ubda 2; ls /dev/ubda*",
        );
        assert_eq!(
            ran.output,
            "ubda Device or resource busy\nubda1 Device or resource busy\nubda2 free\n\
            /dev/ubda1 is apparently in use by the system; will not make a filesystem here!\n\
            /dev/ubda is apparently in use by the system; will not make a filesystem here!\n\
            wipefs: error: /dev/ubda: probing initialization failed: Device or resource busy\n\
            blockdev: ioctl error on BLKRRPART: Device or resource busy\ndelpart: failed to remove partition: Device or resource busy\n\
            blkdiscard: cannot open /dev/ubda1: Device or resource busy\n/dev/loop0\n/dev/ubda\n/dev/ubda1\n\
            /dev/ubda\n/dev/ubda1\n/dev/ubda2\n\
            blockdev: ioctl error on BLKRRPART: Device or resource busy\ndelpart: failed to remove partition: Device or resource busy\n/dev/ubda\n/dev/ubda1\n",
            "{backend:?}"
        );
    }
}

#[test]
fn ioctls_answer_and_refuse_as_linux_does() {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", 16 * MIB);
    natively(&format!("printf 'size=4M\\nsize=4M\\n' | sfdisk -q {}", disk.display()));
    for backend in Backend::ALL {
        let ran = with_disk(
            backend,
            &disk,
            "cat >$T/ioctl.py <<'END'
import os, fcntl, errno, struct
def t(name, f):
    try: print(name, f())
    except OSError as e: print(name, errno.errorcode[e.errno])
def get(fd, cmd, form):
    return struct.unpack(form, fcntl.ioctl(fd, cmd, bytes(struct.calcsize(form))))[0]
def pair(fd, cmd, a, b): return fcntl.ioctl(fd, cmd, struct.pack('QQ', a, b)) and None
rw, ro, p = os.open('/dev/ubda', os.O_RDWR), os.open('/dev/ubda', os.O_RDONLY), os.open('/dev/ubda2', os.O_RDWR)
for name, cmd, form in [('size', 0x1260, 'Q'), ('size64', 0x80081272, 'Q'), ('ss', 0x1268, 'I'), ('pbs', 0x127b, 'I'), ('iomin', 0x1278, 'I'), ('ioopt', 0x1279, 'I'),
    ('align', 0x127a, 'I'), ('rotational', 0x127e, 'H'), ('ro', 0x125e, 'I'), ('ra', 0x1263, 'Q'), ('zeroes', 0x127c, 'I'), ('bsz', 0x80081270, 'I')]:
    t(name, lambda: (get(rw, cmd, form), get(p, cmd, form)))
t('geo', lambda: struct.unpack('BBHxxxxQ', fcntl.ioctl(p, 0x301, bytes(16))))
t('discard ro', lambda: pair(ro, 0x1277, 0, 4096)); t('discard odd', lambda: pair(rw, 0x1277, 100, 4096)); t('discard end', lambda: pair(p, 0x1277, 0, 4 << 20))
t('discard past', lambda: pair(p, 0x1277, 4096, 4 << 20)); t('discard none', lambda: pair(rw, 0x1277, 0, 0)); t('discard wrap', lambda: pair(rw, 0x1277, 4096, 2 ** 64 - 4096))
t('secure', lambda: pair(rw, 0x127d, 0, 4096)); t('zero ro', lambda: pair(ro, 0x127f, 0, 4096)); t('zero', lambda: pair(rw, 0x127f, 0, 4096)); t('zero past', lambda: pair(rw, 0x127f, 16 << 20, 512))
t('bad', lambda: fcntl.ioctl(rw, 0x12ff)); t('loop', lambda: fcntl.ioctl(rw, 0x4c01)); t('rrpart of a partition', lambda: fcntl.ioctl(p, 0x125f))
t('setra', lambda: fcntl.ioctl(rw, 0x1262, 64)); t('ra', lambda: get(p, 0x1263, 'Q')); t('bsz', lambda: fcntl.ioctl(rw, 0x40081271, struct.pack('I', 1000)))
t('flush', lambda: fcntl.ioctl(rw, 0x1261)); t('tty', lambda: os.isatty(rw))
t('setro', lambda: fcntl.ioctl(p, 0x125d, struct.pack('I', 1)) and None); t('ro', lambda: (get(rw, 0x125e, 'I'), get(p, 0x125e, 'I')))
t('write', lambda: os.pwrite(p, b'x', 0)); t('zero', lambda: pair(p, 0x127f, 0, 4096)); t('write', lambda: os.pwrite(rw, b'x', 0)); print(open('/sys/block/ubda/ubda2/ro').read().strip())
for mode, at, n in [(0, 0, 4096), (1, 0, 4096), (3, 0, 4096), (16, 0, 4096), (17, 0, 4096), (16, 100, 4096), (16, 15 << 20, 2 << 20), (17, 15 << 20, 2 << 20), (16, 16 << 20, 512), (8, 0, 4096), (7, 0, 4096)]:
    import ctypes; libc = ctypes.CDLL(None, use_errno=True)
    done = libc.fallocate(rw, mode, ctypes.c_long(at), ctypes.c_long(n)); print('fallocate', mode, at, n, done if done == 0 else errno.errorcode[ctypes.get_errno()])
d = os.open('/dev/ubda', os.O_RDWR | os.O_DIRECT)
import mmap; m = mmap.mmap(-1, 8192)
t('direct', lambda: os.preadv(d, [memoryview(m)[:512]], 512)); t('direct odd', lambda: os.preadv(d, [memoryview(m)[:512]], 100)); t('direct short', lambda: os.preadv(d, [memoryview(m)[:100]], 0))
t('direct end', lambda: os.preadv(d, [m], (16 << 20) - 512)); t('direct past', lambda: os.preadv(d, [m], 16 << 20)); t('write past', lambda: os.pwritev(d, [m], 16 << 20)); t('write end', lambda: os.pwritev(d, [m], (16 << 20) - 4096))
t('end', lambda: os.lseek(p, 0, 2)); t('seek', lambda: os.lseek(p, -1, 0)); t('truncate', lambda: os.ftruncate(rw, 0))
os.setresuid(65534, 65534, 65534)
for name, cmd in [('rrpart', 0x125f), ('flush', 0x1261), ('setra', 0x1262), ('blkpg', 0x1269)]: t(name, lambda: fcntl.ioctl(rw, cmd, 0))
t('setro', lambda: fcntl.ioctl(rw, 0x125d, struct.pack('I', 1)))
END
            python3 $T/ioctl.py; rm $T/ioctl.py",
        );
        assert_eq!(ran.output, include_str!("block_ioctls.expected"), "{backend:?}");
        natively(&format!(
            "printf 'size=4M\\nsize=4M\\n' | sfdisk -q --wipe never {}",
            disk.display()
        ));
    }
}

#[test]
fn counters_of_disks_and_partitions_tell_what_happened() {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", 64 * MIB);
    natively(&format!(
        "printf 'size=16M\\nsize=16M\\n' | sfdisk -q {}",
        disk.display()
    ));
    let ran = with_disk(
        Backend::Seccomp,
        &disk,
        "f() { awk -v n=$1 '$3 == n { print '\"$2\"' }' /proc/diskstats; }; e=$(f ubda '$6'); w=$(f ubda '$10')
        dd if=/dev/ubda2 of=/dev/null bs=1M count=8 iflag=direct 2>/dev/null; echo $(($(f ubda '$6') - e)) $(f ubda1 '$6') $(f ubda2 '$6')
        dd if=/dev/zero of=/dev/ubda1 bs=64k count=16 oflag=direct 2>/dev/null; f ubda1 '$8, $10, $12'; echo $(($(f ubda '$10') - w))
        dd if=/dev/zero of=/dev/ubda1 bs=64k count=1 conv=fsync 2>/dev/null; f ubda '$19'; blkdiscard -o 1M -l 2M /dev/ubda2; f ubda2 '$15, $17'
        awk '{ print NF }' /sys/block/ubda/stat /sys/block/ubda/ubda1/stat; cat /sys/block/ubda/inflight",
    );
    assert_eq!(
        ran.output,
        "16384 0 16384\n16 2048 0\n2048\n1\n1 4096\n17\n17\n       0        0\n"
    );
}

#[test]
fn lsblk_and_sysfs_know_every_device() {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", 64 * MIB);
    natively(&format!("printf \"{GPT}\" | sfdisk -q {}", disk.display()));
    let ran = with_disk(
        Backend::Seccomp,
        &disk,
        "lsblk -lno NAME,KNAME,PKNAME,MAJ:MIN,SIZE,START,TYPE,RO,RM,ROTA,LOG-SEC,PHY-SEC,MIN-IO,OPT-IO,ALIGNMENT,DISC-GRAN,RA,SCHED,RQ-SIZE,ZONED,DAX /dev/ubda | tr -s ' '
        lsblk -O /dev/ubda >/dev/null; echo $?
        cd /sys/block/ubda; cat size ubda1/start ubda2/size ubda2/partition range ext_range; cat ubda2/uevent | grep -v SEQ
        readlink /sys/class/block/ubda2 /sys/dev/block/98:2; echo 512 >queue/read_ahead_kb; blockdev --getra /dev/ubda2; ls -d holders slaves ubda1/holders; grep ubd /proc/devices
        sfdisk -q --delete /dev/ubda 2; ls -d /sys/class/block/ubd* /sys/dev/block/98:* /dev/ubd*",
    );
    assert_eq!(
        ran.output,
        "ubda ubda 98:0 64M disk 0 0 0 512 512 512 0 0 4K 128 none 128 none 0\n\
        ubda1 ubda1 ubda 98:1 8M 2048 part 0 0 0 512 512 512 0 0 4K 128 none 128 none 0\n\
        ubda2 ubda2 ubda 98:2 16M 18432 part 0 0 0 512 512 512 0 0 4K 128 none 128 none 0\n0\n\
        131072\n2048\n32768\n2\n16\n256\nMAJOR=98\nMINOR=2\nDEVNAME=ubda2\nDEVTYPE=partition\nPARTN=2\n\
        ../../devices/platform/uml-blkdev.0/block/ubda/ubda2\n../../devices/platform/uml-blkdev.0/block/ubda/ubda2\n1024\nholders\nslaves\nubda1/holders\n 98 ubd\n\
        /dev/ubda\n/dev/ubda1\n/sys/class/block/ubda\n/sys/class/block/ubda1\n/sys/dev/block/98:0\n/sys/dev/block/98:1\n"
    );
}

#[test]
fn what_nobody_synced_is_in_the_image_after_every_way_down() {
    let scratch = Scratch::new();
    for way in [
        "/bin/busybox poweroff -f",
        "/bin/busybox halt -f",
        "echo o >/proc/sysrq-trigger",
        "echo b >/proc/sysrq-trigger",
    ] {
        let disk = image(&scratch, "disk", MIB);
        let word = format!("ubda={}", disk.display());
        // The descriptor stays open: no close writes it back.
        let script = format!(
            "mount -t proc none /proc; exec 5<>/dev/ubda; echo unsynced >&5; L=$(losetup -f --show {}); exec 6<>$L; echo loop >&6; {way}; sleep 100",
            scratch.path().join("file").display()
        );
        fs::File::create(scratch.path().join("file"))
            .and_then(|file| file.set_len(MIB))
            .expect("a file");
        in_guest_with(Linux::hostfs(Backend::Seccomp).args([&word, "noreboot"]), &script);
        assert!(fs::read(&disk).expect("the image").starts_with(b"unsynced\n"), "{way}");
        let file = fs::read(scratch.path().join("file")).expect("the file");
        assert!(file.starts_with(b"loop\n"), "{way}");
    }
}

#[test]
fn the_root_device_is_found_by_every_name() {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", 64 * MIB);
    let fs = image(&scratch, "fs", 16 * MIB);
    natively(&format!(
        "printf \"{GPT}\" | sfdisk -q {0}; mke2fs -q -F -L rootfs -U 31111111-2222-3333-4444-555555555555 {1}; dd if={1} of={0} bs=1M seek=9 conv=notrunc",
        disk.display(),
        fs.display()
    ));
    let missing = |root: &str| {
        let words = [
            format!("ubda={}", disk.display()),
            format!("root=\"{root}\""),
            "rootfstype=none".to_string(),
        ];
        Linux::new().args(words).run().console()
    };
    for root in [
        "/dev/ubda2",
        "98:2",
        "6202",
        "0x6202",
        "LABEL=rootfs",
        "UUID=31111111-2222-3333-4444-555555555555",
        "PARTLABEL=two words",
        "PARTUUID=21111111-2222-3333-4444-555555555555",
        "PARTUUID=11111111-2222-3333-4444-555555555555/PARTNROFF=1",
    ] {
        let console = missing(root);
        assert!(console.contains("unknown-block(98,2)"), "{root}: {console}");
    }
    for root in [
        "LABEL=other",
        "PARTUUID=x/PARTNROFF=9999999999999999999",
        "PARTLABEL=",
        "/dev/ubda3",
        "=",
    ] {
        let console = missing(root);
        assert!(console.contains("unknown-block(0,0)"), "{root}: {console}");
    }
}

#[test]
fn ram_disks_come_when_asked_for_and_hold_a_file_system() {
    let script = "ls /dev/ram* | wc -l; blockdev --getsize64 /dev/ram1; mke2fs -q -F /dev/ram1; e2fsck -fn /dev/ram1 >/dev/null 2>&1; echo $?
        blkdiscard -f /dev/ram1 2>/dev/null; cmp -n 2097152 /dev/ram1 /dev/zero && echo zeros; printf 'size=1M\\n' | sfdisk -q /dev/ram0; ls /dev/ram0*; grep ram1 /proc/partitions | tr -s ' '";
    let linux = Linux::hostfs(Backend::Seccomp).args(["brd.rd_nr=2", "ramdisk_size=2048"]);
    assert_eq!(
        in_guest_with(linux, script).0.output,
        "2\n2097152\n0\nzeros\n/dev/ram0\n/dev/ram0p1\n 1 1 2048 ram1\n"
    );
    let ran = in_guest_with(
        Linux::hostfs(Backend::Seccomp),
        "ls /dev/ram0 2>/dev/null; mknod /dev/disk b 1 5; blockdev --getsize64 /dev/disk; ls /dev/ram*; mknod /dev/no b 1 200; blockdev --getsize64 /dev/no 2>&1 | sed 's/.*: //'",
    );
    assert_eq!(ran.0.output, "4194304\n/dev/ram5\nNo such device or address\n");
}
