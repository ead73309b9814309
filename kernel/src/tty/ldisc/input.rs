//! Input: what each byte from the line means.

use super::super::termios::{Iflag, Lflag, Termios, cc};
use super::{CAPACITY, END, Effects, HIDDEN, Ldisc, Overflow, by_lines};
use crate::signal::Signal;

/// What else but a byte can arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// A break.
    Break,
    /// A byte with a wrong parity or frame.
    Parity(u8),
}

/// What can be typed as special character in canonical mode after signals and flow control had their look.
enum Edit {
    Erase,
    Kill,
    WordErase,
    LiteralNext,
    Reprint,
    EndOfLine,
    EndOfFile,
}

impl Ldisc {
    /// Whether another byte can come. In the middle of an overlong line it always can: see [`Overflow`].
    ///
    /// A byte makes up to three cells (`PARMRK`).
    pub fn accepts(&self, termios: &Termios) -> bool {
        self.cells.len() + 3 <= CAPACITY || (by_lines(termios) && self.finished == 0)
    }

    /// Takes bytes from the line until it is full; how many it took. The rest has to be offered again when readers made room.
    pub fn receive(&mut self, termios: &Termios, data: &[u8], fx: &mut Effects) -> usize {
        if is_plain(termios) && !self.literal_next {
            let count = data.len().min((CAPACITY - 1).saturating_sub(self.cells.len()));
            self.cells.extend(data[..count].iter().map(|&byte| u16::from(byte)));
            fx.readable |= count > 0;
            return count;
        }
        for (taken, &byte) in data.iter().enumerate() {
            if !self.accepts(termios) {
                return taken;
            }
            self.receive_byte(termios, byte, fx);
        }
        data.len()
    }

    /// A condition of the line: `IGNBRK`, `BRKINT`, `PARMRK`, `INPCK`, `IGNPAR`.
    pub fn receive_condition(&mut self, termios: &Termios, condition: Condition, fx: &mut Effects) {
        let marks = termios.input(Iflag::PARMRK);
        match condition {
            Condition::Break if termios.input(Iflag::IGNBRK) => {}
            Condition::Break if termios.input(Iflag::BRKINT) => self.raise(termios, Signal::INT, fx),
            Condition::Break if marks => self.mark(termios, 0, fx),
            Condition::Break => self.store(termios, 0, fx),
            Condition::Parity(byte) if !termios.input(Iflag::INPCK) => self.receive_byte(termios, byte, fx),
            Condition::Parity(_) if termios.input(Iflag::IGNPAR) => {}
            Condition::Parity(byte) if marks => self.mark(termios, byte, fx),
            Condition::Parity(_) => self.store(termios, 0, fx),
        }
    }

    /// `PARMRK`: `\377 \0 byte`.
    fn mark(&mut self, termios: &Termios, byte: u8, fx: &mut Effects) {
        for byte in [0xff, 0, byte] {
            self.store(termios, byte, fx);
        }
    }

    fn receive_byte(&mut self, termios: &Termios, byte: u8, fx: &mut Effects) {
        let mut byte = byte;
        if termios.input(Iflag::ISTRIP) {
            byte &= 0x7f;
        }
        if termios.input(Iflag::IUCLC) && termios.local(Lflag::IEXTEN) {
            byte = byte.to_ascii_lowercase();
        }
        if termios.local(Lflag::EXTPROC) {
            return self.store(termios, byte, fx);
        }
        if core::mem::take(&mut self.literal_next) {
            return self.ordinary(termios, byte, fx);
        }
        if self.flow_character(termios, byte, fx) || self.signal_character(termios, byte, fx) {
            return;
        }
        byte = match byte {
            b'\r' if termios.input(Iflag::IGNCR) => return,
            b'\r' if termios.input(Iflag::ICRNL) => b'\n',
            b'\n' if termios.input(Iflag::INLCR) => b'\r',
            byte => byte,
        };
        match edit_of(termios, byte) {
            None => self.ordinary(termios, byte, fx),
            Some(Edit::Erase) => self.erase_character(termios),
            Some(Edit::WordErase) => self.erase_word(termios),
            Some(Edit::Kill) => self.kill_line(termios),
            Some(Edit::LiteralNext) => {
                self.literal_next = true;
                self.announce_literal(termios);
            }
            Some(Edit::Reprint) => self.reprint(termios, byte),
            Some(Edit::EndOfFile) => self.end_line(HIDDEN | END, fx),
            Some(Edit::EndOfLine) => {
                self.echo_line_end(termios, byte);
                if byte == 0xff && termios.input(Iflag::PARMRK) {
                    self.put_cell(u16::from(byte));
                }
                self.end_line(u16::from(byte) | END, fx);
            }
        }
    }

    /// `VSTART`, `VSTOP`, `IXANY`. True if the byte is used up.
    fn flow_character(&mut self, termios: &Termios, byte: u8, fx: &mut Effects) -> bool {
        if !termios.input(Iflag::IXON) {
            return false;
        }
        if termios.is_special(byte, cc::VSTART) {
            fx.flow_changed |= self.start_by_key();
            return true;
        }
        if termios.is_special(byte, cc::VSTOP) {
            fx.flow_changed |= !core::mem::replace(&mut self.stopped_by_key, true);
            return true;
        }
        if termios.input(Iflag::IXANY) {
            fx.flow_changed |= self.start_by_key();
        }
        false
    }

