//! Job control stops: how a thread group comes to a stand, and how its parent hears of it.
//!
//! The thread that takes a stop signal asks all others to join; the last one to stop completes the stop and tells the parent. `CONT` and `KILL`
//! end it from `signal::send`.

use alloc::sync::Arc;

use arch_um::sync::Interruptible;

use super::action::ActionFlags;
use super::info::{SigDetail, SigInfo, Signal};
use super::send;
use super::state::{Announcement, GroupSignals, StopMark, StopState};
use crate::task::status::cld;
use crate::task::table::{Tree, tree};
use crate::task::{Process, Task};

/// Starts a stop by `signal`, unless the group is dying or is stopping already. The caller joins it next.
pub(crate) fn begin(task: &Task, signal: Signal) {
    let threads = task.process().threads();
    let mut group = task.process().signals.lock();
    if group.exit.is_some() || group.exec.is_some() || group.stop != StopState::Running {
        return;
    }
    let mut left = 0;
    for thread in threads.iter().filter(|thread| !thread.is_exited()) {
        thread.signals.lock().stop_pending = StopMark::Wanted(signal);
        left += 1;
        if thread.tid() != task.tid() {
            thread.notify();
        }
    }
    group.stop = StopState::Stopping { signal, left };
}

/// Joins the stop that is asked for and stands still until `CONT` or `KILL`.
pub(crate) fn join(task: &Task) {
    let completed = {
        let mut group = task.process().signals.lock();
        let mut own = task.signals.lock();
        let StopMark::Wanted(_) = own.stop_pending else { return };
        own.stop_pending = StopMark::Stopped;
        drop(own);
        count_down(&mut group)
    };
    if completed {
        announce(task.process());
    }
    let process = task.process().clone();
    let stands = || {
        let group = process.signals.lock();
        let own = task.signals.lock();
        (group.must_exit(task) || own.stop_pending != StopMark::Stopped).then_some(())
    };
    let _ = process.stop_wait.wait_until(Interruptible::No, None, stands);
    task.signals.lock().stop_pending = StopMark::None;
}

/// A thread leaves the group while a stop is under way: it counts as stopped. True when that completed the stop.
#[must_use]
pub(crate) fn leave(task: &Task) -> bool {
    let mut group = task.process().signals.lock();
    let mut own = task.signals.lock();
    let wanted = matches!(own.stop_pending, StopMark::Wanted(_));
    own.stop_pending = StopMark::None;
    drop(own);
    wanted && count_down(&mut group)
}

/// One thread less to wait for. True when it was the last.
fn count_down(group: &mut GroupSignals) -> bool {
    let StopState::Stopping { signal, left } = group.stop else {
        return false;
    };
    if left > 1 {
        group.stop = StopState::Stopping { signal, left: left - 1 };
        return false;
    }
    group.stop = StopState::Stopped { signal };
    group.unreported_stop = Some(signal);
    group.unreported_continue = false;
    group.announce = Some(Announcement::Stopped(signal));
    true
}

/// Tells the parent of a stop or continuation that is not announced yet.
pub(crate) fn announce(process: &Arc<Process>) {
    let tree = tree();
    let Some(told) = process.signals.lock().announce.take() else {
        return;
    };
    let (code, status) = match told {
        Announcement::Stopped(signal) => (cld::STOPPED, signal.number()),
        Announcement::Continued => (cld::CONTINUED, Signal::CONT.number()),
    };
    notify_parent(&tree, process, code, status);
}

/// `SIGCHLD` for a stop or continuation, and a wake-up for a parent that waits.
fn notify_parent(tree: &Tree, process: &Process, code: i32, status: i32) {
    let Some(node) = tree.node(process.pid()) else { return };
    let Some(parent) = tree.node(node.parent) else { return };
    let action = parent.process.actions().get(Signal::CHLD);
    if action.handler != super::action::SIG_IGN && !action.flags.contains(ActionFlags::NOCLDSTOP) {
        let info = child_info(tree, process, code, status);
        send::to_process_locked(tree, &parent.process, info);
    }
    parent.process.child_wait.wake_all();
}

/// The `SIGCHLD` of a process.
pub(crate) fn child_info(tree: &Tree, process: &Process, code: i32, status: i32) -> SigInfo {
    let uid = tree.task(process.pid()).map_or(0, |leader| leader.cred().uid);
    let (user, system) = process.cpu_times_of(tree);
    let ticks = |ns: u64| (ns / crate::task::times::TICK_NS) as i64;
    let detail = SigDetail::Child {
        pid: process.pid(),
        uid,
        status,
        utime: ticks(user),
        stime: ticks(system),
    };
    SigInfo {
        signal: Signal::CHLD,
        code,
        errno: 0,
        detail,
    }
}
