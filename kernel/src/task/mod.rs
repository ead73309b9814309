//! Tasks and processes: who runs.
//!
//! A [`Task`] is a thread as the guest sees it: one kernel thread (`arch_um::thread`) and one user thread (`skas::UserThread`). A [`Process`]
//! is a thread group: what `getpid`, `wait` and signals from outside speak of.
//!
//! * [`table`]: the numbers, who descends from whom, groups and sessions.  * [`pid`]: which numbers are free.
//! * [`cred`], [`uids`], [`capability`], [`user`]: identities.  * [`clone`], [`exec`], [`exit`], [`wait`], [`status`]: life and death.
//! * [`jobctl`]: sessions and process groups.  * [`run`]: the loop that runs user code and answers its exits.
//! * [`rlimit`], [`prctl`], [`arch_prctl`], [`priority`], [`times`], [`ids`], [`robust`]: what hangs on a task and the calls over it.
//!
//! Lock order: the table's lock (`PROCESS_TREE`) is outer to everything here; then a process's limits and attributes (`PROCESS`), its signals
//! (`SIGHAND`, `SIGNAL_ACTIONS`, `TASK_SIGNALS`), a task's resources (`CRED`); the small rest are leaves.

pub mod arch_prctl;
pub mod capability;
pub mod clone;
pub mod cred;
pub mod exec;
pub mod exit;
pub mod ids;
pub mod init;
pub mod jobctl;
pub mod membarrier;
pub mod pid;
pub mod pidfd;
pub mod prctl;
pub mod priority;
pub mod process;
pub mod ptrace;
pub mod rlimit;
pub mod robust;
pub mod run;
pub mod status;
pub mod table;
pub mod threads_max;
pub mod times;
pub mod uids;
pub mod unshare;
pub mod user;
pub mod vm_access;
pub mod wait;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use arch_um::sync::{SpinLock, WaitQueue, order};
use arch_um::thread::{self, ThreadRef};
use arch_um::time::Instant;
use skas::AddressSpace;

pub use cred::{Capabilities, Cred};
pub use init::spawn_kernel_thread;
pub use process::Process;
pub use status::ExitStatus;

use crate::mm::Mm;
use crate::signal::state::TaskSignals;
use crate::sys::sched::Policy;
use crate::syscall::Context;
use crate::user::UserAddr;
use crate::vfs::fd_table::FdTable;
use crate::vfs::fs_context::FsContext;
use crate::{Errno, Result};
use times::Counters;
use user::TaskCharge;

/// A process, thread, process group or session number; positive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub i32);

/// Bytes of a task's name, without its NUL.
pub const COMM_LEN: usize = 15;

/// What `restart_syscall(2)` runs.
pub type Restart = Box<dyn FnOnce(&Context) -> Result<usize> + Send>;

/// A guest thread.
pub struct Task {
    tid: AtomicI32,
    process: Arc<Process>,
    thread: spin::Once<ThreadRef>,
    resources: SpinLock<Resources>,
    /// Mask and private queue; see `signal::state`.
    pub(crate) signals: SpinLock<TaskSignals>,
    /// There is something to do before user code goes on: `TIF_SIGPENDING`.
    notified: AtomicBool,
    /// A fatal signal is on its way: killable waits end.
    killed: AtomicBool,
    exited: AtomicBool,
    start: Instant,
    comm: SpinLock<Comm>,
    attributes: SpinLock<Attributes>,
    restart: SpinLock<Option<Restart>>,
    pub(crate) counters: Counters,
}

/// What a task may share with others (`clone(2)`), each replaceable (`execve`, `unshare`, `setuid`). None once the task has exited.
struct Resources {
    mm: Option<Arc<Mm>>,
    files: Option<Arc<FdTable>>,
    fs: Option<Arc<FsContext>>,
    cred: Arc<Cred>,
    charge: TaskCharge,
}

/// What a new task starts with.
pub struct Parts {
    /// Its memory.
    pub mm: Arc<Mm>,
    /// Its descriptors.
    pub files: Arc<FdTable>,
    /// Root, working directory, umask.
    pub fs: Arc<FsContext>,
    /// Its identity.
    pub cred: Arc<Cred>,
}

/// A task's name: at most 15 bytes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Comm {
    bytes: [u8; COMM_LEN],
    len: u8,
}

