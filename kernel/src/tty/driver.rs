//! [`TtyDriver`]: what carries a terminal's bytes: a host channel (crate `drivers`) or the master of a pseudo-terminal ([`super::pty`]).
//!
//! Output: the terminal asks for room, hands over processed bytes under its spin lock and calls [`TtyDriver::transmit`] after releasing it. Whoever
//! makes room again calls [`Tty::output_moved`](super::Tty::output_moved). Input: the driver calls [`Tty::receive`](super::Tty::receive) with no
//! more than [`Tty::input_room`](super::Tty::input_room) bytes; after a 0 it stands still until [`TtyDriver::accept_input`].

use super::ldisc::Overflow;
use super::termios::{Termios, WinSize};
use crate::Result;

/// What a pseudo-terminal's master in packet mode hears of (`TIOCPKT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Input was flushed.
    FlushedInput,
    /// Output was flushed.
    FlushedOutput,
    /// Output stopped.
    Stopped,
    /// Output goes on.
    Started,
}

/// The carrier of a terminal's bytes. The defaults are those of a line that needs no such care.
pub trait TtyDriver: Send + Sync {
    /// The first descriptor is being opened; may sleep. `ENODEV` for a line without a channel, `EIO` when the peer is gone.
    fn open(&self) -> Result<()> {
        Ok(())
    }

    /// The last descriptor is closed; may sleep.
    fn close(&self) {}

    /// Bytes that [`write`](Self::write) takes now. Under the terminal's spin lock.
    fn write_room(&self) -> usize;

    /// Takes output, no more than the room. Under the terminal's spin lock: queues, and at most starts a host call that cannot block.
    fn write(&self, data: &[u8]);

    /// Output that has not left yet, bytes.
    fn queued(&self) -> usize;

    /// Output was queued; no lock is held.
    fn transmit(&self) {}

    /// Drops output that has not left yet. Under the terminal's spin lock.
    fn flush_output(&self) {}

    /// There is room for input again; no lock is held.
    fn accept_input(&self) {}

    /// Somebody looks for input and finds none: a driver that reads only on demand reads now. No lock is held.
    fn input_wanted(&self) {}

    /// The settings changed; no lock is held.
    fn configured(&self, _old: &Termios, _new: &Termios) {}

    /// A program set the window size; no lock is held.
    fn resized(&self, _size: WinSize) {}

    /// See [`Notice`]; no lock is held.
    fn notify(&self, _notice: Notice) {}

    /// The terminal was hung up; no lock is held.
    fn hung_up(&self) {}

    /// Whether the far end is gone: reads and writes give `EIO`.
    fn is_gone(&self) -> bool {
        false
    }

    /// What happens to input lines that do not fit.
    fn overflow(&self) -> Overflow {
        Overflow::Discard
    }

    /// Bytes of input kept before the discipline, for a terminal whose readers are slow.
    fn input_buffer(&self) -> usize {
        4096
    }
}
