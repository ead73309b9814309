//! `ioctl(2)` on terminals (`ioctl_tty(2)`): what both ends of a pseudo-terminal and all lines understand.

use alloc::sync::Arc;

use super::Tty;
use super::io::TtyFile;
use super::jobctl::{self, Side, Steal};
use super::numbers::*;
use super::termios::{Termio, Termios, Termios1, Termios2, WinSize, cc};
use crate::signal::Signal;
use crate::syscall::Context;
use crate::task::Pid;
use crate::user::UserPtr;
use crate::vfs::File;
use crate::{Errno, Result};

/// When new settings come into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// `TCSANOW`.
    Now,
    /// `TCSADRAIN`.
    Drain,
    /// `TCSAFLUSH`.
    Flush,
}

/// A request to a terminal through its own file.
pub(super) fn of_terminal(this: &TtyFile, _cx: &Context, file: &File, cmd: u32, arg: u64) -> Result<usize> {
    let tty = this.tty();
    if this.is_hung_up() {
        return Err(if cmd == TIOCSPGRP { Errno::ENOTTY } else { Errno::EIO });
    }
    match cmd {
        TCSETS => set(this, When::Now, |old| {
            Ok(old.with(&UserPtr::<Termios1>::new(arg).read()?))
        }),
        TCSETSW => set(this, When::Drain, |old| {
            Ok(old.with(&UserPtr::<Termios1>::new(arg).read()?))
        }),
        TCSETSF => set(this, When::Flush, |old| {
            Ok(old.with(&UserPtr::<Termios1>::new(arg).read()?))
        }),
        TCSETS2 => set(this, When::Now, |old| {
            Ok(old.with2(&UserPtr::<Termios2>::new(arg).read()?))
        }),
        TCSETSW2 => set(this, When::Drain, |old| {
            Ok(old.with2(&UserPtr::<Termios2>::new(arg).read()?))
        }),
        TCSETSF2 => set(this, When::Flush, |old| {
            Ok(old.with2(&UserPtr::<Termios2>::new(arg).read()?))
        }),
        TCSETA => set(this, When::Now, |old| {
            Ok(old.with_old(&UserPtr::<Termio>::new(arg).read()?))
        }),
        TCSETAW => set(this, When::Drain, |old| {
            Ok(old.with_old(&UserPtr::<Termio>::new(arg).read()?))
        }),
        TCSETAF => set(this, When::Flush, |old| {
            Ok(old.with_old(&UserPtr::<Termio>::new(arg).read()?))
        }),
        TCSBRK | TCSBRKP => {
            jobctl::check_change(tty, Signal::TTOU)?;
            // A break has no meaning on a host channel; with an argument TCSBRK is tcdrain().
            this.drain()?;
            Ok(0)
        }
        TIOCSBRK | TIOCCBRK => Ok(0),
        TCXONC => {
            jobctl::check_change(tty, Signal::TTOU)?;
            match arg {
                TCOOFF => tty.stop_output(),
                TCOON => tty.start_output(),
                TCIOFF => tty.send_special(cc::VSTOP),
                TCION => tty.send_special(cc::VSTART),
                _ => return Err(Errno::EINVAL),
            }
            Ok(0)
        }
        TCFLSH => {
            jobctl::check_change(tty, Signal::TTOU)?;
            flush(tty, arg)
        }
        TIOCOUTQ => put(
            arg,
            (tty.driver().queued() + tty.with_core(|core| core.ldisc.echo_waiting())) as i32,
        ),
        FIONREAD => put(arg, tty.with_core(|core| core.ldisc.buffered(&core.termios)) as i32),
        TIOCSTI => {
            let own = jobctl::own_terminal().is_ok_and(|own| Arc::ptr_eq(&own, tty));
            if !own && !jobctl::is_admin() {
                return Err(Errno::EPERM);
            }
            tty.receive(&[UserPtr::<u8>::new(arg).read()?]);
            Ok(0)
        }
        TIOCSCTTY => {
            let steal = if arg == 1 { Steal::Yes } else { Steal::No };
            jobctl::set_controlling(tty, steal, file.access()).map(|()| 0)
        }
        TIOCNOTTY => jobctl::give_up_controlling(tty).map(|()| 0),
        TIOCVHANGUP => {
            if !jobctl::is_admin() {
                return Err(Errno::EPERM);
            }
            jobctl::hang_up(tty);
            Ok(0)
        }
        TIOCCONS => {
            if !jobctl::is_admin() {
                return Err(Errno::EPERM);
            }
            super::console::redirect(this).map(|()| 0)
        }
        TIOCGDEV => put(arg, tty.dev().encode() as u32 as i32),
        // Modem lines, serial ports and their counters: a host channel has none.
        TIOCMGET | TIOCMSET | TIOCMBIC | TIOCMBIS | TIOCMIWAIT | TIOCGICOUNT | TIOCGSERIAL | TIOCSSERIAL
        | TIOCSERCONFIG | TIOCSERGETLSR => Err(Errno::ENOTTY),
        TIOCGSOFTCAR => put(
            arg,
            i32::from(tty.termios().cflag.contains(super::termios::Cflag::CLOCAL)),
        ),
        TIOCSSOFTCAR => {
            let local = UserPtr::<i32>::new(arg).read()? != 0;
            let mut termios = tty.termios();
            termios.cflag.set(super::termios::Cflag::CLOCAL, local);
            tty.set_termios(termios);
            Ok(0)
        }
        _ => common(tty, Side::Terminal, cmd, arg),
    }
}

