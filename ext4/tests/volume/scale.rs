//! Large things cost what they must, counted in requests and bytes of the disk: names without number, a large disk, a large file with holes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ext4::Result;
use ext4::device::BlockDevice;
use kernel::vfs::{FileSystem, Inode};

use crate::image::{Image, Mounted, make, mkdir, mount, read_at, truncate, write_at};

/// A device that counts.
struct Counted {
    inner: Arc<dyn BlockDevice>,
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// Requests and the bytes they moved.
#[derive(Clone, Copy, Debug)]
struct Cost {
    requests: u64,
    bytes: u64,
}

impl Counted {
    fn new(image: &Image) -> Arc<Self> {
        Arc::new(Self {
            inner: image.device(),
            requests: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        })
    }

    fn count(&self, bytes: usize) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What was asked since the last call.
    fn cost(&self) -> Cost {
        Cost {
            requests: self.requests.swap(0, Ordering::Relaxed),
            bytes: self.bytes.swap(0, Ordering::Relaxed),
        }
    }
}

impl BlockDevice for Counted {
    fn len(&self) -> u64 {
        self.inner.len()
    }

    fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        self.count(data.len());
        self.inner.read(at, data)
    }

    fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        self.count(data.len());
        self.inner.write(at, data)
    }

    fn flush(&self) -> Result<()> {
        self.count(0);
        self.inner.flush()
    }

    fn write_zeroes(&self, at: u64, len: u64) -> Result<()> {
        self.count(len as usize);
        self.inner.write_zeroes(at, len)
    }
}

fn mounted(image: &Image) -> (Mounted, Arc<Counted>) {
    let disk = Counted::new(image);
    (mount(image.kind, disk.clone(), "", false).unwrap(), disk)
}

fn add_names(fs: &Mounted, dir: &Arc<dyn Inode>, numbers: std::ops::Range<u32>) {
    for number in numbers {
        make(dir, &format!("a-file-of-many-{number}"));
    }
    fs.fs.sync().unwrap();
}

#[test]
fn the_second_half_of_a_hundred_thousand_names_costs_as_much_as_the_first() {
    const HALF: u32 = 50_000;
    let image = Image::new("ext4", "-b 4096 -N 110000", 256);
    {
        let (fs, disk) = mounted(&image);
        let dir = mkdir(&fs.root(), "dir");
        fs.fs.sync().unwrap();
        disk.cost();
        add_names(&fs, &dir, 0..HALF);
        let first = disk.cost();
        add_names(&fs, &dir, HALF..2 * HALF);
        let second = disk.cost();
        // In the log and at home, a name changes no more than its block: where many names share one in a transaction it is less.
        assert!(
            second.requests < first.requests * 3 / 2 && second.bytes < u64::from(HALF) * 2 * 4096,
            "{first:?}, then {second:?}"
        );
    }
    let (fs, disk) = mounted(&image);
    let dir = fs.at("dir").unwrap();
    disk.cost();
    // Two levels of the tree, the block of names, the inode.
    for number in (0..2 * HALF).step_by(9973) {
        dir.lookup(format!("a-file-of-many-{number}").as_bytes()).unwrap();
        let cost = disk.cost();
        assert!(cost.requests <= 6, "{number}: {cost:?}");
    }
    drop(dir);
    drop(fs);
    image.check();
}

#[test]
fn a_terabyte_is_mounted_and_written_to_with_few_requests() {
    let image = Image::new("ext4", "-b 4096 -J size=16 -E lazy_itable_init=1", 1 << 20);
    let (fs, disk) = mounted(&image);
    let cost = disk.cost();
    assert!(cost.requests < 600, "the mount: {cost:?}");
    let file = make(&fs.root(), "file");
    write_at(&file, 0, &[1; 100_000]).unwrap();
    fs.fs.sync().unwrap();
    let cost = disk.cost();
    assert!(cost.requests < 60, "a file: {cost:?}");
    assert!(fs.fs.statfs().unwrap().blocks >> 18 > 1000, "GiB without the tables");
    drop((file, fs));
    let cost = disk.cost();
    assert!(cost.requests < 60, "the end: {cost:?}");
}

#[test]
fn a_file_of_a_hundred_gigabytes_with_holes_costs_only_what_is_in_it() {
    const LEN: u64 = 100 << 30;
    for (kind, options) in [("ext4", "-b 4096"), ("ext3", "-b 4096")] {
        let image = Image::new(kind, options, 64);
        let (fs, disk) = mounted(&image);
        let file = make(&fs.root(), "file");
        truncate(&file, LEN).unwrap();
        let places = [0, 5 << 20, 1 << 32, 50 << 30, LEN - 5000];
        for at in places {
            write_at(&file, at, &[1; 5000]).unwrap();
        }
        disk.cost();
        fs.fs.sync().unwrap();
        let written = disk.cost();
        assert!(written.requests < 120, "{kind}: {written:?}");
        for at in places {
            assert_eq!(read_at(&file, at, 5000).unwrap(), [1; 5000]);
            assert_eq!(
                read_at(&file, at.saturating_sub(100_000), 1000).unwrap()[..10],
                [if at == 0 { 1 } else { 0 }; 10]
            );
        }
        let space = file.metadata().unwrap().blocks * 512;
        assert!(space < 200_000, "{kind}: {space} bytes");
        disk.cost();
        truncate(&file, 10).unwrap();
        fs.fs.sync().unwrap();
        let cut = disk.cost();
        assert!(cut.requests < 120, "{kind}: {cut:?}");
        drop((file, fs));
        image.check();
    }
}
