//! The flag words of `struct termios`, by Linux's names and numbers (`termios(3)`).

#![allow(missing_docs)] // Each constant is the flag of that name in the man page.

use bitflags::bitflags;

bitflags! {
    /// `c_iflag`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Iflag: u32 {
        const IGNBRK = 0o1;
        const BRKINT = 0o2;
        const IGNPAR = 0o4;
        const PARMRK = 0o10;
        const INPCK = 0o20;
        const ISTRIP = 0o40;
        const INLCR = 0o100;
        const IGNCR = 0o200;
        const ICRNL = 0o400;
        const IUCLC = 0o1000;
        const IXON = 0o2000;
        const IXANY = 0o4000;
        const IXOFF = 0o10000;
        const IMAXBEL = 0o20000;
        const IUTF8 = 0o40000;
        const _ = !0;
    }

    /// `c_oflag`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Oflag: u32 {
        const OPOST = 0o1;
        const OLCUC = 0o2;
        const ONLCR = 0o4;
        const OCRNL = 0o10;
        const ONOCR = 0o20;
        const ONLRET = 0o40;
        /// Tabs become spaces (`TAB3`).
        const XTABS = 0o14000;
        const _ = !0;
    }

    /// `c_cflag`, without the speeds.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Cflag: u32 {
        const CS8 = 0o60;
        const CREAD = 0o200;
        const HUPCL = 0o2000;
        const CLOCAL = 0o4000;
        const _ = !0;
    }

    /// `c_lflag`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Lflag: u32 {
        const ISIG = 0o1;
        const ICANON = 0o2;
        const XCASE = 0o4;
        const ECHO = 0o10;
        const ECHOE = 0o20;
        const ECHOK = 0o40;
        const ECHONL = 0o100;
        const NOFLSH = 0o200;
        const TOSTOP = 0o400;
        const ECHOCTL = 0o1000;
        const ECHOPRT = 0o2000;
        const ECHOKE = 0o4000;
        const FLUSHO = 0o10000;
        const PENDIN = 0o40000;
        const IEXTEN = 0o100000;
        const EXTPROC = 0o200000;
        const _ = !0;
    }
}
