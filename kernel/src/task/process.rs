//! [`Process`]: a thread group, and what its threads share.
//!
//! Who descends from whom, and which group and session a process is in, is kept by [`super::table`] under one lock; the accessors here ask it.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::{Any, TypeId};
use core::sync::atomic::{AtomicUsize, Ordering};

use arch_um::sync::{SpinLock, WaitQueue, order};
use arch_um::time::Instant;

use super::jobctl::Session;
use super::rlimit::Limits;
use super::times::Accounting;
use super::{Pid, Task, table};
use crate::signal::action::Actions;
use crate::signal::state::GroupSignals;

/// A thread group.
pub struct Process {
    pid: Pid,
    /// Shared queue, stops, group exit; see `signal::state`.
    pub(crate) signals: SpinLock<GroupSignals>,
    actions: SpinLock<Arc<Actions>>,
    limits: SpinLock<Limits>,
    attributes: SpinLock<ProcessAttributes>,
    pub(crate) accounting: SpinLock<Accounting>,
    slots: SpinLock<BTreeMap<TypeId, Arc<dyn Any + Send + Sync>>>,
    start: Instant,
    /// Threads that have not begun to exit.
    live: AtomicUsize,
    /// Parents wait here for their children.
    pub(crate) child_wait: WaitQueue,
    /// Told when a thread of it exits, and when it becomes a zombie (pidfds, exec).
    pub(crate) exit_wait: WaitQueue,
    /// Stopped threads wait here.
    pub(crate) stop_wait: WaitQueue,
    /// Told when a signal becomes pending (signalfds).
    pub(crate) signal_wait: WaitQueue,
}

/// Who may look into a process (`PR_SET_DUMPABLE`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dumpable {
    /// Nobody but root.
    No,
    /// Its user.
    #[default]
    User,
    /// Root only, by `fs.suid_dumpable` 2.
    Root,
}

/// Small things that hang on a process.
#[derive(Clone, Debug)]
pub struct ProcessAttributes {
    /// `PR_SET_DUMPABLE`.
    pub dumpable: Dumpable,
    /// `PR_SET_CHILD_SUBREAPER`.
    pub is_subreaper: bool,
    /// An ancestor is a subreaper: orphans must look for it.
    pub has_subreaper: bool,
    /// It has run a program of its own since the fork (`setpgid(2)` from the parent is over).
    pub execed: bool,
    /// `PR_SET_THP_DISABLE`.
    pub thp_disabled: bool,
    /// `/proc/PID/oom_score_adj`.
    pub oom_score_adj: i32,
    /// Registered for `membarrier(2)`'s private expedited commands.
    pub membarrier: u32,
}

impl Default for ProcessAttributes {
    fn default() -> Self {
        Self {
            dumpable: Dumpable::User,
            is_subreaper: false,
            has_subreaper: false,
            execed: false,
            thp_disabled: false,
            oom_score_adj: 0,
            membarrier: 0,
        }
    }
}

impl Process {
    /// A process without threads, not in the table yet.
    pub(crate) fn new(pid: Pid, actions: Arc<Actions>, limits: Limits, attributes: ProcessAttributes) -> Arc<Self> {
        Arc::new(Self {
            pid,
            signals: SpinLock::new(&order::SIGHAND, GroupSignals::new()),
            actions: SpinLock::new(&order::LEAF, actions),
            limits: SpinLock::new(&order::PROCESS, limits),
            attributes: SpinLock::new(&order::LEAF, attributes),
            accounting: SpinLock::new(&order::LEAF, Accounting::default()),
            slots: SpinLock::new(&order::LEAF, BTreeMap::new()),
            start: Instant::now(),
            live: AtomicUsize::new(0),
            child_wait: WaitQueue::new(),
            exit_wait: WaitQueue::new(),
            stop_wait: WaitQueue::new(),
            signal_wait: WaitQueue::new(),
        })
    }

    /// One more thread.
    pub(crate) fn count_thread(&self) {
        self.live.fetch_add(1, Ordering::SeqCst);
    }

    /// A thread begins to exit. True for the last one.
    pub(crate) fn uncount_thread(&self) -> bool {
        self.live.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// When it was made.
    pub fn start_time(&self) -> Instant {
        self.start
    }

    /// The process group. Its own number once it is reaped.
    pub fn group(&self) -> Pid {
        table::with_node(self, |node| node.group).unwrap_or(self.pid)
    }

    /// The session's number.
    pub fn session(&self) -> Pid {
        self.session_object().map_or(self.pid, |session| session.id())
    }

    /// The session; none once it is reaped.
    pub fn session_object(&self) -> Option<Arc<Session>> {
        table::with_node(self, |node| node.session.clone())
    }

    /// The parent's number; 0 for init.
    pub fn parent(&self) -> Pid {
        table::with_node(self, |node| node.parent).unwrap_or(Pid(0))
    }

    /// Its children, zombies included.
    pub fn children(&self) -> Vec<Arc<Process>> {
        table::children(self)
    }

    /// Its threads that have not exited, by number.
    pub fn threads(&self) -> Vec<Arc<Task>> {
        table::with_node(self, |node| node.threads.values().cloned().collect()).unwrap_or_default()
    }

    /// Any thread, the leader first; also the dead leader of a zombie. None once it is reaped.
    pub fn any_thread(&self) -> Option<Arc<Task>> {
        table::representative(self)
    }

    /// How many threads it has.
    pub fn thread_count(&self) -> usize {
        table::with_node(self, |node| node.threads.len()).unwrap_or(0)
    }

    /// Whether it has ended and waits for its parent (or is reaped already).
    pub fn is_zombie(&self) -> bool {
        table::with_node(self, |node| node.zombie.is_some()).unwrap_or(true)
    }

    /// What it does on each signal.
    pub fn actions(&self) -> Arc<Actions> {
        self.actions.lock().clone()
    }

    /// Puts actions of its own in place (`execve(2)` after `CLONE_SIGHAND`).
    pub(crate) fn set_actions(&self, actions: Arc<Actions>) -> Arc<Actions> {
        core::mem::replace(&mut *self.actions.lock(), actions)
    }

    /// Its resource limits.
    pub fn limits(&self) -> &SpinLock<Limits> {
        &self.limits
    }

    /// The soft limit of a resource.
    pub fn limit(&self, resource: super::rlimit::Resource) -> u64 {
        self.limits.lock().soft(resource)
    }

    /// The small things, in a closure that may not sleep or take locks.
    pub fn with_attributes<R>(&self, f: impl FnOnce(&mut ProcessAttributes) -> R) -> R {
        f(&mut self.attributes.lock())
    }

    /// The object of type `T` that another room hangs on the process (timers); made at first use, not inherited.
    pub fn slot<T: Any + Send + Sync + Default>(&self) -> Arc<T> {
        if let Some(found) = self.find_slot() {
            return found;
        }
        // Made outside of the lock; a second one that loses the race is dropped.
        let made: Arc<dyn Any + Send + Sync> = Arc::new(T::default());
        let kept = self.slots.lock().entry(TypeId::of::<T>()).or_insert(made).clone();
        kept.downcast().unwrap_or_else(|_| Arc::new(T::default()))
    }

    /// The object of type `T`, if [`slot`](Self::slot) has made it.
    pub fn find_slot<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.slots.lock().get(&TypeId::of::<T>())?.clone().downcast().ok()
    }

    /// Empties all slots (exit, and exec for what does not survive it).
    pub(crate) fn take_slots(&self) -> BTreeMap<TypeId, Arc<dyn Any + Send + Sync>> {
        core::mem::take(&mut *self.slots.lock())
    }
}
