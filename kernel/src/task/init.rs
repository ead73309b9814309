//! The first process, and kernel threads.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use arch_um::exit;
use arch_um::thread::{self, ThreadRef};
use skas::{AddressSpace, UserThread};

use super::jobctl::Session;
use super::process::{Process, ProcessAttributes};
use super::rlimit::Limits;
use super::table::{self, INIT, Node};
use super::{Attributes, Comm, Cred, Parts, Pid, Task, run};
use crate::Result;
use crate::mm::Mm;
use crate::signal::Signal;
use crate::signal::action::Actions;
use crate::signal::state::TaskSignals;
use crate::syscall::Context;
use crate::vfs::fd_table::FdTable;
use crate::vfs::fs_context::FsContext;

/// What the first process starts with.
pub struct First {
    /// Its descriptors.
    pub files: Arc<FdTable>,
    /// Root, working directory and umask.
    pub fs: Arc<FsContext>,
    /// Its empty memory map and the user thread in it.
    pub memory: (Arc<Mm>, UserThread),
}

/// Starts process 1 on a kernel thread of its own. `boot` runs in it, with everything a system call has: it mounts, opens the console, and
/// ends with an exec. When it returns `Ok`, user code runs; its error is the end of process 1, and so a panic.
///
/// Init is in session and group 0, leads neither, and no signal without a handler does anything to it.
pub fn start(first: First, boot: impl FnOnce(&Context) -> Result<()> + Send + 'static) -> Result<()> {
    let pid = table::tree().allocate()?;
    debug_assert_eq!(pid, INIT, "init is the first process");
    let process = Process::new(
        pid,
        Arc::new(Actions::default()),
        Limits::initial(),
        ProcessAttributes::default(),
    );
    process.signals.lock().unkillable = true;
    let (mm, user) = first.memory;
    let parts = Parts {
        mm,
        files: first.files,
        fs: first.fs,
        cred: Cred::root(),
    };
    let attributes = Attributes {
        timer_slack: 50_000,
        default_timer_slack: 50_000,
        ..Attributes::default()
    };
    let task = Task::new(
        pid,
        process.clone(),
        parts,
        Comm::new(b"swapper/0"),
        attributes,
        TaskSignals::default(),
    );
    let node = Node {
        process: process.clone(),
        parent: Pid(0),
        parent_thread: Pid(0),
        children: BTreeSet::new(),
        threads: BTreeMap::new(),
        group: Pid(0),
        session: Session::new(Pid(0)),
        exit_signal: Signal::CHLD.number(),
        zombie: None,
        leader_status: None,
    };
    table::tree().insert_process(&task, node);
    process.count_thread();
    let runner = task.clone();
    let main = move || {
        runner.attach();
        let cx = Context::new(runner, user);
        match boot(&cx) {
            Ok(()) => run::run(cx),
            Err(error) => exit::kernel_panic(&alloc::format!("No working init found: {error}.")),
        }
    };
    let thread = thread::spawn("init", Box::new(main))?;
    task.set_thread(&thread);
    Ok(())
}

/// An empty address space with its user thread, for [`First`].
pub fn empty_memory() -> Result<(Arc<AddressSpace>, UserThread)> {
    UserThread::new()
}

/// Starts a kernel thread that is no task: it has no number, no memory, and takes no signals.
pub fn spawn_kernel_thread(name: &str, f: impl FnOnce() + Send + 'static) -> Result<ThreadRef> {
    thread::spawn(name, Box::new(f))
}
