//! What all page caches together may hold of the machine's memory, dirty or not. A process of its own: the bounds are of the whole machine.

use std::sync::Arc;

use kernel::Result;
use kernel::io::{SliceSink, SliceSource};
use kernel::page_cache::{Backing, PAGE, PageCache, reclaim};

/// Contents that are the number of their page, and forget what is written.
struct Numbers(u64);

impl Backing for Numbers {
    fn len(&self) -> u64 {
        self.0
    }
    fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        for (index, byte) in data.iter_mut().enumerate() {
            *byte = ((at + index as u64) / PAGE) as u8;
        }
        Ok(())
    }
    fn write(&self, _at: u64, _data: &[u8]) -> Result<()> {
        Ok(())
    }
    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

/// What is between two looks at the bound: what the other test has dirty, and a step.
const SLACK: u64 = 16 << 20;

fn first_byte(cache: &PageCache, page: u64) -> u8 {
    let mut byte = [0];
    cache.read(page * PAGE, &mut SliceSink::new(&mut byte)).expect("read");
    byte[0]
}

#[test]
fn a_large_file_stays_within_the_share_of_memory_and_what_is_dirty_stays() {
    let bound = reclaim::bound();
    let len = bound * 2;
    let cache = PageCache::new("test", Arc::new(Numbers(len)));
    let page = [99; PAGE as usize];
    cache.write(3 * PAGE, &mut SliceSource::new(&page)).expect("written");
    let mut data = vec![0; 1 << 20];
    for at in (0..len).step_by(data.len()) {
        cache.read(at, &mut SliceSink::new(&mut data)).expect("read");
        assert_eq!(data[4 * PAGE as usize], (at / PAGE + 4) as u8);
        assert!(reclaim::cached_bytes() <= bound + SLACK);
    }
    assert!(cache.cached_bytes() <= bound + SLACK, "the host has the memory back");
    assert_eq!(first_byte(&cache, 3), 99);
    assert_eq!(first_byte(&cache, 5), 5);
}

#[test]
fn a_tree_of_small_files_stays_within_the_share_of_memory() {
    let bound = reclaim::bound();
    let file = |_| PageCache::new("test", Arc::new(Numbers(8 * PAGE)));
    let files: Vec<Arc<PageCache>> = (0..bound / (4 * PAGE)).map(file).collect();
    for cache in &files {
        let mut data = [0; 8 * PAGE as usize];
        cache.read(0, &mut SliceSink::new(&mut data)).expect("read");
        assert!(reclaim::cached_bytes() <= bound + SLACK);
    }
    let held: u64 = files.iter().map(|cache| cache.cached_bytes()).sum();
    assert!(held <= bound + SLACK);
    assert_eq!(first_byte(&files[0], 7), 7);
}

#[test]
fn a_writer_is_held_back_at_his_share_of_memory() {
    let total = kernel::sys::memory::total();
    let cache = PageCache::new("test", Arc::new(Numbers(total)));
    let data = vec![1; 1 << 20];
    for at in (0..total).step_by(data.len()) {
        cache.write(at, &mut SliceSource::new(&data)).expect("written");
        assert!(cache.dirty_bytes() <= total / 5 + (1 << 20));
    }
}
