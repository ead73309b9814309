//! Other people's programs: journals that e2fsck replays as we do, and journals that debugfs has written.

use std::fs;
use std::path::PathBuf;

use ext4::buffer::BufferCache;
use ext4::fault::{FaultDevice, Image};
use ext4::journal::{Checksums, CommitOrder, Config, Features, Freed, Journal, Numbers};

use crate::image::{
    Geometry, JOURNAL_INODE, Scratch, arena_inode, debugfs, judge, load_file, make, replay_by_e2fsck, run, store_file,
};

/// The kinds of file systems there are on disks.
const KINDS: &[&str] = &[
    "-t ext3 -b 1024 -J size=4",
    "-t ext3 -b 4096 -J size=4",
    "-t ext4 -b 1024 -J size=4",
    "-t ext4 -b 4096 -J size=4",
    "-t ext4 -O ^metadata_csum -b 1024 -J size=4",
    "-t ext4 -O ^metadata_csum,^64bit -b 4096 -J size=4",
    "-t ext4 -O ^64bit -b 1024 -J size=4",
    "-t ext4 -O fast_commit -b 4096 -J size=8",
];

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// An image and the blocks of its arena.
struct Subject {
    scratch: Scratch,
    path: PathBuf,
    geometry: Geometry,
    arena: Vec<u64>,
    features: Features,
}

impl Subject {
    fn new(kind: &str) -> Subject {
        let scratch = Scratch::new();
        let path = make(&scratch, kind, 64);
        let inode = arena_inode(&path);
        debugfs(&path, &["feature needs_recovery"]);
        let image = load_file(&path);
        let geometry = Geometry::of(&image);
        Subject {
            arena: geometry.file(&image, inode),
            features: geometry.features(),
            scratch,
            path,
            geometry,
        }
    }

    fn device(&self) -> std::sync::Arc<FaultDevice> {
        FaultDevice::new(load_file(&self.path))
    }

    fn stamped(&self, stamp: u32) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..self.geometry.block_size / 4)
            .flat_map(|_| stamp.to_be_bytes())
            .collect();
        if stamp % 4 == 1 {
            bytes[..4].copy_from_slice(&0xC03B_3998u32.to_be_bytes());
        }
        bytes
    }

    /// Fills the log with changes, revocations and blocks that come back; commits, but stops before anything is clean.
    fn work(&self, journal: &Journal, rounds: u32) -> ext4::Result<()> {
        for round in 0..rounds {
            let mut handle = journal.begin(40)?;
            for step in 0..24 {
                let number = self.arena[((round * 13 + step * 5) % 60) as usize];
                let buffer = journal.buffers().get(number)?;
                handle.modify(&buffer, |bytes| {
                    bytes.copy_from_slice(&self.stamped(round * 100 + step))
                })?;
            }
            if round % 3 == 1 {
                handle.free(self.arena[60 + (round / 3 % 4) as usize], 1, Freed::Metadata)?;
            }
            if round % 3 == 2 {
                let buffer = handle.create(self.arena[60 + (round / 3 % 4) as usize])?;
                handle.modify(&buffer, |bytes| bytes.copy_from_slice(&self.stamped(round)))?;
            }
            let tid = handle.tid();
            drop(handle);
            if round % 2 == 0 {
                journal.commit(tid)?;
            }
            if round % 17 == 16 {
                journal.sync()?;
            }
        }
        Ok(())
    }

    /// Our replay and e2fsck's of the same image agree in every block outside of the journal and the superblocks.
    fn compare(&self, crashed: &Image) -> ext4::journal::Recovery {
        let device = FaultDevice::new(crashed.clone());
        let journal = self.geometry.journal(&device, self.features).expect("our replay");
        let recovery = journal.recovery();
        journal.close().unwrap();
        let ours = device.image();
        let path = self.scratch.path("crashed");
        store_file(crashed, &path);
        replay_by_e2fsck(&path);
        let theirs = load_file(&path);
        let own = self.geometry.file(crashed, JOURNAL_INODE);
        for number in self.arena.iter().filter(|number| !own.contains(number)) {
            assert_eq!(
                self.geometry.block(&ours, *number),
                self.geometry.block(&theirs, *number),
                "block {number} differs"
            );
        }
        // And what we leave is a clean file system with a clean journal.
        store_file(&ours, &path);
        let dump = debugfs(&path, &["logdump -a"]);
        assert!(dump.contains("Journal starts at block 0"), "{dump}");
        debugfs(&path, &["feature -needs_recovery"]);
        judge(&path);
        recovery
    }
}

