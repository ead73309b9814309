//! The end of tasks: `exit(2)`, `exit_group(2)`, orphans, zombies, and what the parent hears.
//!
//! A task ends in its own loop (`task::run`): the calls only leave the status there. Everything it holds is let go before anybody learns of its
//! end, so that a parent that waits finds the files closed and the memory gone.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::status::ExitStatus;
use super::table::{self, INIT, Reaped, Tree};
use super::{Pid, Process, Task, jobctl, robust};
use crate::Result;
use crate::signal::action::{ActionFlags, SIG_IGN};
use crate::signal::info::SI_USER;
use crate::signal::{SigInfo, Signal, kill as signals, send, stop};
use crate::syscall::Context;

/// `exit(2)`: ends the calling thread.
pub fn sys_exit(cx: &Context, code: i32) -> Result<usize> {
    cx.exit.set(Some(ExitStatus::exited(code)));
    Ok(0)
}

/// `exit_group(2)`: ends all threads of the process.
pub fn sys_exit_group(cx: &Context, code: i32) -> Result<usize> {
    let status = send::exit_group(cx.task().process(), ExitStatus::exited(code));
    cx.exit.set(Some(status));
    Ok(0)
}

/// Ends the task of `cx`. The caller's kernel thread returns next.
pub(crate) fn finish(cx: Context, status: ExitStatus) {
    let task = cx.task().clone();
    let last = task.process().uncount_thread();
    if last {
        last_thread(&task, status);
    }
    robust::exit_robust_list(&task);
    task.clear_child_tid();
    // The user thread goes first: with the last one, its host process is gone before the map is taken apart.
    drop(cx.into_user());
    let mm = task.take_mm();
    drop(mm);
    task.complete_vfork();
    let (files, fs) = task.take_files();
    drop(files);
    drop(fs);
    if last && jobctl::is_session_leader(task.process()) {
        crate::tty::session_leader_exit(task.process().pid());
    }
    leave_signals(&task);
    account(&task);
    notify(&task, status);
}

/// What only the last thread of a process does.
fn last_thread(task: &Task, status: ExitStatus) {
    let process = task.process();
    if process.pid() == INIT {
        let status = process.signals.lock().exit.unwrap_or(status);
        arch_um::exit::kernel_panic(&format!("Attempted to kill init! exitcode=0x{:08x}", status.0));
    }
    crate::time::process_timers::ProcessTimers::exit(process);
    drop(process.take_slots());
}

/// No signal is for this task any more; those of the group are for its siblings.
fn leave_signals(task: &Task) {
    if stop::leave(task) {
        stop::announce(task.process());
    }
    task.mark_exited();
    let garbage = {
        let mut own = task.signals.lock();
        own.pending.remove(crate::signal::SigSet::EMPTY.complement())
    };
    drop(garbage);
    for sibling in task.process().threads() {
        if !sibling.is_exited() {
            sibling.recalculate_signals();
        }
    }
}

fn account(task: &Task) {
    let usage = task.usage();
    let mut accounting = task.process().accounting.lock();
    accounting.dead_threads = accounting.dead_threads.plus(usage);
}

/// Whether a zombie waits for its parent.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Somebody will wait for it.
    Zombie,
    /// Nobody will: it goes at once.
    Reap,
}

/// Takes the task out of the family and tells those who care.
fn notify(task: &Arc<Task>, status: ExitStatus) {
    let process = task.process();
    let pid = process.pid();
    let mut garbage: Vec<Reaped> = Vec::new();
    let mut tree = table::tree();
    let removed = tree.remove_thread(task);
    let mut heir = None;
    let mut done = false;
    if let Some(node) = tree.node_mut(pid) {
        if task.tid() == pid {
            node.leader_status = Some(status);
        }
        heir = node.threads.keys().next().copied();
        done = heir.is_none();
    }
    hand_over_children(&mut tree, task, heir, &mut garbage);
    if done {
        let own = process.signals.lock().exit;
        if let Some(node) = tree.node_mut(pid) {
            node.zombie = Some(own.or(node.leader_status).unwrap_or(status));
        }
        let parent = tree.node(pid).map_or(Pid(0), |node| node.parent);
        jobctl::orphan_group(&mut tree, pid, parent, Some(pid));
        if tell_parent(&tree, pid) == Fate::Reap {
            garbage.extend(tree.reap(pid));
        }
    }
    drop(tree);
    process.exit_wait.wake_all();
    drop(removed);
    drop(garbage);
}

