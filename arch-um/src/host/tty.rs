//! Host terminals: raw mode that is taken back, window sizes, pseudo-terminals, foreground or not.

use crate::errno::Errno;
use crate::host::fd::duplicate;
use crate::host::sys::{check, retry, retry_owned};
use std::ffi::{CStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A terminal's settings, to be put back.
#[derive(Clone)]
pub struct Settings(libc::termios);

/// The settings of a terminal.
///
/// # Errors
/// `ENOTTY` for anything else, `EIO` after a hang-up.
pub fn settings(fd: BorrowedFd<'_>) -> Result<Settings, Errno> {
    let mut termios = MaybeUninit::uninit();
    // SAFETY: the call fills the structure when it succeeds.
    unsafe {
        check(libc::tcgetattr(fd.as_raw_fd(), termios.as_mut_ptr()))?;
        Ok(Settings(termios.assume_init()))
    }
}

/// Puts settings on a terminal, after what has been written is out. A process in the background must not (it would be stopped):
/// see [`is_foreground`].
///
/// # Errors
/// The host's.
pub fn set_settings(fd: BorrowedFd<'_>, settings: &Settings) -> Result<(), Errno> {
    // SAFETY: a valid structure.
    retry(|| unsafe { libc::tcsetattr(fd.as_raw_fd(), libc::TCSADRAIN, &settings.0) })?;
    Ok(())
}

impl Settings {
    /// The same terminal as a plain byte pipe: no echo, no lines, no signals, no translation (`cfmakeraw(3)`).
    pub fn raw(&self) -> Settings {
        let mut raw = self.clone();
        // SAFETY: changes fields of a valid structure.
        unsafe { libc::cfmakeraw(&mut raw.0) };
        raw
    }

    /// Does it take its input as UTF-8 (`IUTF8`)?
    pub fn is_utf8(&self) -> bool {
        self.0.c_iflag & libc::IUTF8 != 0
    }

    /// Does it echo or wait for whole lines?
    pub fn is_cooked(&self) -> bool {
        self.0.c_lflag & (libc::ECHO | libc::ICANON) != 0
    }
}

/// A terminal in raw mode; dropping this puts the old settings back. The way out of the process does not drop values: users register
/// [`restore`](Self::restore) with `exit::at_exit`.
pub struct RawMode {
    fd: OwnedFd,
    old: Settings,
}

impl RawMode {
    /// Switches `fd` (a duplicate is kept) to raw mode.
    ///
    /// # Errors
    /// `ENOTTY` for what is no terminal.
    pub fn enter(fd: BorrowedFd<'_>) -> Result<RawMode, Errno> {
        let old = settings(fd)?;
        let raw = RawMode {
            fd: duplicate(fd)?,
            old,
        };
        set_settings(fd, &raw.old.raw())?;
        Ok(raw)
    }

    /// Puts the old settings back. A terminal that is gone needs none.
    pub fn restore(&self) {
        use std::os::fd::AsFd;
        let _gone = set_settings(self.fd.as_fd(), &self.old);
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Size of a terminal's window in characters and pixels (`TIOCGWINSZ`).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct WindowSize {
    /// Lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
    /// Width in pixels, 0 if unknown.
    pub width: u16,
    /// Height in pixels, 0 if unknown.
    pub height: u16,
}

/// The size of a terminal's window.
///
/// # Errors
/// `ENOTTY`.
pub fn window_size(fd: BorrowedFd<'_>) -> Result<WindowSize, Errno> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the call writes one winsize.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &mut size) })?;
    Ok(WindowSize {
        rows: size.ws_row,
        columns: size.ws_col,
        width: size.ws_xpixel,
        height: size.ws_ypixel,
    })
}

/// Sets the size; the other side of a pseudo-terminal gets SIGWINCH.
///
/// # Errors
/// `ENOTTY`.
pub fn set_window_size(fd: BorrowedFd<'_>, size: WindowSize) -> Result<(), Errno> {
    let size = libc::winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: size.width,
        ws_ypixel: size.height,
    };
    // SAFETY: the call reads one winsize.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, &size) })?;
    Ok(())
}

/// May this process use the terminal without being stopped: it is our controlling terminal's foreground group, or not ours to
/// control at all?
pub fn is_foreground(fd: BorrowedFd<'_>) -> bool {
    // SAFETY: no memory is passed.
    unsafe {
        let group = libc::tcgetpgrp(fd.as_raw_fd());
        group == -1 || group == libc::getpgrp()
    }
}

/// From now on, using a terminal from the background gives `EIO` or goes through instead of stopping the process (`SIGTTIN`, `SIGTTOU`).
pub fn never_stop_in_background() {
    // SAFETY: ignoring a signal runs no code.
    unsafe {
        libc::signal(libc::SIGTTIN, libc::SIG_IGN);
        libc::signal(libc::SIGTTOU, libc::SIG_IGN);
    }
}

/// A pseudo-terminal: our side, and where others open theirs.
#[derive(Debug)]
pub struct Pty {
    /// Our side.
    pub master: OwnedFd,
    /// The other side's name, `/dev/pts/N`.
    pub path: PathBuf,
}

/// Makes a pseudo-terminal that others may open.
///
/// # Errors
/// `ENOENT` without `/dev/ptmx`, `ENOSPC` when there are too many.
pub fn open_pty() -> Result<Pty, Errno> {
    // SAFETY: plain numbers; the name buffer has the length given and is terminated by the call.
    unsafe {
        let master = retry_owned(|| libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC))?;
        check(libc::grantpt(master.as_raw_fd()))?;
        check(libc::unlockpt(master.as_raw_fd()))?;
        let mut name = [0; 128];
        let rc = libc::ptsname_r(master.as_raw_fd(), name.as_mut_ptr(), name.len());
        if rc != 0 {
            return Err(Errno::from_host(rc));
        }
        let path = CStr::from_ptr(name.as_ptr()).to_bytes().to_vec();
        Ok(Pty {
            master,
            path: OsString::from_vec(path).into(),
        })
    }
}

/// Opens a terminal without making it ours to control.
///
/// # Errors
/// The host's.
pub fn open(path: &std::path::Path) -> Result<OwnedFd, Errno> {
    use std::os::unix::ffi::OsStrExt;
    let path = crate::host::sys::cstring(path.as_os_str().as_bytes())?;
    // SAFETY: a C string and numbers.
    retry_owned(|| unsafe { libc::open(path.as_ptr(), libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn raw_mode_is_taken_back_and_sizes_travel() {
        let pty = open_pty().unwrap();
        let slave = open(&pty.path).unwrap();
        assert!(settings(slave.as_fd()).unwrap().is_cooked());
        let raw = RawMode::enter(slave.as_fd()).unwrap();
        assert!(!settings(slave.as_fd()).unwrap().is_cooked());
        drop(raw);
        assert!(settings(slave.as_fd()).unwrap().is_cooked());
        let size = WindowSize {
            rows: 50,
            columns: 132,
            width: 0,
            height: 0,
        };
        set_window_size(pty.master.as_fd(), size).unwrap();
        assert_eq!(window_size(slave.as_fd()), Ok(size));
        let null = std::fs::File::open("/dev/null").unwrap();
        assert_eq!(settings(null.as_fd()).err(), Some(Errno::ENOTTY));
    }
}
