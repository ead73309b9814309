//! What holds of a cache whatever lies below it.

use super::*;
use crate::io::{SliceSink, SliceSource};

struct Disk {
    data: SpinLock<Vec<u8>>,
    fail: AtomicU64,
}

impl Backing for Disk {
    fn len(&self) -> u64 {
        self.data.lock().len() as u64
    }
    fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        data.copy_from_slice(&self.data.lock()[at as usize..][..data.len()]);
        Ok(())
    }
    fn write(&self, at: u64, data: &[u8]) -> Result<()> {
        if self.fail.load(Ordering::Relaxed) != 0 {
            return Err(Errno::EIO);
        }
        self.data.lock()[at as usize..][..data.len()].copy_from_slice(data);
        Ok(())
    }
    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

fn disk(len: usize) -> (Arc<Disk>, Arc<PageCache>) {
    let data = (0..len).map(|at| (at / 7) as u8).collect();
    let disk = Arc::new(Disk {
        data: SpinLock::new(&order::LEAF, data),
        fail: AtomicU64::new(0),
    });
    let cache = PageCache::new("test", disk.clone());
    (disk, cache)
}

#[test]
fn reads_see_the_backing_and_earlier_writes() {
    let (_, cache) = disk(300_000);
    assert_eq!(cache.write(5000, &mut SliceSource::new(b"hello")), Ok(5));
    let mut data = vec![0; 300_000];
    assert_eq!(cache.read(0, &mut SliceSink::new(&mut data)), Ok(300_000));
    assert_eq!(&data[5000..5005], b"hello");
    assert!(
        data.iter()
            .enumerate()
            .all(|(at, &byte)| (5000..5005).contains(&at) || byte == (at / 7) as u8)
    );
}

#[test]
fn sync_writes_each_dirty_page_and_nothing_past_the_end() {
    let (disk, cache) = disk(10_001);
    assert_eq!(cache.write(9_990, &mut SliceSource::new(&[1; 100])), Ok(11));
    assert_eq!(cache.write(10_001, &mut SliceSource::new(&[1])), Err(Errno::ENOSPC));
    assert_eq!(cache.dirty_bytes(), PAGE);
    cache.sync().expect("it is written");
    assert_eq!(cache.dirty_bytes(), 0);
    assert_eq!(disk.data.lock()[9_990..], [1; 11]);
}

#[test]
fn a_failed_write_back_is_reported_and_tried_again() {
    let (disk, cache) = disk(8192);
    cache.write(0, &mut SliceSource::new(&[9; 4096])).expect("it is cached");
    disk.fail.store(1, Ordering::Relaxed);
    assert_eq!(cache.sync(), Err(Errno::EIO));
    disk.fail.store(0, Ordering::Relaxed);
    let _ = cache.sync();
    assert_eq!(disk.data.lock()[..4096], [9; 4096]);
}

#[test]
fn a_write_back_waits_for_the_one_that_is_under_way() {
    let (_, cache) = disk(8192);
    cache.write(0, &mut SliceSource::new(&[9; 4096])).expect("it is cached");
    let run = cache.claim_dirty(0..u64::MAX, u64::MAX);
    assert_eq!(run, Some(Some(0..1)));
    assert_eq!(cache.dirty_bytes(), 0);
    assert!(cache.pages.lock().any(&(0..u64::MAX), |chunk| chunk.writing));
    assert!(!cache.pages.lock().any(&(1..u64::MAX), |chunk| chunk.writing));
    cache.write_back(1..u64::MAX).expect("nothing is written there");
}

#[test]
fn invalidated_pages_are_read_again() {
    let (disk, cache) = disk(8192);
    let mut byte = [0];
    cache.read(4096, &mut SliceSink::new(&mut byte)).expect("a byte");
    disk.data.lock()[4096] = 77;
    cache.invalidate(0..8192).expect("nothing is dirty");
    cache.read(4096, &mut SliceSink::new(&mut byte)).expect("a byte");
    assert_eq!(byte, [77]);
}
