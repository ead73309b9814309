//! Tasks and processes: who runs.
//!
//! A [`Task`] is a thread as the guest sees it: one kernel thread (`arch_um::thread`) and one user thread (`skas::UserThread`). A [`Process`]
//! is a thread group: what `getpid`, `wait` and signals from outside speak of.
//!
//! * [`cred`]: identities and capabilities.  * `clone`, `exit`, `wait`: life and death.  * `jobctl`: sessions and process groups.
//! * `run`: the loop that runs user code and answers its exits.

pub mod cred;

use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;

use arch_um::sync::{SpinLock, order};
use arch_um::thread::ThreadRef;
use skas::AddressSpace;

pub use cred::{Capabilities, Cred};

use crate::mm::Mm;
use crate::vfs::fd_table::FdTable;
use crate::vfs::fs_context::FsContext;

/// A process, thread, process group or session number; positive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub i32);

/// A guest thread.
pub struct Task {
    tid: Pid,
    process: Arc<Process>,
    thread: spin::Once<ThreadRef>,
    resources: SpinLock<Resources>,
}

/// What a task may share with others (`clone(2)`), each replaceable (`execve`, `unshare`, `setuid`).
struct Resources {
    mm: Arc<Mm>,
    files: Arc<FdTable>,
    fs: Arc<FsContext>,
    cred: Arc<Cred>,
}

impl Task {
    /// The thread id.
    pub fn tid(&self) -> Pid {
        self.tid
    }

    /// The thread group.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// The kernel thread that carries it.
    pub fn thread(&self) -> Option<&ThreadRef> {
        self.thread.get()
    }

    /// Its memory map.
    pub fn mm(&self) -> Arc<Mm> {
        self.resources.lock().mm.clone()
    }

    /// Its memory.
    pub fn space(&self) -> Arc<AddressSpace> {
        self.resources.lock().mm.space().clone()
    }

    /// Its descriptors.
    pub fn files(&self) -> Arc<FdTable> {
        self.resources.lock().files.clone()
    }

    /// Its root, working directory and umask.
    pub fn fs(&self) -> Arc<FsContext> {
        self.resources.lock().fs.clone()
    }

    /// Its identity.
    pub fn cred(&self) -> Arc<Cred> {
        self.resources.lock().cred.clone()
    }

    /// Replaces its identity (`setuid(2)`, `execve(2)`).
    pub fn set_cred(&self, cred: Arc<Cred>) {
        self.resources.lock().cred = cred;
    }
}

/// A thread group.
pub struct Process {
    pid: Pid,
    state: SpinLock<ProcessState>,
}

/// What changes in a process's life.
struct ProcessState {
    parent: Weak<Process>,
    children: Vec<Arc<Process>>,
    threads: BTreeMap<Pid, Weak<Task>>,
    group: Pid,
    session: Pid,
}

impl Process {
    /// The process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// The process group.
    pub fn group(&self) -> Pid {
        self.state.lock().group
    }

    /// The session.
    pub fn session(&self) -> Pid {
        self.state.lock().session
    }
}

/// The task that runs on this kernel thread.
///
/// # Panics
/// On a kernel thread that carries no task: syscall code only runs on tasks.
pub fn current() -> Arc<Task> {
    try_current().expect("system call code runs on a task's kernel thread")
}

/// The task that runs on this kernel thread, if it carries one.
pub fn try_current() -> Option<Arc<Task>> {
    let thread = arch_um::thread::try_current()?;
    thread.local()?.clone().downcast().ok()
}
