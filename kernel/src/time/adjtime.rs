//! `adjtimex(2)`, `clock_adjtime(2)`: the knobs of clock discipline.
//!
//! The host disciplines its clock, and ours follows it. So steps (`ADJ_SETOFFSET`, `ADJ_TAI`) take effect, a requested slew (`ADJ_OFFSET`,
//! `ADJ_OFFSET_SINGLESHOT`) is applied as a step of the same size, and rates are kept and reported but change nothing.

use arch_um::sync::{SpinLock, order};

use super::NSEC_PER_SEC;
use super::clock::{self, Clock, Flavour};
use super::layout::TimevalAbi;
use crate::abi_struct;
use crate::syscall::Context;
use crate::user::UserPtr;
use crate::{Errno, Result};

abi_struct! {
    /// `struct timex`.
    pub struct TimexAbi {
        /// `ADJ_*`.
        pub modes: u32,
        /// Padding.
        pub pad0: u32,
        /// Time offset, µs (ns with `STA_NANO`).
        pub offset: i64,
        /// Frequency offset, ppm scaled by 2^16.
        pub freq: i64,
        /// Maximum error, µs.
        pub maxerror: i64,
        /// Estimated error, µs.
        pub esterror: i64,
        /// `STA_*`.
        pub status: i32,
        /// Padding.
        pub pad1: u32,
        /// PLL time constant.
        pub constant: i64,
        /// Clock precision, µs.
        pub precision: i64,
        /// Clock frequency tolerance, ppm scaled.
        pub tolerance: i64,
        /// Now (µs or ns); in `ADJ_SETOFFSET` the step.
        pub time: TimevalAbi,
        /// µs between ticks.
        pub tick: i64,
        /// PPS values: there is no PPS source.
        pub pps: [i64; 2],
        /// PPS interval duration.
        pub shift: i32,
        /// Padding.
        pub pad2: u32,
        /// PPS values.
        pub pps_counts: [i64; 5],
        /// `CLOCK_TAI` minus `CLOCK_REALTIME`, s.
        pub tai: i32,
        /// Unused.
        pub pad3: [u32; 11],
    }
}

const ADJ_OFFSET: u32 = 0x0001;
const ADJ_FREQUENCY: u32 = 0x0002;
const ADJ_MAXERROR: u32 = 0x0004;
const ADJ_ESTERROR: u32 = 0x0008;
const ADJ_STATUS: u32 = 0x0010;
const ADJ_TIMECONST: u32 = 0x0020;
const ADJ_TAI: u32 = 0x0080;
const ADJ_SETOFFSET: u32 = 0x0100;
const ADJ_MICRO: u32 = 0x1000;
const ADJ_NANO: u32 = 0x2000;
const ADJ_TICK: u32 = 0x4000;
/// `ADJ_OFFSET_SINGLESHOT` and `ADJ_OFFSET_SS_READ` without their common `ADJ_OFFSET` bit.
const ADJ_ADJTIME: u32 = 0x8000;
const ADJ_OFFSET_READONLY: u32 = 0x2000;

const STA_UNSYNC: i32 = 0x0040;
const STA_NANO: i32 = 0x2000;
const STA_READ_ONLY: i32 = 0xff00;
const TIME_OK: usize = 0;
const TIME_ERROR: usize = 5;
const MAX_ERROR: i64 = 16_000_000;
const MAX_FREQ: i64 = 32_768_000;
const MAX_PHASE: i64 = 500_000_000;
const TICK_USEC: i64 = 10_000;

/// What is kept between calls.
struct Discipline {
    freq: i64,
    maxerror: i64,
    esterror: i64,
    status: i32,
    constant: i64,
    tick: i64,
}

static DISCIPLINE: SpinLock<Discipline> = SpinLock::new(
    &order::TIMER,
    Discipline {
        freq: 0,
        maxerror: MAX_ERROR,
        esterror: MAX_ERROR,
        status: STA_UNSYNC,
        constant: 2,
        tick: TICK_USEC,
    },
);

/// `adjtimex(2)`.
pub fn sys_adjtimex(cx: &Context, timex: UserPtr<TimexAbi>) -> Result<usize> {
    let mut values = timex.read()?;
    let state = adjust(cx, &mut values)?;
    timex.write(&values)?;
    Ok(state)
}

