//! Host terminals under lines: raw mode and back, window size, foreground and background.
//!
//! A terminal is put in raw mode only while this process is in its foreground, and gets its settings back on every way out
//! (`arch_um::exit::at_exit`), before a stop (`SIGTSTP`), and when its line goes. After `SIGCONT` it is raw again if we are in the foreground.
//! `SIGWINCH` carries the window's size to the guest.
//!
//! Lock: `TERMINALS` (`DRIVER`) is a short list; nothing is called under it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once, Weak};

use arch_um::event::{HostSignal, register_signal};
use arch_um::host::fd::Kind;
use arch_um::host::process;
use arch_um::host::tty::{self, Settings};
use arch_um::sync::{SpinLock, order};
use kernel::tty::Tty;
use kernel::tty::termios::WinSize;

use crate::channel::Host;
use crate::line::input::Input;
use crate::options::SerialMode;

static TERMINALS: SpinLock<Vec<Arc<HostTerminal>>> = SpinLock::new(&order::DRIVER, Vec::new());

/// A host terminal in use by a line.
pub struct HostTerminal {
    fd: Arc<OwnedFd>,
    identity: (u64, u64),
    old: Settings,
    /// Raw settings; none where the terminal is left as it is (`ssl-non-raw`).
    raw: Option<Settings>,
    is_raw: AtomicBool,
    tty: Weak<Tty>,
    input: Option<Weak<Input>>,
}

impl HostTerminal {
    /// Takes a host terminal for the terminal `tty`; none if `host` is no terminal. `mode` says whether its settings may be changed.
    pub fn enter(host: &Host, tty: &Arc<Tty>, input: Option<&Arc<Input>>, mode: SerialMode) -> Option<Arc<Self>> {
        if host.kind != Kind::Terminal {
            return None;
        }
        install();
        // A second line on the same terminal must not take our raw settings for the user's own.
        let known = all()
            .into_iter()
            .find(|other| other.identity == host.identity)
            .map(|other| other.old.clone());
        let old = known.or_else(|| tty::settings(host.fd.as_fd()).ok())?;
        let terminal = Arc::new(Self {
            fd: host.fd.clone(),
            identity: host.identity,
            raw: (mode == SerialMode::Raw).then(|| old.raw()),
            old,
            is_raw: AtomicBool::new(false),
            tty: Arc::downgrade(tty),
            input: input.map(Arc::downgrade),
        });
        TERMINALS.lock().push(terminal.clone());
        terminal.apply();
        terminal.tell_size();
        Some(terminal)
    }

    /// Whether it speaks UTF-8.
    pub fn is_utf8(&self) -> bool {
        self.old.is_utf8()
    }

    /// Raw mode, if we may: a background process that changes a terminal disturbs who is in front.
    fn apply(&self) {
        if let Some(raw) = &self.raw
            && !arch_um::exit::in_progress()
            && tty::is_foreground(self.fd.as_fd())
            && tty::set_settings(self.fd.as_fd(), raw).is_ok()
        {
            self.is_raw.store(true, Ordering::SeqCst);
            // A panic sends SIGCONT to everybody, us included, and gives the terminals back at the same time: the last word is the user's.
            if arch_um::exit::in_progress() {
                self.restore();
            }
        }
    }

    fn restore(&self) {
        if self.is_raw.swap(false, Ordering::SeqCst) && tty::is_foreground(self.fd.as_fd()) {
            // A terminal that is gone needs nothing.
            let _ = tty::set_settings(self.fd.as_fd(), &self.old);
        }
    }

    fn tell_size(&self) {
        if let (Ok(size), Some(terminal)) = (tty::window_size(self.fd.as_fd()), self.tty.upgrade()) {
            let (rows, cols) = (size.rows, size.columns);
            terminal.set_winsize(WinSize {
                rows,
                cols,
                xpixel: size.width,
                ypixel: size.height,
            });
        }
    }

    fn continued(&self) {
        self.is_raw.store(false, Ordering::Relaxed);
        self.apply();
        self.tell_size();
        if let Some(input) = self.input.as_ref().and_then(Weak::upgrade) {
            input.room_again();
        }
    }
}

fn all() -> Vec<Arc<HostTerminal>> {
    TERMINALS.lock().clone()
}

/// A line does not use `terminal` any more.
pub fn forget(terminal: &Arc<HostTerminal>) {
    let gone: Vec<_> = {
        let mut terminals = TERMINALS.lock();
        terminals.extract_if(.., |other| Arc::ptr_eq(other, terminal)).collect()
    };
    let last = !all().iter().any(|other| other.identity == terminal.identity);
    if last {
        terminal.restore();
    }
    drop(gone);
}

/// Gives all terminals back to the user.
pub fn restore_all() {
    // On the way out the holder of the lock may have stopped for ever.
    let terminals = if arch_um::exit::in_progress() {
        TERMINALS
            .try_lock()
            .map(|terminals| terminals.clone())
            .unwrap_or_default()
    } else {
        all()
    };
    terminals.iter().for_each(|terminal| terminal.restore());
}

/// The signals that concern terminals. Once, when the first terminal is taken.
fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        tty::never_stop_in_background();
        let mut failed = Vec::new();
        let mut on = |signal, handler: Arc<dyn Fn() + Send + Sync>| {
            if let Err(error) = register_signal(signal, handler) {
                failed.push((signal, error));
            }
        };
        on(
            HostSignal::Winch,
            Arc::new(|| all().iter().for_each(|terminal| terminal.tell_size())),
        );
        on(
            HostSignal::Cont,
            Arc::new(|| all().iter().for_each(|terminal| terminal.continued())),
        );
        on(
            HostSignal::Tstp,
            Arc::new(|| {
                restore_all();
                process::stop();
            }),
        );
        for (signal, error) in failed {
            log::warn!("{signal:?} of the host cannot be caught: {error}");
        }
    });
}
