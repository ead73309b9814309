//! What handles, commits and checkpoints promise, one claim a test.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ext4::device::BlockDevice;
use ext4::fault::FaultDevice;
use ext4::journal::{Barrier, Features, Freed, Journal, OrderedData};
use ext4::{Errno, Result};

use crate::disk::{BLOCK, START, block, change, config, feature_sets, formatted, load, stamped, superblock_word};

fn fresh() -> (Arc<FaultDevice>, Arc<Journal>) {
    let device = FaultDevice::new(formatted(1));
    let journal = load(&device, Features::default()).unwrap();
    (device, journal)
}

/// File data that notes when it is asked for.
struct Data {
    device: Arc<FaultDevice>,
    at: u64,
    written: AtomicU32,
    result: Result<()>,
}

impl OrderedData for Data {
    fn write_out(&self) -> Result<()> {
        self.written.fetch_add(1, Ordering::Relaxed);
        self.device.write(self.at * BLOCK as u64, &stamped(77))?;
        self.result
    }
}

fn data(device: &Arc<FaultDevice>, result: Result<()>) -> Arc<Data> {
    Arc::new(Data {
        device: device.clone(),
        at: 500,
        written: AtomicU32::new(0),
        result,
    })
}

#[test]
fn ordered_data_is_durable_whenever_its_transaction_is() {
    for (features, seed) in feature_sets()
        .into_iter()
        .flat_map(|features| (2..60).map(move |seed| (features, seed)))
    {
        for stop in 0..8 {
            let device = FaultDevice::new(formatted(1));
            let journal = load(&device, features).unwrap();
            device.stop_at(stop);
            let mut handle = journal.begin(1).unwrap();
            let buffer = journal.buffers().get(3).unwrap();
            handle
                .modify(&buffer, |bytes| bytes.copy_from_slice(&stamped(4)))
                .unwrap();
            let data = data(&device, Ok(()));
            handle.order(data.clone());
            handle.order(data.clone());
            let tid = handle.tid();
            drop(handle);
            let _ = journal.commit(tid);
            assert_eq!(data.written.load(Ordering::Relaxed), 1, "the same data is written once");
            let after = FaultDevice::new(device.crash(seed));
            let journal = load(&after, features).unwrap();
            if block(&after.image(), 3) == stamped(4) {
                assert_eq!(block(&after.image(), 500), stamped(77), "stop {stop}, seed {seed}");
            }
            // An incomplete transaction's number is not used again.
            if superblock_word(&device.crash(seed), START) != 0 {
                assert_ne!(change(&journal, 3, 3).unwrap(), tid);
            }
        }
    }
}

#[test]
fn ordered_data_that_fails_aborts_only_on_request() {
    for abort in [false, true] {
        let device = FaultDevice::new(formatted(1));
        let mut config = config(Features::default());
        if abort {
            config.data_errors = ext4::journal::DataErrors::Abort;
        }
        let journal = Journal::load(ext4::buffer::BufferCache::new(device.clone(), BLOCK), config).unwrap();
        let mut handle = journal.begin(1).unwrap();
        handle.order(data(&device, Err(Errno::ENOSPC)));
        let tid = handle.tid();
        drop(handle);
        assert_eq!(journal.commit(tid).is_err(), abort);
        assert_eq!(journal.aborted(), abort.then_some(Errno::ENOSPC));
    }
}

#[test]
fn a_freed_block_is_not_usable_before_its_transaction_has_committed() {
    let (_device, journal) = fresh();
    let freed = Arc::new(AtomicU32::new(0));
    let mut handle = journal.begin(2).unwrap();
    handle.free(5, 1, Freed::Metadata).unwrap();
    let flag = freed.clone();
    handle.on_commit(Box::new(move || flag.store(1, Ordering::Relaxed)));
    let tid = handle.tid();
    drop(handle);
    assert_eq!(freed.load(Ordering::Relaxed), 0);
    journal.commit(tid).unwrap();
    assert_eq!(freed.load(Ordering::Relaxed), 1);
}

#[test]
fn callbacks_do_not_run_after_an_abort() {
    let (device, journal) = fresh();
    let freed = Arc::new(AtomicU32::new(0));
    let mut handle = journal.begin(2).unwrap();
    let flag = freed.clone();
    handle.on_commit(Box::new(move || flag.store(1, Ordering::Relaxed)));
    let tid = handle.tid();
    drop(handle);
    device.stop_at(device.requests());
    assert_eq!(journal.commit(tid), Err(Errno::EIO));
    assert_eq!(freed.load(Ordering::Relaxed), 0);
}

