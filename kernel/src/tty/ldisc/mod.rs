//! N_TTY, the line discipline of terminals, as a state machine without locks, waiting or signals (`termios(3)`).
//!
//! [`Ldisc`] takes bytes from a line ([`Ldisc::receive`]), edits them into lines, echoes, and hands them to readers ([`Ldisc::read`]); what programs
//! write goes through output processing ([`Ldisc::write`]). What has to happen outside (signals, wake-ups, flushing) comes back in [`Effects`].
//! The terminal ([`super::terminal`]) owns one under its spin lock.
//!
//! * [`input`](self): special characters.  * `edit`: erase, kill, reprint.  * `output`: `OPOST` and columns.  * `read`: lines and bytes out.

mod edit;
mod input;
mod output;
mod read;
#[cfg(test)]
mod tests;

use alloc::collections::VecDeque;
use smallvec::SmallVec;

use super::termios::{Iflag, Lflag, Termios};
use crate::signal::Signal;

pub use input::Condition;
pub use read::Piece;

/// Bytes that wait for readers at most; a line has at most one less, plus its end.
pub const CAPACITY: usize = 4096;
/// Bytes of echo that wait for the line at most; more is dropped.
const ECHO_LIMIT: usize = 4096;

/// This cell is the last of a line.
const END: u16 = 0x100;
/// This cell ends a line without being part of it (`VEOF`).
const HIDDEN: u16 = 0x200;

/// Where processed output goes: the driver of the line.
pub trait Output {
    /// Bytes it takes now.
    fn room(&self) -> usize;
    /// Takes `data`, which is no longer than [`room`](Self::room).
    fn put(&mut self, data: &[u8]);
}

/// What happens to a line of input that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overflow {
    /// The rest is lost with a bell, as on every Unix: a human typed it.
    Discard,
    /// Readers get the line in pieces: it comes from a file or a pipe, where nothing may be lost.
    Split,
}

/// What a step of the discipline asks of the terminal, in this order: flush output, send signals, wake readers and writers.
#[derive(Debug, Default)]
pub struct Effects {
    /// For the foreground process group.
    pub signals: SmallVec<[Signal; 2]>,
    /// Output that has not left yet is to be dropped (a signal character without `NOFLSH`).
    pub flush_output: bool,
    /// Input was dropped.
    pub flushed_input: bool,
    /// There may be something to read.
    pub readable: bool,
    /// Output was stopped or started.
    pub flow_changed: bool,
}

/// The discipline of one terminal.
pub struct Ldisc {
    /// Input for readers: a byte each, with [`END`] and [`HIDDEN`].
    cells: VecDeque<u16>,
    /// How many cells from the front belong to finished lines.
    finished: usize,
    /// Echo on its way to the line, output processing done.
    echo: VecDeque<u8>,
    /// Column of the cursor.
    column: usize,
    /// Column where the line being edited begins.
    line_column: usize,
    /// The next character is taken literally.
    literal_next: bool,
    /// `ECHOPRT`: between `\` and `/`.
    erasing: bool,
    /// Output is stopped by `VSTOP`.
    stopped_by_key: bool,
    /// Output is stopped by `tcflow(TCOOFF)`.
    stopped_by_call: bool,
    /// The line will not send any more (end of a pipe).
    ended: bool,
    overflow: Overflow,
}

impl Default for Ldisc {
    fn default() -> Self {
        Self::new()
    }
}

impl Ldisc {
    /// An empty discipline at column 0.
    pub fn new() -> Self {
        Self {
            cells: VecDeque::new(),
            finished: 0,
            echo: VecDeque::new(),
            column: 0,
            line_column: 0,
            literal_next: false,
            erasing: false,
            stopped_by_key: false,
            stopped_by_call: false,
            ended: false,
            overflow: Overflow::Discard,
        }
    }

    /// Chooses what happens to lines that do not fit.
    pub fn set_overflow(&mut self, overflow: Overflow) {
        self.overflow = overflow;
    }

    /// Drops the input that nobody has read (`TCIFLUSH`).
    pub fn flush_input(&mut self) {
        self.cells.clear();
        self.finished = 0;
        self.literal_next = false;
        self.erasing = false;
    }

    /// Drops the echo that has not left yet.
    pub fn flush_echo(&mut self) {
        self.echo.clear();
    }

    /// Whether output stands still.
    pub fn stopped(&self) -> bool {
        self.stopped_by_key || self.stopped_by_call
    }

    /// `tcflow(TCOOFF)`.
    pub fn stop_by_call(&mut self) {
        self.stopped_by_call = true;
    }

    /// `tcflow(TCOON)`.
    pub fn start_by_call(&mut self) {
        self.stopped_by_call = false;
        self.stopped_by_key = false;
    }

    /// `VSTART` and all that counts as it. False if nothing changed: what a call stopped only a call starts.
    fn start_by_key(&mut self) -> bool {
        core::mem::take(&mut self.stopped_by_key)
    }

    /// The settings changed. Input that is there when lines are switched on is readable as it is.
    pub fn set_termios(&mut self, old: &Termios, new: &Termios, fx: &mut Effects) {
        if old.canonical() != new.canonical() {
            self.cells.iter_mut().for_each(|cell| *cell &= 0xff);
            self.literal_next = false;
            self.erasing = false;
            self.finished = 0;
            if new.canonical()
                && let Some(last) = self.cells.back_mut()
            {
                *last |= END;
                self.finished = self.cells.len();
            }
            fx.readable = true;
        }
        if old.input(Iflag::IXON) && !new.input(Iflag::IXON) && self.start_by_key() {
            fx.flow_changed = true;
        }
    }

    /// Bytes a reader could get (`FIONREAD`): in canonical mode those of finished lines, without hidden ends.
    pub fn buffered(&self, termios: &Termios) -> usize {
        if !by_lines(termios) {
            return self.cells.len();
        }
        self.cells
            .iter()
            .take(self.finished)
            .filter(|&&cell| cell & HIDDEN == 0)
            .count()
    }

    /// Whether a read would find something: a line, or at least `min` bytes.
    pub fn readable(&self, termios: &Termios, min: usize) -> bool {
        if by_lines(termios) {
            self.finished > 0
        } else {
            self.cells.len() >= min.max(1)
        }
    }

    /// Whether nothing more will come and everything was read.
    pub fn at_end(&self) -> bool {
        self.ended && self.cells.is_empty()
    }

    /// The line will send no more. What is there becomes readable.
    pub fn end_input(&mut self, termios: &Termios, fx: &mut Effects) {
        self.ended = true;
        if by_lines(termios) {
            self.finish_line();
        }
        fx.readable = true;
    }

    /// The line sends again after [`end_input`](Self::end_input).
    pub fn resume_input(&mut self) {
        self.ended = false;
    }

    /// Makes all cells readable without adding one.
    fn finish_line(&mut self) {
        if let Some(last) = self.cells.back_mut() {
            *last |= END;
        }
        self.finished = self.cells.len();
    }
}

/// Whether readers get lines. With `EXTPROC` the far end edits.
fn by_lines(termios: &Termios) -> bool {
    termios.canonical() && !termios.local(Lflag::EXTPROC)
}

/// ASCII control characters: what `ECHOCTL` shows as `^X`.
fn is_control(byte: u8) -> bool {
    byte < 0x20 || byte == 0x7f
}

/// Whether `byte` continues a UTF-8 character, where the terminal speaks UTF-8.
fn is_continuation(termios: &Termios, byte: u8) -> bool {
    termios.input(Iflag::IUTF8) && byte & 0xc0 == 0x80
}