/// `clock_adjtime(2)`: `CLOCK_REALTIME` only.
pub fn sys_clock_adjtime(cx: &Context, id: i32, timex: UserPtr<TimexAbi>) -> Result<usize> {
    let clock = Clock::from_id(id)?;
    let mut values = timex.read()?;
    if clock != Clock::Real(Flavour::Plain) {
        return Err(Errno::EOPNOTSUPP);
    }
    let state = adjust(cx, &mut values)?;
    timex.write(&values)?;
    Ok(state)
}

fn adjust(cx: &Context, values: &mut TimexAbi) -> Result<usize> {
    let modes = values.modes;
    let adjtime = modes & ADJ_ADJTIME != 0;
    if adjtime {
        if modes & ADJ_OFFSET == 0 {
            return Err(Errno::EINVAL);
        }
        if modes & ADJ_OFFSET_READONLY == 0 {
            clock::require_set(cx)?;
        }
    } else if modes != 0 {
        clock::require_set(cx)?;
        if modes & ADJ_TICK != 0 && !(TICK_USEC * 9 / 10..=TICK_USEC * 11 / 10).contains(&values.tick) {
            return Err(Errno::EINVAL);
        }
    }
    let mut step = 0;
    if !adjtime && modes & ADJ_SETOFFSET != 0 {
        let unit = if modes & ADJ_NANO != 0 { 1 } else { 1000 };
        if values.time.usec < 0 || values.time.usec >= NSEC_PER_SEC as i64 / unit {
            return Err(Errno::EINVAL);
        }
        step = values
            .time
            .sec
            .saturating_mul(NSEC_PER_SEC as i64)
            .saturating_add(values.time.usec * unit);
    }
    let mut tai = None;
    {
        let mut kept = DISCIPLINE.lock();
        if adjtime {
            if modes & ADJ_OFFSET_READONLY == 0 {
                step = values.offset.saturating_mul(1000);
            }
            // Nothing is ever still to be slewed.
            values.offset = 0;
        } else {
            if modes & ADJ_STATUS != 0 {
                kept.status = kept.status & STA_READ_ONLY | values.status & !STA_READ_ONLY;
            }
            if modes & ADJ_NANO != 0 {
                kept.status |= STA_NANO;
            }
            if modes & ADJ_MICRO != 0 {
                kept.status &= !STA_NANO;
            }
            if modes & ADJ_FREQUENCY != 0 {
                kept.freq = values.freq.clamp(-MAX_FREQ, MAX_FREQ);
            }
            if modes & ADJ_MAXERROR != 0 {
                kept.maxerror = values.maxerror.clamp(0, MAX_ERROR);
            }
            if modes & ADJ_ESTERROR != 0 {
                kept.esterror = values.esterror.clamp(0, MAX_ERROR);
            }
            if modes & ADJ_TIMECONST != 0 {
                kept.constant = values.constant.clamp(0, 10);
            }
            if modes & ADJ_TAI != 0 && (0..=10_000_000).contains(&values.constant) {
                tai = Some(values.constant as i32);
            }
            if modes & ADJ_OFFSET != 0 {
                let unit = if kept.status & STA_NANO != 0 { 1 } else { 1000 };
                step = values.offset.saturating_mul(unit).clamp(-MAX_PHASE, MAX_PHASE);
            }
            if modes & ADJ_TICK != 0 {
                kept.tick = values.tick;
            }
            values.offset = 0;
        }
        values.freq = kept.freq;
        values.maxerror = kept.maxerror;
        values.esterror = kept.esterror;
        values.status = kept.status;
        values.constant = kept.constant;
        values.tick = kept.tick;
    }
    if step != 0 {
        clock::set_realtime(clock::realtime().saturating_add(step));
    }
    if let Some(tai) = tai {
        clock::set_tai_offset(tai);
    }
    let now = clock::realtime();
    let fraction = now.rem_euclid(NSEC_PER_SEC as i64);
    let nano = values.status & STA_NANO != 0;
    values.time.sec = now.div_euclid(NSEC_PER_SEC as i64);
    values.time.usec = if nano { fraction } else { fraction / 1000 };
    values.precision = 1;
    values.tolerance = MAX_FREQ;
    values.pps = [0; 2];
    values.shift = 0;
    values.pps_counts = [0; 5];
    values.tai = clock::tai_offset();
    Ok(if values.status & STA_UNSYNC != 0 {
        TIME_ERROR
    } else {
        TIME_OK
    })
}

#[cfg(test)]
mod tests {
    use super::TimexAbi;
    use crate::abi::Abi;

    #[test]
    fn timex_has_the_size_programs_expect() {
        assert_eq!(TimexAbi::SIZE, 208);
    }
}