#[test]
fn a_block_created_again_in_the_same_transaction_is_replayed() {
    for features in feature_sets() {
        let device = FaultDevice::new(formatted(1));
        let journal = load(&device, features).unwrap();
        let tid = change(&journal, 5, 1).unwrap();
        journal.commit(tid).unwrap();
        let mut handle = journal.begin(3).unwrap();
        handle.free(5, 1, Freed::Metadata).unwrap();
        let buffer = handle.create(5).unwrap();
        handle
            .modify(&buffer, |bytes| bytes.copy_from_slice(&stamped(2)))
            .unwrap();
        let tid = handle.tid();
        drop(handle);
        journal.commit(tid).unwrap();
        let after = FaultDevice::new(device.crash(0));
        let replayed = load(&after, features).unwrap();
        assert_eq!((replayed.recovery().replayed, replayed.recovery().revoked), (1, 0));
        assert_eq!(block(&after.image(), 5), stamped(2));
    }
}

#[test]
fn journalled_data_that_is_freed_and_reused_is_not_brought_back() {
    let (device, journal) = fresh();
    // data=journal: file blocks are buffers.
    let mut handle = journal.begin(16).unwrap();
    for number in 20..30 {
        let buffer = handle.create(number).unwrap();
        handle
            .modify(&buffer, |bytes| bytes.copy_from_slice(&stamped(8)))
            .unwrap();
    }
    let tid = handle.tid();
    drop(handle);
    journal.commit(tid).unwrap();
    let mut handle = journal.begin(journal.revoke_credits(5)).unwrap();
    handle.free(20, 5, Freed::Metadata).unwrap();
    let tid = handle.tid();
    drop(handle);
    journal.commit(tid).unwrap();
    device.write(22 * BLOCK as u64, &stamped(99)).unwrap();
    device.flush().unwrap();
    let after = FaultDevice::new(device.crash(0));
    let recovery = load(&after, Features::default()).unwrap().recovery();
    assert_eq!((recovery.replayed, recovery.revoked), (5, 5));
    assert_eq!(block(&after.image(), 22), stamped(99));
    assert_eq!(block(&after.image(), 27), stamped(8));
}

#[test]
fn a_commit_writes_what_stood_at_its_end_and_not_what_came_later() {
    let (device, journal) = fresh();
    let first = change(&journal, 9, 1).unwrap();
    journal.commit(first).unwrap();
    let second = change(&journal, 9, 2).unwrap();
    assert_ne!(first, second);
    let after = FaultDevice::new(device.crash(1));
    load(&after, Features::default()).unwrap();
    assert_eq!(block(&after.image(), 9), stamped(1));
    // And a checkpoint writes the committed version, though memory is newer.
    let mut handle = journal.begin(1).unwrap();
    let buffer = journal.buffers().get(10).unwrap();
    handle
        .modify(&buffer, |bytes| bytes.copy_from_slice(&stamped(5)))
        .unwrap();
    drop(handle);
    assert_eq!(block(&device.image(), 9), vec![0; BLOCK]);
}

#[test]
fn an_empty_handle_costs_no_commit() {
    let (device, journal) = fresh();
    let before = device.requests();
    let tid = journal.begin(10).unwrap().tid();
    journal.commit(tid).unwrap();
    journal.commit(journal.running()).unwrap();
    journal.commit(tid.wrapping_add(100)).unwrap();
    assert_eq!(device.requests(), before);
}

#[test]
fn a_commit_takes_two_flushes_and_few_writes() {
    let (device, journal) = fresh();
    let tid = change(&journal, 1, 1).unwrap();
    journal.commit(tid).unwrap();
    let mut handle = journal.begin(60).unwrap();
    for number in 0..60 {
        let buffer = journal.buffers().get(number).unwrap();
        handle.modify(&buffer, |bytes| bytes[8] = 1).unwrap();
    }
    let tid = handle.tid();
    drop(handle);
    let before = device.requests();
    journal.commit(tid).unwrap();
    // The log in one run, a flush, the commit block, a flush.
    assert_eq!(device.requests() - before, 4);
}

