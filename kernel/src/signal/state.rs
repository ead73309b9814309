//! The signal state of tasks and processes: masks, queues, stops, group exit.
//!
//! Lock order: [`GroupSignals`] (`SIGHAND`), then the actions (`SIGNAL_ACTIONS`), then [`TaskSignals`] (`TASK_SIGNALS`) of the same group. Whoever
//! queues a signal or changes a mask holds what it needs of them until the task's notification agrees with the queues.

use super::info::{SigSet, Signal};
use super::queue::Pending;
use crate::abi_struct;
use crate::task::{ExitStatus, Pid, Process, Task};

/// What belongs to one task.
#[derive(Debug, Default)]
pub struct TaskSignals {
    /// Signals for this thread alone.
    pub pending: Pending,
    /// The signal mask.
    pub blocked: SigSet,
    /// The mask to go back to when a temporary one has done its work (`sigsuspend(2)`, `ppoll(2)`).
    pub saved: Option<SigSet>,
    /// Blocked, but awaited by `sigtimedwait(2)`: such a signal is not dropped and wakes the task.
    pub awaited: SigSet,
    /// A group stop waits for this thread to join it.
    pub stop_pending: StopMark,
    /// `sigaltstack(2)`.
    pub altstack: AltStack,
}

/// Whether a thread still has to join a group stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StopMark {
    /// No stop is asked for.
    #[default]
    None,
    /// It must stop, with this signal.
    Wanted(Signal),
    /// It stands still.
    Stopped,
}

abi_struct! {
    /// `stack_t`.
    pub struct AltStack {
        /// Lowest address.
        pub sp: u64,
        /// `SS_DISABLE`, `SS_AUTODISARM`.
        pub flags: i32,
        /// Padding.
        pub pad: u32,
        /// Bytes.
        pub size: u64,
    }
}

/// What belongs to a thread group.
#[derive(Debug)]
pub struct GroupSignals {
    /// Signals for whichever thread takes them.
    pub pending: Pending,
    /// All threads must exit, with this status.
    pub exit: Option<ExitStatus>,
    /// A thread runs exec: the others must exit.
    pub exec: Option<Pid>,
    /// Init: signals without a handler do nothing.
    pub unkillable: bool,
    /// Where job control stands.
    pub stop: StopState,
    /// A change of job control that the parent has yet to be told of.
    pub announce: Option<Announcement>,
    /// The stop that `wait(2)` has not reported yet.
    pub unreported_stop: Option<Signal>,
    /// The continuation that `wait(2)` has not reported yet.
    pub unreported_continue: bool,
}

/// Job control of a thread group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopState {
    /// Running.
    Running,
    /// This many threads have yet to stop.
    Stopping {
        /// By which signal.
        signal: Signal,
        /// Threads still running.
        left: usize,
    },
    /// All threads stand still.
    Stopped {
        /// By which signal.
        signal: Signal,
    },
}

/// What a parent is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// Stopped by this signal.
    Stopped(Signal),
    /// Continued.
    Continued,
}

impl GroupSignals {
    /// Of a new process.
    pub const fn new() -> Self {
        Self {
            pending: Pending::new(),
            exit: None,
            exec: None,
            unkillable: false,
            stop: StopState::Running,
            announce: None,
            unreported_stop: None,
            unreported_continue: false,
        }
    }

    /// Whether all its threads stand still.
    pub fn is_stopped(&self) -> bool {
        matches!(self.stop, StopState::Stopped { .. })
    }

    /// Whether `task` must exit because of others: a group exit or another thread's exec.
    pub fn must_exit(&self, task: &Task) -> bool {
        self.exit.is_some() || self.exec.is_some_and(|tid| tid != task.tid())
    }

    /// Whether there is anything for `task` to do before user code, given its own state.
    fn has_work(&self, task: &Task, own: &TaskSignals) -> bool {
        let pending = self.pending.set().union(own.pending.set());
        self.must_exit(task)
            || self.announce.is_some()
            || own.stop_pending != StopMark::None
            || pending.minus(own.blocked) != SigSet::EMPTY
    }
}

impl Default for GroupSignals {
    fn default() -> Self {
        Self::new()
    }
}

impl Process {
    /// Signals pending for the whole group.
    pub fn shared_pending(&self) -> SigSet {
        self.signals.lock().pending.set()
    }
}

impl Task {
    /// Its signal mask.
    pub fn blocked(&self) -> SigSet {
        self.signals.lock().blocked
    }

    /// Signals pending for it alone.
    pub fn own_pending(&self) -> SigSet {
        self.signals.lock().pending.set()
    }

    /// Whether it stands still (job control).
    pub fn is_stopped(&self) -> bool {
        self.signals.lock().stop_pending == StopMark::Stopped
    }

    /// Signals pending for it, its own and the group's.
    pub fn pending(&self) -> SigSet {
        let group = self.process().signals.lock();
        let own = self.signals.lock();
        group.pending.set().union(own.pending.set())
    }

    /// Whether it ignores `signal`, explicitly or by default.
    pub fn ignores(&self, signal: Signal) -> bool {
        self.process().actions().get(signal).ignores(signal)
    }

    /// Sets the signal mask (`KILL` and `STOP` cannot be blocked), and looks at what is pending under the new one.
    pub fn set_blocked(&self, mask: SigSet) {
        let group = self.process().signals.lock();
        let mut own = self.signals.lock();
        own.blocked = mask.minus(SigSet::UNBLOCKABLE);
        self.recalculate(&group, &own);
    }

    /// Makes the notification agree with the queues. The caller holds both locks.
    pub(crate) fn recalculate(&self, group: &GroupSignals, own: &TaskSignals) {
        if group.has_work(self, own) {
            if !self.signal_pending() || self.thread().is_some_and(|thread| !thread.interrupted()) {
                self.notify();
            }
        } else if self.signal_pending() || self.thread().is_some_and(|thread| thread.interrupted()) {
            self.clear_notification();
        }
    }

    /// As [`recalculate`](Self::recalculate), taking the locks.
    pub(crate) fn recalculate_signals(&self) {
        let group = self.process().signals.lock();
        let own = self.signals.lock();
        self.recalculate(&group, &own);
    }
}