/// Children of the thread go to a sibling thread, those of the whole process to a subreaper or init.
fn hand_over_children(tree: &mut Tree, task: &Task, heir: Option<Pid>, garbage: &mut Vec<Reaped>) {
    let pid = task.process().pid();
    let tid = task.tid();
    let children: Vec<(Pid, Pid)> = tree
        .children(pid)
        .map(|child| (child.process.pid(), child.parent_thread))
        .collect();
    if children.is_empty() {
        return;
    }
    let (reaper, reaper_thread) = match heir {
        Some(thread) => (pid, thread),
        None => find_reaper(tree, pid),
    };
    for (child, thread) in children {
        if heir.is_some() && thread != tid {
            continue;
        }
        tree.set_parent(child, reaper, reaper_thread);
        send_death_signals(tree, child, task);
        if heir.is_none() {
            reparented(tree, child, pid, garbage);
        }
    }
}

/// The nearest ancestor that adopts orphans: a subreaper, else init.
fn find_reaper(tree: &Tree, pid: Pid) -> (Pid, Pid) {
    let own = tree.node(pid);
    let looks = own.is_some_and(|node| node.process.with_attributes(|attributes| attributes.has_subreaper));
    let mut at = own.filter(|_| looks).map(|node| node.parent);
    while let Some(node) = at.and_then(|ancestor| tree.node(ancestor)) {
        let adopts = node.process.with_attributes(|attributes| attributes.is_subreaper);
        if let (true, Some(&thread)) = (adopts, node.threads.keys().next()) {
            return (node.process.pid(), thread);
        }
        at = Some(node.parent);
    }
    (
        INIT,
        tree.node(INIT)
            .and_then(|init| init.threads.keys().next().copied())
            .unwrap_or(INIT),
    )
}

/// `PR_SET_PDEATHSIG`: each thread of the child has its own.
fn send_death_signals(tree: &Tree, child: Pid, parent: &Task) {
    let Some(node) = tree.node(child) else { return };
    for thread in node.threads.values() {
        let number = thread.with_attributes(|attributes| attributes.death_signal);
        if let Some(signal) = Signal::new(number) {
            send::to_process_locked(tree, &node.process, signals::info_from(parent, signal, SI_USER));
        }
    }
}

/// A child has a new parent: that one hears of its end in the common way, also if the end has come already.
fn reparented(tree: &mut Tree, child: Pid, father: Pid, garbage: &mut Vec<Reaped>) {
    let mut dead = false;
    if let Some(node) = tree.node_mut(child) {
        node.exit_signal = Signal::CHLD.number();
        dead = node.zombie.is_some();
    }
    if dead && tell_parent(tree, child) == Fate::Reap {
        garbage.extend(tree.reap(child));
    }
    jobctl::orphan_group(tree, child, father, None);
}

/// Signals and wakes the parent of a zombie, and finds out whether it wants to wait at all.
fn tell_parent(tree: &Tree, pid: Pid) -> Fate {
    let Some(node) = tree.node(pid) else {
        return Fate::Zombie;
    };
    let Some(parent) = tree.node(node.parent) else {
        return Fate::Zombie;
    };
    let (code, status) = node.zombie.unwrap_or_default().child_info();
    let action = parent.process.actions().get(Signal::CHLD);
    let usual = node.exit_signal == Signal::CHLD.number();
    let ignored = usual && action.handler == SIG_IGN;
    let unwanted = ignored || usual && action.flags.contains(ActionFlags::NOCLDWAIT);
    if let Some(signal) = Signal::new(node.exit_signal).filter(|_| !ignored) {
        let info = SigInfo {
            signal,
            ..stop::child_info(tree, &node.process, code, status)
        };
        send::to_process_locked(tree, &parent.process, info);
    }
    // We are about to go: the parent may have this CPU.
    parent.process.child_wait.wake_sync(usize::MAX, 0);
    if unwanted { Fate::Reap } else { Fate::Zombie }
}

/// Kills a process as if by `SIGKILL` from nowhere (its host process is gone, or nothing can be done for it).
pub(crate) fn kill(process: &Process) -> ExitStatus {
    send::exit_group(process, ExitStatus::killed(Signal::KILL))
}
