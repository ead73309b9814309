//! A guest on a pseudo terminal: type, wait for what should appear, resize, look at the terminal's modes.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::termios::{LocalFlags, tcgetattr};

use crate::guard::{hang_guard, wait};

/// A running command whose controlling terminal we hold.
pub struct Terminal {
    child: Child,
    master: File,
    slave: OwnedFd,
    chunks: Receiver<Vec<u8>>,
    seen: String,
    /// How far [`expect`](Self::expect) has looked.
    mark: usize,
}

impl Terminal {
    /// Starts `command` on a new terminal of 24 rows and 80 columns.
    ///
    /// # Panics
    /// When the host has no pseudo terminal left or cannot start the command.
    pub fn spawn(mut command: Command) -> Self {
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).expect("a pseudo terminal");
        // Another test's child must not hold our terminal open.
        for fd in [&pty.master, &pty.slave] {
            fcntl(fd, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).expect("a descriptor of our own");
        }
        let stdio = || Stdio::from(pty.slave.try_clone().expect("a descriptor"));
        command.stdin(stdio()).stdout(stdio()).stderr(stdio());
        // SAFETY: setsid and an ioctl are async-signal-safe; nothing of the parent is touched.
        unsafe {
            command.pre_exec(|| {
                nix::unistd::setsid()?;
                if libc::ioctl(0, libc::TIOCSCTTY, 0) < 0 {
                    Err(std::io::Error::last_os_error())
                } else {
                    Ok(())
                }
            });
        }
        let child = command.spawn().expect("the command starts");
        let master = File::from(pty.master);
        let mut reader = master.try_clone().expect("a descriptor");
        let (sender, chunks) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            master,
            slave: pty.slave,
            chunks,
            seen: String::new(),
            mark: 0,
        }
    }

    /// Types `text`.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn send(&mut self, text: &str) {
        self.master
            .write_all(text.as_bytes())
            .expect("the terminal takes input");
    }

    /// Waits until `text` appears behind what earlier calls have found, and returns what came before it.
    ///
    /// # Panics
    /// When the hang guard runs out; the message shows all that was seen.
    pub fn expect(&mut self, text: &str) -> String {
        let end = Instant::now() + hang_guard();
        loop {
            if let Some(at) = self.seen[self.mark..].find(text) {
                let before = self.seen[self.mark..self.mark + at].to_owned();
                self.mark += at + text.len();
                return before;
            }
            let left = end.saturating_duration_since(Instant::now());
            match self.chunks.recv_timeout(left) {
                Ok(chunk) => self.seen.push_str(&String::from_utf8_lossy(&chunk)),
                Err(error) => panic!("{text:?} did not appear ({error}); seen:\n{}", self.seen),
            }
        }
    }

    /// All that has appeared so far.
    pub fn seen(&mut self) -> &str {
        while let Ok(chunk) = self.chunks.recv_timeout(Duration::from_millis(50)) {
            self.seen.push_str(&String::from_utf8_lossy(&chunk));
        }
        &self.seen
    }

    /// Changes the window's size, as a window manager does.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: TIOCSWINSZ reads one `winsize`, which lives over the call.
        let done = unsafe { libc::ioctl(self.master.as_raw_fd(), libc::TIOCSWINSZ, &size) };
        assert_eq!(done, 0, "the terminal takes a size");
    }

    /// Whether the host's terminal is in canonical mode with echo: sane.
    ///
    /// # Panics
    /// When the terminal is gone.
    pub fn is_sane(&self) -> bool {
        let modes = tcgetattr(&self.slave).expect("the terminal's modes");
        modes
            .local_flags
            .contains(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG)
    }

    /// The host's process id of the command.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits for the end of the command.
    ///
    /// # Panics
    /// When it hangs; the message shows all that was seen.
    pub fn wait(&mut self) -> ExitStatus {
        match wait(&mut self.child, hang_guard()) {
            Ok(status) => status,
            Err(error) => panic!("{error}; seen:\n{}", self.seen()),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
