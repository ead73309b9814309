//! Disks on host files as a user meets them: contents, partitions, flags, and file systems made and checked inside the guest.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use harness::script::{Scratch, in_guest_with, natively};
use harness::uml::in_uml;
use harness::{Backend, Linux};
use tests::disk_files::{Engine, MIB, image, ubda, with_disks};
use tests::for_each_engine;

for_each_engine! {
    a_disk_reads_as_its_image_and_writes_arrive_in_it;
    partitions_of_both_tables_have_their_files_and_sizes;
    partitions_made_in_the_guest_appear_and_go;
    a_file_system_made_in_the_guest_is_clean_there_and_on_the_host;
    a_discard_gives_blocks_back_to_the_host_unless_flag_t_forbids_it;
    a_read_only_disk_refuses_writes_in_every_way;
    a_length_that_is_no_whole_sector_is_rounded_up_with_zeros;
    flags_s_and_d_give_a_disk_like_any_other;
    a_shared_mapping_of_a_disk_reaches_the_image;
}

fn a_disk_reads_as_its_image_and_writes_arrive_in_it(engine: Engine) {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", 64 * MIB);
    let noise = scratch.path().join("noise");
    natively(&format!("head -c 1M /dev/urandom >{}", noise.display()));
    natively(&format!(
        "dd if={} of={} bs=1k seek=3000 conv=notrunc",
        noise.display(),
        disk.display()
    ));
    let native = natively(&format!("sha256sum <{}", disk.display())).output;
    let (ran, _) = engine.with_disks(
        &[ubda(&disk)],
        &format!(
            "sha256sum </dev/ubda; blockdev --getsize64 /dev/ubda
            dd if={0} of=/dev/ubda bs=64k seek=100 conv=fsync 2>/dev/null; dd if={0} of=/dev/ubda bs=4k seek=4096 oflag=direct 2>/dev/null
            dd if=/dev/ubda bs=4k skip=4096 count=256 iflag=direct 2>/dev/null | cmp - {0} && echo direct
            dd if=/dev/ubda bs=100 iflag=direct count=1 2>&1 | head -1; dd if=/dev/zero of=/dev/ubda bs=1M seek=64 2>&1 | head -1",
            noise.display()
        ),
    );
    assert_eq!(
        ran.output,
        format!(
            "{native}67108864\ndirect\ndd: error reading '/dev/ubda': Invalid argument\ndd: error writing '/dev/ubda': No space left on device\n"
        )
    );
    let contents = fs::read(&disk).expect("the image");
    let noise = fs::read(&noise).expect("the noise");
    assert!(
        contents[100 << 16..][..1 << 20] == noise[..],
        "what was synced is in the image"
    );
    assert!(
        contents[4096 << 12..][..1 << 20] == noise[..],
        "what was written directly is in the image"
    );
}

fn partitions_of_both_tables_have_their_files_and_sizes(engine: Engine) {
    let scratch = Scratch::new();
    let (mbr, gpt) = (image(&scratch, "mbr", 64 * MIB), image(&scratch, "gpt", 64 * MIB));
    for (table, disk) in [
        (
            "label: dos\\nsize=8M,type=83\\nsize=8M,type=82\\ntype=5\\nsize=8M,type=83\\nsize=4M\\n",
            &mbr,
        ),
        ("label: gpt\\nsize=8M,name=one\\nsize=16M\\n", &gpt),
    ] {
        let made = natively(&format!("printf '{table}' | sfdisk -q {}", disk.display()));
        assert_eq!(made.status, 0, "{}", made.output);
    }
    let words = [ubda(&mbr), format!("ubd1={}", gpt.display())];
    let (ran, _) = engine.with_disks(
        &words,
        "awk '/ubd/ { print $1, $2, $3, $4 }' /proc/partitions
        for d in a1 a3 a5 a6 b2; do blockdev --getsize64 /dev/ubd$d; done
        sfdisk -d /dev/ubda | grep -c start=; fdisk -l /dev/ubdb | grep -c '^/dev/ubdb'
        mount -t sysfs none /sys; blkid -s PARTLABEL /dev/ubdb1; lsblk -ln -o NAME,SIZE,TYPE",
    );
    assert_eq!(
        ran.output,
        "98 0 65536 ubda\n98 1 8192 ubda1\n98 2 8192 ubda2\n98 3 1 ubda3\n98 5 8192 ubda5\n98 6 4096 ubda6\n98 16 65536 ubdb\n98 17 8192 ubdb1\n98 18 16384 ubdb2\n\
        8388608\n1024\n8388608\n4194304\n16777216\n5\n2\n/dev/ubdb1: PARTLABEL=\"one\"\n\
        ubda   64M disk\nubda1   8M part\nubda2   8M part\nubda3   1K part\nubda5   8M part\nubda6   4M part\nubdb   64M disk\nubdb1   8M part\nubdb2  16M part\n"
    );
}

