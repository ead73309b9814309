//! Signal numbers, sets and the information that travels with a signal (`sigaction(2)`, `siginfo_t`).

use crate::task::Pid;

/// A signal number, 1..=64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

#[allow(missing_docs)]
impl Signal {
    pub const HUP: Signal = Signal(1);
    pub const INT: Signal = Signal(2);
    pub const QUIT: Signal = Signal(3);
    pub const ILL: Signal = Signal(4);
    pub const TRAP: Signal = Signal(5);
    pub const ABRT: Signal = Signal(6);
    pub const BUS: Signal = Signal(7);
    pub const FPE: Signal = Signal(8);
    pub const KILL: Signal = Signal(9);
    pub const USR1: Signal = Signal(10);
    pub const SEGV: Signal = Signal(11);
    pub const USR2: Signal = Signal(12);
    pub const PIPE: Signal = Signal(13);
    pub const ALRM: Signal = Signal(14);
    pub const TERM: Signal = Signal(15);
    pub const STKFLT: Signal = Signal(16);
    pub const CHLD: Signal = Signal(17);
    pub const CONT: Signal = Signal(18);
    pub const STOP: Signal = Signal(19);
    pub const TSTP: Signal = Signal(20);
    pub const TTIN: Signal = Signal(21);
    pub const TTOU: Signal = Signal(22);
    pub const URG: Signal = Signal(23);
    pub const XCPU: Signal = Signal(24);
    pub const XFSZ: Signal = Signal(25);
    pub const VTALRM: Signal = Signal(26);
    pub const PROF: Signal = Signal(27);
    pub const WINCH: Signal = Signal(28);
    pub const IO: Signal = Signal(29);
    pub const PWR: Signal = Signal(30);
    pub const SYS: Signal = Signal(31);

    /// The signal with this number; none outside 1..=64.
    pub const fn new(number: i32) -> Option<Signal> {
        if number >= 1 && number <= 64 {
            Some(Signal(number as u8))
        } else {
            None
        }
    }

    /// Its number.
    pub const fn number(self) -> i32 {
        self.0 as i32
    }

    /// Its place in tables of all signals, 0..64.
    pub const fn index(self) -> usize {
        self.0 as usize - 1
    }

    /// Whether it queues (32..=64).
    pub const fn is_realtime(self) -> bool {
        self.0 >= 32
    }
}

/// A set of signals: bit `n - 1` stands for signal `n`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SigSet(pub u64);

impl SigSet {
    /// No signal.
    pub const EMPTY: SigSet = SigSet(0);

    /// Signals that no mask blocks and no handler takes.
    pub const UNBLOCKABLE: SigSet = SigSet::of(Signal::KILL).with(Signal::STOP);

    /// Signals that stop by default.
    pub const STOPS: SigSet = SigSet::of(Signal::STOP)
        .with(Signal::TSTP)
        .with(Signal::TTIN)
        .with(Signal::TTOU);

    /// The set of one.
    pub const fn of(signal: Signal) -> SigSet {
        SigSet(1 << (signal.0 - 1))
    }

    /// Whether `signal` is in it.
    pub const fn contains(self, signal: Signal) -> bool {
        self.0 & SigSet::of(signal).0 != 0
    }

    /// With `signal`.
    pub const fn with(self, signal: Signal) -> SigSet {
        SigSet(self.0 | SigSet::of(signal).0)
    }

    /// Without `signal`.
    pub const fn without(self, signal: Signal) -> SigSet {
        SigSet(self.0 & !SigSet::of(signal).0)
    }

    /// In either.
    pub const fn union(self, other: SigSet) -> SigSet {
        SigSet(self.0 | other.0)
    }

    /// In both.
    pub const fn intersect(self, other: SigSet) -> SigSet {
        SigSet(self.0 & other.0)
    }

    /// In neither.
    pub const fn complement(self) -> SigSet {
        SigSet(!self.0)
    }

    /// Whether nothing is in it.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The lowest signal.
    pub const fn first(self) -> Option<Signal> {
        if self.0 == 0 {
            None
        } else {
            Some(Signal(self.0.trailing_zeros() as u8 + 1))
        }
    }

    /// In this one only.
    pub const fn minus(self, other: SigSet) -> SigSet {
        SigSet(self.0 & !other.0)
    }
}

/// Why a signal was sent; becomes `siginfo_t`.
#[derive(Clone, Copy, Debug)]
pub struct SigInfo {
    /// The signal.
    pub signal: Signal,
    /// `si_code`.
    pub code: i32,
    /// `si_errno`.
    pub errno: i32,
    /// The part that depends on the code.
    pub detail: SigDetail,
}

/// The union of `siginfo_t`.
#[derive(Clone, Copy, Debug)]
pub enum SigDetail {
    /// From the kernel itself (`SI_KERNEL`).
    None,
    /// `kill`, `tgkill`, `sigqueue`.
    Sender {
        /// Who.
        pid: Pid,
        /// As whom.
        uid: u32,
        /// `sigval`.
        value: u64,
    },
    /// `SIGCHLD`.
    Child {
        /// Which child.
        pid: Pid,
        /// As whom it ran.
        uid: u32,
        /// Exit status or signal number.
        status: i32,
        /// User time, clock ticks.
        utime: i64,
        /// System time, clock ticks.
        stime: i64,
    },
    /// `SIGSEGV`, `SIGBUS`, `SIGFPE`, `SIGILL`, `SIGTRAP`.
    Fault {
        /// Where.
        addr: u64,
    },
    /// A POSIX timer.
    Timer {
        /// Timer id.
        id: i32,
        /// Missed expirations.
        overrun: i32,
        /// `sigval`.
        value: u64,
    },
    /// `SIGIO`.
    Poll {
        /// Events.
        band: i64,
        /// Descriptor.
        fd: i32,
    },
    /// `SIGSYS`.
    Sys {
        /// Calling instruction.
        call_addr: u64,
        /// System call number.
        nr: i32,
        /// `AUDIT_ARCH_*`.
        arch: u32,
    },
    /// Raw bytes as given to `rt_sigqueueinfo(2)`, behind the first 16.
    Raw([u8; 112]),
}

/// `SI_USER`.
pub const SI_USER: i32 = 0;
/// `SI_KERNEL`.
pub const SI_KERNEL: i32 = 0x80;

impl SigInfo {
    /// Sent by the kernel.
    pub fn kernel(signal: Signal) -> Self {
        Self {
            signal,
            code: SI_KERNEL,
            errno: 0,
            detail: SigDetail::None,
        }
    }

    /// A fault of the current instruction at `addr`.
    pub fn fault(signal: Signal, code: i32, addr: u64) -> Self {
        Self {
            signal,
            code,
            errno: 0,
            detail: SigDetail::Fault { addr },
        }
    }
}
