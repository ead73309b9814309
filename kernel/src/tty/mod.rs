//! Terminals: the line discipline, job control, pseudo-terminals, consoles (`termios(3)`, `tty(4)`, `pty(7)`).
//!
//! * [`terminal`]: [`Tty`], a terminal.  * [`driver`]: what carries its bytes, implemented by crate `drivers` and by [`pty`].
//! * [`ldisc`]: N_TTY as a state machine.  * [`termios`], [`flags`], [`numbers`]: settings and requests in binary.
//! * [`io`]: an open terminal.  * [`ioctl`]: requests.  * [`jobctl`]: sessions and groups; [`session`] is its door to `task` and `signal`.
//! * [`devices`]: numbers and names.  * [`console`]: `console=` and /dev/console.
//!
//! Neighbour: `fs/devpts` shows the slaves of pseudo-terminals.

pub mod console;
pub mod devices;
pub mod driver;
pub mod flags;
pub mod io;
mod ioctl;
pub mod jobctl;
pub mod ldisc;
pub mod numbers;
pub mod pty;
mod session;
pub mod terminal;
pub mod termios;
#[cfg(test)]
mod tests;

pub use driver::TtyDriver;
pub use io::{OpenedAs, TtyFile};
pub use jobctl::session_leader_exit;
pub use terminal::Tty;

use crate::syscall::Context;
use crate::task::Capabilities;
use crate::{Errno, Result};

/// Registers terminals with the rest of the kernel. Once, at boot, before the drivers bring lines up.
pub fn init() -> Result<()> {
    devices::init()
}

/// `vhangup(2)`. `EPERM` without `CAP_SYS_TTY_CONFIG`.
pub fn sys_vhangup(cx: &Context) -> Result<usize> {
    if !cx.task().cred().capable(Capabilities::SYS_TTY_CONFIG) {
        return Err(Errno::EPERM);
    }
    jobctl::hang_up_own();
    Ok(0)
}
