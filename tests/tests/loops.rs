//! Loop devices: what `losetup(8)` and its relatives do with them, on files of hostfs and tmpfs, on disks, and on each other.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use harness::script::{Ran, Scratch, in_guest_with, natively};
use harness::{Backend, Linux};
use tests::disk_files::{MIB, image};

/// Runs `script` with sysfs, `$F` being `file`.
fn with_file(backend: Backend, file: &Path, script: &str) -> Ran {
    let script = format!(
        "mount -t sysfs none /sys; F={}; T={}; export F T\n{script}",
        file.display(),
        file.parent().expect("a directory").display()
    );
    let mut ran = in_guest_with(Linux::hostfs(backend), &script).0;
    ran.output = ran.output.replace(&file.display().to_string(), "FILE");
    ran
}

#[test]
fn losetup_with_its_options() {
    let scratch = Scratch::new();
    for backend in Backend::ALL {
        let file = image(&scratch, "file", 64 * MIB);
        let ran = with_file(
            backend,
            &file,
            "l() { losetup -l -n --raw -O NAME,SIZELIMIT,OFFSET,AUTOCLEAR,RO,BACK-FILE,DIO,LOG-SEC,PARTSCAN,MAJ:MIN; }
            losetup -f; losetup -f --show $F; l; losetup -a | sed 's/\\[.*\\]:[0-9]* //'; losetup -d /dev/loop0; l
            losetup -r -o 1M --sizelimit 2M -f --show $F; l; blockdev --getsize64 --getro /dev/loop0; losetup -j $F -n -O NAME; losetup -D; l
            losetup --sector-size 4096 --direct-io=on -f --show $F; l; losetup --direct-io=off /dev/loop0; l; blockdev --getss --getpbsz /dev/loop0
            truncate -s 80M $F; blockdev --getsize64 /dev/loop0; losetup -c /dev/loop0; blockdev --getsize64 /dev/loop0
            losetup -L -f --show $F; losetup -L -f --show -o 4096 --sizelimit 4096 $F; losetup -D; l
            losetup /dev/loop77 $F; losetup -f; losetup -d /dev/loop77 /dev/loop78; losetup -d /dev/loop1; losetup /dev/loop1; losetup -f /nonexistent; losetup -f /dev
            truncate -s 1000 $F; losetup -f --show $F; blockdev --getsize64 /dev/loop0; losetup -D",
        );
        assert_eq!(ran.output, include_str!("losetup.expected"), "{backend:?}");
    }
}

#[test]
fn bytes_go_to_their_place_in_the_file_and_nowhere_else() {
    let scratch = Scratch::new();
    let file = image(&scratch, "file", 4 * MIB);
    natively(&format!(
        "yes pattern | dd of={} bs=1M count=4 iflag=fullblock conv=notrunc",
        file.display()
    ));
    let before = fs::read(&file).expect("the file");
    let ran = with_file(
        Backend::Seccomp,
        &file,
        "L=$(losetup -f --show -o 1000 --sizelimit 1000000 $F 2>/dev/null); blockdev --getsize64 $L
        dd if=/dev/zero of=$L bs=64k 2>&1 | head -1; dd if=/etc/passwd of=$L bs=512 seek=1 count=1 conv=sync 2>/dev/null; cmp -n 512 $L /dev/zero && echo zeros; losetup -D",
    );
    assert_eq!(
        ran.output,
        "999936\ndd: error writing '/dev/loop0': No space left on device\nzeros\n"
    );
    let after = fs::read(&file).expect("the file");
    assert!(before[..1000] == after[..1000] && before[1000 + 999_936..] == after[1000 + 999_936..]);
    let passwd = fs::read("/etc/passwd").expect("passwd");
    let mut block = passwd[..passwd.len().min(512)].to_vec();
    block.resize(512, 0);
    assert_eq!(after[1512..2024], block);
}

