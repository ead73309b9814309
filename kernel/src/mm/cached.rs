//! Mappings of files whose pages live in a page cache ([`PageSource`]): a page is mapped on the host only once it is filled.
//!
//! A hole of the cache's memory file would read as zeros, so nothing is mapped until a fault; then a window around it is filled and mapped.
//! Shared writable pages are first mapped without the right to write: the write fault tells the cache that the page is dirty. Write-back calls
//! [`clean`] to take the right away again.
//!
//! Lock order: the registry of sources (`MAPPING`) may be taken under an address space's state; [`clean`] takes them one after the other.

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::ops::Range;

use arch_um::sync::{Mutex, order};
use skas::{Access, AddressSpace, Backing, MapFlags, Prot, Share};

use super::space::{Mm, MmState};
use super::tree::Detached;
use super::vma::{PAGE_SIZE, VmFlags, Vma, VmaBacking, page_align_down};
use crate::page_cache::Pattern;
use crate::vfs::file::{MapBacking, PageSource};
use crate::{Errno, Result};

/// Bytes filled and mapped around a fault.
const WINDOW: u64 = 16 * PAGE_SIZE;
const CHUNK_PAGES: u64 = 64;
const CHUNK: u64 = CHUNK_PAGES * PAGE_SIZE;

/// Which pages of cached mappings the host has, in chunks of 64 pages by address.
#[derive(Clone, Default)]
pub struct CachedPages {
    chunks: BTreeMap<u64, Bits>,
}

#[derive(Clone, Copy, Default)]
struct Bits {
    mapped: u64,
    writable: u64,
}

/// Pages in a row that are in the same state.
pub(super) struct Run {
    pub range: Range<u64>,
    pub writable: bool,
}

impl CachedPages {
    fn bits(&self, page: u64) -> (bool, bool) {
        let chunk = self.chunks.get(&(page & !(CHUNK - 1))).copied().unwrap_or_default();
        let bit = 1u64 << (page % CHUNK / PAGE_SIZE);
        (chunk.mapped & bit != 0, chunk.writable & bit != 0)
    }

    fn is_mapped(&self, page: u64) -> bool {
        self.bits(page).0
    }

    fn set(&mut self, range: Range<u64>, writable: bool) {
        let mut page = range.start;
        while page < range.end {
            let chunk = self.chunks.entry(page & !(CHUNK - 1)).or_default();
            let bit = 1u64 << (page % CHUNK / PAGE_SIZE);
            chunk.mapped |= bit;
            chunk.writable = if writable {
                chunk.writable | bit
            } else {
                chunk.writable & !bit
            };
            page += PAGE_SIZE;
        }
    }

    /// Forgets the pages of the range.
    pub(super) fn clear(&mut self, range: Range<u64>) {
        if self.chunks.is_empty() {
            return;
        }
        let first = range.start & !(CHUNK - 1);
        let keys: Vec<u64> = self
            .chunks
            .range(first..range.end.max(first))
            .map(|(&key, _)| key)
            .collect();
        for key in keys {
            let from = range.start.max(key);
            let to = range.end.min(key + CHUNK);
            let count = (to - from) / PAGE_SIZE;
            let mask = if count >= 64 {
                u64::MAX
            } else {
                ((1u64 << count) - 1) << ((from - key) / PAGE_SIZE)
            };
            if let Some(chunk) = self.chunks.get_mut(&key) {
                chunk.mapped &= !mask;
                chunk.writable &= !mask;
                if chunk.mapped == 0 {
                    self.chunks.remove(&key);
                }
            }
        }
    }

