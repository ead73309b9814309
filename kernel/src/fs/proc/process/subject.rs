//! [`Subject`]: whom an entry is about.
//!
//! An inode of proc keeps no process alive: it holds weak references and finds nobody (`ESRCH`) once the process is reaped, or the thread has
//! exited.

use alloc::sync::{Arc, Weak};

use crate::fs::pseudo::{Attributes, Body, Node};
use crate::task::process::Dumpable;
use crate::task::{self, Pid, Process, Task};
use crate::{Errno, Result};

/// A process or a thread, by reference that does not hold it.
#[derive(Clone)]
pub(super) struct Subject {
    process: Weak<Process>,
    /// The thread of a thread's directory; none for the process itself.
    thread: Option<Weak<Task>>,
    /// The number the directory is called by.
    pub id: Pid,
}

/// Whom it is about, found.
pub(super) struct Found {
    /// The process.
    pub process: Arc<Process>,
    /// The thread; for a process's directory its leader, dead or alive, or what stands for it.
    pub task: Arc<Task>,
    /// Whether the whole process is meant.
    pub scope: Scope,
}

/// What a directory is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    /// A process with all its threads.
    Process,
    /// One thread.
    Thread,
}

/// Room for the numbers of one directory's entries.
const INO_SHIFT: u32 = 20;

/// The inode number of a process's directory.
pub(super) fn dir_ino(pid: Pid) -> u64 {
    (pid.0 as u64) << 32
}

impl Subject {
    /// `process`, called `id`. None when it has no thread left to speak of.
    pub(super) fn process(process: &Arc<Process>, id: Pid) -> Option<Self> {
        process.any_thread()?;
        Some(Self {
            process: Arc::downgrade(process),
            thread: None,
            id,
        })
    }

    /// One thread.
    pub(super) fn thread(task: &Arc<Task>) -> Self {
        Self {
            process: Arc::downgrade(task.process()),
            thread: Some(Arc::downgrade(task)),
            id: task.tid(),
        }
    }

    /// What it is about.
    pub(super) fn scope(&self) -> Scope {
        if self.thread.is_some() {
            Scope::Thread
        } else {
            Scope::Process
        }
    }

    /// Finds it. `ESRCH` when it is gone.
    pub(super) fn find(&self) -> Result<Found> {
        let process = self.process.upgrade().ok_or(Errno::ESRCH)?;
        let task = match &self.thread {
            Some(task) => task.upgrade().filter(|task| !task.is_exited()),
            None => process.any_thread(),
        };
        let task = task.ok_or(Errno::ESRCH)?;
        Ok(Found {
            process,
            task,
            scope: self.scope(),
        })
    }

    /// Finds it for a caller that may look into it: `EACCES` otherwise.
    pub(super) fn find_for_access(&self) -> Result<Found> {
        let found = self.find()?;
        found.require_access()?;
        Ok(found)
    }

    /// A node of its directory. `index` tells its entries apart; numbers stay the same while the subject lives.
    pub(super) fn node(&self, index: u32, mode: u32, body: Body) -> Node {
        let area = match self.scope() {
            Scope::Process => 0,
            Scope::Thread => 1u64 << (INO_SHIFT + 8),
        };
        let ino = dir_ino(self.id) | area | u64::from(index);
        let attributes = self.attributes(mode);
        // The addresses stay taken while this node holds its weak references: another process with the same number differs in them. The owner
        // is part of it, so that a new owner makes a new inode.
        let address = match &self.thread {
            Some(task) => task.as_ptr() as usize,
            None => self.process.as_ptr() as usize,
        };
        let owner = (u64::from(attributes.uid) << 32 | u64::from(attributes.gid)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Node {
            ino,
            tag: (address ^ owner as usize).max(1),
            attributes,
            body,
        }
    }

    /// Mode and owner: the effective user's, root's for what is hidden.
    pub(super) fn attributes(&self, mode: u32) -> Attributes {
        let Ok(found) = self.find() else {
            return Attributes::root(mode);
        };
        let dumpable = found.process.with_attributes(|attributes| attributes.dumpable);
        let cred = found.task.cred();
        if mode == 0o555 || dumpable == Dumpable::User {
            Attributes {
                mode,
                uid: cred.euid,
                gid: cred.egid,
            }
        } else {
            Attributes::root(mode)
        }
    }
}

impl Found {
    /// `EACCES` unless the caller may look into the process.
    pub(super) fn require_access(&self) -> Result<()> {
        match task::try_current() {
            Some(caller) => task::ptrace::may_access(&caller, &self.task).map_err(|_| Errno::EACCES),
            None => Ok(()),
        }
    }

    /// Whether the caller may look into the process.
    pub(super) fn is_accessible(&self) -> bool {
        self.require_access().is_ok()
    }
}
