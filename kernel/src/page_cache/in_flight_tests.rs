//! Pages on their way: read ahead, failed, cut off under a reader. The bounds of all caches are in `tests/page_cache_bounds.rs`, a process of its own.

extern crate std;

use super::*;
use crate::io::{SliceSink, SliceSource};
use crate::vfs::file::Advice;

const PAGE_LEN: usize = PAGE as usize;

/// Contents whose reads ahead wait until they are told to go on. Byte `at` is `at / PAGE`.
struct Held {
    len: AtomicU64,
    bad: SpinLock<Range<u64>>,
    ahead: SpinLock<Vec<(u64, usize, ReadDone)>>,
    /// Pages that somebody waited for himself.
    waited: AtomicU64,
}

impl Held {
    fn get(&self, at: u64, data: &mut [u8]) -> Result<()> {
        let bad = self.bad.lock().clone();
        if at < bad.end && bad.start < at + data.len() as u64 {
            return Err(Errno::EIO);
        }
        for (index, byte) in data.iter_mut().enumerate() {
            *byte = ((at as usize + index) / PAGE_LEN) as u8;
        }
        Ok(())
    }

    /// Lets what is on its way arrive; how many requests that were.
    fn arrive(&self) -> usize {
        let held = core::mem::take(&mut *self.ahead.lock());
        let count = held.len();
        for (at, len, done) in held {
            let mut data = vec![0; len];
            let outcome = self.get(at, &mut data);
            done(outcome.map(|()| data));
        }
        count
    }
}

impl Backing for Held {
    fn len(&self) -> u64 {
        self.len.load(Ordering::Relaxed)
    }
    fn read(&self, at: u64, data: &mut [u8]) -> Result<()> {
        self.waited
            .fetch_add((data.len() as u64).div_ceil(PAGE), Ordering::Relaxed);
        self.get(at, data)
    }
    fn start_read(&self, at: u64, len: usize, done: ReadDone) {
        self.ahead.lock().push((at, len, done));
    }
    fn write(&self, _at: u64, _data: &[u8]) -> Result<()> {
        Ok(())
    }
    fn flush(&self) -> Result<()> {
        Ok(())
    }
}

fn held(pages: u64) -> (Arc<Held>, Arc<PageCache>) {
    let backing = Arc::new(Held {
        len: AtomicU64::new(pages * PAGE),
        bad: SpinLock::new(&order::LEAF, 0..0),
        ahead: SpinLock::new(&order::LEAF, Vec::new()),
        waited: AtomicU64::new(0),
    });
    let cache = PageCache::new("test", backing.clone());
    (backing, cache)
}

/// Reads one page.
fn page(cache: &PageCache, number: u64) -> Result<u8> {
    let mut data = [0; PAGE_LEN];
    cache.read(number * PAGE, &mut SliceSink::new(&mut data))?;
    Ok(data[PAGE_LEN - 1])
}

#[test]
fn a_sequential_reader_waits_for_the_first_page_alone() {
    let (backing, cache) = held(200);
    for number in 0..200 {
        assert_eq!(page(&cache, number), Ok(number as u8));
        backing.arrive();
    }
    assert_eq!(backing.waited.load(Ordering::Relaxed), 1);
}

#[test]
fn a_reader_here_and_there_has_nothing_read_ahead() {
    let (backing, cache) = held(200);
    for number in [100, 3, 177, 50] {
        assert_eq!(page(&cache, number), Ok(number as u8));
    }
    assert_eq!(backing.arrive(), 0);
}

#[test]
fn a_bad_page_in_a_window_fails_its_own_reader_alone() {
    let (backing, cache) = held(64);
    *backing.bad.lock() = 20 * PAGE..21 * PAGE;
    for number in 0..64 {
        let expected = if number == 20 {
            Err(Errno::EIO)
        } else {
            Ok(number as u8)
        };
        assert_eq!(page(&cache, number), expected);
        backing.arrive();
    }
    // What comes before it in one read is read.
    let (backing, cache) = held(64);
    *backing.bad.lock() = 20 * PAGE..21 * PAGE;
    let mut data = vec![0; 64 * PAGE_LEN];
    assert_eq!(cache.read(0, &mut SliceSink::new(&mut data)), Ok(20 * PAGE_LEN));
    assert_eq!(cache.read(20 * PAGE, &mut SliceSink::new(&mut data)), Err(Errno::EIO));
    let lost = core::mem::take(&mut *backing.ahead.lock());
    drop(lost);
}

#[test]
fn a_reader_waits_for_the_page_that_is_on_its_way() {
    let (backing, cache) = held(64);
    assert_eq!(page(&cache, 0), Ok(0));
    let reader = {
        let cache = cache.clone();
        std::thread::spawn(move || page(&cache, 1))
    };
    while !reader.is_finished() {
        backing.arrive();
    }
    assert_eq!(reader.join().expect("it read"), Ok(1));
    assert_eq!(backing.waited.load(Ordering::Relaxed), 1);
}

#[test]
fn a_read_ahead_that_is_lost_leaves_its_pages_missing() {
    let (backing, cache) = held(64);
    assert_eq!(page(&cache, 0), Ok(0));
    let lost = core::mem::take(&mut *backing.ahead.lock());
    assert!(!lost.is_empty());
    drop(lost);
    assert_eq!(page(&cache, 1), Ok(1));
}