/// All journal features, whatever the file system would ask for.
fn all_features(subject: &Subject) -> Vec<Features> {
    let mut all = vec![subject.features];
    let numbers = subject.features.numbers;
    if subject.features.checksums == Checksums::None {
        for checksums in [Checksums::Commit, Checksums::V2, Checksums::V3] {
            all.push(Features {
                numbers,
                checksums,
                commit: CommitOrder::AfterFlush,
            });
        }
        all.push(Features {
            numbers: Numbers::Wide,
            checksums: Checksums::Commit,
            commit: CommitOrder::Together,
        });
    }
    all
}

#[test]
fn e2fsck_replays_our_journals_as_we_do() {
    for kind in KINDS {
        let mut subject = Subject::new(kind);
        for features in all_features(&subject) {
            subject.features = features;
            let device = subject.device();
            let journal = subject.geometry.journal(&device, features).unwrap();
            // More than the log holds, so that it wraps; and enough after the last sync that a revoked block is in the log.
            subject.work(&journal, 203).unwrap();
            let recovery = subject.compare(&device.crash(1));
            assert!(
                recovery.replayed > 20 && recovery.revoked > 0,
                "{kind} {features:?}: {recovery:?}"
            );
        }
    }
}

#[test]
fn e2fsck_agrees_at_every_crash() {
    for (kind, step) in [(KINDS[2], 23), (KINDS[1], 31), (KINDS[4], 29)] {
        let subject = Subject::new(kind);
        let mut stop = 5;
        loop {
            let device = subject.device();
            device.stop_at(stop);
            let failed = match subject.geometry.journal(&device, subject.features) {
                Ok(journal) => subject.work(&journal, 40).is_err(),
                Err(_) => true,
            };
            subject.compare(&device.crash(stop));
            if !failed {
                break;
            }
            stop += step;
        }
    }
}

#[test]
fn a_closed_journal_is_clean_for_e2fsck() {
    for kind in KINDS {
        let subject = Subject::new(kind);
        let device = subject.device();
        let journal = subject.geometry.journal(&device, subject.features).unwrap();
        subject.work(&journal, 30).unwrap();
        journal.close().unwrap();
        assert!(journal.begin(1).is_err());
        store_file(&device.image(), &subject.path);
        debugfs(&subject.path, &["feature -needs_recovery"]);
        judge(&subject.path);
        let dump = debugfs(&subject.path, &["logdump -a"]);
        assert!(dump.contains("Journal starts at block 0"), "{dump}");
    }
}

#[test]
fn logdump_reads_what_we_have_written() {
    let subject = Subject::new(KINDS[3]);
    let device = subject.device();
    let journal = subject.geometry.journal(&device, subject.features).unwrap();
    subject.work(&journal, 6).unwrap();
    store_file(&device.crash(1), &subject.path);
    let dump = debugfs(&subject.path, &["logdump -a"]);
    for what in [
        "Journal starts at block 1",
        "descriptor block",
        "commit block",
        "revoke block",
    ] {
        assert!(dump.contains(what), "{what} is missing:\n{dump}");
    }
    for number in &subject.arena[..5] {
        assert!(
            dump.contains(&format!("FS block {number} logged")),
            "{number} is missing:\n{dump}"
        );
    }
}

