//! ext4's ioctls as programs use them: flags and projects (`chattr`, `lsattr`), maps of files (`filefrag`). What is expected is what Linux says to
//! the same script; what lies on the disk is read by `debugfs`.

use harness::script::{Scratch, natively};
use tests::disk_files::{assert_clean, formatted, succeeded, ubda, with_disks};

/// Runs `script` in a guest, in the fresh file system on /dev/ubda.
fn inside(disk: &std::path::Path, script: &str) -> String {
    let script = format!(
        "export PATH=$PATH:/sbin:/usr/sbin; mkdir /dev/at; mount /dev/ubda /dev/at && cd /dev/at && (\n{script}\n); cd /; umount /dev/at"
    );
    let (ran, outcome) = with_disks(&[ubda(disk)], &script);
    succeeded(&ran, &outcome.console());
    ran.output
}

#[test]
fn projects_are_given_shown_and_inherited() {
    let scratch = Scratch::new();
    let disk = formatted(&scratch, "disk", "-t ext4 -O project");
    let output = inside(
        &disk,
        "mkdir p; chattr -p 4711 p; chattr +P p; echo x >p/f; mkdir p/d; lsattr -pd p p/f p/d | cut -c1-27
        chattr -p 12 p/f; chattr +i p/f; chattr -p 13 p/f; echo $?; lsattr -p p/f | cut -c1-27; chattr -i p/f
        chattr -p 4294967295 p/f; echo $?; mv p/f f; ln f p/f; echo $?",
    );
    assert_eq!(
        output,
        " 4711 --------------e----P-
 4711 --------------e------
 4711 --------------e----P-
chattr: Operation not permitted while setting project on p/f
1
   12 ----i---------e------
chattr: Invalid argument while setting project on p/f
1
ln: failed to create hard link 'p/f' => 'f': Invalid cross-device link
1
"
    );
    assert_clean(&disk, "after the projects");
    let shown = natively(&format!("debugfs -R 'stat /f' {}", disk.display()));
    assert!(shown.output.contains("Project:    12"), "{}", shown.output);
}

/// `FS_IOC_FSSETXATTR` with each word of flags and then with none, on a file and on a directory.
const SET: &str = "mkdir d; : >f; python3 - <<'END'
import errno, fcntl, os, struct
def get(path):
    fd = os.open(path, os.O_RDONLY)
    told = bytearray(28)
    fcntl.ioctl(fd, 0x801c581f, told)
    return struct.unpack('5I8s', told)[0:4:3]
def put(path, flags, project):
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, 0x401c5820, struct.pack('5I8s', flags, 0, 0, project, 0, b''))
        return 'ok'
    except OSError as error:
        return errno.errorcode[error.errno]
for flags in (1, 8, 16, 32, 64, 128, 0x200, 0x800, 0x1000, 0x80000000, 0x21):
    print(hex(flags), put('f', flags, 0), get('f'), put('f', 0, 0), put('d', flags, 0), get('d'), put('d', 0, 0))
print(put('f', 0, 0xffffffff), put('f', 32, 5), get('f'))
END
for flag in P T; do chattr +$flag f 2>/dev/null; echo $?; done";

#[test]
fn flags_under_their_common_names_are_taken_and_refused_as_by_linux() {
    let scratch = Scratch::new();
    let disk = formatted(&scratch, "disk", "-t ext4");
    // From Linux 6.18, which has projects in its file system no more than this image.
    assert_eq!(
        inside(&disk, SET),
        "0x1 ok (0, 0) ok ok (0, 0) ok
0x8 ok (8, 0) ok ok (8, 0) ok
0x10 ok (16, 0) ok ok (16, 0) ok
0x20 ok (32, 0) ok ok (32, 0) ok
0x40 ok (64, 0) ok ok (64, 0) ok
0x80 ok (128, 0) ok ok (128, 0) ok
0x200 ENOTSUP (0, 0) ok ok (512, 0) ok
0x800 ok (0, 0) ok EINVAL (0, 0) ok
0x1000 EINVAL (0, 0) ok ok (0, 0) ok
0x80000000 ok (0, 0) ok ok (0, 0) ok
0x21 ok (32, 0) ok ok (32, 0) ok
EINVAL ENOTSUP (32, 0)
1
1
"
    );
    assert_clean(&disk, "after the flags");
}

