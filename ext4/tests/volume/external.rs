//! A journal on a device of its own: `e2fsck -j` is the judge, and both devices crash.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ext4::device::BlockDevice;
use ext4::fault::FaultDevice;
use ext4::mount::{JournalDevice, Mounting};
use ext4::{Errno, Result};
use kernel::vfs::inode::MountSource;
use kernel::vfs::{DevT, FileSystem};

use crate::image::{Image, Mounted, make, refused, source, write_at};

/// The number that the super block gives the journal's device.
const NUMBER: u32 = 0x6210;

/// A file system and its journal, as `mke2fs -J device=` makes them; that wants block devices.
fn pair(options: &str, block: u64) -> (Image, Image) {
    let journal = Image::new("ext4", &format!("-b {block} -O journal_dev"), 8);
    let image = Image::new("ext4", &format!("-b {block} -O ^has_journal {options}"), 20);
    let uuid = |image: &Image| image.bytes(1024 + 0x68, 16);
    let superblock = (1024 / block + 1) * block;
    journal.patch(superblock + 0x40, &1u32.to_be_bytes());
    journal.patch(superblock + 0x100, &uuid(&image));
    let journal_uuid: String = uuid(&journal).iter().map(|byte| format!("{byte:02x}")).collect();
    let (a, rest) = journal_uuid.split_at(8);
    let (b, rest) = rest.split_at(4);
    let (c, rest) = rest.split_at(4);
    let (d, e) = rest.split_at(4);
    for request in [
        "feature has_journal".to_string(),
        format!("set_super_value journal_uuid {a}-{b}-{c}-{d}-{e}"),
        format!("set_super_value journal_dev {NUMBER}"),
    ] {
        image.debugfs_write(&request);
    }
    (image, journal)
}

/// Mounts `device`; device 98:16 is `journal`.
fn mount_pair(
    device: Arc<dyn BlockDevice>,
    journal: &Arc<dyn BlockDevice>,
    options: &str,
    read_only: bool,
) -> Result<Mounted> {
    let source = MountSource {
        read_only,
        ..source(options)
    };
    let what = Mounting {
        kind: "ext4",
        name: "test".into(),
        dev: DevT::new(98, 0),
        device,
        journals: &|dev| match (dev.major, dev.minor) {
            (98, 16) => Ok(JournalDevice {
                name: "journal".into(),
                device: journal.clone(),
            }),
            _ => Err(Errno::ENXIO),
        },
    };
    ext4::mount::mount(what, &source).map(Mounted::of)
}

/// `e2fsck -fn -j` finds nothing.
fn check(image: &Image, journal: &Image) {
    let told = image.e2fsck(&["-fn", "-j", journal.path().to_str().unwrap()]);
    assert!(told.0 && !told.1.contains("Fix?"), "{}", told.1);
}

/// A disk that loses its power together with others: when one fails, none does anything any more.
struct Powered(Arc<FaultDevice>, Arc<AtomicBool>);

impl Powered {
    fn run<T>(&self, work: impl FnOnce(&FaultDevice) -> Result<T>) -> Result<T> {
        if self.1.load(Ordering::Relaxed) {
            return Err(Errno::EIO);
        }
        work(&self.0).inspect_err(|_| self.1.store(true, Ordering::Relaxed))
    }
}

impl BlockDevice for Powered {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        self.run(|disk| disk.read(at, data))
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        self.run(|disk| disk.write(at, data))
    }

    fn flush(&self) -> Result<()> {
        self.run(FaultDevice::flush)
    }

    fn write_zeroes(&self, at: u64, len: u64) -> Result<()> {
        self.run(|disk| disk.write_zeroes(at, len))
    }
}

#[test]
fn it_is_used_and_left_clean() {
    for (options, block) in [("", 4096), ("", 1024), ("-O ^metadata_csum,^64bit", 1024)] {
        let (image, journal) = pair(options, block);
        let device = journal.device();
        for round in 0..3 {
            let fs = mount_pair(image.device(), &device, "", false).unwrap();
            let file = make(&fs.root(), &format!("file{round}"));
            write_at(&file, 0, &vec![round as u8; 100_000]).unwrap();
            fs.fs.sync().unwrap();
            make(&fs.root(), &format!("later{round}"));
            drop(fs);
            check(&image, &journal);
        }
        let fs = mount_pair(image.device(), &device, "", true).unwrap();
        for round in 0..3 {
            assert!(fs.read(&format!("file{round}")) == vec![round as u8; 100_000]);
            assert!(fs.at(&format!("later{round}")).is_ok());
        }
    }
}

