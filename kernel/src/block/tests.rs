//! The way of a request: queue, batch, device, cache, on a disk in memory.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicUsize, Ordering};

use arch_um::sync::{SpinLock, order};

use super::bio::{Bio, BioFlags, BlockDriver, Completion, Op};
use super::claim::Claim;
use super::device::BlockDevice;
use super::disk::{Disk, DiskInfo, PartitionScan, register_with, unregister};
use super::fault::FaultDisk;
use crate::io::{SliceSink, SliceSource};
use crate::page_cache::ErrorCursor;
use crate::vfs::DevT;
use crate::{Errno, Result};

/// A driver that keeps requests until it is told to go on.
struct Slow {
    disk: Arc<FaultDisk>,
    held: SpinLock<Option<Vec<Bio>>>,
}

impl BlockDriver for Slow {
    fn submit(&self, bio: Bio) {
        if let Some(held) = &mut *self.held.lock() {
            held.push(bio);
            return;
        }
        self.disk.submit(bio);
    }

    fn can_discard(&self) -> bool {
        true
    }
}

/// A registered disk of `len` bytes that is gone with the test.
struct Rig {
    fault: Arc<FaultDisk>,
    slow: Arc<Slow>,
    disk: Arc<Disk>,
    device: Option<Arc<BlockDevice>>,
}

impl Rig {
    fn new(minor: u32, len: usize) -> Self {
        let fault = Arc::new(FaultDisk::new((0..len).map(|at| (at / 512) as u8).collect()));
        let slow = Arc::new(Slow {
            disk: fault.clone(),
            held: SpinLock::new(&order::DRIVER, None),
        });
        let info = DiskInfo {
            name: alloc::format!("test{minor}x"),
            dev: DevT::new(240, minor),
            len: len as u64,
            read_only: false,
            driver: slow.clone(),
        };
        let disk = register_with(info, 1, PartitionScan::No).expect("a free number");
        let device = BlockDevice::open_on(disk.clone(), 0, Claim::Exclusive).expect("a new disk");
        let device = Some(device);
        Self {
            fault,
            slow,
            disk,
            device,
        }
    }

    fn device(&self) -> &BlockDevice {
        self.device.as_deref().expect("it is open until the end")
    }

    fn cached(&self, at: u64, len: usize) -> Vec<u8> {
        let mut data = vec![0; len];
        let got = self.disk.cache().read(at, &mut SliceSink::new(&mut data));
        assert_eq!(got, Ok(len));
        data
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        assert_eq!(unregister(&self.disk), Err(Errno::EBUSY));
        self.fault.heal();
        self.device = None;
        // An earlier failure is told once more.
        assert!((0..2).any(|_| unregister(&self.disk) == Ok(())));
    }
}

#[test]
fn requests_of_a_batch_that_touch_go_to_the_driver_as_one() {
    let rig = Rig::new(0, 1 << 20);
    let mut batch = rig.device().batch();
    for block in [3, 1, 2, 8] {
        batch.write(block * 4096, vec![block as u8; 4096]);
    }
    batch.wait_all().expect("memory");
    for block in [1, 2, 3, 8] {
        assert_eq!(rig.fault.contents()[block * 4096], block as u8);
    }
    let writes: Vec<_> = rig.fault.log();
    assert_eq!(writes, [(Op::Write, 4096, 3 * 4096), (Op::Write, 8 * 4096, 4096)]);
    let fields = rig.disk.counters().fields();
    assert_eq!((fields[4], fields[5], fields[6], fields[8]), (2, 2, 4 * 8, 0));
}

#[test]
fn a_joined_read_gives_each_part_its_own_bytes() {
    let rig = Rig::new(1, 1 << 20);
    let mut batch = rig.device().batch();
    batch.read(4096, 512).read(512, 1024).read(1536, 2560);
    let got = batch.wait_all().expect("memory");
    assert_eq!(got.iter().map(Vec::len).collect::<Vec<_>>(), [512, 1024, 2560]);
    assert_eq!((got[0][0], got[1][0], got[1][512], got[2][0]), (8, 1, 2, 3));
    assert_eq!(rig.fault.log(), [(Op::Read, 512, 4096)]);
}

