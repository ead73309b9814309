//! Where the file system's own structures lie: blocks that no file may own, and the inode tables.
//!
//! It is asked of every block that a map names, so what was there at mount is looked at without a lock. What growth adds lies behind that.

use alloc::vec::Vec;

use arch_um::sync::{SpinLock, order};

/// Blocks from the first up to the second.
pub(crate) type Zone = (u64, u64);

/// See above.
pub(crate) struct System {
    /// First block behind what was there at mount.
    end: u64,
    first: Part,
    grown: SpinLock<Part>,
}

#[derive(Default)]
struct Part {
    /// Sorted and apart.
    zones: Vec<Zone>,
    /// First block of each group's inode table.
    tables: Vec<u64>,
}

impl Part {
    fn touches(&self, first: u64, end: u64) -> bool {
        let next = self.zones.partition_point(|zone| zone.1 <= first);
        self.zones.get(next).is_some_and(|zone| zone.0 < end)
    }

    fn within(&self, first: u64, end: u64) -> impl Iterator<Item = Zone> + use<'_> {
        let next = self.zones.partition_point(|zone| zone.1 <= first);
        let inside = self.zones[next..].iter().take_while(move |zone| zone.0 < end);
        inside.map(move |zone| (zone.0.max(first), zone.1.min(end)))
    }

    fn total(&self) -> u64 {
        self.zones.iter().map(|(start, end)| end - start).sum()
    }
}

impl System {
    /// Of a file system with `end` blocks; the zones are sorted and apart.
    pub(crate) fn new(zones: Vec<Zone>, tables: Vec<u64>, end: u64) -> Self {
        Self {
            end,
            first: Part { zones, tables },
            grown: SpinLock::new(&order::LEAF, Part::default()),
        }
    }

    /// Whether any of `first..end` is one of them.
    pub(crate) fn touches(&self, first: u64, end: u64) -> bool {
        self.first.touches(first, end) || end > self.end && self.grown.lock().touches(first, end)
    }

    /// Those in `first..end`, cut to it.
    pub(crate) fn within(&self, first: u64, end: u64) -> Vec<Zone> {
        let mut found: Vec<Zone> = self.first.within(first, end).collect();
        if end > self.end {
            found.extend(self.grown.lock().within(first, end));
        }
        found
    }

    /// The first block of a group's inode table.
    pub(crate) fn table(&self, group: u32) -> Option<u64> {
        let group = group as usize;
        match self.first.tables.get(group) {
            Some(&table) => Some(table),
            None => self.grown.lock().tables.get(group - self.first.tables.len()).copied(),
        }
    }

    /// How many blocks they are.
    pub(crate) fn total(&self) -> u64 {
        self.first.total() + self.grown.lock().total()
    }

    /// Groups have come, behind all others.
    pub(crate) fn add(&self, zones: &[Zone], tables: &[u64]) {
        let mut grown = self.grown.lock();
        grown.zones.extend_from_slice(zones);
        grown.tables.extend_from_slice(tables);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    #[test]
    fn what_was_there_and_what_came_are_one() {
        let system = System::new(vec![(0, 5), (40, 50)], vec![42], 100);
        system.add(&[(100, 103), (110, 120)], &[111]);
        assert_eq!(
            [system.table(0), system.table(1), system.table(2)],
            [Some(42), Some(111), None]
        );
        for (first, end, touches) in [
            (5, 40, false),
            (5, 41, true),
            (49, 60, true),
            (50, 100, false),
            (50, 101, true),
            (103, 110, false),
            (119, 200, true),
            (120, 200, false),
        ] {
            assert_eq!(system.touches(first, end), touches, "{first}..{end}");
        }
        assert_eq!(system.within(45, 112), [(45, 50), (100, 103), (110, 112)]);
        assert_eq!(system.total(), 28);
    }
}
