//! Contents: writes, holes, truncation, fallocate.

use ext4::Errno;
use kernel::vfs::file::SeekTarget;
use kernel::vfs::{FileSystem, OpenFlags};

use crate::image::{ALL, Image, fallocate, make, open, read_all, read_at, refused, truncate, write_at};

fn pattern(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 24) as u8)
        .collect()
}

#[test]
fn what_is_written_is_read_by_us_and_by_debugfs() {
    for (kind, options) in ALL {
        let image = Image::new(kind, options, 32);
        let data = pattern(5_000_001, 1);
        {
            let fs = image.mount();
            let f = make(&fs.root(), "f");
            for (index, part) in data.chunks(70_001).enumerate() {
                write_at(&f, index as u64 * 70_001, part).unwrap();
            }
            write_at(&f, 1_000_000, &pattern(10, 2)).unwrap();
        }
        image.check();
        let mut wanted = data;
        wanted[1_000_000..1_000_010].copy_from_slice(&pattern(10, 2));
        {
            let fs = image.mount_read_only();
            assert!(fs.read("f") == wanted);
        }
        let out = image.path().with_extension("out");
        image.debugfs(&format!("dump /f {}", out.display()));
        assert!(std::fs::read(&out).unwrap() == wanted);
        std::fs::remove_file(out).unwrap();
        if kind == "ext4" {
            let shown = image.debugfs("stat /f");
            let extents = shown.split("EXTENTS:").nth(1).unwrap().matches("):").count();
            assert!(extents <= 12, "delayed allocation makes long extents: {shown}");
        }
    }
}

#[test]
fn holes_and_truncation_both_ways() {
    for (kind, options) in ALL {
        let image = Image::new(kind, options, 16);
        {
            let fs = image.mount();
            let f = make(&fs.root(), "f");
            let far = if kind == "ext4" { 100 << 30 } else { 10 << 30 };
            write_at(&f, far, b"far").unwrap();
            write_at(&f, 5000, b"near").unwrap();
            assert_eq!(f.metadata().unwrap().size, far + 3);
            assert!(f.metadata().unwrap().blocks * 512 < 100_000);
            let file = open(&f, OpenFlags::RDWR);
            assert_eq!(file.ops().seek(8192, SeekTarget::Data).unwrap(), far / 4096 * 4096);
            assert!(file.ops().seek(4096, SeekTarget::Hole).unwrap() <= 8192);
            assert_eq!(refused(file.ops().seek(far + 3, SeekTarget::Data)), Errno::ENXIO);
            fs.fs.sync().unwrap();
            truncate(&f, 5002).unwrap();
            assert_eq!(read_at(&f, 4999, 9).unwrap(), b"\0ne");
            truncate(&f, 20_000).unwrap();
            assert_eq!(read_at(&f, 4999, 9).unwrap(), b"\0ne\0\0\0\0\0\0");
            truncate(&f, 0).unwrap();
            assert_eq!(f.metadata().unwrap().blocks, 0);
            write_at(&f, 3, b"again").unwrap();
        }
        image.check();
        let fs = image.mount();
        assert_eq!(fs.read("f"), b"\0\0\0again");
    }
}

#[test]
fn truncated_bytes_never_come_back() {
    for (kind, options) in ALL {
        let image = Image::new(kind, options, 16);
        {
            let fs = image.mount();
            let f = make(&fs.root(), "f");
            write_at(&f, 0, &[0xee; 10_000]).unwrap();
            fs.fs.sync().unwrap();
            truncate(&f, 4500).unwrap();
        }
        let fs = image.mount();
        let f = fs.at("f").unwrap();
        truncate(&f, 10_000).unwrap();
        let data = read_all(&f);
        assert!(data[..4500].iter().all(|&byte| byte == 0xee) && data[4500..].iter().all(|&byte| byte == 0));
    }
}

