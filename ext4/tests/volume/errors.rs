//! Damage is met: what programs see, what the super block keeps of it, and that nothing is written any more when `errors=` says so.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ext4::device::BlockDevice;
use ext4::{Errno, Result};
use kernel::vfs::FileSystem;

use crate::image::{Image, make, mkdir, mount, read_all, refused, source, write_at};

/// What a file must begin with for [`Spoiled`] to refuse it.
const REFUSED: &[u8] = b"not with this disk";

/// A disk with bad places where such files would lie.
struct Spoiled(Arc<dyn BlockDevice>, AtomicBool);

impl BlockDevice for Spoiled {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        self.0.read(at, data)
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        if data.starts_with(REFUSED) && self.1.load(Ordering::Relaxed) {
            return Err(Errno::EIO);
        }
        self.0.write(at, data)
    }

    fn flush(&self) -> Result<()> {
        self.0.flush()
    }

    fn write_zeroes(&self, at: u64, len: u64) -> Result<()> {
        self.0.write_zeroes(at, len)
    }
}

/// An image with a directory whose first block is nonsense.
fn damaged(options: &str) -> Image {
    let image = Image::new("ext4", options, 16);
    {
        let fs = image.mount();
        let dir = mkdir(&fs.root(), "dir");
        make(&dir, "file");
    }
    let text = image.debugfs_write("zap_block -f /dir -p 0xff 0");
    assert!(!text.contains("rror"), "{text}");
    image
}

#[test]
fn damage_stops_writing_with_remount_ro_and_is_recorded_at_once() {
    for (options, errno, word) in [
        ("-O ^metadata_csum", Errno::EUCLEAN, "EFSCORRUPTED"),
        ("", Errno::EBADMSG, "EFSBADCRC"),
    ] {
        let image = damaged(options);
        let before = {
            let fs = image.mount_with("errors=remount-ro", false).unwrap();
            make(&fs.root(), "before");
            fs.fs.sync().unwrap();
            make(&fs.root(), "uncommitted");
            assert_eq!(refused(fs.at("dir/file")), errno);
            assert_eq!(refused(fs.root().unlink(b"before")), Errno::EROFS);
            assert!(fs.fs.show_options().contains("errors=remount-ro"));
            assert!(fs.fs.show_options().ends_with(",emergency_ro"));
            // The disk knows before anybody unmounts.
            assert!(fs.at("before").is_ok());
            image.copy()
        };
        for image in [&before, &image] {
            let told = image.dump();
            assert!(told.contains("FS Error count:           1"), "{told}");
            assert!(told.contains(&format!("First error err:          {word}")), "{told}");
            assert!(told.contains("Last error function:      ext4_"), "{told}");
            assert!(told.contains("clean with errors"), "{told}");
        }
        // The next mount replays the journal, which knows nothing of the error, and keeps what is told.
        {
            let fs = image.mount();
            assert!(fs.at("before").is_ok());
            assert!(fs.at("uncommitted").is_err());
        }
        assert!(image.dump().contains("FS Error count:           1"));
        image.repair();
        image.check();
    }
}

#[test]
fn damage_is_counted_with_continue_and_writing_goes_on() {
    let image = damaged("-O ^metadata_csum");
    {
        let fs = image.mount_with("errors=continue", false).unwrap();
        for _ in 0..3 {
            assert_eq!(refused(fs.at("dir/file")), Errno::EUCLEAN);
        }
        make(&fs.root(), "goes on");
    }
    let told = image.dump();
    assert!(told.contains("FS Error count:           3"), "{told}");
    assert!(told.contains("First error inode #:"), "{told}");
    assert!(image.debugfs("ls /").contains("goes on"));
}

#[test]
fn a_remount_with_abort_stops_everything() {
    let image = Image::new("ext4", "", 16);
    {
        let fs = image.mount();
        make(&fs.root(), "kept");
        fs.fs.sync().unwrap();
        make(&fs.root(), "lost");
        fs.fs.remount(&source("abort")).unwrap();
        assert_eq!(refused(fs.root().unlink(b"kept")), Errno::EROFS);
        assert_eq!(refused(fs.fs.remount(&source(""))), Errno::EROFS);
        assert_eq!(fs.fs.show_options(), ",abort,emergency_ro");
    }
    let told = image.dump();
    assert!(told.contains("ESHUTDOWN"), "{told}");
    {
        let fs = image.mount();
        assert!(fs.at("kept").is_ok() && fs.at("lost").is_err());
    }
    image.repair();
    image.check();
}

#[test]
fn data_that_cannot_be_written_stops_the_journal_with_data_err_abort_only() {
    for (options, goes_on) in [("", true), ("data_err=ignore", true), ("data_err=abort", false)] {
        let image = Image::new("ext4", "", 16);
        let disk = Arc::new(Spoiled(image.device(), AtomicBool::new(true)));
        let fs = mount("ext4", disk.clone(), options, false).unwrap();
        assert_eq!(fs.fs.show_options().contains("data_err=abort"), !goes_on);
        write_at(&make(&fs.root(), "kept"), 0, b"kept").unwrap();
        fs.fs.sync().unwrap();
        write_at(&make(&fs.root(), "file"), 0, REFUSED).unwrap();
        assert_eq!(refused(fs.fs.sync()), Errno::EIO, "{options}");
        if goes_on {
            make(&fs.root(), "later");
            disk.1.store(false, Ordering::Relaxed);
            fs.fs.sync().unwrap();
            drop(fs);
        } else {
            assert_eq!(refused(fs.root().unlink(b"kept")), Errno::EROFS);
            assert!(fs.fs.show_options().ends_with(",emergency_ro"));
            assert!(
                image.dump().contains("First error err:          EIO"),
                "{}",
                image.dump()
            );
            // Nothing is left to be said.
            fs.end().unwrap();
            image.repair();
        }
        image.check();
        let fs = image.mount();
        assert_eq!(fs.at("later").is_ok(), goes_on, "{options}");
        assert_eq!(read_all(&fs.at("kept").unwrap()), b"kept");
    }
}
