//! The I/O thread: our interrupt controller. It waits (epoll) for host file descriptors, timers and host signals and calls their
//! handlers, which may not sleep.
//!
//! It is one host thread, started at first use, not bound to a host CPU. `signal.rs` turns host signals into events; timers are in
//! [`crate::time`], this thread's timerfd drives them.

mod signal;

use crate::errno::Errno;
use crate::host::sys::{check, owned, retry, retry_owned};
use crate::sync::raw::RawLock;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

pub use signal::{HostSignal, register_signal};
pub(crate) use signal::{hand_over_panic, set_default_signal};

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
/// happens inside a handler itself. Therefore: do not drop it while holding a lock that the handler takes.
pub struct Source {
    entry: Arc<Entry>,
}

struct Entry {
    id: u64,
    fd: OwnedFd,
    handler: Arc<dyn EventHandler>,
    /// Bits of `Interest`.
    interest: AtomicU32,
    /// Whether the descriptor is in the epoll set. Also orders the calls that change it.
    polled: RawLock<bool>,
    /// Epoll refuses it: always ready.
    always: bool,
    gone: AtomicBool,
    /// Held while the handler runs.
    calling: RawLock<()>,
}

/// Tokens of the I/O thread's own descriptors; sources count from 2.
const WAKE: u64 = 0;
const TIMER: u64 = 1;

struct Io {
    epoll: OwnedFd,
    wake: OwnedFd,
    timer: OwnedFd,
    sources: RawLock<Sources>,
    /// Sources that are always ready and wanted.
    always: AtomicUsize,
}

struct Sources {
    next_id: u64,
    by_id: HashMap<u64, Arc<Entry>>,
}

static IO: OnceLock<Io> = OnceLock::new();
static STARTING: Mutex<()> = Mutex::new(());

thread_local! {
    static IS_IO_THREAD: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// The I/O thread, started if it is not there yet.
fn io() -> Result<&'static Io, Errno> {
    if let Some(io) = IO.get() {
        return Ok(io);
    }
    let _starting = STARTING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(io) = IO.get() {
        return Ok(io);
    }
    // SAFETY: plain numbers; the results are checked and owned.
    let io = unsafe {
        Io {
            epoll: owned(libc::epoll_create1(libc::EPOLL_CLOEXEC))?,
            wake: owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?,
            timer: owned(libc::timerfd_create(
                libc::CLOCK_MONOTONIC,
                libc::TFD_CLOEXEC | libc::TFD_NONBLOCK,
            ))?,
            sources: RawLock::new(Sources {
                next_id: 2,
                by_id: HashMap::new(),
            }),
            always: AtomicUsize::new(0),
        }
    };
    io.control(libc::EPOLL_CTL_ADD, io.wake.as_raw_fd(), libc::EPOLLIN as u32, WAKE)?;
    io.control(libc::EPOLL_CTL_ADD, io.timer.as_raw_fd(), libc::EPOLLIN as u32, TIMER)?;
    signal::set_wake_fd(io.wake.as_raw_fd());
    let io = IO.get_or_init(|| io);
    let thread = std::thread::Builder::new().name("io".into()).stack_size(256 << 10);
    thread.spawn(move || io.run()).map_err(|_| Errno::EAGAIN)?;
    Ok(io)
}

/// Starts the I/O thread; without it nothing works.
pub(crate) fn start() {
    if let Err(errno) = io() {
        crate::exit::kernel_panic(&format!("cannot start the I/O thread: {errno}"));
    }
}

pub(crate) fn on_io_thread() -> bool {
    IS_IO_THREAD.get()
}

/// Makes the timerfd fire at `ns` of the monotonic clock (`u64::MAX`: never).
pub(crate) fn program_timer(ns: u64) {
    start();
    let Some(io) = IO.get() else { return };
    let value = match ns {
        u64::MAX => libc::timespec { tv_sec: 0, tv_nsec: 0 },
        // Zero would disarm.
        ns => libc::timespec {
            tv_sec: (ns / 1_000_000_000) as i64,
            tv_nsec: (ns % 1_000_000_000).max(1) as i64,
        },
    };
    let spec = libc::itimerspec {
        it_interval: libc::timespec { tv_sec: 0, tv_nsec: 0 },
        it_value: value,
    };
    // SAFETY: `spec` is valid; the old value is not asked for.
    unsafe {
        libc::timerfd_settime(
            io.timer.as_raw_fd(),
            libc::TFD_TIMER_ABSTIME,
            &spec,
            std::ptr::null_mut(),
        )
    };
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
    let io = io()?;
    // SAFETY: the descriptor is borrowed, so open.
    let fd = retry_owned(|| unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) })?;
    let id = {
        let mut sources = io.sources.lock();
        sources.next_id += 1;
        sources.next_id
    };
    // Nothing is asked for yet: the handler must not run before the table knows it.
    let always = match io.control(libc::EPOLL_CTL_ADD, fd.as_raw_fd(), libc::EPOLLONESHOT as u32, id) {
        Ok(()) => false,
        Err(Errno::EPERM) => true,
        Err(errno) => return Err(errno),
    };
    if !always {
        io.control(libc::EPOLL_CTL_DEL, fd.as_raw_fd(), 0, id)?;
    }
    let entry = Arc::new(Entry {
        id,
        fd,
        handler,
        interest: AtomicU32::new(0),
        polled: RawLock::new(false),
        always,
        gone: AtomicBool::new(false),
        calling: RawLock::new(()),
    });
    io.sources.lock().by_id.insert(id, entry.clone());
    let source = Source { entry };
    source.change(io, interest)?;
    Ok(source)
}