    /// The mapped pages of the range in runs.
    pub(super) fn runs(&self, range: Range<u64>) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let first = range.start & !(CHUNK - 1);
        for (&key, chunk) in self.chunks.range(first..range.end.max(first)) {
            for index in 0..CHUNK_PAGES {
                let page = key + index * PAGE_SIZE;
                if chunk.mapped & 1 << index == 0 || !range.contains(&page) {
                    continue;
                }
                let writable = chunk.writable & 1 << index != 0;
                match runs.last_mut() {
                    Some(run) if run.range.end == page && run.writable == writable => run.range.end += PAGE_SIZE,
                    _ => runs.push(Run {
                        range: page..page + PAGE_SIZE,
                        writable,
                    }),
                }
            }
        }
        runs
    }

    /// The pages of `old` are at `new` now.
    pub(super) fn moved(&mut self, old: Range<u64>, new: u64) {
        let runs = self.runs(old.clone());
        self.clear(old.clone());
        for run in runs {
            let start = new + (run.range.start - old.start);
            self.set(start..start + (run.range.end - run.range.start), run.writable);
        }
    }

    /// The range was cut out of the address space: what was writable may have been written since the last write-back.
    pub(super) fn removed(&mut self, range: Range<u64>, gone: &Detached) {
        if self.chunks.is_empty() {
            return;
        }
        for vma in &gone.0 {
            self.mark_dirty(vma);
        }
        self.clear(range);
    }

    /// Tells the source of a shared mapping which pages may have been written.
    pub(super) fn mark_dirty(&self, vma: &Vma) {
        let Some(source) = source_of(vma).filter(|_| vma.flags.contains(VmFlags::SHARED)) else {
            return;
        };
        for run in self.runs(vma.start..vma.end).iter().filter(|run| run.writable) {
            source.dirtied(vma.offset_of(run.range.start), vma.offset_of(run.range.end));
        }
    }
}

/// The page source of a cached mapping.
pub(super) fn source_of(vma: &Vma) -> Option<&Arc<dyn PageSource>> {
    match &vma.backing {
        VmaBacking::File(mapped) => match &mapped.backing {
            MapBacking::Cached(source) => Some(source),
            _ => None,
        },
        _ => None,
    }
}

/// What a source is called in the registry.
fn identity(source: &Arc<dyn PageSource>) -> usize {
    Arc::as_ptr(source).cast::<()>() as usize
}

/// Address spaces that map a source shared.
static USERS: Mutex<BTreeMap<usize, Vec<Weak<Mm>>>> = Mutex::new(&order::MAPPING, BTreeMap::new());

fn register(source: &Arc<dyn PageSource>, mm: &Arc<Mm>) {
    let mut users = USERS.lock();
    let list = users.entry(identity(source)).or_default();
    list.retain(|user| user.strong_count() > 0);
    if !list.iter().any(|user| core::ptr::eq(user.as_ptr(), Arc::as_ptr(mm))) {
        list.push(Arc::downgrade(mm));
    }
}

/// A child maps what its parent maps.
pub(super) fn forked(mm: &Arc<Mm>) {
    let state = mm.lock();
    if state.cached.chunks.is_empty() {
        return;
    }
    for vma in state.tree.iter() {
        if let Some(source) = source_of(vma) {
            register(source, mm);
        }
    }
}

/// The address space goes away.
pub(super) fn forget(state: &mut MmState) {
    if state.cached.chunks.is_empty() {
        return;
    }
    for vma in state.tree.iter() {
        state.cached.mark_dirty(vma);
    }
}

/// Whether an address space may have pages of `source` mapped.
pub fn is_mapped(source: &Arc<dyn PageSource>) -> bool {
    let users = USERS.lock();
    users
        .get(&identity(source))
        .is_some_and(|list| list.iter().any(|user| user.strong_count() > 0))
}

/// What [`clean`] achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cleaned {
    /// No guest can write the range without the source hearing of it.
    Yes,
    /// A guest is running that still can: the range stays dirty; ask again later.
    NotYet,
}

/// Takes the right to write away from all guests that map the bytes `range` of `source` shared. Called before write-back; with no lock held that
/// ranks behind `MM`.
pub fn clean(source: &Arc<dyn PageSource>, range: Range<u64>) -> Cleaned {
    let users: Vec<Weak<Mm>> = USERS.lock().get(&identity(source)).cloned().unwrap_or_default();
    let mut cleaned = Cleaned::Yes;
    for mm in users.iter().filter_map(Weak::upgrade) {
        if mm.clean(source, &range) == Cleaned::NotYet {
            cleaned = Cleaned::NotYet;
        }
    }
    cleaned
}

/// What [`unmap`] does with pages that a guest has copied by writing to a private mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copies {
    /// They go too: the file ends before them.
    Too,
    /// They stay: the file has lost contents there.
    Stay,
}

/// Takes the bytes `range` of `source` away from all guests that map them: the next touch asks the source again. With no lock held that ranks
/// behind `MM`.
pub fn unmap(source: &Arc<dyn PageSource>, range: Range<u64>, copies: Copies) {
    let users: Vec<Weak<Mm>> = USERS.lock().get(&identity(source)).cloned().unwrap_or_default();
    for mm in users.iter().filter_map(Weak::upgrade) {
        mm.unmap_source(source, &range, copies);
    }
}

