//! Sending on a guest's behalf: `kill(2)`, `tgkill(2)`, `rt_sigqueueinfo(2)` and who may signal whom.

use alloc::sync::Arc;

use super::info::{SI_USER, SigDetail, SigInfo, Signal};
use super::send;
use super::siginfo::{SIGINFO_SIZE, code};
use crate::syscall::Context;
use crate::task::table::{self, INIT};
use crate::task::{Capabilities, Pid, Process, Task};
use crate::user::UserAddr;
use crate::{Errno, Result};

/// Whether `sender` may send `signal` to `target`: same user, `CAP_KILL`, or `CONT` within the session.
pub fn check_permission(sender: &Task, target: &Task, signal: Option<Signal>) -> Result<()> {
    if Arc::ptr_eq(sender.process(), target.process()) {
        return Ok(());
    }
    let (own, theirs) = (sender.cred(), target.cred());
    let same_user =
        own.euid == theirs.suid || own.euid == theirs.uid || own.uid == theirs.suid || own.uid == theirs.uid;
    let in_session = || sender.process().session() == target.process().session();
    if same_user || own.capable(Capabilities::KILL) || signal == Some(Signal::CONT) && in_session() {
        Ok(())
    } else {
        Err(Errno::EPERM)
    }
}

/// `kill`'s number: `EINVAL` unless 0 (only ask) or a signal.
fn parse_signal(number: i32) -> Result<Option<Signal>> {
    match number {
        0 => Ok(None),
        _ => Signal::new(number).map(Some).ok_or(Errno::EINVAL),
    }
}

/// What `kill(2)` and its kin tell of their caller.
pub(crate) fn info_from(sender: &Task, signal: Signal, code: i32) -> SigInfo {
    let detail = SigDetail::Sender {
        pid: sender.process().pid(),
        uid: sender.cred().uid,
        value: 0,
    };
    SigInfo {
        signal,
        code,
        errno: 0,
        detail,
    }
}

/// Checks and sends to one process. A zombie takes it without effect.
pub(crate) fn send_to_process(
    sender: &Task,
    process: &Process,
    signal: Option<Signal>,
    info: Option<SigInfo>,
) -> Result<()> {
    let target = process.any_thread().ok_or(Errno::ESRCH)?;
    check_permission(sender, &target, signal)?;
    if let Some(signal) = signal {
        send::queue_to_process(process, info.unwrap_or_else(|| info_from(sender, signal, SI_USER)))?;
    }
    Ok(())
}

/// `kill(2)`: a process, the caller's group (0), everybody (-1), or a group (below -1).
pub fn sys_kill(cx: &Context, pid: Pid, number: i32) -> Result<usize> {
    let sender = cx.task();
    let signal = parse_signal(number);
    match pid.0 {
        1.. => {
            let process = table::task(pid)
                .map(|task| task.process().clone())
                .ok_or(Errno::ESRCH)?;
            send_to_process(sender, &process, signal?, None)?;
        }
        -1 => everybody(sender, signal?)?,
        0 => to_group(sender, sender.process().group(), signal?)?,
        i32::MIN => return Err(Errno::ESRCH),
        negative => to_group(sender, Pid(-negative), signal?)?,
    }
    Ok(0)
}

/// Success when one member could be signalled; else the last error, `ESRCH` for an empty group.
fn to_group(sender: &Task, group: Pid, signal: Option<Signal>) -> Result<()> {
    to_each(table::group(group), sender, signal)
}

fn to_each(processes: impl IntoIterator<Item = Arc<Process>>, sender: &Task, signal: Option<Signal>) -> Result<()> {
    let mut outcome = Err(Errno::ESRCH);
    for process in processes {
        match (send_to_process(sender, &process, signal, None), outcome) {
            (Ok(()), _) => outcome = Ok(()),
            (Err(error), Err(_)) => outcome = Err(error),
            (Err(_), Ok(())) => {}
        }
    }
    outcome
}

/// Every process but init and the caller's own. `EPERM` for single ones does not count.
fn everybody(sender: &Task, signal: Option<Signal>) -> Result<()> {
    let own = sender.process().pid();
    let others = table::processes()
        .into_iter()
        .filter(|process| process.pid() != INIT && process.pid() != own);
    let mut outcome = Err(Errno::ESRCH);
    for process in others {
        match send_to_process(sender, &process, signal, None) {
            Err(Errno::EPERM) if outcome == Err(Errno::ESRCH) => outcome = Ok(()),
            Err(Errno::EPERM) => {}
            result => outcome = result,
        }
    }
    outcome
}

/// `tgkill(2)`. `EINVAL` for numbers that cannot be, `ESRCH` for a thread that is not of that process.
pub fn sys_tgkill(cx: &Context, pid: Pid, tid: Pid, number: i32) -> Result<usize> {
    if pid.0 <= 0 || tid.0 <= 0 {
        return Err(Errno::EINVAL);
    }
    to_thread(cx, Some(pid), tid, number, None)
}

/// `tkill(2)`.
pub fn sys_tkill(cx: &Context, tid: Pid, number: i32) -> Result<usize> {
    if tid.0 <= 0 {
        return Err(Errno::EINVAL);
    }
    to_thread(cx, None, tid, number, None)
}

fn to_thread(cx: &Context, pid: Option<Pid>, tid: Pid, number: i32, info: Option<[u8; SIGINFO_SIZE]>) -> Result<usize> {
    let sender = cx.task();
    let target = table::task(tid).ok_or(Errno::ESRCH)?;
    if pid.is_some_and(|pid| target.process().pid() != pid) {
        return Err(Errno::ESRCH);
    }
    let signal = parse_signal(number)?;
    check_permission(sender, &target, signal)?;
    let Some(signal) = signal else { return Ok(0) };
    let info = match info {
        Some(bytes) => SigInfo::from_siginfo(signal, &bytes),
        None => info_from(sender, signal, code::SI_TKILL),
    };
    if !target.is_exited() {
        send::queue_to_task(&target, info)?;
    }
    Ok(0)
}

/// Reads a guest's `siginfo`. `EPERM` for one that claims to come from the kernel or from `kill`, unless it goes to the sender itself.
pub(crate) fn read_info(sender: &Task, addr: u64, target: Pid) -> Result<[u8; SIGINFO_SIZE]> {
    let mut bytes = [0; SIGINFO_SIZE];
    UserAddr(addr).read(&mut bytes)?;
    let claimed = i32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    let forged = claimed >= 0 || claimed == code::SI_TKILL;
    if forged && target != sender.process().pid() && target != sender.tid() {
        return Err(Errno::EPERM);
    }
    Ok(bytes)
}

/// `rt_sigqueueinfo(2)`.
pub fn sys_rt_sigqueueinfo(cx: &Context, pid: Pid, number: i32, info: u64) -> Result<usize> {
    let bytes = read_info(cx.task(), info, pid)?;
    let process = table::task(pid)
        .map(|task| task.process().clone())
        .ok_or(Errno::ESRCH)?;
    let signal = parse_signal(number)?;
    let info = signal.map(|signal| SigInfo::from_siginfo(signal, &bytes));
    send_to_process(cx.task(), &process, signal, info)?;
    Ok(0)
}

/// `rt_tgsigqueueinfo(2)`.
pub fn sys_rt_tgsigqueueinfo(cx: &Context, pid: Pid, tid: Pid, number: i32, info: u64) -> Result<usize> {
    if pid.0 <= 0 || tid.0 <= 0 {
        return Err(Errno::EINVAL);
    }
    let bytes = read_info(cx.task(), info, tid)?;
    to_thread(cx, Some(pid), tid, number, Some(bytes))
}
