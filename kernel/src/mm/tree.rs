//! [`VmaTree`]: the mappings of an address space by address, and the search for room between them.
//!
//! The tree splits and merges; it knows nothing of the host. What it takes out it hands back, so that files are let go of with no lock held.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use skas::Prot;

use super::vma::{PAGE_SIZE, VmFlags, Vma};

/// Kept free below a mapping that grows down (`stack_guard_gap`), bytes.
pub const STACK_GUARD_GAP: u64 = 256 * PAGE_SIZE;

/// Sums over the mappings, in pages (`/proc/pid/status`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// All.
    pub total: u64,
    /// `mlock`ed.
    pub locked: u64,
    /// Private and writable, not a stack.
    pub data: u64,
    /// Executable and not writable.
    pub exec: u64,
    /// Growing down.
    pub stack: u64,
}

/// Where in the address space to look for room first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the end of the range down.
    TopDown,
    /// From its start up.
    BottomUp,
}

/// Mappings by their first byte; they do not overlap.
#[derive(Clone, Default)]
pub struct VmaTree {
    map: BTreeMap<u64, Vma>,
    counts: Counts,
    /// No hole of `len` bytes or more lies between `below` and the `limit` of the last search: where the next one may begin.
    hint: Option<Hint>,
}

#[derive(Clone, Copy)]
struct Hint {
    len: u64,
    below: u64,
    limit: u64,
}

/// Mappings taken out of the tree. Dropped only after the address space's lock is released: a file's last reference may sleep.
#[must_use]
#[derive(Default)]
pub struct Detached(pub Vec<Vma>);