impl Mm {
    fn unmap_source(&self, source: &Arc<dyn PageSource>, range: &Range<u64>, copies: Copies) {
        let mut state = self.lock();
        let mapping_it = |vma: &&Vma| {
            (copies == Copies::Too || vma.flags.contains(VmFlags::SHARED))
                && source_of(vma).is_some_and(|other| Arc::ptr_eq(other, source))
        };
        let vmas: Vec<Vma> = state.tree.iter().filter(mapping_it).cloned().collect();
        for vma in vmas {
            let from = range.start.max(vma.offset);
            let to = range.end.min(vma.offset_of(vma.end));
            if from >= to {
                continue;
            }
            let pages = vma.start + (from - vma.offset)..vma.start + (to - vma.offset);
            for run in state.cached.runs(pages) {
                let len = run.range.end - run.range.start;
                if self.space().unmap(run.range.start, len).is_ok() {
                    state.cached.clear(run.range);
                }
            }
        }
        drop(state);
        // A guest that runs now loses the pages when it comes in next.
        let _ = self.space().flush();
    }

    fn clean(&self, source: &Arc<dyn PageSource>, range: &Range<u64>) -> Cleaned {
        let mut state = self.lock();
        let mut protected = false;
        let mapping_it = |vma: &&Vma| {
            vma.flags.contains(VmFlags::SHARED) && source_of(vma).is_some_and(|other| Arc::ptr_eq(other, source))
        };
        let vmas: Vec<Vma> = state.tree.iter().filter(mapping_it).cloned().collect();
        for vma in vmas {
            let from = range.start.max(vma.offset);
            let to = range.end.min(vma.offset_of(vma.end));
            if from >= to {
                continue;
            }
            let pages = vma.start + (from - vma.offset)..vma.start + (to - vma.offset);
            for run in state.cached.runs(pages).into_iter().filter(|run| run.writable) {
                let len = run.range.end - run.range.start;
                protected |= self
                    .space()
                    .protect(run.range.start, len, vma.prot - Prot::WRITE)
                    .is_ok();
                state.cached.set(run.range, false);
            }
        }
        drop(state);
        if protected && self.space().flush().is_err() {
            Cleaned::NotYet
        } else {
            Cleaned::Yes
        }
    }

    /// Makes the page at `addr` of a cached mapping usable for `access`, which its protection allows.
    ///
    /// # Errors
    /// What the source says (`EIO`, `ENOSPC` for a store into a hole of a full disk); `ENXIO` past the end of the file. All are a `SIGBUS`.
    pub(super) fn fault_cached(self: &Arc<Self>, addr: u64, access: Access) -> Result<()> {
        let page = page_align_down(addr);
        let (vma, window) = {
            let state = self.lock();
            let Some(vma) = state.tree.find(page).cloned() else {
                return Ok(());
            };
            let is_mapped = state.cached.is_mapped(page);
            if is_mapped && !state.is_first_write(&vma, page, access) {
                return Ok(());
            }
            // Faults that come anywhere want nothing of what lies around them.
            let window = if is_mapped || vma.pattern() == Pattern::Random {
                page..page + PAGE_SIZE
            } else {
                state.window(&vma, page)
            };
            (vma, window)
        };
        let pattern = vma.pattern();
        let Some(source) = source_of(&vma) else { return Ok(()) };
        // Before the pages are filled: whoever would drop them from now on sees that they are mapped.
        register(source, self);
        if access == Access::Write && vma.flags.contains(VmFlags::SHARED) {
            source.make_room(vma.offset_of(page), vma.offset_of(page) + PAGE_SIZE)?;
        }
        let valid = source.fill(vma.offset_of(window.start), vma.offset_of(window.end), pattern)?;
        if valid <= vma.offset_of(page) {
            return Err(Errno::ENXIO);
        }
        let mut state = self.lock();
        let unchanged = state.tree.find(page).is_some_and(|now| {
            source_of(now).is_some_and(|other| Arc::ptr_eq(other, source))
                && now.offset_of(page) == vma.offset_of(page)
                && now.prot == vma.prot
                && now.flags == vma.flags
        });
        if !unchanged {
            return Ok(());
        }
        if state.cached.is_mapped(page) {
            return state.allow_write(self.space(), &vma, source, page, access);
        }
        let end = window.start + (valid - vma.offset_of(window.start)).next_multiple_of(PAGE_SIZE);
        let window =
            state.window(&vma, page).start.max(window.start)..state.window(&vma, page).end.min(window.end).min(end);
        state.map_window(self.space(), &vma, source, window)?;
        state.allow_write(self.space(), &vma, source, page, access)
    }
}