#[test]
fn a_bad_block_fails_only_the_request_that_wants_it() {
    let rig = Rig::new(2, 1 << 20);
    rig.fault.damage(4096..4608, Errno::EIO);
    let mut batch = rig.device().batch();
    batch.read(0, 4096).read(4096, 4096).read(8192, 4096);
    let got: Vec<Result<usize>> = batch.wait().into_iter().map(|got| got.map(|data| data.len())).collect();
    assert_eq!(got, [Ok(4096), Err(Errno::EIO), Ok(4096)]);
}

#[test]
fn a_flush_stands_before_and_behind_a_write_that_asks_for_it() {
    let rig = Rig::new(3, 1 << 20);
    rig.device().write(0, &[1; 512]).expect("memory");
    let flags = BioFlags::PREFLUSH | BioFlags::FUA;
    rig.device().write_owned(512, vec![2; 512], flags).expect("memory");
    let ops: Vec<Op> = rig.fault.log().into_iter().map(|(op, ..)| op).collect();
    assert_eq!(ops, [Op::Write, Op::Flush, Op::Write, Op::Flush]);
    assert_eq!(rig.fault.unflushed(), []);
    rig.fault.fail(0, Errno::EIO);
    let refused = rig.device().write_owned(1024, vec![3; 512], flags);
    assert_eq!(refused, Err(Errno::EIO));
    assert_eq!(
        rig.fault.contents()[1024],
        2,
        "a write does not pass a flush that failed"
    );
}

#[test]
fn large_transfers_are_split_and_come_back_whole() {
    let rig = Rig::new(4, 5 << 20);
    let mut data = vec![0; (3 << 20) + 512];
    rig.device().read(512, &mut data).expect("memory");
    assert_eq!(data, rig.fault.contents()[512..][..data.len()]);
    assert!(rig.fault.log().iter().all(|&(_, _, len)| len <= 1 << 20));
    rig.device().write(1024, &data).expect("memory");
    assert_eq!(rig.fault.contents()[1024..][..data.len()], data[..]);
}

#[test]
fn what_a_file_system_writes_shows_in_the_device_file_and_the_other_way_round() {
    let rig = Rig::new(5, 1 << 20);
    assert_eq!(rig.cached(4096, 1), [8]);
    rig.device().write(4096, &[77; 512]).expect("memory");
    assert_eq!(rig.cached(4096, 1), [77]);
    rig.device().write_zeroes(4096, 512).expect("memory");
    assert_eq!(rig.cached(4096, 1), [0]);
    let cache = rig.disk.cache();
    cache
        .write(8192, &mut SliceSource::new(&[55; 10]))
        .expect("it is cached");
    assert_eq!(rig.fault.contents()[8192], 16);
    assert_eq!(rig.device().read_owned(8192, 512).expect("memory")[..10], [55; 10]);
}

#[test]
fn ranges_that_are_no_blocks_of_the_device_are_refused() {
    let rig = Rig::new(6, 8192);
    assert_eq!(rig.device().read_owned(100, 512), Err(Errno::EINVAL));
    assert_eq!(rig.device().read_owned(512, 100), Err(Errno::EINVAL));
    assert_eq!(rig.device().read_owned(8192, 512), Err(Errno::EINVAL));
    assert_eq!(rig.device().write(u64::MAX - 511, &[0; 512]), Err(Errno::EINVAL));
    rig.disk.set_read_only(super::disk::ReadOnly::Yes);
    assert_eq!(rig.device().write(0, &[0; 512]), Err(Errno::EROFS));
    assert_eq!(rig.device().discard(0, 512), Err(Errno::EROFS));
    assert_eq!(rig.device().flush(), Ok(()));
    assert_eq!(rig.fault.count(), 0);
}

