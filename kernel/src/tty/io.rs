//! [`TtyFile`], an open terminal: reading, writing, readiness.
//!
//! A read follows `termios(3)`: in canonical mode it returns with a line, else by `VMIN` and `VTIME`. A write returns when the driver has taken
//! everything. Both check job control first.

use alloc::sync::Arc;
use alloc::vec;
use core::any::Any;
use core::time::Duration;

use arch_um::sync::{Interruptible, Mutex, MutexGuard, WaitError};
use arch_um::time::Instant;

use super::ldisc::Piece;
use super::termios::{Lflag, cc};
use super::{Tty, jobctl};
use crate::io::{Sink, Source};
use crate::signal::Signal;
use crate::syscall::Context;
use crate::vfs::file::{SeekKind, WriteAt, Written};
use crate::vfs::{File, FileOps, OpenFlags, PollEvents, PollTable};
use crate::{Errno, Result};

/// Bytes moved between a guest and a terminal at a time.
const CHUNK: usize = 4096;
/// Output is "ready" while less than this waits (`poll(2)`).
const OUTPUT_LOW: usize = 256;

/// How a terminal was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenedAs {
    /// By its own name.
    Itself,
    /// As /dev/console: job control does not stop its readers and writers, and a hang-up does not touch it.
    Console,
}

/// An open description of a terminal.
pub struct TtyFile {
    tty: Arc<Tty>,
    hangups: u32,
    opened_as: OpenedAs,
}

impl TtyFile {
    /// Opens `tty`. Errors as [`super::driver::TtyDriver::open`], `EBUSY` (`TIOCEXCL`).
    pub fn open(tty: Arc<Tty>, opened_as: OpenedAs) -> Result<Arc<Self>> {
        tty.acquire()?;
        let hangups = tty.hangups();
        Ok(Arc::new(Self {
            tty,
            hangups,
            opened_as,
        }))
    }

    /// The terminal.
    pub fn tty(&self) -> &Arc<Tty> {
        &self.tty
    }

    /// How it was opened.
    pub fn opened_as(&self) -> OpenedAs {
        self.opened_as
    }

    /// Whether the terminal was hung up since it was opened.
    pub fn is_hung_up(&self) -> bool {
        self.opened_as == OpenedAs::Itself && self.hangups != self.tty.hangups()
    }

    /// Whether nothing will come any more, and why: end of file or an error.
    fn end(&self) -> Option<Result<usize>> {
        if self.is_hung_up() {
            return Some(Ok(0));
        }
        if self.tty.driver().is_gone() {
            return Some(Err(Errno::EIO));
        }
        self.tty.with_core(|core| core.ldisc.at_end()).then_some(Ok(0))
    }

    fn read(&self, file: &File, dst: &mut dyn Sink) -> Result<usize> {
        if self.is_hung_up() || dst.remaining() == 0 {
            return Ok(0);
        }
        if self.opened_as == OpenedAs::Itself {
            jobctl::check_read(&self.tty)?;
        }
        let _reader = take_turn(&self.tty.reading, file)?;
        let patience = Patience::of(&self.tty);
        let mut deadline = patience.first;
        let mut total = 0;
        let mut chunk = vec![0; dst.remaining().min(CHUNK)];
        loop {
            let room = dst.remaining().min(chunk.len());
            let piece = self.tty.with_core(|core| {
                let termios = core.termios;
                core.ldisc
                    .readable(&termios, 1)
                    .then(|| core.ldisc.read(&termios, &mut chunk[..room]))
            });
            if let Some(piece) = piece {
                let (Piece::Bytes(count) | Piece::Line(count)) = piece;
                self.tty.move_input();
                match dst.write(&chunk[..count]) {
                    Ok(stored) => total += stored,
                    Err(error) if total == 0 => return Err(error),
                    Err(_) => return Ok(total),
                }
                if matches!(piece, Piece::Line(_)) || total >= patience.minimum || dst.remaining() == 0 {
                    return Ok(total);
                }
                if let Some(pause) = patience.between {
                    deadline = Some(Instant::now().saturating_add(pause));
                }
                continue;
            }
            let so_far = |error| if total > 0 { Ok(total) } else { Err(error) };
            if let Some(end) = self.end() {
                return end.or_else(so_far).map(|_| total);
            }
            self.tty.driver().input_wanted();
            if patience.none_at_all {
                return Ok(total);
            }
            if file.is_nonblocking() {
                return so_far(Errno::EAGAIN);
            }
            let come = || (self.tty.has_input() || self.end().is_some()).then_some(());
            match self.tty.readable.wait_until(Interruptible::Yes, deadline, come) {
                Ok(()) => {}
                Err(WaitError::TimedOut) => return Ok(total),
                Err(WaitError::Interrupted) => return so_far(Errno::RestartSys),
            }
        }
    }