#[test]
fn what_is_not_its_journal_is_refused() {
    let (image, journal) = pair("", 1024);
    let device = journal.device();
    let refusal = |options: &str| refused(mount_pair(image.device(), &device, options, false).map(drop));
    assert_eq!(refusal("journal_dev=0x6220"), Errno::ENXIO);
    assert_eq!(refusal("journal_dev=what"), Errno::EINVAL);
    journal.patch(2048 + 0x40, &2u32.to_be_bytes());
    assert_eq!(refusal(""), Errno::EINVAL);
    journal.patch(2048 + 0x40, &1u32.to_be_bytes());
    let uuid = journal.bytes(1024 + 0x68, 16);
    let sum = journal.bytes(1024 + 0x3fc, 4);
    journal.patch(1024 + 0x68, &[7; 16]);
    assert_eq!(refusal(""), Errno::EUCLEAN);
    journal.patch(1024 + 0x68, &uuid);
    journal.patch(1024 + 0x38, &[0]);
    assert_eq!(refusal(""), Errno::EUCLEAN);
    journal.patch(1024 + 0x38, &[0x53]);
    journal.patch(1024 + 0x3fc, &sum);
    let with_file = Image::new("ext4", "", 16);
    let both = mount_pair(with_file.device(), &device, "journal_dev=0x6210", false);
    assert_eq!(refused(both.map(drop)), Errno::EINVAL);
    let fs = mount_pair(image.device(), &device, "", false).unwrap();
    assert_eq!(refused(fs.fs.remount(&source("journal_dev=0x6210"))), Errno::EINVAL);
    drop(fs);
    check(&image, &journal);
}

#[test]
fn a_device_that_has_moved_is_noted() {
    let (image, journal) = pair("", 1024);
    image.debugfs_write("set_super_value journal_dev 0x6230");
    let device = journal.device();
    assert_eq!(
        refused(mount_pair(image.device(), &device, "", false).map(drop)),
        Errno::ENXIO
    );
    drop(mount_pair(image.device(), &device, "journal_dev=25104", false).unwrap());
    drop(mount_pair(image.device(), &device, "", false).unwrap());
    check(&image, &journal);
}

#[test]
fn a_crash_of_both_devices_leaves_what_was_synced() {
    let (image, journal) = pair("", 1024);
    image.lengthen(24 << 20);
    let (contents, log) = (image.load(), journal.load());
    let run = |stop: Option<(bool, u64)>, seed: u64| {
        let (disk, area) = (FaultDevice::new(contents.clone()), FaultDevice::new(log.clone()));
        disk.keep_whole(1024..2048);
        let lost = Arc::new(AtomicBool::new(false));
        let device: Arc<dyn BlockDevice> = Arc::new(Powered(area.clone(), lost.clone()));
        let fs = mount_pair(Arc::new(Powered(disk.clone(), lost)), &device, "", false).unwrap();
        let before = (disk.requests(), area.requests());
        match stop {
            Some((true, at)) => disk.stop_at(before.0 + at),
            Some((false, at)) => area.stop_at(before.1 + at),
            None => {}
        }
        let mut synced = 0;
        for round in 0..6 {
            let Ok(file) = fs.root().create(
                format!("file{round}").as_bytes(),
                kernel::vfs::NewNode::Regular,
                crate::image::attr(0o644),
            ) else {
                break;
            };
            let written = write_at(&file, 0, &vec![round as u8 + 1; 20_000]);
            if written.is_err() || fs.fs.sync().is_err() {
                break;
            }
            synced = round + 1;
            if round == 3 {
                // Brings blocks home in the middle.
                let _ = fs.root().unlink(b"file0");
                let _ = fs.fs.grow(24 << 10);
            }
        }
        let requests = (disk.requests() - before.0, area.requests() - before.1);
        let left = (disk.crash(seed), area.crash(seed + 1));
        let _ = fs.end();
        (synced, requests, left)
    };
    let (synced, (on_disk, on_log), _) = run(None, 1);
    assert_eq!(synced, 6);
    assert!(on_disk > 10 && on_log > 12, "{on_disk} {on_log}");
    let stops = (0..on_disk)
        .map(|at| (true, at))
        .chain((0..on_log).map(|at| (false, at)));
    for (number, stop) in stops.enumerate() {
        let (synced, _, (disk, area)) = run(Some(stop), number as u64 * 2);
        let (image, journal) = (Image::of("ext4", &disk), Image::of("ext4", &area));
        if number % 3 == 0 {
            // e2fsck replays as well.
            let (image, journal) = (image.copy(), journal.copy());
            image.e2fsck(&["-fy", "-j", journal.path().to_str().unwrap()]);
            let fs = mount_pair(image.device(), &journal.device(), "", false).unwrap();
            assert!(
                (1..synced).all(|round| fs.at(&format!("file{round}")).is_ok()),
                "{stop:?}"
            );
            drop(fs);
            check(&image, &journal);
        }
        {
            let fs = mount_pair(image.device(), &journal.device(), "", false).unwrap();
            for round in 1..synced {
                let expected = vec![round as u8 + 1; 20_000];
                assert!(fs.read(&format!("file{round}")) == expected, "{stop:?}: file{round}");
            }
        }
        check(&image, &journal);
    }
}
