//! Sessions and process groups: `setsid(2)`, `setpgid(2)` and what terminals need of them.
//!
//! An orphaned group is one in which nobody has a parent outside of the group but in the session: it must not stop, as nobody would continue it
//! (POSIX.1-2024, 3.264).

use core::sync::atomic::{AtomicBool, Ordering};

use alloc::sync::Arc;

use super::table::{INIT, Node, Tree, tree};
use super::{Pid, Process};
use crate::signal::{SigInfo, Signal, send};
use crate::syscall::Context;
use crate::{Errno, Result};

/// A session. Its controlling terminal is `tty`'s affair.
pub struct Session {
    id: Pid,
}

impl Session {
    /// A session led by the process `id`.
    pub(crate) fn new(id: Pid) -> Arc<Self> {
        Arc::new(Self { id })
    }

    /// Its number: its leader's.
    pub fn id(&self) -> Pid {
        self.id
    }
}

/// Whether nobody outside of the group, but in its session, is parent of a member.
pub fn group_is_orphaned(group: Pid) -> bool {
    is_orphaned(&tree(), group, None)
}

/// As [`group_is_orphaned`], as if the process `ignored` were gone.
pub(crate) fn is_orphaned(tree: &Tree, group: Pid, ignored: Option<Pid>) -> bool {
    !tree.group(group).any(|member| {
        let gone = Some(member.process.pid()) == ignored || member.zombie.is_some();
        let parent = tree.node(member.parent);
        !gone && parent.is_some_and(|parent| is_caretaker(parent, member))
    })
}

static INIT_HAS_JOBS: AtomicBool = AtomicBool::new(false);

/// Init is a shell with job control: it continues what it stops, as no other init does.
pub fn init_has_jobs() {
    INIT_HAS_JOBS.store(true, Ordering::Relaxed);
}

/// Whether `parent` would continue a stopped `member`. Init does not, unless it is itself a shell with a terminal (`crate::boot`).
fn is_caretaker(parent: &Node, member: &Node) -> bool {
    parent.group != member.group
        && parent.session.id() == member.session.id()
        && (parent.process.pid() != INIT || INIT_HAS_JOBS.load(Ordering::Relaxed))
}

/// Whether a member of the group is stopped.
pub(crate) fn has_stopped_member(tree: &Tree, group: Pid) -> bool {
    tree.group(group)
        .any(|member| member.process.signals.lock().is_stopped())
}

/// If the tie between a child and its parent, about to be cut, was the last that kept the child's group from being orphaned, and a member is
/// stopped: tells the group that nobody will continue it (`SIGHUP`, `SIGCONT`).
pub(crate) fn orphan_group(tree: &mut Tree, child: Pid, parent: Pid, ignored: Option<Pid>) {
    let (Some(child), Some(parent)) = (tree.node(child), tree.node(parent)) else {
        return;
    };
    if parent.group == child.group || parent.session.id() != child.session.id() {
        return;
    }
    let group = child.group;
    if is_orphaned(tree, group, ignored) && has_stopped_member(tree, group) {
        send::to_group_locked(tree, group, SigInfo::kernel(Signal::HUP));
        send::to_group_locked(tree, group, SigInfo::kernel(Signal::CONT));
    }
}

/// `setsid(2)`. `EPERM` for a group leader, and when a group with the caller's number exists.
pub fn sys_setsid(cx: &Context) -> Result<usize> {
    let pid = cx.task().process().pid();
    let session = Session::new(pid);
    let mut tree = tree();
    if tree.group(pid).next().is_some() {
        return Err(Errno::EPERM);
    }
    tree.set_group(pid, pid);
    let old = tree.set_session(pid, session);
    drop(tree);
    drop(old);
    Ok(pid.0 as usize)
}

/// `getsid(2)`.
pub fn sys_getsid(cx: &Context, pid: Pid) -> Result<usize> {
    of_process(cx, pid, |node| node.session.id())
}

/// `getpgid(2)`.
pub fn sys_getpgid(cx: &Context, pid: Pid) -> Result<usize> {
    of_process(cx, pid, |node| node.group)
}

/// `getpgrp(2)`.
pub fn sys_getpgrp(cx: &Context) -> Result<usize> {
    of_process(cx, Pid(0), |node| node.group)
}

/// Reads the place of the process with the thread `pid`, 0 for the caller's. `ESRCH`.
fn of_process(cx: &Context, pid: Pid, f: impl FnOnce(&Node) -> Pid) -> Result<usize> {
    let tree = tree();
    let process = if pid == Pid(0) {
        cx.task().process().pid()
    } else {
        tree.task(pid).ok_or(Errno::ESRCH)?.process().pid()
    };
    let node = tree.node(process).ok_or(Errno::ESRCH)?;
    Ok(f(node).0 as usize)
}

/// `setpgid(2)`: a process may move itself, and a child of its session that has not run exec yet.
///
/// `EINVAL` for a negative group or a thread that is no leader, `ESRCH` for a stranger, `EACCES` after exec, `EPERM` for a session leader, across
/// sessions, and for a group that is not in the session.
pub fn sys_setpgid(cx: &Context, pid: Pid, group: Pid) -> Result<usize> {
    let own = cx.task().process().pid();
    let pid = if pid == Pid(0) { own } else { pid };
    let group = if group == Pid(0) { pid } else { group };
    if group.0 < 0 {
        return Err(Errno::EINVAL);
    }
    let mut tree = tree();
    let task = tree.task(pid).ok_or(Errno::ESRCH)?;
    if task.process().pid() != pid {
        return Err(Errno::EINVAL);
    }
    let node = tree.node(pid).ok_or(Errno::ESRCH)?;
    let own_session = tree.node(own).ok_or(Errno::ESRCH)?.session.id();
    if node.parent == own && pid != own {
        if node.session.id() != own_session {
            return Err(Errno::EPERM);
        }
        if node.process.with_attributes(|attributes| attributes.execed) {
            return Err(Errno::EACCES);
        }
    } else if pid != own {
        return Err(Errno::ESRCH);
    }
    if node.session.id() == pid {
        return Err(Errno::EPERM);
    }
    if group != pid {
        let in_session = tree.group(group).any(|member| member.session.id() == own_session);
        if !in_session {
            return Err(Errno::EPERM);
        }
    }
    tree.set_group(pid, group);
    Ok(0)
}

/// Whether a process leads its session.
pub fn is_session_leader(process: &Process) -> bool {
    process
        .session_object()
        .is_some_and(|session| session.id() == process.pid())
}
