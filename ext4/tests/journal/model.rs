//! The law of a journal: after a crash at any moment, whatever the disk made of unflushed writes, replay shows the state at the end of some
//! transaction, not an earlier one than the last that was acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use ext4::buffer::BufferCache;
use ext4::device::BlockDevice;
use ext4::fault::{FaultDevice, Image};
use ext4::journal::{Features, Freed, Journal, Tid};
use proptest::prelude::*;

use crate::disk::{BLOCK, block, change, feature_sets, formatted, load, stamped};

/// Metadata blocks of the model.
const BLOCKS: u64 = 64;

#[derive(Clone, Debug)]
enum Op {
    /// Some neighbours are changed in one handle.
    Change {
        first: u64,
        count: u64,
    },
    /// A metadata block is freed.
    Free {
        block: u64,
    },
    /// File data is written to a free block, past the journal.
    Data {
        block: u64,
    },
    /// A free block becomes metadata.
    Create {
        block: u64,
    },
    /// A large transaction, so that the log wraps soon.
    Fill,
    Commit,
    Sync,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..BLOCKS, 1..BLOCKS).prop_map(|(first, count)| Op::Change { first, count }),
        // Few blocks are ever freed, so that one goes through all its lives.
        3 => (0..4u64).prop_map(|block| Op::Free { block }),
        3 => (0..4u64).prop_map(|block| Op::Data { block }),
        2 => (0..4u64).prop_map(|block| Op::Create { block }),
        3 => Just(Op::Fill),
        4 => Just(Op::Commit),
        1 => Just(Op::Sync),
    ]
}

/// What a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Is {
    Metadata(u32),
    /// Freed, for the so manieth time.
    Freed(u32),
}

/// What should be on the disk.
struct Model {
    journal: Arc<Journal>,
    device: Arc<FaultDevice>,
    now: BTreeMap<u64, Is>,
    /// Free and usable, as the callbacks say.
    free: Arc<Mutex<BTreeSet<u64>>>,
    /// The data of a free block in one of its lives, and whether it has been flushed.
    data: BTreeMap<(u64, u32), (u32, bool)>,
    /// The state at the end of each transaction.
    history: Vec<(Tid, BTreeMap<u64, Is>)>,
    acknowledged: Option<Tid>,
    stamp: u32,
}

impl Model {
    fn new(device: Arc<FaultDevice>, features: Features) -> ext4::Result<Model> {
        Ok(Model {
            journal: load(&device, features)?,
            device,
            now: (0..BLOCKS).map(|block| (block, Is::Metadata(0))).collect(),
            free: Arc::default(),
            data: BTreeMap::new(),
            history: Vec::new(),
            acknowledged: None,
            stamp: 0,
        })
    }

    fn stamp(&mut self) -> u32 {
        self.stamp += 1;
        self.stamp
    }

    /// The state after a handle of `tid`.
    fn note(&mut self, tid: Tid) {
        match self.history.last_mut() {
            Some((last, state)) if *last == tid => *state = self.now.clone(),
            _ => self.history.push((tid, self.now.clone())),
        }
    }

