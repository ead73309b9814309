//! Sending: into which queue a signal goes, and whom it wakes.
//!
//! The functions here do not ask for permission; [`super::kill`] does. They may be called from any context, timers and the I/O thread included.
//!
//! Lock order: family tree (only to list threads), then the group's signals, the actions, the task's.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::action::{Action, DefaultAction, SIG_DFL, SIG_IGN};
use super::info::{SI_KERNEL, SI_USER, SigDetail, SigInfo, SigSet, Signal};
use super::queue::{Detached, Pending};
use super::state::{Announcement, GroupSignals, StopMark, StopState};
use crate::task::rlimit::Resource;
use crate::task::table::{self, Tree};
use crate::task::user::SignalCharge;
use crate::task::{ExitStatus, Pid, Process, Task};
use crate::{Errno, Result};

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// It is queued.
    Queued,
    /// The same one was pending already.
    Merged,
    /// It is ignored, or the target is gone.
    Dropped,
}

/// Whether the target's `RLIMIT_SIGPENDING` refuses a signal or only its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Overflow {
    /// The signal arrives without details.
    LoseDetails,
    /// The sender is told `EAGAIN`.
    Refuse,
}

/// Whether an unhandled `KILL` or `STOP` reaches init.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// From a guest process.
    Guest,
    /// From the kernel.
    Kernel,
}

/// Sends to one thread.
pub fn to_task(task: &Task, info: SigInfo) -> Sent {
    let threads = threads_of(task.process());
    deliver(task.process(), Some(task), &threads, info).unwrap_or(Sent::Dropped)
}

/// Sends to a process: any of its threads may take it.
pub fn to_process(process: &Process, info: SigInfo) -> Sent {
    let threads = threads_of(process);
    deliver(process, None, &threads, info).unwrap_or(Sent::Dropped)
}

/// As [`to_task`], telling of a full queue: `EAGAIN` for a real-time signal that a guest queues with details.
pub fn queue_to_task(task: &Task, info: SigInfo) -> Result<Sent> {
    deliver(task.process(), Some(task), &threads_of(task.process()), info)
}

/// As [`to_process`], telling of a full queue.
pub fn queue_to_process(process: &Process, info: SigInfo) -> Result<Sent> {
    deliver(process, None, &threads_of(process), info)
}

/// Sends to every process of a group; returns how many there are.
pub fn to_group(group: Pid, info: SigInfo) -> usize {
    to_group_locked(&mut table::tree(), group, info)
}

/// As [`to_group`], with the tree held.
pub(crate) fn to_group_locked(tree: &mut Tree, group: Pid, info: SigInfo) -> usize {
    let members: Vec<(Arc<Process>, Vec<Arc<Task>>)> = tree
        .group(group)
        .map(|node| (node.process.clone(), node.threads.values().cloned().collect()))
        .collect();
    for (process, threads) in &members {
        let _ = deliver(process, None, threads, info);
    }
    members.len()
}

/// As [`to_process`], with the tree held.
pub(crate) fn to_process_locked(tree: &Tree, process: &Process, info: SigInfo) {
    let threads: Vec<Arc<Task>> = tree
        .node_of(process)
        .map(|node| node.threads.values().cloned().collect())
        .unwrap_or_default();
    let _ = deliver(process, None, &threads, info);
}

fn threads_of(process: &Process) -> Vec<Arc<Task>> {
    process.threads()
}

/// Queues `info` for the process, or for `only` one thread of it.
fn deliver(process: &Process, only: Option<&Task>, threads: &[Arc<Task>], info: SigInfo) -> Result<Sent> {
    let signal = info.signal;
    let charge = Charge::for_signal(process, only, threads, &info);
    let mut garbage: Vec<Detached> = Vec::new();
    let mut group = process.signals.lock();
    if group.exit.is_some() {
        return Ok(Sent::Dropped);
    }
    prepare(process, &mut group, threads, signal, &mut garbage);
    let Some(target) = only.or_else(|| threads.first().map(|task| &**task)) else {
        return Ok(Sent::Dropped);
    };
    let action = process.actions().get(signal);
    let origin = if info.code == SI_KERNEL {
        Origin::Kernel
    } else {
        Origin::Guest
    };
    if is_dropped(&group, target, signal, action, origin) {
        drop(group);
        return Ok(Sent::Dropped);
    }
    let sent = match only {
        Some(task) => enqueue(&mut task.signals.lock().pending, info, charge),
        None => enqueue(&mut group.pending, info, charge),
    };
    if matches!(sent, Ok(Sent::Queued)) {
        process.signal_wait.wake_all();
        wake_receiver(process, &mut group, only, threads, signal, action);
    }
    drop(group);
    drop(garbage);
    sent
}

/// A queue entry's place in `RLIMIT_SIGPENDING`, counted before the locks are taken.
struct Charge {
    entry: Option<SignalCharge>,
    /// Has a place, or needs none.
    granted: bool,
    overflow: Overflow,
}

