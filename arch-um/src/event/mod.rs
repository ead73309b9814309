//! The I/O thread: our interrupt controller. It waits (epoll) for host file descriptors, timers and host signals and calls their
//! handlers, which may not sleep.

use crate::errno::Errno;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

bitflags::bitflags! {
    /// What a source wants to hear about. Hang-up and error always come with either.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Interest: u32 {
        /// Data can be read, or the other side has closed.
        const READ = 1;
        /// Data can be written.
        const WRITE = 2;
    }

    /// What is the case.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct Ready: u32 {
        /// Reading will not block.
        const READ = 1;
        /// Writing will not block.
        const WRITE = 2;
        /// The other side is gone.
        const HANGUP = 4;
        /// An error is pending.
        const ERROR = 8;
    }
}

/// Handles a file descriptor's readiness.
pub trait EventHandler: Send + Sync {
    /// Runs on the I/O thread, may not sleep (no `Mutex`, no long host call). Level-triggered: called again and again until the cause is
    /// gone or [`Source::set_interest`] says that nobody cares.
    fn ready(&self, ready: Ready);
}

/// A registered file descriptor. Dropping it deregisters: after that the handler is not called and not running, except when the drop
/// happens inside the handler itself. Therefore: do not drop it while holding a lock that the handler takes.
pub struct Source {
    _private: (),
}

/// Watches `fd`, through a duplicate of its own: the caller may close his (but the open file lives until the `Source` is dropped, so a
/// peer sees no hang-up before that).
///
/// What epoll refuses (regular files, `/dev/null`) is always ready: the handler is called whenever interest is set, so clear the
/// interest at end of file.
///
/// # Errors
/// The host's: `EMFILE`, `ENOSPC` (`fs.epoll.max_user_watches`).
pub fn register(fd: BorrowedFd<'_>, interest: Interest, handler: Arc<dyn EventHandler>) -> Result<Source, Errno> {
    let _ = (fd, interest, handler);
    Ok(Source { _private: () })
}

impl Source {
    /// Changes what is waited for. Empty: nothing, not even hang-up. Callable anywhere, also in the handler.
    pub fn set_interest(&self, interest: Interest) {
        let _ = interest;
    }
}

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
    /// User-defined.
    Usr1,
    /// User-defined.
    Usr2,
}

/// Calls `handler` on the I/O thread each time the process gets `signal` (several may merge). Replaces the handler before it, and the
/// default of [`crate::exit`] for `Int`, `Term`, `Hup`, `Quit`. `SIGCHLD` belongs to `skas`.
///
/// # Errors
/// The host's, when the I/O thread cannot be started.
pub fn register_signal(signal: HostSignal, handler: Arc<dyn Fn() + Send + Sync>) -> Result<(), Errno> {
    let _ = (signal, handler);
    Ok(())
}
