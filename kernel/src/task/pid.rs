//! Process numbers: which are taken, and which comes next.
//!
//! Numbers are given out in a circle, so that one is not used again soon after its owner died; the table (`task::table`) keeps the allocator
//! under its lock.

use super::Pid;

/// One above the largest number (`/proc/sys/kernel/pid_max`).
pub const PID_MAX: i32 = 32768;
/// After the first turn of the circle, numbers below this one stay with early system processes.
const RESERVED: i32 = 300;
const WORDS: usize = PID_MAX as usize / 64;

/// The set of numbers in use.
pub struct PidAllocator {
    used: [u64; WORDS],
    last: i32,
}

impl Default for PidAllocator {
    fn default() -> Self {
        Self::new()
    }
}

impl PidAllocator {
    /// Every number free; the first one given out is 1.
    pub const fn new() -> Self {
        Self {
            used: [0; WORDS],
            last: 0,
        }
    }

    /// The next free number, none when all are taken.
    pub fn allocate(&mut self) -> Option<Pid> {
        let found = self
            .first_free(self.last + 1, PID_MAX)
            .or_else(|| self.first_free(RESERVED, self.last + 1))?;
        self.last = found;
        self.mark(found);
        Some(Pid(found))
    }

    /// Takes exactly `pid` (`clone3(2)`, `set_tid`). False when it is in use or no number at all.
    pub fn allocate_exact(&mut self, pid: Pid) -> bool {
        let fits = pid.0 > 0 && pid.0 < PID_MAX;
        let free = fits && !self.is_used(pid);
        if free {
            self.mark(pid.0);
        }
        free
    }

    /// Gives `pid` back.
    pub fn free(&mut self, pid: Pid) {
        if let Some((word, bit)) = Self::place(pid.0) {
            self.used[word] &= !bit;
        }
    }

    /// Whether `pid` is in use.
    pub fn is_used(&self, pid: Pid) -> bool {
        Self::place(pid.0).is_some_and(|(word, bit)| self.used[word] & bit != 0)
    }

    /// The number given out last (`/proc/loadavg`, `/proc/sys/kernel/ns_last_pid`).
    pub fn last(&self) -> Pid {
        Pid(self.last)
    }

    fn place(pid: i32) -> Option<(usize, u64)> {
        let index = usize::try_from(pid).ok().filter(|&index| index < PID_MAX as usize)?;
        Some((index / 64, 1 << (index % 64)))
    }

    fn mark(&mut self, pid: i32) {
        if let Some((word, bit)) = Self::place(pid) {
            self.used[word] |= bit;
        }
    }

    /// The first free number in `start..end`.
    fn first_free(&self, start: i32, end: i32) -> Option<i32> {
        let mut at = start;
        while at < end {
            let (word, bit) = Self::place(at)?;
            // The bits below the start count as taken.
            let taken = self.used[word] | (bit - 1);
            if taken != u64::MAX {
                let found = (word * 64) as i32 + taken.trailing_ones() as i32;
                return (found < end).then_some(found);
            }
            at = (word as i32 + 1) * 64;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_ascend_and_a_freed_one_is_not_reused_at_once() {
        let mut pids = PidAllocator::new();
        assert_eq!(pids.allocate(), Some(Pid(1)));
        assert_eq!(pids.allocate(), Some(Pid(2)));
        pids.free(Pid(2));
        assert_eq!(pids.allocate(), Some(Pid(3)));
    }

    #[test]
    fn after_the_last_number_the_search_goes_on_above_the_reserved_ones() {
        let mut pids = PidAllocator::new();
        for expected in 1..PID_MAX {
            assert_eq!(pids.allocate(), Some(Pid(expected)));
        }
        assert_eq!(pids.allocate(), None);
        pids.free(Pid(17));
        assert_eq!(pids.allocate(), None);
        pids.free(Pid(400));
        pids.free(Pid(301));
        assert_eq!(pids.allocate(), Some(Pid(301)));
        assert_eq!(pids.allocate(), Some(Pid(400)));
    }

    #[test]
    fn an_exact_number_is_given_once() {
        let mut pids = PidAllocator::new();
        assert!(pids.allocate_exact(Pid(77)));
        assert!(!pids.allocate_exact(Pid(77)));
        assert!(!pids.allocate_exact(Pid(0)));
        assert!(!pids.allocate_exact(Pid(-4)));
        assert!(!pids.allocate_exact(Pid(PID_MAX)));
    }
}
