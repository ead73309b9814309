//! What guests map: a whole cache, or a window on part of it (a partition).

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use arch_um::host::OwnedFd;

use super::{PAGE, PageCache, Pattern};
use crate::mm::cached;
use crate::vfs::file::PageSource;
use crate::{Errno, Result};

impl PageCache {
    /// The bytes `range` as something to map: a partition. `None` unless it begins with a page.
    pub fn window(self: &Arc<Self>, range: Range<u64>) -> Option<Arc<dyn PageSource>> {
        if !range.start.is_multiple_of(PAGE) {
            return None;
        }
        let (base, len) = (range.start, range.end - range.start);
        let window: Arc<dyn PageSource> = Arc::new(Window {
            cache: self.clone(),
            base,
            len,
        });
        let mut sources = self.sources.lock();
        sources.retain(|(_, source)| source.strong_count() > 0);
        sources.push((base, Arc::downgrade(&window)));
        Some(window)
    }

    /// What stands for this cache in mappings, each with its first byte.
    pub(super) fn sources(&self) -> Vec<(u64, Arc<dyn PageSource>)> {
        let sources = self.sources.lock();
        let alive = sources
            .iter()
            .filter_map(|(base, source)| Some((*base, source.upgrade()?)));
        alive.collect()
    }

    /// Whether a guest may have pages of it. Who asks before he drops pages has claimed them, or one may be mapped right after.
    pub(super) fn is_mapped(&self) -> bool {
        self.storage.is_shared() && self.sources().iter().any(|(_, source)| cached::is_mapped(source))
    }

    fn fill_pages(&self, start: u64, end: u64, pattern: Pattern) -> Result<u64> {
        let end = end.min(self.len().next_multiple_of(PAGE));
        if start < end {
            let pages = start / PAGE..end / PAGE;
            // Who jumps about does not disturb those who do not.
            if pattern != Pattern::Random {
                self.look_ahead(&self.reader, Some(pattern), pages.clone(), pages.end);
            }
            self.make_valid(pages)?;
        }
        Ok(end)
    }
}

impl PageSource for PageCache {
    fn memory(&self) -> Result<(Arc<OwnedFd>, u64)> {
        self.share()?;
        Ok((self.storage.fd().ok_or(Errno::ENODEV)?, 0))
    }

    fn fill(&self, start: u64, end: u64, pattern: Pattern) -> Result<u64> {
        super::reclaim::balance();
        self.fill_pages(start, end, pattern)
    }

    fn is_cached(&self, at: u64) -> bool {
        self.pages.lock().get(at / PAGE).is_readable()
    }

    fn make_room(&self, start: u64, end: u64) -> Result<()> {
        self.backing.make_room(start..end)
    }

    fn dirtied(&self, start: u64, end: u64) {
        let range = start / PAGE..end.div_ceil(PAGE).min(self.last_page());
        if !range.is_empty() {
            self.set_dirty(&mut self.pages.lock(), range);
        }
    }
}

/// Part of a cache as something to map.
struct Window {
    cache: Arc<PageCache>,
    base: u64,
    len: u64,
}

impl PageSource for Window {
    fn memory(&self) -> Result<(Arc<OwnedFd>, u64)> {
        Ok((self.cache.memory()?.0, self.base))
    }

    fn fill(&self, start: u64, end: u64, pattern: Pattern) -> Result<u64> {
        let end = end.min(self.len.next_multiple_of(PAGE));
        if start >= end {
            return Ok(end);
        }
        let filled = self.cache.fill(self.base + start, self.base + end, pattern)?;
        Ok(filled.saturating_sub(self.base))
    }

    fn is_cached(&self, at: u64) -> bool {
        at < self.len && self.cache.is_cached(self.base + at)
    }

    fn make_room(&self, start: u64, end: u64) -> Result<()> {
        self.cache
            .make_room(self.base + start, self.base + end.min(self.len.next_multiple_of(PAGE)))
    }

    fn dirtied(&self, start: u64, end: u64) {
        self.cache
            .dirtied(self.base + start, self.base + end.min(self.len.next_multiple_of(PAGE)));
    }
}
