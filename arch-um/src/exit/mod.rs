//! Every way out of the process: exit, restart, kernel panic, fatal host signals, termination from outside.
//!
//! The first way out wins; other threads that come later stop for ever. Hooks run once, last registered first. A watchdog ends
//! the process if a hook or a console hangs (a lock may be held by a thread that died). `fatal.rs` catches faults of the kernel itself.

mod fatal;

use crate::event::{self, HostSignal};
use crate::host::sys::last_errno;
use crate::printk;
use crate::sync::raw::RawLock;
use std::ffi::CString;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Once};

pub(crate) use fatal::{prepare_host_thread, tell_fatal};

/// The status of the process when it is terminated from outside or cannot start.
const STATUS_TERMINATED: i32 = 1;
/// Seconds until the watchdog ends a hanging way out.
const PATIENCE: u32 = 5;

/// Gets the message of a kernel panic.
pub type PanicHook = Box<dyn FnOnce(&str) + Send>;

static HOOKS: RawLock<Vec<Box<dyn FnOnce() + Send>>> = RawLock::new(Vec::new());
static PANIC_HOOKS: RawLock<Vec<PanicHook>> = RawLock::new(Vec::new());
/// Host thread id of whoever is on the way out; 0: nobody.
static LEAVING: AtomicI32 = AtomicI32::new(0);
/// Exit status for the watchdog; negative: abort.
static LAST_STATUS: AtomicI32 = AtomicI32::new(-1);
static HOOKS_RUNNING: AtomicBool = AtomicBool::new(false);

/// Runs `f` on every way out, once, last registered first (restore terminals, remove the umid directory). It may not sleep in the
/// kernel's sense and must cope with locks held by threads that stopped.
pub fn at_exit(f: Box<dyn FnOnce() + Send>) {
    install();
    HOOKS.lock().push(f);
}

/// Runs `f` with the message of a kernel panic, after it has been printed and before the hooks of [`at_exit`] (the management console
/// notifies its listeners). Same rules as there.
pub fn at_panic(f: PanicHook) {
    PANIC_HOOKS.lock().push(f);
}

/// Catches what ends the process: Rust panics, fatal host signals, and SIGTERM, SIGINT, SIGHUP, SIGQUIT (unless ignored).
/// `cpu::run` and `at_exit` call it.
pub fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        fatal::install();
        std::panic::set_hook(Box::new(|info| {
            let text = info.payload_as_str().unwrap_or("?");
            let place = info
                .location()
                .map_or_else(|| "?".into(), |l| format!("{}:{}", l.file(), l.line()));
            panic_at(text, Some(&place));
        }));
        let defaults: [(HostSignal, Arc<dyn Fn() + Send + Sync>); 4] = [
            (HostSignal::Term, Arc::new(|| exit(STATUS_TERMINATED))),
            (HostSignal::Int, Arc::new(|| exit(STATUS_TERMINATED))),
            (HostSignal::Hup, Arc::new(|| die_by(libc::SIGHUP))),
            (HostSignal::Quit, Arc::new(|| die_by(libc::SIGQUIT))),
        ];
        event::start();
        for (signal, handler) in defaults {
            // The numbers are valid: the host cannot refuse.
            let _installed = event::set_default_signal(signal, handler);
        }
    });
}

/// Is the process on its way out?
pub fn in_progress() -> bool {
    LEAVING.load(Ordering::SeqCst) != 0
}

/// Ends the process with `status` (low 8 bits), after the hooks.
pub fn exit(status: i32) -> ! {
    begin(status & 0xff);
    printk::flush();
    run_hooks();
    // SAFETY: ends the process.
    unsafe { libc::_exit(status & 0xff) }
}