impl VmaTree {
    /// No mappings.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// The sums.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// All in order of address.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Vma> {
        self.map.values()
    }

    /// The mapping that contains `addr`.
    pub fn find(&self, addr: u64) -> Option<&Vma> {
        self.map
            .range(..=addr)
            .next_back()
            .map(|(_, vma)| vma)
            .filter(|vma| addr < vma.end)
    }

    /// The first mapping that ends behind `addr`: it contains `addr` or lies above it.
    pub fn at_or_above(&self, addr: u64) -> Option<&Vma> {
        self.find(addr)
            .or_else(|| self.map.range(addr..).next().map(|(_, vma)| vma))
    }

    /// The last mapping that begins below `addr`.
    pub fn below(&self, addr: u64) -> Option<&Vma> {
        self.map.range(..addr).next_back().map(|(_, vma)| vma)
    }

    /// Those that overlap the range, in order, whole.
    pub fn overlapping(&self, range: Range<u64>) -> impl Iterator<Item = &Vma> {
        let first = self.find(range.start).map_or(range.start, |vma| vma.start);
        // An empty range touches nothing, also inside of a mapping. `BTreeMap::range` refuses one that ends before it begins.
        let end = if range.is_empty() { first } else { range.end.max(first) };
        self.map.range(first..end).map(|(_, vma)| vma)
    }

    /// Whether every page of the range is mapped.
    pub fn covers(&self, range: Range<u64>) -> bool {
        let mut at = range.start;
        for vma in self.overlapping(range.clone()) {
            if vma.start > at {
                return false;
            }
            at = vma.end;
        }
        at >= range.end
    }

    /// Whether nothing is mapped in the range.
    pub fn is_free(&self, range: Range<u64>) -> bool {
        self.overlapping(range).next().is_none()
    }

    fn count(&mut self, vma: &Vma, apply: fn(u64, u64) -> u64) {
        let pages = vma.pages();
        let counts = &mut self.counts;
        counts.total = apply(counts.total, pages);
        if vma.flags.contains(VmFlags::LOCKED) {
            counts.locked = apply(counts.locked, pages);
        }
        if vma.flags.contains(VmFlags::GROWSDOWN) {
            counts.stack = apply(counts.stack, pages);
        } else if vma.is_data() {
            counts.data = apply(counts.data, pages);
        }
        if vma.prot.contains(Prot::EXEC) && !vma.prot.contains(Prot::WRITE) {
            counts.exec = apply(counts.exec, pages);
        }
    }

    fn put(&mut self, vma: Vma) {
        self.count(&vma, u64::saturating_add);
        self.map.insert(vma.start, vma);
    }

    fn take(&mut self, start: u64) -> Option<Vma> {
        let vma = self.map.remove(&start)?;
        self.count(&vma, u64::saturating_sub);
        Some(vma)
    }

    /// Puts a mapping where nothing is, and joins it with its neighbours where they are the same.
    pub fn insert(&mut self, mut vma: Vma) {
        debug_assert!(vma.start < vma.end && self.is_free(vma.start..vma.end));
        let joins_below = self
            .below(vma.start)
            .filter(|below| below.continues_in(&vma))
            .map(|below| below.start);
        if let Some(below) = joins_below.and_then(|start| self.take(start)) {
            vma = Vma { end: vma.end, ..below };
        }
        let joins_above = self
            .map
            .get(&vma.end)
            .filter(|above| vma.continues_in(above))
            .map(|above| above.start);
        if let Some(above) = joins_above.and_then(|start| self.take(start)) {
            vma.end = above.end;
        }
        self.put(vma);
    }

    /// Takes everything in the range out, splitting mappings at its ends.
    pub fn carve(&mut self, range: Range<u64>) -> Detached {
        let starts: Vec<u64> = self.overlapping(range.clone()).map(|vma| vma.start).collect();
        let mut out = Vec::with_capacity(starts.len());
        for start in starts {
            let Some(vma) = self.take(start) else { continue };
            if vma.start < range.start {
                self.put(vma.piece(vma.start, range.start));
            }
            if vma.end > range.end {
                self.put(vma.piece(range.end, vma.end));
            }
            if vma.start < range.start || vma.end > range.end {
                out.push(vma.piece(range.start, range.end));
            } else {
                out.push(vma);
            }
        }
        if !out.is_empty() {
            self.hole_made(range.end);
        }
        Detached(out)
    }

    /// Changes all mappings in the range, splitting at its ends and joining what became the same.
    pub fn update(&mut self, range: Range<u64>, mut change: impl FnMut(&mut Vma)) {
        let hint = self.hint;
        for mut vma in self.carve(range).0 {
            change(&mut vma);
            self.insert(vma);
        }
        // Nothing moved: what was known about holes still holds.
        self.hint = hint;
    }

    /// Moves the lower end of the mapping that begins at `start` down to `new_start`; the room is free.
    pub fn grow_down(&mut self, start: u64, new_start: u64) {
        if let Some(mut vma) = self.take(start) {
            vma.start = new_start;
            self.put(vma);
        }
    }

    /// How many mappings there are more once the range is cut out: -n..=1.
    pub fn growth_of_carve(&self, range: Range<u64>) -> isize {
        let mut gone = 0;
        let mut edges = 0;
        for vma in self.overlapping(range.clone()) {
            gone += 1;
            edges += isize::from(vma.start < range.start) + isize::from(vma.end > range.end);
        }
        edges - gone
    }

    /// The search may have to look again below the end of a new hole.
    fn hole_made(&mut self, end: u64) {
        if let Some(hint) = &mut self.hint {
            let top = self.map.range(end..).next().map_or(u64::MAX, |(_, vma)| vma.start);
            hint.below = hint.below.max(top);
        }
    }

    /// First byte of a free run of `len` bytes (whole pages) in `within`, aligned to `align` (a power of two). The guard gap below a mapping that
    /// grows down counts as taken.
    pub fn find_free(&mut self, len: u64, within: Range<u64>, align: u64, direction: Direction) -> Option<u64> {
        match direction {
            Direction::TopDown => self.find_top_down(len, within, align),
            Direction::BottomUp => self.find_bottom_up(len, within, align),
        }
    }

    fn find_top_down(&mut self, len: u64, within: Range<u64>, align: u64) -> Option<u64> {
        let mut top = within.end;
        let usable = self.hint.filter(|hint| hint.limit == within.end && hint.len <= len);
        if let Some(hint) = usable {
            top = top.min(hint.below);
        }
        let fit = |low: u64, top: u64| {
            let start = top.checked_sub(len)? & !(align - 1);
            (start >= low).then_some(start)
        };
        let mut found = None;
        for vma in self.map.range(..top).rev().map(|(_, vma)| vma) {
            let low = vma.end.max(within.start);
            if low < top {
                found = fit(low, top);
            }
            if found.is_some() || vma.end <= within.start {
                break;
            }
            top = top.min(guarded_start(vma));
        }
        if found.is_none()
            && self
                .map
                .range(..top)
                .next_back()
                .is_none_or(|(_, vma)| vma.end <= within.start)
        {
            found = fit(within.start, top);
        }
        // Alignment makes a hole look smaller than it is: such a search says nothing about others.
        if align <= PAGE_SIZE {
            let below = found.map_or(within.start, |start| start.saturating_add(len));
            self.hint = Some(Hint {
                len,
                below,
                limit: within.end,
            });
        }
        found
    }

    fn find_bottom_up(&self, len: u64, within: Range<u64>, align: u64) -> Option<u64> {
        let mut at = within.start;
        if let Some(vma) = self.find(at) {
            at = vma.end;
        }
        loop {
            at = at.checked_add(align - 1)? & !(align - 1);
            let end = at.checked_add(len).filter(|&end| end <= within.end)?;
            match self.at_or_above(at) {
                Some(vma) if guarded_start(vma) < end => at = vma.end,
                _ => return Some(at),
            }
        }
    }

    /// Whether new mappings may take the range: nothing is there, and no guard gap.
    pub fn is_free_with_gap(&self, range: Range<u64>) -> bool {
        self.is_free(range.clone())
            && self
                .at_or_above(range.end)
                .is_none_or(|vma| guarded_start(vma) >= range.end)
    }
}

fn guarded_start(vma: &Vma) -> u64 {
    let gap = if vma.flags.contains(VmFlags::GROWSDOWN) {
        STACK_GUARD_GAP
    } else {
        0
    };
    vma.start.saturating_sub(gap)
}
