//! Pending signals: a set of bits, and for each bit what came with the signal.
//!
//! A standard signal is pending at most once, real-time signals queue in order (`signal(7)`). One [`Pending`] belongs to each task and one to
//! each process; their locks are in `signal::state`.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::info::{SI_USER, SigDetail, SigInfo, SigSet, Signal};
use crate::task::Pid;
use crate::task::user::SignalCharge;

/// Signals that the faulting instruction itself raises: they come before all others.
const SYNCHRONOUS: SigSet = SigSet::of(Signal::SEGV)
    .with(Signal::BUS)
    .with(Signal::ILL)
    .with(Signal::TRAP)
    .with(Signal::FPE)
    .with(Signal::SYS);

/// One queued signal.
#[derive(Debug)]
pub struct Queued {
    info: SigInfo,
    /// Its place in the sender's `RLIMIT_SIGPENDING`, given back when it leaves the queue.
    _charge: Option<SignalCharge>,
}

/// Signals waiting for delivery.
#[derive(Debug, Default)]
pub struct Pending {
    set: SigSet,
    queue: VecDeque<Queued>,
}

/// Queue entries taken off under a lock; to be dropped after it is released.
#[must_use]
#[derive(Debug)]
pub struct Detached {
    _entries: Vec<Queued>,
}

impl Pending {
    /// Nothing pending.
    pub const fn new() -> Self {
        Self {
            set: SigSet::EMPTY,
            queue: VecDeque::new(),
        }
    }

    /// Which signals are pending.
    pub fn set(&self) -> SigSet {
        self.set
    }

    /// Queues a signal with its information.
    pub fn push(&mut self, info: SigInfo, charge: Option<SignalCharge>) {
        self.set = self.set.with(info.signal);
        self.queue.push_back(Queued { info, _charge: charge });
    }

    /// Marks a signal pending of which nothing is known: the queue was full.
    pub fn mark(&mut self, signal: Signal) {
        self.set = self.set.with(signal);
    }

    /// Whether the timer `id` already has its signal in this queue.
    pub fn has_timer(&self, signal: Signal, id: i32) -> bool {
        self.queue.iter().any(|entry| {
            entry.info.signal == signal
                && matches!(entry.info.detail, SigDetail::Timer { id: queued, .. } if queued == id)
        })
    }

    /// Drops the signal of timer `id` (`timer_delete(2)`).
    pub fn remove_timer(&mut self, id: i32) -> Detached {
        self.detach(|info| matches!(info.detail, SigDetail::Timer { id: queued, .. } if queued == id))
    }

    /// The signal to deliver next among those in `allowed`: faults first, then the lowest number.
    pub fn next(&self, allowed: SigSet) -> Option<Signal> {
        let ready = self.set.intersect(allowed);
        ready.intersect(SYNCHRONOUS).first().or_else(|| ready.first())
    }

    /// Takes the oldest entry of `signal`, which is pending.
    pub fn take(&mut self, signal: Signal) -> (SigInfo, Detached) {
        let taken = self
            .queue
            .iter()
            .position(|entry| entry.info.signal == signal)
            .and_then(|at| self.queue.remove(at));
        if !self.queue.iter().any(|entry| entry.info.signal == signal) {
            self.set = self.set.without(signal);
        }
        let unknown = SigInfo {
            signal,
            code: SI_USER,
            errno: 0,
            detail: SigDetail::Sender {
                pid: Pid(0),
                uid: 0,
                value: 0,
            },
        };
        let info = taken.as_ref().map_or(unknown, |entry| entry.info);
        (
            info,
            Detached {
                _entries: taken.into_iter().collect(),
            },
        )
    }

    /// Drops every signal of `set`.
    pub fn remove(&mut self, set: SigSet) -> Detached {
        if self.set.intersect(set) == SigSet::EMPTY {
            return Detached { _entries: Vec::new() };
        }
        let detached = self.detach(|info| set.contains(info.signal));
        self.set = self.set.minus(set);
        detached
    }

    fn detach(&mut self, which: impl Fn(&SigInfo) -> bool) -> Detached {
        let (out, rest): (Vec<Queued>, Vec<Queued>) = self.queue.drain(..).partition(|entry| which(&entry.info));
        self.queue = rest.into();
        for entry in &out {
            if !self.queue.iter().any(|left| left.info.signal == entry.info.signal) {
                self.set = self.set.without(entry.info.signal);
            }
        }
        Detached { _entries: out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queued(signal: Signal, value: u64) -> SigInfo {
        SigInfo {
            signal,
            code: -1,
            errno: 0,
            detail: SigDetail::Sender {
                pid: Pid(5),
                uid: 0,
                value,
            },
        }
    }

    fn value(info: SigInfo) -> u64 {
        match info.detail {
            SigDetail::Sender { value, .. } => value,
            _ => u64::MAX,
        }
    }

    #[test]
    fn realtime_signals_leave_in_order_lowest_number_first() {
        let low = Signal::new(34).unwrap();
        let high = Signal::new(40).unwrap();
        let mut pending = Pending::new();
        pending.push(queued(high, 1), None);
        pending.push(queued(low, 2), None);
        pending.push(queued(low, 3), None);
        let mut seen = Vec::new();
        while let Some(signal) = pending.next(SigSet(u64::MAX)) {
            seen.push((signal, value(pending.take(signal).0)));
        }
        assert_eq!(seen, [(low, 2), (low, 3), (high, 1)]);
        assert_eq!(pending.set(), SigSet::EMPTY);
    }

    #[test]
    fn faults_come_before_lower_numbers() {
        let mut pending = Pending::new();
        pending.mark(Signal::HUP);
        pending.mark(Signal::SEGV);
        assert_eq!(pending.next(SigSet(u64::MAX)), Some(Signal::SEGV));
        assert_eq!(pending.next(SigSet(u64::MAX).without(Signal::SEGV)), Some(Signal::HUP));
        assert_eq!(pending.next(SigSet::EMPTY), None);
    }

    #[test]
    fn a_signal_without_entry_reads_as_sent_by_nobody() {
        let mut pending = Pending::new();
        pending.mark(Signal::USR1);
        let (info, _) = pending.take(Signal::USR1);
        assert_eq!(info.code, SI_USER);
        assert_eq!(pending.set(), SigSet::EMPTY);
    }

    #[test]
    fn removing_a_set_leaves_the_others() {
        let mut pending = Pending::new();
        pending.push(queued(Signal::TSTP, 1), None);
        pending.push(queued(Signal::USR1, 2), None);
        let _ = pending.remove(SigSet::of(Signal::TSTP).with(Signal::TTIN));
        assert_eq!(pending.set(), SigSet::of(Signal::USR1));
    }
}