/// Requests that mean the same from either end of a pseudo-terminal: they concern the terminal.
pub(super) fn common(tty: &Arc<Tty>, side: Side, cmd: u32, arg: u64) -> Result<usize> {
    match cmd {
        TCGETS => UserPtr::new(arg).write(&Termios1::from(&tty.termios())).map(|()| 0),
        TCGETS2 => UserPtr::new(arg).write(&Termios2::from(&tty.termios())).map(|()| 0),
        TCGETA => UserPtr::new(arg).write(&Termio::from(&tty.termios())).map(|()| 0),
        TIOCGWINSZ => UserPtr::new(arg).write(&tty.winsize()).map(|()| 0),
        TIOCSWINSZ => {
            tty.set_winsize(UserPtr::<WinSize>::new(arg).read()?);
            Ok(0)
        }
        TIOCGPGRP => put(arg, jobctl::foreground_group(tty, side)?.0),
        TIOCSPGRP => {
            let group = Pid(UserPtr::<i32>::new(arg).read()?);
            jobctl::set_foreground_group(tty, group).map(|()| 0)
        }
        TIOCGSID => put(arg, jobctl::session_id(tty, side)?.0),
        TIOCEXCL => set_exclusive(tty, true),
        TIOCNXCL => set_exclusive(tty, false),
        TIOCGEXCL => put(arg, i32::from(tty.with_core(|core| core.exclusive))),
        TIOCGLCKTRMIOS => {
            let locked = tty.with_core(|core| core.locked);
            UserPtr::new(arg).write(&locked).map(|()| 0)
        }
        TIOCSLCKTRMIOS => {
            if !jobctl::is_admin() {
                return Err(Errno::EPERM);
            }
            let locked = UserPtr::<Termios1>::new(arg).read()?;
            tty.with_core(|core| core.locked = locked);
            Ok(0)
        }
        TIOCGETD => put(arg, i32::from(tty.termios().line)),
        TIOCSETD => match UserPtr::<i32>::new(arg).read()? {
            N_TTY => Ok(0),
            _ => Err(Errno::EINVAL),
        },
        // Among them the requests of virtual terminals (`KDGKBTYPE`, `VT_GETSTATE`, `TIOCLINUX`, `KDSIGACCEPT`): these consoles are host channels
        // without keyboard map, font and switching, and `ENOTTY` is how `loadkeys`, `setfont`, getty and systemd find that out.
        _ => Err(Errno::ENOTTY),
    }
}

fn set_exclusive(tty: &Tty, exclusive: bool) -> Result<usize> {
    tty.with_core(|core| core.exclusive = exclusive);
    Ok(0)
}

fn put(arg: u64, value: i32) -> Result<usize> {
    UserPtr::<i32>::new(arg).write(&value).map(|()| 0)
}

fn set(this: &TtyFile, when: When, new: impl Fn(Termios) -> Result<Termios>) -> Result<usize> {
    let tty = this.tty();
    jobctl::check_change(tty, Signal::TTOU)?;
    // A bad address is found before anything waits or is lost.
    new(tty.termios())?;
    if when != When::Now {
        this.drain()?;
    }
    if when == When::Flush {
        tty.flush_input();
    }
    tty.set_termios(new(tty.termios())?);
    Ok(0)
}

/// Settings given through the master of a pseudo-terminal: no job control, nothing to drain.
pub(super) fn set_from_master(tty: &Tty, cmd: u32, arg: u64) -> Option<Result<usize>> {
    let old = tty.termios();
    let new = match cmd {
        TCSETS | TCSETSW | TCSETSF => UserPtr::<Termios1>::new(arg).read().map(|form| old.with(&form)),
        TCSETS2 | TCSETSW2 | TCSETSF2 => UserPtr::<Termios2>::new(arg).read().map(|form| old.with2(&form)),
        TCSETA | TCSETAW | TCSETAF => UserPtr::<Termio>::new(arg).read().map(|form| old.with_old(&form)),
        _ => return None,
    };
    Some(new.map(|new| {
        if matches!(cmd, TCSETSF | TCSETSF2 | TCSETAF) {
            tty.flush_input();
        }
        tty.set_termios(new);
        0
    }))
}

fn flush(tty: &Tty, queue: u64) -> Result<usize> {
    match queue {
        TCIFLUSH => tty.flush_input(),
        TCOFLUSH => tty.flush_output(),
        TCIOFLUSH => {
            tty.flush_input();
            tty.flush_output();
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
