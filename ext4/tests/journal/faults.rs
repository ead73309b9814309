//! I/O errors: the journal aborts once, tells its owner, notes it on disk, and what was acknowledged stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ext4::Errno;
use ext4::buffer::BufferCache;
use ext4::fault::FaultDevice;
use ext4::journal::{Features, Journal};

use crate::disk::{BLOCK, ERROR, START, block, change, config, formatted, load, map, stamped, superblock_word};

/// A journal that counts its aborts.
fn counted(device: &Arc<FaultDevice>) -> ext4::Result<(Arc<Journal>, Arc<AtomicU32>)> {
    let aborts = Arc::new(AtomicU32::new(0));
    let mut config = config(Features::default());
    let count = aborts.clone();
    config.on_abort = Box::new(move |_| {
        count.fetch_add(1, Ordering::Relaxed);
    });
    Ok((Journal::load(BufferCache::new(device.clone(), BLOCK), config)?, aborts))
}

fn rounds(journal: &Journal) -> ext4::Result<u32> {
    for round in 1..=40 {
        let mut handle = journal.begin(60)?;
        for number in 0..60 {
            let buffer = journal.buffers().get(number)?;
            handle.modify(&buffer, |bytes| bytes.copy_from_slice(&stamped(round)))?;
        }
        let tid = handle.tid();
        drop(handle);
        journal.commit(tid)?;
        if round % 13 == 0 {
            journal.sync()?;
        }
    }
    Ok(40)
}

#[test]
fn one_failed_request_aborts_the_journal_and_loses_nothing_acknowledged() {
    for error in [Errno::EIO, Errno::ENOSPC] {
        for request in 0.. {
            let device = FaultDevice::new(formatted(1));
            device.fail_at(request, error);
            let (journal, aborts) = counted(&device).unwrap();
            let acknowledged = journal.recovery().transactions;
            assert_eq!(acknowledged, 0);
            if rounds(&journal).is_ok() {
                assert!(request > 150);
                break;
            }
            if journal.aborted().is_none() {
                // The last flush of a sync: its caller was told, the journal itself has lost nothing.
                assert_eq!(aborts.load(Ordering::Relaxed), 0);
                journal.sync().unwrap();
                continue;
            }
            assert_eq!(aborts.load(Ordering::Relaxed), 1, "request {request}");
            assert_eq!(journal.aborted(), Some(error));
            assert_eq!(journal.begin(1).err(), Some(Errno::EROFS));
            assert_eq!(journal.close(), Err(Errno::EIO));
            assert_eq!(aborts.load(Ordering::Relaxed), 1);
            // The disk works again: the next mount replays and hears of it.
            let after = FaultDevice::new(device.crash(0));
            assert_eq!(superblock_word(&device.image(), ERROR) as i32, -error.code());
            let (next, _) = counted(&after).unwrap();
            assert_eq!(next.recorded_error(), Some(error));
            next.acknowledge_error().unwrap();
            assert_eq!(superblock_word(&after.crash(0), ERROR), 0);
            assert_eq!(next.recorded_error(), None);
            let first = block(&after.image(), 0);
            assert!((0..60).all(|number| block(&after.image(), number) == first));
        }
    }
}

#[test]
fn an_abort_by_the_file_system_leaves_the_running_transaction_behind() {
    let device = FaultDevice::new(formatted(1));
    let (journal, aborts) = counted(&device).unwrap();
    let tid = change(&journal, 3, 1).unwrap();
    journal.commit(tid).unwrap();
    let mut open = journal.begin(2).unwrap();
    let buffer = journal.buffers().get(4).unwrap();
    open.modify(&buffer, |bytes| bytes[0] = 1).unwrap();
    journal.abort(Errno::EUCLEAN);
    assert_eq!(open.modify(&buffer, |bytes| bytes[0] = 2), Err(Errno::EROFS));
    assert!(!open.extend(1));
    assert_eq!(open.restart(1), Err(Errno::EROFS));
    assert_eq!(open.modify(&buffer, |bytes| bytes[0] = 2), Err(Errno::EROFS));
    drop(open);
    assert_eq!(aborts.load(Ordering::Relaxed), 0);
    assert_eq!(journal.commit(tid), Ok(()), "what is durable stays so");
    assert_eq!(journal.commit(journal.running()), Err(Errno::EIO));
    let after = FaultDevice::new(device.crash(1));
    let next = load(&after, Features::default()).unwrap();
    assert_eq!(next.recorded_error(), Some(Errno::EUCLEAN));
    assert_eq!(block(&after.image(), 3), stamped(1));
    assert_eq!(block(&after.image(), 4), vec![0; BLOCK]);
}

#[test]
fn a_read_error_in_the_log_is_an_error_and_the_journal_stays() {
    let device = FaultDevice::new(formatted(1));
    let (journal, _) = counted(&device).unwrap();
    for number in 0..3 {
        let tid = change(&journal, number, 7).unwrap();
        journal.commit(tid).unwrap();
    }
    let bad = FaultDevice::new(device.crash(0));
    let at = map(5).unwrap() * BLOCK as u64;
    bad.fail_reads(at..at + 1);
    assert_eq!(load(&bad, Features::default()).err(), Some(Errno::EIO));
    let good = FaultDevice::new(bad.crash(0));
    assert_eq!(load(&good, Features::default()).unwrap().recovery().transactions, 3);
}

#[test]
fn a_read_error_of_a_block_does_not_stick() {
    let device = FaultDevice::new(formatted(1));
    let (journal, _) = counted(&device).unwrap();
    device.fail_reads(0..BLOCK as u64);
    assert_eq!(journal.buffers().get(0).err(), Some(Errno::EIO));
    device.fail_reads(0..0);
    assert!(journal.buffers().get(0).is_ok());
}

#[test]
fn a_read_only_device_is_loaded_if_clean_and_refused_if_not() {
    let device = FaultDevice::new(formatted(1));
    device.set_read_only();
    let journal = load(&device, Features::default()).unwrap();
    assert_eq!(journal.begin(1).err(), Some(Errno::EROFS));
    journal.close().unwrap();
    assert_eq!(device.requests(), 1, "a flush");

    let device = FaultDevice::new(formatted(1));
    let journal = load(&device, Features::default()).unwrap();
    let tid = change(&journal, 1, 1).unwrap();
    journal.commit(tid).unwrap();
    let crashed = FaultDevice::new(device.crash(0));
    assert_ne!(superblock_word(&crashed.image(), START), 0);
    crashed.set_read_only();
    assert_eq!(load(&crashed, Features::default()).err(), Some(Errno::EROFS));
}

#[test]
fn loading_a_clean_journal_writes_nothing() {
    let device = FaultDevice::new(formatted(1));
    load(&device, crate::disk::feature_sets()[8]).unwrap();
    assert_eq!(device.requests(), 0);
}
