//! Disks on the running machine, added and removed as the management console does it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use arch_um::Errno;
use kernel::block::{self, BioFlags, BlockDevice, Claim, Disk};
use kernel::io::{SliceSink, SliceSource};
use kernel::vfs::DevT;

const TESTS: &[harness::machine::Test] = &[
    ("disks_come_and_go_while_the_machine_runs", disks_come_and_go),
    (
        "a_disk_that_is_open_cannot_be_removed",
        a_disk_that_is_open_cannot_be_removed,
    ),
    (
        "what_was_written_is_in_the_file_of_a_removed_disk",
        what_was_written_is_in_the_file,
    ),
    ("errors_are_umls", errors_are_umls),
    (
        "a_throw_away_disk_never_writes_its_files",
        a_throw_away_disk_never_writes_its_files,
    ),
    ("a_discard_is_refused_with_flag_t", a_discard_is_refused_with_flag_t),
    (
        "a_write_with_force_unit_access_is_complete_in_the_file",
        a_write_with_force_unit_access_is_complete_in_the_file,
    ),
];

fn main() -> ExitCode {
    harness::machine::main(TESTS, |test| {
        arch_um::cpu::run(
            1,
            Box::new(move || {
                test();
                arch_um::exit::exit(0)
            }),
        )
    })
}

/// An image of 1 MiB of sevens in the working directory.
fn image(name: &str) -> PathBuf {
    fs::write(name, vec![7; 1 << 20]).expect("an image");
    fs::canonicalize(name).expect("an image of our own")
}

fn disk(number: u32) -> Arc<Disk> {
    block::disk::lookup(DevT::new(98, number * 16)).expect("a disk").0
}

fn device(number: u32) -> Arc<BlockDevice> {
    BlockDevice::open(DevT::new(98, number * 16), Claim::Shared).expect("it opens")
}

fn absent(number: u32) -> bool {
    block::disk::lookup(DevT::new(98, number * 16)).is_err()
}

fn read(disk: &Disk, at: u64) -> [u8; 512] {
    let mut data = [0; 512];
    disk.cache().read(at, &mut SliceSink::new(&mut data)).expect("it reads");
    data
}

fn write(disk: &Disk, at: u64, byte: u8) {
    disk.cache()
        .write(at, &mut SliceSource::new(&[byte; 512]))
        .expect("it writes");
}

fn disks_come_and_go() {
    image("plain");
    image("back");
    assert_eq!(ubd::get_config(1).as_deref(), Ok(""));
    ubd::config("b=plain").expect("it is added");
    ubd::config("2r=cow:back").expect_err("a read-only disk makes no COW file");
    ubd::config("2=cow:back,serial").expect("it is added");
    assert_eq!(ubd::get_config(1).as_deref(), Ok("plain"));
    let back = fs::canonicalize("back").expect("the backing file");
    assert_eq!(ubd::get_config(2), Ok(format!("cow,{}", back.display())));
    assert_eq!(disk(2).serial().as_deref(), Some("serial"));
    assert_eq!((disk(1).len(), read(&disk(2), 4096)), (1 << 20, [7; 512]));
    for number in [1, 2] {
        ubd::remove(number).expect("it is removed");
        assert!(absent(number));
        assert_eq!(ubd::get_config(number).as_deref(), Ok(""));
    }
    // The locks are gone with the disks.
    ubd::config("b=plain").expect("it is added again");
    ubd::config("c=cow").expect("it is added again, its backing file found");
    assert_eq!(ubd::get_config(2), Ok(format!("cow,{}", back.display())));
}

fn a_disk_that_is_open_cannot_be_removed() {
    image("plain");
    ubd::config("p=plain").expect("it is added");
    let open = device(15);
    let refusal = ubd::remove(15).expect_err("it is open");
    assert_eq!(
        (refusal.errno(), refusal.text()),
        (Errno::EBUSY, "Device is currently open")
    );
    write(&disk(15), 0, 1);
    drop(open);
    ubd::remove(15).expect("it is closed");
}

fn what_was_written_is_in_the_file() {
    image("plain");
    image("back");
    ubd::config("a=plain").expect("it is added");
    ubd::config("b=cow,back").expect("it is added");
    for number in [0, 1] {
        write(&disk(number), 8192, 9);
        ubd::remove(number).expect("it is removed");
    }
    assert_eq!(fs::read("plain").expect("the image")[8192..8704], [9; 512]);
    ubd::config("b=cow").expect("it is added");
    assert_eq!((read(&disk(1), 8192), read(&disk(1), 4096)), ([9; 512], [7; 512]));
    assert!(
        fs::read("back")
            .expect("the backing file")
            .iter()
            .all(|&byte| byte == 7)
    );
}

