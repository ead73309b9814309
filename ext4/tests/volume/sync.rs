//! What `fsync` and `fdatasync` cost, and that they keep their word.

use std::sync::Arc;

use ext4::fault::FaultDevice;
use ext4::mount::Mounting;
use kernel::vfs::{DevT, FileSystem, Inode, Mode, OpenFlags, SetAttr};

use crate::image::{Image, make, open, read_at, source, truncate, write_at};

/// The image in memory, on a disk that counts writes and flushes.
pub fn disk(image: &Image) -> Arc<FaultDevice> {
    FaultDevice::new(image.load())
}

pub fn mount(device: &Arc<FaultDevice>, options: &str) -> Arc<ext4::Ext4> {
    let what = Mounting {
        kind: "ext4",
        name: "test".into(),
        dev: DevT::new(98, 0),
        device: device.clone(),
        journals: &|_| Err(ext4::Errno::ENXIO),
    };
    ext4::mount::mount(what, &source(options)).unwrap()
}

pub fn sync(inode: &Arc<dyn Inode>) {
    let file = open(inode, OpenFlags::RDWR);
    file.ops().sync(&file).unwrap();
}

fn sync_data(inode: &Arc<dyn Inode>) {
    let file = open(inode, OpenFlags::RDWR);
    file.ops().sync_data(&file).unwrap();
}

/// A mounted disk with a file of some blocks, all of it synced.
fn subject(options: &str) -> (Arc<FaultDevice>, Arc<ext4::Ext4>, Arc<dyn Inode>) {
    let device = disk(&Image::new("ext4", options, 16));
    let fs = mount(&device, "");
    let f = make(&FileSystem::root(&*fs), "f");
    write_at(&f, 0, &[1; 20_000]).unwrap();
    sync(&f);
    (device, fs, f)
}

/// What a disk after a loss of power holds of the file.
fn survives(device: &Arc<FaultDevice>, pos: u64, len: usize) -> Vec<u8> {
    let fs = mount(&FaultDevice::new(device.crash(7)), "");
    let f = FileSystem::root(&*fs).lookup(b"f").unwrap();
    read_at(&f, pos, len).unwrap()
}

#[test]
fn a_clean_file_is_synced_for_nothing_whatever_others_write() {
    for options in ["", "-O ^has_journal"] {
        let (device, fs, f) = subject(options);
        let g = make(&FileSystem::root(&*fs), "g");
        write_at(&g, 0, &[2; 8192]).unwrap();
        let file = open(&g, OpenFlags::RDWR);
        let before = device.requests();
        sync_data(&f);
        if options.is_empty() {
            sync(&f);
            assert_eq!(device.requests() - before, 0);
        }
        file.ops().sync(&file).unwrap();
        let before = device.requests();
        sync(&f);
        sync(&g);
        assert_eq!(device.requests() - before, 0, "{options}");
    }
}

#[test]
fn fdatasync_of_overwritten_blocks_is_their_write_and_a_flush() {
    let (device, _fs, f) = subject("-b 4096");
    for round in 0..3 {
        // Who has seen the times must be able to see them move.
        f.metadata().unwrap();
        write_at(&f, 4096, &[round + 10; 4096]).unwrap();
        let before = device.requests();
        sync_data(&f);
        assert_eq!(device.requests() - before, 2);
        assert_eq!(survives(&device, 4096, 4096), [round + 10; 4096]);
    }
    // The times are not lost, they come with the next fsync.
    let before = device.requests();
    sync(&f);
    assert!(device.requests() - before >= 3, "a commit");
}

#[test]
fn overwriting_commits_no_times_that_nobody_saw_move() {
    let (device, _fs, f) = subject("-b 4096");
    let mut cheapest = u64::MAX;
    // Times move every few milliseconds; on a busy machine that may be in any one round.
    for round in 0..200 {
        let before = device.requests();
        write_at(&f, 4096, &[round; 4096]).unwrap();
        sync(&f);
        cheapest = cheapest.min(device.requests() - before);
        assert_eq!(survives(&device, 4096, 4096), [round; 4096]);
    }
    assert_eq!(cheapest, 2, "the write and a flush");
}

#[test]
fn who_looks_sees_the_time_of_each_write() {
    let (device, _fs, f) = subject("-b 4096");
    for round in 0..50 {
        let before = f.metadata().unwrap();
        write_at(&f, 4096, &[round; 4096]).unwrap();
        let after = f.metadata().unwrap();
        assert!(after.mtime > before.mtime && after.ctime > before.ctime);
        sync(&f);
        let survivor = mount(&FaultDevice::new(device.crash(7)), "");
        let survivor = FileSystem::root(&*survivor).lookup(b"f").unwrap();
        assert_eq!(
            survivor.metadata().unwrap().mtime,
            after.mtime,
            "fsync keeps what was seen"
        );
    }
}

#[test]
fn fdatasync_lets_modes_and_times_wait_and_neither_sizes_nor_maps() {
    let (device, _fs, f) = subject("-b 4096");
    f.set_attr(&SetAttr {
        mode: Some(Mode::from_bits_retain(0o600)),
        ..SetAttr::default()
    })
    .unwrap();
    let before = device.requests();
    sync_data(&f);
    assert_eq!(device.requests() - before, 0);
    // Longer by data.
    write_at(&f, 30_000, &[3; 3000]).unwrap();
    sync_data(&f);
    assert_eq!(survives(&device, 30_000, 5000), [3; 3000]);
    // A hole is filled.
    write_at(&f, 24_576, &[4; 100]).unwrap();
    sync_data(&f);
    assert_eq!(survives(&device, 24_576, 100), [4; 100]);
    // Shorter, longer without data.
    truncate(&f, 10_000).unwrap();
    sync_data(&f);
    assert_eq!(survives(&device, 0, 50_000).len(), 10_000);
    truncate(&f, 40_000).unwrap();
    sync_data(&f);
    assert_eq!(survives(&device, 0, 50_000).len(), 40_000);
    // Preallocated blocks become data.
    crate::image::fallocate(&f, 1, 40_960, 40_960).unwrap();
    sync(&f);
    write_at(&f, 12_288, &[5; 4096]).unwrap();
    sync_data(&f);
    crate::image::fallocate(&f, 0, 40_960, 40_960).unwrap();
    sync(&f);
    write_at(&f, 45_056, &[6; 4096]).unwrap();
    sync_data(&f);
    assert_eq!(survives(&device, 45_056, 4096), [6; 4096]);
}
