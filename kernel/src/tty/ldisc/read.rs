//! Readers' side: lines or bytes out.

use super::super::termios::Termios;
use super::{END, HIDDEN, Ldisc, by_lines};

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes; more may follow at once.
    Bytes(usize),
    /// So many bytes and then the end of a line: the read is over, with 0 for `VEOF` alone.
    Line(usize),
}

impl Ldisc {
    /// Moves input to `dst`: in canonical mode from at most one line, else whatever is there.
    ///
    /// A `VEOF` right behind the last byte that fits is used up with it: the next read does not find a second end of file.
    pub fn read(&mut self, termios: &Termios, dst: &mut [u8]) -> Piece {
        if !by_lines(termios) {
            let count = dst.len().min(self.cells.len());
            for (byte, cell) in dst.iter_mut().zip(self.cells.drain(..count)) {
                *byte = cell as u8;
            }
            // Only after EXTPROC was switched on over finished lines.
            self.finished = self.finished.saturating_sub(count);
            return Piece::Bytes(count);
        }
        let mut count = 0;
        while self.finished > 0 {
            let Some(&cell) = self.cells.front() else { break };
            let hidden = cell & HIDDEN != 0;
            if count == dst.len() && !hidden {
                break;
            }
            self.cells.pop_front();
            self.finished -= 1;
            if !hidden {
                dst[count] = cell as u8;
                count += 1;
            }
            if cell & END != 0 {
                return Piece::Line(count);
            }
        }
        Piece::Bytes(count)
    }
}
