//! Moments that threads hit rarely, met on purpose: a device calls back in the middle of a request.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ext4::Result;
use ext4::buffer::BufferCache;
use ext4::device::BlockDevice;
use ext4::fault::FaultDevice;
use ext4::journal::{Features, Freed, Journal};

use crate::disk::{BLOCK, block, change, config, formatted, load, stamped};

type Hook = Box<dyn FnOnce() + Send>;

/// Calls a hook once, after the first read or write that touches a block.
struct Hooked {
    below: Arc<FaultDevice>,
    block: u64,
    on_read: Mutex<Option<Hook>>,
    on_write: Mutex<Option<Hook>>,
}

impl Hooked {
    fn new(block: u64) -> Arc<Hooked> {
        Arc::new(Hooked {
            below: FaultDevice::new(formatted(1)),
            block,
            on_read: Mutex::new(None),
            on_write: Mutex::new(None),
        })
    }

    fn journal(self: &Arc<Self>) -> Arc<Journal> {
        Journal::load(BufferCache::new(self.clone(), BLOCK), config(Features::default())).unwrap()
    }

    fn call(&self, hook: &Mutex<Option<Hook>>, at: u64, len: usize) {
        if (at..at + len as u64).contains(&(self.block * BLOCK as u64)) {
            let hook = hook.lock().unwrap().take();
            hook.into_iter().for_each(|hook| hook());
        }
    }
}

impl BlockDevice for Hooked {
    fn len(&self) -> u64 {
        self.below.len()
    }
    fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        self.below.read(at, data)?;
        self.call(&self.on_read, at, data.len());
        Ok(())
    }
    fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        self.call(&self.on_write, at, data.len());
        self.below.write(at, data)
    }
    fn flush(&self) -> Result<()> {
        self.below.flush()
    }
    fn write_zeroes(&self, at: u64, len: u64) -> Result<()> {
        self.below.write_zeroes(at, len)
    }
}

/// Long enough that a thread which does not wait has gone on; too short is no failure.
const A_WHILE: Duration = Duration::from_millis(30);

#[test]
fn a_version_committed_while_the_older_one_goes_home_is_not_forgotten() {
    let device = Hooked::new(5);
    let journal = device.journal();
    let tid = change(&journal, 5, 1).unwrap();
    journal.commit(tid).unwrap();
    let hook = {
        let journal = journal.clone();
        move || {
            let tid = change(&journal, 5, 2).unwrap();
            journal.commit(tid).unwrap();
        }
    };
    *device.on_write.lock().unwrap() = Some(Box::new(hook));
    journal.sync().unwrap();
    assert!(device.on_write.lock().unwrap().is_none());
    let after = FaultDevice::new(device.below.crash(0));
    load(&after, Features::default()).unwrap();
    assert_eq!(block(&after.image(), 5), stamped(2));
    journal.sync().unwrap();
    assert_eq!(block(&device.below.crash(0), 5), stamped(2));
}

#[test]
fn a_freed_block_is_not_given_away_while_its_old_contents_go_home() {
    let device = Hooked::new(5);
    let journal = device.journal();
    let tid = change(&journal, 5, 1).unwrap();
    journal.commit(tid).unwrap();
    let (given, early) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (committer, hook) = {
        let (journal, given, early) = (journal.clone(), given.clone(), early.clone());
        let committer = Arc::new(Mutex::new(None));
        let slot = committer.clone();
        let hook = move || {
            let mark = given.clone();
            let work = move || {
                let mut handle = journal.begin(1).unwrap();
                handle.free(5, 1, Freed::Metadata).unwrap();
                handle.on_commit(Box::new(move || mark.store(true, Ordering::SeqCst)));
                let tid = handle.tid();
                drop(handle);
                journal.commit(tid).unwrap();
            };
            *slot.lock().unwrap() = Some(thread::spawn(work));
            thread::sleep(A_WHILE);
            early.store(given.load(Ordering::SeqCst), Ordering::SeqCst);
        };
        (committer, hook)
    };
    *device.on_write.lock().unwrap() = Some(Box::new(hook));
    journal.sync().unwrap();
    committer.lock().unwrap().take().unwrap().join().unwrap();
    assert!(
        !early.load(Ordering::SeqCst),
        "the block was given away in the middle of the write"
    );
    assert!(given.load(Ordering::SeqCst));
}