impl Comm {
    /// From a name, of which the first 15 bytes up to a NUL count.
    pub fn new(name: &[u8]) -> Self {
        let end = name
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(name.len())
            .min(COMM_LEN);
        let mut bytes = [0; COMM_LEN];
        bytes[..end].copy_from_slice(&name[..end]);
        Self { bytes, len: end as u8 }
    }

    /// The bytes of the name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// For logs.
    pub fn to_text(self) -> String {
        String::from_utf8_lossy(self.as_bytes()).into_owned()
    }
}

/// Small things that hang on a task.
#[derive(Clone, Default)]
pub struct Attributes {
    /// Zeroed, and its futex woken, when the task goes (`set_tid_address(2)`).
    pub clear_child_tid: u64,
    /// Head of the list of robust futexes and its length as the guest gave it (`set_robust_list(2)`).
    pub robust_list: (u64, usize),
    /// Signal on the death of the parent thread; 0 for none.
    pub death_signal: i32,
    /// `personality(2)`.
    pub personality: u32,
    /// `PR_SET_TIMERSLACK`, ns; 0 stands for the default.
    pub timer_slack: u64,
    /// The slack that `PR_SET_TIMERSLACK` 0 goes back to.
    pub default_timer_slack: u64,
    /// Told when this vfork child has its own memory or is gone.
    pub vfork: Option<Arc<Vfork>>,
    /// `PR_SET_TSC`, `PR_MCE_KILL` and other settings that are only remembered.
    pub mce_kill: u32,
    /// Nice value that new tasks inherit, and the one the scheduler has.
    pub nice: i32,
    /// `ioprio_set(2)`.
    pub ioprio: u32,
    /// `sched_setscheduler(2)`.
    pub sched: Policy,
}

/// What a `vfork` parent waits for.
#[derive(Default)]
pub struct Vfork {
    done: AtomicBool,
    queue: WaitQueue,
}

impl Vfork {
    /// The child no longer uses its parent's memory.
    pub fn complete(&self) {
        self.done.store(true, Ordering::SeqCst);
        // Either the child ends now, or the parent soon waits for it: waking another CPU is rarely worth it.
        self.queue.wake_sync(usize::MAX, 0);
    }

    /// Sleeps until [`complete`](Self::complete) or death.
    pub fn wait(&self, task: &Task) {
        let _ = task.wait_killable(&self.queue, || self.done.load(Ordering::SeqCst).then_some(()));
    }
}

/// What hangs on the kernel thread of a task. Weak, because the task holds its kernel thread.
struct Carried(Weak<Task>);

impl Task {
    /// A task of `process` that does not run yet. Its signal mask is `signals`.
    pub(crate) fn new(
        tid: Pid,
        process: Arc<Process>,
        parts: Parts,
        comm: Comm,
        attributes: Attributes,
        signals: TaskSignals,
    ) -> Arc<Self> {
        let charge = TaskCharge::new(parts.cred.uid);
        Arc::new(Self {
            tid: AtomicI32::new(tid.0),
            process,
            thread: spin::Once::new(),
            resources: SpinLock::new(
                &order::CRED,
                Resources {
                    mm: Some(parts.mm),
                    files: Some(parts.files),
                    fs: Some(parts.fs),
                    cred: parts.cred,
                    charge,
                },
            ),
            signals: SpinLock::new(&order::TASK_SIGNALS, signals),
            notified: AtomicBool::new(false),
            killed: AtomicBool::new(false),
            exited: AtomicBool::new(false),
            start: Instant::now(),
            comm: SpinLock::new(&order::LEAF, comm),
            attributes: SpinLock::new(&order::LEAF, attributes),
            restart: SpinLock::new(&order::LEAF, None),
            counters: Counters::default(),
        })
    }

    /// Makes the calling kernel thread this task's. Called once, first of all.
    pub(crate) fn attach(self: &Arc<Self>) {
        let thread = thread::current();
        // A fresh kernel thread has nothing hung on it yet.
        let _ = thread.set_local(Arc::new(Carried(Arc::downgrade(self))));
        self.set_thread(&thread);
        if self.notified.load(Ordering::SeqCst) {
            thread.interrupt();
        }
    }

    /// The kernel thread that will run it (from the creator, or itself: who comes first).
    pub(crate) fn set_thread(&self, thread: &ThreadRef) {
        self.thread.call_once(|| thread.clone());
    }

