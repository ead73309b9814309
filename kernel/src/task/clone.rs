//! New tasks: `fork(2)`, `vfork(2)`, `clone(2)`, `clone3(2)`.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;

use arch_um::thread;
use bitflags::bitflags;
use skas::UserThread;

use super::pid::PID_MAX;
use super::process::ProcessAttributes;
use super::rlimit::Resource;
use super::table::{self, Node};
use super::{Attributes, Capabilities, Parts, Pid, Process, Task, Vfork, pidfd, run};
use crate::abi::Abi;
use crate::mm::Mm;
use crate::signal::action::Actions;
use crate::signal::state::{AltStack, TaskSignals};
use crate::syscall::Context;
use crate::user::{UserAddr, UserPtr};
use crate::vfs::fd_table::Fd;
use crate::{Errno, Result, abi_struct};

bitflags! {
    /// `clone(2)`'s flags.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct CloneFlags: u64 {
        /// `CLONE_VM`.
        const VM = 0x100;
        /// `CLONE_FS`.
        const FS = 0x200;
        /// `CLONE_FILES`.
        const FILES = 0x400;
        /// `CLONE_SIGHAND`.
        const SIGHAND = 0x800;
        /// `CLONE_PIDFD`.
        const PIDFD = 0x1000;
        /// `CLONE_PTRACE`.
        const PTRACE = 0x2000;
        /// `CLONE_VFORK`.
        const VFORK = 0x4000;
        /// `CLONE_PARENT`.
        const PARENT = 0x8000;
        /// `CLONE_THREAD`.
        const THREAD = 0x1_0000;
        /// `CLONE_NEWNS`.
        const NEWNS = 0x2_0000;
        /// `CLONE_SYSVSEM`.
        const SYSVSEM = 0x4_0000;
        /// `CLONE_SETTLS`.
        const SETTLS = 0x8_0000;
        /// `CLONE_PARENT_SETTID`.
        const PARENT_SETTID = 0x10_0000;
        /// `CLONE_CHILD_CLEARTID`.
        const CHILD_CLEARTID = 0x20_0000;
        /// `CLONE_DETACHED`.
        const DETACHED = 0x40_0000;
        /// `CLONE_UNTRACED`.
        const UNTRACED = 0x80_0000;
        /// `CLONE_CHILD_SETTID`.
        const CHILD_SETTID = 0x100_0000;
        /// `CLONE_NEWCGROUP`.
        const NEWCGROUP = 0x200_0000;
        /// `CLONE_NEWUTS`.
        const NEWUTS = 0x400_0000;
        /// `CLONE_NEWIPC`.
        const NEWIPC = 0x800_0000;
        /// `CLONE_NEWUSER`.
        const NEWUSER = 0x1000_0000;
        /// `CLONE_NEWPID`.
        const NEWPID = 0x2000_0000;
        /// `CLONE_NEWNET`.
        const NEWNET = 0x4000_0000;
        /// `CLONE_IO`.
        const IO = 0x8000_0000;
        /// `CLONE_CLEAR_SIGHAND`.
        const CLEAR_SIGHAND = 1 << 32;
        /// `CLONE_INTO_CGROUP`.
        const INTO_CGROUP = 1 << 33;
        /// `CLONE_NEWTIME`.
        const NEWTIME = 0x80;
    }
}

/// The low byte of `clone(2)`'s flags: the exit signal.
const CSIGNAL: u64 = 0xff;
/// What makes a namespace: none is configured in.
pub(crate) const NAMESPACES: CloneFlags = CloneFlags::NEWNS
    .union(CloneFlags::NEWCGROUP)
    .union(CloneFlags::NEWUTS)
    .union(CloneFlags::NEWIPC)
    .union(CloneFlags::NEWUSER)
    .union(CloneFlags::NEWPID)
    .union(CloneFlags::NEWNET)
    .union(CloneFlags::NEWTIME);

/// What a new task shall be.
struct Request {
    flags: CloneFlags,
    /// 0 for none.
    exit_signal: i32,
    /// The stack pointer; 0 keeps the parent's.
    stack: u64,
    tls: u64,
    parent_tid: u64,
    child_tid: u64,
    pidfd: u64,
    /// The number it must have.
    set_tid: Option<Pid>,
}

abi_struct! {
    /// `struct clone_args`.
    pub struct CloneArgs {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }
}

/// The first published size of `struct clone_args`.
const CLONE_ARGS_SIZE_VER0: usize = 64;
/// Nested pid namespaces at most: the limit on `set_tid_size`.
const MAX_PID_NS_LEVEL: u64 = 32;

/// `fork(2)`.
pub fn sys_fork(cx: &Context) -> Result<usize> {
    clone(cx, Request::plain(CloneFlags::empty()))
}

/// `vfork(2)`.
pub fn sys_vfork(cx: &Context) -> Result<usize> {
    clone(cx, Request::plain(CloneFlags::VM | CloneFlags::VFORK))
}