    fn run(&mut self, op: &Op) -> ext4::Result<()> {
        let journal = self.journal.clone();
        match *op {
            Op::Change { first, count } => {
                let stamp = self.stamp();
                let mut handle = journal.begin(count as u32)?;
                let before = self.now.clone();
                let tid = handle.tid();
                for block in first..(first + count).min(BLOCKS) {
                    if let Is::Metadata(_) = self.now[&block] {
                        let buffer = journal.buffers().get(block)?;
                        handle.modify(&buffer, |bytes| bytes.copy_from_slice(&stamped(stamp)))?;
                        self.now.insert(block, Is::Metadata(stamp));
                    }
                }
                if self.now != before {
                    self.note(tid);
                }
            }
            Op::Free { block } => {
                if let Is::Metadata(_) = self.now[&block] {
                    let mut handle = journal.begin(1)?;
                    handle.free(block, 1, Freed::Metadata)?;
                    let free = self.free.clone();
                    handle.on_commit(Box::new(move || {
                        free.lock().unwrap().insert(block);
                    }));
                    let tid = handle.tid();
                    let life = self.stamp();
                    self.now.insert(block, Is::Freed(life));
                    self.note(tid);
                }
            }
            Op::Data { block } => {
                let usable = self.free.lock().unwrap().contains(&block);
                if let (Is::Freed(life), true) = (self.now[&block], usable) {
                    let stamp = self.stamp();
                    // Only what is flushed is certain; before that the old data may be there or not.
                    self.data.insert((block, life), (stamp, false));
                    self.device.write(block * BLOCK as u64, &stamped(stamp))?;
                }
            }
            Op::Create { block } => {
                if self.free.lock().unwrap().remove(&block) {
                    let stamp = self.stamp();
                    let mut handle = journal.begin(1)?;
                    let buffer = handle.create(block)?;
                    assert!(buffer.read(|bytes| bytes.iter().all(|&byte| byte == 0)));
                    handle.modify(&buffer, |bytes| bytes.copy_from_slice(&stamped(stamp)))?;
                    let tid = handle.tid();
                    self.now.insert(block, Is::Metadata(stamp));
                    self.note(tid);
                }
            }
            Op::Fill => {
                self.run(&Op::Change {
                    first: 0,
                    count: BLOCKS,
                })?;
                self.run(&Op::Commit)?;
            }
            Op::Commit => {
                let tid = journal.running();
                journal.commit(tid)?;
                self.acknowledge(tid);
            }
            Op::Sync => {
                let tid = journal.running();
                journal.sync()?;
                self.acknowledge(tid);
                for data in self.data.values_mut() {
                    data.1 = true;
                }
            }
        }
        Ok(())
    }

    fn acknowledge(&mut self, tid: Tid) {
        if self.history.iter().any(|(done, _)| *done == tid) {
            self.acknowledged = Some(tid);
        }
    }

    /// Whether a replayed image shows the state after transaction number `index` of the history (0: before all).
    fn shows(&self, image: &Image, index: usize) -> bool {
        let state = match index {
            0 => None,
            _ => Some(&self.history[index - 1].1),
        };
        (0..BLOCKS).all(|number| {
            let seen = block(image, number);
            match state.map_or(Is::Metadata(0), |state| state[&number]) {
                Is::Metadata(0) => seen == vec![0; BLOCK],
                Is::Metadata(stamp) => seen == stamped(stamp),
                Is::Freed(life) => match self.data.get(&(number, life)) {
                    Some(&(stamp, true)) => seen == stamped(stamp),
                    _ => true,
                },
            }
        })
    }
}

