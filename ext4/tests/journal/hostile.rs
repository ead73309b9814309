//! Journals from enemies: replay ends, and writes nothing outside of the file system.

use std::sync::Arc;

use ext4::fault::{FaultDevice, Image};
use ext4::journal::{Features, Freed};
use proptest::prelude::*;

use crate::disk::{
    BLOCK, DEVICE_BLOCKS, FS_BLOCKS, JOURNAL_AT, JOURNAL_BLOCKS, block, feature_sets, formatted, load, map, stamped,
};

/// A journal with a few transactions to be replayed.
fn crashed(features: Features) -> Image {
    let device = FaultDevice::new(formatted(1));
    let journal = load(&device, features).unwrap();
    for round in 1..6 {
        let mut handle = journal.begin(20).unwrap();
        for number in 0..15 {
            let buffer = journal.buffers().get(round * 3 + number).unwrap();
            handle
                .modify(&buffer, |bytes| bytes.copy_from_slice(&stamped(round as u32)))
                .unwrap();
        }
        handle.free(40 + round, 2, Freed::Metadata).unwrap();
        let tid = handle.tid();
        drop(handle);
        journal.commit(tid).unwrap();
    }
    device.crash(0)
}

/// Loads it, whatever comes of it; what lies behind the file system must be as it was.
fn survive(image: Image, features: Features) {
    let device = FaultDevice::new(image);
    if let Ok(journal) = load(&device, features) {
        let mut handle = journal.begin(1).unwrap();
        let buffer = journal.buffers().get(900).unwrap();
        handle.modify(&buffer, |bytes| bytes[0] = 1).unwrap();
        drop(handle);
        journal.close().unwrap();
    }
    let after = device.image();
    for number in FS_BLOCKS..DEVICE_BLOCKS {
        assert_eq!(
            block(&after, number),
            vec![0x5A; BLOCK],
            "block {number} behind the file system"
        );
    }
}

fn put(image: &mut Image, journal_block: u32, at: usize, word: u32) {
    assert!(image.write(
        map(journal_block).unwrap() * BLOCK as u64 + at as u64,
        &word.to_be_bytes()
    ));
}

