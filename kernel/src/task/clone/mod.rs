//! New tasks: `fork(2)`, `vfork(2)`, `clone(2)`, `clone3(2)`.

mod request;

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use arch_um::thread;
use skas::UserThread;

use super::process::ProcessAttributes;
use super::rlimit::Resource;
use super::table::{self, Node};
use super::{Attributes, Capabilities, Parts, Pid, Process, Task, Vfork, pidfd, run};
use crate::mm::Mm;
use crate::signal::action::Actions;
use crate::signal::state::{AltStack, TaskSignals};
use crate::syscall::Context;
use crate::user::UserAddr;
use crate::vfs::fd_table::Fd;
use crate::{Errno, Result};

pub(crate) use request::NAMESPACES;
use request::Request;
pub use request::{CloneArgs, CloneFlags, sys_clone, sys_clone3, sys_fork, sys_vfork};

/// A number that goes back unless a task gets it.
struct PidGuard(Option<Pid>);

impl PidGuard {
    fn allocate(wanted: Option<Pid>) -> Result<Self> {
        let mut tree = table::tree();
        let pid = match wanted {
            Some(pid) => tree.allocate_exact(pid)?,
            None => tree.allocate()?,
        };
        Ok(Self(Some(pid)))
    }

    fn pid(&self) -> Pid {
        self.0.unwrap_or_default()
    }
}

impl Drop for PidGuard {
    fn drop(&mut self) {
        if let Some(pid) = self.0 {
            table::tree().cancel(pid);
        }
    }
}

fn clone(cx: &Context, request: Request) -> Result<usize> {
    request.check(cx)?;
    check_process_limit(cx.task())?;
    let mut number = PidGuard::allocate(request.set_tid)?;
    let tid = number.pid();
    let vfork = request
        .flags
        .contains(CloneFlags::VFORK)
        .then(|| Arc::new(Vfork::default()));
    let (task, mut user) = build(cx, &request, tid, vfork.clone())?;
    registers(&mut user, &request);
    let pidfd = if request.flags.contains(CloneFlags::PIDFD) {
        Some(give_pidfd(cx, &task, request.pidfd)?)
    } else {
        None
    };
    if request.flags.contains(CloneFlags::PARENT_SETTID) {
        // A fault goes unnoticed, as on Linux.
        let _ = UserAddr(request.parent_tid).write(&tid.0.to_le_bytes());
    }
    let published = publish(cx, &request, &task);
    let started = published.and_then(|()| {
        // The number is the task's from here on.
        number.0 = None;
        start(&task, user, &request).inspect_err(|_| withdraw(&task))
    });
    if let Err(error) = started {
        if let Some(fd) = pidfd {
            pidfd::close(cx, fd);
        }
        return Err(error);
    }
    if let Some(vfork) = vfork {
        vfork.wait(cx.task());
    }
    Ok(tid.0 as usize)
}

/// `RLIMIT_NPROC`: `EAGAIN` for a user who has enough.
fn check_process_limit(task: &Task) -> Result<()> {
    let cred = task.cred();
    let exempt = cred.uid == 0 || cred.capable(Capabilities::SYS_RESOURCE) || cred.capable(Capabilities::SYS_ADMIN);
    let full = task.user().tasks() as u64 >= task.process().limit(Resource::NPROC);
    if full && !exempt { Err(Errno::EAGAIN) } else { Ok(()) }
}

/// Makes the task and its user thread; nobody sees them yet.
fn build(cx: &Context, request: &Request, tid: Pid, vfork: Option<Arc<Vfork>>) -> Result<(Arc<Task>, UserThread)> {
    let parent = cx.task();
    let flags = request.flags;
    let files = if flags.contains(CloneFlags::FILES) {
        parent.files()
    } else {
        parent.files().fork()
    };
    let fs = if flags.contains(CloneFlags::FS) {
        parent.fs()
    } else {
        parent.fs().fork()
    };
    let (mm, user) = if flags.contains(CloneFlags::VM) {
        (parent.mm(), cx.user().spawn()?)
    } else {
        Mm::fork(&parent.mm(), &mut cx.user())?
    };
    let parts = Parts {
        mm,
        files,
        fs,
        cred: parent.cred(),
    };
    let process = if flags.contains(CloneFlags::THREAD) {
        parent.process().clone()
    } else {
        new_process(parent, flags, tid)
    };
    let inherited = parent.with_attributes(|attributes| attributes.clone());
    let attributes = Attributes {
        clear_child_tid: if flags.contains(CloneFlags::CHILD_CLEARTID) {
            request.child_tid
        } else {
            0
        },
        robust_list: (0, 0),
        death_signal: 0,
        vfork,
        default_timer_slack: inherited.timer_slack,
        nice: inherited.sched.inherited_nice(inherited.nice),
        sched: inherited.sched.inherited(),
        ..inherited
    };
    let own_stack = flags.contains(CloneFlags::VM) && !flags.contains(CloneFlags::VFORK);
    let signals = {
        let parent = parent.signals.lock();
        let altstack = if own_stack {
            AltStack::default()
        } else {
            parent.altstack
        };
        TaskSignals {
            blocked: parent.blocked,
            altstack,
            ..TaskSignals::default()
        }
    };
    Ok((Task::new(tid, process, parts, parent.comm(), attributes, signals), user))
}