#[test]
fn a_slow_driver_holds_a_bounded_number_of_requests_and_the_rest_is_joined() {
    let rig = Rig::new(7, 4 << 20);
    *rig.slow.held.lock() = Some(Vec::new());
    let done = Arc::new(AtomicUsize::new(0));
    // Every other block: nothing touches.
    let bios = (0..100).map(|block| {
        let done = done.clone();
        let count: Completion = Box::new(move |_, outcome| {
            done.fetch_add(usize::from(outcome.is_ok()), Ordering::Relaxed);
        });
        Bio::new(Op::Write, block * 8192, 4096, vec![1; 4096], count)
    });
    rig.device().submit(bios.collect());
    let counters = rig.disk.counters();
    assert_eq!(counters.in_flight(), [0, 100]);
    let held = rig.slow.held.lock().take().expect("requests are held");
    assert_eq!((held.len(), done.load(Ordering::Relaxed)), (32, 0));
    for bio in held {
        rig.slow.submit(bio);
    }
    assert_eq!(done.load(Ordering::Relaxed), 100);
    assert_eq!(counters.in_flight(), [0, 0]);
}

#[test]
fn a_failed_write_back_is_told_once_to_each_file_and_written_by_the_next() {
    let rig = Rig::new(8, 1 << 20);
    let cache = rig.disk.cache();
    cache.write(0, &mut SliceSource::new(&[9; 8192])).expect("it is cached");
    let files = [(); 2].map(|()| ErrorCursor::new(Some(cache)));
    rig.fault.fail(0, Errno::ENOSPC);
    assert_eq!(cache.write_back(0..u64::MAX), Err(Errno::ENOSPC), "the flusher comes");
    let late = ErrorCursor::new(Some(cache));
    for file in files.iter().chain([&late]) {
        assert_eq!(cache.sync_for(file), Err(Errno::ENOSPC));
        assert_eq!(cache.sync_for(file), Ok(()));
    }
    assert_eq!(cache.sync_for(&ErrorCursor::new(Some(cache))), Ok(()), "all were told");
    assert_eq!(rig.fault.contents()[..8192], [9; 8192]);
    assert_eq!(rig.fault.unflushed(), []);
}

#[test]
fn a_disk_stays_when_its_dirty_blocks_cannot_be_written() {
    let mut rig = Rig::new(11, 8192);
    rig.device = None;
    let written = rig.disk.cache().write(0, &mut SliceSource::new(&[7; 100]));
    assert_eq!(written, Ok(100));
    rig.fault.fail(0, Errno::EIO);
    assert_eq!(unregister(&rig.disk), Err(Errno::EIO));
    rig.device = Some(BlockDevice::open(rig.disk.dev(), Claim::Shared).expect("it is still there"));
}

#[test]
fn partitions_are_counted_numbered_and_not_changed_under_their_users() {
    let rig = Rig::new(9, 1 << 20);
    let mut mbr = vec![0; 512];
    for (index, start) in [(0, 8_u32), (1, 16)] {
        let entry = &mut mbr[446 + index * 16..][..16];
        entry[4] = 0x83;
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..16].copy_from_slice(&8_u32.to_le_bytes());
    }
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    rig.device().write(0, &mbr).expect("memory");
    assert_eq!(rig.disk.rescan(), Err(Errno::EINVAL), "not asked to look");
    rig.disk.set_partition_scan(PartitionScan::Yes);
    assert_eq!(rig.disk.rescan(), Ok(()));
    let parts = rig.disk.parts();
    assert_eq!(parts.len(), 2);
    assert!(parts.iter().all(|part| part.dev().major == super::disk::EXTENDED_MAJOR));
    assert!(parts[0].dev() != parts[1].dev());
    assert_eq!(
        BlockDevice::open(parts[0].dev(), Claim::Exclusive).err(),
        Some(Errno::EBUSY)
    );
    let second = BlockDevice::open(parts[1].dev(), Claim::Shared).expect("it is there");
    assert_eq!((second.start(), second.len()), (16 * 512, 8 * 512));
    assert_eq!(second.read_owned(0, 512).expect("memory"), vec![16; 512]);
    assert_eq!(
        second.read_owned(8 * 512, 512),
        Err(Errno::EINVAL),
        "the end of the partition"
    );
    assert_eq!(
        (parts[0].counters().fields()[2], parts[1].counters().fields()[2]),
        (0, 1)
    );
    assert_eq!(rig.disk.rescan(), Err(Errno::EBUSY));
    drop(second);
    assert_eq!(rig.disk.rescan(), Ok(()));
    assert!(
        Arc::ptr_eq(&rig.disk.parts()[1], &parts[1]),
        "what is where it was stays"
    );
    let gone = BlockDevice::open(parts[1].dev(), Claim::Shared).expect("it is there");
    rig.disk.drop_partitions();
    assert_eq!((gone.len(), gone.read_owned(0, 512)), (0, Err(Errno::EINVAL)));
    assert_eq!(
        BlockDevice::open(parts[1].dev(), Claim::Shared).err(),
        Some(Errno::ENXIO)
    );
}