    fn write(&self, file: &File, src: &mut dyn Source) -> Result<usize> {
        self.check_alive()?;
        let redirected = (self.opened_as == OpenedAs::Console)
            .then(super::console::redirection)
            .flatten();
        let tty = redirected.as_deref().unwrap_or(&self.tty);
        if self.opened_as == OpenedAs::Itself && tty.with_core(|core| core.termios.local(Lflag::TOSTOP)) {
            jobctl::check_change(tty, Signal::TTOU)?;
        }
        let _writer = take_turn(&tty.writing, file)?;
        let mut chunk = vec![0; src.remaining().min(CHUNK)];
        let mut total = 0;
        while src.remaining() > 0 {
            let count = match src.read(&mut chunk) {
                Ok(count) => count,
                Err(error) if total == 0 => return Err(error),
                Err(_) => return Ok(total),
            };
            let mut done = 0;
            while done < count {
                let before = total + done;
                let so_far = |error| if before > 0 { Ok(before) } else { Err(error) };
                if let Err(error) = self.check_alive() {
                    return so_far(error);
                }
                let taken = tty.with_core(|core| core.write(&chunk[done..count], tty.driver()));
                tty.driver().transmit();
                done += taken;
                if done == count {
                    break;
                }
                if file.is_nonblocking() && taken == 0 {
                    return so_far(Errno::EAGAIN);
                }
                if taken == 0 {
                    let moves = || (self.check_alive().is_err() || tty.has_output_room()).then_some(());
                    if tty.writable.wait_until(Interruptible::Yes, None, moves).is_err() {
                        return so_far(Errno::RestartSys);
                    }
                }
            }
            total += count;
        }
        Ok(total)
    }

    /// `EIO` for a hung-up terminal or one whose far end is gone.
    pub(super) fn check_alive(&self) -> Result<()> {
        if self.is_hung_up() || self.tty.driver().is_gone() {
            Err(Errno::EIO)
        } else {
            Ok(())
        }
    }

    /// Waits until all output has left (`tcdrain(3)`), or the terminal is hung up.
    pub(super) fn drain(&self) -> Result<()> {
        let tty = &*self.tty;
        let sent = || {
            let empty = tty.driver().queued() == 0 && tty.with_core(|core| core.ldisc.echo_waiting() == 0);
            (empty || self.check_alive().is_err()).then_some(())
        };
        Ok(tty.writable.wait_until(Interruptible::Yes, None, sent)?)
    }
}

impl Drop for TtyFile {
    fn drop(&mut self) {
        self.tty.release();
    }
}

/// How long a read waits in non-canonical mode (`termios(3)`, "MIN" and "TIME").
struct Patience {
    /// A read returns with so many bytes.
    minimum: usize,
    /// Until when the first byte may take.
    first: Option<Instant>,
    /// How long each byte after the first may take.
    between: Option<Duration>,
    /// What is not there now is not waited for.
    none_at_all: bool,
}

impl Patience {
    fn of(tty: &Tty) -> Self {
        let termios = tty.termios();
        let (min, time) = (usize::from(termios.cc[cc::VMIN]), termios.cc[cc::VTIME]);
        let span = (time > 0).then(|| Duration::from_millis(100 * u64::from(time)));
        let mut patience = Self {
            minimum: 1,
            first: None,
            between: None,
            none_at_all: false,
        };
        if termios.canonical() {
            return patience;
        }
        if min > 0 {
            patience.minimum = min;
            patience.between = span;
        } else {
            patience.first = span.map(|span| Instant::now().saturating_add(span));
            patience.none_at_all = span.is_none();
        }
        patience
    }
}

/// Waits for one's turn to read or write, unless the description is non-blocking.
pub(super) fn take_turn<'a>(turn: &'a Mutex<()>, file: &File) -> Result<MutexGuard<'a, ()>> {
    if file.is_nonblocking() {
        turn.try_lock().ok_or(Errno::EAGAIN)
    } else {
        Ok(turn.lock_interruptible()?)
    }
}

impl FileOps for TtyFile {
    fn can_signal(&self) -> bool {
        true
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn seek_kind(&self) -> SeekKind {
        SeekKind::Stream
    }

    fn read_at(&self, file: &File, _pos: u64, dst: &mut dyn Sink) -> Result<usize> {
        self.read(file, dst)
    }

    fn write_at(&self, file: &File, _pos: WriteAt, src: &mut dyn Source) -> Result<Written> {
        self.write(file, src).map(|count| Written { count, end: 0 })
    }

    fn ioctl(&self, cx: &Context, file: &File, cmd: u32, arg: u64) -> Result<usize> {
        super::ioctl::of_terminal(self, cx, file, cmd, arg)
    }

    fn announces(&self) -> bool {
        true
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.listen(&self.tty.readable);
            table.listen(&self.tty.writable);
        }
        let input = PollEvents::IN | PollEvents::RDNORM;
        let output = PollEvents::OUT | PollEvents::WRNORM;
        if self.is_hung_up() {
            return input | output | PollEvents::ERR | PollEvents::HUP;
        }
        let mut events = PollEvents::empty();
        let driver = self.tty.driver();
        let (readable, stopped) = self.tty.with_core(|core| {
            let (min, time) = (core.termios.cc[cc::VMIN], core.termios.cc[cc::VTIME]);
            let min = if time == 0 { usize::from(min).max(1) } else { 1 };
            (
                core.ldisc.readable(&core.termios, min) || core.ldisc.at_end(),
                core.ldisc.stopped(),
            )
        });
        if readable {
            events |= input;
        } else {
            driver.input_wanted();
        }
        if driver.is_gone() {
            events |= PollEvents::HUP;
        }
        if !stopped && driver.queued() < OUTPUT_LOW && driver.write_room() > 0 {
            events |= output;
        }
        events
    }

    fn flags_changed(&self, _file: &File, _flags: OpenFlags) -> Result<()> {
        Ok(())
    }
}