#[test]
fn a_sparse_file_stays_sparse_and_a_discard_makes_it_so_again() {
    let scratch = Scratch::new();
    let file = image(&scratch, "file", 256 * MIB);
    let ran = with_file(
        Backend::Seccomp,
        &file,
        "L=$(losetup -f --show $F); mkfs.ext4 -q $L && e2fsck -fn $L >/dev/null 2>&1; echo $?
        dd if=/dev/urandom of=$L bs=1M seek=64 count=64 conv=fsync 2>/dev/null; du -m $F | cut -f1 >$F.full; blkdiscard -f -o 64M -l 64M $L 2>/dev/null; fallocate -z -o 0 -l 1M $L; cmp -n 67108864 -i 67108864:0 $L /dev/zero && echo zeros
        losetup -D",
    );
    assert_eq!(ran.output, "0\nzeros\n");
    let full: u64 = fs::read_to_string(file.with_extension("full"))
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .expect("a number");
    let blocks = fs::metadata(&file).expect("the file").blocks() * 512;
    assert!(full >= 64, "{full} MiB");
    assert!(blocks <= 16 * MIB, "{blocks} bytes");
}

#[test]
fn partitions_of_a_loop_device_come_and_go_with_it() {
    let scratch = Scratch::new();
    let file = image(&scratch, "file", 64 * MIB);
    natively(&format!(
        "printf 'label: gpt\\nsize=8M\\nsize=16M\\n' | sfdisk -q {}",
        file.display()
    ));
    for backend in Backend::ALL {
        let ran = with_file(
            backend,
            &file,
            "L=$(losetup -P -f --show $F); ls $L*; lsblk -lno NAME,MAJ:MIN,SIZE,TYPE $L | tr -s ' '; awk '$1 == 259' /proc/partitions | tr -s ' '
            mkfs.ext4 -q ${L}p2 && e2fsck -fn ${L}p2 >/dev/null 2>&1; echo $?; cat /sys/block/loop0/loop/partscan; ls -d /sys/class/block/loop0p1 /sys/dev/block/259:*
            sfdisk -q --delete $L 1; ls $L*; losetup -d $L; ls $L*; losetup -f --show $F; ls $L*; partx -a $L; ls $L*; partx -d $L; blockdev --rereadpt $L; losetup -D
            losetup -P -f --show -o 0 --sizelimit 1M $F; ls $L*; losetup -D",
        );
        assert_eq!(
            ran.output,
            "/dev/loop0\n/dev/loop0p1\n/dev/loop0p2\nloop0 7:0 64M loop\nloop0p1 259:0 8M part\nloop0p2 259:1 16M part\n 259 0 8192 loop0p1\n 259 1 16384 loop0p2\n\
            0\n1\n/sys/class/block/loop0p1\n/sys/dev/block/259:0\n/sys/dev/block/259:1\n\
            /dev/loop0\n/dev/loop0p2\n/dev/loop0\n/dev/loop0\n/dev/loop0\n/dev/loop0\n/dev/loop0p2\nblockdev: ioctl error on BLKRRPART: Invalid argument\n\
            /dev/loop0\n/dev/loop0\n",
            "{backend:?}"
        );
        natively(&format!(
            "printf 'label: gpt\\nsize=8M\\nsize=16M\\n' | sfdisk -q --wipe always {}",
            file.display()
        ));
    }
}

#[test]
fn loops_lie_on_tmpfs_on_disks_and_on_loops() {
    let scratch = Scratch::new();
    let (file, disk) = (image(&scratch, "file", 64 * MIB), image(&scratch, "disk", 64 * MIB));
    let script = format!(
        "mount -t sysfs none /sys; T={}; mkdir -p $T/mnt; mount -t tmpfs none $T/mnt; truncate -s 64M $T/mnt/file
        for F in {} /dev/ubda $T/mnt/file; do A=$(losetup -f --show $F); B=$(losetup -f --show $A); C=$(losetup -f --show -o 1M $B); echo $A $B $C; mkfs.ext4 -q $C; e2fsck -fn $C >/dev/null 2>&1; echo $?
        (dd if=/dev/zero of=$C bs=1M conv=fsync & dd if=$B of=/dev/null bs=64k 2>/dev/null & dd if=/dev/zero of=$C bs=4k count=500 oflag=direct 2>/dev/null & sync & wait) 2>&1 | grep -v -e records -e copied; cmp -n 66060288 $C /dev/zero && echo zeros
        blkdiscard -f $C 2>/dev/null; losetup -d $A; losetup -a | wc -l; losetup -D; losetup -a; done; umount $T/mnt; rmdir $T/mnt",
        scratch.path().display(),
        file.display()
    );
    for backend in Backend::ALL {
        let linux = Linux::hostfs(backend).arg(format!("ubda={}", disk.display()));
        let one =
            "/dev/loop0 /dev/loop1 /dev/loop2\n0\ndd: error writing '/dev/loop2': No space left on device\nzeros\n3\n";
        assert_eq!(in_guest_with(linux, &script).0.output, one.repeat(3), "{backend:?}");
    }
    let blocks = fs::metadata(&file).expect("the file").blocks() * 512;
    assert!(blocks <= 4 * MIB, "the discard has come down to the file: {blocks}");
}

