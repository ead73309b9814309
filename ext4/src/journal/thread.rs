//! The journal's own thread: commits when asked and when a transaction is old, writes home what is old.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use core::time::Duration;

use arch_um::sync::{Interruptible, SpinLock, WaitQueue, order};
use arch_um::time::Instant;

use super::transaction::is_at_least;
use super::{Journal, Tid};
use crate::Result;

/// Where the thread stands.
pub(super) struct Worker {
    stage: SpinLock<Stage>,
    queue: WaitQueue,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Commits run in the threads that ask for them.
    Absent,
    /// It runs.
    Running {
        /// The newest transaction somebody waits for.
        wanted: Option<Tid>,
        /// When to look next may have changed.
        again: bool,
    },
    /// It shall end.
    Stopping,
}

impl Worker {
    pub(super) fn new() -> Arc<Worker> {
        Arc::new(Worker {
            stage: SpinLock::new(&order::LEAF, Stage::Absent),
            queue: WaitQueue::new(),
        })
    }

    /// Asks the thread to commit `tid`. False: there is none.
    pub(super) fn request(&self, tid: Tid) -> bool {
        match &mut *self.stage.lock() {
            Stage::Running { wanted, .. } if wanted.is_none_or(|wanted| is_at_least(tid, wanted)) => {
                *wanted = Some(tid)
            }
            Stage::Running { .. } => {}
            Stage::Absent | Stage::Stopping => return false,
        }
        // Who asks goes to sleep now.
        self.queue.wake_sync(usize::MAX, 0);
        true
    }

    /// Whether somebody looks at requests.
    pub(super) fn is_running(&self) -> bool {
        matches!(*self.stage.lock(), Stage::Running { .. })
    }

    /// Lets the thread look again how long it may sleep.
    pub(super) fn wake(&self) {
        if let Stage::Running { again, .. } = &mut *self.stage.lock() {
            *again = true;
        }
        self.queue.wake_all();
    }

    /// The thread ends, and this returns when it has.
    pub(super) fn stop(&self) {
        {
            let mut stage = self.stage.lock();
            if *stage == Stage::Absent {
                return;
            }
            *stage = Stage::Stopping;
        }
        self.queue.wake_all();
        let gone = || (*self.stage.lock() == Stage::Absent).then_some(());
        let _ = self.queue.wait_until(Interruptible::No, None, gone);
    }

    fn ended(&self) {
        *self.stage.lock() = Stage::Absent;
        self.queue.wake_all();
    }

    /// Sleeps until a commit is wanted or `deadline`; what is wanted.
    fn next(&self, deadline: Instant) -> Turnout {
        let work = || match &mut *self.stage.lock() {
            Stage::Running { wanted, again } => match wanted.take() {
                Some(tid) => Some(Turnout::Commit(tid)),
                None => core::mem::take(again).then_some(Turnout::Again),
            },
            Stage::Absent | Stage::Stopping => Some(Turnout::End),
        };
        self.queue
            .wait_until(Interruptible::No, Some(deadline), work)
            .unwrap_or(Turnout::Tick)
    }
}

/// Why the thread woke up.
enum Turnout {
    Commit(Tid),
    Again,
    Tick,
    End,
}

/// The shortest sleep between two looks: `commit=0` must not spin.
const SHORTEST: Duration = Duration::from_millis(100);

impl Journal {
    /// Starts the kernel thread (`jbd2/NAME`) that commits and writes back; it ends at [`close`](Self::close). Without it commits run in the
    /// thread that asks for one, and somebody has to call [`tick`](Self::tick). Starting it twice is once. `EAGAIN`.
    pub fn start_thread(self: &Arc<Self>) -> Result<()> {
        let name = format!("jbd2/{}", self.name());
        self.start_thread_with(|run| kernel::task::init::spawn_kernel_thread(&name, run).map(|_| ()))
    }

    /// [`start_thread`](Self::start_thread) by other means than a kernel thread: tests have host threads.
    pub fn start_thread_with(
        self: &Arc<Self>,
        spawn: impl FnOnce(Box<dyn FnOnce() + Send>) -> Result<()>,
    ) -> Result<()> {
        {
            let mut stage = self.worker().stage.lock();
            if *stage != Stage::Absent {
                return Ok(());
            }
            *stage = Stage::Running {
                wanted: None,
                again: false,
            };
        }
        let (journal, worker) = (self.clone(), self.worker().clone());
        let run = move || {
            journal.run(&worker);
            // Who waits for the end may rely on that the device is not held here any more.
            drop(journal);
            worker.ended();
        };
        spawn(Box::new(run)).inspect_err(|_| {
            *self.worker().stage.lock() = Stage::Absent;
        })
    }

    fn run(&self, worker: &Worker) {
        loop {
            let sleep = self.time_to_tick().max(SHORTEST);
            match worker.next(Instant::now().saturating_add(sleep)) {
                Turnout::Commit(tid) => self.commit_here(tid),
                Turnout::Again => {}
                Turnout::Tick => self.tick(),
                Turnout::End => break,
            }
        }
        // Who waits for a commit goes on by himself.
        self.thread_ends();
    }
}