fn partitions_made_in_the_guest_appear_and_go(engine: Engine) {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", 64 * MIB);
    let (ran, _) = engine.with_disks(
        &[ubda(&disk)],
        "mount -t sysfs none /sys; printf 'label: dos\\nsize=4M\\nsize=8M\\n' | sfdisk -q /dev/ubda; ls /dev/ubda?
        delpart /dev/ubda 1; ls /dev/ubda?; addpart /dev/ubda 1 2048 8192; ls /dev/ubda?; addpart /dev/ubda 1 2048 8192 2>&1 | sed 's/.*: //'
        resizepart /dev/ubda 1 4096; blockdev --getsize64 /dev/ubda1; delpart /dev/ubda 7 2>&1 | sed 's/.*: //'
        blockdev --rereadpt /dev/ubda; blockdev --getsize64 /dev/ubda1; partx -d /dev/ubda; ls /dev/ubda?",
    );
    assert_eq!(
        ran.output,
        "/dev/ubda1\n/dev/ubda2\n/dev/ubda2\n/dev/ubda1\n/dev/ubda2\nDevice or resource busy\n2097152\nNo such device or address\n4194304\n\
        ls: cannot access '/dev/ubda?': No such file or directory\n"
    );
}

fn a_file_system_made_in_the_guest_is_clean_there_and_on_the_host(engine: Engine) {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", 64 * MIB);
    let file = scratch.path().join("file");
    let (ran, _) = engine.with_disks(
        &[ubda(&disk)],
        &format!(
            "truncate -s 32M {0}; for d in /dev/ubda {0}; do mkfs.ext4 -q -F $d && e2fsck -fn $d >/dev/null 2>&1; echo $?
            debugfs -w -R 'write /etc/passwd passwd' $d >/dev/null 2>&1; debugfs -R 'cat /passwd' $d 2>/dev/null | cmp - /etc/passwd && echo in; done",
            file.display()
        ),
    );
    assert_eq!(ran.output, "0\nin\n0\nin\n");
    for path in [disk, file] {
        let check = Command::new("e2fsck").arg("-fn").arg(&path).output().expect("e2fsck");
        assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stdout));
    }
}

fn a_discard_gives_blocks_back_to_the_host_unless_flag_t_forbids_it(engine: Engine) {
    let scratch = Scratch::new();
    let (punched, kept) = (image(&scratch, "punched", 16 * MIB), image(&scratch, "kept", 16 * MIB));
    let words = [ubda(&punched), format!("ubdbt={}", kept.display())];
    let (ran, _) = engine.with_disks(
        &words,
        "for d in a b; do dd if=/dev/urandom of=/dev/ubd$d bs=1M count=16 conv=fsync 2>/dev/null; blkdiscard -o 4M -l 8M /dev/ubd$d 2>&1 | sed 's/.*: //'; done
        dd if=/dev/ubda bs=1M skip=4 count=8 2>/dev/null | cmp -n 8388608 - /dev/zero && echo zeros
        blkdiscard -z -o 12M -l 1M /dev/ubda; dd if=/dev/ubda bs=1M skip=12 count=1 2>/dev/null | cmp -n 1048576 - /dev/zero && echo zeros",
    );
    assert_eq!(ran.output, "Operation not supported\nzeros\nzeros\n");
    let blocks = |path: &Path| fs::metadata(path).expect("the image").blocks() * 512;
    assert!(blocks(&punched) <= 8 * MIB, "{}", blocks(&punched));
    assert!(blocks(&kept) >= 16 * MIB, "{}", blocks(&kept));
}