    /// The thread id.
    pub fn tid(&self) -> Pid {
        Pid(self.tid.load(Ordering::Relaxed))
    }

    /// exec in a thread takes over the leader's number.
    pub(crate) fn set_tid(&self, tid: Pid) {
        self.tid.store(tid.0, Ordering::Relaxed);
    }

    /// The thread group.
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// Whether its number is the process's.
    pub fn is_leader(&self) -> bool {
        self.tid() == self.process.pid()
    }

    /// The kernel thread that carries it.
    pub fn thread(&self) -> Option<&ThreadRef> {
        self.thread.get()
    }

    /// When it was made.
    pub fn start_time(&self) -> Instant {
        self.start
    }

    /// Its memory map.
    ///
    /// # Panics
    /// For a task that has exited: ask for others with [`try_mm`](Self::try_mm).
    pub fn mm(&self) -> Arc<Mm> {
        self.try_mm().expect("a running task has memory")
    }

    /// Its memory map, none once it has exited.
    pub fn try_mm(&self) -> Option<Arc<Mm>> {
        self.resources.lock().mm.clone()
    }

    /// Puts `mm` in the place of its memory map, which is returned (`execve(2)`).
    pub fn set_mm(&self, mm: Arc<Mm>) -> Option<Arc<Mm>> {
        self.resources.lock().mm.replace(mm)
    }

    /// Its memory. Only for the current task, as [`mm`](Self::mm).
    pub fn space(&self) -> Arc<AddressSpace> {
        self.mm().space().clone()
    }

    /// Its descriptors.
    ///
    /// # Panics
    /// For a task that has exited: ask for others with [`try_files`](Self::try_files).
    pub fn files(&self) -> Arc<FdTable> {
        self.try_files().expect("a running task has descriptors")
    }

    /// Its descriptors, none once it has exited.
    pub fn try_files(&self) -> Option<Arc<FdTable>> {
        self.resources.lock().files.clone()
    }

    /// Replaces its descriptors (`unshare(2)`, `execve(2)`); returns the old ones, to be dropped with no lock held.
    pub fn set_files(&self, files: Arc<FdTable>) -> Option<Arc<FdTable>> {
        self.resources.lock().files.replace(files)
    }

    /// Its root, working directory and umask.
    ///
    /// # Panics
    /// For a task that has exited: ask for others with [`try_fs`](Self::try_fs).
    pub fn fs(&self) -> Arc<FsContext> {
        self.try_fs().expect("a running task has a root")
    }

    /// Its root, working directory and umask, none once it has exited.
    pub fn try_fs(&self) -> Option<Arc<FsContext>> {
        self.resources.lock().fs.clone()
    }

    /// Replaces root, working directory and umask (`unshare(2)`, `execve(2)`).
    pub fn set_fs(&self, fs: Arc<FsContext>) -> Option<Arc<FsContext>> {
        self.resources.lock().fs.replace(fs)
    }

    /// Its identity.
    pub fn cred(&self) -> Arc<Cred> {
        self.resources.lock().cred.clone()
    }

    /// Replaces its identity (`setuid(2)`, `execve(2)`), and counts it for the real user it now is.
    pub fn set_cred(&self, cred: Arc<Cred>) {
        let mut resources = self.resources.lock();
        let charge = (resources.charge.user().uid() != cred.uid).then(|| TaskCharge::new(cred.uid));
        let old = core::mem::replace(&mut resources.cred, cred);
        let old_charge = charge.map(|charge| core::mem::replace(&mut resources.charge, charge));
        drop(resources);
        drop((old, old_charge));
    }

    /// The counters of its real user.
    pub fn user(&self) -> Arc<user::User> {
        self.resources.lock().charge.user().clone()
    }

    /// Takes memory away at exit.
    pub(crate) fn take_mm(&self) -> Option<Arc<Mm>> {
        self.resources.lock().mm.take()
    }

    /// Takes descriptors and directories away at exit.
    pub(crate) fn take_files(&self) -> (Option<Arc<FdTable>>, Option<Arc<FsContext>>) {
        let mut resources = self.resources.lock();
        (resources.files.take(), resources.fs.take())
    }

    /// Its name (`/proc/PID/comm`, `PR_GET_NAME`).
    pub fn comm(&self) -> Comm {
        *self.comm.lock()
    }

