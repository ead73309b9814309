//! Output processing: `OPOST` and the column that tabs and erasing need.

use smallvec::SmallVec;

use super::super::termios::{Oflag, Termios};
use super::{Ldisc, Output, is_continuation, is_control};

/// The most bytes one byte becomes: a tab as spaces.
const MAX_EXPANSION: usize = 8;
/// Bytes handed to the driver at a time.
const CHUNK: usize = 512;

impl Ldisc {
    /// Writes as much of `data` as the line takes; how much that was. Echo that waits goes first. Nothing while output is stopped.
    pub fn write(&mut self, termios: &Termios, data: &[u8], out: &mut dyn Output) -> usize {
        self.send_echo(out);
        if self.stopped() || !self.echo.is_empty() {
            return 0;
        }
        if !termios.output(Oflag::OPOST) {
            let count = data.len().min(out.room());
            if count > 0 {
                out.put(&data[..count]);
            }
            return count;
        }
        let mut taken = 0;
        let mut chunk = SmallVec::<[u8; CHUNK]>::new();
        while taken < data.len() {
            let room = out.room().min(CHUNK);
            chunk.clear();
            let before = taken;
            while taken < data.len() && chunk.len() + self.expansion(termios, data[taken]) <= room {
                self.process(termios, data[taken], &mut chunk);
                taken += 1;
            }
            if taken == before {
                break;
            }
            out.put(&chunk);
        }
        taken
    }

    /// Sends echo that waits, as far as the line takes it.
    pub fn send_echo(&mut self, out: &mut dyn Output) {
        while !self.stopped() && !self.echo.is_empty() {
            let count = self.echo.as_slices().0.len().min(out.room());
            if count == 0 {
                return;
            }
            out.put(&self.echo.as_slices().0[..count]);
            self.echo.drain(..count);
        }
    }

    /// Bytes of echo that wait for the line.
    pub fn echo_waiting(&self) -> usize {
        self.echo.len()
    }

    /// How many bytes `byte` becomes at this column, at most.
    fn expansion(&self, termios: &Termios, byte: u8) -> usize {
        match byte {
            b'\n' => 2,
            b'\t' if termios.output(Oflag::XTABS) => MAX_EXPANSION - self.column % MAX_EXPANSION,
            _ => 1,
        }
    }

    /// Appends what `byte` becomes on the line and moves the column.
    pub(super) fn process<A: smallvec::Array<Item = u8>>(
        &mut self,
        termios: &Termios,
        byte: u8,
        out: &mut SmallVec<A>,
    ) {
        if !termios.output(Oflag::OPOST) {
            return out.push(byte);
        }
        match byte {
            b'\n' => {
                if termios.output(Oflag::ONLCR) {
                    out.push(b'\r');
                    self.column = 0;
                } else if termios.output(Oflag::ONLRET) {
                    self.column = 0;
                }
                self.line_column = self.column;
                out.push(b'\n');
            }
            b'\r' if termios.output(Oflag::ONOCR) && self.column == 0 => {}
            b'\r' if termios.output(Oflag::OCRNL) => {
                if termios.output(Oflag::ONLRET) {
                    self.column = 0;
                    self.line_column = 0;
                }
                out.push(b'\n');
            }
            b'\r' => {
                self.column = 0;
                self.line_column = 0;
                out.push(b'\r');
            }
            b'\t' => {
                let width = MAX_EXPANSION - self.column % MAX_EXPANSION;
                self.column += width;
                if termios.output(Oflag::XTABS) {
                    out.extend(core::iter::repeat_n(b' ', width));
                } else {
                    out.push(b'\t');
                }
            }
            0x08 => {
                self.column = self.column.saturating_sub(1);
                out.push(byte);
            }
            _ => {
                let byte = if termios.output(Oflag::OLCUC) {
                    byte.to_ascii_uppercase()
                } else {
                    byte
                };
                if !is_control(byte) && !is_continuation(termios, byte) {
                    self.column += 1;
                }
                out.push(byte);
            }
        }
    }
}
