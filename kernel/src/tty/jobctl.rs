//! Job control: controlling terminals, foreground groups, who may read and write, hang-up (`tty(4)`, `tcsetpgrp(3)`, `setsid(2)`).

use alloc::sync::Arc;

use super::Tty;
use super::pty;
use super::session::{self, Caller};
use crate::signal::Signal;
use crate::task::Pid;
use crate::{Errno, Result};

pub(super) use super::session::{is_admin, signal_group};

/// May a foreign session's terminal be taken (`TIOCSCTTY` with argument 1)?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steal {
    /// Yes, by the superuser.
    Yes,
    /// No.
    No,
}

/// Whether `tty` is the controlling terminal of the caller's session.
fn is_own(tty: &Tty, caller: Caller) -> bool {
    session::terminal_of(caller.session).is_some_and(|own| core::ptr::eq(&*own, tty))
}

/// The terminal `/dev/tty` stands for: `ENXIO` without one.
pub fn own_terminal() -> Result<Arc<Tty>> {
    session::caller()
        .and_then(|caller| session::terminal_of(caller.session))
        .ok_or(Errno::ENXIO)
}

/// The controlling terminal of `session` (/proc/pid/stat's `tty_nr` and `tpgid`).
pub fn terminal_of(session: Pid) -> Option<Arc<Tty>> {
    session::terminal_of(session)
}

/// The group of a caller that is in the background of its own terminal `tty`.
fn background_group(tty: &Tty) -> Option<Pid> {
    let caller = session::caller().filter(|&caller| is_own(tty, caller))?;
    let foreground = tty.foreground()?;
    (foreground != caller.group).then_some(caller.group)
}

/// A background process may not read its terminal: `SIGTTIN`, or `EIO` where that signal would do nothing.
pub(super) fn check_read(tty: &Tty) -> Result<()> {
    let Some(group) = background_group(tty) else {
        return Ok(());
    };
    if session::shuns(Signal::TTIN) || session::is_orphaned(group) {
        return Err(Errno::EIO);
    }
    session::signal_group(group, Signal::TTIN);
    Err(Errno::RestartSys)
}

/// A background process may change its terminal (or write to it under `TOSTOP`) only if it blocks or ignores `signal` (`SIGTTOU`).
pub(super) fn check_change(tty: &Tty, signal: Signal) -> Result<()> {
    let Some(group) = background_group(tty) else {
        return Ok(());
    };
    if session::shuns(signal) {
        return Ok(());
    }
    if session::is_orphaned(group) {
        return Err(Errno::EIO);
    }
    session::signal_group(group, signal);
    Err(Errno::RestartSys)
}

/// A session leader without a terminal opens a free one without `O_NOCTTY`: it becomes his.
pub(super) fn adopt_on_open(tty: &Arc<Tty>) {
    let Some(caller) = session::caller() else { return };
    if caller.leads && session::terminal_of(caller.session).is_none() && tty.session().is_none() {
        adopt(tty, caller);
    }
}

fn adopt(tty: &Arc<Tty>, caller: Caller) {
    tty.with_core(|core| {
        core.session = Some(caller.session);
        core.foreground = Some(caller.group);
    });
    session::set_terminal(caller.session, tty.clone());
}

/// `TIOCSCTTY`. `EPERM` for who is no session leader, has a terminal, or may not take this one.
pub fn set_controlling(tty: &Arc<Tty>, steal: Steal, readable: crate::vfs::Access) -> Result<()> {
    let caller = session::caller().ok_or(Errno::EPERM)?;
    if caller.leads && tty.session() == Some(caller.session) {
        return Ok(());
    }
    if !caller.leads || session::terminal_of(caller.session).is_some() {
        return Err(Errno::EPERM);
    }
    if let Some(owner) = tty.session() {
        if steal == Steal::No || !session::is_admin() {
            return Err(Errno::EPERM);
        }
        session::clear_terminal(owner);
    }
    if !readable.contains(crate::vfs::Access::READ) && !session::is_admin() {
        return Err(Errno::EPERM);
    }
    adopt(tty, caller);
    Ok(())
}