fn errors_are_umls() {
    image("plain");
    ubd::config("a=plain").expect("it is added");
    let refused = |text: &str, errno: Errno, words: &str| {
        let refusal = ubd::config(text).expect_err(text);
        assert_eq!(refusal.errno(), errno, "{text}: {refusal}");
        assert!(refusal.text().contains(words), "{text}: {refusal}");
    };
    refused("a=other", Errno::EBUSY, "Device is already configured");
    refused("16=other", Errno::EINVAL, "Device number out of range");
    refused(
        "bx=other",
        Errno::EINVAL,
        "Expected '=' or flag letter (r, s, c, t or d)",
    );
    refused("bd=cow,back", Errno::EINVAL, "Can't specify both 'd' and a cow file");
    refused("b=missing", Errno::ENOENT, "cannot be opened");
    refused("b=plain,plain", Errno::EAGAIN, "already locked by pid");
    refused("b=.", Errno::EINVAL, "neither a file nor a block device");
    File::create("empty").expect("a file");
    refused("b=empty", Errno::EINVAL, "is empty");
    fs::write("other", [7; 4096]).expect("a file");
    refused(
        "b=other,plain",
        Errno::EINVAL,
        "Failed to read COW header from COW file \"other\", errno = 22",
    );
    fs::write("qcow2", b"QFI\xfb\0\0\0\x03").expect("a file");
    refused("b=qcow2", Errno::EOPNOTSUPP, "is a qcow2 image");
    ubd::config("bd=qcow2").expect("as plain data");
    ubd::remove(1).expect("it is removed");
    assert_eq!(ubd::remove(1).expect_err("it is not there").errno(), Errno::ENODEV);
    assert_eq!(
        ubd::get_config(16).expect_err("no disk has it").text(),
        "ubd_get_config : device number out of range"
    );
}

fn a_throw_away_disk_never_writes_its_files() {
    image("plain");
    image("back");
    ubd::config("a=cow,back").expect("it is added");
    write(&disk(0), 0, 9);
    ubd::remove(0).expect("it is removed");
    let before = fs::read("cow").expect("the COW file");
    ubd::config("=throwaway").expect("from now on");
    ubd::config("a=cow").expect("it is added");
    ubd::config("b=plain").expect("it is added");
    ubd::config("c=plain").expect("whoever throws away shares");
    ubd::config("d=none,back").expect("a COW file is not even made");
    for number in 0..4 {
        write(&disk(number), 4096, 5);
        disk(number).cache().sync().expect("it syncs");
        disk(number).cache().invalidate(0..1 << 20).expect("it forgets");
        assert_eq!(
            (read(&disk(number), 4096), read(&disk(number), 8192)),
            ([5; 512], [7; 512])
        );
    }
    assert_eq!(read(&disk(0), 0), [9; 512]);
    assert!(fs::read("cow").expect("the COW file") == before);
    for name in ["plain", "back"] {
        assert!(fs::read(name).expect("a file").iter().all(|&byte| byte == 7));
    }
    assert!(fs::metadata("none").is_err());
}

fn a_discard_is_refused_with_flag_t() {
    image("trims");
    image("keeps");
    ubd::config("a=trims").expect("it is added");
    ubd::config("bt=keeps").expect("it is added");
    let (trims, keeps) = (device(0), device(1));
    assert_eq!((trims.can_discard(), keeps.can_discard()), (true, false));
    trims.discard(4096, 8192).expect("it discards");
    assert_eq!(keeps.discard(4096, 8192), Err(Errno::EOPNOTSUPP));
    for (device, byte) in [(trims, 0), (keeps, 7)] {
        device.write_zeroes(65536, 70_144).expect("it zeros");
        let mut zeroed = vec![1; 70_144];
        device.read(65536, &mut zeroed).expect("it reads");
        assert!(zeroed.iter().all(|&byte| byte == 0));
        let mut data = [1; 512];
        device.read(4096, &mut data).expect("it reads");
        assert_eq!(data, [byte; 512]);
    }
}

/// A write that is to be on stable storage has its bit in the COW file when it is done, without a flush.
fn a_write_with_force_unit_access_is_complete_in_the_file() {
    image("back");
    ubd::config("a=cow,back").expect("it is added");
    let device = device(0);
    let bitmap = || fs::read("cow").expect("the COW file")[8192];
    device.write(0, &[9; 512]).expect("it writes");
    assert_eq!(bitmap(), 0);
    let mut batch = device.batch();
    batch.write_with(512, vec![9; 512], BioFlags::FUA);
    batch.wait_all().expect("it writes");
    assert_eq!(bitmap(), 3);
}