#[test]
fn a_full_or_shortened_file_is_an_error_and_no_hang() {
    let scratch = Scratch::new();
    let file = image(&scratch, "file", MIB);
    let ran = with_file(
        Backend::Seccomp,
        &file,
        "mkdir $T/mnt; mount -t tmpfs -o size=4M none $T/mnt; truncate -s 16M $T/mnt/file; L=$(losetup -f --show $T/mnt/file)
        dd if=/dev/zero of=$L bs=1M conv=fsync 2>&1 | sed -n 's/^dd: \\(f[a-z]*\\) .*: /\\1: /p'; dd if=/dev/zero of=$L bs=1M seek=8 count=2 oflag=direct 2>&1 | sed -n 's/^dd:.*: /direct: /p'; losetup -d $L; umount $T/mnt; rmdir $T/mnt
        L=$(losetup -f --show $F); truncate -s 4096 $F; cmp -n 1048576 $L /dev/zero && echo zeros; blockdev --flushbufs $L; losetup -d $L; dmesg | grep -c 'I/O error, dev loop0'",
    );
    let lines: Vec<&str> = ran.output.lines().collect();
    assert_eq!(
        lines[..3],
        [
            "fsync: No space left on device",
            "direct: No space left on device",
            "zeros"
        ],
        "{}",
        ran.output
    );
}