#[test]
fn a_commit_makes_data_durable_and_takes_no_flush_more_for_it() {
    let (device, journal) = fresh();
    let tid = change(&journal, 1, 1).unwrap();
    device.write(500 * BLOCK as u64, &stamped(1)).unwrap();
    let before = device.requests();
    journal.commit(tid).unwrap();
    assert_eq!(block(&device.crash(0), 500), stamped(1));
    assert_eq!(
        device.requests() - before,
        5,
        "superblock, log, flush, commit block, flush: not one flush more"
    );
    device.write(500 * BLOCK as u64, &stamped(2)).unwrap();
    journal.flush().unwrap();
    assert_eq!(block(&device.crash(0), 500), stamped(2));
}

#[test]
fn without_barriers_nothing_is_flushed() {
    let device = FaultDevice::new(formatted(1));
    let mut config = config(Features::default());
    config.barrier = Barrier::None;
    let journal = Journal::load(ext4::buffer::BufferCache::new(device.clone(), BLOCK), config).unwrap();
    let tid = change(&journal, 1, 1).unwrap();
    journal.commit(tid).unwrap();
    assert_eq!(block(&device.crash(0), 1), vec![0; BLOCK]);
    assert_eq!(superblock_word(&device.crash(0), START), 0);
}

#[test]
fn credits_are_kept_and_extended_and_refused() {
    let (_device, journal) = fresh();
    let most = journal.max_credits();
    assert!((200..=256).contains(&most), "{most}");
    assert_eq!(journal.begin(most + 1).err(), Some(Errno::ENOSPC));
    let mut handle = journal.begin(most).unwrap();
    assert!(!handle.extend(200));
    for number in 0..u64::from(most) {
        let buffer = journal.buffers().get(number).unwrap();
        handle.modify(&buffer, |bytes| bytes[0] = 1).unwrap();
        handle.modify(&buffer, |bytes| bytes[0] = 2).unwrap();
    }
    assert_eq!(handle.credits(), 0);
    handle.restart(10).unwrap();
    assert_eq!(handle.credits(), 10);
    assert!(handle.extend(5));
    assert_eq!(handle.credits(), 15);
    drop(handle);
    journal.close().unwrap();
}

