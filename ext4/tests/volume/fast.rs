//! Fast commits, written by Linux and by hand; applied by us, by e2fsck and by Linux: three times the same tree.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use ext4::device::BlockDevice;
use ext4::fault::FaultDevice;

use crate::fast_area::{FAST_COMMIT, crc32c, fast_commit, record};
use crate::image::{Image, mount};
use crate::linux::{Host, Seen, same, tree};

/// Writes and syncs, so that Linux makes a fast commit.
fn put(path: &Path, data: &[u8]) {
    let options = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .clone();
    let mut file = options.open(path).unwrap();
    file.write_all(data).unwrap();
    file.sync_all().unwrap();
}

/// A full commit, on top of which fast ones come.
fn full_commit(host: &Host) {
    let done = std::process::Command::new("sync").arg("-f").arg(host.root()).status();
    assert!(done.unwrap().success());
}

/// Our replay, which must be like Linux's where there is one.
fn replayed(image: &Image, least: u64) -> BTreeMap<String, Seen> {
    let linux = image.copy();
    let ours = {
        let fs = image.mount();
        assert!(fs.fs.recovery().fast_commits >= least, "{:?}", fs.fs.recovery());
        tree(&fs)
    };
    image.check();
    if let Some(host) = Host::mount(&linux, "rw") {
        drop(host);
        same(&ours, &tree(&linux.mount_read_only()), "Linux's replay");
    }
    ours
}

#[test]
fn what_linux_has_committed_fast_is_there() {
    for options in [
        "-b 1024 -O fast_commit",
        "-b 4096 -O fast_commit,^metadata_csum",
        "-b 4096 -O fast_commit,^dir_index",
    ] {
        let image = Image::new("ext4", options, 64);
        let Some(host) = Host::mount(&image, "commit=3600") else {
            return;
        };
        std::fs::create_dir(host.at("d")).unwrap();
        put(&host.at("d/old"), b"old");
        put(&host.at("gone"), b"gone");
        put(&host.at("cut"), &[b'c'; 200_000]);
        full_commit(&host);
        put(&host.at("d/a"), &[b'a'; 10_000]);
        put(&host.at("d/b"), b"b");
        std::fs::hard_link(host.at("d/a"), host.at("d/a2")).unwrap();
        put(&host.at("d/a"), &[b'A'; 5000]);
        std::fs::remove_file(host.at("gone")).unwrap();
        put(&host.at("d/b"), &[b'B'; 9000]);
        std::fs::rename(host.at("d/old"), host.at("new")).unwrap();
        put(&host.at("new"), &[b'n'; 5000]);
        let cut = std::fs::File::options().write(true).open(host.at("cut"));
        cut.unwrap().set_len(4097).unwrap();
        put(&host.at("cut"), b"Q");
        let copy = image.copy();
        drop(host);
        let fsck = copy.copy();
        let ours = replayed(&copy, 10);
        fsck.repair();
        same(&ours, &tree(&fsck.mount()), "e2fsck's replay");
    }
}

/// Without e2fsck as judge: its replay leaves a file's old blocks to the next one with its number, and loses names when a directory grows.
#[test]
fn nodes_of_every_kind_and_numbers_used_again() {
    for options in ["-b 1024 -O fast_commit", "-b 4096 -O fast_commit,^metadata_csum"] {
        let image = Image::new("ext4", options, 64);
        let Some(host) = Host::mount(&image, "commit=3600") else {
            return;
        };
        for at in 0..20 {
            put(&host.at(&format!("early{at}")), &[at; 7000]);
        }
        std::fs::create_dir(host.at("empty")).unwrap();
        full_commit(&host);
        put(&host.at("first"), b"a fast commit");
        std::fs::create_dir_all(host.at("one/two/three")).unwrap();
        put(&host.at("one/two/three/file"), &[3; 5000]);
        symlink("short", host.at("one/fast")).unwrap();
        put(&host.at("one/f"), b"f");
        for at in 0..10 {
            std::fs::remove_file(host.at(&format!("early{at}"))).unwrap();
            put(&host.at(&format!("one/late{at}")), &[at; 2000]);
        }
        std::fs::rename(host.at("one/late1"), host.at("early15")).unwrap();
        put(&host.at("one/late2"), b"again");
        std::fs::remove_dir(host.at("empty")).unwrap();
        for at in 0..40 {
            let name = "a long name, so that the directory grows ".repeat(5);
            std::fs::write(host.at(&format!("one/two/{name}{at}")), [at; 3000]).unwrap();
        }
        put(&host.at("one/last"), &[9; 20_000]);
        // Where the kernel has made a full commit of all that, this is one.
        put(&host.at("one/two/three/behind"), b"behind");
        let copy = image.copy();
        drop(host);
        replayed(&copy, 3);
    }
}