/// What came of a request: its block, what it was, its buffer.
type Seen = (u64, Op, Result<Vec<u8>>);

proptest::proptest! {
    /// Each request completes once, with its own bytes, however the driver mixes and refuses them.
    #[test]
    fn requests_come_back_once_and_right_in_any_order(
        rounds in proptest::collection::vec(proptest::collection::vec((0_u64..64, 0_u8..4, 0_usize..8), 1..60), 1..6),
        failing in proptest::collection::vec(0_u64..80, 0..4),
    ) {
        let rig = Rig::new(10, 64 * 4096);
        let mut model = rig.fault.contents();
        for skip in failing {
            rig.fault.fail(skip, Errno::EIO);
        }
        for (round, requests) in rounds.into_iter().enumerate() {
            *rig.slow.held.lock() = Some(Vec::new());
            let outcomes = Arc::new(SpinLock::new(&order::LEAF, Vec::<Seen>::new()));
            let mut used = [false; 64];
            let mut bios = Vec::new();
            let mut mix = Vec::new();
            for (block, kind, place) in requests {
                // Requests under way at a time do not overlap: they have no order.
                if core::mem::replace(&mut used[block as usize], true) {
                    continue;
                }
                let (op, data) = match kind {
                    0 => (Op::Write, vec![round as u8 + 100; 4096]),
                    1 => (Op::Discard, vec![]),
                    _ => (Op::Read, vec![0; 4096]),
                };
                let seen = outcomes.clone();
                let done: Completion = Box::new(move |mut bio, outcome| {
                    seen.lock().push((block, op, outcome.map(|()| core::mem::take(&mut bio.data))));
                });
                bios.push(Bio::new(op, block * 4096, 4096, data, done));
                mix.push(place);
            }
            let count = bios.len();
            rig.device().submit(bios);
            let mut held = rig.slow.held.lock().take().expect("requests are held");
            for place in mix {
                if !held.is_empty() {
                    let bio = held.swap_remove(place % held.len());
                    rig.slow.submit(bio);
                }
            }
            for bio in held {
                rig.slow.submit(bio);
            }
            let outcomes = core::mem::take(&mut *outcomes.lock());
            assert_eq!(outcomes.len(), count);
            let mut seen = [false; 64];
            for (block, op, outcome) in outcomes {
                assert!(!core::mem::replace(&mut seen[block as usize], true));
                let place = block as usize * 4096..(block as usize + 1) * 4096;
                match (op, outcome) {
                    (Op::Read, Ok(data)) => assert!(data == model[place]),
                    (Op::Write, Ok(_)) => model[place].fill(round as u8 + 100),
                    (Op::Discard, Ok(_)) => model[place].fill(0),
                    (_, outcome) => assert_eq!(outcome, Err(Errno::EIO)),
                }
            }
            assert!(rig.fault.contents() == model);
            assert_eq!(rig.disk.counters().in_flight(), [0, 0]);
        }
    }
}
