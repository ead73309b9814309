//! What happens on the way back to user code: stops, deaths, handlers, and the fate of an interrupted system call.

use super::action::{Action, ActionFlags, DefaultAction, SIG_DFL, SIG_IGN};
use super::info::{SigDetail, SigInfo, SigSet, Signal};
use super::state::StopMark;
use super::{frame, send, stop};
use crate::Errno;
use crate::syscall::Context;
use crate::task::process::Dumpable;
use crate::task::rlimit::Resource;
use crate::task::{ExitStatus, Task, jobctl};
use crate::time::posix_timer;

/// A system call that ended with a restart error: what to do with it depends on the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interrupted {
    /// Its number.
    pub nr: u64,
    /// One of the restart kinds.
    pub kind: Errno,
}

/// `restart_syscall(2)`.
const NR_RESTART_SYSCALL: u64 = 219;
/// Bytes of the `syscall` instruction.
const SYSCALL_LEN: u64 = 2;

/// What to do next with a task's signals.
enum Next {
    /// Nothing: on to user code.
    Nothing,
    /// Call this handler.
    Handle(SigInfo, Action),
    /// The task ends.
    Exit(ExitStatus),
}

/// Takes care of everything that is pending. `Some` when the task must exit.
pub(crate) fn before_user(cx: &Context, mut call: Option<Interrupted>) -> Option<ExitStatus> {
    loop {
        match next(cx.task()) {
            Next::Exit(status) => return Some(status),
            Next::Handle(info, action) => {
                if let Some(call) = call.take() {
                    resolve(cx, call, Some(action));
                }
                handle(cx, info, action);
                // A second pending signal gets its frame on top of this one, as on Linux.
                if !cx.task().signal_pending() {
                    return None;
                }
            }
            Next::Nothing => {
                if let Some(call) = call {
                    resolve(cx, call, None);
                }
                restore_saved_mask(cx.task());
                return None;
            }
        }
    }
}

/// Turns an interrupted call into `EINTR` or a restart. `action` is the handler that runs, if one does.
fn resolve(cx: &Context, call: Interrupted, action: Option<Action>) {
    let restarts = match (call.kind, action) {
        (_, None) | (Errno::RestartNoIntr, _) => true,
        (Errno::RestartSys, Some(action)) => action.flags.contains(ActionFlags::RESTART),
        _ => false,
    };
    let mut user = cx.user();
    let regs = user.regs_mut();
    if !restarts {
        regs.rax = (-i64::from(Errno::EINTR.code())) as u64;
        return;
    }
    regs.rax = if call.kind == Errno::RestartBlock {
        NR_RESTART_SYSCALL
    } else {
        call.nr
    };
    regs.rip = regs.rip.wrapping_sub(SYSCALL_LEN);
}

/// Builds the frame and sets the mask for the handler.
fn handle(cx: &Context, info: SigInfo, action: Action) {
    let task = cx.task();
    let signal = info.signal;
    let mask = {
        let own = task.signals.lock();
        own.saved.unwrap_or(own.blocked)
    };
    if frame::push(cx, &info, &action, mask).is_err() {
        send::force_segv(task, Some(signal));
        return;
    }
    let mut blocked = task.blocked().union(action.mask);
    if !action.flags.contains(ActionFlags::NODEFER) {
        blocked = blocked.with(signal);
    }
    task.signals.lock().saved = None;
    task.set_blocked(blocked);
}

/// Goes back to the mask before a temporary one, when no handler has taken it along.
fn restore_saved_mask(task: &Task) {
    let saved = task.signals.lock().saved.take();
    if let Some(mask) = saved {
        task.set_blocked(mask);
    }
}

/// Takes the next thing that needs an answer off the queues.
fn next(task: &Task) -> Next {
    loop {
        if task.process().signals.lock().announce.is_some() {
            stop::announce(task.process());
        }
        if let Some(status) = must_exit(task) {
            return Next::Exit(status);
        }
        if matches!(task.signals.lock().stop_pending, StopMark::Wanted(_)) {
            stop::join(task);
            continue;
        }
        let Some(info) = dequeue(task, SigSet::EMPTY.complement().minus(task.blocked())) else {
            return Next::Nothing;
        };
        let signal = info.signal;
        let actions = task.process().actions();
        let action = actions.get(signal);
        match action.handler {
            SIG_IGN => {}
            SIG_DFL => {
                if let Some(status) = by_default(task, signal) {
                    return Next::Exit(status);
                }
            }
            _ => {
                if action.flags.contains(ActionFlags::RESETHAND) {
                    actions.set(
                        signal,
                        Action {
                            handler: SIG_DFL,
                            ..action
                        },
                    );
                }
                return Next::Handle(info, action);
            }
        }
    }
}

/// A group exit or another thread's exec ends this task.
fn must_exit(task: &Task) -> Option<ExitStatus> {
    let group = task.process().signals.lock();
    group.must_exit(task).then(|| group.exit.unwrap_or_default())
}

/// The default action; the status if it ends the process.
fn by_default(task: &Task, signal: Signal) -> Option<ExitStatus> {
    let process = task.process();
    let kernel_only = SigSet::UNBLOCKABLE.contains(signal);
    if process.signals.lock().unkillable && !kernel_only {
        return None;
    }
    match signal.default_action() {
        DefaultAction::Ignore => None,
        DefaultAction::Stop => {
            if signal == Signal::STOP || !jobctl::group_is_orphaned(process.group()) {
                stop::begin(task, signal);
            }
            None
        }
        DefaultAction::Terminate => Some(send::exit_group(process, ExitStatus::killed(signal))),
        DefaultAction::Core => Some(send::exit_group(process, core_status(task, signal))),
    }
}

/// The status of a deadly signal that dumps core: with the core bit where Linux would have written one.
fn core_status(task: &Task, signal: Signal) -> ExitStatus {
    let process = task.process();
    let wanted = process.limit(Resource::CORE) > 0
        && process.with_attributes(|attributes| attributes.dumpable) == Dumpable::User;
    if wanted {
        arch_um::stub!("core dump files");
        ExitStatus::dumped(signal)
    } else {
        ExitStatus::killed(signal)
    }
}

/// Takes the next signal of `allowed`: the task's own before the group's.
pub(crate) fn dequeue(task: &Task, allowed: SigSet) -> Option<SigInfo> {
    let mut group = task.process().signals.lock();
    let mut own = task.signals.lock();
    let taken = if let Some(signal) = own.pending.next(allowed) {
        Some(own.pending.take(signal))
    } else {
        group.pending.next(allowed).map(|signal| group.pending.take(signal))
    };
    task.recalculate(&group, &own);
    drop(own);
    drop(group);
    // The queue entry itself is dropped here, with no lock held.
    let (mut info, _entry) = taken?;
    if let SigDetail::Timer { id, overrun, .. } = &mut info.detail {
        *overrun = posix_timer::signal_delivered(task.process(), *id);
    }
    Some(info)
}
