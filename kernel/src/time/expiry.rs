//! The arithmetic of a deadline with an interval, on any clock that counts nanoseconds.

/// When something expires next, and how often it did since somebody looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expiry {
    /// The next expiration on the clock; none when disarmed.
    pub deadline: Option<u64>,
    /// Time between expirations; 0 for a single one.
    pub interval: u64,
    /// Expirations nobody has taken yet.
    pub count: u64,
}

impl Expiry {
    /// Armed for `deadline`, then every `interval`.
    pub const fn at(deadline: u64, interval: u64) -> Self {
        Self {
            deadline: Some(deadline),
            interval,
            count: 0,
        }
    }

    /// Counts what has expired by `now` and moves the deadline behind `now`, in whole intervals so that no drift adds up. Returns the new
    /// expirations.
    pub fn advance(&mut self, now: u64) -> u64 {
        let Some(deadline) = self.deadline.filter(|&deadline| deadline <= now) else {
            return 0;
        };
        let new = match (now - deadline).checked_div(self.interval) {
            None => {
                self.deadline = None;
                1
            }
            Some(missed) => {
                let new = missed.saturating_add(1);
                self.deadline = Some(deadline.saturating_add(new.saturating_mul(self.interval)));
                new
            }
        };
        self.count = self.count.saturating_add(new);
        new
    }

    /// Time left at `now`: 0 when disarmed, at least 1 while armed.
    pub fn remaining(&self, now: u64) -> u64 {
        let mut ahead = *self;
        if ahead.interval != 0 {
            ahead.advance(now);
        }
        ahead.deadline.map_or(0, |deadline| deadline.saturating_sub(now).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::Expiry;

    #[test]
    fn a_single_expiry_fires_once() {
        let mut expiry = Expiry::at(100, 0);
        assert_eq!(expiry.advance(99), 0);
        assert_eq!(expiry.remaining(40), 60);
        assert_eq!(expiry.advance(100), 1);
        assert_eq!((expiry.deadline, expiry.count, expiry.advance(200)), (None, 1, 0));
        assert_eq!(expiry.remaining(200), 0);
    }

    #[test]
    fn missed_intervals_are_counted_and_the_rhythm_is_kept() {
        let mut expiry = Expiry::at(100, 10);
        assert_eq!(expiry.advance(135), 4);
        assert_eq!(expiry.deadline, Some(140));
        assert_eq!(expiry.remaining(143), 7);
        assert_eq!(expiry.advance(140), 1);
        assert_eq!(expiry.count, 5);
    }

    #[test]
    fn an_armed_timer_never_reads_as_disarmed() {
        assert_eq!(Expiry::at(100, 0).remaining(100), 1);
        assert_eq!(Expiry::at(100, 0).remaining(500), 1);
    }

    #[test]
    fn the_far_end_of_time_does_not_wrap() {
        let mut expiry = Expiry::at(u64::MAX - 1, u64::MAX);
        assert_eq!(expiry.advance(u64::MAX), 1);
        assert_eq!(expiry.deadline, Some(u64::MAX));
    }
}
