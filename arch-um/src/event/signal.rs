//! Host signals as events: the handler sets a bit and wakes the I/O thread, which does the work.
//!
//! Handlers, not signalfd: a blocked mask would be inherited by every program started from here, a handler is reset by exec.

use crate::errno::Errno;
use crate::host::sys::check;
use crate::sync::raw::RawLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

/// A host signal that the kernel handles as an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostSignal {
    /// The terminal's size has changed.
    Winch,
    /// `^C` or `kill -INT`.
    Int,
    /// `kill -TERM`.
    Term,
    /// The terminal has gone.
    Hup,
    /// `^\`.
    Quit,
    /// Continued after a stop.
    Cont,
    /// Asked to stop (`kill -TSTP`): the handler stops the process itself, see [`crate::host::process::stop`].
    Tstp,
    /// User-defined.
    Usr1,
    /// User-defined.
    Usr2,
}

impl HostSignal {
    const ALL: [HostSignal; 9] = [
        HostSignal::Winch,
        HostSignal::Int,
        HostSignal::Term,
        HostSignal::Hup,
        HostSignal::Quit,
        HostSignal::Cont,
        HostSignal::Tstp,
        HostSignal::Usr1,
        HostSignal::Usr2,
    ];

    /// The host's number.
    pub const fn number(self) -> i32 {
        match self {
            HostSignal::Winch => libc::SIGWINCH,
            HostSignal::Int => libc::SIGINT,
            HostSignal::Term => libc::SIGTERM,
            HostSignal::Hup => libc::SIGHUP,
            HostSignal::Quit => libc::SIGQUIT,
            HostSignal::Cont => libc::SIGCONT,
            HostSignal::Tstp => libc::SIGTSTP,
            HostSignal::Usr1 => libc::SIGUSR1,
            HostSignal::Usr2 => libc::SIGUSR2,
        }
    }
}

type Handler = Arc<dyn Fn() + Send + Sync>;

static HANDLERS: RawLock<[Option<Handler>; 32]> = RawLock::new([const { None }; 32]);
static PENDING: AtomicU64 = AtomicU64::new(0);
static WAKE_FD: AtomicI32 = AtomicI32::new(-1);
/// A thread died of a fatal signal and wants the panic to be told on a sane stack.
static PANIC: AtomicBool = AtomicBool::new(false);

pub(super) fn set_wake_fd(fd: i32) {
    WAKE_FD.store(fd, Ordering::SeqCst);
}

/// Adds one to an eventfd; async-signal-safe.
pub(super) fn write_eventfd(fd: i32) {
    let one = 1u64.to_ne_bytes();
    // SAFETY: plain write of eight bytes; a full counter (EAGAIN) wakes as well. `errno` is the interrupted code's and restored.
    unsafe {
        let saved = *libc::__errno_location();
        libc::write(fd, one.as_ptr().cast(), one.len());
        *libc::__errno_location() = saved;
    }
}

extern "C" fn caught(signo: i32) {
    PENDING.fetch_or(1 << signo, Ordering::SeqCst);
    write_eventfd(WAKE_FD.load(Ordering::SeqCst));
}

/// Calls `handler` on the I/O thread each time the process gets `signal` (several may merge). Replaces the handler before it, and the
/// default of [`crate::exit`] for `Int`, `Term`, `Hup`, `Quit`. `SIGCHLD` belongs to `skas`.
///
/// # Errors
/// The host's, when the I/O thread cannot be started.
pub fn register_signal(signal: HostSignal, handler: Arc<dyn Fn() + Send + Sync>) -> Result<(), Errno> {
    super::io()?;
    HANDLERS.lock()[signal.number() as usize] = Some(handler);
    install(signal)
}

/// Like [`register_signal`] for the way out: keeps a handler that is there, and a signal that the starter ignores (`nohup`).
pub(crate) fn set_default_signal(signal: HostSignal, handler: Handler) -> Result<(), Errno> {
    let mut handlers = HANDLERS.lock();
    let slot = &mut handlers[signal.number() as usize];
    if slot.is_some() || is_ignored(signal) {
        return Ok(());
    }
    *slot = Some(handler);
    drop(handlers);
    install(signal)
}

fn is_ignored(signal: HostSignal) -> bool {
    // SAFETY: zero is a valid sigaction; only the old action is asked for.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal.number(), std::ptr::null(), &mut old) == 0 && old.sa_sigaction == libc::SIG_IGN
    }
}

fn install(signal: HostSignal) -> Result<(), Errno> {
    // SAFETY: `caught` is async-signal-safe; it runs on the alternate stack where there is one, as kernel stacks are small.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = caught as *const () as usize;
        action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
        check(libc::sigaction(signal.number(), &action, std::ptr::null_mut()))?;
    }
    Ok(())
}

/// From a fatal signal's handler: lets the I/O thread tell the panic. False if it cannot.
pub(crate) fn hand_over_panic() -> bool {
    let fd = WAKE_FD.load(Ordering::SeqCst);
    if fd < 0 || super::on_io_thread() {
        return false;
    }
    PANIC.store(true, Ordering::SeqCst);
    write_eventfd(fd);
    true
}

/// On the I/O thread.
pub(super) fn dispatch() {
    if PANIC.swap(false, Ordering::SeqCst) {
        crate::exit::tell_fatal();
    }
    let pending = PENDING.swap(0, Ordering::SeqCst);
    for signal in HostSignal::ALL {
        if pending >> signal.number() & 1 == 0 {
            continue;
        }
        let handler = HANDLERS.lock()[signal.number() as usize].clone();
        if let Some(handler) = handler {
            handler();
        }
    }
}