#[test]
fn without_a_log_a_freed_block_is_not_given_away_while_it_is_written() {
    let device = Hooked::new(5);
    let journal = Journal::none(BufferCache::new(device.clone(), BLOCK));
    change(&journal, 5, 1).unwrap();
    let (given, early) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(true)));
    let hook = {
        let (journal, given, early) = (journal.clone(), given.clone(), early.clone());
        move || {
            let mut handle = journal.begin(1).unwrap();
            handle.free(5, 1, Freed::Metadata).unwrap();
            let mark = given.clone();
            handle.on_commit(Box::new(move || mark.store(true, Ordering::SeqCst)));
            drop(handle);
            early.store(given.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    };
    *device.on_write.lock().unwrap() = Some(Box::new(hook));
    journal.sync().unwrap();
    assert!(!early.load(Ordering::SeqCst));
    assert!(given.load(Ordering::SeqCst));
}

#[test]
fn a_reader_that_comes_late_does_not_bring_back_what_was_on_the_disk() {
    let device = Hooked::new(5);
    let journal = device.journal();
    journal.buffers().set_capacity(4);
    let hook = {
        let journal = journal.clone();
        move || {
            let mut handle = journal.begin(1).unwrap();
            let buffer = handle.create(5).unwrap();
            handle
                .modify(&buffer, |bytes| bytes.copy_from_slice(&stamped(2)))
                .unwrap();
            drop((handle, buffer));
            journal.sync().unwrap();
            // Out of the cache it goes.
            for number in 100..160 {
                journal.buffers().get(number).unwrap();
            }
            assert!(journal.buffers().find(5).is_none());
        }
    };
    *device.on_read.lock().unwrap() = Some(Box::new(hook));
    assert_eq!(*journal.buffers().get(5).unwrap().snapshot(), stamped(2));
}

#[test]
fn nobody_joins_a_transaction_that_waits_for_its_handles() {
    let device = FaultDevice::new(formatted(1));
    let journal = load(&device, Features::default()).unwrap();
    let mut first = journal.begin(4).unwrap();
    let buffer = journal.buffers().get(1).unwrap();
    first.modify(&buffer, |bytes| bytes[0] = 1).unwrap();
    let tid = first.tid();
    let second = AtomicU32::new(0);
    thread::scope(|scope| {
        scope.spawn(|| journal.commit(tid).unwrap());
        // The commit has closed the transaction when it grants no more credits.
        while first.extend(1) {
            thread::sleep(Duration::from_millis(1));
        }
        scope.spawn(|| {
            let mut handle = journal.begin(4).unwrap();
            second.store(handle.tid(), Ordering::SeqCst);
            handle.modify(&buffer, |bytes| bytes[0] = 3).unwrap();
        });
        thread::sleep(A_WHILE);
        assert_eq!(
            second.load(Ordering::SeqCst),
            0,
            "a handle was admitted to a closed transaction"
        );
        // What is open still may change what it has promised.
        first.modify(&buffer, |bytes| bytes[0] = 2).unwrap();
        drop(first);
    });
    assert_eq!(second.load(Ordering::SeqCst), tid.wrapping_add(1));
    let after = FaultDevice::new(device.crash(0));
    load(&after, Features::default()).unwrap();
    assert_eq!(block(&after.image(), 1)[0], 2);
}

#[test]
fn a_commit_waits_for_a_commit_that_is_under_way() {
    // Block 1000 is the journal's first: the commit's first write is to the superblock or the log behind it.
    let device = Hooked::new(crate::disk::map(1).unwrap());
    let journal = device.journal();
    let tid = change(&journal, 5, 1).unwrap();
    let seen = Arc::new(AtomicBool::new(false));
    let waiter = Arc::new(Mutex::new(None));
    let hook = {
        let (journal, seen, slot) = (journal.clone(), seen.clone(), waiter.clone());
        move || {
            let (done, early) = (Arc::new(AtomicBool::new(false)), seen.clone());
            let mark = done.clone();
            let wait = thread::spawn(move || {
                journal.commit(tid).unwrap();
                mark.store(true, Ordering::SeqCst);
            });
            *slot.lock().unwrap() = Some(wait);
            thread::sleep(A_WHILE);
            early.store(done.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    };
    *device.on_write.lock().unwrap() = Some(Box::new(hook));
    journal.commit(tid).unwrap();
    waiter.lock().unwrap().take().unwrap().join().unwrap();
    assert!(
        !seen.load(Ordering::SeqCst),
        "a commit returned before the transaction was durable"
    );
}
