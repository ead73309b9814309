//! Many host threads on one journal, with its own thread and without.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use ext4::fault::FaultDevice;
use ext4::journal::{Features, Freed, Journal};

use crate::disk::{BLOCK, block, feature_sets, formatted, load};

/// Blocks of one worker; all carry the same number after each of its handles.
const OWN: u64 = 6;
const WORKERS: u64 = 6;

fn start_thread(journal: &Arc<Journal>) {
    journal
        .start_thread_with(|run| {
            thread::spawn(run);
            Ok(())
        })
        .unwrap();
}

fn counter(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes[64..68].try_into().unwrap())
}

/// Counts its blocks up together, commits now and then, and remembers what was acknowledged.
fn work(journal: &Journal, worker: u64, rounds: u32, acknowledged: &AtomicU32) {
    let blocks = worker * OWN..(worker + 1) * OWN;
    for round in 1..=rounds {
        let Ok(mut handle) = journal.begin(OWN as u32 + 2) else {
            return;
        };
        for number in blocks.clone() {
            // What was forgotten cannot be read any more from a disk that has stopped.
            let Ok(buffer) = journal.buffers().get(number) else {
                return;
            };
            let count = |bytes: &mut [u8]| bytes[64..68].copy_from_slice(&round.to_le_bytes());
            if handle.modify(&buffer, count).is_err() {
                return;
            }
        }
        // A block that all fight for.
        let Ok(shared) = journal.buffers().get(600) else {
            return;
        };
        if handle
            .modify(&shared, |bytes| bytes[worker as usize] = round as u8)
            .is_err()
        {
            return;
        }
        if round % 5 == 0 && handle.free(700 + worker, 1, Freed::Metadata).is_err() {
            return;
        }
        if round % 5 == 2 && handle.create(700 + worker).is_err() {
            return;
        }
        let tid = handle.tid();
        drop(handle);
        if (round + worker as u32).is_multiple_of(4) {
            if journal.commit(tid).is_err() {
                return;
            }
            acknowledged.fetch_max(round, Ordering::SeqCst);
        }
        if (round + worker as u32).is_multiple_of(97) && journal.sync().is_err() {
            return;
        }
    }
}

/// Set when this goes, in a failure too: nobody waits for what would go on for ever.
struct SetAtEnd<'a>(&'a AtomicBool);

impl Drop for SetAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn stress(with_thread: bool, stop: Option<u64>) {
    let features = feature_sets()[(stop.unwrap_or(3) % 8) as usize];
    let device = FaultDevice::new(formatted(u32::MAX - 20));
    let journal = load(&device, features).unwrap();
    journal.buffers().set_capacity(16);
    journal.set_commit_interval(Duration::from_millis(1));
    if with_thread {
        start_thread(&journal);
    }
    if let Some(stop) = stop {
        device.stop_at(stop);
    }
    let acknowledged: Vec<AtomicU32> = (0..WORKERS).map(|_| AtomicU32::new(0)).collect();
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let end = SetAtEnd(&ended);
        let ticker = scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                journal.tick();
                thread::sleep(Duration::from_millis(1));
            }
        });
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (journal, acknowledged) = (&journal, &acknowledged[worker as usize]);
                scope.spawn(move || work(journal, worker, 300, acknowledged))
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        drop(end);
        ticker.join().unwrap();
    });
    let closed = journal.close();
    assert_eq!(closed.is_ok(), stop.is_none_or(|stop| device.requests() <= stop));
    let after = match stop {
        None => device,
        Some(stop) => {
            let after = FaultDevice::new(device.crash(stop));
            load(&after, features).unwrap();
            after
        }
    };
    for worker in 0..WORKERS {
        let counters: Vec<u32> = (worker * OWN..(worker + 1) * OWN)
            .map(|number| counter(&block(&after.image(), number)))
            .collect();
        assert!(
            counters.iter().all(|count| *count == counters[0]),
            "a handle was torn: {counters:?}"
        );
        let least = match stop {
            None => 300,
            Some(_) => acknowledged[worker as usize].load(Ordering::SeqCst),
        };
        assert!(counters[0] >= least, "worker {worker}: {} < {least}", counters[0]);
    }
}

#[test]
fn handles_of_many_threads_are_whole_and_durable() {
    stress(false, None);
    stress(true, None);
}

#[test]
fn handles_of_many_threads_are_whole_after_a_crash() {
    for stop in [10, 57, 160, 400, 901, 1500] {
        stress(false, Some(stop));
        stress(true, Some(stop));
    }
}

#[test]
fn parallel_callers_share_commits() {
    let device = FaultDevice::new(formatted(1));
    let journal = load(&device, Features::default()).unwrap();
    let start = Barrier::new(8);
    let first = journal.running();
    thread::scope(|scope| {
        for worker in 0..8 {
            let (journal, start) = (&journal, &start);
            scope.spawn(move || {
                for round in 0..50u8 {
                    let mut handle = journal.begin(1).unwrap();
                    let buffer = journal.buffers().get(worker).unwrap();
                    handle.modify(&buffer, |bytes| bytes[0] = round).unwrap();
                    let tid = handle.tid();
                    drop(handle);
                    start.wait();
                    journal.commit(tid).unwrap();
                    start.wait();
                }
            });
        }
    });
    let commits = journal.running().wrapping_sub(first);
    assert!(
        (50..=110).contains(&commits),
        "{commits} commits for 400 calls in 50 rounds"
    );
}

#[test]
fn parallel_readers_of_a_block_get_the_same_buffer() {
    let device = FaultDevice::new(formatted(1));
    let journal = load(&device, Features::default()).unwrap();
    let start = Barrier::new(8);
    for number in 0..200 {
        let buffers: Vec<_> = thread::scope(|scope| {
            let readers: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        start.wait();
                        journal.buffers().get(number).unwrap()
                    })
                })
                .collect();
            readers.into_iter().map(|reader| reader.join().unwrap()).collect()
        });
        assert!(buffers.iter().all(|buffer| Arc::ptr_eq(buffer, &buffers[0])));
        assert_eq!(buffers[0].snapshot().len(), BLOCK);
    }
}

#[test]
fn the_thread_commits_by_itself_and_ends_with_the_journal() {
    let device = FaultDevice::new(formatted(1));
    let journal = load(&device, Features::default()).unwrap();
    start_thread(&journal);
    start_thread(&journal);
    journal.set_commit_interval(Duration::from_millis(1));
    crate::disk::change(&journal, 3, 5).unwrap();
    // A hang guard, not a measurement.
    let committed = (0..3000).any(|_| {
        thread::sleep(Duration::from_millis(10));
        block(&device.crash(0), 3) == crate::disk::stamped(5)
    });
    assert!(committed);
    journal.close().unwrap();
    assert_eq!(Arc::strong_count(&journal), 1, "the thread holds the journal no more");
}
