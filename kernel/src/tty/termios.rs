//! Terminal settings: `struct termios` in its three binary forms (`termios(3)`, `ioctl_tty(2)`).
//!
//! [`Termios`] is what a terminal keeps; [`Termios1`], [`Termios2`] and [`Termio`] are what `TCGETS`, `TCGETS2` and `TCGETA` move.
//! A setter changes what its form can express and leaves the rest, so a program that only knows the old form does not lose the new bits.

use crate::abi_struct;

pub use super::flags::{Cflag, Iflag, Lflag, Oflag};

/// Output speed bits of `c_cflag`; the input speed stands 16 bits higher.
const CBAUD: u32 = 0o10017;
/// "The speed is in `c_ospeed`."
const BOTHER: u32 = 0o10000;
const IBSHIFT: u32 = 16;

/// Speeds by their `CBAUD` code: 0..16 in the low half, `CBAUDEX + 1 ..` in the high half.
const LOW_SPEEDS: [u32; 16] = [
    0, 50, 75, 110, 134, 150, 200, 300, 600, 1200, 1800, 2400, 4800, 9600, 19200, 38400,
];
const HIGH_SPEEDS: [u32; 15] = [
    57600, 115200, 230400, 460800, 500000, 576000, 921600, 1000000, 1152000, 1500000, 2000000, 2500000, 3000000,
    3500000, 4000000,
];
/// The code of 38400 bits a second.
const B38400: u32 = 0o17;

/// Indices into `c_cc`.
#[allow(missing_docs)]
pub mod cc {
    pub const VINTR: usize = 0;
    pub const VQUIT: usize = 1;
    pub const VERASE: usize = 2;
    pub const VKILL: usize = 3;
    pub const VEOF: usize = 4;
    pub const VTIME: usize = 5;
    pub const VMIN: usize = 6;
    pub const VSWTC: usize = 7;
    pub const VSTART: usize = 8;
    pub const VSTOP: usize = 9;
    pub const VSUSP: usize = 10;
    pub const VEOL: usize = 11;
    pub const VREPRINT: usize = 12;
    pub const VDISCARD: usize = 13;
    pub const VWERASE: usize = 14;
    pub const VLNEXT: usize = 15;
    pub const VEOL2: usize = 16;
    /// Length of `c_cc`.
    pub const NCCS: usize = 19;
}

/// A terminal's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Termios {
    /// Input modes.
    pub iflag: Iflag,
    /// Output modes.
    pub oflag: Oflag,
    /// Control modes, with the speed codes.
    pub cflag: Cflag,
    /// Local modes.
    pub lflag: Lflag,
    /// Line discipline number.
    pub line: u8,
    /// Special characters, `VMIN`, `VTIME`.
    pub cc: [u8; cc::NCCS],
    /// Input speed, bits a second.
    pub ispeed: u32,
    /// Output speed, bits a second.
    pub ospeed: u32,
}

impl Default for Termios {
    /// What a fresh line has: cooked, echoing, 38400 bits a second.
    fn default() -> Self {
        let mut chars = [0; cc::NCCS];
        chars[..17].copy_from_slice(&[
            3, 0x1c, 0x7f, 0x15, 4, 0, 1, 0, 0x11, 0x13, 0x1a, 0, 0x12, 0x0f, 0x17, 0x16, 0,
        ]);
        Self {
            iflag: Iflag::ICRNL | Iflag::IXON,
            oflag: Oflag::OPOST | Oflag::ONLCR,
            cflag: Cflag::from_bits_retain(B38400) | Cflag::CS8 | Cflag::CREAD | Cflag::HUPCL,
            lflag: Lflag::ISIG
                | Lflag::ICANON
                | Lflag::ECHO
                | Lflag::ECHOE
                | Lflag::ECHOK
                | Lflag::ECHOCTL
                | Lflag::ECHOKE
                | Lflag::IEXTEN,
            line: 0,
            cc: chars,
            ispeed: 38400,
            ospeed: 38400,
        }
    }
}

impl Termios {
    /// The default of a pseudo-terminal's slave: as a line, but nothing to hang up.
    pub fn pty_slave() -> Self {
        let line = Self::default();
        Self {
            cflag: line.cflag - Cflag::HUPCL,
            ..line
        }
    }

    /// Whether input comes in lines.
    pub fn canonical(&self) -> bool {
        self.lflag.contains(Lflag::ICANON)
    }

    /// Whether all these local modes are on.
    pub fn local(&self, modes: Lflag) -> bool {
        self.lflag.contains(modes)
    }

    /// Whether all these input modes are on.
    pub fn input(&self, modes: Iflag) -> bool {
        self.iflag.contains(modes)
    }