#[test]
fn ioctls_of_loop_devices_answer_and_refuse_as_linux_does() {
    let scratch = Scratch::new();
    let file = image(&scratch, "file", 8 * MIB);
    for backend in Backend::ALL {
        natively(&format!("truncate -s 8M {}", file.display()));
        let ran = with_file(
            backend,
            &file,
            "cat >$T/loop.py <<'END'
import os, fcntl, struct, errno, mmap
CTL = os.open('/dev/loop-control', os.O_RDWR); F = os.environ['F']
def t(name, f):
    try: print(name, f())
    except OSError as e: print(name, errno.errorcode[e.errno])
io = lambda fd, cmd, arg=0: fcntl.ioctl(fd, cmd, arg)
ADD, REMOVE, FREE = 0x4c80, 0x4c81, 0x4c82
for name, cmd, arg in [('free', FREE, 0), ('add', ADD, 20), ('add', ADD, 20), ('remove', REMOVE, 20), ('remove', REMOVE, 20), ('remove', REMOVE, -1), ('remove', REMOVE, 1), ('free', FREE, 0), ('add', ADD, -1), ('bad', 0x4c99, 0)]:
    t(name, lambda: io(CTL, cmd, arg))
def config(fd, flags=0, block=0, offset=0, limit=0, encrypt=0):
    return struct.pack('II3QQQIIII64s64s32s2Q8Q', fd, block, 0, 0, 0, offset, limit, 0, encrypt, 0, flags, b'name', b'', b'', 0, 0, *[0] * 8)
img = os.open(F, os.O_RDWR); lo = os.open('/dev/loop0', os.O_RDWR)
status = lambda fd: struct.unpack('5Q4I64s64s32s2Q', fcntl.ioctl(fd, 0x4c05, bytes(232)))
for name, cmd in [('status', 0x4c05), ('status', 0x4c03), ('set status', 0x4c04), ('clear', 0x4c01), ('capacity', 0x4c07), ('dio', 0x4c08), ('block', 0x4c09)]:
    t('free ' + name, lambda: fcntl.ioctl(lo, cmd, bytes(232)) if cmd in (0x4c03, 0x4c04, 0x4c05) else io(lo, cmd, 512))
t('flags', lambda: fcntl.ioctl(lo, 0x4c0a, config(img, flags=32))); t('block', lambda: fcntl.ioctl(lo, 0x4c0a, config(img, block=1000)))
t('offset', lambda: fcntl.ioctl(lo, 0x4c0a, config(img, offset=1 << 63))); t('encrypt', lambda: fcntl.ioctl(lo, 0x4c0a, config(img, encrypt=1)))
t('bad fd', lambda: fcntl.ioctl(lo, 0x4c0a, config(999))); t('fault', lambda: io(lo, 0x4c0a, 1))
t('configure', lambda: len(fcntl.ioctl(lo, 0x4c0a, config(img, flags=4)))); t('again', lambda: fcntl.ioctl(lo, 0x4c0a, config(img)))
s = status(lo); st = os.stat(F); print(s[0] == st.st_dev, s[1] == st.st_ino, s[2:9], s[9].rstrip(bytes(1)))
t('remove bound', lambda: io(CTL, REMOVE, 0)); there = lambda: os.path.exists('/sys/block/loop0/loop')
lo2 = os.open('/dev/loop0', os.O_RDONLY); os.close(lo); print(there()); os.close(lo2); print(there())
t('add', lambda: io(CTL, ADD, 1)); a, b = os.open('/dev/loop0', os.O_RDWR), os.open('/dev/loop1', os.O_RDWR)
t('set', lambda: io(a, 0x4c00, img)); t('set', lambda: io(b, 0x4c00, a)); t('clear b', lambda: io(b, 0x4c01)); t('clear a', lambda: io(a, 0x4c01))
t('itself', lambda: io(b, 0x4c00, b)); t('on a free one', lambda: io(b, 0x4c00, a)); t('dir', lambda: io(a, 0x4c00, os.open('/', os.O_RDONLY)))
t('set', lambda: io(a, 0x4c00, img)); t('set', lambda: io(b, 0x4c00, a)); t('circle', lambda: io(a, 0x4c06, b)); t('clear b', lambda: io(b, 0x4c01))
t('lazy', lambda: (os.dup(a), x := os.open('/dev/loop0', 0), io(a, 0x4c01), status(a)[8], os.close(x), io(a, 0x4c01))[2:4])
t('set', lambda: io(a, 0x4c00, img)); t('block', lambda: io(a, 0x4c09, 1000)); t('block', lambda: io(a, 0x4c09, 2048)); t('block', lambda: io(a, 0x4c09, 8192)); t('change', lambda: io(a, 0x4c06, img))
d = os.open('/dev/loop0', os.O_RDWR | os.O_DIRECT); m = mmap.mmap(-1, 4096)
t('direct 512', lambda: os.preadv(d, [memoryview(m)[:512]], 0)); t('direct 2048', lambda: os.preadv(d, [m], 2048))
os.truncate(F, 16 << 20); t('capacity', lambda: io(a, 0x4c07)); print(os.lseek(a, 0, 2)); t('geometry', lambda: fcntl.ioctl(a, 0x301, bytes(16)))
info = struct.pack('5Q4I64s64s32s2Q', 0, 0, 0, 4096, 8192, 0, 0, 0, 4, b'other', b'', b'', 0, 0)
t('set status', lambda: len(fcntl.ioctl(a, 0x4c04, info))); print(os.lseek(a, 0, 2), status(a)[3:5], status(a)[8])
t('old status', lambda: struct.unpack('ixxxxQQQiIII', fcntl.ioctl(a, 0x4c03, bytes(168))[:48])[4:])
x = os.open('/dev/loop0', os.O_RDONLY); os.setresuid(65534, 65534, 65534)
for name, cmd in [('capacity', 0x4c07), ('dio', 0x4c08), ('block', 0x4c09)]: t('reader ' + name, lambda: io(x, cmd, 512))
t('reader set status', lambda: fcntl.ioctl(x, 0x4c04, info)); t('reader clear', lambda: io(x, 0x4c01))
END
            python3 $T/loop.py; rm $T/loop.py; losetup -D",
        );
        assert_eq!(ran.output, include_str!("loop_ioctls.expected"), "{backend:?}");
    }
}