impl Charge {
    fn for_signal(process: &Process, only: Option<&Task>, threads: &[Arc<Task>], info: &SigInfo) -> Self {
        let from_guest = info.code != SI_USER && info.code != SI_KERNEL && info.code < 0;
        let overflow = if info.signal.is_realtime() && from_guest {
            Overflow::Refuse
        } else {
            Overflow::LoseDetails
        };
        // What the kernel tells of a standard signal always finds room: there is one at most.
        let exempt = !info.signal.is_realtime() && info.code >= 0 || matches!(info.detail, SigDetail::Timer { .. });
        let user = only.or_else(|| threads.first().map(|task| &**task)).map(Task::user);
        let limit = if exempt {
            u64::MAX
        } else {
            process.limit(Resource::SIGPENDING)
        };
        let entry = user.and_then(|user| SignalCharge::new(&user, limit));
        let granted = entry.is_some();
        Self {
            entry,
            granted,
            overflow,
        }
    }
}

fn enqueue(pending: &mut Pending, info: SigInfo, charge: Charge) -> Result<Sent> {
    if !info.signal.is_realtime() && pending.set().contains(info.signal) {
        return Ok(Sent::Merged);
    }
    if charge.granted {
        pending.push(info, charge.entry);
    } else if charge.overflow == Overflow::Refuse {
        return Err(Errno::EAGAIN);
    } else {
        pending.mark(info.signal);
    }
    Ok(Sent::Queued)
}

/// Stop signals and `CONT` cancel each other, before anybody asks whether they are blocked or ignored.
fn prepare(
    process: &Process,
    group: &mut GroupSignals,
    threads: &[Arc<Task>],
    signal: Signal,
    garbage: &mut Vec<Detached>,
) {
    if SigSet::STOPS.contains(signal) {
        remove_everywhere(group, threads, SigSet::of(Signal::CONT), garbage);
    } else if signal == Signal::CONT {
        remove_everywhere(group, threads, SigSet::STOPS, garbage);
        resume(process, group, threads);
    }
}

fn remove_everywhere(group: &mut GroupSignals, threads: &[Arc<Task>], set: SigSet, garbage: &mut Vec<Detached>) {
    garbage.push(group.pending.remove(set));
    for task in threads {
        garbage.push(task.signals.lock().pending.remove(set));
    }
}

/// Ends a stop, or one in the making; the parent is told by the first thread that runs.
fn resume(process: &Process, group: &mut GroupSignals, threads: &[Arc<Task>]) {
    let told = match group.stop {
        StopState::Running => None,
        StopState::Stopped { .. } => Some(Announcement::Continued),
        // The stop was under way: it counts as done, as nobody can tell the difference.
        StopState::Stopping { signal, .. } => Some(Announcement::Stopped(signal)),
    };
    if told.is_some() {
        group.stop = StopState::Running;
        group.announce = told;
        group.unreported_stop = None;
        group.unreported_continue = told == Some(Announcement::Continued);
    }
    for task in threads {
        let mut own = task.signals.lock();
        own.stop_pending = StopMark::None;
        if told.is_some() {
            task.notify();
        }
    }
    process.stop_wait.wake_all();
}

/// Whether nobody will ever see the signal.
fn is_dropped(group: &GroupSignals, target: &Task, signal: Signal, action: Action, origin: Origin) -> bool {
    let own = target.signals.lock();
    if own.blocked.union(own.awaited).contains(signal) {
        return false;
    }
    drop(own);
    let forced = origin == Origin::Kernel && SigSet::UNBLOCKABLE.contains(signal);
    if group.unkillable && action.handler == SIG_DFL && !forced {
        return true;
    }
    action.ignores(signal)
}

/// Whether `task` would take `signal` now.
fn wants(task: &Task, signal: Signal) -> bool {
    if task.is_exited() {
        return false;
    }
    let own = task.signals.lock();
    // What comes while it stands still waits for `CONT`.
    let stands = own.stop_pending == StopMark::Stopped;
    !stands && (!own.blocked.contains(signal) || own.awaited.contains(signal))
}

/// Finds a thread for the signal and notifies it; a signal that kills ends all threads at once.
fn wake_receiver(
    process: &Process,
    group: &mut GroupSignals,
    only: Option<&Task>,
    threads: &[Arc<Task>],
    signal: Signal,
    action: Action,
) {
    let receiver = match only {
        Some(task) => Some(task).filter(|task| signal == Signal::KILL || wants(task, signal)),
        None => threads
            .iter()
            .filter(|task| signal == Signal::KILL || wants(task, signal))
            // One that has nothing to do yet rather than one that is already on its way.
            .min_by_key(|task| task.signal_pending())
            .map(|task| &**task),
    };
    let Some(receiver) = receiver else { return };
    let deadly = action.handler == SIG_DFL && signal.default_action() == DefaultAction::Terminate;
    let awaited = receiver.signals.lock().awaited.contains(signal);
    if deadly && !awaited && (!group.unkillable || signal == Signal::KILL) {
        group.exit = Some(ExitStatus::killed(signal));
        end_stop(process, group, threads);
        kill_threads(threads, None);
        return;
    }
    if signal == Signal::KILL {
        receiver.notify_kill();
        process.stop_wait.wake_all();
    } else {
        receiver.notify();
    }
}

