//! COW headers: what the stock tools write is read and written byte for byte, and damage is told in one sentence.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use arch_um::host::image::{Image, ImageOptions};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use ubd::Refusal;
use ubd::cow::header::{Order, Version};
use ubd::cow::{Header, HeaderError, Layout, open};

/// What `uml_mkcow` of uml-utilities 20070815 writes for /tmp/mm/b of 1 MiB, modified 2020-01-01 00:00:00 UTC; the rest of its 4128 bytes are zeros.
const MKCOW: &[u8] = b"OOOM\0\0\0\x03\x5e\x0b\xe1\0\0\0\0\0\0\x10\0\0\0\0\x02\0\0\0\x10\0\0\0\0\0/tmp/mm/b";
/// What UML 6.1 leaves of its memory in the name's field, from byte 4096 of the file on.
const UML_GARBAGE: &[u8] = b"\0\xe0\x09\x6f\0";

fn padded(start: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = start.to_vec();
    bytes.resize(len, 0);
    bytes
}

fn stock() -> Header {
    Header::new("/tmp/mm/b".into(), 1_577_836_800, 1 << 20)
}

#[test]
fn a_header_is_written_as_uml_mkcow_writes_it() {
    assert_eq!(stock().encode(), Ok(padded(MKCOW, 4128)));
}

#[test]
fn the_headers_of_uml_mkcow_and_of_uml_are_read() {
    let mut bytes = padded(MKCOW, 4128);
    assert_eq!(Header::parse(&bytes), Ok(Some(stock())));
    bytes[4096..4101].copy_from_slice(UML_GARBAGE);
    assert_eq!(Header::parse(&bytes), Ok(Some(stock())));
    let layout = Layout {
        bitmap_offset: 8192,
        bitmap_len: 256,
        data_offset: 12288,
        size: 1 << 20,
    };
    assert_eq!(stock().layout(), layout);
    assert_eq!(layout.file_len(), 1_060_864);
}

/// The layouts of `cow_sizes` in UML, for a disk of `size` bytes.
#[test]
fn bitmap_and_data_are_where_uml_has_them() {
    let layout = |version, size| {
        let header = Header {
            version,
            alignment: if matches!(version, Version::V1 | Version::V2) {
                512
            } else {
                4096
            },
            size,
            ..stock()
        };
        let layout = header.layout();
        (layout.bitmap_offset, layout.bitmap_len, layout.data_offset)
    };
    assert_eq!(layout(Version::V3, 10 << 20), (8192, 2560, 12288));
    assert_eq!(layout(Version::BrokenV3, 10 << 20), (8192, 2560, 12288));
    assert_eq!(layout(Version::V2, 10 << 20), (4120, 2560, 7168));
    assert_eq!(layout(Version::V1, 10 << 20), (280, 2560, 3072));
    // The last sectors of an odd size have no bit in versions 1 and 2.
    assert_eq!(layout(Version::V3, 9 * 512 + 1), (8192, 2, 12288));
    assert_eq!(layout(Version::V2, 9 * 512 + 1), (4120, 1, 4608));
}

#[test]
fn every_version_comes_back_as_it_was_written_in_either_order() {
    for version in [Version::V1, Version::V2, Version::V3, Version::BrokenV3] {
        for order in [Order::Big, Order::Little] {
            let header = Header {
                version,
                order,
                alignment: if matches!(version, Version::V1 | Version::V2) {
                    512
                } else {
                    8192
                },
                ..stock()
            };
            let bytes = header.encode().expect("the name fits");
            assert_eq!(Header::parse(&bytes), Ok(Some(header.clone())));
            assert_eq!(
                Header::parse(&bytes[..bytes.len() - 1]),
                Err(HeaderError::Short(version)),
                "{version:?}"
            );
        }
    }
}

/// Fields at the offsets of the C structures of old, put there by hand.
#[test]
fn old_versions_have_their_fields_where_uml_had_them() {
    let mut v1 = vec![0; 280];
    v1[..8].copy_from_slice(b"MOOO\x01\0\0\0");
    v1[8..11].copy_from_slice(b"/x\0");
    v1[264..268].copy_from_slice(&7_u32.to_ne_bytes());
    v1[268..276].copy_from_slice(&4096_u64.to_ne_bytes());
    v1[276..280].copy_from_slice(&512_u32.to_ne_bytes());
    let mut v2 = vec![0; 4120];
    v2[..8].copy_from_slice(b"OOOM\0\0\0\x02");
    v2[8..11].copy_from_slice(b"/x\0");
    v2[4104..4108].copy_from_slice(&7_u32.to_be_bytes());
    v2[4108..4116].copy_from_slice(&4096_u64.to_be_bytes());
    v2[4116..4120].copy_from_slice(&512_u32.to_be_bytes());
    let mut broken = vec![0; 4136];
    broken[..8].copy_from_slice(b"OOOM\0\0\0\x03");
    broken[8..12].copy_from_slice(&7_u32.to_be_bytes());
    // The upper half of the 64 bits of time was whatever lay in memory: it does not count.
    broken[12..16].copy_from_slice(b"junk");
    broken[16..24].copy_from_slice(&4096_u64.to_be_bytes());
    broken[24..28].copy_from_slice(&512_u32.to_be_bytes());
    broken[28..32].copy_from_slice(&4096_u32.to_be_bytes());
    broken[36..39].copy_from_slice(b"/x\0");
    for (bytes, version) in [(v1, Version::V1), (v2, Version::V2), (broken, Version::BrokenV3)] {
        let header = Header::parse(&bytes).expect("it is whole").expect("it is a COW file");
        assert_eq!(header.version, version);
        assert_eq!(
            (header.backing.as_path(), header.mtime, header.size),
            (Path::new("/x"), 7, 4096)
        );
    }
}