#[test]
fn a_module_that_is_built_in_loads_and_others_do_not() {
    let scratch = Scratch::new();
    let file = image(&scratch, "loop.ko", 0);
    let ran = with_file(
        Backend::Seccomp,
        &file,
        "m() { printf '.section .modinfo,\"a\"\\n.byte 0\\n.asciz \"name=%s\"\\n.byte 0\\n' $1 | as -o $F -; shift; insmod $F \"$@\"; echo $?; }
        m loop; m brd rd_nr=3 rd_size=1024; ls /dev/ram*; blockdev --getsize64 /dev/ram2; m nvidia 2>&1 | tail -1; ls -d /sys/module/loop /sys/module/brd; cat /sys/module/loop/parameters/max_loop",
    );
    assert_eq!(
        ran.output,
        "0\n0\n/dev/ram0\n/dev/ram1\n/dev/ram2\n1048576\n1\n/sys/module/brd\n/sys/module/loop\n8\n"
    );
}

#[test]
fn max_loop_says_how_many_there_are() {
    let ran = in_guest_with(
        Linux::hostfs(Backend::Seccomp).arg("max_loop=3"),
        "ls /dev/loop*; mknod /dev/x b 7 9; blockdev --getsize64 /dev/x; ls /dev/loop9",
    );
    assert_eq!(
        ran.0.output,
        "/dev/loop-control\n/dev/loop0\n/dev/loop1\n/dev/loop2\n0\n/dev/loop9\n"
    );
}

#[test]
fn mount_o_loop_binds_and_umount_lets_go() {
    let scratch = Scratch::new();
    let file = image(&scratch, "file", 128 * MIB);
    for backend in Backend::ALL {
        let ran = with_file(
            backend,
            &file,
            "mkdir -p $T/a $T/b; mkfs.ext4 -q -F $F; mount -o loop $F $T/a; echo $?; losetup -l -n --raw -O NAME,AUTOCLEAR,RO,BACK-FILE
            cp -r /etc/init.d $T/a; truncate -s 32M $T/a/inner; mkfs.ext4 -q $T/a/inner; mount -o loop $T/a/inner $T/b; echo $?; cp -r /etc/init.d $T/b; diff -r /etc/init.d $T/b/init.d && echo equal
            mkfs.ext4 -q -F /dev/loop0; blockdev --rereadpt /dev/loop0; losetup -f; umount $T/b; losetup -l -n --raw -O NAME; umount $T/a; losetup -a; e2fsck -fn $F >/dev/null 2>&1; echo $?
            mount -o loop,ro $F $T/a; cat /sys/block/loop0/ro; touch $T/a/x 2>&1 | sed 's/.*: //'; e2fsck -fn $T/a/inner >/dev/null 2>&1; echo $?; umount $T/a
            L=$(losetup -f --show $F); mount $L $T/a; losetup -d $L; losetup -l -n --raw -O NAME,AUTOCLEAR; umount $T/a; losetup -a
            mount -o loop $F $T/a; (cd $T/a; exec sleep 2) & sleep 0.5; umount -l $T/a; losetup -l -n --raw -O NAME; wait; losetup -a
            mount -o loop,offset=1M $F $T/a 2>/dev/null; echo $?; losetup -a",
        );
        assert_eq!(
            ran.output,
            "0\n/dev/loop0 1 0 FILE\n0\nequal\n/dev/loop0 is mounted; will not make a filesystem here!\nblockdev: ioctl error on BLKRRPART: Device or resource busy\n/dev/loop2\n\
            /dev/loop0\n0\n1\nRead-only file system\n0\n/dev/loop0 1\n/dev/loop0\n32\n",
            "{backend:?}"
        );
        let blocks = fs::metadata(&file).expect("the file").blocks() * 512;
        assert!(blocks < 32 * MIB, "{blocks} bytes");
    }
}