/// `TIOCNOTTY`. `ENOTTY` unless it is the caller's. A leader takes it away from the whole session, and the foreground group hears of it.
pub fn give_up_controlling(tty: &Arc<Tty>) -> Result<()> {
    let caller = session::caller()
        .filter(|&caller| is_own(tty, caller))
        .ok_or(Errno::ENOTTY)?;
    if caller.leads {
        detach(caller.session);
    }
    Ok(())
}

/// The leader of `session` is exiting: its terminal is hung up, the foreground group gets `SIGHUP` and `SIGCONT`.
///
/// A pseudo-terminal lives on, as on Linux: who holds its slave open (`script(1)`) still has to see what the session wrote, and its master hangs up
/// with the last slave. Its foreground group gets `SIGHUP` alone.
pub fn session_leader_exit(session: Pid) {
    let Some(tty) = session::terminal_of(session) else {
        return;
    };
    if tty.dev().major != pty::SLAVE_MAJOR {
        detach(session);
        tty.cut_off();
    } else if let Some(group) = part(session) {
        session::signal_group(group, Signal::HUP);
    }
}

/// Takes the terminal of `session` away; its foreground group.
fn part(session: Pid) -> Option<Pid> {
    let tty = session::clear_terminal(session)?;
    tty.with_core(|core| {
        core.session = None;
        core.foreground.take()
    })
}

/// Parts a session from its terminal.
fn detach(session: Pid) {
    if let Some(group) = part(session) {
        session::signal_group(group, Signal::HUP);
        session::signal_group(group, Signal::CONT);
    }
}

/// The line went away, or `vhangup(2)`: the session's leader and the foreground group get `SIGHUP` and `SIGCONT`, all descriptions die.
pub fn hang_up(tty: &Tty) {
    let (owner, foreground) = tty.with_core(|core| (core.session, core.foreground));
    if let Some(owner) = owner {
        session::clear_terminal(owner);
    }
    tty.cut_off();
    if let Some(leader) = owner {
        session::signal_process(leader, Signal::HUP);
        session::signal_process(leader, Signal::CONT);
    }
    if let Some(group) = foreground {
        session::signal_group(group, Signal::HUP);
    }
}

/// `vhangup(2)`: hangs up the caller's own terminal, if it has one.
pub fn hang_up_own() {
    if let Ok(tty) = own_terminal() {
        hang_up(&tty);
    }
}

/// By which end of a pseudo-terminal a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The terminal itself.
    Terminal,
    /// The master: it may ask about a terminal that is not its own.
    Master,
}

/// `TIOCGPGRP`: 0 without a foreground group. `ENOTTY` for somebody else's terminal.
pub fn foreground_group(tty: &Tty, side: Side) -> Result<Pid> {
    let own = session::caller().is_some_and(|caller| is_own(tty, caller));
    if side == Side::Terminal && !own {
        return Err(Errno::ENOTTY);
    }
    Ok(tty.foreground().unwrap_or_default())
}

/// `TIOCSPGRP`. `ENOTTY` for somebody else's terminal, `EINVAL` for a negative group, `ESRCH` for none such, `EPERM` for one of another session.
pub fn set_foreground_group(tty: &Tty, group: Pid) -> Result<()> {
    match check_change(tty, Signal::TTOU) {
        Err(Errno::EIO) => return Err(Errno::ENOTTY),
        outcome => outcome?,
    }
    let caller = session::caller()
        .filter(|&caller| is_own(tty, caller))
        .ok_or(Errno::ENOTTY)?;
    if tty.session() != Some(caller.session) {
        return Err(Errno::ENOTTY);
    }
    if group.0 < 0 {
        return Err(Errno::EINVAL);
    }
    if session::session_of_group(group).ok_or(Errno::ESRCH)? != caller.session {
        return Err(Errno::EPERM);
    }
    tty.with_core(|core| core.foreground = Some(group));
    Ok(())
}

/// `TIOCGSID`. `ENOTTY` for somebody else's terminal or one without a session.
pub fn session_id(tty: &Tty, side: Side) -> Result<Pid> {
    let own = session::caller().is_some_and(|caller| is_own(tty, caller));
    if side == Side::Terminal && !own {
        return Err(Errno::ENOTTY);
    }
    tty.session().ok_or(Errno::ENOTTY)
}