/// A dying process is not stopped.
fn end_stop(process: &Process, group: &mut GroupSignals, threads: &[Arc<Task>]) {
    group.stop = StopState::Running;
    group.unreported_stop = None;
    for task in threads {
        task.signals.lock().stop_pending = StopMark::None;
    }
    process.stop_wait.wake_all();
}

/// Makes all threads but `except` exit.
fn kill_threads(threads: &[Arc<Task>], except: Option<Pid>) {
    for task in threads.iter().filter(|task| Some(task.tid()) != except) {
        task.notify_kill();
    }
}

/// Ends all threads of a process with `status` (`exit_group(2)`, a deadly signal). Returns the status that counts: the first one asked for.
pub(crate) fn exit_group(process: &Process, status: ExitStatus) -> ExitStatus {
    let threads = threads_of(process);
    let mut group = process.signals.lock();
    if let Some(status) = group.exit {
        return status;
    }
    if group.exec.is_some() {
        // Another thread's exec wants this thread gone, and goes on itself.
        return ExitStatus::default();
    }
    group.exit = Some(status);
    end_stop(process, &mut group, &threads);
    kill_threads(&threads, None);
    status
}

/// exec by `task`: the other threads must go. `EAGAIN` when the process is already ending.
pub(crate) fn kill_siblings(task: &Task) -> Result<()> {
    let process = task.process();
    let threads = threads_of(process);
    let mut group = process.signals.lock();
    if group.exit.is_some() || group.exec.is_some() {
        return Err(Errno::EAGAIN);
    }
    group.exec = Some(task.tid());
    end_stop(process, &mut group, &threads);
    kill_threads(&threads, Some(task.tid()));
    Ok(())
}

/// Drops every pending signal of `set`, for the process and all its threads.
pub(crate) fn discard(process: &Process, set: SigSet) {
    let threads = threads_of(process);
    let mut garbage = Vec::new();
    let mut group = process.signals.lock();
    remove_everywhere(&mut group, &threads, set, &mut garbage);
    for task in &threads {
        let own = task.signals.lock();
        if task.signal_pending() {
            task.recalculate(&group, &own);
        }
    }
    drop(group);
    drop(garbage);
}

/// Sends a signal that the current task's own instruction raised, and that it cannot escape: blocked or ignored, it kills.
pub fn force(task: &Task, info: SigInfo) {
    let signal = info.signal;
    let process = task.process();
    let mut group = process.signals.lock();
    let actions = process.actions();
    let mut action = actions.get(signal);
    // Only the task itself changes its mask.
    if task.signals.lock().blocked.contains(signal) || action.handler == SIG_IGN {
        action = Action {
            handler: SIG_DFL,
            ..action
        };
        actions.set(signal, action);
    }
    if action.handler == SIG_DFL {
        // Init dies of its own faults.
        group.unkillable = false;
    }
    let mut own = task.signals.lock();
    own.blocked = own.blocked.without(signal);
    own.pending.push(info, None);
    task.notify();
}

/// Makes the task die of `SIGSEGV` or call its handler, for a frame that could not be built or read.
pub fn force_segv(task: &Task, failed: Option<Signal>) {
    if failed == Some(Signal::SEGV) {
        // The handler for SEGV itself cannot run: back to the default.
        task.process().actions().set(Signal::SEGV, Action::default());
    }
    force(task, SigInfo::kernel(Signal::SEGV));
}

/// The timer `id` expired: queues its signal unless the last one is still pending.
pub fn timer(target: TimerTarget<'_>, info: SigInfo) -> Sent {
    let SigDetail::Timer { id, .. } = info.detail else {
        return Sent::Dropped;
    };
    let queued = match target {
        TimerTarget::Process(process) => process.signals.lock().pending.has_timer(info.signal, id),
        TimerTarget::Task(task) => task.signals.lock().pending.has_timer(info.signal, id),
    };
    match target {
        _ if queued => Sent::Merged,
        TimerTarget::Process(process) => to_process(process, info),
        TimerTarget::Task(task) => to_task(task, info),
    }
}

/// Whom a timer signals.
#[derive(Clone, Copy)]
pub enum TimerTarget<'a> {
    /// `SIGEV_SIGNAL`.
    Process(&'a Process),
    /// `SIGEV_THREAD_ID`.
    Task(&'a Task),
}

/// Whether no thread of the target is left (a zombie takes signals without effect).
pub fn is_dead(process: &Process) -> bool {
    process.thread_count() == 0
}
