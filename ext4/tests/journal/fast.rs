//! Fast commits: found where e2fsck finds them, refused when nobody can apply them.
//!
//! Nobody here writes them, so the area is made by hand and e2fsck says whether it is right: it must apply what we read.

use std::sync::Arc;

use ext4::buffer::BufferCache;
use ext4::fault::{FaultDevice, Image};
use ext4::journal::{Config, FastCommit, Features, Journal, Link};
use ext4::{Errno, Result};

use crate::fast_area::{FAST_COMMIT, fast_commit, record};
use crate::image::{Geometry, JOURNAL_INODE, Scratch, arena_inode, debugfs, load_file, make, run, store_file};

const BLOCKS: u32 = 256;

struct Subject {
    scratch: Scratch,
    geometry: Geometry,
    journal: Vec<u64>,
    arena: u32,
    /// With a full commit and a fast one on top.
    image: Image,
}

fn subject() -> Subject {
    let scratch = Scratch::new();
    let path = make(&scratch, "-t ext4 -O fast_commit,^metadata_csum -b 4096 -J size=8", 8);
    let arena = arena_inode(&path);
    debugfs(&path, &["feature needs_recovery"]);
    let image = load_file(&path);
    let geometry = Geometry::of(&image);
    let blocks = geometry.file(&image, JOURNAL_INODE);
    let at = geometry.file(&image, arena)[0];
    let device = FaultDevice::new(image);
    let journal = geometry.journal(&device, Features { ..geometry.features() }).unwrap();
    let mut handle = journal.begin(1).unwrap();
    let tid = handle.tid();
    let buffer = journal.buffers().get(at).unwrap();
    handle.modify(&buffer, |bytes| bytes.fill(7)).unwrap();
    drop(handle);
    journal.commit(tid).unwrap();
    let mut image = device.crash(0);

    // The journal says that it has fast commits, in its last blocks.
    let size = geometry.block_size as u64;
    let mut superblock = geometry.block(&image, blocks[0]);
    superblock[0x2B] |= FAST_COMMIT as u8;
    superblock[0x54..0x58].copy_from_slice(&BLOCKS.to_be_bytes());
    let length = u32::from_be_bytes(superblock[0x10..0x14].try_into().unwrap());
    assert!(image.write(blocks[0] * size, &superblock));
    let link = record(4, &[&2u32.to_le_bytes(), &arena.to_le_bytes(), b"again"]);
    let first = blocks[(length - BLOCKS + 1) as usize];
    assert!(image.write(first * size, &fast_commit(size as usize, tid + 1, &[link])));
    Subject {
        scratch,
        geometry,
        journal: blocks,
        arena,
        image,
    }
}

fn load(subject: &Subject, device: &Arc<FaultDevice>, fast: Option<&mut Vec<FastCommit>>) -> Result<Arc<Journal>> {
    let map = |block: u32| subject.journal.get(block as usize).copied().ok_or(Errno::EUCLEAN);
    let mut config = Config::new(
        "fast-8".into(),
        subject.journal.len() as u64,
        subject.geometry.blocks,
        &map,
    );
    config.features = subject.geometry.features();
    config.fast_commits = fast;
    Journal::load(BufferCache::new(device.clone(), subject.geometry.block_size), config)
}

#[test]
fn fast_commits_are_found_where_e2fsck_finds_them() {
    let subject = subject();
    let device = FaultDevice::new(subject.image.clone());
    let mut seen = Vec::new();
    let journal = load(&subject, &device, Some(&mut seen)).unwrap();
    let want = FastCommit::Link(Link {
        parent: 2,
        inode: subject.arena,
        name: b"again".to_vec(),
    });
    assert_eq!(seen, [want]);
    assert_eq!((journal.recovery().fast_commits, journal.recovery().replayed), (1, 1));
    // They are there until the first transaction commits, and not afterwards.
    let mut again = Vec::new();
    load(&subject, &FaultDevice::new(device.crash(0)), Some(&mut again)).unwrap();
    assert_eq!(again, seen);
    let mut handle = journal.begin(1).unwrap();
    let buffer = journal
        .buffers()
        .get(subject.geometry.file(&subject.image, subject.arena)[1])
        .unwrap();
    handle.modify(&buffer, |bytes| bytes.fill(8)).unwrap();
    drop(handle);
    journal.commit(journal.running()).unwrap();
    let mut gone = Vec::new();
    let later = load(&subject, &FaultDevice::new(device.crash(0)), Some(&mut gone)).unwrap();
    assert!(gone.is_empty());
    assert_eq!(later.recovery().transactions, 1);

    let path = subject.scratch.path("fast");
    store_file(&subject.image, &path);
    let (code, text) = run("e2fsck", &["-fy", path.to_str().unwrap()]);
    assert!(code <= 1, "{text}");
    let listing = debugfs(&path, &["ls /"]);
    assert!(
        listing.contains("again"),
        "e2fsck has not applied the link: {text}\n{listing}"
    );
}

#[test]
fn fast_commits_that_nobody_applies_refuse_the_journal_untouched() {
    let subject = subject();
    let device = FaultDevice::new(subject.image.clone());
    assert_eq!(load(&subject, &device, None).err(), Some(Errno::EOPNOTSUPP));
    assert_eq!(device.requests(), 0);
}