fn a_read_only_disk_refuses_writes_in_every_way(engine: Engine) {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", MIB);
    for (word, prepare) in [
        (format!("ubdar={}", disk.display()), ""),
        (ubda(&disk), "blockdev --setro /dev/ubda;"),
    ] {
        let (ran, _) = engine.with_disks(
            &[word],
            &format!(
                "{prepare} blockdev --getro /dev/ubda; dd if=/etc/passwd of=/dev/ubda count=1 2>&1 | head -1
                python3 -c 'import mmap, os
fd = os.open(\"/dev/ubda\", os.O_RDWR)
try: mmap.mmap(fd, 4096)
except OSError as e: print(e)
print(mmap.mmap(os.open(\"/dev/ubda\", os.O_RDONLY), 4096, prot=mmap.PROT_READ)[0:2])'"
            ),
        );
        assert_eq!(
            ran.output,
            "1\ndd: writing to '/dev/ubda': Operation not permitted\n[Errno 22] Invalid argument\nb'\\x00\\x00'\n"
        );
    }
    assert!(fs::read(&disk).expect("the image").iter().all(|&byte| byte == 0));
}

#[test]
fn a_disk_tells_programs_of_old_what_real_uml_tells_them() {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", 64 * MIB);
    let script = "python3 -c 'import fcntl, struct
disk = open(\"/dev/ubda\")
print(struct.unpack(\"<256H\", fcntl.ioctl(disk, 0x30d, bytes(512))))
print(struct.unpack(\"<BBHQ\", fcntl.ioctl(disk, 0x301, bytes(16))[:4] + fcntl.ioctl(disk, 0x301, bytes(16))[8:]))'
        for size in bsz pbsz ss iomin size64; do blockdev --get$size /dev/ubda; done";
    let (uml, console) = in_uml(&[ubda(&disk)], script);
    let ours = with_disks(&[ubda(&disk)], script).0.output;
    assert_eq!(ours, uml, "{console}");
    assert!(ours.contains("(0, 32, 0, 128, 0, 0, 32, 0,"), "{ours}");
}

fn a_length_that_is_no_whole_sector_is_rounded_up_with_zeros(engine: Engine) {
    let scratch = Scratch::new();
    let disk = scratch.path().join("disk");
    fs::write(&disk, [b'x'; 1000]).expect("an image");
    let (ran, _) = engine.with_disks(
        &[ubda(&disk)],
        "blockdev --getsize64 /dev/ubda; tr '\\0' . </dev/ubda | tail -c 26; echo",
    );
    assert_eq!(ran.output, format!("1024\nxx{}\n", ".".repeat(24)));
}

#[test]
fn the_disk_of_root_fs_is_there_without_a_word_and_umls_words_are_understood() {
    let scratch = Scratch::new();
    image(&scratch, "root_fs", MIB);
    image(&scratch, "other", MIB);
    let linux = Linux::hostfs(Backend::Seccomp).directory(scratch.path()).args([
        "ubdbrs=other,,S1,ignored",
        "ubd010=none",
        "ubd16=x",
        "ubdceq=x",
        "ubd=98",
        "ubdb=again",
        "ubd=sync",
    ]);
    let (ran, _) = in_guest_with(
        linux,
        "mount -t sysfs none /sys; cat /sys/block/ubdb/serial; awk '/ubd/ { print $4 }' /proc/partitions; dmesg | grep -v 'command line'",
    );
    for text in [
        "S1\nubda\nubdb\n",
        "Failed to initialize ubd device 8 :Couldn't determine size of device's file",
        "Failed to initialize device with \"16=x\" : Device number out of range",
        "Failed to initialize device with \"ceq=x\" : Expected '=' or flag letter (r, s, c, t or d)",
        "Failed to initialize device with \"b=again\" : Device is already configured",
        "fake major not supported any more",
    ] {
        assert!(ran.output.contains(text), "{text}: {}", ran.output);
    }
}

fn flags_s_and_d_give_a_disk_like_any_other(engine: Engine) {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", MIB);
    for flags in ["s", "d", "sd", "scdt"] {
        let (ran, _) = engine.with_disks(
            &[format!("ubd0{flags}={}", disk.display())],
            &format!(
                "printf %-8s {flags} | dd of=/dev/ubda conv=fsync 2>/dev/null; head -c 8 /dev/ubda; blockdev --getsize64 /dev/ubda"
            ),
        );
        assert_eq!(ran.output, format!("{flags:<8}1048576\n"));
        assert!(fs::read(&disk).expect("the image").starts_with(flags.as_bytes()));
    }
}

fn a_shared_mapping_of_a_disk_reaches_the_image(engine: Engine) {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", MIB);
    let (ran, _) = engine.with_disks(
        &[ubda(&disk)],
        "python3 -c 'import mmap, os
fd = os.open(\"/dev/ubda\", os.O_RDWR)
m = mmap.mmap(fd, 8192); m[4090:4100] = b\"0123456789\"; print(os.pread(fd, 10, 4090)); os.pwrite(fd, b\"xy\", 4092); print(m[4090:4100]); m.flush()'",
    );
    assert_eq!(ran.output, "b'0123456789'\nb'01xy456789'\n");
    assert_eq!(&fs::read(&disk).expect("the image")[4090..4100], b"01xy456789");
}

#[test]
fn advice_on_a_mapping_decides_what_its_faults_read_and_starts_reading() {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", 64 * MIB);
    let (ran, _) = with_disks(
        &[ubda(&disk)],
        "python3 -c 'import mmap, os, time
m = mmap.mmap(os.open(\"/dev/ubda\", os.O_RDONLY), 64 << 20, prot=mmap.PROT_READ)
def count():
    seen = [-1, -2]
    while seen[-1] != seen[-2]:  # what is read ahead is counted when it has come
        time.sleep(0.05)
        seen.append(int([l for l in open(\"/proc/diskstats\") if \" ubda \" in l][0].split()[5]))
    return seen[-1]
def sectors(act):
    before = count(); act(); return count() - before
M = 1 << 20
m.madvise(mmap.MADV_RANDOM, 8 * M, 8 * M)
print(sectors(lambda: [m[at * M + 40960] for at in (9, 12, 10)]))
print(sectors(lambda: m[5 * M + 40960]))
m.madvise(mmap.MADV_NORMAL, 8 * M, 8 * M)
print(sectors(lambda: m[14 * M + 40960]))
print(sectors(lambda: m.madvise(mmap.MADV_WILLNEED, 32 * M, M)))
m.madvise(mmap.MADV_RANDOM, 32 * M, M)
print(sectors(lambda: [m[at] for at in range(32 * M, 33 * M, 4096)][:0]))
m.madvise(mmap.MADV_DONTNEED, 32 * M, M)
print(sectors(lambda: [m[at] for at in range(32 * M, 33 * M, 4096)][:0]))'",
    );
    assert_eq!(ran.output, "24\n128\n128\n2048\n0\n0\n");
}

#[test]
fn mincore_tells_what_is_cached_and_drop_caches_forgets_it() {
    let scratch = Scratch::new();
    let disk = image(&scratch, "disk", 16 * MIB);
    let (ran, _) = with_disks(
        &[ubda(&disk)],
        "python3 -c 'import ctypes, os
libc = ctypes.CDLL(None)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
disk = os.open(\"/dev/ubda\", os.O_RDONLY)
def resident():
    size = 16 << 20
    pages = ctypes.create_string_buffer(size // 4096)
    memory = libc.mmap(None, size, 1, 1, disk, 0)
    assert libc.mincore(ctypes.c_void_p(memory), ctypes.c_size_t(size), pages) == 0
    libc.munmap(ctypes.c_void_p(memory), ctypes.c_size_t(size))
    return sum(page & 1 for page in pages.raw[:size // 4096])
def cached():
    return [int(line.split()[1]) for line in open(\"/proc/meminfo\") if line.startswith(\"Cached:\")][0]
def drop():
    open(\"/proc/sys/vm/drop_caches\", \"w\").write(\"1\")
drop()
print(resident())
before = cached()
os.pread(disk, 16 << 20, 0)
print(resident(), cached() - before)
drop()
print(resident(), cached() - before)'",
    );
    assert_eq!(ran.output, "0\n4096 16384\n0 0\n");
}