    /// Whether all these output modes are on.
    pub fn output(&self, modes: Oflag) -> bool {
        self.oflag.contains(modes)
    }

    /// Whether `byte` is the special character at `index`; 0 stands for "none".
    pub fn is_special(&self, byte: u8, index: usize) -> bool {
        byte != 0 && self.cc[index] == byte
    }

    /// The special character at `index`, unless it is disabled.
    pub fn special(&self, index: usize) -> Option<u8> {
        Some(self.cc[index]).filter(|&byte| byte != 0)
    }

    /// Brings speeds and speed codes together after a setter that gave codes; with `BOTHER` the given numbers count.
    fn settle_speeds(&mut self) {
        let code = self.cflag.bits() & CBAUD;
        if code != BOTHER {
            self.ospeed = speed_of(code).unwrap_or(self.ospeed);
        }
        match self.cflag.bits() >> IBSHIFT & CBAUD {
            0 => self.ispeed = self.ospeed,
            BOTHER => {}
            code => self.ispeed = speed_of(code).unwrap_or(self.ispeed),
        }
    }

    /// With the values of `TCSETS`.
    pub fn with(mut self, new: &Termios1) -> Self {
        self.iflag = Iflag::from_bits_retain(new.iflag);
        self.oflag = Oflag::from_bits_retain(new.oflag);
        self.cflag = Cflag::from_bits_retain(new.cflag);
        self.lflag = Lflag::from_bits_retain(new.lflag);
        self.line = new.line;
        self.cc = new.cc;
        self.settle_speeds();
        self
    }

    /// With the values of `TCSETS2`.
    pub fn with2(mut self, new: &Termios2) -> Self {
        (self.ispeed, self.ospeed) = (new.ispeed, new.ospeed);
        self.with(&Termios1 {
            iflag: new.iflag,
            oflag: new.oflag,
            cflag: new.cflag,
            lflag: new.lflag,
            line: new.line,
            cc: new.cc,
        })
    }

    /// With the values of `TCSETA`: the low halves of the flags and the first eight characters.
    pub fn with_old(mut self, new: &Termio) -> Self {
        let low = |old: u32, new: u16| old & !0xffff | u32::from(new);
        self.iflag = Iflag::from_bits_retain(low(self.iflag.bits(), new.iflag));
        self.oflag = Oflag::from_bits_retain(low(self.oflag.bits(), new.oflag));
        self.cflag = Cflag::from_bits_retain(low(self.cflag.bits(), new.cflag));
        self.lflag = Lflag::from_bits_retain(low(self.lflag.bits(), new.lflag));
        self.line = new.line;
        self.cc[..8].copy_from_slice(&new.cc);
        self.settle_speeds();
        self
    }
}

/// Bits a second of a speed code.
fn speed_of(code: u32) -> Option<u32> {
    if code & BOTHER == 0 {
        LOW_SPEEDS.get(code as usize).copied()
    } else {
        HIGH_SPEEDS.get(((code & 0o17) as usize).checked_sub(1)?).copied()
    }
}

abi_struct! {
    /// `struct termios` of the kernel, 36 bytes (`TCGETS`).
    pub struct Termios1 {
        /// Input modes.
        pub iflag: u32,
        /// Output modes.
        pub oflag: u32,
        /// Control modes.
        pub cflag: u32,
        /// Local modes.
        pub lflag: u32,
        /// Line discipline.
        pub line: u8,
        /// Special characters.
        pub cc: [u8; 19],
    }
}

abi_struct! {
    /// `struct termios2`, 44 bytes (`TCGETS2`).
    pub struct Termios2 {
        /// Input modes.
        pub iflag: u32,
        /// Output modes.
        pub oflag: u32,
        /// Control modes.
        pub cflag: u32,
        /// Local modes.
        pub lflag: u32,
        /// Line discipline.
        pub line: u8,
        /// Special characters.
        pub cc: [u8; 19],
        /// Input speed.
        pub ispeed: u32,
        /// Output speed.
        pub ospeed: u32,
    }
}

abi_struct! {
    /// `struct termio`, 18 bytes (`TCGETA`).
    pub struct Termio {
        /// Input modes.
        pub iflag: u16,
        /// Output modes.
        pub oflag: u16,
        /// Control modes.
        pub cflag: u16,
        /// Local modes.
        pub lflag: u16,
        /// Line discipline.
        pub line: u8,
        /// Special characters.
        pub cc: [u8; 8],
        /// Padding.
        pub pad: u8,
    }
}