/// Runs `ops` with the power failing at request `stop`; checks what `seed` leaves of it. Returns whether the power failed at all.
fn crash(ops: &[Op], features: Features, sequence: Tid, stop: u64, seed: u64) -> Result<bool, TestCaseError> {
    let device = FaultDevice::new(formatted(sequence));
    device.stop_at(stop);
    let mut model = match Model::new(device.clone(), features) {
        Ok(model) => model,
        Err(_) => return Ok(true),
    };
    let failed = ops.iter().any(|op| model.run(op).is_err());
    let acknowledged = match model.acknowledged {
        None => 0,
        Some(tid) => 1 + model.history.iter().position(|(done, _)| *done == tid).unwrap(),
    };
    let after = FaultDevice::new(device.crash(seed));
    let replayed = load(&after, features);
    prop_assert!(replayed.is_ok(), "replay failed: {:?}", replayed.err());
    let image = after.image();
    let found = (acknowledged..=model.history.len()).find(|&index| model.shows(&image, index));
    prop_assert!(
        found.is_some(),
        "no state from {acknowledged} to {} fits (stop {stop}, seed {seed}, {:?})",
        model.history.len(),
        replayed.unwrap().recovery()
    );
    // A second replay has nothing to do, and the journal goes on.
    let again = FaultDevice::new(after.crash(0));
    let journal = load(&again, features).unwrap();
    prop_assert_eq!(journal.recovery().transactions, 0);
    let tid = change(&journal, 3, 7).unwrap();
    journal.commit(tid).unwrap();
    let last = FaultDevice::new(again.crash(0));
    load(&last, features).unwrap();
    prop_assert_eq!(block(&last.image(), 3), stamped(7));
    Ok(failed)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn after_a_crash_replay_shows_a_prefix_with_all_that_was_acknowledged(
        ops in proptest::collection::vec(op(), 1..120),
        features in proptest::sample::select(feature_sets()),
        sequence in prop_oneof![Just(1u32), Just(u32::MAX - 5), Just(0x7FFF_FFFA)],
        seed in 2u64..,
    ) {
        let mut stop = 0;
        while crash(&ops, features, sequence, stop, seed.wrapping_add(stop))? {
            if stop % 3 == 0 {
                crash(&ops, features, sequence, stop, 0)?;
                crash(&ops, features, sequence, stop, 1)?;
            }
            stop += 1;
        }
    }

    #[test]
    fn replay_of_a_replay_that_crashed_shows_the_same(
        ops in proptest::collection::vec(op(), 20..60),
        features in proptest::sample::select(feature_sets()),
        seed in 2u64..,
    ) {
        let device = FaultDevice::new(formatted(1));
        let mut model = Model::new(device.clone(), features).unwrap();
        for op in &ops {
            model.run(op).unwrap();
        }
        let crashed = device.crash(seed);
        let reference = FaultDevice::new(crashed.clone());
        load(&reference, features).unwrap();
        for stop in 0.. {
            let first = FaultDevice::new(crashed.clone());
            first.stop_at(stop);
            let done = load(&first, features).is_ok();
            let second = FaultDevice::new(first.crash(seed ^ stop));
            load(&second, features).unwrap();
            for number in 0..BLOCKS {
                prop_assert_eq!(block(&second.image(), number), block(&reference.image(), number));
            }
            if done {
                break;
            }
        }
    }
}

#[test]
fn a_log_that_wraps_never_overwrites_what_a_replay_needs() {
    let ops = vec![Op::Fill; 40];
    let features = feature_sets()[3];
    let mut stop = 0;
    while crash(&ops, features, 1, stop, stop + 2).unwrap() {
        crash(&ops, features, 1, stop, stop + 1_000_000).unwrap();
        stop += 1;
    }
    assert!(stop > 100, "the power failed only {stop} times");
}

/// The cache shows what was changed last, whatever is on its way to the log or home.
#[test]
fn a_reader_sees_the_newest_version_under_a_tiny_cache() {
    let device = FaultDevice::new(formatted(1));
    let journal = load(&device, Features::default()).unwrap();
    let buffers: &Arc<BufferCache> = journal.buffers();
    buffers.set_capacity(8);
    let mut want = [0u32; 64];
    for round in 1..400u32 {
        let number = u64::from(round * 7 % 64);
        // A change of a part: a stale block would show.
        let mut handle = journal.begin(1).unwrap();
        let buffer = buffers.get(number).unwrap();
        handle
            .modify(&buffer, |bytes| {
                let count = u32::from_le_bytes(bytes[..4].try_into().unwrap());
                bytes[..4].copy_from_slice(&(count + 1).to_le_bytes());
            })
            .unwrap();
        want[number as usize] += 1;
        let tid = handle.tid();
        drop(handle);
        match round % 11 {
            0 => journal.commit(tid).unwrap(),
            7 if round % 5 == 0 => journal.sync().unwrap(),
            _ => {}
        }
        // Reads of what nobody changes push the others out.
        for other in 0..4 {
            buffers.get(u64::from(200 + round * 4 + other) % 900).unwrap();
        }
    }
    for number in 0..64 {
        let seen = buffers
            .get(number)
            .unwrap()
            .read(|bytes| u32::from_le_bytes(bytes[..4].try_into().unwrap()));
        assert_eq!(seen, want[number as usize], "block {number}");
    }
    journal.close().unwrap();
    for number in 100..500 {
        buffers.get(number).unwrap();
    }
    assert!(
        buffers.cached() <= 16,
        "{} blocks stay in a cache of 8",
        buffers.cached()
    );
}
