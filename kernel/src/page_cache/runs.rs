//! [`Runs`]: bytes in the kernel's own memory, in runs that need not touch. What lies between them is zero and costs nothing.
//!
//! Buffers that are full of data become runs as they are: what a disk's driver has filled goes to a guest without another copy. A run is shared with
//! those who copy from it without a lock ([`Runs::pieces`]); one that is written meanwhile is copied first.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::Range;

use super::buffers;

/// Shorter data joins the run it touches.
const SHORT: usize = 16 << 10;
/// Longest run that grows so: to grow is to copy.
const JOINED: usize = 64 << 10;

/// Runs by their first byte, apart.
#[derive(Default)]
pub(super) struct Runs {
    runs: BTreeMap<u64, Arc<Vec<u8>>>,
    bytes: u64,
}

/// Memory that is in no use any more.
#[must_use = "freeing it is work for the host"]
pub(super) struct Detached(Vec<Arc<Vec<u8>>>);

impl Drop for Detached {
    fn drop(&mut self) {
        for run in self.0.drain(..) {
            // Who still copies from it lets go of it himself.
            if let Ok(data) = Arc::try_unwrap(run) {
                buffers::give(data);
            }
        }
    }
}

/// Bytes of a range: of a run, or zeros.
pub(super) struct Piece {
    run: Option<Arc<Vec<u8>>>,
    range: Range<usize>,
}

impl Piece {
    /// How many bytes it has.
    pub fn len(&self) -> usize {
        self.range.end - self.range.start
    }

    /// Its bytes, unless they are zeros.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.run.as_ref().and_then(|run| run.get(self.range.clone()))
    }
}

impl Runs {
    /// Nothing is left: what there was is the caller's, as of [`punch`](Self::punch).
    pub fn take(&mut self) -> Detached {
        self.bytes = 0;
        Detached(core::mem::take(&mut self.runs).into_values().collect())
    }

    /// Bytes of memory in use.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// First byte and bytes of all runs.
    pub fn all(&self) -> Vec<(u64, Arc<Vec<u8>>)> {
        self.runs.iter().map(|(&at, run)| (at, run.clone())).collect()
    }

    /// Whether nothing has changed since [`all`](Self::all) said this, which is still held: what is written while others hold it becomes another one.
    pub fn are(&self, all: &[(u64, Arc<Vec<u8>>)]) -> bool {
        let mut now = self.runs.iter();
        let same = all.iter().all(|(at, run)| {
            now.next()
                .is_some_and(|(start, held)| start == at && Arc::ptr_eq(held, run))
        });
        same && now.next().is_none()
    }

    /// Where the first run begins that ends behind `at`.
    fn first(&self, at: u64) -> u64 {
        match self.runs.range(..=at).next_back() {
            Some((&start, run)) if start + run.len() as u64 > at => start,
            _ => at,
        }
    }

    /// Where the runs begin that have bytes of `range`.
    fn touching(&self, range: &Range<u64>) -> Vec<u64> {
        if range.is_empty() {
            return Vec::new();
        }
        let starts = self.runs.range(self.first(range.start)..range.end);
        starts.map(|(&start, _)| start).collect()
    }

    /// What the bytes `range` are, in order and without a gap.
    pub fn pieces(&self, range: Range<u64>) -> Vec<Piece> {
        let mut pieces = Vec::new();
        let zeros = |len: u64| Piece {
            run: None,
            range: 0..len as usize,
        };
        let mut at = range.start;
        for start in self.touching(&range) {
            let Some(run) = self.runs.get(&start) else { continue };
            if at < start {
                pieces.push(zeros(start - at));
                at = start;
            }
            let end = range.end.min(start + run.len() as u64);
            pieces.push(Piece {
                run: Some(run.clone()),
                range: (at - start) as usize..(end - start) as usize,
            });
            at = end;
        }
        if at < range.end {
            pieces.push(zeros(range.end - at));
        }
        pieces
    }

    /// The bytes from `at` on are `data`; what is left over of it, for another use.
    pub fn put(&mut self, at: u64, data: Vec<u8>) -> Option<Vec<u8>> {
        let range = at..at + data.len() as u64;
        let old = self.touching(&range);
        let whole = |start: &u64| {
            let end = self.runs.get(start).map_or(0, |run| start + run.len() as u64);
            range.start <= *start && end <= range.end
        };
        let can_stay = data.len() >= SHORT && buffers::fits(data.capacity(), data.len()) && old.iter().all(whole);
        if !can_stay {
            self.write(at, &data);
            return Some(data);
        }
        for start in old {
            self.remove(start);
        }
        self.insert(at, data);
        None
    }

    /// Copies `data` to the bytes from `at` on.
    pub fn write(&mut self, at: u64, data: &[u8]) {
        let range = at..at + data.len() as u64;
        let part = |from: u64, to: u64| &data[(from - at) as usize..(to - at) as usize];
        let mut next = at;
        for start in self.touching(&range) {
            if next < start {
                self.append(next, part(next, start));
                next = start;
            }
            let Some(run) = self.runs.get_mut(&start) else { continue };
            let end = range.end.min(start + run.len() as u64);
            let place = (next - start) as usize..(end - start) as usize;
            Arc::make_mut(run)[place].copy_from_slice(part(next, end));
            next = end;
        }
        if next < range.end {
            self.append(next, part(next, range.end));
        }
    }