#[test]
fn what_was_cut_off_under_a_read_ahead_is_gone() {
    let (backing, cache) = held(64);
    assert_eq!(page(&cache, 0), Ok(0));
    assert!(!backing.ahead.lock().is_empty());
    backing.len.store(PAGE, Ordering::Relaxed);
    let cutter = {
        let cache = cache.clone();
        std::thread::spawn(move || cache.truncated(PAGE))
    };
    while !cutter.is_finished() {
        backing.arrive();
    }
    assert_eq!(cutter.join().expect("it cut"), Ok(()));
    assert!(!cache.pages.lock().any(&(1..64), |chunk| chunk.valid | chunk.busy));
    assert_eq!(page(&cache, 0), Ok(0));
}

#[test]
fn advice_reads_ahead_and_forgets() {
    let (backing, cache) = held(64);
    let reader = ReadAhead::new();
    let advise = |range, advice| cache.advise(&reader, range, advice).expect("advice is taken");
    advise(10 * PAGE..20 * PAGE, Advice::WillNeed);
    assert_eq!(backing.arrive(), 1);
    assert_eq!(page(&cache, 12), Ok(12));
    assert_eq!(backing.waited.load(Ordering::Relaxed), 0);
    cache
        .write(15 * PAGE, &mut SliceSource::new(&[99; PAGE_LEN]))
        .expect("written");
    advise(0..u64::MAX, Advice::DontNeed);
    assert_eq!(cache.pages.lock().clean_runs(0..64), []);
    assert_eq!(page(&cache, 15), Ok(99), "what is dirty stays");
    assert_eq!(page(&cache, 12), Ok(12));
    assert_eq!(backing.waited.load(Ordering::Relaxed), 1);
}

/// What faults of a mapping start depends on what the program said of that mapping, not on others of the same file.
#[test]
fn faults_read_ahead_as_their_mapping_was_advised() {
    let started = |pattern: Pattern, other: Option<Pattern>| {
        let (backing, cache) = held(4096);
        let fault = |page: u64, pattern| cache.fill(page * PAGE, (page + 16) * PAGE, pattern).expect("it fills");
        for window in 0..12 {
            fault(window * 16, pattern);
            if let Some(other) = other {
                fault(2048 + window * 16, other);
            }
            backing.arrive();
        }
        fault(192, pattern);
        let ahead = backing.ahead.lock();
        ahead.iter().map(|(_, len, _)| *len as u64 / PAGE).sum::<u64>()
    };
    let normal = started(Pattern::Normal, None);
    assert!(normal > 0);
    assert_eq!(started(Pattern::Random, None), 0);
    assert_eq!(started(Pattern::Normal, Some(Pattern::Random)), normal);
    assert!(started(Pattern::Sequential, None) > normal);
}

#[test]
fn a_page_that_is_being_written_can_be_read() {
    let (_, cache) = held(8);
    cache.write(0, &mut SliceSource::new(&[7; PAGE_LEN])).expect("written");
    let batch = cache.try_write_back(PAGE).expect("memory");
    assert_eq!(page(&cache, 0), Ok(7));
    assert_eq!(batch.finish(&[Ok(())]), Ok(()));
}

#[test]
fn a_cache_has_a_memory_file_only_when_it_is_mapped() {
    let (backing, cache) = held(4);
    cache
        .write(PAGE, &mut SliceSource::new(&[5; PAGE_LEN]))
        .expect("written");
    assert_eq!((page(&cache, 0), page(&cache, 1)), (Ok(0), Ok(5)));
    assert!(!cache.is_shared());
    backing.arrive();
    backing.len.store(64 * PAGE, Ordering::Relaxed);
    cache
        .write(63 * PAGE, &mut SliceSource::new(&[6; PAGE_LEN]))
        .expect("written");
    assert!(!cache.is_shared());
    cache.memory().expect("a memory file");
    assert!(cache.is_shared());
    assert_eq!((page(&cache, 1), page(&cache, 63)), (Ok(5), Ok(6)));
}

#[test]
fn contents_move_to_a_memory_file_whole_while_they_are_written() {
    let (_, cache) = held(512);
    let writer = {
        let cache = cache.clone();
        std::thread::spawn(move || {
            for number in (0..512).rev() {
                let data = [number as u8 ^ 0xff; PAGE_LEN];
                cache
                    .write(number * PAGE, &mut SliceSource::new(&data))
                    .expect("written");
            }
        })
    };
    let movers: [_; 2] = core::array::from_fn(|_| {
        let cache = cache.clone();
        std::thread::spawn(move || {
            cache
                .memory()
                .map(|(file, _)| Arc::as_ptr(&file))
                .expect("a memory file")
                .addr()
        })
    });
    let files = movers.map(|mover| mover.join().expect("it moved them"));
    writer.join().expect("it wrote");
    assert_eq!(files[0], files[1], "there is one memory file");
    for number in 0..512 {
        assert_eq!(page(&cache, number), Ok(number as u8 ^ 0xff));
    }
}
