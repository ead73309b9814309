//! A COW disk on files, of every version, is a plain array of bytes; its backing file never changes; a new opening shows what was flushed.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use arch_um::host::image::{Cached, Durability, Image, ImageOptions};
use proptest::prelude::*;
use ubd::cow::header::Version;
use ubd::cow::{CowStore, Header, merge, open};
use ubd::store::Store;

const SECTORS: u64 = 8 * 40;
const SIZE: u64 = SECTORS * 512;

#[derive(Clone, Debug)]
enum Step {
    Write(u64, u64, u8),
    Stable(u64, u64, u8),
    Discard(u64, u64),
    Zero(u64, u64),
    Read(u64, u64),
    ReadCached(u64, u64),
    Flush,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let range = || (0..SECTORS, 1..=64_u64).prop_map(|(first, count)| (first, count.min(SECTORS - first)));
    prop_oneof![
        6 => (range(), any::<u8>()).prop_map(|((first, count), byte)| Step::Write(first, count, byte)),
        1 => (range(), any::<u8>()).prop_map(|((first, count), byte)| Step::Stable(first, count, byte)),
        1 => range().prop_map(|(first, count)| Step::Discard(first, count)),
        1 => range().prop_map(|(first, count)| Step::Zero(first, count)),
        4 => range().prop_map(|(first, count)| Step::Read(first, count)),
        4 => range().prop_map(|(first, count)| Step::ReadCached(first, count)),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
    ]
}

struct Files(PathBuf);

