//! The table of numbers, and the family tree: who descends from whom, which process is in which group and session.
//!
//! Everything of the family is under one lock (`PROCESS_TREE`), as it changes together: a fork, an exit and a `setpgid` touch several
//! processes at once. Signal locks are taken below it. What is taken out of the table under the lock is returned and dropped after it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use arch_um::sync::{SpinLock, SpinLockGuard, order};

use super::jobctl::Session;
use super::pid::PidAllocator;
use super::{ExitStatus, Pid, Process, Task, threads_max};
use crate::{Errno, Result};

static TREE: SpinLock<Tree> = SpinLock::new(&order::PROCESS_TREE, Tree::new());

/// Init's number.
pub const INIT: Pid = Pid(1);

/// Numbers and family. Reached through [`tree`].
pub(crate) struct Tree {
    pids: PidAllocator,
    numbers: BTreeMap<Pid, Number>,
    tasks: usize,
    forks: u64,
}

/// What one number stands for. It is free again when nothing is left.
#[derive(Default)]
pub(crate) struct Number {
    /// The thread with this number; a zombie's leader too.
    pub task: Option<Arc<Task>>,
    /// The process with this number, until it is reaped.
    pub node: Option<Node>,
    /// The processes of the group with this number.
    pub group: BTreeSet<Pid>,
    /// The processes of the session with this number.
    pub session: BTreeSet<Pid>,
}

/// A process's place in the family.
pub(crate) struct Node {
    pub process: Arc<Process>,
    /// 0 for init.
    pub parent: Pid,
    /// The parent's thread that made it (`__WNOTHREAD`, parent death signals).
    pub parent_thread: Pid,
    pub children: BTreeSet<Pid>,
    /// Threads that have not exited.
    pub threads: BTreeMap<Pid, Arc<Task>>,
    pub group: Pid,
    pub session: Arc<Session>,
    /// The signal its parent gets at its end; 0 for none.
    pub exit_signal: i32,
    /// Set when its last thread has gone.
    pub zombie: Option<ExitStatus>,
    /// What the leader exited with, from its exit on.
    pub leader_status: Option<ExitStatus>,
}

/// What reaping takes out of the table, to be dropped with no lock held.
#[must_use]
pub(crate) struct Reaped {
    _task: Option<Arc<Task>>,
    _process: Arc<Process>,
}

/// The table, locked.
pub(crate) fn tree() -> SpinLockGuard<'static, Tree> {
    TREE.lock()
}

impl Tree {
    const fn new() -> Self {
        Self {
            pids: PidAllocator::new(),
            numbers: BTreeMap::new(),
            tasks: 0,
            forks: 0,
        }
    }

    /// Takes a free number. `EAGAIN` when there is none or there are too many tasks already.
    pub fn allocate(&mut self) -> Result<Pid> {
        if self.numbers.len() >= threads_max::get() {
            return Err(Errno::EAGAIN);
        }
        self.pids.allocate().ok_or(Errno::EAGAIN)
    }

    /// Takes exactly `pid`. `EEXIST` when it is in use.
    pub fn allocate_exact(&mut self, pid: Pid) -> Result<Pid> {
        if self.pids.allocate_exact(pid) {
            Ok(pid)
        } else {
            Err(Errno::EEXIST)
        }
    }

    /// Gives a number back that never got a task.
    pub fn cancel(&mut self, pid: Pid) {
        self.release_if_unused(pid);
    }

    pub fn node(&self, pid: Pid) -> Option<&Node> {
        self.numbers.get(&pid)?.node.as_ref()
    }

    /// The place of this very process, not of a later one with its number.
    pub fn node_of(&self, process: &Process) -> Option<&Node> {
        self.node(process.pid())
            .filter(|node| core::ptr::eq(&*node.process, process))
    }

    pub fn node_mut(&mut self, pid: Pid) -> Option<&mut Node> {
        self.numbers.get_mut(&pid)?.node.as_mut()
    }

    pub fn task(&self, tid: Pid) -> Option<&Arc<Task>> {
        self.numbers.get(&tid)?.task.as_ref()
    }

