//! The structs of the time calls and their conversion to nanoseconds.
//!
//! Durations are `u64` nanoseconds inside the kernel; seconds beyond what fits (584 years) saturate: nobody waits that long.

use super::NSEC_PER_SEC;
use crate::abi_struct;
use crate::{Errno, Result};

abi_struct! {
    /// `struct timespec`.
    pub struct TimespecAbi {
        /// Seconds.
        pub sec: i64,
        /// Nanoseconds.
        pub nsec: i64,
    }
}

abi_struct! {
    /// `struct timeval`.
    pub struct TimevalAbi {
        /// Seconds.
        pub sec: i64,
        /// Microseconds.
        pub usec: i64,
    }
}

abi_struct! {
    /// `struct itimerspec`.
    pub struct ItimerspecAbi {
        /// Time between expirations after the first; 0 for none.
        pub interval: TimespecAbi,
        /// Time or moment of the first; 0 disarms.
        pub value: TimespecAbi,
    }
}

abi_struct! {
    /// `struct itimerval`.
    pub struct ItimervalAbi {
        /// Time between expirations after the first; 0 for none.
        pub interval: TimevalAbi,
        /// Time to the first; 0 disarms.
        pub value: TimevalAbi,
    }
}

impl TimespecAbi {
    /// From nanoseconds.
    pub const fn from_nanos(ns: u64) -> Self {
        Self {
            sec: (ns / NSEC_PER_SEC) as i64,
            nsec: (ns % NSEC_PER_SEC) as i64,
        }
    }

    /// From nanoseconds since 1970; negative before.
    pub const fn from_signed_nanos(ns: i64) -> Self {
        Self {
            sec: ns.div_euclid(NSEC_PER_SEC as i64),
            nsec: ns.rem_euclid(NSEC_PER_SEC as i64),
        }
    }

    /// As nanoseconds. `EINVAL` for negative seconds or nanoseconds that are not below a second.
    pub fn to_nanos(self) -> Result<u64> {
        if self.sec < 0 || !(0..NSEC_PER_SEC as i64).contains(&self.nsec) {
            return Err(Errno::EINVAL);
        }
        Ok((self.sec as u64)
            .saturating_mul(NSEC_PER_SEC)
            .saturating_add(self.nsec as u64))
    }
}

impl TimevalAbi {
    /// From nanoseconds, rounded down.
    pub const fn from_nanos(ns: u64) -> Self {
        Self {
            sec: (ns / NSEC_PER_SEC) as i64,
            usec: (ns % NSEC_PER_SEC / 1000) as i64,
        }
    }

    /// As nanoseconds. `EINVAL` for negative seconds or microseconds that are not below a second.
    pub fn to_nanos(self) -> Result<u64> {
        if self.sec < 0 || !(0..1_000_000).contains(&self.usec) {
            return Err(Errno::EINVAL);
        }
        Ok((self.sec as u64)
            .saturating_mul(NSEC_PER_SEC)
            .saturating_add(self.usec as u64 * 1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timespec_survives_nanoseconds() {
        assert_eq!(TimespecAbi { sec: 3, nsec: 7 }.to_nanos(), Ok(3_000_000_007));
        assert_eq!(TimespecAbi::from_nanos(3_000_000_007), TimespecAbi { sec: 3, nsec: 7 });
        assert_eq!(
            TimespecAbi::from_signed_nanos(-1),
            TimespecAbi {
                sec: -1,
                nsec: 999_999_999
            }
        );
    }

    #[test]
    fn times_out_of_range_are_refused_and_far_ones_saturate() {
        assert_eq!(TimespecAbi { sec: -1, nsec: 0 }.to_nanos(), Err(Errno::EINVAL));
        assert_eq!(
            TimespecAbi {
                sec: 0,
                nsec: 1_000_000_000
            }
            .to_nanos(),
            Err(Errno::EINVAL)
        );
        assert_eq!(TimevalAbi { sec: 0, usec: -1 }.to_nanos(), Err(Errno::EINVAL));
        assert_eq!(TimespecAbi { sec: i64::MAX, nsec: 0 }.to_nanos(), Ok(u64::MAX));
    }
}