impl Files {
    fn new() -> Self {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("ubd-model-{}-{number}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        Self(directory.canonicalize().expect("a directory of our own"))
    }

    /// A COW file of `version` without a sector.
    fn make(&self, version: Version) {
        let back = self.0.join("back");
        let image = Image::open(&back, ImageOptions::default()).expect("the backing file");
        let header = Header {
            version,
            alignment: if matches!(version, Version::V1 | Version::V2) {
                512
            } else {
                4096
            },
            ..Header::new(back, image.modified(), SIZE)
        };
        let cow = Image::create(&self.0.join("cow"), ImageOptions::default()).expect("a COW file");
        cow.write(0, &header.encode().expect("the name fits"), Durability::Cached)
            .expect("it writes");
        cow.set_len(header.layout().file_len()).expect("it grows");
    }

    fn open(&self) -> CowStore {
        let path = self.0.join("cow");
        let image = Image::open(&path, ImageOptions::default()).expect("the COW file");
        let header = open::probe(&image, &path).expect("whole").expect("a COW file");
        let cow = open::open(image, &path, header, None, ImageOptions::default()).expect("it opens");
        assert_eq!(cow.len, SIZE);
        cow.store
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn run(version: Version, steps: &[Step]) {
    let files = Files::new();
    let backing: Vec<u8> = (0..SIZE).map(|at| (at / 512 * 7 + at) as u8).collect();
    fs::write(files.0.join("back"), &backing).expect("the backing file");
    files.make(version);
    let mut model = backing.clone();
    let mut store = files.open();
    let bytes = |first: u64, count: u64| (first * 512) as usize..((first + count) * 512) as usize;
    for step in steps {
        match *step {
            Step::Write(first, count, byte) | Step::Stable(first, count, byte) => {
                let data = vec![byte; (count * 512) as usize];
                let durability = match step {
                    Step::Stable(..) => Durability::Stable,
                    _ => Durability::Cached,
                };
                store.write(first * 512, &data, durability).expect("it writes");
                model[bytes(first, count)].copy_from_slice(&data);
            }
            Step::Discard(first, count) => {
                store.discard(first * 512, count * 512).expect("it discards");
                model[bytes(first, count)].fill(0);
            }
            Step::Zero(first, count) => {
                match store.write_zeroes(first * 512, count * 512) {
                    Err(arch_um::Errno::EOPNOTSUPP) => continue,
                    outcome => outcome.expect("it zeros"),
                }
                model[bytes(first, count)].fill(0);
            }
            Step::Read(first, count) => {
                let mut data = vec![0xaa; (count * 512) as usize];
                store.read(first * 512, &mut data).expect("it reads");
                assert!(data == model[bytes(first, count)], "{version:?}: {first}+{count}");
            }
            Step::ReadCached(first, count) => {
                let mut data = vec![0xaa; (count * 512) as usize];
                if store.read_cached(first * 512, &mut data) == Cached::Yes {
                    assert!(
                        data == model[bytes(first, count)],
                        "{version:?}: {first}+{count} from memory"
                    );
                }
            }
            Step::Flush => store.flush().expect("it flushes"),
            Step::Reopen => {
                store.flush().expect("it flushes");
                drop(store);
                store = files.open();
            }
        }
    }
    store.flush().expect("it flushes");
    assert!(!store.is_unsaved());
    let merged = files.0.join("merged");
    let target = Image::create(&merged, ImageOptions::default()).expect("a file");
    merge::into_new(&store, SIZE, &target).expect("it merges");
    assert!(
        fs::read(&merged).expect("the merged file") == model,
        "merged into a new file"
    );
    assert!(
        fs::read(files.0.join("back")).expect("it") == backing,
        "the backing file is never written"
    );
    let in_place = files.0.join("in-place");
    fs::write(&in_place, &backing).expect("a copy");
    let target = Image::open(&in_place, ImageOptions::default()).expect("the copy");
    merge::in_place(&store, SIZE, &target).expect("it merges");
    assert!(fs::read(&in_place).expect("the copy") == model, "merged in place");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_cow_disk_is_an_array_of_bytes(
        version in prop_oneof![Just(Version::V3), Just(Version::BrokenV3), Just(Version::V2), Just(Version::V1)],
        steps in prop::collection::vec(step(), 1..60),
    ) {
        run(version, &steps);
    }
}

#[test]
fn a_cow_file_of_uneven_length_ends_in_zeros() {
    let files = Files::new();
    let back = files.0.join("back");
    fs::write(&back, [7; 1000]).expect("the backing file");
    let (image, header) = open::create(&files.0.join("cow"), &back, ImageOptions::default()).expect("it is made");
    let cow = open::open(image, &files.0.join("cow"), header, None, ImageOptions::default()).expect("it opens");
    let mut data = [1; 1024];
    cow.store.read(0, &mut data).expect("it reads");
    assert_eq!(
        (&data[..1000], &data[1000..]),
        ([7; 1000].as_slice(), [0; 24].as_slice())
    );
    cow.store.write(512, &[9; 512], Durability::Cached).expect("it writes");
    cow.store.read(0, &mut data).expect("it reads");
    assert_eq!((&data[..512], &data[512..]), ([7; 512].as_slice(), [9; 512].as_slice()));
}

#[test]
fn several_disks_share_a_backing_file_and_see_nothing_of_each_other() {
    let files = Files::new();
    let back = files.0.join("back");
    fs::write(&back, vec![7; SIZE as usize]).expect("the backing file");
    let disks: Vec<Arc<CowStore>> = (0..3)
        .map(|number| {
            let path = files.0.join(format!("cow{number}"));
            let (image, header) = open::create(&path, &back, ImageOptions::default()).expect("it is made");
            let cow = open::open(image, &path, header, None, ImageOptions::default()).expect("it opens");
            Arc::new(cow.store)
        })
        .collect();
    for (number, disk) in disks.iter().enumerate() {
        disk.write(4096, &[number as u8; 4096], Durability::Cached)
            .expect("it writes");
    }
    for (number, disk) in disks.iter().enumerate() {
        let mut data = [1; 12288];
        disk.read(0, &mut data).expect("it reads");
        assert_eq!(data[..4096], [7; 4096]);
        assert_eq!(data[4096..8192], [number as u8; 4096]);
        assert_eq!(data[8192..], [7; 4096]);
    }
    assert!(
        Image::open(&back, ImageOptions::default()).is_err(),
        "nobody may write it meanwhile"
    );
}

#[test]
fn writers_of_neighbouring_sectors_and_flushers_do_not_lose_each_others_bits() {
    const WRITERS: u64 = 4;
    let files = Files::new();
    fs::write(files.0.join("back"), vec![7; SIZE as usize]).expect("the backing file");
    files.make(Version::V3);
    let store = files.open();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let store = &store;
            // All writers share each byte of the bitmap.
            scope.spawn(move || {
                for sector in (writer..SECTORS).step_by(WRITERS as usize) {
                    store
                        .write(sector * 512, &[sector as u8; 512], Durability::Cached)
                        .expect("it writes");
                    if sector % 16 == writer {
                        store.flush().expect("it flushes");
                    }
                }
                store.flush().expect("it flushes");
            });
        }
    });
    drop(store);
    let store = files.open();
    for sector in 0..SECTORS {
        let mut data = [1; 512];
        store.read(sector * 512, &mut data).expect("it reads");
        assert_eq!(data, [sector as u8; 512], "sector {sector}");
    }
}
