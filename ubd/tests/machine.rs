//! Disks on the running machine, added and removed as the management console does it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use arch_um::Errno;
use arch_um::host::image::Image;
use arch_um::host::ring::{ImageRing, why_not};
use kernel::block::{self, BioFlags, BlockDevice, Claim, Disk};
use kernel::io::{SliceSink, SliceSource};
use kernel::vfs::DevT;

/// Each test once for each engine.
macro_rules! with_both_engines {
    ($($name:literal => $test:ident;)*) => {
        const TESTS: &[harness::machine::Test] = &[
            $(($name, $test), (concat!($name, "_through_io_uring"), || through_io_uring($test)),)*
            ("a_disk_byte_by_byte_has_a_ring_and_others_have_none", which_disks_have_rings),
        ];
    };
}

with_both_engines! {
    "disks_come_and_go_while_the_machine_runs" => disks_come_and_go;
    "a_disk_that_is_open_cannot_be_removed" => a_disk_that_is_open_cannot_be_removed;
    "what_was_written_is_in_the_file_of_a_removed_disk" => what_was_written_is_in_the_file;
    "errors_are_umls" => errors_are_umls;
    "a_throw_away_disk_never_writes_its_files" => a_throw_away_disk_never_writes_its_files;
    "a_discard_is_refused_with_flag_t" => a_discard_is_refused_with_flag_t;
    "a_write_with_force_unit_access_is_complete_in_the_file" => a_write_with_force_unit_access_is_complete_in_the_file;
    "a_file_that_is_cut_gives_errors_where_it_is_missing" => a_file_that_is_cut;
    "many_requests_at_a_time_arrive_each_at_its_place" => many_requests_at_a_time;
}

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

/// Runs `test` with disks that are served so, on a host that can.
fn through_io_uring(test: fn()) {
    ubd::config("=io_uring").expect("a word that is known");
    test();
}

/// Rings that this process has.
fn rings() -> usize {
    let open = fs::read_dir("/proc/self/fd").expect("/proc").flatten();
    let targets = open.filter_map(|fd| fs::read_link(fd.path()).ok());
    let inodes = targets.filter(|target| target.as_os_str() == "anon_inode:[io_uring]");
    // The I/O thread watches each through a second descriptor.
    inodes.count() / 2
}

/// Whether the host gives us rings. Where it does not the tests say what they say of the pool, for that serves all disks then.
fn host_has_rings() -> bool {
    let image = Image::temporary(Path::new(".")).expect("a temporary file");
    ImageRing::new(Arc::new(image))
        .inspect_err(|&errno| eprintln!("no io_uring here, {}: the pool is tested twice", why_not(errno)))
        .is_ok()
}

fn which_disks_have_rings() {
    let one = usize::from(host_has_rings());
    for name in ["plain", "back", "thrown"] {
        image(name);
    }
    ubd::config("a=plain").expect("it is added");
    assert_eq!(rings(), 0, "nobody has asked for one");
    ubd::remove(0).expect("it is removed");
    ubd::config("=io_uring").expect("a word that is known");
    ubd::config("a=plain").expect("it is added");
    assert_eq!(rings(), one);
    ubd::config("b=cow,back").expect("it is added");
    ubd::config("=throwaway").expect("from now on");
    ubd::config("c=thrown").expect("it is added");
    assert_eq!(rings(), one);
    ubd::remove(0).expect("it is removed");
    assert_eq!(rings(), 0);
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

fn a_file_that_is_cut() {
    let file = File::options().write(true).open(image("cut")).expect("the image");
    ubd::config("a=cut").expect("it is added");
    let device = device(0);
    file.set_len(8192 + 512).expect("it is cut");
    let mut data = [1; 4096];
    device.read(4096, &mut data).expect("what is there is read");
    assert_eq!(data, [7; 4096]);
    // What the caller finds in the host's memory ends inside the request, and what comes after is missing.
    assert_eq!(device.read(8192, &mut data), Err(Errno::EIO));
    assert_eq!(device.read(65536, &mut data), Err(Errno::EIO));
    assert_eq!(device.write(65536, &data), Err(Errno::EIO));
    assert_eq!(
        file.metadata().expect("the file").len(),
        8192 + 512,
        "no hole of zeros is made"
    );
}

/// More than a ring or the pool takes at a time, in all lengths, with flushes in between.
fn many_requests_at_a_time() {
    const SECTORS: u64 = 64 << 11;
    fs::write("many", []).expect("an image");
    let file = File::options().write(true).open("many").expect("the image");
    file.set_len(SECTORS * 512).expect("its length");
    ubd::config("a=many").expect("it is added");
    let device = device(0);
    let mut model = vec![0; (SECTORS * 512) as usize];
    let mut seed = 1_u64;
    let mut random = move |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for round in 0..8 {
        let mut batch = device.batch();
        // Ranges of one batch have no order, so they do not overlap.
        let mut at = random(64);
        while at < SECTORS {
            let most = if random(8) == 0 { 1500 } else { 24 };
            let len = (1 + random(most)).min(SECTORS - at);
            let data: Vec<u8> = (0..len * 512).map(|i| (i / 512 + at + round) as u8).collect();
            model[(at * 512) as usize..][..data.len()].copy_from_slice(&data);
            let flags = if random(50) == 0 {
                BioFlags::FUA
            } else {
                BioFlags::empty()
            };
            batch.write_with(at * 512, data, flags);
            at += len + random(2000);
        }
        batch.wait_all().expect("all is written");
        device.flush().expect("it flushes");
        assert!(fs::read("many").expect("the image") == model, "round {round}");
    }
    let mut seen = vec![1; model.len()];
    for (index, piece) in seen.chunks_mut(777 << 9).enumerate() {
        device.read((index * (777 << 9)) as u64, piece).expect("it reads");
    }
    assert!(seen == model);
}
