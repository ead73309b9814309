//! [`Promise`]: which of a file's blocks are promised space on the disk but have none yet (delayed allocation).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

/// A set of file blocks, and how much space was promised for them.
#[derive(Debug, Default)]
pub(crate) struct Promise {
    /// Start to end; never touching.
    ranges: BTreeMap<u64, u64>,
    blocks: u64,
}

impl Promise {
    /// Blocks in the set.
    pub(crate) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Blocks that pointers to `blocks` data blocks may need.
    fn overhead(blocks: u64) -> u64 {
        if blocks == 0 { 0 } else { 3 + blocks / 64 }
    }

    /// Space for the blocks and what leads to them.
    fn charge(&self) -> u64 {
        self.blocks + Self::overhead(self.blocks)
    }

    /// What [`insert`](Self::insert) of `count` new blocks would add to the charge.
    pub(crate) fn price(&self, count: u64) -> u64 {
        self.blocks + count + Self::overhead(self.blocks + count) - self.charge()
    }

    /// The parts of `range` that are not in the set.
    pub(crate) fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut out = Vec::new();
        let mut at = range.start;
        for (&start, &end) in self.overlapping(&range) {
            if at < start {
                out.push(at..start);
            }
            at = at.max(end);
        }
        if at < range.end {
            out.push(at..range.end);
        }
        out
    }

    fn overlapping(&self, range: &Range<u64>) -> impl Iterator<Item = (&u64, &u64)> {
        let before = self
            .ranges
            .range(..range.start)
            .next_back()
            .filter(|(_, end)| **end > range.start);
        before
            .into_iter()
            .chain(self.ranges.range(range.start..range.end.max(range.start)))
    }

    pub(crate) fn contains(&self, block: u64) -> bool {
        self.ranges
            .range(..=block)
            .next_back()
            .is_some_and(|(_, &end)| end > block)
    }

    /// Adds what is not in the set yet of `ranges`; which parts those are, and what they cost.
    pub(crate) fn add(&mut self, ranges: Vec<Range<u64>>) -> (Vec<Range<u64>>, u64) {
        let before = self.charge();
        let mut added = Vec::new();
        for range in ranges {
            for missing in self.missing(range) {
                self.insert(missing.clone());
                added.push(missing);
            }
        }
        (added, self.charge() - before)
    }

    /// Adds `range`, none of which is in the set.
    fn insert(&mut self, range: Range<u64>) {
        self.blocks += range.end - range.start;
        let (mut start, mut end) = (range.start, range.end);
        if let Some((&before, &before_end)) = self.ranges.range(..start).next_back()
            && before_end == start
        {
            self.ranges.remove(&before);
            start = before;
        }
        if let Some(behind) = self.ranges.remove(&end) {
            end = behind;
        }
        self.ranges.insert(start, end);
    }

    /// Takes `range` out; what is to be given back.
    pub(crate) fn remove(&mut self, range: Range<u64>) -> u64 {
        if self.ranges.is_empty() || range.is_empty() {
            return 0;
        }
        let before = self.charge();
        let cut: Vec<(u64, u64)> = self.overlapping(&range).map(|(&start, &end)| (start, end)).collect();
        for (start, end) in cut {
            self.ranges.remove(&start);
            if start < range.start {
                self.ranges.insert(start, range.start);
            }
            if end > range.end {
                self.ranges.insert(range.end, end);
            }
            self.blocks -= end.min(range.end) - start.max(range.start);
        }
        before - self.charge()
    }

    /// Empties it; what is to be given back.
    pub(crate) fn clear(&mut self) -> u64 {
        let charge = self.charge();
        *self = Self::default();
        charge
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    #[test]
    fn what_is_put_in_comes_out_and_the_charge_balances() {
        let mut set = Promise::default();
        let mut paid = 0;
        for range in [10..20, 30..40, 20..30, 5..6] {
            let price = set.price(range.end - range.start);
            let (added, cost) = set.add(vec![range.clone(), range.clone()]);
            assert_eq!((added, cost), (vec![range], price), "once");
            paid += cost;
        }
        assert_eq!(set.missing(0..50), [0..5, 6..10, 40..50]);
        assert_eq!(
            (set.blocks(), set.contains(39), set.contains(40), set.contains(6)),
            (31, true, false, false)
        );
        paid -= set.remove(15..35);
        assert_eq!(set.missing(10..40), vec![15..35]);
        paid -= set.remove(0..100);
        assert_eq!((paid, set.blocks()), (0, 0));
    }
}