impl Source {
    /// Changes what is waited for. Empty: nothing, not even hang-up. Callable anywhere, also in the handler.
    pub fn set_interest(&self, interest: Interest) {
        if let Some(io) = IO.get()
            && let Err(errno) = self.change(io, interest)
        {
            crate::pr_err!("event: cannot watch a descriptor: {errno}");
        }
    }

    /// What is waited for.
    pub fn interest(&self) -> Interest {
        Interest::from_bits_truncate(self.entry.interest.load(Ordering::Relaxed))
    }

    fn change(&self, io: &Io, interest: Interest) -> Result<(), Errno> {
        let entry = &self.entry;
        let mut polled = entry.polled.lock();
        let before = entry.interest.swap(interest.bits(), Ordering::SeqCst);
        if before == interest.bits() {
            return Ok(());
        }
        if entry.always {
            match (before == 0, interest.is_empty()) {
                (true, false) => {
                    io.always.fetch_add(1, Ordering::SeqCst);
                    io.wake();
                }
                (false, true) => {
                    io.always.fetch_sub(1, Ordering::SeqCst);
                }
                _ => {}
            }
            return Ok(());
        }
        let op = match (*polled, interest.is_empty()) {
            (false, true) => return Ok(()),
            (false, false) => libc::EPOLL_CTL_ADD,
            (true, false) => libc::EPOLL_CTL_MOD,
            // Hang-up would be reported even for an empty mask.
            (true, true) => libc::EPOLL_CTL_DEL,
        };
        let mut events = 0;
        if interest.contains(Interest::READ) {
            events |= libc::EPOLLIN;
        }
        if interest.contains(Interest::WRITE) {
            events |= libc::EPOLLOUT;
        }
        io.control(op, entry.fd.as_raw_fd(), events as u32, entry.id)?;
        *polled = !interest.is_empty();
        Ok(())
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        let Some(io) = IO.get() else { return };
        self.entry.gone.store(true, Ordering::SeqCst);
        // The descriptor is open, so the removal cannot fail.
        let _removed = self.change(io, Interest::empty());
        io.sources.lock().by_id.remove(&self.entry.id);
        if !on_io_thread() {
            drop(self.entry.calling.lock());
        }
    }
}

impl Io {
    fn control(&self, op: i32, fd: i32, events: u32, token: u64) -> Result<(), Errno> {
        let mut event = libc::epoll_event { events, u64: token };
        // SAFETY: both descriptors are open, `event` is valid.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), op, fd, &mut event) })?;
        Ok(())
    }

    fn wake(&self) {
        signal::write_eventfd(self.wake.as_raw_fd());
    }

    fn run(&self) {
        IS_IO_THREAD.set(true);
        crate::cpu::unpin();
        crate::exit::prepare_host_thread();
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        loop {
            let timeout = if self.always.load(Ordering::SeqCst) > 0 { 0 } else { -1 };
            // SAFETY: the buffer has the length given.
            let n = retry(|| unsafe {
                libc::epoll_wait(
                    self.epoll.as_raw_fd(),
                    events.as_mut_ptr(),
                    events.len() as i32,
                    timeout,
                )
            });
            for event in &events[..n.unwrap_or(0) as usize] {
                match event.u64 {
                    WAKE => {
                        drain(&self.wake);
                        signal::dispatch();
                    }
                    TIMER => {
                        drain(&self.timer);
                        crate::time::run_expired();
                    }
                    id => self.call(id, event.events),
                }
            }
            if self.always.load(Ordering::SeqCst) > 0 {
                self.call_always_ready();
            }
        }
    }

    fn call(&self, id: u64, events: u32) {
        let entry = self.sources.lock().by_id.get(&id).cloned();
        if let Some(entry) = entry {
            let has = |flag: i32| events & flag as u32 != 0;
            let mut ready = Ready::empty();
            // Who reads must come to see the end of file, also when only hang-up is reported.
            ready.set(Ready::READ, has(libc::EPOLLIN | libc::EPOLLHUP | libc::EPOLLERR));
            ready.set(Ready::WRITE, has(libc::EPOLLOUT | libc::EPOLLERR));
            ready.set(Ready::HANGUP, has(libc::EPOLLHUP));
            ready.set(Ready::ERROR, has(libc::EPOLLERR));
            entry.call(ready);
        }
    }

    fn call_always_ready(&self) {
        let wanted: Vec<_> = self
            .sources
            .lock()
            .by_id
            .values()
            .filter(|e| e.always)
            .cloned()
            .collect();
        for entry in wanted {
            entry.call(Ready::READ | Ready::WRITE);
        }
    }
}

impl Entry {
    fn call(&self, mut ready: Ready) {
        let _calling = self.calling.lock();
        let interest = self.interest.load(Ordering::SeqCst);
        if interest == 0 || self.gone.load(Ordering::SeqCst) {
            return;
        }
        ready &= Ready::from_bits_truncate(interest) | Ready::HANGUP | Ready::ERROR;
        if !ready.is_empty() {
            self.handler.ready(ready);
        }
    }
}

/// Resets an eventfd or timerfd.
fn drain(fd: &OwnedFd) {
    let mut count = [0u8; 8];
    // SAFETY: the buffer is ours; nothing to read (EAGAIN) is fine.
    unsafe { libc::read(fd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source(fd {}, {:?})", self.entry.fd.as_raw_fd(), self.interest())
    }
}
