//! Waiting for children: `wait4(2)`, `waitid(2)`.

use alloc::sync::Arc;

use arch_um::sync::{Interruptible, WaitError};
use bitflags::bitflags;

use super::status::{ExitStatus, cld};
use super::table::{self, Node, Reaped, Tree};
use super::times::{Rusage, Usage};
use super::{Pid, Process, Task, pidfd};
use crate::signal::Signal;
use crate::syscall::Context;
use crate::user::UserPtr;
use crate::vfs::fd_table::Fd;
use crate::{Errno, Result};

bitflags! {
    /// What to wait for and how.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct WaitOptions: u32 {
        /// Do not sleep.
        const NOHANG = 1;
        /// Stopped children (`WUNTRACED`).
        const STOPPED = 2;
        /// Children that ended.
        const EXITED = 4;
        /// Continued children.
        const CONTINUED = 8;
        /// Leave it to be waited for again.
        const NOWAIT = 0x0100_0000;
        /// Only children of this thread.
        const NOTHREAD = 0x2000_0000;
        /// Children with any exit signal.
        const ALL = 0x4000_0000;
        /// Only children with another exit signal than `CHLD`.
        const CLONE = 0x8000_0000;
    }
}

/// Which children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Any,
    Process(Pid),
    Group(Pid),
}

/// What a child did.
#[derive(Clone, Copy, Debug)]
struct Event {
    pid: Pid,
    uid: u32,
    /// `wait4`'s status word.
    status: i32,
    /// `CLD_*`.
    code: i32,
    /// `si_status`.
    detail: i32,
    usage: Usage,
}

/// `wait4(2)`.
pub fn sys_wait4(cx: &Context, pid: Pid, status: UserPtr<i32>, options: u32, rusage: UserPtr<Rusage>) -> Result<usize> {
    let options = WaitOptions::from_bits_retain(options);
    let allowed = WaitOptions::NOHANG | WaitOptions::STOPPED | WaitOptions::CONTINUED | WaitOptions::NOTHREAD;
    if !(allowed | WaitOptions::ALL | WaitOptions::CLONE).contains(options) {
        return Err(Errno::EINVAL);
    }
    let which = match pid.0 {
        i32::MIN => return Err(Errno::ESRCH),
        -1 => Which::Any,
        0 => Which::Group(cx.task().process().group()),
        1.. => Which::Process(pid),
        negative => Which::Group(Pid(-negative)),
    };
    let Some(event) = wait(cx.task(), which, options | WaitOptions::EXITED)? else {
        return Ok(0);
    };
    if let Some(status) = status.non_null() {
        status.write(&event.status)?;
    }
    if let Some(rusage) = rusage.non_null() {
        rusage.write(&event.usage.into())?;
    }
    Ok(event.pid.0 as usize)
}

/// `waitid(2)` with the kernel's fifth argument.
pub fn sys_waitid(cx: &Context, kind: i32, id: i32, info: u64, options: u32, rusage: UserPtr<Rusage>) -> Result<usize> {
    let mut options = WaitOptions::from_bits_retain(options);
    let states = WaitOptions::EXITED | WaitOptions::STOPPED | WaitOptions::CONTINUED;
    if !WaitOptions::all().contains(options) || !options.intersects(states) {
        return Err(Errno::EINVAL);
    }
    let asked = options;
    let which = match (kind, id) {
        (0, _) => Which::Any,
        (1, 1..) => Which::Process(Pid(id)),
        (2, 0) => Which::Group(cx.task().process().group()),
        (2, 1..) => Which::Group(Pid(id)),
        (3, 0..) => {
            let (process, nonblocking) = pidfd::process_of(cx, Fd(id))?;
            if nonblocking {
                options |= WaitOptions::NOHANG;
            }
            // Its number may be another's by now.
            table::with_node(&process, |_| ()).ok_or(Errno::ECHILD)?;
            Which::Process(process.pid())
        }
        _ => return Err(Errno::EINVAL),
    };
    let event = wait(cx.task(), which, options)?;
    if event.is_none() && !asked.contains(WaitOptions::NOHANG) {
        // A non-blocking pidfd.
        return Err(Errno::EAGAIN);
    }
    if let (Some(event), Some(rusage)) = (event, rusage.non_null()) {
        rusage.write(&event.usage.into())?;
    }
    if info != 0 {
        write_info(info, event)?;
    }
    Ok(0)
}

/// Writes the fields of `siginfo_t` that `waitid` sets, and no others.
fn write_info(info: u64, event: Option<Event>) -> Result<()> {
    let signal = event.map_or(0, |_| Signal::CHLD.number());
    let (code, pid, uid, detail) =
        event.map_or((0, 0, 0, 0), |event| (event.code, event.pid.0, event.uid, event.detail));
    UserPtr::<[i32; 3]>::new(info).write(&[signal, 0, code])?;
    UserPtr::<[i32; 3]>::new(info.wrapping_add(16)).write(&[pid, uid as i32, detail])
}

