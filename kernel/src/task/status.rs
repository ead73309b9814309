//! How a process ended, in the encoding of `wait(2)`.

use crate::signal::Signal;

/// `CLD_*` codes of `SIGCHLD` and `waitid(2)`.
#[allow(missing_docs)]
pub mod cld {
    pub const EXITED: i32 = 1;
    pub const KILLED: i32 = 2;
    pub const DUMPED: i32 = 3;
    pub const TRAPPED: i32 = 4;
    pub const STOPPED: i32 = 5;
    pub const CONTINUED: i32 = 6;
}

/// A wait status: exit code in bits 8..16, or the killing signal in bits 0..7 with 0x80 for "core dumped".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExitStatus(pub i32);

impl ExitStatus {
    /// The status `wait` reports for a continued child.
    pub const CONTINUED: i32 = 0xffff;
    const CORE: i32 = 0x80;

    /// `exit(2)` with `code`, of which only the low byte survives.
    pub const fn exited(code: i32) -> Self {
        Self((code & 0xff) << 8)
    }

    /// Killed by `signal`.
    pub const fn killed(signal: Signal) -> Self {
        Self(signal.number())
    }

    /// Killed by `signal`, with a core dump.
    pub const fn dumped(signal: Signal) -> Self {
        Self(signal.number() | Self::CORE)
    }

    /// What `wait` reports for a child stopped by `signal`.
    pub const fn stopped(signal: Signal) -> i32 {
        signal.number() << 8 | 0x7f
    }

    /// `si_code` and `si_status` of the `SIGCHLD` that announces it.
    pub const fn child_info(self) -> (i32, i32) {
        let signal = self.0 & 0x7f;
        if signal == 0 {
            (cld::EXITED, self.0 >> 8 & 0xff)
        } else if self.0 & Self::CORE != 0 {
            (cld::DUMPED, signal)
        } else {
            (cld::KILLED, signal)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_encoded_as_wait_reads_them() {
        assert_eq!(ExitStatus::exited(3).0, 0x300);
        assert_eq!(ExitStatus::exited(-1).0, 0xff00);
        assert_eq!(ExitStatus::killed(Signal::KILL).0, 9);
        assert_eq!(ExitStatus::dumped(Signal::SEGV).0, 0x8b);
        assert_eq!(ExitStatus::stopped(Signal::STOP), 0x137f);
        assert_eq!(ExitStatus::exited(256 + 7).child_info(), (cld::EXITED, 7));
        assert_eq!(ExitStatus::killed(Signal::TERM).child_info(), (cld::KILLED, 15));
        assert_eq!(ExitStatus::dumped(Signal::ABRT).child_info(), (cld::DUMPED, 6));
    }
}
