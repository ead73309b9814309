//! Growing while mounted: every kind of layout, what is refused, damage, writers at the same time, crashes at any moment.

use std::sync::atomic::{AtomicBool, Ordering};

use ext4::Errno;
use ext4::fault::FaultDevice;
use kernel::vfs::FileSystem;

use crate::image::{Image, Mounted, make, mkdir, mount, refused, write_at};

/// What `mke2fs` makes, its mebibytes, the mebibytes after it has grown, and its block size.
const FLAVOURS: [(&str, &str, u64, u64, u64); 9] = [
    ("ext4", "-b 1024", 20, 300, 1024),
    ("ext4", "-b 1024 -G 4 -O ^64bit", 13, 130, 1024),
    ("ext4", "-b 4096", 40, 1500, 4096),
    ("ext4", "-b 2048 -O ^metadata_csum,uninit_bg,^64bit", 30, 400, 2048),
    ("ext4", "-b 1024 -O ^resize_inode,meta_bg", 20, 300, 1024),
    ("ext4", "-b 1024 -O ^flex_bg", 20, 300, 1024),
    ("ext3", "-b 1024", 20, 300, 1024),
    ("ext2", "-b 1024", 20, 300, 1024),
    ("ext2", "-b 1024 -O ^sparse_super,^resize_inode", 20, 140, 1024),
];

/// Bytes that differ from place to place.
fn contents(seed: usize, len: usize) -> Vec<u8> {
    (0..len).map(|at| (at / 7 * 31 + seed * 17 + at) as u8).collect()
}

fn fill(fs: &Mounted, dir: &str, files: usize, len: usize) {
    let dir = mkdir(&fs.root(), dir);
    for file in 0..files {
        let sub = mkdir(&dir, &format!("dir{file}"));
        assert_eq!(
            write_at(&make(&sub, "file"), 0, &contents(file, len)).unwrap().count,
            len
        );
        if file % 16 == 15 {
            // Nobody else writes back here, and who dirties too much is held back.
            fs.fs.sync().unwrap();
        }
    }
}

fn assert_filled(fs: &Mounted, dir: &str, files: usize, len: usize) {
    for file in 0..files {
        assert!(
            fs.read(&format!("{dir}/dir{file}/file")) == contents(file, len),
            "{dir} {file}"
        );
    }
}

#[test]
fn each_kind_of_layout_grows_is_filled_and_is_what_e2fsck_expects() {
    for (kind, options, from, to, block) in FLAVOURS {
        let image = Image::new(kind, options, from);
        image.lengthen(to << 20);
        {
            let fs = image.mount();
            fill(&fs, "before", 40, 100_000);
            // What is in the copies is from the moment of growth.
            fs.fs.sync().unwrap();
            // Into the last group, to its end and beyond, to the end; the last does nothing.
            for part in [
                from * 1024 + 100,
                from * 1024 + 8192,
                (from + to) * 512,
                to * 1024,
                to * 1024,
            ] {
                fs.fs.grow(part * 1024 / block).unwrap();
                assert_eq!(fs.fs.statfs().unwrap().bsize, block);
            }
        }
        image.check();
        image.check_backups();
        {
            let fs = image.mount();
            fill(&fs, "after", 200, from as usize * 5_000);
            assert!(refused(fs.fs.grow(from * 1024)) == Errno::EINVAL);
            assert_filled(&fs, "before", 40, 100_000);
        }
        image.check();
        let fs = image.mount();
        assert_filled(&fs, "before", 40, 100_000);
        assert_filled(&fs, "after", 200, from as usize * 5_000);
    }
}

#[test]
fn new_tables_are_zeroed_at_once_with_noinit_itable_and_not_read_before_without() {
    let image = Image::new("ext4", "-b 1024", 20);
    image.lengthen_in_use(60 << 20);
    for (options, left_for_later) in [("", true), ("noinit_itable", false)] {
        let image = image.copy();
        {
            let fs = image.mount_with(options, false).unwrap();
            fs.fs.grow(60 << 10).unwrap();
            fill(&fs, "after", 200, 1000);
        }
        image.check();
        let groups = image.dump_all();
        let last = groups.rsplit("\nGroup ").next().unwrap();
        assert_eq!(!last.contains("ITABLE_ZEROED"), left_for_later, "{last}");
    }
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let image = Image::new("ext4", "-b 1024", 20);
    image.lengthen(30 << 20);
    {
        let fs = image.mount();
        assert_eq!(refused(fs.fs.grow(19 << 10)), Errno::EINVAL);
        assert_eq!(refused(fs.fs.grow((30 << 10) + 1)), Errno::ENOSPC);
        assert_eq!(refused(fs.fs.grow(u64::MAX)), Errno::ENOSPC);
        assert_eq!(refused(fs.fs.extend(1)), Errno::EINVAL);
        fs.fs.extend(0).unwrap();
        // Two whole groups and a half are there: the third is filled, no more.
        fs.fs.extend(30 << 10).unwrap();
        assert_eq!(refused(fs.fs.extend(30 << 10)), Errno::EPERM);
    }
    assert!(image.dump().contains("Block count:              24577\n"));
    image.check();
    let fs = image.mount_read_only();
    assert_eq!(refused(fs.fs.grow(30 << 10)), Errno::EROFS);
    drop(fs);
    for (options, errno) in [
        ("-O sparse_super2", Errno::EOPNOTSUPP),
        ("-O ^resize_inode", Errno::EPERM),
    ] {
        let image = Image::new("ext4", &format!("-b 1024 {options}"), 20);
        image.lengthen(300 << 20);
        assert_eq!(refused(image.mount().fs.grow(300 << 10)), errno, "{options}");
        image.check();
    }
    let image = Image::new("ext4", "-b 1024", 20);
    image.debugfs_write("set_super_value error_count 1");
    image.lengthen(30 << 20);
    assert_eq!(refused(image.mount().fs.grow(30 << 10)), Errno::EPERM);
}