#[test]
fn fallocate_in_all_its_forms() {
    for (kind, options) in ALL.into_iter().filter(|(kind, _)| *kind == "ext4") {
        let image = Image::new(kind, options, 32);
        let block = 4096;
        {
            let fs = image.mount();
            let f = make(&fs.root(), "f");
            fallocate(&f, 0, 0, 40 * block).unwrap();
            assert_eq!(f.metadata().unwrap().size, 40 * block);
            assert!(f.metadata().unwrap().blocks >= 40 * 8);
            write_at(&f, 10 * block, &[1; 8192]).unwrap();
            write_at(&f, 30 * block + 5, &[2; 100]).unwrap();
            fs.fs.sync().unwrap();
            // KEEP_SIZE behind the end.
            fallocate(&f, 1, 40 * block, 10 * block).unwrap();
            assert_eq!(f.metadata().unwrap().size, 40 * block);
            // A hole across the first data.
            fallocate(&f, 3, 10 * block + 100, 4096).unwrap();
            assert_eq!(read_at(&f, 10 * block + 99, 2).unwrap(), [1, 0]);
            assert_eq!(read_at(&f, 11 * block + 99, 2).unwrap(), [0, 1]);
            // Zeros over the second.
            fallocate(&f, 16, 30 * block + 50, 20).unwrap();
            assert_eq!(read_at(&f, 30 * block + 49, 22).unwrap()[..2], [2, 0]);
            // Eight blocks out, then four in.
            fallocate(&f, 8, 2 * block, 8 * block).unwrap();
            assert_eq!(f.metadata().unwrap().size, 32 * block);
            assert_eq!(read_at(&f, 2 * block + 99, 2).unwrap(), [1, 0]);
            fallocate(&f, 32, block, 4 * block).unwrap();
            assert_eq!(read_at(&f, 6 * block + 99, 2).unwrap(), [1, 0]);
            assert_eq!(f.metadata().unwrap().size, 36 * block);
            assert_eq!(refused(fallocate(&f, 8, 0, 36 * block)), Errno::EINVAL);
        }
        image.check();
        let fs = image.mount();
        let f = fs.at("f").unwrap();
        assert_eq!(read_at(&f, 6 * block + 99, 2).unwrap(), [1, 0]);
        assert_eq!(read_at(&f, 26 * block + 104, 2).unwrap(), [2, 0]);
    }
    let image = Image::new("ext2", "", 16);
    let fs = image.mount();
    assert_eq!(
        refused(fallocate(&make(&fs.root(), "f"), 0, 0, 4096)),
        Errno::EOPNOTSUPP
    );
}

#[test]
fn random_writes_make_deep_trees_that_shrink_again() {
    for (kind, options) in ALL {
        let image = Image::new(kind, options, 64);
        let mut state = 1u32;
        let mut random = move || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state >> 8
        };
        {
            let fs = image.mount();
            let f = make(&fs.root(), "f");
            for _ in 0..3000 {
                let at = u64::from(random() % 20_000) * 8192;
                write_at(&f, at, &at.to_le_bytes()).unwrap();
            }
            fs.fs.sync().unwrap();
        }
        image.check();
        {
            let fs = image.mount();
            let f = fs.at("f").unwrap();
            for _ in 0..1500 {
                let at = u64::from(random() % 20_000) * 8192;
                fallocate(&f, 3, at, 40_960).unwrap();
            }
        }
        image.check();
        {
            let fs = image.mount();
            let f = fs.at("f").unwrap();
            for at in (0..20_000u64).map(|index| index * 8192) {
                let data = read_at(&f, at, 8).unwrap();
                assert!(data.is_empty() || data == [0; 8] || data == at.to_le_bytes());
            }
            truncate(&f, 40_000_000).unwrap();
        }
        image.check();
        let fs = image.mount();
        fs.root().unlink(b"f").unwrap();
        drop(fs);
        image.check();
    }
}