    /// The members of a group; empty when there is no such group.
    pub fn group(&self, group: Pid) -> impl Iterator<Item = &Node> {
        self.numbers
            .get(&group)
            .into_iter()
            .flat_map(|number| &number.group)
            .filter_map(|&pid| self.node(pid))
    }

    /// The members of a session.
    pub fn session(&self, session: Pid) -> impl Iterator<Item = &Node> {
        self.numbers
            .get(&session)
            .into_iter()
            .flat_map(|number| &number.session)
            .filter_map(|&pid| self.node(pid))
    }

    /// Every process, zombies included, by number.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.numbers.values().filter_map(|number| number.node.as_ref())
    }

    /// The children of a process.
    pub fn children(&self, pid: Pid) -> impl Iterator<Item = &Node> {
        self.node(pid)
            .into_iter()
            .flat_map(|node| &node.children)
            .filter_map(|&child| self.node(child))
    }

    /// Enters a new process with its first thread.
    pub fn insert_process(&mut self, leader: &Arc<Task>, node: Node) {
        let pid = node.process.pid();
        self.numbers.entry(node.group).or_default().group.insert(pid);
        self.numbers.entry(node.session.id()).or_default().session.insert(pid);
        if let Some(parent) = self.node_mut(node.parent) {
            parent.children.insert(pid);
        }
        self.numbers.entry(pid).or_default().node = Some(node);
        self.insert_thread(leader);
    }

    /// Enters a thread of a process that is in the table.
    pub fn insert_thread(&mut self, task: &Arc<Task>) {
        let tid = task.tid();
        if let Some(node) = self.node_mut(task.process().pid()) {
            node.threads.insert(tid, task.clone());
        }
        self.numbers.entry(tid).or_default().task = Some(task.clone());
        self.tasks += 1;
        self.forks += 1;
    }

    /// A thread has exited: off its process's list. A leader keeps its number until the process is reaped, another thread's number is free;
    /// its task is returned.
    #[must_use]
    pub fn remove_thread(&mut self, task: &Arc<Task>) -> [Option<Arc<Task>>; 2] {
        let tid = task.tid();
        let pid = task.process().pid();
        let mut removed = None;
        if let Some(node) = self.node_mut(pid) {
            removed = node.threads.remove(&tid);
        }
        if removed.is_some() {
            self.tasks -= 1;
        }
        let mut number = None;
        if tid != pid {
            number = self.numbers.get_mut(&tid).and_then(|number| number.task.take());
            self.release_if_unused(tid);
        }
        [removed, number]
    }

    /// `task`, which is not the leader, becomes it: exec in a thread. The old leader has exited. Returns the old leader's task.
    #[must_use]
    pub fn take_over_leader(&mut self, task: &Arc<Task>) -> Option<Arc<Task>> {
        let old = task.tid();
        let pid = task.process().pid();
        if let Some(node) = self.node_mut(pid) {
            node.threads.remove(&old);
            node.threads.insert(pid, task.clone());
            node.leader_status = None;
            // Children made by this thread stay its own.
        }
        let children: Vec<Pid> = self
            .children(pid)
            .filter(|child| child.parent_thread == old)
            .map(|child| child.process.pid())
            .collect();
        for child in children {
            if let Some(child) = self.node_mut(child) {
                child.parent_thread = pid;
            }
        }
        if let Some(number) = self.numbers.get_mut(&old) {
            number.task = None;
        }
        task.set_tid(pid);
        let leader = self.numbers.entry(pid).or_default().task.replace(task.clone());
        self.release_if_unused(old);
        leader
    }

    /// Takes a zombie out of the table.
    pub fn reap(&mut self, pid: Pid) -> Option<Reaped> {
        let number = self.numbers.get_mut(&pid)?;
        let node = number.node.take()?;
        let task = number.task.take();
        if let Some(parent) = self.node_mut(node.parent) {
            parent.children.remove(&pid);
        }
        self.leave(pid, node.group, |number| &mut number.group);
        self.leave(pid, node.session.id(), |number| &mut number.session);
        self.release_if_unused(pid);
        Some(Reaped {
            _task: task,
            _process: node.process,
        })
    }

    /// Gives `child` another parent.
    pub fn set_parent(&mut self, child: Pid, parent: Pid, parent_thread: Pid) {
        let Some(node) = self.node_mut(child) else { return };
        let old = core::mem::replace(&mut node.parent, parent);
        node.parent_thread = parent_thread;
        if let Some(old) = self.node_mut(old) {
            old.children.remove(&child);
        }
        if let Some(parent) = self.node_mut(parent) {
            parent.children.insert(child);
        }
    }

    /// Moves a process into a group.
    pub fn set_group(&mut self, pid: Pid, group: Pid) {
        let Some(node) = self.node_mut(pid) else { return };
        let old = core::mem::replace(&mut node.group, group);
        if old != group {
            self.numbers.entry(group).or_default().group.insert(pid);
            self.leave(pid, old, |number| &mut number.group);
        }
    }

    /// Moves a process into a session.
    pub fn set_session(&mut self, pid: Pid, session: Arc<Session>) -> Option<Arc<Session>> {
        let node = self.node_mut(pid)?;
        let id = session.id();
        let old = core::mem::replace(&mut node.session, session);
        if old.id() != id {
            self.numbers.entry(id).or_default().session.insert(pid);
            self.leave(pid, old.id(), |number| &mut number.session);
        }
        Some(old)
    }

    fn leave(&mut self, pid: Pid, id: Pid, members: impl Fn(&mut Number) -> &mut BTreeSet<Pid>) {
        if let Some(number) = self.numbers.get_mut(&id) {
            members(number).remove(&pid);
        }
        self.release_if_unused(id);
    }

    fn release_if_unused(&mut self, pid: Pid) {
        let unused = self.numbers.get(&pid).is_none_or(|number| {
            number.task.is_none() && number.node.is_none() && number.group.is_empty() && number.session.is_empty()
        });
        if unused {
            self.numbers.remove(&pid);
            self.pids.free(pid);
        }
    }
}