impl MmState {
    /// The pages around `page` that lie in the mapping now and are not mapped yet, within the aligned window.
    fn window(&self, vma: &Vma, page: u64) -> Range<u64> {
        let (low, high) = match self.tree.find(page) {
            Some(now) => (now.start.max(vma.start), now.end.min(vma.end)),
            None => (page, page + PAGE_SIZE),
        };
        let base = page & !(WINDOW - 1);
        let (low, high) = (low.max(base), high.min(base + WINDOW));
        let mut window = page..page + PAGE_SIZE;
        while window.start > low && !self.cached.is_mapped(window.start - PAGE_SIZE) {
            window.start -= PAGE_SIZE;
        }
        while window.end < high && !self.cached.is_mapped(window.end) {
            window.end += PAGE_SIZE;
        }
        window
    }

    fn map_window(
        &mut self,
        space: &AddressSpace,
        vma: &Vma,
        source: &Arc<dyn PageSource>,
        window: Range<u64>,
    ) -> Result<()> {
        let (fd, base) = source.memory()?;
        let is_shared = vma.flags.contains(VmFlags::SHARED);
        let (share, prot) = if is_shared {
            (Share::Shared, vma.prot - Prot::WRITE)
        } else {
            (Share::Private, vma.prot)
        };
        let backing = Backing::File {
            fd,
            offset: base.wrapping_add(vma.offset_of(window.start)),
            share,
        };
        space.map(
            window.start,
            window.end - window.start,
            prot,
            backing,
            MapFlags::empty(),
        )?;
        self.cached.set(window, !is_shared);
        Ok(())
    }

    /// Whether this access makes a page of a shared mapping dirty.
    fn is_first_write(&self, vma: &Vma, page: u64, access: Access) -> bool {
        access == Access::Write && vma.flags.contains(VmFlags::SHARED) && !self.cached.bits(page).1
    }

    /// Before the first write to a shared page: its source hears of it.
    fn allow_write(
        &mut self,
        space: &AddressSpace,
        vma: &Vma,
        source: &Arc<dyn PageSource>,
        page: u64,
        access: Access,
    ) -> Result<()> {
        if !self.is_first_write(vma, page, access) {
            return Ok(());
        }
        source.dirtied(vma.offset_of(page), vma.offset_of(page) + PAGE_SIZE);
        space.protect(page, PAGE_SIZE, vma.prot)?;
        self.cached.set(page..page + PAGE_SIZE, true);
        Ok(())
    }

    /// Carries a new protection to the host: for cached mappings, to the pages that are there.
    pub(super) fn protect_on_host(&self, space: &AddressSpace, vma: &Vma) -> Result<()> {
        if !vma.is_cached() {
            return space.protect(vma.start, vma.len(), vma.prot);
        }
        for run in self.cached.runs(vma.start..vma.end) {
            let prot = if run.writable { vma.prot } else { vma.prot - Prot::WRITE };
            space.protect(run.range.start, run.range.end - run.range.start, prot)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_come_back_as_they_were_set_and_forgotten_pages_do_not() {
        let mut pages = CachedPages::default();
        let base = 62 * PAGE_SIZE;
        pages.set(base..base + 5 * PAGE_SIZE, false);
        pages.set(base + PAGE_SIZE..base + 2 * PAGE_SIZE, true);
        pages.clear(base + 3 * PAGE_SIZE..base + 4 * PAGE_SIZE);
        let runs = pages.runs(0..base + 100 * PAGE_SIZE);
        let seen: Vec<_> = runs
            .iter()
            .map(|run| (run.range.start / PAGE_SIZE, run.range.end / PAGE_SIZE, run.writable))
            .collect();
        assert_eq!(
            seen,
            [(62, 63, false), (63, 64, true), (64, 65, false), (66, 67, false)]
        );
    }

    #[test]
    fn moved_pages_keep_their_state() {
        let mut pages = CachedPages::default();
        pages.set(0..2 * PAGE_SIZE, true);
        pages.moved(0..8 * PAGE_SIZE, 128 * PAGE_SIZE);
        assert!(!pages.is_mapped(0));
        assert_eq!(pages.bits(129 * PAGE_SIZE), (true, true));
    }
}