#[test]
fn a_handle_out_of_credits_gets_more_while_there_is_room_and_then_enospc() {
    let (_device, journal) = fresh();
    let mut handle = journal.begin(1).unwrap();
    let mut changed = 0;
    let refused = loop {
        let buffer = journal.buffers().get(changed).unwrap();
        match handle.modify(&buffer, |bytes| bytes[0] = 1) {
            Ok(()) => changed += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(refused, Errno::ENOSPC);
    assert!(changed >= 200, "{changed}");
    drop(handle);
    journal.close().unwrap();
}

#[test]
fn long_truncations_go_on_in_later_transactions() {
    let (device, journal) = fresh();
    let mut handle = journal.begin(64).unwrap();
    let first = handle.tid();
    for round in 0..40u64 {
        for number in 0..60 {
            let buffer = journal.buffers().get(round * 20 + number).unwrap();
            handle.modify(&buffer, |bytes| bytes[0] = 3).unwrap();
        }
        if !handle.extend(64) {
            handle.restart(64).unwrap();
        }
    }
    assert!(handle.tid().wrapping_sub(first) > 2);
    drop(handle);
    journal.close().unwrap();
    assert_eq!(block(&device.image(), 839)[0], 3);
}

#[test]
fn blocks_outside_of_the_file_system_are_refused() {
    let (_device, journal) = fresh();
    let mut handle = journal.begin(4).unwrap();
    let beyond = journal.buffers().get(crate::disk::FS_BLOCKS).unwrap();
    assert_eq!(handle.modify(&beyond, |_| ()), Err(Errno::EUCLEAN));
    assert_eq!(handle.free(2000, 100, Freed::Metadata), Err(Errno::EUCLEAN));
    assert_eq!(handle.free(u64::MAX, 2, Freed::Metadata), Err(Errno::EUCLEAN));
    assert_eq!(journal.buffers().get(u64::MAX / 2).err(), Some(Errno::EIO));
    assert_eq!(
        journal.buffers().get(crate::disk::DEVICE_BLOCKS).err(),
        Some(Errno::EIO)
    );
}

#[test]
fn old_transactions_commit_by_themselves_and_go_home_by_themselves() {
    let (device, journal) = fresh();
    journal.set_commit_interval(Duration::from_secs(3600));
    let tid = change(&journal, 3, 3).unwrap();
    journal.tick();
    assert_eq!(superblock_word(&device.image(), START), 0);
    journal.set_commit_interval(Duration::ZERO);
    journal.tick();
    // Six intervals later, which is now, they go home.
    journal.tick();
    assert_eq!(block(&device.crash(0), 3), stamped(3));
    assert_eq!(superblock_word(&device.crash(0), START), 0);
    let before = device.requests();
    journal.commit(tid).unwrap();
    assert_eq!(device.requests(), before, "it is committed already");
    journal.set_commit_interval(Duration::from_secs(3600));
    change(&journal, 3, 4).unwrap();
    // Half a log full of committed blocks, and a tick makes room.
    for round in 1..13 {
        let mut handle = journal.begin(60).unwrap();
        for number in 0..60 {
            let buffer = journal.buffers().get(round * 60 + number).unwrap();
            handle.modify(&buffer, |bytes| bytes[9] = 1).unwrap();
        }
        let tid = handle.tid();
        drop(handle);
        journal.commit(tid).unwrap();
        journal.tick();
    }
    assert_eq!(block(&device.image(), 3), stamped(4));
    assert_eq!(block(&device.image(), 12 * 60)[9], 0, "what is new may wait");
}

#[test]
fn sync_leaves_a_clean_journal_and_close_refuses_handles() {
    let (device, journal) = fresh();
    change(&journal, 3, 3).unwrap();
    journal.sync().unwrap();
    let durable = device.crash(0);
    assert_eq!(superblock_word(&durable, START), 0);
    assert_eq!(block(&durable, 3), stamped(3));
    change(&journal, 4, 4).unwrap();
    journal.close().unwrap();
    let durable = device.crash(0);
    assert_eq!(superblock_word(&durable, START), 0);
    assert_eq!(block(&durable, 4), stamped(4));
    assert_eq!(journal.begin(1).err(), Some(Errno::EROFS));
    let again = FaultDevice::new(durable);
    assert_eq!(
        load(&again, Features::default()).unwrap().recovery(),
        Default::default()
    );
}

#[test]
fn without_a_log_changes_reach_the_disk_by_sync_and_by_themselves() {
    let device = FaultDevice::new(formatted(1));
    let buffers = ext4::buffer::BufferCache::new(device.clone(), BLOCK);
    let journal = Journal::none(buffers);
    let freed = Arc::new(Mutex::new(Vec::new()));
    for number in [9, 4, 5, 3] {
        change(&journal, number, 6).unwrap();
    }
    assert_eq!(device.requests(), 0);
    journal.sync().unwrap();
    assert_eq!(device.requests(), 3, "two runs and a flush");
    assert_eq!(block(&device.crash(0), 4), stamped(6));
    // What is freed is not written any more, and is usable when the handle has ended.
    change(&journal, 4, 8).unwrap();
    let mut handle = journal.begin(1).unwrap();
    handle.free(4, 1, Freed::Metadata).unwrap();
    let list = freed.clone();
    handle.on_commit(Box::new(move || list.lock().unwrap().push(4)));
    assert!(freed.lock().unwrap().is_empty());
    drop(handle);
    assert_eq!(*freed.lock().unwrap(), [4]);
    journal.sync().unwrap();
    assert_eq!(block(&device.image(), 4), stamped(6));
    // Periodic write back.
    change(&journal, 7, 9).unwrap();
    journal.tick();
    assert_eq!(block(&device.image(), 7), vec![0; BLOCK]);
    journal.set_commit_interval(Duration::ZERO);
    journal.tick();
    assert_eq!(block(&device.image(), 7), stamped(9));
    journal.close().unwrap();
    assert_eq!(journal.begin(1).err(), Some(Errno::EROFS));
}

#[test]
fn without_a_log_a_failed_write_is_told_and_tried_again() {
    let device = FaultDevice::new(formatted(1));
    let journal = Journal::none(ext4::buffer::BufferCache::new(device.clone(), BLOCK));
    change(&journal, 4, 8).unwrap();
    device.fail_at(0, Errno::EIO);
    assert_eq!(journal.sync(), Err(Errno::EIO));
    journal.sync().unwrap();
    assert_eq!(block(&device.crash(0), 4), stamped(8));
}

#[test]
fn without_a_log_the_dirty_blocks_are_bounded() {
    let device = FaultDevice::new(ext4::fault::Image::new(64 << 20));
    let journal = Journal::none(ext4::buffer::BufferCache::new(device.clone(), BLOCK));
    let most = AtomicU64::new(0);
    for number in 0..40_000 {
        change(&journal, number, 1).unwrap();
        most.fetch_max(journal.buffers().cached() as u64, Ordering::Relaxed);
    }
    assert!(most.load(Ordering::Relaxed) < 30_000, "{most:?} blocks in memory");
}
