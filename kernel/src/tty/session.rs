//! What terminals ask of tasks: who calls, which group hears a signal, whose terminal is whose. The only file of this folder that knows
//! `task` and `signal`.
//!
//! The controlling terminal of a session is kept here by session number; the session's leader takes it along when it exits.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;

use arch_um::sync::{SpinLock, order};

use super::Tty;
use crate::signal::{SigInfo, Signal, send};
use crate::task::{self, Capabilities, Pid, jobctl, table};

static TERMINALS: SpinLock<BTreeMap<Pid, Arc<Tty>>> = SpinLock::new(&order::LEAF, BTreeMap::new());

/// The process that makes the call at hand.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// Its process group.
    pub group: Pid,
    /// Its session.
    pub session: Pid,
    /// Whether it leads its session.
    pub leads: bool,
}

/// The caller; none on a kernel thread without a task.
pub fn caller() -> Option<Caller> {
    let task = task::try_current()?;
    let process = task.process();
    let session = process.session();
    Some(Caller {
        group: process.group(),
        session,
        leads: session == process.pid(),
    })
}

/// Whether the caller may what needs `CAP_SYS_ADMIN`; the kernel itself may.
pub fn is_admin() -> bool {
    task::try_current().is_none_or(|task| task.cred().capable(Capabilities::SYS_ADMIN))
}

/// Whether the caller holds `signal` back or ignores it.
pub fn shuns(signal: Signal) -> bool {
    task::try_current().is_some_and(|task| task.blocked().contains(signal) || task.ignores(signal))
}

/// Whether nobody outside could continue the group (`POSIX.1-2024, 3.264`).
pub fn is_orphaned(group: Pid) -> bool {
    jobctl::group_is_orphaned(group)
}

/// The session of a process group; none when there is no such group.
pub fn session_of_group(group: Pid) -> Option<Pid> {
    table::group(group).first().map(|process| process.session())
}

/// Sends `signal` to a process group.
pub fn signal_group(group: Pid, signal: Signal) {
    send::to_group(group, SigInfo::kernel(signal));
}

/// Sends `signal` to a process.
pub fn signal_process(pid: Pid, signal: Signal) {
    if let Some(process) = table::process(pid) {
        send::to_process(&process, SigInfo::kernel(signal));
    }
}

/// The controlling terminal of `session`.
pub fn terminal_of(session: Pid) -> Option<Arc<Tty>> {
    TERMINALS.lock().get(&session).cloned()
}

/// Makes `tty` the controlling terminal of `session`.
pub fn set_terminal(session: Pid, tty: Arc<Tty>) {
    let old = TERMINALS.lock().insert(session, tty);
    drop(old);
}

/// Takes the terminal away from `session`.
pub fn clear_terminal(session: Pid) -> Option<Arc<Tty>> {
    TERMINALS.lock().remove(&session)
}