fn new_process(parent: &Task, flags: CloneFlags, pid: Pid) -> Arc<Process> {
    let parent_actions = parent.process().actions();
    let actions = if flags.contains(CloneFlags::SIGHAND) {
        parent_actions
    } else {
        let own = parent_actions.duplicate();
        if flags.contains(CloneFlags::CLEAR_SIGHAND) {
            own.reset_handlers();
        }
        Arc::<Actions>::new(own)
    };
    let limits = *parent.process().limits().lock();
    let inherited = parent.process().with_attributes(|attributes| attributes.clone());
    let attributes = ProcessAttributes {
        is_subreaper: false,
        has_subreaper: inherited.has_subreaper || inherited.is_subreaper,
        execed: false,
        ..inherited
    };
    Process::new(pid, actions, limits, attributes)
}

fn registers(user: &mut UserThread, request: &Request) {
    let regs = user.regs_mut();
    regs.rax = 0;
    if request.stack != 0 {
        regs.rsp = request.stack;
    }
    if request.flags.contains(CloneFlags::SETTLS) {
        regs.fs_base = request.tls;
    }
}

fn give_pidfd(cx: &Context, task: &Arc<Task>, addr: u64) -> Result<Fd> {
    let fd = pidfd::install(cx, task.process())?;
    UserAddr(addr)
        .write(&fd.0.to_le_bytes())
        .inspect_err(|_| pidfd::close(cx, fd))?;
    Ok(fd)
}

/// Enters the task into the table, unless a signal came first: then the call is made again after it (so that a signal to a group reaches all
/// its members, or none of them is new).
fn publish(cx: &Context, request: &Request, task: &Arc<Task>) -> Result<()> {
    let parent = cx.task();
    let mut tree = table::tree();
    if parent.signal_pending() {
        return Err(Errno::RestartNoIntr);
    }
    if request.flags.contains(CloneFlags::THREAD) {
        tree.insert_thread(task);
        task.process().count_thread();
        return Ok(());
    }
    let own = tree.node(parent.process().pid()).ok_or(Errno::ESRCH)?;
    let sibling = request.flags.contains(CloneFlags::PARENT);
    let node = Node {
        process: task.process().clone(),
        parent: if sibling { own.parent } else { own.process.pid() },
        parent_thread: if sibling { own.parent_thread } else { parent.tid() },
        children: BTreeSet::new(),
        threads: BTreeMap::new(),
        group: own.group,
        session: own.session.clone(),
        exit_signal: if sibling { own.exit_signal } else { request.exit_signal },
        zombie: None,
        leader_status: None,
    };
    tree.insert_process(task, node);
    task.process().count_thread();
    Ok(())
}

/// Takes a task out of the table again that could not be started.
fn withdraw(task: &Arc<Task>) {
    task.process().uncount_thread();
    let mut tree = table::tree();
    let removed = tree.remove_thread(task);
    let reaped = if task.is_leader() { tree.reap(task.tid()) } else { None };
    drop(tree);
    drop(removed);
    drop(reaped);
}

/// Gives the task a kernel thread that runs it.
fn start(task: &Arc<Task>, user: UserThread, request: &Request) -> Result<()> {
    let child_tid = request
        .flags
        .contains(CloneFlags::CHILD_SETTID)
        .then_some(request.child_tid);
    let runner = task.clone();
    let main = move || {
        runner.attach();
        if let Some(addr) = child_tid {
            let _ = UserAddr(addr).write(&runner.tid().0.to_le_bytes());
        }
        run::run(Context::new(runner, user));
    };
    let nice = task.with_attributes(|attributes| attributes.sched.effective_nice(attributes.nice));
    let thread = thread::create(&task.comm().to_text(), Box::new(main))?;
    if nice != 0 {
        thread.set_nice(nice);
    }
    task.set_thread(&thread);
    if task.is_leader() {
        crate::time::cpu_limit::watch(task.process());
    }
    if request.flags.contains(CloneFlags::VFORK) {
        thread.start_sync();
    } else {
        thread.start();
    }
    Ok(())
}
