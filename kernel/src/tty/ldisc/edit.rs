//! Editing the line being typed, and its echo: erase, word erase, kill, reprint, literal next.

use super::super::termios::{Lflag, Termios, cc};
use super::{ECHO_LIMIT, Ldisc, is_continuation, is_control};

impl Ldisc {
    /// Whether nothing of the current line is typed.
    fn line_is_empty(&self) -> bool {
        self.cells.len() <= self.finished
    }

    /// `VERASE`.
    pub(super) fn erase_character(&mut self, termios: &Termios) {
        self.erase_one(termios, Some(cc::VERASE));
        self.close_erasing_at_start(termios);
    }

    /// `VWERASE`: blanks and other signs first, then one word of letters, digits and underscores.
    pub(super) fn erase_word(&mut self, termios: &Termios) {
        let mut in_word = false;
        while !self.line_is_empty() {
            let last = self.last_byte();
            let of_word = last.is_ascii_alphanumeric() || last == b'_' || last >= 0x80;
            if in_word && !of_word {
                break;
            }
            in_word |= of_word;
            if !self.erase_one(termios, None) {
                break;
            }
        }
        self.close_erasing_at_start(termios);
    }

    /// `VKILL`.
    pub(super) fn kill_line(&mut self, termios: &Termios) {
        let visual = Lflag::ECHO | Lflag::ECHOK | Lflag::ECHOKE | Lflag::ECHOE;
        if termios.local(visual) {
            while !self.line_is_empty() && self.erase_one(termios, None) {}
            return self.close_erasing_at_start(termios);
        }
        if self.line_is_empty() {
            return;
        }
        self.cells.truncate(self.finished);
        if termios.local(Lflag::ECHO) {
            self.finish_erasing(termios);
            self.echo_character(termios, termios.cc[cc::VKILL]);
            if termios.local(Lflag::ECHOK) {
                self.echo_raw(termios, b'\n');
            }
        }
    }

    fn last_byte(&self) -> u8 {
        self.cells.back().map_or(0, |&cell| cell as u8)
    }

    /// Takes the last character off the line and off the screen. `shown_as` is the character to echo where erasing is not visible. False when
    /// there is none, or only half of one.
    fn erase_one(&mut self, termios: &Termios, shown_as: Option<usize>) -> bool {
        let mut start = self.cells.len();
        loop {
            if start <= self.finished {
                return false;
            }
            start -= 1;
            if !is_continuation(termios, self.cells[start] as u8) {
                break;
            }
        }
        let byte = self.cells[start] as u8;
        let tail: smallvec::SmallVec<[u8; 4]> = self.cells.range(start + 1..).map(|&cell| cell as u8).collect();
        self.cells.truncate(start);
        if !termios.local(Lflag::ECHO) {
            return true;
        }
        if termios.local(Lflag::ECHOPRT) {
            if !core::mem::replace(&mut self.erasing, true) {
                self.echo_raw(termios, b'\\');
            }
            self.echo_character(termios, byte);
            tail.iter().for_each(|&byte| self.echo_raw(termios, byte));
        } else if let Some(index) = shown_as.filter(|_| !termios.local(Lflag::ECHOE)) {
            self.echo_character(termios, termios.cc[index]);
        } else if byte == b'\t' {
            self.erase_tab(termios);
        } else {
            let width = match (is_control(byte), termios.local(Lflag::ECHOCTL)) {
                (true, true) => 2,
                (true, false) => 0,
                (false, _) => 1,
            };
            for _ in 0..width {
                for byte in *b"\x08 \x08" {
                    self.echo_raw(termios, byte);
                }
            }
        }
        true
    }

    /// Moves the cursor back over a tab that stood behind what is left of the line.
    fn erase_tab(&mut self, termios: &Termios) {
        let mut width = 0;
        let mut from_start = true;
        for index in (self.finished..self.cells.len()).rev() {
            let byte = self.cells[index] as u8;
            if byte == b'\t' {
                from_start = false;
                break;
            }
            width += match byte {
                byte if is_control(byte) => 2 * usize::from(termios.local(Lflag::ECHOCTL)),
                byte => usize::from(!is_continuation(termios, byte)),
            };
        }
        if from_start {
            width += self.line_column;
        }
        for _ in 0..8 - width % 8 {
            self.push_echo(b"\x08");
            self.column = self.column.saturating_sub(1);
        }
    }

    /// `VREPRINT`.
    pub(super) fn reprint(&mut self, termios: &Termios, byte: u8) {
        self.finish_erasing(termios);
        self.echo_character(termios, byte);
        self.echo_raw(termios, b'\n');
        self.line_column = self.column;
        for index in self.finished..self.cells.len() {
            let byte = self.cells[index] as u8;
            self.echo_character(termios, byte);
        }
    }

    /// `VLNEXT` shows a `^` under the cursor until the next character comes.
    pub(super) fn announce_literal(&mut self, termios: &Termios) {
        if termios.local(Lflag::ECHO) {
            self.finish_erasing(termios);
            if termios.local(Lflag::ECHOCTL) {
                self.note_line_column();
                self.echo_raw(termios, b'^');
                self.echo_raw(termios, 0x08);
            }
        }
    }

    /// Echo of a line's end: newline also under `ECHONL`, other ends as themselves.
    pub(super) fn echo_line_end(&mut self, termios: &Termios, byte: u8) {
        if byte == b'\n' {
            if termios.lflag.intersects(Lflag::ECHO | Lflag::ECHONL) {
                self.finish_erasing(termios);
                self.echo_raw(termios, byte);
            }
        } else if termios.local(Lflag::ECHO) {
            self.finish_erasing(termios);
            self.note_line_column();
            self.echo_character(termios, byte);
        }
    }

    fn close_erasing_at_start(&mut self, termios: &Termios) {
        if self.line_is_empty() && termios.local(Lflag::ECHO) {
            self.finish_erasing(termios);
        }
    }

    /// `ECHOPRT`: closes the `\...` of erased characters.
    pub(super) fn finish_erasing(&mut self, termios: &Termios) {
        if core::mem::take(&mut self.erasing) {
            self.echo_raw(termios, b'/');
        }
    }

    /// The first character of a line is about to be shown.
    pub(super) fn note_line_column(&mut self) {
        if self.line_is_empty() {
            self.line_column = self.column;
        }
    }

    /// Echoes a typed character, control characters as `^X` under `ECHOCTL`.
    pub(super) fn echo_character(&mut self, termios: &Termios, byte: u8) {
        if termios.local(Lflag::ECHOCTL) && is_control(byte) && byte != b'\t' {
            self.push_echo(&[b'^', byte ^ 0x40]);
            self.column += 2;
        } else {
            self.echo_raw(termios, byte);
        }
    }

    /// Echoes a byte through output processing.
    pub(super) fn echo_raw(&mut self, termios: &Termios, byte: u8) {
        let mut out = smallvec::SmallVec::<[u8; 8]>::new();
        self.process(termios, byte, &mut out);
        self.push_echo(&out);
    }

    fn push_echo(&mut self, bytes: &[u8]) {
        if self.echo.len() + bytes.len() <= ECHO_LIMIT {
            self.echo.extend(bytes);
        }
    }
}