    /// Adds bytes where there are none.
    fn append(&mut self, at: u64, data: &[u8]) {
        let before = self.runs.range_mut(..at).next_back();
        if let Some((&start, run)) = before
            && start + run.len() as u64 == at
            && data.len() < SHORT
            && run.len() + data.len() <= JOINED
        {
            let run = Arc::make_mut(run);
            let len = run.len() + data.len();
            if run.capacity() < len {
                run.reserve_exact(len.next_power_of_two() - run.len());
            }
            run.extend_from_slice(data);
            self.bytes += data.len() as u64;
        } else {
            self.insert(at, data.to_vec());
        }
    }

    /// The bytes `range` are zero. What held them is the caller's, to be let go of without a lock.
    pub fn punch(&mut self, range: Range<u64>) -> Detached {
        let mut detached = Detached(Vec::new());
        for start in self.touching(&range) {
            let Some(run) = self.remove(start) else { continue };
            let end = start + run.len() as u64;
            if start < range.start {
                self.insert(start, run[..(range.start - start) as usize].to_vec());
            }
            if range.end < end {
                self.insert(range.end, run[(range.end - start) as usize..].to_vec());
            }
            detached.0.push(run);
        }
        detached
    }

    fn insert(&mut self, at: u64, data: Vec<u8>) {
        self.bytes += data.len() as u64;
        self.runs.insert(at, Arc::new(data));
    }

    fn remove(&mut self, start: u64) -> Option<Arc<Vec<u8>>> {
        let run = self.runs.remove(&start)?;
        self.bytes -= run.len() as u64;
        Some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const SPACE: usize = 1 << 20;

    fn read(runs: &Runs, range: Range<u64>) -> Vec<u8> {
        let mut out = Vec::new();
        for piece in runs.pieces(range) {
            match piece.bytes() {
                Some(bytes) => out.extend_from_slice(bytes),
                None => out.resize(out.len() + piece.len(), 0),
            }
        }
        out
    }

    #[test]
    fn a_full_buffer_becomes_a_run_without_a_copy() {
        let mut runs = Runs::default();
        let data = vec![5; SHORT];
        let place = data.as_ptr();
        assert!(runs.put(4096, data).is_none());
        let pieces = runs.pieces(4096..4096 + SHORT as u64);
        assert_eq!(pieces.len(), 1);
        assert_eq!(pieces[0].bytes().map(<[u8]>::as_ptr), Some(place));
        let mut loose = Vec::with_capacity(4 * SHORT);
        loose.resize(SHORT, 6);
        assert!(runs.put(1 << 20, loose).is_some(), "memory in no use is not kept");
        assert_eq!(runs.bytes(), 2 * SHORT as u64);
    }

    #[test]
    fn who_holds_pieces_sees_what_was_there() {
        let mut runs = Runs::default();
        runs.put(0, vec![1; SHORT]);
        let held = runs.pieces(0..4);
        runs.write(1, &[2; 2]);
        assert_eq!(held[0].bytes(), Some(&[1; 4][..]));
        assert_eq!(read(&runs, 0..4), [1, 2, 2, 1]);
    }

    #[test]
    fn short_data_in_a_row_is_one_run() {
        let mut runs = Runs::default();
        for index in 0..16 {
            runs.put(index * 4096, vec![index as u8; 4096]);
        }
        assert_eq!(runs.pieces(0..64 << 10).len(), 1);
    }

    /// The law: runs read as an array that had the same done to it, and no run has bytes of another.
    #[test]
    fn runs_read_as_an_array() {
        let (mut runs, mut array) = (Runs::default(), vec![0_u8; SPACE]);
        let mut seed = 1_u64;
        let mut random = |bound: usize| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) as usize % bound
        };
        for round in 0..3000 {
            let len = random(if round % 3 == 0 { 3 * SHORT } else { 5000 });
            let at = random(SPACE - len);
            let range = at as u64..(at + len) as u64;
            match random(4) {
                0 => {
                    drop(runs.punch(range));
                    array[at..at + len].fill(0);
                }
                1 => {
                    runs.write(at as u64, &vec![round as u8; len]);
                    array[at..at + len].fill(round as u8);
                }
                _ => {
                    runs.put(at as u64, vec![round as u8; len]);
                    array[at..at + len].fill(round as u8);
                }
            }
            let from = random(SPACE - 9000);
            assert_eq!(read(&runs, from as u64..from as u64 + 9000), array[from..from + 9000]);
        }
        assert_eq!(read(&runs, 0..SPACE as u64), array);
        let all = runs.all();
        assert!(all.windows(2).all(|two| two[0].0 + two[0].1.len() as u64 <= two[1].0));
        assert_eq!(all.iter().map(|(_, run)| run.len() as u64).sum::<u64>(), runs.bytes());
    }
}