    /// Renames it.
    pub fn set_comm(&self, name: &[u8]) {
        let comm = Comm::new(name);
        *self.comm.lock() = comm;
        if let Some(thread) = self.thread() {
            thread.set_name(&comm.to_text());
        }
    }

    /// The small things, in a closure that may not sleep or take locks.
    pub fn with_attributes<R>(&self, f: impl FnOnce(&mut Attributes) -> R) -> R {
        f(&mut self.attributes.lock())
    }

    /// What `restart_syscall(2)` shall run when this call returns [`Errno::RestartBlock`] and no handler comes between.
    pub fn set_restart(&self, restart: Restart) {
        let old = self.restart.lock().replace(restart);
        drop(old);
    }

    /// Takes what [`set_restart`](Self::set_restart) left.
    pub(crate) fn take_restart(&self) -> Option<Restart> {
        self.restart.lock().take()
    }

    /// Whether a signal, a stop or death waits for this task: waits end with a restart error. A hint of one moment.
    pub fn signal_pending(&self) -> bool {
        self.notified.load(Ordering::SeqCst)
    }

    /// Whether it is about to die.
    pub fn is_killed(&self) -> bool {
        self.killed.load(Ordering::SeqCst)
    }

    /// Whether it runs no more.
    pub fn is_exited(&self) -> bool {
        self.exited.load(Ordering::SeqCst)
    }

    pub(crate) fn mark_exited(&self) {
        self.exited.store(true, Ordering::SeqCst);
    }

    /// Makes it look at its signals soon: ends an interruptible wait, kicks it out of user code.
    pub(crate) fn notify(&self) {
        self.notified.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.get() {
            thread.interrupt();
        }
    }

    /// Notifies it of its death: killable waits end too.
    pub(crate) fn notify_kill(&self) {
        self.killed.store(true, Ordering::SeqCst);
        self.notify();
        if let Some(thread) = self.thread.get() {
            // A killable wait is an uninterruptible one that looks at `killed` in its condition.
            thread.unpark();
        }
    }

    /// Nothing is pending any more. The caller holds the signal locks, so that no signal slips between look and store.
    pub(crate) fn clear_notification(&self) {
        self.notified.store(false, Ordering::SeqCst);
        if let Some(thread) = self.thread.get() {
            thread.clear_interrupt();
        }
    }

    /// Sleeps until `cond` gives a value or the task is killed (`EINTR`); other signals do not end it.
    pub fn wait_killable<R>(&self, queue: &WaitQueue, mut cond: impl FnMut() -> Option<R>) -> Result<R> {
        let step = || match cond() {
            Some(value) => Some(Ok(value)),
            None => self.is_killed().then_some(Err(Errno::EINTR)),
        };
        queue
            .wait_until(arch_um::sync::Interruptible::No, None, step)
            .unwrap_or(Err(Errno::EINTR))
    }

    /// Clears the word of `set_tid_address(2)` and wakes its futex; for the current task. Faults go unnoticed, as on Linux.
    pub(crate) fn clear_child_tid(&self) {
        let addr = self.with_attributes(|attributes| core::mem::take(&mut attributes.clear_child_tid));
        // With nobody else in this memory there is nobody to tell, as on Linux.
        let shared = || {
            self.resources
                .lock()
                .mm
                .as_ref()
                .is_some_and(|mm| Arc::strong_count(mm) > 1)
        };
        if addr != 0 && shared() {
            let _ = UserAddr(addr).write(&0i32.to_le_bytes());
            robust::wake_tid(addr);
        }
    }

    /// Tells a `vfork` parent that this task has let go of its memory. Whether there is one.
    pub(crate) fn complete_vfork(&self) -> bool {
        let vfork = self.with_attributes(|attributes| attributes.vfork.take());
        if let Some(vfork) = &vfork {
            vfork.complete();
        }
        vfork.is_some()
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
    thread::with_current(|thread| thread?.local()?.downcast_ref::<Carried>()?.0.upgrade())
}

#[cfg(test)]
mod tests {
    use super::Comm;

    #[test]
    fn a_name_is_cut_at_fifteen_bytes_and_at_a_nul() {
        assert_eq!(Comm::new(b"a-rather-long-program").as_bytes(), b"a-rather-long-p");
        assert_eq!(Comm::new(b"sh\0rest").as_bytes(), b"sh");
        assert_eq!(Comm::new(b"").as_bytes(), b"");
    }
}