/// The thread with this number, dead leaders of zombies included.
pub fn task(tid: Pid) -> Option<Arc<Task>> {
    tree().task(tid).cloned()
}

/// The process with this number, zombies included.
pub fn process(pid: Pid) -> Option<Arc<Process>> {
    tree().node(pid).map(|node| node.process.clone())
}

/// Every process, zombies included, by number.
pub fn processes() -> Vec<Arc<Process>> {
    tree().nodes().map(|node| node.process.clone()).collect()
}

/// The processes of a group.
pub fn group(group: Pid) -> Vec<Arc<Process>> {
    tree().group(group).map(|node| node.process.clone()).collect()
}

/// The processes of a session.
pub fn session(session: Pid) -> Vec<Arc<Process>> {
    tree().session(session).map(|node| node.process.clone()).collect()
}

/// Children of a process; none once it is reaped.
pub(crate) fn children(process: &Process) -> Vec<Arc<Process>> {
    let tree = tree();
    match tree.node_of(process) {
        Some(_) => tree.children(process.pid()).map(|node| node.process.clone()).collect(),
        None => Vec::new(),
    }
}

/// How many tasks there are.
pub fn task_count() -> usize {
    tree().tasks
}

/// How many tasks have been made since boot (`/proc/stat`, `processes`).
pub fn fork_count() -> u64 {
    tree().forks
}

/// The number given out last.
pub fn last_pid() -> Pid {
    tree().pids.last()
}

/// Reads something of a process's place in the family; none once it is reaped. `f` takes no locks.
pub(crate) fn with_node<R>(process: &Process, f: impl FnOnce(&Node) -> R) -> Option<R> {
    tree().node_of(process).map(f)
}

/// A thread that stands for the process: the leader, even dead, else any.
pub(crate) fn representative(process: &Process) -> Option<Arc<Task>> {
    let tree = tree();
    let node = tree.node_of(process)?;
    let pid = process.pid();
    let live = node.threads.get(&pid).or_else(|| node.threads.values().next());
    live.or_else(|| tree.task(pid)).cloned()
}