/// The number behind `key` in what debugfs says.
fn number(image: &Image, request: &str, key: &str, base: u32) -> u64 {
    let text = image.debugfs(request);
    let from = text.find(key).unwrap_or_else(|| panic!("{request}: {text}")) + key.len();
    let digits = text[from..].trim_start().split(|c: char| !c.is_digit(base)).next();
    u64::from_str_radix(digits.unwrap(), base).unwrap()
}

/// An image of 4 KiB blocks with files and, in its journal, records by hand on top of an empty log.
struct ByHand {
    image: Image,
    file: std::fs::File,
    records: Vec<Vec<u8>>,
    /// `/src`, 10 blocks; `/old`; a free number.
    src: u32,
    old: u32,
    free_inode: u32,
    /// Ten free blocks in a row.
    free: u64,
}

const SIZE: u64 = 4096;
const TID: u32 = 5;

impl ByHand {
    fn new(options: &str) -> Self {
        let root = std::env::temp_dir().join(format!(
            "ext4-by-hand-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::create_dir_all(root.join("dir")).unwrap();
        std::fs::write(root.join("src"), [b's'; 40_000]).unwrap();
        std::fs::write(root.join("old"), "old").unwrap();
        let image = Image::new(
            "ext4",
            &format!("{options} -b 4096 -O fast_commit -d {}", root.display()),
            32,
        );
        std::fs::remove_dir_all(root).unwrap();
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(image.path())
            .unwrap();
        Self {
            src: number(&image, "stat /src", "Inode:", 10) as u32,
            old: number(&image, "stat /old", "Inode:", 10) as u32,
            free_inode: number(&image, "ffi", "inode found:", 10) as u32,
            free: number(&image, "ffb 10", "blocks found:", 10),
            records: Vec::new(),
            image,
            file,
        }
    }

    fn raw(&self, ino: u32) -> Vec<u8> {
        let place = format!("imap <{ino}>");
        let block = number(&self.image, &place, "located at block", 10);
        let offset = number(&self.image, &place, "offset 0x", 16);
        let mut raw = vec![0; 160];
        self.file.read_exact_at(&mut raw, block * SIZE + offset).unwrap();
        raw
    }

    /// An `INODE` record: like `/src`, with these links, this size and generation.
    fn inode(&mut self, ino: u32, links: u16, size: u32, generation: u32) {
        let mut raw = self.raw(self.src);
        raw[4..8].copy_from_slice(&size.to_le_bytes());
        raw[0x1a..0x1c].copy_from_slice(&links.to_le_bytes());
        raw[0x64..0x68].copy_from_slice(&generation.to_le_bytes());
        self.records.push(record(6, &[&ino.to_le_bytes(), &raw]));
    }

    fn name(&mut self, kind: u16, parent: u32, ino: u32, name: &str) {
        self.records.push(record(
            kind,
            &[&parent.to_le_bytes(), &ino.to_le_bytes(), name.as_bytes()],
        ));
    }

    fn add(&mut self, ino: u32, at: u32, len: u16, block: u64) {
        let extent = [
            &at.to_le_bytes()[..],
            &len.to_le_bytes(),
            &[0; 2],
            &(block as u32).to_le_bytes(),
        ]
        .concat();
        self.records.push(record(1, &[&ino.to_le_bytes(), &extent]));
    }

    fn remove(&mut self, ino: u32, at: u32, len: u32) {
        self.records
            .push(record(2, &[&ino.to_le_bytes(), &at.to_le_bytes(), &len.to_le_bytes()]));
    }

    fn journal_block(&self, at: u64) -> u64 {
        number(&self.image, &format!("bmap <8> {at}"), "", 10)
    }

    /// Writes the records into the journal, which is not clean then.
    fn store(self) -> Image {
        self.image.debugfs_write("feature needs_recovery");
        let at = self.journal_block(0) * SIZE;
        let mut superblock = vec![0; 1024];
        self.file.read_exact_at(&mut superblock, at).unwrap();
        let word = |at: usize| u32::from_be_bytes(superblock[at..at + 4].try_into().unwrap());
        let (blocks, fast) = (word(0x10), word(0x54));
        superblock[0x2b] |= FAST_COMMIT as u8;
        superblock[0x18..0x1c].copy_from_slice(&TID.to_be_bytes());
        superblock[0x1c..0x20].copy_from_slice(&1u32.to_be_bytes());
        self.file.write_all_at(&superblock, at).unwrap();
        let first = self.journal_block(u64::from(blocks - fast + 1)) * SIZE;
        self.file
            .write_all_at(&fast_commit(SIZE as usize, TID, &self.records), first)
            .unwrap();
        self.image
    }
}

fn by_hand(options: &str) -> Image {
    let mut hand = ByHand::new(options);
    let (src, old, new, free) = (hand.src, hand.old, hand.free_inode, hand.free);
    for at in 0..10 {
        hand.file
            .write_all_at(&[b'0' + at; SIZE as usize], (free + u64::from(at)) * SIZE)
            .unwrap();
    }
    hand.inode(new, 1, 5000, 77);
    hand.add(new, 0, 2, free);
    hand.name(3, 2, new, "made");
    hand.name(4, 2, new, "made again");
    hand.inode(new, 2, 5000, 77);
    hand.name(5, 2, old, "old");
    // Another block in the middle, an unwritten piece behind a hole, no end.
    let generation = u32::from_le_bytes(hand.raw(src)[0x64..0x68].try_into().unwrap());
    hand.add(src, 1, 1, free + 5);
    hand.add(src, 100, 32768 + 3, free + 6);
    hand.remove(src, 4, 6);
    hand.inode(src, 1, 103 * SIZE as u32, generation);
    hand.store()
}

#[test]
fn records_by_hand_give_the_tree_that_e2fsck_makes_of_them() {
    for options in ["", "-O ^metadata_csum", "-O ^64bit,^dir_index"] {
        let image = by_hand(options);
        let fsck = image.copy();
        let ours = replayed(&image, 10);
        fsck.repair();
        same(&ours, &tree(&fsck.mount()), "e2fsck's replay");
        assert_eq!((ours["/made"].links, ours["/made"].size), (2, 5000));
        assert!(!ours.contains_key("/old"));
        let fs = image.mount();
        let src = fs.read("src");
        assert_eq!(src.len() as u64, 103 * SIZE);
        assert_eq!((src[0], src[4096], src[8192]), (b's', b'5', b's'));
        assert!(src[4 * 4096..].iter().all(|&byte| byte == 0));
        assert_eq!(fs.fs.recovery().fast_commits, 0, "they are not applied twice");
    }
}

#[test]
fn a_crash_leaves_fast_commits_or_what_they_meant() {
    let want = tree(&by_hand("").mount());
    let base = by_hand("").load();
    let disk = FaultDevice::new(base.clone());
    disk.record();
    mount("ext4", disk.clone(), "", false).unwrap().end().unwrap();
    let requests = disk.recorded();
    assert!(requests.len() > 8, "the replay was never cut");
    let again = FaultDevice::new(base);
    again.keep_whole(0..again.len());
    for (number, request) in requests.iter().enumerate() {
        request.repeat(&again).unwrap();
        let image = Image::of("ext4", &again.crash(number as u64));
        let fs = image.mount();
        same(&tree(&fs), &want, &format!("an undisturbed replay, cut at {number}"));
        drop(fs);
        image.check();
    }
}

#[test]
fn records_of_what_cannot_be_refuse_the_mount_and_leave_the_journal() {
    let refused: [fn(&mut ByHand); 6] = [
        |hand| hand.add(hand.src, 0, 1, 1),
        |hand| hand.add(hand.src, 0, 1, 1 << 30),
        |hand| hand.add(8, 0, 1, hand.free),
        |hand| hand.name(3, hand.src, hand.old, "in a file"),
        |hand| hand.name(4, 2, hand.old, ".."),
        |hand| hand.inode(1 << 30, 1, 0, 0),
    ];
    for spoil in refused {
        let mut hand = ByHand::new("");
        hand.name(4, 2, hand.old, "good");
        spoil(&mut hand);
        let image = hand.store();
        for _ in 0..2 {
            assert!(image.mount_with("", false).is_err());
        }
        assert!(!image.debugfs("ls /").contains("good"));
    }
}

#[test]
fn the_sum_over_an_area_is_the_usual_one() {
    assert_eq!(!crc32c(!0, b"123456789"), 0xe306_9283);
}

/// Names, sizes and contents at random, synced now and then.
fn at_random(host: &Host, seed: u64) {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |below: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 20) % below
    };
    for step in 0..120u8 {
        let dir = format!("dir{}", random(3));
        let name = host.at(&format!("{dir}/file{}", random(12)));
        let other = host.at(&format!("dir{}/file{}", random(3), random(12)));
        // Whatever does not work is no change.
        let _ = match random(10) {
            0 => std::fs::create_dir(host.at(&dir)),
            1 => std::fs::remove_dir(host.at(&dir)),
            2 => std::fs::remove_file(&name),
            3 => std::fs::hard_link(&name, &other),
            4 => std::fs::rename(&name, &other),
            5 => std::fs::File::options()
                .write(true)
                .open(&name)
                .and_then(|file| file.set_len(random(60_000))),
            _ => std::fs::File::options()
                .create(true)
                .truncate(false)
                .write(true)
                .open(&name)
                .and_then(|file| file.write_all_at(&vec![step; random(9000) as usize], random(50_000))),
        };
        if random(5) == 0 {
            let _ = std::fs::File::open(&other).and_then(|file| file.sync_all());
        }
    }
}

/// Here the judge is what Linux showed when it had synced it: its own replay, and e2fsck's, lose directories whose numbers are used again.
#[test]
fn changes_at_random_are_replayed_to_what_linux_had_synced() {
    let mut fast = 0;
    for seed in 1..=12 {
        let options = ["-b 1024 -O fast_commit", "-b 4096 -O fast_commit,^metadata_csum"][seed as usize % 2];
        let image = Image::new("ext4", options, 64);
        let Some(host) = Host::mount(&image, "commit=3600") else {
            return;
        };
        at_random(&host, seed);
        full_commit(&host);
        at_random(&host, seed + 1000);
        for path in host.tree().keys() {
            let file = std::fs::File::open(host.at(&path[1..])).unwrap();
            file.sync_all().unwrap();
        }
        let copy = image.copy();
        let live = host.tree();
        drop(host);
        let ours = {
            let fs = copy.mount();
            fast += fs.fs.recovery().fast_commits;
            tree(&fs)
        };
        same(&ours, &live, &format!("Linux, seed {seed}"));
        copy.check();
    }
    assert!(fast > 100, "Linux made hardly any fast commit: {fast}");
}