/// Values at which arithmetic goes wrong.
fn word() -> impl Strategy<Value = u32> {
    prop_oneof![
        any::<u32>(),
        0u32..40,
        Just(u32::MAX),
        Just(0x8000_0000),
        Just(JOURNAL_BLOCKS - 1),
        Just(JOURNAL_BLOCKS),
        Just(FS_BLOCKS as u32),
        Just(FS_BLOCKS as u32 + 1),
        Just(0xC03B_3998),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn words_of_the_log_changed_at_will(
        features in proptest::sample::select(feature_sets()),
        changes in proptest::collection::vec((1u32..100, 0usize..20, word()), 1..12),
    ) {
        let mut image = crashed(features);
        for (number, index, word) in changes {
            put(&mut image, number, index * 4, word);
        }
        survive(image, features);
    }

    #[test]
    fn words_of_the_superblock_changed_at_will(
        features in proptest::sample::select(feature_sets()),
        changes in proptest::collection::vec((0usize..24, word()), 1..4),
    ) {
        let mut image = crashed(features);
        for (index, word) in changes {
            put(&mut image, 0, index * 4, word);
        }
        survive(image, features);
    }

    #[test]
    fn a_log_of_nothing_but_one_kind_of_block(kind in 0u32..8, words in proptest::collection::vec(word(), 8), start in 0..JOURNAL_BLOCKS) {
        let mut image = crashed(Features::default());
        let tid = crate::disk::superblock_word(&image, 0x18);
        for number in 1..JOURNAL_BLOCKS {
            for (index, word) in [0xC03B_3998, kind, tid].iter().chain(&words).enumerate() {
                put(&mut image, number, index * 4, *word);
            }
        }
        put(&mut image, 0, 0x1C, start);
        survive(image, Features::default());
    }
}

#[test]
fn a_tag_beyond_the_file_system_is_refused_and_the_rest_is_replayed() {
    let mut image = crashed(Features::default());
    // The first transaction: a revoke block, the descriptor in block 2, its second tag behind the first with its UUID.
    put(&mut image, 2, 12 + 8 + 16, FS_BLOCKS as u32 + 3);
    let device = FaultDevice::new(image);
    assert_eq!(load(&device, Features::default()).err(), Some(ext4::Errno::EUCLEAN));
    assert_eq!(block(&device.image(), FS_BLOCKS + 3), vec![0x5A; BLOCK]);
    assert_eq!(block(&device.image(), 3), stamped(1));
}

#[test]
fn a_map_that_leaves_the_device_is_refused() {
    let device = FaultDevice::new(formatted(1));
    for wrong in [DEVICE_BLOCKS, u64::MAX / BLOCK as u64, u64::MAX] {
        let map = |number: u32| if number == 700 { Ok(wrong) } else { map(number) };
        let mut config = ext4::journal::Config::new("test-8".into(), u64::from(JOURNAL_BLOCKS), FS_BLOCKS, &map);
        config.features = Features::default();
        let buffers = ext4::buffer::BufferCache::new(device.clone(), BLOCK);
        assert_eq!(
            ext4::journal::Journal::load(buffers, config).err(),
            Some(ext4::Errno::EUCLEAN)
        );
    }
}

#[test]
fn a_wrong_checksum_in_a_data_block_skips_that_block_and_fails() {
    for features in feature_sets().into_iter().filter(|features| {
        matches!(
            features.checksums,
            ext4::journal::Checksums::V2 | ext4::journal::Checksums::V3
        )
    }) {
        let mut image = crashed(features);
        // The last transaction's first data block holds what nobody has overwritten since.
        let number = (1..100)
            .rev()
            .find(|&number| block(&image, map(number).unwrap())[4..] == stamped(5)[4..])
            .unwrap();
        put(&mut image, number, 100, 1);
        let device = FaultDevice::new(image);
        assert_eq!(load(&device, features).err(), Some(ext4::Errno::EBADMSG));
        let homes: Vec<u64> = (15..30)
            .filter(|&home| block(&device.image(), home) != stamped(5))
            .collect();
        assert_eq!(homes.len(), 1, "{homes:?}");
        // e2fsck is to see the journal as it was.
        assert_ne!(crate::disk::superblock_word(&device.image(), crate::disk::START), 0);
    }
}

#[test]
fn a_commit_block_that_does_not_fit_ends_the_log_and_is_corruption_if_others_follow() {
    for features in feature_sets()
        .into_iter()
        .filter(|features| features.checksums != ext4::journal::Checksums::None)
    {
        let commits: Vec<u32> = {
            let image = crashed(features);
            let is_commit = |number: &u32| {
                let bytes = block(&image, map(*number).unwrap());
                bytes[..8] == [0xC0, 0x3B, 0x39, 0x98, 0, 0, 0, 2]
            };
            (1..150).filter(is_commit).collect()
        };
        assert_eq!(commits.len(), 5);
        for (which, expected) in [(4, None), (2, Some(ext4::Errno::EUCLEAN))] {
            let mut image = crashed(features);
            put(&mut image, commits[which], 0x10, 0x1234_5678);
            let device = FaultDevice::new(image);
            let loaded = load(&device, features);
            assert_eq!(loaded.as_ref().err().copied(), expected, "{features:?}");
            assert_eq!(block(&device.image(), 3 * which as u64), stamped(which as u32));
            assert_ne!(block(&device.image(), 3 * which as u64 + 17), stamped(which as u32 + 1));
        }
    }
}

#[test]
fn a_journal_of_version_one_is_replayed_and_becomes_version_two() {
    let mut image = crashed(Features::default());
    // No revoke records in version 1: leave the first transaction only, without its revoke block.
    put(&mut image, 0, 4, 3);
    put(&mut image, 0, 0x1C, 2);
    let device = FaultDevice::new(image);
    let journal = load(&device, Features::default()).unwrap();
    assert!(journal.recovery().transactions >= 1);
    assert_eq!(block(&device.image(), 3), stamped(1));
    let superblock = block(&device.image(), map(0).unwrap());
    assert_eq!(superblock[4..8], [0, 0, 0, 4]);
    assert_eq!(superblock[0x28..0x2C], [0, 0, 0, 1]);
}

#[test]
fn an_external_journal_is_replayed_and_used() {
    let log = FaultDevice::new(formatted(1));
    let identity = |number: u32| Ok(u64::from(number));
    // On its own device the superblock is not block 0 but where the map puts it; here the journal begins in the middle of one.
    let offset = |number: u32| map(number).or(identity(number));
    let home = FaultDevice::new(Image::new(FS_BLOCKS * BLOCK as u64));
    let open = |home: &Arc<FaultDevice>, log: &Arc<FaultDevice>| {
        let mut config = ext4::journal::Config::new("log".into(), u64::from(JOURNAL_BLOCKS), FS_BLOCKS, &offset);
        config.device = Some(log.clone());
        ext4::journal::Journal::load(ext4::buffer::BufferCache::new(home.clone(), BLOCK), config)
    };
    let journal = open(&home, &log).unwrap();
    let tid = crate::disk::change(&journal, JOURNAL_AT + 5, 4).unwrap();
    journal.commit(tid).unwrap();
    let (home, log) = (FaultDevice::new(home.crash(0)), FaultDevice::new(log.crash(0)));
    assert_eq!(block(&home.image(), JOURNAL_AT + 5), vec![0; BLOCK]);
    let journal = open(&home, &log).unwrap();
    assert_eq!(journal.recovery().replayed, 1);
    assert_eq!(block(&home.image(), JOURNAL_AT + 5), stamped(4));
    journal.close().unwrap();
}