/// Runs the hooks and executes the program anew with `argv` (guest reboot). `argv[0]` is looked up in `PATH` if it has no slash.
/// If that fails the process ends with status 1.
pub fn restart(argv: &[CString]) -> ! {
    begin(STATUS_TERMINATED);
    printk::flush();
    run_hooks();
    crate::cpu::unpin();
    let mut pointers: Vec<*const libc::c_char> = argv.iter().map(|arg| arg.as_ptr()).collect();
    pointers.push(ptr::null());
    if argv.is_empty() {
        eprintln!("restart: no program name");
    } else {
        // SAFETY: a null-terminated array of C strings that live until the end; the alarm must not outlive the exec.
        unsafe {
            libc::alarm(0);
            libc::execvp(pointers[0], pointers.as_ptr());
        }
        eprintln!("restart: cannot execute {:?}: {}", argv[0], last_errno());
    }
    // SAFETY: ends the process.
    unsafe { libc::_exit(STATUS_TERMINATED) }
}

/// `Kernel panic - not syncing: <msg>`: prints it, runs the hooks, and dies by SIGABRT (status 134 in a shell), as UML does. Without any
/// console the whole log goes to standard output, headed `kmsg_dump:`.
pub fn kernel_panic(msg: &str) -> ! {
    panic_at(msg, None)
}

fn panic_at(msg: &str, place: Option<&str>) -> ! {
    begin(-1);
    if let Some(place) = place {
        crate::pr_emerg!("kernel BUG at {place}!");
        if std::env::var_os("RUST_BACKTRACE").is_some_and(|v| v != "0") {
            // One record a line: a record of the log is cut at a thousand bytes.
            let trace = std::backtrace::Backtrace::force_capture().to_string();
            for line in trace.lines().filter(|line| !line.contains("/rustc/")) {
                crate::pr_emerg!("{line}");
            }
        }
    }
    crate::pr_emerg!("Kernel panic - not syncing: {msg}");
    printk::flush();
    while let Some(hook) = PANIC_HOOKS.lock_bounded().and_then(|mut hooks| hooks.pop()) {
        hook(msg);
    }
    if !printk::has_consoles() {
        printk::dump_to_stdout();
    }
    fatal::told();
    run_hooks();
    terminate_group();
    abort()
}

/// Runs the hooks and dies by `signal`, as if it had not been caught.
fn die_by(signal: i32) -> ! {
    begin(128 + signal);
    printk::flush();
    run_hooks();
    // SAFETY: resets one signal of ours and sends it to this host thread.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        libc::raise(signal);
        // It has come by now unless it is blocked.
        libc::_exit(128 + signal)
    }
}

/// The first caller goes on; a hook or console that comes here again ends the process; everybody else stops.
fn begin(status: i32) {
    // SAFETY: no arguments.
    let me = unsafe { libc::gettid() };
    match LEAVING.compare_exchange(0, me, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => {
            LAST_STATUS.store(status, Ordering::SeqCst);
            fatal::start_watchdog(PATIENCE);
        }
        Err(leaving) if leaving == me => fatal::give_up(),
        Err(_) => loop {
            // SAFETY: sleeps until a signal.
            unsafe { libc::pause() };
        },
    }
}

fn run_hooks() {
    if HOOKS_RUNNING.swap(true, Ordering::SeqCst) {
        return;
    }
    // One at a time, so that a hook that never comes back loses only itself (and the watchdog ends that).
    while let Some(hook) = HOOKS.lock_bounded().and_then(|mut hooks| hooks.pop()) {
        hook();
    }
}

/// Helpers that we started (terminal emulators and the like) go with us, as UML's do: SIGTERM to the process group, and SIGCONT for
/// those that are stopped. Only where the group is ours alone: we lead its session.
fn terminate_group() {
    // SAFETY: plain calls; our own SIGTERM is ignored first.
    unsafe {
        if libc::getsid(0) == libc::getpid() {
            libc::signal(libc::SIGTERM, libc::SIG_IGN);
            libc::kill(0, libc::SIGTERM);
            libc::kill(0, libc::SIGCONT);
        }
    }
}

fn abort() -> ! {
    // SAFETY: `abort` unblocks the signal and ends the process even if a handler returns; ours is the default.
    unsafe {
        libc::signal(libc::SIGABRT, libc::SIG_DFL);
        libc::abort()
    }
}