/// `FS_IOC_FIEMAP` of a file with holes, four written pieces and an unwritten one; of an empty file, of attributes in the inode.
const MAP: &str = "truncate -s 10M h; for i in 1 3 5 7; do dd if=/dev/zero bs=4k count=$i seek=$((i*10)) of=h conv=notrunc status=none; done
fallocate -o 2M -l 1M h; : >e; echo x >f; setfattr -n user.y -v s f; sync; stat -c %o h; python3 - <<'END'
import errno, fcntl, os, struct
M = (1 << 64) - 1
def told(path, start, length, flags, room):
    fd = os.open(path, os.O_RDONLY)
    raw = bytearray(32 + 56 * min(room, 60))
    struct.pack_into('QQIIII', raw, 0, start, length, flags, 0, room, 0)
    try:
        fcntl.ioctl(fd, 0xc020660b, raw)
        said = 'ok'
    except OSError as error:
        said = errno.errorcode[error.errno]
    back, count = struct.unpack_from('II', raw, 16)
    found = []
    for i in range(min(count, room)):
        logical, physical, length = struct.unpack_from('QQQ', raw, 32 + 56 * i)
        found.append((logical, physical != 0, length, hex(struct.unpack_from('I', raw, 72 + 56 * i)[0])))
    return said, count, hex(back), found
for asked in (('h', 0, M, 0, 0), ('h', 0, M, 0, 2), ('h', 0, M, 0, 50), ('h', 0, 4096, 0, 5), ('h', 40960, 1, 0, 5), ('h', 40960, 0, 0, 5),
        ('h', 45056, M, 0, 5), ('h', 131072, 4096, 0, 5), ('h', 131072, 4097, 0, 1), ('h', M, 1, 0, 1), ('h', 1 << 50, M, 0, 1),
        ('h', 10 << 20, 4096, 0, 5), ('h', (2 << 20) + 5000, 100, 0, 5), ('h', 0, M, 8, 5), ('h', 0, M, 0x80000001, 5), ('h', 0, M, 4, 1),
        ('h', 0, M, 2, 5), ('e', 0, M, 0, 5), ('f', 0, M, 2, 5), ('f', 0, M, 1, 5), ('h', 0, M, 0, 0xffffffff),
        ('h', (1 << 42) - 1024, 1, 0, 5), ('h', (1 << 42) - 1025, 1, 0, 5)):
    print(asked[0], *(hex(word) for word in asked[1:]), *told(*asked))
END";

/// What Linux 6.18 says to it.
const MAPPED: &str = include_str!("ext4_fiemap.expected");

#[test]
fn maps_are_cut_marked_and_refused_as_by_linux() {
    let scratch = Scratch::new();
    let disk = formatted(&scratch, "disk", "-t ext4 -b 1024");
    let output = inside(&disk, MAP);
    assert!(output == MAPPED, "{output}");
    assert_clean(&disk, "after the maps");
}

#[test]
fn filefrag_and_debugfs_agree_where_a_file_lies() {
    for how in ["-t ext4 -b 4096", "-t ext4 -b 1024", "-t ext3 -b 1024"] {
        let scratch = Scratch::new();
        let disk = formatted(&scratch, "disk", how);
        let output = inside(
            &disk,
            "for i in $(seq 60); do dd if=/dev/zero bs=3k count=1 seek=$((i*i%97*7)) of=pieces conv=notrunc status=none; [ $((i%9)) = 0 ] && sync; done
            sync; filefrag -v pieces | sed -n 's/^ *[0-9]*: *\\([0-9]*\\)\\.\\. *\\([0-9]*\\): *\\([0-9]*\\)\\.\\. .*/\\1 \\2 \\3/p'",
        );
        let mut told = Vec::new();
        for line in output.lines() {
            let numbers: Vec<u64> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
            told.extend((numbers[0]..=numbers[1]).map(|block| (block, numbers[2] + block - numbers[0])));
        }
        assert!(told.len() > 40, "{how}: {output}");
        let mut script = String::new();
        for (block, _) in &told {
            script += &format!("bmap /pieces {block}\n");
        }
        let requests = scratch.path().join("requests");
        std::fs::write(&requests, script).expect("the requests");
        let shown = natively(&format!("debugfs -f {} {}", requests.display(), disk.display()));
        let places = shown.output.lines().filter_map(|line| line.trim().parse::<u64>().ok());
        assert_eq!(
            told.iter().map(|(_, place)| *place).collect::<Vec<_>>(),
            places.collect::<Vec<_>>(),
            "{how}: {output}{}",
            shown.output
        );
    }
}