    /// `VINTR`, `VQUIT`, `VSUSP`. True if the byte is used up.
    fn signal_character(&mut self, termios: &Termios, byte: u8, fx: &mut Effects) -> bool {
        if !termios.local(Lflag::ISIG) {
            return false;
        }
        let signals = [
            (cc::VINTR, Signal::INT),
            (cc::VQUIT, Signal::QUIT),
            (cc::VSUSP, Signal::TSTP),
        ];
        let Some(&(_, signal)) = signals.iter().find(|&&(index, _)| termios.is_special(byte, index)) else {
            return false;
        };
        self.raise(termios, signal, fx);
        if termios.input(Iflag::IXON) {
            fx.flow_changed |= self.start_by_key();
        }
        if termios.local(Lflag::ECHO) {
            self.echo_character(termios, byte);
        }
        true
    }

    /// Sends `signal` and, without `NOFLSH`, drops what was typed and what is still to be shown.
    fn raise(&mut self, termios: &Termios, signal: Signal, fx: &mut Effects) {
        fx.signals.push(signal);
        if !termios.local(Lflag::NOFLSH) {
            self.flush_input();
            self.flush_echo();
            fx.flush_output = true;
            fx.flushed_input = true;
        }
    }

    /// A byte without a meaning of its own: echo and keep.
    fn ordinary(&mut self, termios: &Termios, byte: u8, fx: &mut Effects) {
        if by_lines(termios) && !self.has_cell_for(1) && !self.make_room(fx) {
            // The rest of an overlong line. `IMAXBEL` counts as always on; who does not want to hear his typing gets no bell either.
            if termios.local(Lflag::ECHO) {
                self.echo_raw(termios, 0x07);
            }
            return;
        }
        if termios.local(Lflag::ECHO) {
            self.finish_erasing(termios);
            if byte == b'\n' {
                self.echo_raw(termios, byte);
            } else {
                self.note_line_column();
                self.echo_character(termios, byte);
            }
        }
        if byte == 0xff && termios.input(Iflag::PARMRK) {
            // A real \377 is told from the mark of a wrong byte.
            self.put_cell(0xff);
        }
        self.store(termios, byte, fx);
    }

    /// Keeps a byte.
    fn store(&mut self, termios: &Termios, byte: u8, fx: &mut Effects) {
        self.put_cell(u16::from(byte));
        if !by_lines(termios) {
            fx.readable = true;
        } else if !self.has_cell_for(1) {
            self.make_room(fx);
        }
    }

    fn end_line(&mut self, cell: u16, fx: &mut Effects) {
        // The end always fits: ordinary bytes leave the last cell free.
        self.cells.push_back(cell);
        self.finished = self.cells.len();
        fx.readable = true;
    }

    fn put_cell(&mut self, cell: u16) {
        if self.has_cell_for(1) {
            self.cells.push_back(cell);
        }
    }

    fn has_cell_for(&self, count: usize) -> bool {
        self.cells.len() + count < CAPACITY
    }

    /// The line being typed fills everything. [`Overflow::Split`] gives readers what is there; false means that the byte at hand is lost.
    fn make_room(&mut self, fx: &mut Effects) -> bool {
        if self.overflow == Overflow::Split && self.finished < self.cells.len() {
            self.finish_line();
            fx.readable = true;
        }
        false
    }
}

/// Whether bytes go straight to readers: raw mode without echo, signals, flow control or translation.
fn is_plain(termios: &Termios) -> bool {
    let input = Iflag::ISTRIP | Iflag::INLCR | Iflag::IGNCR | Iflag::ICRNL | Iflag::IXON | Iflag::IUCLC | Iflag::PARMRK;
    !termios.lflag.intersects(Lflag::ICANON | Lflag::ECHO | Lflag::ISIG) && !termios.iflag.intersects(input)
}

/// The editing meaning of `byte`, if it has one.
fn edit_of(termios: &Termios, byte: u8) -> Option<Edit> {
    if !termios.canonical() {
        return None;
    }
    let extended = termios.local(Lflag::IEXTEN);
    let is = |index| termios.is_special(byte, index);
    Some(match byte {
        _ if is(cc::VERASE) => Edit::Erase,
        _ if is(cc::VKILL) => Edit::Kill,
        _ if is(cc::VWERASE) && extended => Edit::WordErase,
        _ if is(cc::VLNEXT) && extended => Edit::LiteralNext,
        _ if is(cc::VREPRINT) && extended && termios.local(Lflag::ECHO) => Edit::Reprint,
        b'\n' => Edit::EndOfLine,
        _ if is(cc::VEOF) => Edit::EndOfFile,
        _ if is(cc::VEOL) || is(cc::VEOL2) && extended => Edit::EndOfLine,
        _ => return None,
    })
}