impl Termios {
    /// These settings, but `old`'s where `locked` has a bit, or a byte that is not 0.
    pub fn except(self, locked: &Termios1, old: &Termios) -> Self {
        let bits = |new: u32, old: u32, locked: u32| old & locked | new & !locked;
        let byte = |new: u8, old: u8, locked: u8| if locked == 0 { new } else { old };
        let mut kept = self;
        kept.iflag = Iflag::from_bits_retain(bits(self.iflag.bits(), old.iflag.bits(), locked.iflag));
        kept.oflag = Oflag::from_bits_retain(bits(self.oflag.bits(), old.oflag.bits(), locked.oflag));
        kept.cflag = Cflag::from_bits_retain(bits(self.cflag.bits(), old.cflag.bits(), locked.cflag));
        kept.lflag = Lflag::from_bits_retain(bits(self.lflag.bits(), old.lflag.bits(), locked.lflag));
        kept.line = byte(self.line, old.line, locked.line);
        for (at, new) in kept.cc.iter_mut().enumerate() {
            *new = byte(*new, old.cc[at], locked.cc[at]);
        }
        kept
    }
}

impl From<&Termios> for Termios1 {
    fn from(termios: &Termios) -> Self {
        Self {
            iflag: termios.iflag.bits(),
            oflag: termios.oflag.bits(),
            cflag: termios.cflag.bits(),
            lflag: termios.lflag.bits(),
            line: termios.line,
            cc: termios.cc,
        }
    }
}

impl From<&Termios> for Termios2 {
    fn from(termios: &Termios) -> Self {
        let Termios1 {
            iflag,
            oflag,
            cflag,
            lflag,
            line,
            cc,
        } = termios.into();
        Self {
            iflag,
            oflag,
            cflag,
            lflag,
            line,
            cc,
            ispeed: termios.ispeed,
            ospeed: termios.ospeed,
        }
    }
}

impl From<&Termios> for Termio {
    fn from(termios: &Termios) -> Self {
        let mut cc = [0; 8];
        cc.copy_from_slice(&termios.cc[..8]);
        Self {
            iflag: termios.iflag.bits() as u16,
            oflag: termios.oflag.bits() as u16,
            cflag: termios.cflag.bits() as u16,
            lflag: termios.lflag.bits() as u16,
            line: termios.line,
            cc,
            pad: 0,
        }
    }
}

abi_struct! {
    /// `struct winsize`.
    pub struct WinSize {
        /// Rows, in characters.
        pub rows: u16,
        /// Columns, in characters.
        pub cols: u16,
        /// Width in pixels.
        pub xpixel: u16,
        /// Height in pixels.
        pub ypixel: u16,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::Abi;

    #[test]
    fn the_three_forms_have_linuxs_sizes() {
        assert_eq!(
            (Termios1::SIZE, Termios2::SIZE, Termio::SIZE, WinSize::SIZE),
            (36, 44, 18, 8)
        );
    }

    #[test]
    fn a_speed_code_sets_both_speeds_and_bother_keeps_the_numbers() {
        let mut form = Termios1::from(&Termios::default());
        form.cflag = form.cflag & !CBAUD | 0o10002;
        let fast = Termios::default().with(&form);
        assert_eq!((fast.ispeed, fast.ospeed), (115200, 115200));
        let mut form = Termios2::from(&fast);
        form.cflag = form.cflag & !CBAUD | BOTHER;
        (form.ispeed, form.ospeed) = (31250, 31250);
        let odd = fast.with2(&form);
        assert_eq!((odd.ispeed, odd.ospeed), (31250, 31250));
    }

    #[test]
    fn the_old_form_keeps_the_upper_halves_of_the_flags() {
        let before = Termios {
            cflag: Cflag::from_bits_retain(0x8000_0cbf),
            ..Termios::default()
        };
        let after = before.with_old(&Termio {
            cflag: 0x00bf,
            ..Termio::from(&before)
        });
        assert_eq!(after.cflag.bits(), 0x8000_00bf);
    }

    #[test]
    fn locked_bits_and_characters_stay() {
        let old = Termios::default();
        let mut new = old;
        new.lflag.toggle(Lflag::ECHO | Lflag::ICANON);
        (new.cc[cc::VINTR], new.cc[cc::VQUIT]) = (7, 8);
        let mut locked = Termios1 {
            lflag: Lflag::ECHO.bits(),
            ..Termios1::default()
        };
        locked.cc[cc::VINTR] = 1;
        let kept = new.except(&locked, &old);
        assert_eq!(kept.lflag ^ old.lflag, Lflag::ICANON);
        assert_eq!((kept.cc[cc::VINTR], kept.cc[cc::VQUIT]), (old.cc[cc::VINTR], 8));
    }
}