/// Journals by a program we did not write: debugfs logs blocks and revokes; we replay, and so does e2fsck.
#[test]
fn journals_written_by_debugfs_are_replayed() {
    for kind in KINDS {
        for (open, sums) in [("jo", 0), ("jo -c -v 2", 8), ("jo -c -v 3", 0x10)] {
            let subject = Subject::new(kind);
            // debugfs sets that flag itself, and would take a journal that has it as it is.
            debugfs(&subject.path, &["feature -needs_recovery"]);
            let size = subject.geometry.block_size;
            let file = |name: &str, stamps: &[u32]| {
                let path = subject.scratch.path(name);
                let bytes: Vec<u8> = stamps.iter().flat_map(|stamp| subject.stamped(*stamp)).collect();
                fs::write(&path, bytes).unwrap();
                path.to_str().unwrap().to_owned()
            };
            let arena = &subject.arena;
            // 5 and 9 look like blocks of the journal's own.
            let (one, two) = (file("one", &[2, 5, 3]), file("two", &[7, 9]));
            let first = format!("jw -b {},{},{} {one}", arena[0], arena[1], arena[2]);
            let revoke = format!("jw -r {}", arena[2]);
            let second = format!("jw -b {},{} {two}", arena[3], arena[0]);
            // debugfs gives checksums to the blocks of a journal only if the file system has them; else to the commit block, and there it sums up
            // revoke blocks, too, which e2fsck (and Linux) take for corruption.
            let by_block = subject.features.checksums == Checksums::V3;
            let summed = sums != 0 && !by_block;
            let text = match summed {
                true => debugfs(&subject.path, &[open, &first, &second, "jc"]),
                false => debugfs(&subject.path, &[open, &first, &revoke, &second, "jc"]),
            };
            let image = load_file(&subject.path);
            let superblock = subject.geometry.file(&image, JOURNAL_INODE)[0];
            let superblock = subject.geometry.block(&image, superblock);
            let bits = [be32(&superblock, 0x24) & 1 != 0, be32(&superblock, 0x28) & 2 != 0];
            assert_eq!(
                bits,
                [summed, subject.features.numbers == Numbers::Wide],
                "{kind}, {open}: {text}"
            );
            assert_eq!(
                be32(&superblock, 0x28) & 0x18,
                if by_block { sums } else { 0 },
                "{kind}, {open}: {text}"
            );

            let device = FaultDevice::new(image.clone());
            let journal = subject
                .geometry
                .journal(&device, subject.features)
                .unwrap_or_else(|error| panic!("{kind}, {open}: {error}: {text}"));
            let (found, ours) = (journal.recovery(), device.image());
            let expected = if summed { (2, 4, 0) } else { (3, 3, 1) };
            assert_eq!(
                (found.transactions, found.replayed, found.revoked),
                expected,
                "{kind}, {open}: {text}"
            );
            for (number, stamp) in [(arena[0], 9), (arena[1], 5), (arena[3], 7)] {
                assert_eq!(
                    subject.geometry.block(&ours, number),
                    subject.stamped(stamp),
                    "{kind}, {open}"
                );
            }
            let third = if summed { subject.stamped(3) } else { vec![0x11; size] };
            assert_eq!(subject.geometry.block(&ours, arena[2]), third, "{kind}, {open}");
            subject.compare(&image);
        }
    }
}

/// A change that matters to e2fsck itself: the free counts in the superblock and a bitmap must come home together.
#[test]
fn the_file_systems_own_superblock_goes_through_the_log() {
    let subject = Subject::new(KINDS[4]);
    let device = subject.device();
    let journal = subject.geometry.journal(&device, subject.features).unwrap();
    let buffers: &std::sync::Arc<BufferCache> = journal.buffers();
    let mut handle = journal.begin(1).unwrap();
    let superblock = buffers.get(1).unwrap();
    handle
        .modify(&superblock, |bytes| bytes[0x78..0x80].copy_from_slice(b"replayed"))
        .unwrap();
    let tid = handle.tid();
    drop(handle);
    journal.commit(tid).unwrap();
    let crashed = device.crash(0);
    subject.compare(&crashed);
    store_file(&crashed, &subject.path);
    replay_by_e2fsck(&subject.path);
    let (_, text) = run("dumpe2fs", &["-h", subject.path.to_str().unwrap()]);
    assert!(text.contains("replayed"), "{text}");
}