#[test]
fn a_name_that_does_not_fit_is_refused_in_umls_words() {
    let long = Header {
        backing: PathBuf::from(format!("/{}", "x".repeat(4095))),
        ..stock()
    };
    let text = long.encode().expect_err("it is too long").to_string();
    assert!(
        text.ends_with("is too long - names are limited to 4095 characters"),
        "{text}"
    );
}

#[test]
fn what_is_no_cow_file_is_none() {
    for bytes in [b"".as_slice(), b"OOOM", b"QFI\xfb\0\0\0\x03", &[0; 4136]] {
        assert_eq!(Header::parse(bytes), Ok(None));
    }
}

/// A directory with a backing file, removed at the end.
struct Files(PathBuf);

impl Files {
    fn new(name: &str) -> Self {
        let directory = std::env::temp_dir().join(format!("ubd-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        fs::write(directory.join("back"), vec![7; 100_000]).expect("a backing file");
        Self(directory.canonicalize().expect("a directory of our own"))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A COW file made by us, as bytes.
    fn cow(&self) -> Vec<u8> {
        let path = self.at("whole");
        let _ = fs::remove_file(&path);
        open::create(&path, &self.at("back"), ImageOptions::default()).expect("it is made");
        fs::read(path).expect("the COW file")
    }

    /// Opens a file of these bytes as a COW file.
    fn open(&self, bytes: &[u8]) -> Result<Option<open::Cow>, Refusal> {
        let path = self.at("damaged");
        fs::write(&path, bytes).expect("the COW file");
        let image = Image::open(&path, ImageOptions::default()).expect("it opens");
        match open::probe(&image, &path)? {
            Some(header) => open::open(image, &path, header, None, ImageOptions::default()).map(Some),
            None => Ok(None),
        }
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_new_cow_file_is_sparse_and_names_its_backing_file_absolutely() {
    let files = Files::new("new");
    let bytes = files.cow();
    let header = Header::parse(&bytes).expect("it is whole").expect("it is a COW file");
    assert_eq!(header.backing, files.at("back"));
    assert_eq!(bytes.len() as u64, 12288 + 100_000);
    let metadata = fs::metadata(files.at("whole")).expect("the COW file");
    assert!(metadata.blocks() * 512 <= 16384, "{} blocks", metadata.blocks());
    assert_eq!(metadata.mode() & 0o777, 0o644);
    assert!(files.open(&bytes).expect("it opens").is_some());
}

#[test]
fn a_cow_file_without_its_bitmap_or_data_is_refused() {
    let files = Files::new("cut");
    let whole = files.cow();
    let refused = |bytes: &[u8]| files.open(bytes).err().expect("it is refused").text().to_owned();
    assert!(refused(&whole[..8200]).contains("it ends at byte 8200, inside its bitmap"));
    let mut promised = whole.clone();
    promised[8192] = 0x80;
    assert!(refused(&promised[..12288 + 7 * 512]).contains("before data that its bitmap says it has"));
    assert!(
        files.open(&promised[..12288 + 8 * 512]).is_ok(),
        "all the data is there"
    );
    assert_eq!(fs::metadata(files.at("damaged")).expect("it").len(), whole.len() as u64);
}

#[test]
fn a_changed_backing_file_is_refused_in_umls_words() {
    let files = Files::new("changed");
    let whole = files.cow();
    let mut older = whole.clone();
    older[11] ^= 1;
    let text = files.open(&older).err().expect("it is refused").text().to_owned();
    assert!(
        text.contains("mtime mismatch (") && text.contains(") of COW header vs backing file"),
        "{text}"
    );
    fs::write(files.at("back"), [7; 99]).expect("the backing file");
    let text = files.open(&whole).err().expect("it is refused").text().to_owned();
    assert!(
        text.contains("Size mismatch (100000 vs 99) of COW header vs backing file"),
        "{text}"
    );
    fs::remove_file(files.at("back")).expect("the backing file");
    let text = files.open(&whole).err().expect("it is refused").text().to_owned();
    assert!(
        text.contains("Failed to get modification time of backing file"),
        "{text}"
    );
}

#[test]
fn two_thousand_damaged_headers_never_panic_and_are_told_in_one_sentence() {
    let files = Files::new("fuzz");
    let whole = files.cow();
    // Mostly in the numbers, sometimes in the name or the bitmap; a bit, a byte, or an extreme.
    let place = prop_oneof![6 => 0_usize..36, 2 => 36_usize..200, 1 => 4096_usize..8300];
    let damage = (place, prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(0x7f)]);
    let cut = prop_oneof![8 => Just(usize::MAX), 1 => 0_usize..9000, 1 => 0_usize..120_000];
    let mut runner = TestRunner::new(Config::with_cases(2000));
    let outcome = runner.run(&(prop::collection::vec(damage, 1..6), cut), |(damage, cut)| {
        let mut bytes = whole.clone();
        for (at, byte) in damage {
            bytes[at] = byte;
        }
        bytes.truncate(cut);
        if let Err(refusal) = files.open(&bytes) {
            let text = refusal.text();
            prop_assert!(
                text.contains("; ") && text.contains('"') && !text.contains('\n'),
                "{}",
                text
            );
        }
        Ok(())
    });
    outcome.expect("damage is survived");
}