#[test]
fn a_last_group_too_short_for_its_structures_does_not_come() {
    let image = Image::new("ext4", "-b 1024", 20);
    image.lengthen(100 << 20);
    let fs = image.mount();
    fs.fs.grow(8 * 8192 + 1 + 100).unwrap();
    drop(fs);
    assert!(
        image.dump().contains("Block count:              65537\n"),
        "{}",
        image.dump()
    );
    image.check();
}

#[test]
fn lists_of_kept_blocks_that_are_wrong_stop_it_before_anything_changes() {
    let image = Image::new("ext4", "-b 1024", 20);
    image.debugfs_write("set_inode_field <7> block[DIND] 1");
    image.lengthen(300 << 20);
    {
        let fs = image.mount_with("errors=continue", false).unwrap();
        assert_eq!(refused(fs.fs.grow(300 << 10)), Errno::EUCLEAN);
        assert_eq!(refused(fs.fs.grow(300 << 10)), Errno::EPERM, "there were errors");
        make(&fs.root(), "goes on");
    }
    image.repair();
    image.check();
    assert!(image.mount().at("goes on").is_ok());
}

#[test]
fn others_write_and_delete_meanwhile() {
    let image = Image::new("ext4", "-b 1024", 20);
    image.lengthen(400 << 20);
    {
        let fs = image.mount();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..2 {
                let (fs, done) = (&fs, &done);
                scope.spawn(move || {
                    let dir = mkdir(&fs.root(), &format!("writer{writer}"));
                    let mut round = 0;
                    while !done.load(Ordering::Relaxed) || round < 20 {
                        let name = format!("file{}", round % 7);
                        let _ = dir.unlink(name.as_bytes());
                        if let Ok(file) = dir.create(
                            name.as_bytes(),
                            kernel::vfs::NewNode::Regular,
                            crate::image::attr(0o644),
                        ) {
                            let _ = write_at(&file, 0, &contents(round, 300_000));
                        }
                        round += 1;
                    }
                });
            }
            for blocks in (21 << 10..400 << 10).step_by(9 << 10) {
                fs.fs.grow(blocks).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
    }
    image.check();
}

#[test]
fn a_crash_at_any_request_leaves_a_whole_file_system_of_a_size_on_the_way() {
    for (kind, options) in [
        ("ext4", "-b 1024 -G 4 -J size=1"),
        ("ext3", "-b 1024 -J size=1"),
        ("ext4", "-b 1024 -O ^resize_inode,meta_bg,^metadata_csum -J size=1"),
    ] {
        let image = Image::new(kind, options, 10);
        image.lengthen(60 << 20);
        {
            let fs = image.mount();
            fill(&fs, "before", 5, 10_000);
        }
        let contents = image.load();
        let grow = |stop: Option<u64>, seed: u64| {
            let device = FaultDevice::new(contents.clone());
            device.keep_whole(1024..2048);
            let fs = mount(kind, device.clone(), "", false).unwrap();
            let from = device.requests();
            if let Some(stop) = stop {
                device.stop_at(from + stop);
            }
            let grown = fs.fs.grow(60 << 10);
            let requests = device.requests() - from;
            let left = device.crash(seed);
            let _ = fs.end();
            (grown, requests, left)
        };
        let (grown, requests, _) = grow(None, 1);
        grown.unwrap();
        assert!(requests > 20, "{requests}");
        let mut sizes = std::collections::BTreeSet::new();
        for stop in (0..requests).step_by((requests as usize / 12).max(1)) {
            for seed in 0..2 {
                let (grown, _, left) = grow(Some(stop), stop * 2 + seed);
                assert!(grown.is_err(), "{options}: request {stop}");
                let crashed = Image::of(kind, &left);
                let copy = crashed.copy();
                {
                    let fs = crashed.mount();
                    assert_filled(&fs, "before", 5, 10_000);
                    sizes.insert(fs.fs.statfs().unwrap().blocks);
                    fill(&fs, "after", 20, 50_000);
                }
                crashed.check();
                if seed == 0
                    && let Err(text) = copy.replayed_by_e2fsck()
                {
                    panic!("{options}: request {stop}: {text}");
                }
            }
        }
        assert!(sizes.len() > 1, "{options}: {sizes:?}");
    }
}