/// `clone(2)`, x86-64's order of arguments.
pub fn sys_clone(cx: &Context, flags: u64, stack: u64, parent_tid: u64, child_tid: u64, tls: u64) -> Result<usize> {
    // The register's upper half does not count, and the low byte is the exit signal.
    let bits = flags & u64::from(u32::MAX) & !CSIGNAL;
    let flags_typed = CloneFlags::from_bits_retain(bits);
    if flags_typed.contains(CloneFlags::PIDFD | CloneFlags::PARENT_SETTID) {
        // Both results would go to the same place.
        return Err(Errno::EINVAL);
    }
    let exit_signal = (flags & CSIGNAL) as i32;
    clone(
        cx,
        Request {
            flags: flags_typed,
            exit_signal,
            stack,
            tls,
            parent_tid,
            child_tid,
            pidfd: parent_tid,
            set_tid: None,
        },
    )
}

/// `clone3(2)`.
pub fn sys_clone3(cx: &Context, args: UserAddr, size: usize) -> Result<usize> {
    let args = read_args(args, size)?;
    let known = CloneFlags::all().bits() & !CloneFlags::DETACHED.bits();
    let flags = CloneFlags::from_bits_retain(args.flags);
    let thread_like = flags.intersects(CloneFlags::THREAD | CloneFlags::PARENT);
    let stack_is_odd = (args.stack == 0) != (args.stack_size == 0);
    if args.flags & !known != 0
        || args.exit_signal & !CSIGNAL != 0
        || args.exit_signal > 64
        || flags.contains(CloneFlags::SIGHAND | CloneFlags::CLEAR_SIGHAND)
        || thread_like && args.exit_signal != 0
        || stack_is_odd
        || args.set_tid_size > MAX_PID_NS_LEVEL
        || (args.set_tid == 0) != (args.set_tid_size == 0)
    {
        return Err(Errno::EINVAL);
    }
    if flags.contains(CloneFlags::INTO_CGROUP) {
        arch_um::stub!("clone3 into a control group");
        return Err(Errno::EINVAL);
    }
    if flags.contains(CloneFlags::PIDFD | CloneFlags::PARENT_SETTID) && args.pidfd == args.parent_tid {
        return Err(Errno::EINVAL);
    }
    let stack = args
        .stack
        .checked_add(args.stack_size)
        .filter(|&top| top <= skas::layout().task_size)
        .ok_or(Errno::EINVAL)?;
    let set_tid = wanted_tid(cx, &args)?;
    clone(
        cx,
        Request {
            flags,
            exit_signal: args.exit_signal as i32,
            stack,
            tls: args.tls,
            parent_tid: args.parent_tid,
            child_tid: args.child_tid,
            pidfd: args.pidfd,
            set_tid,
        },
    )
}

/// Reads a versioned struct: shorter is padded with zeros, longer must be zero beyond what is known (`E2BIG`).
fn read_args(addr: UserAddr, size: usize) -> Result<CloneArgs> {
    if size > 4096 {
        return Err(Errno::E2BIG);
    }
    if size < CLONE_ARGS_SIZE_VER0 {
        return Err(Errno::EINVAL);
    }
    let mut bytes = alloc::vec![0; size.max(CloneArgs::SIZE)];
    addr.read(&mut bytes[..size])?;
    if bytes[CloneArgs::SIZE..].iter().any(|&byte| byte != 0) {
        return Err(Errno::E2BIG);
    }
    Ok(CloneArgs::decode(&bytes[..CloneArgs::SIZE]))
}

/// The number that `set_tid` asks for. There is one pid namespace, so one number at most.
fn wanted_tid(cx: &Context, args: &CloneArgs) -> Result<Option<Pid>> {
    if args.set_tid_size == 0 {
        return Ok(None);
    }
    let tid: i32 = UserPtr::new(args.set_tid).read()?;
    if args.set_tid_size > 1 || tid <= 0 || tid >= PID_MAX {
        return Err(Errno::EINVAL);
    }
    let cred = cx.task().cred();
    if !cred.capable(Capabilities::SYS_ADMIN) && !cred.capable(Capabilities::CHECKPOINT_RESTORE) {
        return Err(Errno::EPERM);
    }
    Ok(Some(Pid(tid)))
}

impl Request {
    fn plain(flags: CloneFlags) -> Self {
        Self {
            flags,
            exit_signal: 17,
            stack: 0,
            tls: 0,
            parent_tid: 0,
            child_tid: 0,
            pidfd: 0,
            set_tid: None,
        }
    }

    /// Combinations that make no sense. `EINVAL`.
    fn check(&self, cx: &Context) -> Result<()> {
        let flags = self.flags;
        let has = |bits: CloneFlags| flags.contains(bits);
        let init_escapes = has(CloneFlags::PARENT) && cx.task().process().signals.lock().unkillable;
        if has(CloneFlags::THREAD) && !has(CloneFlags::SIGHAND)
            || has(CloneFlags::SIGHAND) && !has(CloneFlags::VM)
            || has(CloneFlags::PIDFD) && flags.intersects(CloneFlags::THREAD | CloneFlags::DETACHED)
            || init_escapes
            || self.exit_signal > 64
        {
            return Err(Errno::EINVAL);
        }
        if flags.intersects(NAMESPACES) {
            arch_um::stub!("namespaces");
            return Err(Errno::EINVAL);
        }
        Ok(())
    }
}

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