/// Damage in the log: wherever both of us accept what is left, we make the same of it.
#[test]
fn e2fsck_and_we_agree_on_damaged_logs() {
    let mut accepted = 0;
    for kind in [KINDS[0], KINDS[2], KINDS[4]] {
        let subject = Subject::new(kind);
        let device = subject.device();
        let journal = subject.geometry.journal(&device, subject.features).unwrap();
        subject.work(&journal, 12).unwrap();
        let crashed = device.crash(1);
        let log = subject.geometry.file(&crashed, JOURNAL_INODE);
        for seed in 0..12u64 {
            let mut image = crashed.clone();
            let dice =
                |salt: u64, sides: u64| (seed * 7 + salt).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29) % sides;
            let at = log[1 + dice(1, 150) as usize] * subject.geometry.block_size as u64 + dice(2, 24) * 4;
            let word = [0u32, 1, 2, 0xC03B_3998, 0x0100_0000, u32::MAX][dice(3, 6) as usize];
            assert!(image.write(at, &word.to_be_bytes()));
            let ours = FaultDevice::new(image.clone());
            let loaded = subject.geometry.journal(&ours, subject.features);
            let path = subject.scratch.path("damaged");
            store_file(&image, &path);
            let (code, text) = run("e2fsck", &["-fy", path.to_str().unwrap()]);
            let complains = code > 1
                || ["corrupt", "checksum", "FIXED", "rror"]
                    .iter()
                    .any(|word| text.contains(word));
            if loaded.is_err() || complains {
                continue;
            }
            accepted += 1;
            let theirs = load_file(&path);
            for number in &subject.arena {
                assert_eq!(
                    subject.geometry.block(&ours.image(), *number),
                    subject.geometry.block(&theirs, *number),
                    "{kind}, seed {seed}: block {number}: {text}"
                );
            }
        }
    }
    assert!(accepted > 10, "{accepted}");
}

/// A journal on its own device as mke2fs makes it: numbered from the device's start, its superblock behind the file system's.
#[test]
fn an_external_journal_of_mke2fs_is_used() {
    let scratch = Scratch::new();
    for (size, superblock) in [(1024, 2), (4096, 1)] {
        let path = scratch.path("log");
        let (code, text) = run(
            "mke2fs",
            &[
                "-q",
                "-F",
                "-O",
                "journal_dev",
                "-b",
                &size.to_string(),
                path.to_str().unwrap(),
                "16M",
            ],
        );
        assert_eq!(code, 0, "{text}");
        let open = |home: &std::sync::Arc<FaultDevice>, log: &std::sync::Arc<FaultDevice>| {
            let mut config = Config::new("log".into(), (16 << 20) / size, 4096, &|block| Ok(u64::from(block)));
            config.device = Some(log.clone());
            config.superblock = superblock;
            Journal::load(BufferCache::new(home.clone(), size as usize), config)
        };
        let (home, log) = (
            FaultDevice::new(Image::new(4096 * size)),
            FaultDevice::new(load_file(&path)),
        );
        let journal = open(&home, &log).unwrap();
        let mut handle = journal.begin(1).unwrap();
        let buffer = journal.buffers().get(77).unwrap();
        handle.modify(&buffer, |bytes| bytes.fill(9)).unwrap();
        let tid = handle.tid();
        drop(handle);
        journal.commit(tid).unwrap();
        let (home, log) = (FaultDevice::new(home.crash(0)), FaultDevice::new(log.crash(0)));
        let journal = open(&home, &log).unwrap();
        assert_eq!(journal.recovery().replayed, 1);
        let mut bytes = vec![0; size as usize];
        assert!(home.crash(0).read(77 * size, &mut bytes));
        assert_eq!(bytes, vec![9; size as usize]);
        journal.close().unwrap();
        // Nothing of the device's own file-system superblock is lost.
        store_file(&log.image(), &path);
        let (code, text) = run("dumpe2fs", &[path.to_str().unwrap()]);
        assert!(
            code == 0 && text.contains("journal_dev") && text.contains("Journal start:            0"),
            "{text}"
        );
    }
}
