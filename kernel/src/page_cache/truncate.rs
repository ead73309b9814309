//! Contents that become shorter or lose a range: what file systems need beyond [`PageCache::invalidate`], which writes back first.

use core::ops::Range;

use super::{PAGE, PageCache};
use crate::Result;
use crate::mm::cached::{self, Copies};

impl PageCache {
    /// The contents end at byte `len` now (the backing says so already): pages behind it are gone, written back or not, also from guests that map them,
    /// and the rest of the last page is zero.
    pub fn truncated(&self, len: u64) -> Result<()> {
        let first = len.div_ceil(PAGE);
        self.take_from_guests(first..u64::MAX / PAGE, Copies::Too);
        self.drop_known(first..u64::MAX)?;
        if len.is_multiple_of(PAGE) {
            return Ok(());
        }
        self.claim(first - 1..first)?;
        let valid = self.pages.lock().get(first - 1).valid;
        let zeroed = if valid {
            self.storage.punch_hole(len..first * PAGE)
        } else {
            Ok(())
        };
        self.release(first - 1..first);
        zeroed
    }

    /// The bytes `range` are zero now: whole pages are forgotten (the backing gives zeros), pages in part are zeroed, and dirty, if they are cached.
    pub fn zeroed(&self, range: Range<u64>) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        self.drop_range(range.start.div_ceil(PAGE)..range.end / PAGE)?;
        let (first, last) = (range.start / PAGE, (range.end - 1) / PAGE);
        self.zero_part(first, &range)?;
        if last > first {
            self.zero_part(last, &range)?;
        }
        Ok(())
    }

    /// Zeroes the part of a page that lies in `range`, unless that is all of it.
    fn zero_part(&self, page: u64, range: &Range<u64>) -> Result<()> {
        let bytes = range.start.max(page * PAGE)..range.end.min((page + 1) * PAGE);
        if bytes.end - bytes.start == PAGE {
            return Ok(());
        }
        self.claim(page..page + 1)?;
        let valid = self.pages.lock().get(page).valid;
        let zeroed = if valid { self.storage.punch_hole(bytes) } else { Ok(()) };
        if valid {
            self.set_dirty(&mut self.pages.lock(), page..page + 1);
        }
        self.release(page..page + 1);
        zeroed
    }

    /// Forgets the pages `range` without writing them back; guests that map them fault again. Private copies of guests stay.
    pub fn drop_range(&self, range: Range<u64>) -> Result<()> {
        self.take_from_guests(range.start..range.end.min(u64::MAX / PAGE), Copies::Stay);
        self.drop_known(range)
    }

    fn drop_known(&self, range: Range<u64>) -> Result<()> {
        let known = self
            .pages
            .lock()
            .chunks
            .keys()
            .next_back()
            .map_or(0, |last| (last + 1) * 64);
        let range = range.start..range.end.min(known);
        if range.is_empty() {
            Ok(())
        } else {
            self.drop_pages(range)
        }
    }

    fn take_from_guests(&self, pages: Range<u64>, copies: Copies) {
        if pages.is_empty() {
            return;
        }
        for (base, source) in self.sources() {
            let part = (pages.start * PAGE).saturating_sub(base)..(pages.end * PAGE).saturating_sub(base);
            cached::unmap(&source, part, copies);
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::sync::Arc;
    use alloc::vec;
    use alloc::vec::Vec;
    use core::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::io::{SliceSink, SliceSource};
    use crate::page_cache::Backing;

    /// Contents of a length that changes, all of one byte.
    struct Ones(AtomicU64);

    impl Backing for Ones {
        fn len(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        fn read(&self, _at: u64, data: &mut [u8]) -> Result<()> {
            data.fill(1);
            Ok(())
        }

        fn write(&self, _at: u64, _data: &[u8]) -> Result<()> {
            Ok(())
        }

        fn flush(&self) -> Result<()> {
            Ok(())
        }
    }

    fn read(cache: &PageCache, at: u64, len: usize) -> Vec<u8> {
        let mut data = vec![9; len];
        let mut sink = SliceSink::new(&mut data);
        let count = cache.read(at, &mut sink).expect("read");
        data.truncate(count);
        data
    }

    #[test]
    fn what_was_cut_off_is_zero_when_the_contents_grow_again() {
        let backing = Arc::new(Ones(AtomicU64::new(3 * PAGE)));
        let cache = PageCache::new("test", backing.clone());
        cache.write(PAGE, &mut SliceSource::new(&[2; 5000])).expect("written");
        backing.0.store(PAGE + 100, Ordering::Relaxed);
        cache.truncated(PAGE + 100).expect("cut");
        assert_eq!(cache.dirty_bytes(), PAGE);
        backing.0.store(3 * PAGE, Ordering::Relaxed);
        assert_eq!(read(&cache, PAGE + 98, 4), [2, 2, 0, 0]);
        // A whole page comes from the backing again.
        assert_eq!(read(&cache, 2 * PAGE, 2), [1, 1]);
    }

    #[test]
    fn a_zeroed_range_keeps_its_edges_and_forgets_whole_pages() {
        let backing = Arc::new(Ones(AtomicU64::new(4 * PAGE)));
        let cache = PageCache::new("test", backing);
        cache.write(0, &mut SliceSource::new(&[2; 4 * 4096])).expect("written");
        cache.zeroed(100..2 * PAGE + 10).expect("zeroed");
        assert_eq!(read(&cache, 99, 2), [2, 0]);
        assert_eq!(read(&cache, 2 * PAGE + 9, 2), [0, 2]);
        assert_eq!(cache.dirty_bytes(), 3 * PAGE);
        assert_eq!(read(&cache, PAGE, 1), [1]);
    }
}