/// What one look at the children gives.
enum Look {
    Found(Event, Option<Reaped>),
    /// There are children to wait for, but none did anything.
    Nothing,
    /// There is none to wait for.
    NoChild,
}

/// Waits for an event of a child. None with `NOHANG` when there is none yet. `ECHILD` without such children.
fn wait(task: &Task, which: Which, options: WaitOptions) -> Result<Option<Event>> {
    let mut reaped = None;
    let look = || match look(task, which, options) {
        Look::Found(event, zombie) => {
            reaped = zombie;
            Some(Ok(Some(event)))
        }
        Look::NoChild => Some(Err(Errno::ECHILD)),
        Look::Nothing => options.contains(WaitOptions::NOHANG).then_some(Ok(None)),
    };
    let outcome = task.process().child_wait.wait_until(Interruptible::Yes, None, look);
    drop(reaped);
    match outcome {
        Ok(result) => result,
        Err(WaitError::Interrupted | WaitError::TimedOut) => Err(Errno::RestartSys),
    }
}

fn look(task: &Task, which: Which, options: WaitOptions) -> Look {
    let mut tree = table::tree();
    let mut found = None;
    let mut waitable = false;
    for child in tree.children(task.process().pid()) {
        if !matches(task, child, which, options) {
            continue;
        }
        if child.zombie.is_some() {
            if options.contains(WaitOptions::EXITED) {
                found = Some((child.process.clone(), true));
                break;
            }
            continue;
        }
        waitable = true;
        if changed(&child.process, options) {
            found = Some((child.process.clone(), false));
            break;
        }
    }
    match found {
        Some((child, true)) => {
            let event = ended(&tree, &child);
            let keep = options.contains(WaitOptions::NOWAIT);
            let reaped = if keep {
                None
            } else {
                reap(&mut tree, task.process(), &child)
            };
            Look::Found(event, reaped)
        }
        Some((child, false)) => match stopped_or_continued(&tree, &child, options) {
            Some(event) => Look::Found(event, None),
            None => Look::Nothing,
        },
        None if waitable => Look::Nothing,
        None => Look::NoChild,
    }
}

fn matches(task: &Task, child: &Node, which: Which, options: WaitOptions) -> bool {
    let selected = match which {
        Which::Any => true,
        Which::Process(pid) => child.process.pid() == pid,
        Which::Group(group) => child.group == group,
    };
    let is_clone = child.exit_signal != Signal::CHLD.number();
    let kind = options.contains(WaitOptions::ALL) || is_clone == options.contains(WaitOptions::CLONE);
    let own = !options.contains(WaitOptions::NOTHREAD) || child.parent_thread == task.tid();
    selected && kind && own
}

fn changed(child: &Process, options: WaitOptions) -> bool {
    let group = child.signals.lock();
    options.contains(WaitOptions::STOPPED) && group.unreported_stop.is_some()
        || options.contains(WaitOptions::CONTINUED) && group.unreported_continue
}

fn uid_of(tree: &Tree, child: &Process) -> u32 {
    tree.node(child.pid())
        .and_then(|node| node.threads.values().next())
        .or_else(|| tree.task(child.pid()))
        .map_or(0, |task| task.cred().uid)
}

fn ended(tree: &Tree, child: &Process) -> Event {
    let status = tree.node(child.pid()).and_then(|node| node.zombie).unwrap_or_default();
    let (code, detail) = status.child_info();
    let usage = child.usage_of(tree).plus(child.children_usage());
    Event {
        pid: child.pid(),
        uid: uid_of(tree, child),
        status: status.0,
        code,
        detail,
        usage,
    }
}

/// Reports a stop or continuation once.
fn stopped_or_continued(tree: &Tree, child: &Arc<Process>, options: WaitOptions) -> Option<Event> {
    let uid = uid_of(tree, child);
    let usage = child.usage_of(tree).plus(child.children_usage());
    let keep = options.contains(WaitOptions::NOWAIT);
    let mut group = child.signals.lock();
    if let Some(signal) = group.unreported_stop.filter(|_| options.contains(WaitOptions::STOPPED)) {
        if !keep {
            group.unreported_stop = None;
        }
        let status = ExitStatus::stopped(signal);
        return Some(Event {
            pid: child.pid(),
            uid,
            status,
            code: cld::STOPPED,
            detail: signal.number(),
            usage,
        });
    }
    if group.unreported_continue && options.contains(WaitOptions::CONTINUED) {
        group.unreported_continue = keep;
        let detail = Signal::CONT.number();
        return Some(Event {
            pid: child.pid(),
            uid,
            status: ExitStatus::CONTINUED,
            code: cld::CONTINUED,
            detail,
            usage,
        });
    }
    None
}

/// Takes a zombie away, and counts what it used for the parent.
fn reap(tree: &mut Tree, parent: &Process, child: &Process) -> Option<Reaped> {
    let usage = child.usage_of(tree).plus(child.children_usage());
    let reaped = tree.reap(child.pid())?;
    let mut accounting = parent.accounting.lock();
    accounting.children = accounting.children.plus(usage);
    Some(reaped)
}
